package personality

import (
	"errors"
	"fmt"

	"github.com/prooftrail/prooftrail/personality/pubstore"
)

// The kinds of failure that callers tell apart; httpapi maps each to one HTTP
// status. What is none of these is an internal error.
var (
	// ErrUnauthorized: no credential, or one that isn't known or is revoked.
	ErrUnauthorized = errors.New("the credential is not valid")
	// ErrForbidden: the credential is valid but doesn't allow this.
	ErrForbidden = errors.New("the credential does not allow this")
	// ErrForeignSource: the credential may submit events, but not of this source.
	ErrForeignSource = fmt.Errorf("%w: it may not speak for this source", ErrForbidden)
	// ErrUnsigned: a registered key says that events of this source are signed, and this one isn't.
	ErrUnsigned = errors.New("events of this source must be signed")
	// ErrUnknownSourceKey: the event is signed by a key that isn't registered for its source, or
	// doesn't count yet, or has been revoked.
	ErrUnknownSourceKey = errors.New("the event is signed by a key that does not count for its source")
	// ErrNotFound: no such entry, event, tile, token or source key, as far as the caller may know.
	ErrNotFound = errors.New("not found")
	// ErrBeyondHead: the index or size asked for is past the published head.
	ErrBeyondHead = errors.New("past the published tree size")
	// ErrBusy: the queue had no room before the caller's time was up. Nothing was stored.
	ErrBusy = errors.New("the log is busy")
	// ErrFull: the disk has no room. Nothing was stored. The service goes on by itself
	// once there is some.
	ErrFull = errors.New("the disk is full")
	// ErrQuarantineFull: an item of a delivery belongs in the quarantine, and that is full. Items
	// that the log took have been stored; sending all of it again is safe.
	ErrQuarantineFull = pubstore.ErrQuarantineFull
	// ErrClosing: the service is shutting down. Nothing was stored.
	ErrClosing = errors.New("the log is shutting down")
	// ErrUnavailable: storage failed, and whether the event was stored is not
	// known. Sending the same event again is safe (I5) and gives the answer.
	ErrUnavailable = pubstore.ErrUnavailable
	// ErrDamaged: what is stored of the entry or tile that was asked for isn't what was
	// published, or is gone. Nobody but an operator can mend it.
	ErrDamaged = pubstore.ErrCorrupt
	// ErrRefusing: the service found its own log wrong, or behind what it had
	// signed (I2, I3), and sequences, signs and shows no content any more. The
	// error found is a [*Fault].
	ErrRefusing = errors.New("the log refuses to go on")
)

// Fault says why a service refuses to go on; it matches ErrRefusing.
type Fault struct {
	// Reason is a sentence for the operator, without content of events.
	Reason string
	// Err is what was found.
	Err error
}

func (f *Fault) Error() string { return fmt.Sprintf("%v: %s", ErrRefusing, f.Reason) }

// Unwrap makes errors.Is find ErrRefusing and the cause.
func (f *Fault) Unwrap() []error { return []error{ErrRefusing, f.Err} }

// InvalidError is a request that can't be carried out as it stands, in a
// member other than those of an event (for which see [event.Error]).
type InvalidError struct {
	// Field names the parameter or member.
	Field string
	// Expected says what would have been right.
	Expected string
}

func (e *InvalidError) Error() string { return e.Field + ": expected " + e.Expected }
