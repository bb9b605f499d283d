package event

import (
	"bytes"
	"encoding/binary"
	"math/bits"
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

	seen  map[string]*seenPlace // places that have been seen, by pointer
	first seenPlace             // stands before the first field
	at    *seenPlace            // the field being read
	spare []byte                // what Value compares with
}

// A place is a pointer and the rule of the field there.
type place struct {
	pointer string
	rule    *rule
}

// A seenPlace is a place that a Reader has seen, and what came after it the last time.
// Events are much like each other, so that is nearly always what comes after it now.
type seenPlace struct {
	place
	next *seenPlace
}

// maxSeen bounds the places that a Reader remembers.
const maxSeen = 1024

// Reset makes the Reader ready for another event. It keeps its memory.
func (r *Reader) Reset() {
	r.checker = checker{}
	r.at = &r.first
}

// Pointer takes note of the next field by its pointer, which must be greater by bytes
// than the one before. The pointer stands at the start of data and ends at the first
// quote. Pointer returns it as a string, which is no part of data, and what follows the
// quote. Value reads the field's value, unless it is withheld.
func (r *Reader) Pointer(data []byte) (pointer string, rest []byte, err error) {
	before := r.at
	if before == nil {
		before = &r.first
	}
	at := before.next
	if at == nil || len(data) <= len(at.pointer) || data[len(at.pointer)] != '"' || string(data[:len(at.pointer)]) != at.pointer {
		end := bytes.IndexByte(data, '"')
		if end < 0 {
			return "", nil, &Error{Code: CodeSyntax, Expected: "the end of a pointer"}
		}
		var keep bool
		if at, keep = r.lookUp(data[:end]); keep {
			before.next = at
		}
	}
	if err := r.checker.place(at.pointer, at.rule); err != nil {
		return "", nil, err
	}
	r.at, r.pointer, r.rule = at, at.pointer, at.rule
	return at.pointer, data[len(at.pointer)+1:], nil
}

// lookUp finds the place of a pointer, and says whether the Reader remembers it. What
// the schema doesn't know has no rule.
func (r *Reader) lookUp(pointer []byte) (at *seenPlace, kept bool) {
	if at, ok := r.seen[string(pointer)]; ok {
		return at, true
	}
	at = new(seenPlace)
	var ok bool
	if at.place, ok = places[string(pointer)]; !ok {
		at.place = place{string(pointer), ruleOf(string(pointer))}
	}
	if at.rule == nil || len(r.seen) == maxSeen {
		return at, false
	}
	if r.seen == nil {
		r.seen = map[string]*seenPlace{}
	}
	r.seen[at.pointer] = at
	return at, true
}

// Value reads the value of the field whose pointer was read last from the start of
// data, where it must stand in its canonical form (RFC 8785), and returns it and what
// follows it, both part of data.
func (r *Reader) Value(data []byte) (value, rest []byte, err error) {
	n := plainString(data)
	if n > 0 && r.rule.isText() {
		if refusal := r.checker.text(r.pointer, r.rule, data[1:n-1:n-1], n); refusal != nil {
			return nil, nil, refusal
		}
		return data[:n:n], data[n:], nil
	}
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
	i := 1
	for ; i+8 <= len(data); i += 8 {
		if special := special8(binary.LittleEndian.Uint64(data[i:])); special != 0 {
			i += bits.TrailingZeros64(special) / 8
			break
		}
	}
	for ; i < len(data); i++ {
		if !plain[data[i]] {
			if data[i] == '"' {
				return i + 1
			}
			break
		}
	}
	return 0
}

// special8 sets the highest bit of the first of eight bytes, the lowest being first,
// that isn't plain; of the bytes before it none, of those behind it some. Taking a
// constant from each byte borrows into its highest bit where the byte is smaller.
func special8(v uint64) uint64 {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	quote, backslash := v^('"'*ones), v^('\\'*ones)
	return (v | (v - ' '*ones) | (quote - ones) | (backslash - ones)) & high
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
