package personality

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/prooftrail/prooftrail/personality/pubstore"
	"github.com/prooftrail/prooftrail/personality/tree"
)

// A batch is the entries of one group commit, or those that recovery found
// stored and unpublished.
type batch struct {
	first  uint64
	leaves []pubstore.LeafID // as sealed or read back
	marks  []pubstore.Mark   // that cover it, to drop once it is published
	began  time.Time

	// Once, from the publisher: whether what it wrote has made the batch durable.
	synced chan bool
	told   bool // that has been sent; pendingMu guards it

	// Set by the publisher before it closes published.
	published chan struct{}
	head      *publishedHead
	err       error
}

func newBatch(first uint64) *batch {
	return &batch{first: first, began: time.Now(), synced: make(chan bool, 1), published: make(chan struct{})}
}

func (b *batch) end() uint64 { return b.first + uint64(len(b.leaves)) }

// inflight is an entry that has an identity; in the map of that name, one that
// is sequenced and not yet published.
type inflight struct {
	index    uint64
	leafHash [32]byte
	batch    *batch // nil: it is published
}

// sequenceAll is the sequencer: one group commit at a time, of whatever has
// queued up while the one before was being written. It ends when the queue is
// closed and empty, or ctx ends.
func (s *Service) sequenceAll(ctx context.Context) {
	defer close(s.wake)
	for first, open := s.first(ctx); ; first, open = s.first(ctx) {
		for first != nil {
			first, open = s.sequence(ctx, first)
			s.yield(ctx)
		}
		if !open {
			if ctx.Err() == nil { // else its connection ends, a moment later
				s.endTurn(ctx)
			}
			return
		}
	}
}

