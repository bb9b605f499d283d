package verifier

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// MaxNoteBytes is the largest signed note that is read. "Verifiers SHOULD apply a
	// maximum limit to the number of signatures in a note (or, equivalently, to the overall
	// size of a note), but MUST accept at least up to 16 signatures. Remember that
	// post-quantum signatures can be up to nearly 5kB in size."
	MaxNoteBytes = 512 << 10
	// MaxSignatures is the largest number of signature lines that is read.
	MaxSignatures = 64
)

// signature is one signature line of a note, not verified.
type signature struct {
	name  string
	keyID uint32
	sig   []byte // without the key ID
}

// splitNote takes a signed note (c2sp.org/signed-note) apart without verifying anything.
func splitNote(msg []byte) (text string, sigs []signature, err error) {
	if len(msg) > MaxNoteBytes {
		return "", nil, fmt.Errorf("signed note of more than %d bytes", MaxNoteBytes)
	}
	// "Signed notes MUST be valid UTF-8 and MUST NOT contain any ASCII control characters
	// (those below U+0020) other than newline."
	if !utf8.Valid(msg) {
		return "", nil, errors.New("signed note is not UTF-8")
	}
	for _, c := range msg {
		if c < 0x20 && c != '\n' {
			return "", nil, errors.New("signed note holds a control character")
		}
	}
	// "the text is separated from the signatures by the last empty line in the note."
	cut := bytes.LastIndex(msg, []byte("\n\n"))
	if cut < 0 {
		return "", nil, errors.New("signed note has no empty line before its signatures")
	}
	text, rest := string(msg[:cut+1]), string(msg[cut+2:])
	if rest == "" || !strings.HasSuffix(rest, "\n") {
		return "", nil, errors.New("signed note doesn't end with a signature line")
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(rest, "\n"), "\n") {
		if len(sigs) == MaxSignatures {
			return "", nil, fmt.Errorf("signed note with more than %d signatures", MaxSignatures)
		}
		s, err := parseSignature(line)
		if err != nil {
			return "", nil, fmt.Errorf("signature line %d: %w", len(sigs)+1, err)
		}
		sigs = append(sigs, s)
	}
	return text, sigs, nil
}

// parseSignature reads "em dash (U+2014), space (U+0020), key name, space, base64-encoded
// signature, newline".
func parseSignature(line string) (signature, error) {
	rest, ok := strings.CutPrefix(line, "— ")
	name, enc, ok2 := strings.Cut(rest, " ")
	if !ok || !ok2 || !validKeyName(name) {
		return signature{}, errors.New("malformed")
	}
	// "Signatures are the base64 encoding of 4+n bytes."
	raw, err := b64.DecodeString(enc)
	if err != nil || len(raw) < 5 {
		return signature{}, errors.New("expected canonical base64 of a key ID and a signature")
	}
	return signature{name: name, keyID: binary.BigEndian.Uint32(raw), sig: raw[4:]}, nil
}

// validKeyName: "Key names MUST be non-empty and MUST NOT contain any Unicode spaces or
// plus (U+002B) characters."
func validKeyName(name string) bool {
	return name != "" && utf8.ValidString(name) && !strings.ContainsFunc(name, func(r rune) bool {
		return unicode.IsSpace(r) || r == '+' || r < 0x20
	})
}
