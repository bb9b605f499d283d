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

// maxFills is how often holes are filled for one batch. The next one goes on with the rest.
const maxFills = 40

// afterUnknown is called when a tree that stores batches in part has refused an identity
// as stored, and reading back showed neither that nor anything else at the batch's first index.
// Either another process has published the event just now: then planning again finds it. Or
// it lies behind missing entries, which two messages that cross can leave, no more of them
// than a batch has: their places are filled, 1, 2, 4, … at a time, until what is behind them
// shows. Or it lies nowhere: then the database was changed. It reports whether the events may
// be planned again.
func (s *Service) afterUnknown(ctx context.Context, err error, tried *tries) (again bool, _ error) {
	tried.unknown++
	switch {
	case tried.unknown == 1:
		return true, err
	case tried.filled >= maxBatchEvents:
		return false, s.refuse("the tree holds an event that the publication store doesn't know: the store was changed", err)
	case tried.fills == maxFills:
		return false, err
	}
	tried.fills++
	n := min(max(1, tried.filled), maxBatchEvents)
	behind, ferr := s.fill(ctx, n)
	if ferr != nil {
		return false, s.refuseDamage(ferr)
	}
	tried.filled += n
	if behind {
		tried.unknown, tried.filled = 0, 0
	}
	return true, err
}

// fill stores n events of the service's own from the first missing index on, or as many as
// there are places, and takes in what is stored behind them. It reports whether that is
// anything.
func (s *Service) fill(ctx context.Context, n int) (behind bool, _ error) {
	first := s.next
	w := &work{now: s.cfg.Now().UTC().Truncate(time.Second), batch: newBatch(first)}
	for i := range n {
		p, err := s.sealFill(first + uint64(i))
		if err != nil {
			return false, err
		}
		s.place(w, p)
	}
	s.log.Warn("entries are missing before others that are stored: filling their places", "first", first, "count", n)
	err := s.write(ctx, w)
	if err == nil {
		s.handOver(w.batch)
		s.cfg.Metrics.accepted.Add(float64(n))
	} else {
		s.forget(w.batch, err)
	}
	taken := errors.Is(err, tree.ErrIndexTaken) // by what is behind
	if err != nil && !taken {
		return false, fmt.Errorf("fill the places from entry %d on: %w", first, err)
	}
	s.unsure = true // of what is behind
	err = s.resync(ctx)
	return taken || s.next > first+uint64(n), err
}

// sealFill seals the event that fills the place of entry index.
func (s *Service) sealFill(index uint64) (*Pending, error) {
	fields, err := s.ownFields(OperatorCaller(), OwnTenant, event.Event{
		Action: ActionFill, Outcome: "success",
		Reason: &event.Reason{Code: "missing_entry", Text: "no entry was stored here, and others behind it were"},
		Target: []event.Target{{Type: "entry", ID: strconv.FormatUint(index, 10)}},
	})
	if err != nil {
		return nil, fmt.Errorf("log %s: %w", ActionFill, err)
	}
	return s.seal(OperatorCaller(), fields, nil)
}
