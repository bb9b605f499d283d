package seal

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"

	"github.com/prooftrail/prooftrail/verifier/event"
)

// signedOpening is an opening of an event that its source has signed.
func signedOpening(t testing.TB) *Opening {
	t.Helper()
	s, _ := sourceKey(t, 'a')
	f := signed(t, full, s)
	c, err := Commit(f, seedSalts("seed").chosen(f))
	if err != nil {
		t.Fatal(err)
	}
	return opened(t, c.At(sealedAt).Opening)
}

func TestSourceSignature(t *testing.T) {
	o := signedOpening(t)
	_, v := sourceKey(t, 'a')
	if err := CheckSource(o, v); err != nil {
		t.Fatal(err)
	}
	_, other := sourceKey(t, 'b')
	if err := CheckSource(o, other); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("another key: %v", err)
	}
	for i := range o.Fields {
		less, err := o.Withhold(o.Fields[i].Pointer)
		if err != nil {
			t.Fatal(err)
		}
		want := error(nil)
		if o.Fields[i].Pointer == "/ingest/signature" {
			want = ErrNoSignature
		}
		if err := CheckSource(less, v); !errors.Is(err, want) {
			t.Errorf("%s withheld: %v, want %v", o.Fields[i].Pointer, err, want)
		}
	}
}

// TestSourceSignatureForged changes what was signed, field by field, and the
// signature, character by character.
func TestSourceSignatureForged(t *testing.T) {
	_, v := sourceKey(t, 'a')
	n := len(signedOpening(t).Fields)
	for i := range n {
		o := signedOpening(t)
		f := &o.Fields[i]
		f.Salt = []byte("AAAAAAAAAAAAAAAAAAAAAA")
		if got, want := CheckSource(o, v), event.IsServer(f.Pointer); (got == nil) != want {
			t.Errorf("%s changed: %v", f.Pointer, got)
		}
	}
	o := signedOpening(t)
	i := 0
	for o.Fields[i].Pointer != "/ingest/signature" {
		i++
	}
	good := o.Fields[i].Value
	for at := 1; at < len(good)-1; at++ {
		for _, c := range []byte("A=/ \n\\") {
			bad := append([]byte(nil), good...)
			bad[at] = c
			o.Fields[i].Value = bad
			if CheckSource(o, v) == nil && c != good[at] {
				t.Fatalf("signature %s is right", bad)
			}
		}
	}
}

func TestSourceRootNeedsSalts(t *testing.T) {
	f := whole(t, minimal)
	salts := seedSalts("seed").chosen(f)
	n, root, err := SourceRoot(f, salts)
	if err != nil || n != len(f.Submitted()) {
		t.Errorf("source root over %d fields: %v", n, err)
	}
	if m, again, err := SourceRoot(f.Submitted(), salts); err != nil || m != n || again != root {
		t.Errorf("source root of the submitted fields differs: %v", err)
	}
	delete(salts, "/id")
	if _, _, err := SourceRoot(f, salts); err == nil {
		t.Error("source root without a salt")
	}
}

func TestIdentityHash(t *testing.T) {
	secret := []byte("secret")
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte("\x00\x00\x00\x0fprooftrail.id/1\x00\x00\x00\x01t\x00\x00\x00\x02s:\x00\x00\x01\x2c" + strings.Repeat("i", 300)))
	if got := IdentityHash(secret, "t", "s:", strings.Repeat("i", 300)); got != Hash(mac.Sum(nil)) {
		t.Errorf("identity hash %x", got)
	}
	seen := map[Hash]string{}
	for _, parts := range [][4]string{{"secret", "a", "b", "c"}, {"secret", "ab", "", "c"}, {"secret", "a", "bc", ""}, {"other", "a", "b", "c"}, {"secret", "", "ab", "c"}} {
		h := IdentityHash([]byte(parts[0]), parts[1], parts[2], parts[3])
		if seen[h] != "" {
			t.Errorf("%v has the hash of %s", parts, seen[h])
		}
		seen[h] = strings.Join(parts[:], "|")
	}
}
