package verifier

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	cosig "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
)

func TestLeafHash(t *testing.T) {
	for n := range 600 { // across the buffer on the stack
		leaf := bytes.Repeat([]byte{7}, n)
		if got, want := LeafHash(leaf), sha256.Sum256(append([]byte{0}, leaf...)); got != want {
			t.Fatalf("leaf of %d bytes: %x, expected %x", n, got, want)
		}
	}
}

func TestCheckpoint(t *testing.T) {
	root := b64.EncodeToString(bytes.Repeat([]byte{0xff}, 32))
	good := "example.com/audit\n42\n" + root + "\n"
	c, err := ParseCheckpoint(good)
	if err != nil || c.Origin != testOrigin || c.Size != 42 || c.Text() != good {
		t.Fatalf("%+v, %v", c, err)
	}
	for _, bad := range []string{
		"", "\n", "a\n", good[1:][strings.Index(good, "\n"):], "\n42\n" + root + "\n",
		"a\n042\n" + root + "\n", "a\n+42\n" + root + "\n", "a\n-1\n" + root + "\n", "a\n4 2\n" + root + "\n",
		"a\n0x2\n" + root + "\n", "a\n\n" + root + "\n", "a\n9223372036854775808\n" + root + "\n",
		"a\n0\n" + root + "\n", "a\n00\n" + root + "\n",
		"a\n1\n" + root, "a\n1\n" + root + "\n\n", good + "extension\n", good + "\n", "\n" + good,
		"a\n1\n" + root[:43] + "\n", "a\n1\n" + root[:42] + "9=\n", "a\n1\n" + strings.Replace(root, "/", "_", 1) + "\n",
		"a\n1\n" + root[:40] + "\n", "a\r\n1\n" + root + "\n", "a\n1\r\n" + root + "\n", "a\x00\n1\n" + root + "\n",
		"\xff\n1\n" + root + "\n", "a\n1\n" + root[:20] + "\n" + root[20:] + "\n",
	} {
		if _, err := ParseCheckpoint(bad); err == nil {
			t.Errorf("took %q", bad)
		}
	}
	signer, _ := testKey(t, "other")
	if _, err := SignCheckpoint(c, signer); err == nil {
		t.Error("signed with the key of another origin")
	}
	if _, err := SignCheckpoint(Checkpoint{Origin: "other", Size: 0, Root: Hash{1}}, signer); err == nil {
		t.Error("signed an impossible checkpoint")
	}
}

// cosigned is a checkpoint with signatures of several keys.
func cosigned(t *testing.T, c Checkpoint, signers ...note.Signer) []byte {
	t.Helper()
	msg, err := note.Sign(&note.Note{Text: c.Text()}, signers...)
	if err != nil {
		t.Fatal(err)
	}
	return msg
}

// verifyKeys are the keys of the policy that notes are verified with.
type verifyKeys struct {
	log, other, w1, w2, w3, pq note.Signer
	policy                     string // without its quorum line
}

func newVerifyKeys(t *testing.T) (k verifyKeys) {
	t.Helper()
	log, logKey := testKey(t, testOrigin)
	k.log = log
	k.other, _ = testKey(t, "example.com/other")
	var w1Key, w2Key, w3Key string
	k.w1, w1Key = testWitness(t, "witness.example/w1")
	k.w2, w2Key = testWitness(t, "witness.example/w2")
	k.w3, w3Key = testWitness(t, "witness.example/w3")
	mlSkey, mlKey, err := cosig.GenerateMLDSAKey("witness.example/pq")
	if err != nil {
		t.Fatal(err)
	}
	if k.pq, err = cosig.NewSignerForCosignatureV1(mlSkey); err != nil {
		t.Fatal(err)
	}
	k.policy = fmt.Sprintf("log %s https://example.com/logs/audit\nwitness w1 %s https://w1.example/\nwitness w2 %s\nwitness w3 %s\nwitness pq %s\n"+
		"group both all w1 w2\ngroup g 1 both w3 pq\n", logKey, w1Key, w2Key, w3Key, mlKey)
	return k
}

