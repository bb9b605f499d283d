package personality

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prooftrail/prooftrail/personality/pubstore"
	"github.com/prooftrail/prooftrail/personality/tree"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

// A batch is the entries of one group commit, or those that recovery found
// stored and unpublished.
type batch struct {
	first  uint64
	hashes [][32]byte // leaf hashes, as sealed or read back
	count  int
	ids    [][32]byte // identity hashes, to forget once published
	began  time.Time

	// Set by the publisher before it closes published.
	published chan struct{}
	head      *publishedHead
	err       error
}

func (b *batch) end() uint64 { return b.first + uint64(b.count) }

// inflight is an entry that has an identity; in the map of that name, one that
// is sequenced and not yet published.
type inflight struct {
	index    uint64
	leafHash [32]byte
	opening  []byte // nil: it is in the store
	batch    *batch // nil: it is published
}

// sequenceAll is the sequencer: one group commit at a time, of whatever has
// queued up while the one before was being written. It ends when the queue is
// closed and empty, or ctx ends.
func (s *Service) sequenceAll(ctx context.Context) {
	defer close(s.wake)
	var left *Pending
	for {
		events, next, open := s.take(ctx, left)
		if len(events) > 0 {
			s.sequence(ctx, events)
		}
		if left = next; left == nil && !open {
			return
		}
	}
}

// take waits for an event and returns it with all that are queued behind it,
// within the limits of a batch. left is what the batch before had no room for.
func (s *Service) take(ctx context.Context, left *Pending) (events []*Pending, next *Pending, open bool) {
	if left == nil {
		select {
		case p, ok := <-s.queue:
			if !ok {
				return nil, nil, false
			}
			left = p
		case <-ctx.Done():
			s.failQueued()
			return nil, nil, false
		}
	}
	events = append(events, left)
	bytes := left.size
	for len(events) < s.cfg.MaxBatch {
		select {
		case p, ok := <-s.queue:
			if !ok {
				return events, nil, false
			}
			if bytes += p.size; bytes > maxBatchBytes {
				return events, p, true
			}
			events = append(events, p)
		default:
			return events, nil, true
		}
	}
	return events, nil, true
}

// failQueued answers what is still queued when the service stops in a hurry.
func (s *Service) failQueued() {
	for {
		select {
		case p, ok := <-s.queue:
			if !ok {
				return
			}
			p.fail(ErrClosing)
		default:
			return
		}
	}
}

func (p *Pending) fail(err error) {
	p.err = err
	close(p.ready)
}

func failAll(events []*Pending, err error) {
	for _, p := range events {
		p.fail(err)
	}
}

// sequence gives each event its index and stores leaves and openings durably.
func (s *Service) sequence(ctx context.Context, events []*Pending) {
	began := time.Now()
	if err := s.refusing(); err != nil {
		failAll(events, err)
		return
	}
	if s.unsure {
		if err := s.resync(ctx); err != nil {
			failAll(events, fmt.Errorf("%w: %w", ErrUnavailable, err))
			return
		}
	}
	w := s.plan(ctx, events)
	if len(w.leaves) > 0 {
		if err := s.write(ctx, w); err != nil {
			s.log.Error("storing a batch failed", "events", len(w.leaves), "first", w.batch.first, "error", err)
			s.forget(w.batch)
			failAll(events, fmt.Errorf("%w: %w", ErrUnavailable, err))
			if s.unsure {
				s.resyncOrLog(ctx)
			}
			return
		}
		s.handOver(w.batch)
		s.cfg.Metrics.accepted.Add(float64(len(w.leaves)))
		s.cfg.Metrics.batch.Observe(float64(len(w.leaves)))
		s.cfg.Metrics.since("sequence", began)
	}
	for _, p := range events {
		close(p.ready)
	}
}

// resyncOrLog tries at once to learn what a failed write left; if that fails
// too, the next batch tries again.
func (s *Service) resyncOrLog(ctx context.Context) {
	if err := s.resync(ctx); err != nil {
		s.log.Error("reading back after a failed write failed", "error", err)
	}
}

