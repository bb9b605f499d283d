package verifier

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrNotSigned is matched (errors.Is) by the errors that say that a note doesn't carry a
// good signature of the log's key. Each of them matches [ErrFailed] as well.
var ErrNotSigned = errors.New("not signed")

// ErrEmptyRoot is matched (errors.Is) by the error about a head of size 0 with another root
// than [EmptyRoot]. It matches [ErrFailed] as well. Where the log signed it, the note alone
// proves that the log is wrong.
var ErrEmptyRoot = errors.New("root hash: an empty tree has another root")

// LogKey is the public key of a log, whose name is the log's origin. It is immutable and
// safe for concurrent use.
type LogKey struct {
	key  vkey
	text string
}

// ParseLogKey reads a verifier key of type 0x01, Ed25519 (c2sp.org/signed-note).
func ParseLogKey(vkey string) (*LogKey, error) {
	// "Log and witness keys must use a signature type approprate respective function".
	key, err := parseVkey(vkey, typeEd25519)
	if err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	return &LogKey{key, vkey}, nil
}

// Origin returns the key's name: "This name MUST correspond to the log's origin line,
// representing the identity of the log."
func (k *LogKey) Origin() string { return k.key.name }

// String returns the verifier key.
func (k *LogKey) String() string { return k.text }

// Verify opens a signed note of the log. It looks at no signature but the log's. An error
// matches [ErrFailed]; if that signature is missing or wrong, also [ErrNotSigned]; if the
// note says that the empty tree has another root, also [ErrEmptyRoot].
//
// Bare is the note with the log's signature line alone. It isn't nil when the log did sign
// but Verify failed for another reason.
func (k *LogKey) Verify(signedNote []byte) (c Checkpoint, bare []byte, err error) {
	text, sigs, err := splitNote(signedNote)
	if err != nil {
		return Checkpoint{}, nil, failedf("checkpoint: %w", err)
	}
	own, err := k.find(text, sigs)
	if err != nil {
		return Checkpoint{}, nil, failedf("checkpoint: %w", err)
	}
	bare = []byte(text + "\n" + own.line())
	if c, err = k.parse(text); err != nil {
		return Checkpoint{}, bare, failedf("checkpoint: %w", err)
	}
	return c, bare, nil
}

// Bare returns the note with one good signature line of the log's key alone, whatever other
// lines it has: a log could else keep a head from being held against it by adding a wrong one.
// An error matches [ErrFailed] and, if there is no good line, [ErrNotSigned].
func (k *LogKey) Bare(signedNote []byte) ([]byte, error) {
	text, sigs, err := splitNote(signedNote)
	if err != nil {
		return nil, failedf("checkpoint: %w", err)
	}
	own, err := k.findAny(text, sigs)
	if err != nil {
		return nil, failedf("checkpoint: %w", err)
	}
	return []byte(text + "\n" + own.line()), nil
}

// findAny returns a good signature of the log's key, however many bad ones there are.
func (k *LogKey) findAny(text string, sigs []signature) (signature, error) {
	named := false
	for _, s := range sigs {
		if s.name != k.key.name || s.keyID != k.key.keyID {
			continue
		}
		if named = true; k.key.verify([]byte(text), s.sig) {
			return s, nil
		}
	}
	if named {
		return signature{}, notSigned{fmt.Errorf("signature of the log %q is wrong", k.key.name)}
	}
	return signature{}, notSigned{fmt.Errorf("not signed by the log %q", k.key.name)}
}

// find demands exactly one signature of the log's key.
func (k *LogKey) find(text string, sigs []signature) (own signature, err error) {
	found := false
	for _, s := range sigs {
		if s.name != k.key.name || s.keyID != k.key.keyID {
			continue
		}
		// "If the key name and ID match a known key, verifiers MUST verify the signature. If a
		// signature from a known key fails to verify, clients SHOULD reject the whole note."
		if !k.key.verify([]byte(text), s.sig) {
			return signature{}, notSigned{fmt.Errorf("signature of the log %q is wrong", k.key.name)}
		}
		if found {
			return signature{}, errors.New("more than one signature of the log")
		}
		own, found = s, true
	}
	if !found {
		return signature{}, notSigned{fmt.Errorf("not signed by the log %q", k.key.name)}
	}
	return own, nil
}

// parse reads a text whose signature was verified.
func (k *LogKey) parse(text string) (Checkpoint, error) {
	c, err := ParseCheckpoint(text)
	if err != nil {
		return Checkpoint{}, err
	}
	// "This name MUST correspond to the log's origin line, representing the identity of the log."
	if c.Origin != k.key.name {
		return Checkpoint{}, fmt.Errorf("origin %q, expected %q", c.Origin, k.key.name)
	}
	return c, nil
}

// notSigned is an error that matches ErrNotSigned; its text is the reason alone.
type notSigned struct{ error }

func (notSigned) Is(target error) bool { return target == ErrNotSigned }

// line returns the signature line.
func (s signature) line() string {
	return "— " + s.name + " " + b64.EncodeToString(append(binary.BigEndian.AppendUint32(nil, s.keyID), s.sig...)) + "\n"
}
