package personality

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prooftrail/prooftrail/personality/pubstore"
	"github.com/prooftrail/prooftrail/personality/tree"
	"github.com/prooftrail/prooftrail/verifier/event"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

// work is a group commit in the making.
type work struct {
	failed   int // events that got an error of their own
	opened   map[[32]byte]*opened
	now      time.Time
	batch    *batch
	leaves   []tree.Leaf
	openings []pubstore.Opening
}

// plan decides which events are new, gives those the next indices, and the
// others the index that their identity has already. An event whose identity
// can't be looked into fails, alone.
func (s *Service) plan(ctx context.Context, events []*Pending) *work {
	w := &work{
		now:    s.cfg.Now().UTC().Truncate(time.Second),
		batch:  newBatch(s.next),
		leaves: make([]tree.Leaf, 0, len(events)), openings: make([]pubstore.Opening, 0, len(events)),
	}
	for _, p := range events {
		first, err := s.lookUp(ctx, p.id)
		if err == nil && first == nil {
			p.status = StatusAccepted
			s.place(w, p)
			continue
		}
		if err == nil {
			err = s.compare(ctx, w, p, first)
		}
		if err != nil {
			p.err = fmt.Errorf("%w: %w", ErrUnavailable, err)
			w.failed++
		}
	}
	w.batch.count = len(w.leaves)
	if len(w.leaves) > 0 {
		if w.now.Before(s.lastTime) {
			s.cfg.Metrics.clockBack.Inc()
			s.log.Warn("the clock stepped back", "from", s.lastTime, "to", w.now)
		}
		s.lastTime = w.now
	}
	return w
}

// lookUp returns the entry that has the identity already, or nil. It looks among
// those in flight first: they leave there only after they are in the store.
func (s *Service) lookUp(ctx context.Context, id [32]byte) (*inflight, error) {
	s.pendingMu.Lock()
	in, ok := s.inflight[id]
	s.pendingMu.Unlock()
	if ok {
		return &in, nil
	}
	index, err := s.store.Index(ctx, id)
	if errors.Is(err, pubstore.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	leafHash, err := s.leafHash(ctx, index)
	if err != nil {
		return nil, err
	}
	return &inflight{index: index, leafHash: leafHash}, nil
}

// compare decides between duplicate and conflict (I5): the entry that has the
// identity must hold the same submitted fields. A conflict is logged in this same
// batch, whatever becomes of the one who sent it.
func (s *Service) compare(ctx context.Context, w *work, p *Pending, first *inflight) error {
	o, err := s.openFirst(ctx, w, first)
	if err != nil {
		return fmt.Errorf("compare with entry %d: %w", first.index, err)
	}
	for _, pointer := range []string{"/tenant", "/source", "/id"} {
		if o.event.Text(pointer) != p.fields.Text(pointer) {
			return fmt.Errorf("compare with entry %d: %w: it has another %s than its identity says", first.index, pubstore.ErrCorrupt, pointer)
		}
	}
	p.index, p.leafHash, p.batch = first.index, first.leafHash, first.batch
	if o.SameSubmission(p.fields.Submitted()) {
		p.status, p.opening = StatusDuplicate, o.bytes
		s.cfg.Metrics.duplicates.Inc()
		return nil
	}
	p.status = StatusConflict
	s.cfg.Metrics.refused.WithLabelValues(string(StatusConflict)).Inc()
	return s.recordConflict(ctx, w, p)
}

// opened is an entry's opening, checked against its leaf.
type opened struct {
	*seal.Opening
	event event.Fields
	bytes []byte
}

// openFirst opens the entry that events of the batch are compared with, once: from
// the batch in the making, or from the store. What is stored is believed only if
// it opens the leaf.
func (s *Service) openFirst(ctx context.Context, w *work, first *inflight) (*opened, error) {
	if o, ok := w.opened[first.leafHash]; ok {
		return o, nil
	}
	var stored []byte
	var err error
	if first.batch == w.batch {
		stored = w.openings[first.index-w.batch.first].Bytes
	} else if stored, err = s.store.Opening(ctx, first.leafHash); err != nil {
		return nil, notAMiss(err)
	}
	o, err := seal.ParseOpening(stored)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", pubstore.ErrCorrupt, err)
	}
	if o.LeafHash() != first.leafHash {
		return nil, fmt.Errorf("%w: its opening is not of its leaf", pubstore.ErrCorrupt)
	}
	if w.opened == nil {
		w.opened = map[[32]byte]*opened{}
	}
	w.opened[first.leafHash] = &opened{o, o.Event(), stored}
	return w.opened[first.leafHash], nil
}

// recordConflict puts the audit.conflict event of p into the batch, unless the
// same attempt has been logged before.
func (s *Service) recordConflict(ctx context.Context, w *work, p *Pending) error {
	id := s.conflictID(p)
	logged, err := s.lookUp(ctx, s.identity(p.fields.Text("/tenant"), s.ownSource(), id))
	if err != nil {
		return err
	}
	if logged != nil {
		p.conflictIndex = logged.index
		return nil
	}
	c, err := s.sealConflict(p, id)
	if err != nil {
		return err
	}
	s.place(w, c)
	p.conflictIndex = c.index
	return nil
}

// place gives a new event the next index of the batch.
func (s *Service) place(w *work, p *Pending) {
	sealed := p.sealed.At(w.now)
	p.index, p.leafHash, p.opening, p.batch = w.batch.first+uint64(len(w.leaves)), sealed.LeafHash, sealed.Opening, w.batch
	w.leaves = append(w.leaves, tree.Leaf{Index: p.index, Value: sealed.Leaf, IdentityHash: p.id})
	w.openings = append(w.openings, pubstore.Opening{LeafHash: sealed.LeafHash, Bytes: sealed.Opening})
	w.batch.hashes = append(w.batch.hashes, sealed.LeafHash)
	w.batch.ids = append(w.batch.ids, p.id)
	s.pendingMu.Lock()
	s.inflight[p.id] = inflight{index: p.index, leafHash: p.leafHash, batch: w.batch}
	s.pendingMu.Unlock()
}
