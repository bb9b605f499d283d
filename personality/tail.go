package personality

import (
	"context"
	"errors"
	"log/slog"

	"github.com/prooftrail/prooftrail/personality/tree"
)

// resync reads back what is stored past what this process knows of and makes it batches
// to publish, so that nothing stored is lost, written again or answered wrongly.
func (s *Service) resync(ctx context.Context) error {
	if s.shared() {
		if err := s.followHead(ctx); err != nil {
			return err
		}
	}
	return s.readTail(ctx)
}

// readTail is resync from the head that is known.
func (s *Service) readTail(ctx context.Context) error {
	for tried := 0; ; tried++ {
		err := s.readTailOnce(ctx)
		if !errors.Is(err, errOthers) || tried == maxMeetings {
			return err
		}
		if err := s.followHead(ctx); err != nil {
			return err
		}
	}
}

// readTailOnce returns errOthers if another process has published meanwhile what is read.
func (s *Service) readTailOnce(ctx context.Context) error {
	s.pendingMu.Lock()
	s.next = s.published.Load().head.Size
	if n := len(s.batches); n > 0 {
		s.next = max(s.next, s.batches[n-1].end())
	}
	s.pendingMu.Unlock()
	level := slog.LevelInfo
	if s.shared() {
		level = slog.LevelDebug // they may be published any moment, by who has stored them
	}
	tail := &tailReader{tree: s.tree}
	for {
		b, err := s.readBatch(ctx, tail, s.next)
		if err != nil {
			return err
		}
		if b == nil {
			break
		}
		s.log.Log(ctx, level, "found entries that were stored and not published", "first", b.first, "count", len(b.leaves))
		s.adopt(b)
		s.next = b.end()
	}
	s.unsure = false
	return nil
}

// adopt takes a recovered batch in as if it had just been written. Who has stored it may be
// about to publish it: the publisher is woken when the sequencer has stored its own, or has
// nothing to store.
func (s *Service) adopt(b *batch) {
	s.pendingMu.Lock()
	for i, l := range b.leaves {
		s.inflight[l.Identity] = inflight{index: b.first + uint64(i), leafHash: l.Hash, batch: b}
	}
	s.batches = append(s.batches, b)
	s.pendingMu.Unlock()
	s.stored(b)
	s.adopted = true
}

// tailReader reads what is stored past the head, many leaves at once: a log server gives them
// only together with all that is between the root and them.
type tailReader struct {
	tree   tree.Tree
	first  uint64
	leaves []tree.Leaf
	ended  bool // no leaf was stored behind them
}

// tailLeaves is how many leaves a tailReader asks for.
const tailLeaves = 20_000

// read returns up to count leaves from first on; fewer, or none, if the end comes first.
func (r *tailReader) read(ctx context.Context, first uint64, count int) ([]tree.Leaf, error) {
	var held []tree.Leaf
	if at := first - r.first; first >= r.first && at < uint64(len(r.leaves)) {
		held = r.leaves[at:]
	}
	atEnd := r.ended && first == r.first+uint64(len(r.leaves))
	if len(held) < count && !atEnd {
		var err error
		ask := max(count, tailLeaves)
		if held, err = r.tree.Leaves(ctx, first, ask); err != nil {
			return nil, err
		}
		r.first, r.leaves, r.ended = first, held, len(held) < ask
	}
	return held[:min(len(held), count)], nil
}