// work is a group commit in the making.
type work struct {
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
		batch:  &batch{first: s.next, began: time.Now(), published: make(chan struct{})},
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
	opening := first.opening
	if opening == nil {
		var err error
		if opening, err = s.store.Opening(ctx, first.leafHash); err != nil {
			return fmt.Errorf("compare with entry %d: %w", first.index, notAMiss(err))
		}
	}
	o, err := seal.ParseOpening(opening)
	if err != nil {
		return fmt.Errorf("compare with entry %d: %w", first.index, err)
	}
	p.index, p.leafHash, p.batch, p.opening = first.index, first.leafHash, first.batch, opening
	if o.SameSubmission(p.fields.Submitted()) {
		p.status = StatusDuplicate
		s.cfg.Metrics.duplicates.Inc()
		return nil
	}
	p.status = StatusConflict
	s.cfg.Metrics.refused.WithLabelValues(string(StatusConflict)).Inc()
	return s.recordConflict(ctx, w, p)
}

// recordConflict puts the audit.conflict event of p into the batch, unless the
// same attempt has been logged before.
func (s *Service) recordConflict(ctx context.Context, w *work, p *Pending) error {
	c, err := s.sealConflict(p)
	if err != nil {
		return err
	}
	logged, err := s.lookUp(ctx, c.id)
	if err != nil {
		return err
	}
	if logged == nil {
		s.place(w, c)
		p.conflictIndex = c.index
		return nil
	}
	p.conflictIndex = logged.index
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
	s.inflight[p.id] = inflight{index: p.index, leafHash: p.leafHash, opening: p.opening, batch: w.batch}
	s.pendingMu.Unlock()
}

// write stores the batch: openings, then leaves. After anything but plain
// success of the latter nothing is known until resync has read back what is
// there. Its events are answered ErrUnavailable all the same: what can be read
// isn't durable for sure until a later write has been synced. Sent again, they
// are found (I5).
func (s *Service) write(ctx context.Context, w *work) error {
	if err := s.store.PutOpenings(ctx, w.openings); err != nil {
		return err // no leaf has been written: the openings are orphans
	}
	err := s.tree.Append(ctx, w.leaves)
	if err == nil {
		s.next = w.batch.end()
		return nil
	}
	s.unsure = true
	return err
}

// resync reads back what is stored past the published head and makes it a batch
// to publish, so that nothing stored is lost, written again or answered wrongly.
func (s *Service) resync(ctx context.Context) error {
	s.pendingMu.Lock()
	from := s.published.Load().head.Size
	if n := len(s.batches); n > 0 {
		from = s.batches[n-1].end()
	}
	s.pendingMu.Unlock()
	s.next = from
	for {
		leaves, err := s.tree.Leaves(ctx, s.next, s.cfg.MaxBatch)
		if err != nil {
			return fmt.Errorf("read back from entry %d: %w", s.next, err)
		}
		if len(leaves) == 0 {
			break
		}
		b, err := recovered(leaves, s.next)
		if err != nil {
			return err
		}
		s.log.Info("found entries that were stored and not published", "first", b.first, "count", b.count)
		s.adopt(b)
		s.next = b.end()
	}
	s.unsure = false
	return nil
}

// recovered makes a batch of leaves read back, which start at index first.
func recovered(leaves []tree.Leaf, first uint64) (*batch, error) {
	b := &batch{first: first, count: len(leaves), began: time.Now(), published: make(chan struct{})}
	for i, l := range leaves {
		if l.Index != first+uint64(i) {
			return nil, fmt.Errorf("read back: got entry %d for %d", l.Index, first+uint64(i))
		}
		b.hashes = append(b.hashes, leafHashOf(l.Value))
		b.ids = append(b.ids, l.IdentityHash)
	}
	return b, nil
}

// adopt takes a recovered batch in as if it had just been written.
func (s *Service) adopt(b *batch) {
	s.pendingMu.Lock()
	for i, id := range b.ids {
		s.inflight[id] = inflight{index: b.first + uint64(i), leafHash: b.hashes[i], batch: b}
	}
	s.pendingMu.Unlock()
	s.handOver(b)
}

// handOver gives a stored batch to the publisher.
func (s *Service) handOver(b *batch) {
	s.pendingMu.Lock()
	s.batches = append(s.batches, b)
	s.cfg.Metrics.oldest.Set(float64(s.batches[0].began.UnixNano()) / 1e9)
	s.pendingMu.Unlock()
	s.cfg.Metrics.stored.Set(float64(b.end()))
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// forget drops the identities of a batch that was published, or that wasn't written.
func (s *Service) forget(b *batch) {
	s.pendingMu.Lock()
	defer s.pendingMu.Unlock()
	s.forgetLocked(b)
}

func (s *Service) forgetLocked(b *batch) {
	for _, id := range b.ids {
		if s.inflight[id].batch == b {
			delete(s.inflight, id)
		}
	}
}
