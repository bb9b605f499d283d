package httpapi

import (
	"bytes"

	"github.com/prooftrail/prooftrail/verifier/seal"
)

// maxLine is an event in its envelope and a carriage return.
const maxLine = seal.MaxEnvelopeBytes + 1

var carriageReturn = []byte{'\r'}

// lineSplitter cuts what arrives into lines.
type lineSplitter struct {
	each     func(line) error
	skipping bool // in a line that is too long already
}

// feed takes all that is buffered, of which the first seen bytes hold no line
// feed, and returns what is left: the beginning of a line. At the end of the
// body that is a line as well.
func (ls *lineSplitter) feed(b []byte, seen int, end bool) (rest []byte, err error) {
	for {
		i := bytes.IndexByte(b[seen:], '\n')
		if i < 0 {
			break
		}
		if err := ls.emit(b[:seen+i]); err != nil {
			return nil, err
		}
		b, seen = b[seen+i+1:], 0
	}
	if end {
		return nil, ls.emit(b)
	}
	if ls.skipping || len(b) > maxLine {
		ls.skipping = true
		return nil, nil
	}
	return b, nil
}

// emit hands over a line, or the fact that one was too long.
func (ls *lineSplitter) emit(text []byte) error {
	text = bytes.TrimSuffix(text, carriageReturn)
	tooLong := ls.skipping || len(text) > seal.MaxEnvelopeBytes
	ls.skipping = false
	switch {
	case tooLong:
		return ls.each(line{tooLong: true})
	case isBlank(text):
		return nil
	}
	return ls.each(line{text: text})
}

func isBlank(b []byte) bool {
	for _, c := range b {
		if !isSpace(c) {
			return false
		}
	}
	return true
}

// isSpace is the whitespace of JSON (RFC 8259 §2).
func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }
