package witness

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"filippo.io/mldsa"

	"github.com/prooftrail/prooftrail/verifier/internal/atomicfile"
)

// maxKeyFileBytes is ample for a seed and a name.
const maxKeyFileBytes = 4 << 10

// GenerateKey makes a key. The signer key, a secret, has the form that
// github.com/transparency-dev/formats gives it: PRIVATE+KEY+<name>+<key ID>+<base64 of the
// type and the 32-byte seed>.
func GenerateKey(name string, alg Algorithm) (skey string, err error) {
	seed := make([]byte, ed25519.SeedSize) // ML-DSA-44 has one of the same size
	if _, err := io.ReadFull(rand.Reader, seed); err != nil {
		return "", fmt.Errorf("generate key: %w", err)
	}
	public, err := publicKey(alg, seed)
	if err != nil {
		return "", fmt.Errorf("generate key: %w", err)
	}
	id := keyID(name, append([]byte{byte(alg)}, public...))
	skey = fmt.Sprintf("PRIVATE+KEY+%s+%08x+%s", name, id, base64.StdEncoding.EncodeToString(append([]byte{byte(alg)}, seed...)))
	if _, err := ParseKey(skey); err != nil { // the name
		return "", fmt.Errorf("generate key: %w", err)
	}
	return skey, nil
}

func publicKey(alg Algorithm, seed []byte) ([]byte, error) {
	switch alg {
	case Ed25519:
		return ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey), nil
	case MLDSA44:
		key, err := mldsa.NewPrivateKey(mldsa.MLDSA44(), seed)
		if err != nil {
			return nil, err
		}
		return key.PublicKey().Bytes(), nil
	}
	return nil, fmt.Errorf("signature type %#04x, expected %#04x or %#04x", byte(alg), byte(Ed25519), byte(MLDSA44))
}

// ParseKey reads a signer key of type 0x04 or 0x06. A log's key, 0x01, is refused: "The same
// public key SHOULD NOT be reused for different signature types". No error shows the key.
func ParseKey(skey string) (*Cosigner, error) {
	rest, ok := strings.CutPrefix(skey, "PRIVATE+KEY+")
	parts := strings.Split(rest, "+")
	if !ok || len(parts) < 3 {
		return nil, errors.New("parse key: expected PRIVATE+KEY+<name>+<key ID>+<base64>")
	}
	name, id, enc := parts[0], parts[1], strings.Join(parts[2:], "+") // base64 has a + of its own
	raw, err := base64.StdEncoding.Strict().DecodeString(enc)
	if err != nil || len(raw) != 1+ed25519.SeedSize || strings.ContainsAny(enc, "\r\n") {
		return nil, errors.New("parse key: expected base64 of a type and a seed of 32 bytes")
	}
	alg, seed := Algorithm(raw[0]), raw[1:]
	public, err := publicKey(alg, seed)
	if err != nil {
		return nil, fmt.Errorf("parse key: %w", err)
	}
	if id != fmt.Sprintf("%08x", keyID(name, append([]byte{byte(alg)}, public...))) {
		return nil, errors.New("parse key: key ID doesn't fit name and key")
	}
	var c *Cosigner
	if alg == Ed25519 {
		c, err = NewCosigner(name, ed25519.NewKeyFromSeed(seed))
	} else {
		key, _ := mldsa.NewPrivateKey(mldsa.MLDSA44(), seed) // publicKey did the same
		c, err = newMLDSA(skey, key)
	}
	if err != nil {
		return nil, fmt.Errorf("parse key: %w", err)
	}
	return c, nil
}

// CreateKeyFile writes a signer key to a new file, mode 0600, durably. A file that is there
// is an error.
func CreateKeyFile(path, skey string) (err error) {
	if _, err := ParseKey(skey); err != nil {
		return fmt.Errorf("create key file: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("create key file: %w", err)
	}
	_, err = f.WriteString(skey + "\n")
	if err = errors.Join(err, f.Sync(), f.Close(), atomicfile.SyncDir(filepath.Dir(path))); err != nil {
		return fmt.Errorf("create key file: %w", errors.Join(err, os.Remove(path)))
	}
	return nil
}

// LoadKeyFile reads a signer key from a file that nobody but its owner may read or write:
// one line.
func LoadKeyFile(path string) (*Cosigner, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("load key file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("load key file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("load key file: %s is not a regular file", path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("load key file: %s has mode %04o, so that others can use the key: expected 0600", path, mode)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("load key file: %w", err)
	}
	line, ok := bytes.CutSuffix(b, []byte("\n"))
	if !ok || len(b) > maxKeyFileBytes {
		return nil, fmt.Errorf("load key file: %s: expected one line", path)
	}
	c, err := ParseKey(string(line))
	if err != nil {
		return nil, fmt.Errorf("load key file: %s: %w", path, err)
	}
	return c, nil
}
