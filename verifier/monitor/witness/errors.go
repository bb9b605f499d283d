package witness

import (
	"errors"
	"fmt"
	"net/http"
)

// Each error of [Witness.Add] that is the client's matches (errors.Is) one of these, or is a
// [ConflictError]. Every other error is the witness's own: a store, a key, a clock.
var (
	// ErrMalformed: the request isn't what c2sp.org/tlog-witness calls for (400).
	ErrMalformed = errors.New("malformed request")
	// ErrNotSigned: "either no signature from a trusted key for the origin is present, or a
	// signature line's key name and ID match a trusted key but the signature itself fails to
	// verify" (403).
	ErrNotSigned = errors.New("not signed by the log")
	// ErrUnknownOrigin: "the checkpoint origin is unknown" (404).
	ErrUnknownOrigin = errors.New("unknown origin")
	// ErrInconsistent: the proof doesn't show that the head extends the one known (422).
	ErrInconsistent = errors.New("inconsistent")
	// ErrTooLarge: a request of more than [MaxRequestBytes] (413).
	ErrTooLarge = errors.New("request too large")
)

// ConflictError says that the old size of a request isn't the size of the latest cosigned
// head (409).
type ConflictError struct {
	Known uint64 // size of the latest cosigned head, 0 if there is none
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("old size differs from the known size %d", e.Known)
}

// statuses is the one place that maps errors to HTTP.
var statuses = []struct {
	err    error
	status int
}{
	{ErrMalformed, http.StatusBadRequest},
	{ErrNotSigned, http.StatusForbidden},
	{ErrUnknownOrigin, http.StatusNotFound},
	{ErrInconsistent, http.StatusUnprocessableEntity},
	{ErrTooLarge, http.StatusRequestEntityTooLarge},
}

// statusOf returns the status of an error, 500 for the witness's own.
func statusOf(err error) int {
	var conflict *ConflictError
	if errors.As(err, &conflict) {
		return http.StatusConflict
	}
	for _, s := range statuses {
		if errors.Is(err, s.err) {
			return s.status
		}
	}
	return http.StatusInternalServerError
}
