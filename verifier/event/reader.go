package event

import (
	"bytes"
	"strings"
)

// A Reader reads the fields of one whole event, of which some may be withheld, from a
// text that has them one after the other with other things between them: an opening.
// It makes every check that ParseStamped makes of text and schema. The zero Reader is
// ready for an event.
//
// A withheld field counts as there, may hold anything, and where its value would
// decide what else is needed, nothing else is.
//
// Errors are *Errors. After one, the Reader has to be reset.
type Reader struct {
	checker checker
	pointer string // of the field being read …
	rule    *rule  // … and its rule

	open  map[string]place // pointers of members of labels and details that have been seen
	spare []byte           // what Value compares with
}

// A place is a pointer and the rule of the field there.
type place struct {
	pointer string
	rule    *rule
}

// maxOpen bounds the pointers that a Reader remembers.
const maxOpen = 1024

// Reset makes the Reader ready for another event. It keeps its memory.
func (r *Reader) Reset() { r.checker = checker{} }

// Pointer takes note of the next field by its pointer, which must be greater by bytes
// than the one before, and returns it as a string. It doesn't keep pointer. Value reads
// the field's value, unless it is withheld.
func (r *Reader) Pointer(pointer []byte) (string, error) {
	at, ok := places[string(pointer)]
	if !ok {
		at, ok = r.open[string(pointer)]
	}
	if !ok {
		at = place{string(pointer), ruleOf(string(pointer))}
		if at.rule != nil && len(r.open) < maxOpen {
			if r.open == nil {
				r.open = map[string]place{}
			}
			r.open[at.pointer] = at
		}
	}
	if err := r.checker.place(at.pointer, at.rule); err != nil {
		return "", err
	}
	r.pointer, r.rule = at.pointer, at.rule
	return at.pointer, nil
}

// Value reads the value of the field whose pointer was read last from the start of
// data, where it must stand in its canonical form (RFC 8785), and returns it and what
// follows it, both part of data.
func (r *Reader) Value(data []byte) (value, rest []byte, err error) {
	n := plainString(data)
	if n == 0 {
		var refusal *Error
		if n, refusal = r.cut(data); refusal != nil {
			return nil, nil, refusal
		}
	}
	value = data[:n:n]
	if refusal := r.checker.value(r.pointer, r.rule, value); refusal != nil {
		return nil, nil, refusal
	}
	return value, data[n:], nil
}

// End checks the event as a whole.
func (r *Reader) End() error {
	if refusal := r.checker.end(); refusal != nil {
		return refusal
	}
	return nil
}

// plainString returns the length of the JSON string at the start of data, quotes and
// all, if each of its bytes stands for itself: then it is canonical as it is. So are
// nearly all values of nearly all events. 0 is anything else.
func plainString(data []byte) int {
	if len(data) == 0 || data[0] != '"' {
		return 0
	}
	for i, c := range data[1:] {
		if !plain[c] {
			if c == '"' {
				return i + 2
			}
			break
		}
	}
	return 0
}

// cut returns the length of the canonical value at the start of data. Depth is
// counted from the event that the field belongs to, and names are those of labels and
// details if the field is.
func (r *Reader) cut(data []byte) (int, *Error) {
	s := scanner{in: data, out: r.spare[:0]}
	defer func() { r.spare = s.out }()
	names := r.rule == labelRule || r.rule == detailRule
	if err := s.value(strings.Count(r.pointer, "/")+1, names); err != nil {
		err.Pointer = r.pointer + err.Pointer
		return 0, err
	}
	if !bytes.Equal(s.out, data[:s.pos]) {
		return 0, &Error{Pointer: r.pointer, Code: CodeSyntax, Expected: "canonical JSON, RFC 8785"}
	}
	return s.pos, nil
}
