package verifier

import (
	"errors"
	"fmt"
)

// ErrFailed is matched (errors.Is) by every error of this package that says: what was
// checked does not hold. Every other error says that it could not be checked.
var ErrFailed = errors.New("FAILED")

// failedError is an accusation: its text is the reason alone.
type failedError struct{ err error }

func (e *failedError) Error() string        { return e.err.Error() }
func (e *failedError) Unwrap() error        { return e.err }
func (e *failedError) Is(target error) bool { return target == ErrFailed }

// failedf makes an error that matches ErrFailed.
func failedf(format string, args ...any) error {
	return &failedError{fmt.Errorf(format, args...)}
}