func TestPolicyVerify(t *testing.T) {
	k := newVerifyKeys(t)
	log, other, w1, w2, w3, pq, policy := k.log, k.other, k.w1, k.w2, k.w3, k.pq, k.policy
	p := mustPolicy(t, policy+"quorum g\n")
	if p.LogURL() != "https://example.com/logs/audit" || p.Origin() != testOrigin || len(p.Witnesses()) != 4 || !p.RequiresWitnesses() {
		t.Errorf("policy %+v", p.Witnesses())
	}
	c := Checkpoint{testOrigin, 42, Hash{1}}
	before := time.Now().Truncate(time.Second)
	for _, tt := range []struct {
		signers []note.Signer
		want    WitnessStatus
		n       int
	}{
		{[]note.Signer{log}, Provisional, 0},
		{[]note.Signer{log, other}, Provisional, 0},
		{[]note.Signer{log, w1}, Provisional, 1},
		{[]note.Signer{w2, log}, Provisional, 1},
		{[]note.Signer{log, w1, w2}, Quorum, 2},
		{[]note.Signer{log, w3}, Quorum, 1},
		{[]note.Signer{log, pq}, Quorum, 1},
		{[]note.Signer{pq, w1, w2, w3, other, log}, Quorum, 4},
	} {
		msg := cosigned(t, c, tt.signers...)
		got, w, err := p.Verify(msg)
		if err != nil || got != c || w.Status != tt.want || len(w.Cosigned) != tt.n {
			t.Fatalf("%d signers: %+v, %v", len(tt.signers), w, err)
		}
		for _, cs := range w.Cosigned {
			if cs.Time.Before(before) || cs.Time.After(time.Now()) || cs.Time.Location() != time.UTC {
				t.Errorf("time %v", cs.Time)
			}
		}
		flipNoteBits(t, p, msg, tt.want)
	}
	none := mustPolicy(t, policy+"quorum none\n")
	if _, w, err := none.Verify(cosigned(t, c, log)); err != nil || w.Status != Quorum || none.RequiresWitnesses() {
		t.Errorf("quorum none: %+v, %v", w, err)
	}
}

