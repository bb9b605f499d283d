package monitor

import (
	"context"
	"errors"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
)

// Standing is what is known of a signed head.
type Standing byte

const (
	// Open: it couldn't be brought together with what the log has shown, nor be proven to
	// contradict it.
	Open Standing = 'o'
	// Agreed: it is of one history with the heads followed.
	Agreed Standing = 'a'
	// Forked: there is evidence that it isn't.
	Forked Standing = 'f'
)

// Head is a signed head that was seen somewhere.
type Head struct {
	verifier.Checkpoint
	Note     []byte    // with the log's signature alone
	Seen     time.Time // when first
	From     string    // where first: the log, a peer's name, the address of a submitter
	Standing Standing
}

// Counts says how many heads of a log a book holds.
type Counts struct {
	Open, Agreed, Forked uint64
	// Dropped are heads that were seen and aren't kept: the oldest agreed ones, to make room,
	// and open or forked ones when there was none.
	Dropped uint64
}

// ErrFull is matched by the error of [Book.Add] when a log has so many open or forked heads that
// another one isn't kept. Only the log itself can sign so many.
var ErrFull = errors.New("too many heads of this log that don't agree")

// Book keeps every distinct head that was seen, and the state of each log. What its methods have
// stored is on stable storage when they return. They are safe for concurrent use.
type Book interface {
	// Add stores a head unless one of its size and root is there. It returns the head as it is
	// stored, and whether it is new.
	Add(ctx context.Context, h Head) (stored Head, isNew bool, err error)
	// Judge changes the standing of a stored head; one that isn't stored is no error.
	Judge(ctx context.Context, c verifier.Checkpoint, s Standing) error
	// SameSize returns the heads of the same log and size with another root.
	SameSize(ctx context.Context, c verifier.Checkpoint) ([]Head, error)
	// Open returns at most limit open heads of a log, in order of size, from a size on.
	Open(ctx context.Context, origin string, from uint64, limit int) ([]Head, error)
	// Counts counts the heads of a log.
	Counts(ctx context.Context, origin string) (Counts, error)
	// State returns what PutState stored, nil if nothing.
	State(ctx context.Context, origin string) ([]byte, error)
	PutState(ctx context.Context, origin string, state []byte) error
}
