package witness

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/prooftrail/prooftrail/verifier"
)

const (
	// MaxProofLines: "The client MUST NOT send more than 63 consistency proof lines."
	MaxProofLines = 63
	// MaxRequestBytes is the largest request body that is read: old size, proof and the
	// largest signed note.
	MaxRequestBytes = len("old \n") + 20 + MaxProofLines*45 + 1 + verifier.MaxNoteBytes
)

// Request is the body of an add-checkpoint call.
type Request struct {
	OldSize uint64          // of the head that the proof begins at
	Proof   []verifier.Hash // RFC 6962, section 2.1.2, from OldSize to the size in Note
	Note    []byte          // the signed checkpoint
}

// ParseRequest reads a body. It is strict: what it accepts is what [Request.Bytes] gives
// back. The note isn't looked into. An error matches [ErrMalformed].
func ParseRequest(body []byte) (r Request, err error) {
	// "a sequence of an old size line, zero or more consistency proof lines, and an empty
	// line, followed by a checkpoint."
	head, signedNote, ok := bytes.Cut(body, []byte("\n\n"))
	if !ok {
		return r, fmt.Errorf("%w: no empty line before the checkpoint", ErrMalformed)
	}
	lines := strings.Split(string(head), "\n")
	// "The old size line MUST consist of the string `old`, a single space (0x20), and the tree
	// size of the previous checkpoint encoded as an ASCII decimal with no leading zeroes".
	size, ok := strings.CutPrefix(lines[0], "old ")
	if !ok {
		return r, fmt.Errorf("%w: line 1: expected old and the old size", ErrMalformed)
	}
	if r.OldSize, err = verifier.ParseTreeSize(size); err != nil {
		return Request{}, fmt.Errorf("%w: line 1: old size: %w", ErrMalformed, err)
	}
	if len(lines)-1 > MaxProofLines {
		return Request{}, fmt.Errorf("%w: more than %d proof lines", ErrMalformed, MaxProofLines)
	}
	// "Each consistency proof line MUST encode a single hash in base64."
	for i, line := range lines[1:] {
		h, err := verifier.ParseHash(line)
		if err != nil {
			return Request{}, fmt.Errorf("%w: line %d: %w", ErrMalformed, i+2, err)
		}
		r.Proof = append(r.Proof, h)
	}
	r.Note = signedNote
	return r, nil
}

// Bytes returns the body.
func (r Request) Bytes() []byte {
	b := strconv.AppendUint([]byte("old "), r.OldSize, 10)
	b = append(b, '\n')
	for _, h := range r.Proof {
		b = append(base64.StdEncoding.AppendEncode(b, h[:]), '\n')
	}
	b = append(b, '\n')
	return append(b, r.Note...)
}
