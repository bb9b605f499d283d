package witness_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prooftrail/prooftrail/verifier/monitor/witness"
)

func TestKeyFile(t *testing.T) {
	for _, alg := range []witness.Algorithm{witness.Ed25519, witness.MLDSA44} {
		path := filepath.Join(t.TempDir(), "key")
		skey, err := witness.GenerateKey("witness.example/w1", alg)
		if err != nil {
			t.Fatal(err)
		}
		if err := witness.CreateKeyFile(path, skey); err != nil {
			t.Fatal(err)
		}
		if err := witness.CreateKeyFile(path, skey); err == nil {
			t.Error("an existing key was replaced")
		}
		c, err := witness.LoadKeyFile(path)
		if err != nil || c.Algorithm() != alg || c.Name() != "witness.example/w1" {
			t.Errorf("loaded %v, error %v", c, err)
		}
		if err := os.Chmod(path, 0o640); err != nil {
			t.Fatal(err)
		}
		if _, err := witness.LoadKeyFile(path); err == nil || !strings.Contains(err.Error(), "0600") {
			t.Errorf("a key that others can read: %v", err)
		}
	}
}

func TestKeyErrors(t *testing.T) {
	good, err := witness.GenerateKey("witness.example/w1", witness.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	for name, skey := range map[string]string{
		"empty": "", "verifier key": strings.TrimPrefix(good, "PRIVATE+KEY+"), "another name": strings.Replace(good, "w1", "w2", 1),
		"cut short": good[:len(good)-4], "a log's": "PRIVATE+KEY+a+00000000+AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
	} {
		if _, err := witness.ParseKey(skey); err == nil {
			t.Errorf("%s: accepted", name)
		} else if len(skey) > 60 && strings.Contains(err.Error(), skey[len(skey)-40:]) {
			t.Errorf("%s: the error shows the key", name)
		}
	}
	for _, name := range []string{"", "a b", "a+b", "a\x01"} {
		if _, err := witness.GenerateKey(name, witness.Ed25519); err == nil {
			t.Errorf("name %q accepted", name)
		}
	}
}
