package witness

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"filippo.io/mldsa"
	cosig "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"

	"github.com/prooftrail/prooftrail/verifier"
)

// Algorithm is a signature type of c2sp.org/signed-note that cosigns.
type Algorithm byte

// The two that c2sp.org/tlog-cosignature defines.
const (
	Ed25519 Algorithm = 0x04 // "Timestamped Ed25519 checkpoint cosignatures"
	MLDSA44 Algorithm = 0x06 // "Timestamped ML-DSA-44 (sub)tree cosignatures"
)

// maxMLDSAName: "opaque cosigner_name<1..2^8-1>", "opaque log_origin<1..2^8-1>".
const maxMLDSAName = 255

// Cosigner makes cosignatures (c2sp.org/tlog-cosignature) with one key. It is immutable, and
// safe for concurrent use if its key is.
type Cosigner struct {
	name  string
	keyID uint32
	alg   Algorithm
	vkey  string
	sign  func(t int64, c verifier.Checkpoint) ([]byte, error) // without the time in front
	check note.Verifier
}

// NewCosigner makes an Ed25519 cosigner from a key that may live elsewhere, such as in an
// ssh-agent. "The key name SHOULD be a schema-less URL that identifies the cosigner." The
// key must not be used for anything else: "The Ed25519 signed message format doesn't commit
// to the cosigner name, so the same public key can't be used across multiple cosigners."
func NewCosigner(name string, key crypto.Signer) (*Cosigner, error) {
	public, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("new cosigner: a %T, expected an Ed25519 key", key.Public())
	}
	c := &Cosigner{name: name, alg: Ed25519}
	c.sign = func(t int64, head verifier.Checkpoint) ([]byte, error) {
		// "two newline (U+000A) terminated lines (one header line and one timestamp line)
		// followed by the whole note body of the cosigned checkpoint".
		msg := "cosignature/v1\ntime " + strconv.FormatInt(t, 10) + "\n" + head.Text()
		return key.Sign(rand.Reader, []byte(msg), crypto.Hash(0))
	}
	return c, c.load(public)
}

// newMLDSA makes an ML-DSA-44 cosigner.
func newMLDSA(skey string, key *mldsa.PrivateKey) (*Cosigner, error) {
	s, err := cosig.NewMLDSASigner(skey)
	if err != nil {
		return nil, err
	}
	if len(s.Name()) > maxMLDSAName {
		return nil, fmt.Errorf("name of more than %d bytes with ML-DSA-44", maxMLDSAName)
	}
	c := &Cosigner{name: s.Name(), alg: MLDSA44}
	c.sign = func(t int64, head verifier.Checkpoint) ([]byte, error) {
		// "opaque log_origin<1..2^8-1>": the library would cut the length to one byte.
		if len(head.Origin) > maxMLDSAName {
			return nil, fmt.Errorf("origin of more than %d bytes with ML-DSA-44", maxMLDSAName)
		}
		// "start MUST be zero and end MUST be the checkpoint size."
		sig, err := s.SignSubtree(uint64(t), head.Origin, 0, head.Size, head.Root[:])
		if err != nil || len(sig) < 8 {
			return nil, errors.Join(err, errors.New("no signature"))
		}
		return sig[8:], nil
	}
	return c, c.load(key.PublicKey().Bytes())
}

// load makes the verifier key and checks it, and the name in it.
func (c *Cosigner) load(public []byte) (err error) {
	if strings.ContainsFunc(c.name, func(r rune) bool { return r < 0x20 }) {
		return errors.New("control character in the key's name")
	}
	key := append([]byte{byte(c.alg)}, public...)
	c.keyID = keyID(c.name, key)
	c.vkey = fmt.Sprintf("%s+%08x+%s", c.name, c.keyID, base64.StdEncoding.EncodeToString(key))
	if c.check, err = cosig.NewVerifierForCosignatureV1(c.vkey); err != nil {
		return fmt.Errorf("key name %q: %w", c.name, err)
	}
	return nil
}

// keyID: "SHA-256(<name> || "\n" || 0x04 || 32-byte Ed25519 cosigner public key)[:4]", and
// alike for the other.
func keyID(name string, key []byte) uint32 {
	sum := sha256.Sum256(append([]byte(name+"\n"), key...))
	return binary.BigEndian.Uint32(sum[:4])
}

// Name returns the key's name.
func (c *Cosigner) Name() string { return c.name }

// Algorithm returns the kind of key.
func (c *Cosigner) Algorithm() Algorithm { return c.alg }

// VerifierKey returns what a policy has on its witness line.
func (c *Cosigner) VerifierKey() string { return c.vkey }

// cosign returns the signature line over a head at a time. What the key returned is
// verified first: it may come from another process.
func (c *Cosigner) cosign(t int64, head verifier.Checkpoint) (string, error) {
	sig, err := c.sign(t, head)
	if err != nil {
		return "", fmt.Errorf("cosign with %q: %w", c.name, err)
	}
	// "uint64 timestamp", then the signature; "with the timestamp encoded in big-endian order."
	sig = append(binary.BigEndian.AppendUint64(nil, uint64(t)), sig...)
	if !c.check.Verify([]byte(head.Text()), sig) {
		return "", fmt.Errorf("cosign with %q: the key made a signature that doesn't verify", c.name)
	}
	raw := append(binary.BigEndian.AppendUint32(nil, c.keyID), sig...)
	return "— " + c.name + " " + base64.StdEncoding.EncodeToString(raw) + "\n", nil
}
