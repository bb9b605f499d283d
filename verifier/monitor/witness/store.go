package witness

import (
	"context"
	"errors"
	"slices"
)

// ErrConflict is matched by the error of a [Store.Swap] that found another record than the
// one it was to replace.
var ErrConflict = errors.New("another record is stored")

// Record is what a witness remembers of a log.
type Record struct {
	// Note is the latest cosigned head: the text, the log's signature line, and the
	// cosignatures as they were returned. It is kept whole, for together with another note of
	// the log it is evidence; size and hash alone could notice a second history, not prove it.
	Note []byte
	// Time is that of the newest cosignature ever made for this log, POSIX seconds.
	Time int64
}

// Equal reports whether two records are the same; nil is only equal to nil.
func (r *Record) Equal(o *Record) bool {
	if r == nil || o == nil {
		return r == o
	}
	return r.Time == o.Time && slices.Equal(r.Note, o.Note)
}

// Store keeps one record for each origin. Its methods are safe for concurrent use. Nobody
// but the witness writes to it, and no two witnesses share one.
type Store interface {
	// Load returns the record of an origin, nil if it never had one. A record that was stored
	// and can't be read, or isn't what was stored, is an error, never nil: a witness that
	// begins again would cosign a second history.
	Load(ctx context.Context, origin string) (*Record, error)
	// Swap replaces the record old (nil: there is none) by next, if old is what is stored, and
	// else changes nothing and returns an error that matches ErrConflict. When it returns nil,
	// next is on stable storage. After any other error either of the two may be stored, and
	// Load returns the one that a restart would find, or an error. It keeps neither argument.
	Swap(ctx context.Context, origin string, old, next *Record) error
}
