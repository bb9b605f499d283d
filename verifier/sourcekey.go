package verifier

import (
	"errors"
	"fmt"
)

// SourceKey is the public key with which a source signs its events. It is immutable and safe for
// concurrent use. It is a note.Verifier, as package seal takes one.
type SourceKey struct {
	key  vkey
	text string
}

// MaxSourceKeyName is the longest name of a source's key, in bytes: with the signature it has to fit
// into /ingest/signature.
const MaxSourceKeyName = 512

// ParseSourceKey reads a verifier key of type 0x01, Ed25519 (c2sp.org/signed-note).
func ParseSourceKey(vkey string) (*SourceKey, error) {
	key, err := parseVkey(vkey, typeEd25519)
	if err == nil && len(key.name) > MaxSourceKeyName {
		err = errors.New("verifier key: expected a name of at most 512 bytes")
	}
	if err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	return &SourceKey{key, vkey}, nil
}

// Name returns the key's name.
func (k *SourceKey) Name() string { return k.key.name }

// KeyHash returns the key's ID.
func (k *SourceKey) KeyHash() uint32 { return k.key.keyID }

// Verify reports whether sig is the key's signature of msg.
func (k *SourceKey) Verify(msg, sig []byte) bool { return k.key.verify(msg, sig) }

// String returns the verifier key.
func (k *SourceKey) String() string { return k.text }