func TestPolicyVerifyRefusals(t *testing.T) {
	k := newVerifyKeys(t)
	log, other, w1 := k.log, k.other, k.w1
	p := mustPolicy(t, k.policy+"quorum g\n")
	c := Checkpoint{testOrigin, 42, Hash{1}}
	once := string(cosigned(t, c, log, w1))
	lines := strings.SplitAfter(once, "\n")
	for name, msg := range map[string]string{
		"not signed":            string(cosigned(t, c, other)),
		"witness alone":         string(cosigned(t, c, w1)),
		"other origin":          string(cosigned(t, Checkpoint{"example.com/b", 42, Hash{1}}, log)),
		"signed twice":          once + lines[4],
		"cosigned twice":        once + lines[5],
		"extension":             string(signText(t, log, c.Text()+"extension\n")),
		"not a checkpoint":      string(signText(t, log, "hello\n")),
		"no newline at the end": strings.TrimSuffix(once, "\n"),
		"empty line at the end": once + "\n",
		"carriage return":       strings.ReplaceAll(once, "\n", "\r\n"),
		"tab":                   strings.Replace(once, "\n42\n", "\n\t42\n", 1),
		"no signatures":         c.Text() + "\n",
		"empty":                 "",
		"not UTF-8":             once + "— \xff AAAAAAAAAA==\n",
		"hyphen":                once + "- b AAAAAAAAAA==\n",
		"no key name":           once + "—  AAAAAAAAAA==\n",
		"plus in a name":        once + "— a+b AAAAAAAAAA==\n",
		"short signature":       once + "— b AAAAAA==\n",
		"stray bits":            once + "— b AAAAAAB=\n",
		"bad base64":            once + "— b AAAA*AAA\n",
		"three items":           once + "— b AAAAAAAA AAAA\n",
		"too many signatures":   once + strings.Repeat("— b AAAAAAAA\n", MaxSignatures),
		"too large":             once + "— b " + strings.Repeat("A", MaxNoteBytes) + "\n",
		"timestamp past 2^63":   cosignedAt(t, c, log, w1, 1<<63),
	} {
		if _, _, err := p.Verify([]byte(msg)); !errors.Is(err, ErrFailed) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if _, _, err := p.Verify([]byte(once + strings.Repeat("— b AAAAAAAA\n", 14))); err != nil {
		t.Errorf("16 signatures: %v", err)
	}
}

func signText(t *testing.T, s note.Signer, text string) []byte {
	t.Helper()
	msg, err := note.Sign(&note.Note{Text: text}, s)
	if err != nil {
		t.Fatal(err)
	}
	return msg
}

// cosignedAt writes a time into a cosignature; which is then wrong, but the time has to be
// looked at first.
func cosignedAt(t *testing.T, c Checkpoint, log, w note.Signer, at uint64) string {
	t.Helper()
	sig := binary.BigEndian.AppendUint32(nil, w.KeyHash())
	sig = append(binary.BigEndian.AppendUint64(sig, at), make([]byte, 64)...)
	return string(cosigned(t, c, log)) + "— " + w.Name() + " " + b64.EncodeToString(sig) + "\n"
}

// flipNoteBits changes one bit of each byte. Nothing that comes out may be taken for
// another checkpoint, nor be worth more than the original.
func flipNoteBits(t *testing.T, p *Policy, msg []byte, status WitnessStatus) {
	t.Helper()
	c, _, err := p.Verify(msg)
	if err != nil {
		t.Fatal(err)
	}
	for i := range msg {
		for _, bit := range []byte{1, 0x20} {
			if len(msg) > 1000 && i%53 != 0 { // ML-DSA is slow
				continue
			}
			msg[i] ^= bit
			got, w, err := p.Verify(msg)
			if err == nil && (got != c || w.Status == Quorum && status != Quorum) {
				t.Fatalf("byte %d: %+v %+v", i, got, w)
			}
			if err != nil && !errors.Is(err, ErrFailed) {
				t.Fatalf("byte %d: error %v", i, err)
			}
			msg[i] ^= bit
		}
	}
}

// policyKeys are vkeys for policies, and the lines that most of them begin with.
type policyKeys struct{ log, log2, w1, w2, renamed, start string }

func newPolicyKeys(t *testing.T) (k policyKeys) {
	t.Helper()
	_, k.log = testKey(t, testOrigin)
	_, k.log2 = testKey(t, "example.com/log/2")
	_, k.w1 = testWitness(t, "w1")
	_, k.w2 = testWitness(t, "w2")
	_, k.renamed = renamedKey(k.w1, "renamed")
	k.start = "log " + k.log + "\nwitness w1 " + k.w1 + "\nwitness w2 " + k.w2 + "\n"
	return k
}

func TestPolicyAccepted(t *testing.T) {
	k := newPolicyKeys(t)
	log, w1, w2, start := k.log, k.w1, k.w2, k.start
	for name, text := range map[string]string{
		"none":               "log " + log + "\nquorum none\n",
		"quorum first":       "quorum none\nlog " + log + "\n",
		"white space":        " \t log\t " + log + " \t\n\n   \n\t# comment\n#\nquorum \t none  \n",
		"witness as quorum":  start + "quorum w1\n",
		"any":                start + "group g any w1 w2\nquorum g\n",
		"k":                  start + "group g 2 w1 w2\nquorum g\n",
		"quorum of a member": start + "group g 2 w1 w2\nquorum w1\n",
		"names":              "log " + log + "\nwitness all " + w1 + "\nwitness \xff\xe2\x84\xaa " + w2 + "\ngroup quorum all all \xff\xe2\x84\xaa\nquorum quorum\n",
		"unused":             start + "quorum none\n",
		"octets":             "# \x80\xff\nlog " + log + " https://b\xfccher.example/\nquorum none\n",
	} {
		if _, err := ParsePolicy([]byte(text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPolicyRefusals(t *testing.T) {
	k := newPolicyKeys(t)
	log, log2, w1, renamed, start := k.log, k.log2, k.w1, k.renamed, k.start
	for name, text := range map[string]string{
		"empty":                     "",
		"no log":                    "quorum none\n",
		"no quorum":                 "log " + log + "\n",
		"two logs":                  "log " + log + "\nlog " + log2 + "\nquorum none\n",
		"log twice":                 "log " + log + "\nlog " + log + "\nquorum none\n",
		"two quorums":               "log " + log + "\nquorum none\nquorum none\n",
		"cut short":                 "log " + log + "\nquorum none",
		"carriage return":           "log " + log + "\r\nquorum none\r\n",
		"NUL":                       "log " + log + "\nquorum none\n#\x00\n",
		"DEL":                       "log " + log + "\nquorum none\n#\x7f\n",
		"vertical tab":              "log " + log + "\nquorum\vnone\n",
		"trailing comment":          "log " + log + "\nquorum none # really\n",
		"keyword":                   "Log " + log + "\nquorum none\n",
		"byte order mark":           "\xef\xbb\xbflog " + log + "\nquorum none\n",
		"witness key for a log":     "log " + w1 + "\nquorum none\n",
		"log key for a witness":     start + "witness w3 " + log2 + "\nquorum none\n",
		"witness without key":       start + "witness w3\nquorum none\n",
		"log with too much":         "log " + log + " https://a/ b\nquorum none\n",
		"witness with too much":     start + "witness w3 " + w1 + " https://a/ b\nquorum none\n",
		"name twice":                start + "witness w1 " + w1 + "\nquorum none\n",
		"key twice":                 start + "witness w3 " + w1 + "\nquorum none\n",
		"key twice, other name":     start + "witness w3 " + renamed + "\nquorum none\n",
		"witness called none":       "log " + log + "\nwitness none " + w1 + "\nquorum none\n",
		"group called none":         start + "group none any w1\nquorum none\n",
		"group called as a witness": start + "group w1 any w2\nquorum w1\n",
		"none as a member":          start + "group g any none\nquorum g\n",
	} {
		if _, err := ParsePolicy([]byte(text)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestPolicyQuorumRefusals(t *testing.T) {
	k := newPolicyKeys(t)
	log, w1, start := k.log, k.w1, k.start
	for name, text := range map[string]string{
		"undefined member":     start + "group g any w3\nquorum g\n",
		"member of itself":     start + "group g any g\nquorum g\n",
		"defined later":        "log " + log + "\ngroup g any w1\nwitness w1 " + w1 + "\nquorum g\n",
		"quorum defined later": "log " + log + "\nquorum w1\nwitness w1 " + w1 + "\n",
		"undefined quorum":     start + "quorum w3\n",
		"quorum of two":        start + "quorum w1 w2\n",
		"quorum of nothing":    start + "quorum\n",
		"member twice":         start + "group g any w1 w1\nquorum g\n",
		"member of two groups": start + "group g any w1\ngroup h any w1 w2\nquorum h\n",
		"no member":            start + "group g any\nquorum g\n",
		"k is 0":               start + "group g 0 w1\nquorum g\n",
		"k too large":          start + "group g 3 w1 w2\nquorum g\n",
		"k with a zero":        start + "group g 01 w1 w2\nquorum g\n",
		"k with a sign":        start + "group g +1 w1 w2\nquorum g\n",
		"k in words":           start + "group g ALL w1 w2\nquorum g\n",
		"k huge":               start + "group g 99999999999999999999 w1 w2\nquorum g\n",
		"key ID":               "log " + strings.Replace(log, "+", "+0", 1) + "\nquorum none\n",
		"other key ID":         "log " + otherKeyID(log) + "\nquorum none\n",
		"key ID in capitals":   "log " + upperKeyID(log) + "\nquorum none\n",
		"key cut short":        "log " + log[:len(log)-4] + "\nquorum none\n",
		"key of nothing":       "log a+00000000+\nquorum none\n",
		"no key at all":        "log a\nquorum none\n",
		"too large":            "log " + log + "\nquorum none\n#" + strings.Repeat("a", MaxPolicyBytes) + "\n",
	} {
		if _, err := ParsePolicy([]byte(text)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// TestPolicyLarge: "supports at least up to 32 logs, 32 witnesses, and 32 groups".
func TestPolicyLarge(t *testing.T) {
	_, log := testKey(t, testOrigin)
	var b strings.Builder
	fmt.Fprintf(&b, "log %s\n", log)
	for i := range 200 {
		public := bytes.Repeat([]byte{byte(i)}, 32)
		_, vkey := encodeKey(fmt.Sprintf("w%d", i), typeCosignature, nil, public)
		fmt.Fprintf(&b, "witness w%d %s\n", i, vkey)
		if i == 0 {
			fmt.Fprintf(&b, "group g0 any w0\n")
		} else {
			fmt.Fprintf(&b, "group g%d all g%d w%d\n", i, i-1, i)
		}
	}
	p := mustPolicy(t, b.String()+"quorum g199\n")
	all := map[int]bool{}
	for i := range 200 {
		if p.quorum.met(all) {
			t.Fatalf("met by %d of 200", i)
		}
		all[i] = true
	}
	if !p.quorum.met(all) {
		t.Error("not met by all")
	}
}

// renamedKey is the same public key under another name.
func renamedKey(vkey, name string) (skey, renamed string) {
	_, rest, _ := strings.Cut(vkey, "+")
	_, enc, _ := strings.Cut(rest, "+")
	raw, _ := b64.DecodeString(enc)
	return encodeKey(name, raw[0], nil, raw[1:])
}

func otherKeyID(vkey string) string {
	name, rest, _ := strings.Cut(vkey, "+")
	_, enc, _ := strings.Cut(rest, "+")
	return name + "+00000000+" + enc
}

func upperKeyID(vkey string) string {
	name, rest, _ := strings.Cut(vkey, "+")
	id, enc, _ := strings.Cut(rest, "+")
	return name + "+" + strings.ToUpper(id) + "+" + enc
}