// take returns an event with all that are queued behind it, within the limits of a batch,
// and what the batch has no room for.
func (s *Service) take(first *Pending) (events []*Pending, next *Pending, open bool) {
	events = append(events, first)
	bytes := first.size
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

// probeEvery is how often storage is looked at while it fails.
const probeEvery = time.Second

// first waits for an event; nil when the queue is closed, or something else was done.
func (s *Service) first(ctx context.Context) (p *Pending, open bool) {
	s.publishAdopted()
	if s.hasTurn && s.drained() && len(s.queue) == 0 {
		s.endTurn(ctx)
	}
	var retry <-chan time.Time
	if s.unsure || s.isFailing() {
		timer := time.NewTimer(probeEvery)
		defer timer.Stop()
		retry = timer.C
	}
	var heldUp <-chan time.Time // publishing, and with it the turn's end
	if s.hasTurn {
		timer := time.NewTimer(yieldEvery)
		defer timer.Stop()
		heldUp = timer.C
	}
	select {
	case p, open = <-s.queue:
		// Whoever is about to submit goes first, so that busy cores make large batches.
		runtime.Gosched()
		return p, open
	case <-s.idle:
		return nil, true
	case <-s.called:
		s.catchUp(ctx)
		return nil, true
	case <-heldUp:
		s.yield(ctx)
		return nil, true
	case <-retry:
		s.probe(ctx)
		return nil, true
	case <-ctx.Done():
		s.failQueued()
		return nil, false
	}
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

// sequenced lets the event's submitter go on. What only sequencing needs of it is
// dropped: the submitter may hold it for long.
func (p *Pending) sequenced() {
	p.fields, p.sealed = nil, nil
	p.s.budget.Release(p.charge())
	close(p.ready)
}

func (p *Pending) fail(err error) {
	p.err = err
	p.sequenced()
}

func failAll(events []*Pending, err error) {
	for _, p := range events {
		p.fail(err)
	}
}

// sequence gives each event of a batch its index and stores leaves and openings durably.
// first is the batch's first event, next that of the one behind it if there was no room
// for it. What is queued while a turn is waited for is in the batch.
func (s *Service) sequence(ctx context.Context, first *Pending) (next *Pending, open bool) {
	began := time.Now()
	s.progress(func(w *watch) { w.sequencing = began })
	err := s.maySequence(ctx)
	events, next, open := s.take(first)
	if err != nil {
		failAll(events, err)
	} else if events = s.withRoom(events); len(events) > 0 {
		err = s.sequenceBatch(ctx, events, began)
	}
	s.progress(func(w *watch) {
		w.sequencing = time.Time{}
		switch {
		case err == nil:
			w.failing = time.Time{}
		case w.failing.IsZero() && !errors.Is(err, ErrBusy): // the entries that wait tell of that
			w.failing = began
		}
	})
	s.publishAdopted()
	s.brake(ctx, err)
	return next, open
}

// maxBrake bounds the pause after a batch that a cluster didn't store.
const maxBrake = time.Second

// brake waits before the next batch, longer each time, while a cluster stores none: the
// batch's openings are in our own database already, and each time it is sent again they
// would be there once more.
func (s *Service) brake(ctx context.Context, err error) {
	if err == nil || !s.parts.splits || !errors.Is(err, ErrUnavailable) {
		s.braked = 0
		return
	}
	s.braked = min(max(10*time.Millisecond, 2*s.braked), maxBrake)
	select {
	case <-time.After(s.braked):
	case <-s.closing:
	case <-ctx.Done():
	}
}

// appendDoubt is for how long after a cluster didn't store a batch it isn't taken to be well
// again: longer than readiness waits before it says so.
const appendDoubt = 15 * time.Second

// probe finds out whether storage works again after it failed, so that readiness
// doesn't wait for an event that nobody sends to a service that isn't ready.
func (s *Service) probe(ctx context.Context) {
	if s.parts.splits && time.Since(s.appendFailed) < appendDoubt {
		return // whether a cluster stores nothing isn't seen from here
	}
	if err := s.maySequence(ctx); err != nil {
		return
	}
	if _, err := s.store.Indexes(ctx, make([][32]byte, 1)); err != nil {
		return
	}
	if err := s.store.Sync(ctx); err != nil {
		return
	}
	s.progress(func(w *watch) { w.failing = time.Time{} })
}

// maySequence checks what must hold before any batch.
func (s *Service) maySequence(ctx context.Context) error {
	if err := s.refusing(); err != nil {
		return err
	}
	if err := s.beginTurn(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if s.unsure {
		if err := s.resync(ctx); err != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, s.refuseDamage(err))
		}
	}
	if s.next >= s.published.Load().head.Size+uint64(s.cfg.MaxUnpublished) {
		return fmt.Errorf("%w: too many entries wait for publication", ErrBusy)
	}
	return nil
}

// maxMeetings is how often a batch is planned anew because another process took its place.
const maxMeetings = 3

// tries counts how often storing the same events has failed, and why.
type tries struct {
	met     int // another process took the place
	unknown int // in a row, an identity was stored that couldn't be found; see afterUnknown
	fills   int // how often places were filled
	filled  int // in a row, places that were filled without anything behind them
}

// storeBatch plans the events' batch and writes it. Where another process was faster,
// it plans it anew behind what is there then.
func (s *Service) storeBatch(ctx context.Context, events []*Pending) (*work, error) {
	var tried tries
	for {
		w := s.plan(ctx, events)
		if len(w.leaves) == 0 {
			return w, nil
		}
		err := s.write(ctx, w)
		if err == nil {
			s.handOver(w.batch)
			return w, nil
		}
		s.log.Error("storing a batch failed", "events", len(w.leaves), "first", w.batch.first, "error", err)
		s.forget(w.batch, err)
		again, err := s.afterFailure(ctx, w.batch.first, err, &tried)
		if !again {
			return nil, err
		}
	}
}

func (s *Service) sequenceBatch(ctx context.Context, events []*Pending, began time.Time) error {
	w, err := s.storeBatch(ctx, events)
	if err != nil {
		failAll(events, err)
		return err
	}
	if w.failed == len(events) {
		for _, p := range events {
			p.sequenced() // each with its own error
		}
		return events[0].err
	}
	// Duplicates and conflicts too tell of entries that may be in flight.
	if err := s.syncEntries(ctx, w.batch); err != nil {
		s.log.Error("syncing a batch failed", "events", len(w.leaves), "first", w.batch.first, "error", err)
		err = fmt.Errorf("%w: %w", ErrUnavailable, err)
		failAll(events, err)
		return err
	}
	if len(w.leaves) > 0 {
		s.cfg.Metrics.accepted.Add(float64(len(w.leaves)))
		s.cfg.Metrics.batch.Observe(float64(len(w.leaves)))
		s.cfg.Metrics.since("sequence", began)
	}
	for _, p := range events {
		p.sequenced()
	}
	return nil
}

// syncEntries makes the entries in flight durable, unless they are: no event is
// answered before that, with whatever answer. newest is the batch just stored; it may
// be empty.
func (s *Service) syncEntries(ctx context.Context, newest *batch) error {
	if !s.unsynced {
		return nil
	}
	if len(newest.leaves) == 0 || !newest.syncedByPublisher() {
		if err := s.store.Sync(ctx); err != nil {
			return err
		}
	}
	s.unsynced = false
	return nil
}

// syncPatience is how long the sequencer waits for the publisher's sync before it makes
// one of its own. Only a publisher that is held up lets it pass.
const syncPatience = 20 * time.Millisecond

// syncedByPublisher waits for the publisher, which has the batch and works on it: the
// sync of what it writes comes after the batch in the write-ahead log and so makes
// the batch durable too. One sync where there were two leaves the disk to it.
func (b *batch) syncedByPublisher() bool {
	patience := time.NewTimer(syncPatience)
	defer patience.Stop()
	select {
	case durable := <-b.synced:
		return durable
	case <-patience.C:
		return false
	}
}

// afterFailure learns at once, if it can, what a failed write left behind; else
// the next batch tries again. It returns what the events of the batch, which was to begin at
// first, are told, and whether they may be planned again: another process has taken its place.
func (s *Service) afterFailure(ctx context.Context, first uint64, err error, tried *tries) (again bool, _ error) {
	if !s.unsure {
		return false, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	taken := errors.Is(err, tree.ErrIndexTaken) || errors.Is(err, tree.ErrDuplicate)
	syncErr := s.resync(ctx)
	switch {
	case syncErr != nil:
		s.log.Error("reading back after a failed write failed", "error", syncErr)
		err = s.refuseDamage(syncErr)
	case s.next > first:
		tried.met++
		tried.unknown, tried.filled = 0, 0
		again = taken && s.shared() && tried.met <= maxMeetings
	case s.parts.splits && errors.Is(err, tree.ErrDuplicate):
		again, err = s.afterUnknown(ctx, err, tried)
	case s.parts.splits && !errors.Is(err, tree.ErrNotWritable): // a server of the tree's may be behind
		err = s.refuseDamage(err)
	case errors.Is(err, tree.ErrDuplicate):
		// An identity that the tree has and the store has not: every batch with this
		// event in it would fail, for ever.
		return false, s.refuse("the tree holds an event that the publication store doesn't know: the store was changed", err)
	case taken || errors.Is(err, tree.ErrGap) || errors.Is(err, tree.ErrNotWritable):
		// Likewise for ever: a leaf behind a hole, the last leaf gone, the tree frozen.
		return false, s.refuse("the tree takes no entry: the database was changed: "+err.Error(), err)
	default:
		err = s.refuseDamage(err)
	}
	return again, fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// write stores the batch: openings, then leaves. After anything but plain
// success of the latter nothing is known until resync has read back what is
// there. Its events are answered ErrUnavailable all the same: what can be read
// isn't durable for sure until a later write has been synced. Sent again, they
// are found (I5). After success the batch is visible, and durable once the store
// has been synced.
func (s *Service) write(ctx context.Context, w *work) error {
	mark := s.mark(w.batch)
	w.batch.marks = []pubstore.Mark{mark}
	if err := s.store.PutBatch(ctx, pubstore.Batch{Mark: mark, Openings: w.openings}); err != nil {
		return err // no leaf has been written: the openings are orphans
	}
	err := s.tree.Append(ctx, w.leaves)
	if err == nil {
		s.next = w.batch.end()
		return nil
	}
	s.unsure, s.appendFailed = true, time.Now()
	return err
}

// handOver gives a stored batch to the publisher.
func (s *Service) handOver(b *batch) {
	s.pendingMu.Lock()
	s.batches = append(s.batches, b)
	s.pendingMu.Unlock()
	s.stored(b)
	s.wakePublisher()
}

// stored notes that a batch waits for its publication.
func (s *Service) stored(b *batch) {
	s.unsynced = s.parts.deferSync
	s.pendingMu.Lock()
	s.observeOldest()
	s.pendingMu.Unlock()
	s.cfg.Metrics.stored.Set(float64(b.end()))
}

// publishAdopted wakes the publisher for what was adopted.
func (s *Service) publishAdopted() {
	if s.adopted {
		s.adopted = false
		s.wakePublisher()
	}
}

func (s *Service) wakePublisher() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// forget drops the identities of a batch that wasn't written, and tells who waits for it.
func (s *Service) forget(b *batch, err error) {
	s.pendingMu.Lock()
	defer s.pendingMu.Unlock()
	b.err = err
	s.forgetLocked(b)
	close(b.published)
}

func (s *Service) forgetLocked(b *batch) {
	for _, l := range b.leaves {
		if s.inflight[l.Identity].batch == b {
			delete(s.inflight, l.Identity)
		}
	}
}
