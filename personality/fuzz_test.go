package personality

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/prooftrail/prooftrail/personality/pubstore"
)

// FuzzAnchorSlot: a slot is what was written, byte for byte, or nothing. The checksum is made
// here, for nobody guesses a SHA-256.
func FuzzAnchorSlot(f *testing.F) {
	id := strings.Repeat("ab", 32)
	signed := anchorMagic + " " + id + " 1 " + strings.Repeat("00", 32)
	f.Add([]byte(signed), []byte(" \n"))
	f.Add([]byte(signed), []byte(strings.Repeat(" ", slotStride-len(signed)-1-64-1)+"\n"))
	f.Add([]byte(strings.Replace(signed, " 1 ", " 01 ", 1)), []byte(""))
	f.Add([]byte(strings.Replace(signed, "ab ", "cd ", 1)), []byte(""))
	f.Fuzz(func(t *testing.T, signed, padding []byte) {
		sum := sha256.Sum256(signed)
		slot := append(hex.AppendEncode(append(append([]byte(nil), signed...), ' '), sum[:]), padding...)
		h, err := parseAnchorSlot(slot, id)
		if err != nil {
			return
		}
		a := &fileAnchor{logID: id}
		if string(a.slot(h)) != string(slot) || h.Size >= 1<<63 {
			t.Errorf("%q was read as size %d, which is written otherwise", slot, h.Size)
		}
	})
}

// FuzzAuthenticate: the texts of the tokens that are valid, and no others, are theirs.
func FuzzAuthenticate(f *testing.F) {
	s := &Service{}
	s.tokens.byID, s.tokens.known = map[string]storedToken{}, map[string]bool{}
	owner := map[string]string{}
	for id, seed := range map[string]byte{"aaaaaaaaaaaa": 1, "bbbbbbbbbbbb": 2} {
		secret := base64.RawURLEncoding.EncodeToString([]byte(strings.Repeat(string(rune(seed)), secretLen)))
		hash := sha256.Sum256([]byte(secret))
		s.tokens.put(pubstore.Token{ID: id, Name: id, Tenant: "default", SecretHash: hash[:]})
		owner[tokenPrefix+id+"_"+secret] = id
		f.Add(tokenPrefix + id + "_" + secret)
		f.Add(tokenPrefix + "cccccccccccc_" + secret)
		f.Add(tokenPrefix + id + "_")
	}
	f.Add("pt_aaaaaaaaaaaa")
	f.Fuzz(func(t *testing.T, text string) {
		tok, err := s.Authenticate(t.Context(), text)
		if id, ok := owner[text]; ok != (err == nil) || ok && tok.ID != id {
			t.Errorf("%q: %+v, %v", text, tok, err)
		}
		if err != nil && (tok != nil || !errors.Is(err, ErrUnauthorized)) {
			t.Errorf("%q: %+v, %v", text, tok, err)
		}
	})
}

// FuzzLoadSigner: a key file is the log's own key, or is refused.
func FuzzLoadSigner(f *testing.F) {
	skey, vkey, err := note.GenerateKey(strings.NewReader(strings.Repeat("seed", 16)), testOrigin)
	if err != nil {
		f.Fatal(err)
	}
	k, err := deriveKeys(skey)
	if err != nil {
		f.Fatal(err)
	}
	params, err := k.sealLog(pubstore.Log{Origin: testOrigin, Name: "audit", VKey: vkey, TreeID: 1, IDSecret: make([]byte, 32)})
	if err != nil {
		f.Fatal(err)
	}
	file := filepath.Join(f.TempDir(), keyFile)
	f.Add([]byte(skey + "\n"))
	f.Add([]byte(skey[:len(skey)-1]))
	f.Add([]byte(skey[:len(skey)-4] + "\r\n" + skey[len(skey)-4:]))
	f.Add([]byte(vkey))
	f.Fuzz(func(t *testing.T, content []byte) {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		_, _, err := loadSigner(file, params)
		if own := strings.TrimSpace(string(content)) == skey; own != (err == nil) {
			t.Errorf("%q: %v", content, err)
		}
		if err != nil && strings.Contains(err.Error(), skey[len(skey)-20:]) {
			t.Errorf("the error tells the key: %v", err)
		}
	})
}

// FuzzTokenRequest: what a token may be is what the rules say, whoever asks.
func FuzzTokenRequest(f *testing.F) {
	f.Add("name", "default", "submit", "cron://")
	f.Add("name", "*", "read admin", "")
	f.Add("name", "*", "submit", "x")
	f.Add("", OwnTenant, "read read", "")
	f.Add("n\n", "A", "root", "")
	f.Fuzz(func(t *testing.T, name, tenant, roles, sources string) {
		r := TokenRequest{Name: name, Tenant: tenant, Sources: strings.Fields(sources)}
		for _, role := range strings.Fields(roles) {
			r.Roles = append(r.Roles, Role(role))
		}
		err := r.check()
		if err != nil {
			var invalid *InvalidError
			if !errors.As(err, &invalid) || invalid.Field == "" || invalid.Expected == "" {
				t.Errorf("%+v: error %v names nothing", r, err)
			}
			return
		}
		tok := Token{Tenant: r.Tenant, Roles: r.Roles, Sources: r.Sources}
		if tok.Has(RoleSubmit) && (tenant == AllTenants || tok.Tenant == OwnTenant) || tok.Has(RoleSubmit) != (len(tok.Sources) > 0) {
			t.Errorf("%+v may submit", r)
		}
		for _, c := range name + strings.TrimPrefix(tenant, AllTenants) {
			if c <= ' ' || c > '~' {
				t.Errorf("%+v: %q in a name", r, c)
			}
		}
	})
}
