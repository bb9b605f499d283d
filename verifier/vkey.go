package verifier

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	cosig "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
)

// Signature types of c2sp.org/signed-note.
const (
	typeEd25519      = 0x01 // "Ed25519 signatures as specified by this document"
	typeCosignature  = 0x04 // "Timestamped Ed25519 checkpoint cosignatures"
	typeMLDSA44      = 0x06 // "Timestamped ML-DSA-44 (sub)tree cosignatures"
	ed25519KeySize   = 32
	mldsa44KeySize   = 1312
	maxMLDSANameSize = 255 // opaque cosigner_name<1..2^8-1>, log_origin<1..2^8-1>
)

// vkey is a verifier key: <key name>+hex(32-bit key ID)+base64(signature type || public key).
type vkey struct {
	name   string
	keyID  uint32
	typ    byte
	public []byte
	verify func(text, sig []byte) bool
}

// parseVkey reads a vkey of one of the given types. The key ID has to be the recommended
// one, "SHA-256(key name || 0x0A || signature type || public key)[:4]", which the
// specifications of all three types make mandatory.
func parseVkey(s string, types ...byte) (vkey, error) {
	name, rest, _ := strings.Cut(s, "+")
	id, enc, ok := strings.Cut(rest, "+")
	if !ok || !validKeyName(name) {
		return vkey{}, errors.New("malformed verifier key")
	}
	key, err := b64.DecodeString(enc)
	if err != nil || len(key) < 2 || strings.ContainsAny(enc, "\r\n") {
		return vkey{}, errors.New("verifier key: expected canonical base64 of a type and a public key")
	}
	if bytes.IndexByte(types, key[0]) < 0 {
		return vkey{}, fmt.Errorf("verifier key: signature type %#04x, expected one of %#04x", key[0], types)
	}
	sum := sha256.Sum256(append([]byte(name+"\n"), key...))
	// "the fixed length lowercase Base 16 encoding of its zero-padded big endian representation"
	if id != fmt.Sprintf("%08x", sum[:4]) {
		return vkey{}, errors.New("verifier key: key ID doesn't fit name and key")
	}
	k := vkey{name: name, keyID: binary.BigEndian.Uint32(sum[:4]), typ: key[0], public: key[1:]}
	return k, k.load(s)
}

// load makes the verify function from the vkey's text.
func (k *vkey) load(s string) error {
	size := ed25519KeySize
	if k.typ == typeMLDSA44 {
		size = mldsa44KeySize
	}
	if len(k.public) != size {
		return fmt.Errorf("verifier key: public key of %d bytes, expected %d", len(k.public), size)
	}
	if k.typ == typeMLDSA44 && len(k.name) > maxMLDSANameSize {
		return fmt.Errorf("verifier key: name of more than %d bytes with ML-DSA-44", maxMLDSANameSize)
	}
	var v note.Verifier
	var err error
	if k.typ == typeEd25519 {
		v, err = note.NewVerifier(s)
	} else {
		v, err = cosig.NewVerifierForCosignatureV1(s)
	}
	if err != nil {
		return fmt.Errorf("verifier key: %w", err)
	}
	k.verify = v.Verify
	return nil
}
