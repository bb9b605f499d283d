package personality

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/prooftrail/prooftrail/personality/pubstore"
)

// A hold on the stored head says why no server may go on from it: the log is being moved
// here, or has moved away (migrate.go). It is under the head's MAC, and it and the head
// change by one compare-and-swap. So a server that publishes and a hold that is put there
// can't cross each other: one of the two finds the other there.
type hold struct {
	Kind holdKind `json:"kind"`
	// Place is where the log comes from, or has moved to, for people.
	Place string `json:"place"`
	// TreeID is Trillian's tree there. A log's trees have an id each, and so it tells one
	// storage of the log from another.
	TreeID int64 `json:"tree_id"`
}

type holdKind string

const (
	holdArriving holdKind = "arriving"
	holdMoved    holdKind = "moved"
)

var (
	errArriving = errors.New("the log is being moved here")
	errMoved    = errors.New("the log has moved")
)

// maxPlace bounds Place, in bytes: a hold has MaxHold at most.
const maxPlace = 512

// text is what is stored.
func (h hold) text() (string, error) {
	b, err := json.Marshal(h)
	if err != nil {
		return "", fmt.Errorf("encode the hold: %w", err)
	}
	return string(b), nil
}

// parseHold reads a hold whose MAC has been checked. One of a kind that this version
// doesn't know holds all the same.
func parseHold(text string) hold {
	var h hold
	if err := json.Unmarshal([]byte(text), &h); err != nil {
		h = hold{Kind: holdKind(text)}
	}
	return h
}

// reason tells an operator.
func (h hold) reason() string {
	switch h.Kind {
	case holdMoved:
		return "this log has moved to " + h.Place + ": its servers run there. What is published here stays to be read"
	case holdArriving:
		return "this log is being moved here from " + h.Place + ", and that isn't finished: run `prooftrail migrate` again"
	}
	return fmt.Sprintf("the head is held (%q): a newer version of this program may know why", string(h.Kind))
}

func (h hold) err() error {
	if h.Kind == holdMoved {
		return errMoved
	}
	return errArriving
}

// checkHold makes the service refuse where the stored head, whose MAC is right, is held.
func (s *Service) checkHold(stored pubstore.SealedHead) error {
	if stored.Hold == "" {
		return nil
	}
	h := parseHold(stored.Hold)
	return s.refuse(h.reason(), h.err())
}
