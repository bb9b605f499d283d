package personality

import (
	"context"
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
	taken := s.lookUpAll(ctx, events)
	for i, p := range events {
		p.err, p.status, p.conflictIndex = nil, "", 0 // of a plan that another process crossed
		first, err := taken[i].first, taken[i].err
		if err == nil && first == nil {
			first = s.lookUpInFlight(p.id) // by an event before it in this batch
		}
		if err == nil && first == nil && p.refusal != nil { // the one that it was taken for has failed
			p.err = p.refusal
			continue
		}
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
	if len(w.leaves) > 0 {
		if w.now.Before(s.lastTime) {
			s.cfg.Metrics.clockBack.Inc()
			s.log.Warn("the clock stepped back", "from", s.lastTime, "to", w.now)
		}
		s.lastTime = w.now
	}
	return w
}

// taken says which entry has an identity already; nil: none.
type taken struct {
	first *inflight
	err   error
}

// lookUpAll looks up the events' identities, in the store for all at once. Where that
// fails, it looks for each alone: one that can't be read must not cost the others.
func (s *Service) lookUpAll(ctx context.Context, events []*Pending) []taken {
	out := make([]taken, len(events))
	ids := make([][32]byte, 0, len(events))
	// Those in flight first: they leave there only after they are in the store.
	s.pendingMu.Lock()
	for i, p := range events {
		if in, ok := s.inflight[p.id]; ok {
			out[i].first = &in
		} else {
			ids = append(ids, p.id)
		}
	}
	s.pendingMu.Unlock()
	indexes, err := s.store.Indexes(ctx, ids)
	for i, p := range events {
		index, found := indexes[p.id]
		switch {
		case out[i].first != nil:
		case found:
			out[i].first, out[i].err = s.entryAt(ctx, index)
		case err != nil && len(ids) == 1:
			out[i].err = err
		case err != nil:
			out[i].first, out[i].err = s.lookUpPublished(ctx, p.id)
		}
	}
	return out
}

// lookUpInFlight returns the entry in flight that has the identity, or nil.
func (s *Service) lookUpInFlight(id [32]byte) *inflight {
	s.pendingMu.Lock()
	defer s.pendingMu.Unlock()
	if in, ok := s.inflight[id]; ok {
		return &in
	}
	return nil
}

// lookUp returns the entry that has the identity already, or nil.
func (s *Service) lookUp(ctx context.Context, id [32]byte) (*inflight, error) {
	if in := s.lookUpInFlight(id); in != nil {
		return in, nil
	}
	return s.lookUpPublished(ctx, id)
}

// lookUpPublished returns the published entry that has the identity, or nil.
func (s *Service) lookUpPublished(ctx context.Context, id [32]byte) (*inflight, error) {
	indexes, err := s.store.Indexes(ctx, [][32]byte{id})
	if err != nil {
		return nil, err
	}
	index, ok := indexes[id]
	if !ok {
		return nil, nil
	}
	return s.entryAt(ctx, index)
}

func (s *Service) entryAt(ctx context.Context, index uint64) (*inflight, error) {
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
	} else if stored, err = s.store.Opening(ctx, first.index, first.leafHash); err != nil {
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
	w.batch.leaves = append(w.batch.leaves, pubstore.LeafID{Hash: sealed.LeafHash, Identity: p.id})
	s.pendingMu.Lock()
	s.inflight[p.id] = inflight{index: p.index, leafHash: p.leafHash, batch: w.batch}
	s.pendingMu.Unlock()
}
