package personality

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/prooftrail/prooftrail/personality/tree"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// maxFills bounds the holes that are filled for one batch. The next goes on with the rest.
const maxFills = 16

// afterUnknown is called when a tree that stores batches in part has refused an identity
// as stored, and reading back showed neither that nor anything else at the batch's first index.
// Either another process has published the event just now: then planning again finds it. Or
// it lies behind a hole, which two processes without their turn can leave: the hole is
// filled, and what is behind it shows. Or it lies nowhere: then the database was changed. It
// reports whether the events may be planned again.
func (s *Service) afterUnknown(ctx context.Context, err error, tried *tries) (again bool, _ error) {
	tried.unknown++
	switch {
	case tried.unknown == 1:
		return true, err
	case tried.unknown > 3:
		return false, s.refuse("the tree holds an event that the publication store doesn't know: the store was changed", err)
	case tried.fills == maxFills:
		return false, err
	}
	tried.fills++
	first := s.next
	if ferr := s.fill(ctx); ferr != nil {
		return false, s.refuseDamage(ferr)
	}
	if s.next > first+1 { // something was behind it
		tried.unknown = 0
	}
	return true, err
}

// fill stores an event of the service's own at the first missing index, and takes in what
// is stored behind it.
func (s *Service) fill(ctx context.Context) error {
	index := s.next
	p, err := s.sealFill(index)
	if err != nil {
		return err
	}
	w := &work{now: s.cfg.Now().UTC().Truncate(time.Second), batch: newBatch(index)}
	s.place(w, p)
	s.log.Warn("an entry is missing before others that are stored: filling its place", "index", index)
	if err := s.write(ctx, w); err != nil {
		s.forget(w.batch)
		if !errors.Is(err, tree.ErrIndexTaken) { // else somebody else has filled it
			return fmt.Errorf("fill the place of entry %d: %w", index, err)
		}
	} else {
		s.handOver(w.batch)
		s.cfg.Metrics.accepted.Inc()
	}
	s.unsure = true // of what is behind it
	return s.resync(ctx)
}

// sealFill seals the event that fills the place of entry index.
func (s *Service) sealFill(index uint64) (*Pending, error) {
	fields, err := s.ownFields(OperatorCaller(), OwnTenant, event.Event{
		Action: ActionFill, Outcome: "success",
		Reason: &event.Reason{Code: "missing_entry", Text: "two servers wrote at once, and neither's entry was stored here"},
		Target: []event.Target{{Type: "entry", ID: strconv.FormatUint(index, 10)}},
	})
	if err != nil {
		return nil, fmt.Errorf("log %s: %w", ActionFill, err)
	}
	return s.seal(OperatorCaller(), fields)
}
