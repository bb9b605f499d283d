// Package ingest is about events that other systems tell in forms of their own. An [Adapter] makes our
// events of one such form; it knows nothing of the log, and keeps nothing. What it can't translate is
// not lost: it says why, and the item waits in the quarantine until somebody has looked at it.
//
// # The life of a delivery
//
//  1. package httpapi reads the body, within its limits, and undoes its gzip coding.
//  2. The adapter splits it into items and makes an event of each, or says what is wrong.
//  3. Each item is charged against the token's rate.
//  4. package personality masks secrets, stamps, and submits each event. An item that couldn't be
//     translated, and one whose event the log refuses, goes to the quarantine.
//  5. Every item is in the log or in the quarantine, on stable storage: then the answer is 2xx, in the
//     form of the adapter's protocol ([Answerer]) or of ours. A delivery that was cut off before is
//     sent again by its sender, and what was taken already is then a duplicate, since ids stay the same.
//
// # Registering an adapter
//
// Adapters of the server are listed in cmd/prooftrail/adapters.go. The name is the last part of the path,
// POST /v1/ingest/{name}. What proves itself otherwise than by a bearer token comes through
// a door: see package webhook.
package ingest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/prooftrail/prooftrail/verifier/event"
)

// Request is one delivery, authenticated already.
type Request struct {
	Header http.Header // without credentials
	Query  url.Values  // what the adapter's own parameters are in; "source" isn't one of them
	Body   []byte      // with no content coding any more
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
	// Raw is the item as it came, alone: what ingest.raw_sha256 is of, and what the quarantine keeps. To be
	// replayed from there it is translated again as the Body of a request, with the same Source and
	// Query and the Header that follows: Translate must make the same of it then.
	Raw []byte
	// Header is what of the request's header the item needs for that. Nil: Content-Type, if there is one.
	// No credential belongs in it.
	Header http.Header
	// Event is what was made of it, if Err is nil. Secrets in it are masked by the adapter's caller, who also
	// sets the labels that begin with [LabelPrefix].
	Event event.Event
	// Untimed says that the item has no time of its own, and the event has the request's. Sent again, it gets the
	// time that the log has of it, and is a duplicate.
	Untimed bool
	// Skip says that the item is no matter for an audit log, such as the first stage of a request whose
	// last one follows.
	Skip bool
	// Err says what is wrong with the item, naming the member and what was expected. It goes
	// to the quarantine then. Its text is shown to operators and to the sender: no values in it.
	Err error
}

// LabelPrefix begins the labels that tell how an event came. Of an event with ingest.adapter they are the
// service's; of any other one they are its source's word.
const LabelPrefix = "ingest."

// LabelSender is the label that says how sure it is who sent an event, one of the Sender constants or what a
// door is configured with. That somebody sent it says nothing about whether the actor in it is true:
// that is the sender's word.
const LabelSender = LabelPrefix + "sender"

// How sure it is who sent an event.
const (
	SenderToken = "token" // whoever holds the bearer token
	SenderHMAC  = "hmac"  // whoever holds the secret that the request was signed with
)

// Status is what became of an item.
type Status string

// The statuses of a Result.
const (
	Accepted    Status = "accepted"    // in the log, under a new index
	Duplicate   Status = "duplicate"   // it was there already
	Conflict    Status = "conflict"    // the log has another event under its id; in the quarantine
	Rejected    Status = "rejected"    // the log refused the event; in the quarantine
	Quarantined Status = "quarantined" // it couldn't be translated; in the quarantine
	Skipped     Status = "skipped"     // no matter for the log
)

// Statuses are all of them.
var Statuses = []Status{Accepted, Duplicate, Conflict, Rejected, Quarantined, Skipped}

// Result answers one item.
type Result struct {
	Status     Status
	Index      uint64 // of the entry; of the first one for Duplicate and Conflict
	Quarantine string // the item's id in the quarantine; "" if it isn't there
	Reason     string // what was wrong, of what is in the quarantine
}

// MarshalJSON writes the result as answers and the command line show it.
func (r Result) MarshalJSON() ([]byte, error) {
	v := struct {
		Status     Status  `json:"status"`
		Index      *uint64 `json:"index,omitempty"`
		Quarantine string  `json:"quarantine,omitempty"`
		Reason     string  `json:"reason,omitempty"`
	}{Status: r.Status, Quarantine: r.Quarantine, Reason: r.Reason}
	if r.Status == Accepted || r.Status == Duplicate || r.Status == Conflict {
		v.Index = &r.Index
	}
	return json.Marshal(v)
}

// Answers is the answer in our own form: {"results": […]}, with status 200.
func Answers(results []Result) (Answer, error) {
	if results == nil {
		results = []Result{}
	}
	body, err := json.Marshal(struct {
		Results []Result `json:"results"`
	}{results})
	return Answer{Status: http.StatusOK, ContentType: "application/json", Body: body}, err
}

// Answer is what a request is answered with.
type Answer struct {
	Status      int    // of HTTP, 2xx: all items are safe
	ContentType string // "" without a body
	Body        []byte
}

// Answerer is an [Adapter] whose protocol has an answer of its own, such as the partial success of OTLP.
type Answerer interface {
	// Answer makes the answer. There is a result for each item, in order.
	Answer(r *Request, results []Result) Answer
}

// MaxItems is how many items a request has at most.
const MaxItems = 10_000

// ErrTooManyItems: the request has more. An adapter stops there, for items take more memory than what they are
// made of.
var ErrTooManyItems = fmt.Errorf("it has more than %d items", MaxItems)

// Adapter translates requests of one form. It is safe for concurrent use.
type Adapter interface {
	// Name is the adapter's name in paths and in ingest.adapter.
	Name() string
	// Translate splits a request into items, in order. The error is for a request of which no items can be
	// told apart: it is refused as a whole.
	Translate(r *Request) ([]Item, error)
}
