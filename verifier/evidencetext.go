package verifier

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// evidenceHeader is the first line of an evidence file.
const evidenceHeader = "prooftrail.evidence/1"

// MaxEvidenceBytes is the largest evidence file that is read: both notes and the hashes.
const MaxEvidenceBytes = 2*MaxNoteBytes + 45*MaxProofHashes + len(evidenceHeader) + 3

// Text returns the file: the header, the proof with a hash a line, the first note, the
// second one, each of the three behind an empty line. [ParseEvidence] reads it back if both notes are
// those of checkpoints, which have no empty line in their text.
func (e *Evidence) Text() []byte {
	var b bytes.Buffer
	b.WriteString(evidenceHeader + "\n")
	for i := range e.Proof {
		b.WriteString(b64.EncodeToString(e.Proof[i][:]) + "\n")
	}
	for _, n := range [][]byte{e.First, e.Second} {
		b.WriteByte('\n')
		b.Write(n)
	}
	return b.Bytes()
}

// MarshalText is [Evidence.Text]: in JSON, evidence is a string that holds the file.
func (e *Evidence) MarshalText() ([]byte, error) { return e.Text(), nil }

// ParseEvidence reads an evidence file of at most MaxEvidenceBytes. It is strict, so that
// what it accepts is, byte for byte, what [Evidence.Text] gives back. Nothing in it is
// verified: see [Evidence.Check]. An error names the line. The result doesn't alias b.
func ParseEvidence(b []byte) (*Evidence, error) {
	if len(b) > MaxEvidenceBytes {
		return nil, fmt.Errorf("parse evidence: more than %d bytes", MaxEvidenceBytes)
	}
	r := &evidenceReader{rest: b}
	e, err := r.evidence()
	if err != nil {
		return nil, fmt.Errorf("parse evidence: line %d: %w", r.number, err)
	}
	return e, nil
}

// evidenceReader reads an evidence file line by line.
type evidenceReader struct {
	rest   []byte
	number int // of the line that was read last, from 1
}

// next returns the next line without its end.
func (r *evidenceReader) next() (string, error) {
	r.number++
	line, rest, ok := bytes.Cut(r.rest, []byte("\n"))
	switch {
	case len(r.rest) == 0:
		return "", errors.New("the file ends here: is it cut short?")
	case !ok:
		return "", errors.New("expected a line feed at the end of the line: is the file cut short?")
	case !utf8.Valid(line):
		return "", errors.New("not UTF-8")
	case bytes.ContainsFunc(line, func(c rune) bool { return c < 0x20 }):
		return "", errors.New("a control character, expected none but line feeds")
	}
	r.rest = rest
	return string(line), nil
}

func (r *evidenceReader) evidence() (*Evidence, error) {
	header, err := r.next()
	if err != nil {
		return nil, err
	}
	if header != evidenceHeader {
		return nil, errors.New("expected " + evidenceHeader)
	}
	e := new(Evidence)
	if e.Proof, err = r.proof(); err != nil {
		return nil, err
	}
	if e.First, err = r.note(false); err != nil {
		return nil, fmt.Errorf("first note: %w", err)
	}
	if e.Second, err = r.note(true); err != nil {
		return nil, fmt.Errorf("second note: %w", err)
	}
	return e, nil
}

// proof reads one hash a line, up to an empty line.
func (r *evidenceReader) proof() (hashes []Hash, err error) {
	for {
		line, err := r.next()
		if err != nil {
			return nil, err
		}
		if line == "" {
			return hashes, nil
		}
		if len(hashes) == MaxProofHashes {
			return nil, fmt.Errorf("expected at most %d hashes, and an empty line behind them", MaxProofHashes)
		}
		h, err := parseHash(line)
		if err != nil {
			return nil, fmt.Errorf("expected a hash of the proof, or the empty line behind it: %w", err)
		}
		hashes = append(hashes, h)
	}
}

// note reads a signed note: the lines of its text, an empty line, signature lines. The last
// note runs to the end of the file, another one to an empty line, which isn't part of it. No
// other empty line can be in one: the text of a checkpoint is "a sequence of at least three
// non-empty lines" (c2sp.org/tlog-checkpoint).
func (r *evidenceReader) note(last bool) ([]byte, error) {
	start := r.rest
	for first := true; ; first = false {
		line, err := r.next()
		if err != nil {
			return nil, err
		}
		if line == "" && first {
			return nil, errors.New("an empty line, expected the first line of a note")
		}
		if line == "" {
			break
		}
	}
	for first := true; ; first = false {
		end := len(start) - len(r.rest)
		if end > MaxNoteBytes {
			return nil, fmt.Errorf("expected at most %d bytes", MaxNoteBytes)
		}
		if last && !first && len(r.rest) == 0 {
			return bytes.Clone(start[:end]), nil
		}
		line, err := r.next()
		if err != nil {
			return nil, err
		}
		if line == "" && !last && !first {
			return bytes.Clone(start[:end]), nil
		}
		if !strings.HasPrefix(line, "— ") {
			return nil, errors.New("expected a signature line, which begins with an em dash and a space")
		}
	}
}
