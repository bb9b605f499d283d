package event

import "strconv"

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
