package seal

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/prooftrail/prooftrail/verifier/event"
)

// SourceRoot returns what a source signs of an event: how many fields it
// submitted, and the Merkle tree hash over their field hashes. It doesn't
// change when fields are withheld or erased.
func (o *Opening) SourceRoot() (n int, root Hash) {
	for i := range o.Fields {
		if !event.IsServer(o.Fields[i].Pointer) {
			n++
		}
	}
	return n, o.root(func(pointer string) bool { return !event.IsServer(pointer) })
}

// SourceRoot returns what a source that has chosen its salts signs of the
// event that it is about to submit: see Opening.SourceRoot. Each field needs a
// salt. f is what event.Parse gave.
func SourceRoot(f event.Fields, salts ChosenSalts) (n int, root Hash, err error) {
	o := Opening{Fields: make([]OpenedField, 0, len(f))}
	for i := range f {
		if event.IsServer(f[i].Pointer) {
			continue
		}
		salt, ok := salts[f[i].Pointer]
		if !ok {
			return 0, Hash{}, fmt.Errorf("source root: no salt for %s", f[i].Pointer)
		}
		o.Fields = append(o.Fields, OpenedField{
			Pointer: f[i].Pointer, Shown: true, Salt: base64.RawURLEncoding.AppendEncode(nil, salt[:]), Value: f[i].Value,
		})
	}
	n, root = o.SourceRoot()
	return n, root, nil
}

// sourceText is what a source signs.
func sourceText(name string, n int, root Hash) []byte {
	return []byte("prooftrail.source/1\n" + name + "\n" + strconv.Itoa(n) + "\n" +
		base64.StdEncoding.EncodeToString(root[:]) + "\n")
}

// SignSource signs n and root, from SourceRoot, and returns the text that goes
// into /ingest/signature: the key's name, a space, and the base64 of the key's
// hash, 4 bytes big endian, and the signature, as in a signature line of
// c2sp.org/signed-note. The signer's key is Ed25519 and does nothing else.
func SignSource(n int, root Hash, s note.Signer) (string, error) {
	sig, err := s.Sign(sourceText(s.Name(), n, root))
	if err != nil {
		return "", fmt.Errorf("sign source: %w", err)
	}
	line := binary.BigEndian.AppendUint32(nil, s.KeyHash())
	return s.Name() + " " + base64.StdEncoding.EncodeToString(append(line, sig...)), nil
}

// Errors of CheckSource.
var (
	ErrNoSignature  = errors.New("no source signature is shown")
	ErrUnknownKey   = errors.New("source signature by another key")
	ErrBadSignature = errors.New("source signature is wrong")
)

// ErrOtherSalts: an event was sealed with other salts than those that its source sent.
var ErrOtherSalts = errors.New("the salt isn't the source's")

// CheckSource checks the source signature of an opening against the source's
// key. It says nothing of the leaf: that is the opening's business. The error
// is one of ErrNoSignature, ErrUnknownKey and ErrBadSignature, wrapped.
func CheckSource(o *Opening, v note.Verifier) error {
	signature := o.Text("/ingest/signature")
	_, _, err := SourceKeyOf(signature)
	if err == nil {
		n, root := o.SourceRoot()
		err = checkSource(signature, n, root, v)
	}
	if err != nil {
		return fmt.Errorf("check source: %w", err)
	}
	return nil
}

func checkSource(signature string, n int, root Hash, v note.Verifier) error {
	name, hash, sig, err := splitSignature(signature)
	switch {
	case err != nil:
		return err
	case name != v.Name() || hash != v.KeyHash():
		return ErrUnknownKey
	case !v.Verify(sourceText(name, n, root), sig):
		return ErrBadSignature
	}
	return nil
}

// SourceKeyOf returns the name and the hash of the key that a source signature,
// the text of /ingest/signature, says it is by. Nothing is verified. The error
// is ErrNoSignature or ErrBadSignature.
func SourceKeyOf(signature string) (name string, keyHash uint32, err error) {
	name, keyHash, _, err = splitSignature(signature)
	return name, keyHash, err
}

func splitSignature(signature string) (name string, keyHash uint32, sig []byte, err error) {
	name, encoded, ok := strings.Cut(signature, " ")
	if !ok {
		return "", 0, nil, ErrNoSignature
	}
	sig, err = base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || strings.ContainsAny(encoded, "\r\n") || len(sig) != 4+ed25519.SignatureSize {
		return "", 0, nil, ErrBadSignature
	}
	return name, binary.BigEndian.Uint32(sig), sig[4:], nil
}

// IdentityHash returns the identity hash of an event's leaf: the HMAC-SHA-256,
// under a secret of the log, of "prooftrail.id/1", tenant, source and id, each
// preceded by its length as uint32 big endian.
func IdentityHash(secret []byte, tenant, source, id string) Hash {
	var buf [256]byte
	msg := buf[:0]
	for _, part := range []string{"prooftrail.id/1", tenant, source, id} {
		msg = binary.BigEndian.AppendUint32(msg, uint32(len(part)))
		msg = append(msg, part...)
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write(msg)
	var h Hash
	mac.Sum(h[:0])
	return h
}
