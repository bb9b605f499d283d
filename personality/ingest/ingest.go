// Package ingest is about events that other systems tell in forms of their own. An [Adapter] makes our
// events of one such form; it knows nothing of the log, and keeps nothing. What it can't translate is
// not lost: it says why, and the item waits in the quarantine until somebody has looked at it.
package ingest

import (
	"net/http"
	"net/url"
	"time"

	"github.com/prooftrail/prooftrail/verifier/event"
)

// Request is one delivery, authenticated already.
type Request struct {
	Header http.Header
	Query  url.Values // what the adapter's own parameters are in; "source" isn't one of them
	Body   []byte     // with no content coding any more
	// Source is the source that the sender's request names, "" if none. A form that names sources itself
	// may give others.
	Source string
	// Received is when the request came. It is the time of an item that has none.
	Received time.Time
	// ID makes an id for an item that has none: an HMAC of the parts under a secret of the log, so that
	// the same item sent again has the same id, and nothing can be learned from it.
	ID func(parts ...string) string
}

// Item is one of the things that a request tells.
type Item struct {
	// Raw is the item as it came, alone: what ingest.raw_sha256 is of, and what the quarantine keeps.
	Raw []byte
	// Event is what was made of it, if Err is nil. Secrets in it are masked by the adapter's caller.
	Event event.Event
	// Skip says that the item is no matter for an audit log, such as the first stage of a request whose
	// last one follows.
	Skip bool
	// Err says what is wrong with the item, naming the member and what was expected. It goes
	// to the quarantine then.
	Err error
}

// Adapter translates requests of one form. It is safe for concurrent use.
type Adapter interface {
	// Name is the adapter's name in paths and in ingest.adapter.
	Name() string
	// Translate splits a request into items, in order. The error is for a request of which no items can be
	// told apart: it is refused as a whole.
	Translate(r *Request) ([]Item, error)
}
