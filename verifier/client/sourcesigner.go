package client

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/prooftrail/prooftrail/verifier"
)

// SourceSigner signs the events of a source (docs/spec/source-signature.md). It is safe for concurrent use if its
// key is. It is a note.Signer.
type SourceSigner struct {
	key    crypto.Signer
	public *verifier.SourceKey
}

// NewSourceSigner makes a signer of a key, Ed25519, that may lie in a device. The name is the key's, as in its verifier
// key; the key does nothing else.
func NewSourceSigner(name string, key crypto.Signer) (*SourceSigner, error) {
	public, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("source key %q: a %T, expected Ed25519", name, key.Public())
	}
	text, err := note.NewEd25519VerifierKey(name, public)
	if err != nil {
		return nil, fmt.Errorf("source key %q: %w", name, err)
	}
	parsed, err := verifier.ParseSourceKey(text)
	if err != nil {
		return nil, fmt.Errorf("source key %q: %w", name, err)
	}
	return &SourceSigner{key, parsed}, nil
}

// ParseSourceSigner reads a signer key as GenerateSourceKey and note.GenerateKey make them. The error doesn't say what is in it.
func ParseSourceSigner(skey string) (*SourceSigner, error) {
	s, err := note.NewSigner(skey) // checks all of it
	if err == nil {
		var seed []byte
		seed, err = base64.StdEncoding.DecodeString(strings.SplitN(skey, "+", 5)[4])
		if err == nil && len(seed) == 1+ed25519.SeedSize { // behind the type
			return NewSourceSigner(s.Name(), ed25519.NewKeyFromSeed(seed[1:]))
		}
	}
	return nil, errors.New("source key: expected PRIVATE+KEY+name+id+key, of type Ed25519")
}

// maxKeyFile bounds a file with a signer key, in bytes.
const maxKeyFile = 4096

// ReadSourceSigner reads a signer key from a file that only its owner may be able to read: one line.
func ReadSourceSigner(file string) (*SourceSigner, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("source key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("source key: %w", err)
	}
	if info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("source key: %s can be read by others (mode %04o): chmod 600 it", file, info.Mode().Perm())
	}
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil, fmt.Errorf("source key: %w", err)
	}
	s, err := ParseSourceSigner(strings.TrimSpace(string(b)))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return s, nil
}

// GenerateSourceKey makes a key: the signer key, a secret, and its verifier key. The name is that of who holds it, such as
// "node-7.example.com".
func GenerateSourceKey(name string) (skey, vkey string, err error) {
	skey, vkey, err = note.GenerateKey(rand.Reader, name)
	if err == nil {
		_, err = verifier.ParseSourceKey(vkey)
	}
	if err != nil {
		return "", "", fmt.Errorf("source key %q: %w", name, err)
	}
	return skey, vkey, nil
}

// Name returns the key's name.
func (s *SourceSigner) Name() string { return s.public.Name() }

// KeyHash returns the key's ID.
func (s *SourceSigner) KeyHash() uint32 { return s.public.KeyHash() }

// VKey returns the verifier key, which is public: it is what is registered and what auditors get.
func (s *SourceSigner) VKey() string { return s.public.String() }

// Sign signs a message. What a device has signed is verified: the log would refuse a wrong signature for good.
func (s *SourceSigner) Sign(msg []byte) ([]byte, error) {
	sig, err := s.key.Sign(rand.Reader, msg, crypto.Hash(0))
	if _, own := s.key.(ed25519.PrivateKey); err == nil && !own && !s.public.Verify(msg, sig) {
		err = errors.New("the key's signature doesn't verify")
	}
	if err != nil {
		return nil, fmt.Errorf("source key %q: %w", s.Name(), err)
	}
	return sig, nil
}
