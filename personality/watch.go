package personality

import (
	"context"
	"fmt"
	"time"

	"github.com/prooftrail/prooftrail/personality/tree"
)

// watch is what readiness looks at beside the unpublished batches: whether work
// gets done, not whether the process is alive. pendingMu guards it.
type watch struct {
	sequencing time.Time // when the batch being stored was begun; zero: none is
	failing    time.Time // when the first of the batches failed of which none has succeeded since; zero: none
}

// progress changes the watch.
func (s *Service) progress(change func(*watch)) {
	s.pendingMu.Lock()
	defer s.pendingMu.Unlock()
	change(&s.watch)
	s.observeOldest()
}

// isFailing reports whether the last batch could not be stored.
func (s *Service) isFailing() bool {
	s.pendingMu.Lock()
	defer s.pendingMu.Unlock()
	return !s.watch.failing.IsZero()
}

// oldest returns since when the oldest event waits for its publication, or events
// fail to be stored; zero if nothing waits. The caller holds pendingMu.
func (s *Service) oldest() time.Time {
	var oldest time.Time
	consider := func(t time.Time) {
		if !t.IsZero() && (oldest.IsZero() || t.Before(oldest)) {
			oldest = t
		}
	}
	consider(s.watch.sequencing)
	consider(s.watch.failing)
	if len(s.batches) > 0 {
		consider(s.batches[0].began)
	}
	return oldest
}

// observeOldest sets the metric. The caller holds pendingMu.
func (s *Service) observeOldest() {
	seconds := 0.0
	if t := s.oldest(); !t.IsZero() {
		seconds = float64(t.UnixNano()) / 1e9
	}
	s.cfg.Metrics.oldest.Set(seconds)
}

// Readiness is what /readyz tells: about work done, not about being alive.
type Readiness struct {
	Ready             bool          `json:"ready"`
	Reason            string        `json:"reason,omitempty"`
	Refusing          bool          `json:"refusing"`
	TreeSize          uint64        `json:"tree_size"`
	PublishedSize     uint64        `json:"published_size"`
	OldestUnpublished time.Duration `json:"oldest_unpublished_ns"`

	// Of a log with witnesses. Witnesses is quorum, missing (for less than the patience) or
	// lost; WitnessedSize is the size of the newest head that the quorum has cosigned.
	Witnesses     string `json:"witnesses,omitempty"`
	WitnessedSize uint64 `json:"witnessed_size,omitempty"`
}

// maxStall is how long Trillian's signers may leave the tree as it is while entries wait.
// They look for entries many times a second; only one that comes in for another takes longer.
const maxStall = 5 * time.Second

// stalled returns for how long the signers of a Trillian cluster have left their tree at a
// size while entries wait for them; 0 and 0 where they don't, or where there are none.
func (s *Service) stalled() (size uint64, long time.Duration) {
	cluster, ok := s.tree.(interface {
		Stalled() (size uint64, long time.Duration)
	})
	if !ok || s.drained() {
		return 0, 0
	}
	return cluster.Stalled()
}

// Ready reports whether the service does its work.
func (s *Service) Ready(context.Context) Readiness {
	r := Readiness{Ready: true, PublishedSize: s.published.Load().head.Size}
	r.TreeSize = r.PublishedSize
	s.pendingMu.Lock()
	if n := len(s.batches); n > 0 {
		r.TreeSize = s.batches[n-1].end()
	}
	if t := s.oldest(); !t.IsZero() {
		r.OldestUnpublished = time.Since(t)
	}
	failing := !s.watch.failing.IsZero()
	s.pendingMu.Unlock()
	if size, long := s.stalled(); long > maxStall {
		r.Ready, r.Reason = false, fmt.Sprintf("%v: their tree has had size %d for %s", tree.ErrStalled, size, long.Round(time.Second))
	}
	if r.OldestUnpublished > s.cfg.MaxLag {
		r.Ready = false
		switch {
		case r.Reason != "": // that explains it
		case failing:
			r.Reason = "events can't be stored"
		default:
			r.Reason = "the oldest unpublished event has waited too long"
		}
	}
	r.Witnesses, r.WitnessedSize = s.witnessState()
	if err := s.unwitnessed(); err != nil {
		r.Ready, r.Reason = false, err.Error()
	}
	if full := s.cfg.room.state(); full != roomy {
		r.Ready, r.Reason = false, s.cfg.room.why(full)
	}
	if s.isClosing() {
		r.Ready, r.Reason = false, ErrClosing.Error()
	}
	if f := s.fault.Load(); f != nil {
		r.Ready, r.Refusing, r.Reason = false, true, f.Reason
	}
	return r
}
