package event

import (
	"bytes"
	"strconv"
	"strings"
	"sync"
)

// Canonical reads one JSON value of any kind, as strictly as an event and
// within the same limits of bytes and depth, and returns its canonical form
// (RFC 8785). Any error is an *Error. data is not kept.
func Canonical(data []byte) ([]byte, error) {
	if len(data) > MaxBytes {
		return nil, &Error{Code: CodeSize, Expected: "at most " + strconv.Itoa(MaxBytes) + " bytes"}
	}
	s := scanner{in: data, out: make([]byte, 0, len(data))}
	if err := s.value(1, false); err != nil {
		return nil, err
	}
	if err := s.end(); err != nil {
		return nil, err
	}
	return s.out, nil
}

// Cut reads the value of the field at pointer from the start of data, where it
// must stand in its canonical form (RFC 8785), and returns it and what follows
// it, both part of data. It checks what Parse checks of the text: depth is
// counted from the event that the field belongs to, and names are those of
// labels and details if the field is. Any error is an *Error.
func Cut(data []byte, pointer string) (value, rest []byte, err error) {
	scratch := cutBuffers.Get().(*[]byte)
	s := scanner{in: data, out: (*scratch)[:0]}
	defer func() {
		*scratch = s.out
		cutBuffers.Put(scratch)
	}()
	names := strings.HasPrefix(pointer, "/labels/") || strings.HasPrefix(pointer, "/details/")
	if err := s.value(strings.Count(pointer, "/")+1, names); err != nil {
		err.Pointer = pointer + err.Pointer
		return nil, nil, err
	}
	if !bytes.Equal(s.out, data[:s.pos]) {
		return nil, nil, &Error{Pointer: pointer, Code: CodeSyntax, Expected: "canonical JSON, RFC 8785"}
	}
	return data[:s.pos:s.pos], data[s.pos:], nil
}

// cutBuffers are where Cut writes what it compares with.
var cutBuffers = sync.Pool{New: func() any { return new([]byte) }}
