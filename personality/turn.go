package personality

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/transparency-dev/merkle/compact"

	"github.com/prooftrail/prooftrail/personality/pubstore"
)

// turns makes the processes that share a store take turns, at sequencing and, apart from
// that, at publishing: one stores its entries while what another has stored is published.
// Nothing that is stored depends on it. A process that loses its turn in the middle of a
// batch finds its index taken or the head moved, and goes on from there.
type turns interface {
	// Acquire waits for the turn, and returns the database's clock.
	Acquire(ctx context.Context) (now time.Time, err error)
	// Held reports whether another process has the turn.
	Held(ctx context.Context) (bool, error)
	// Wanted reports whether another process waits for the turn.
	Wanted(ctx context.Context) (bool, error)
	// Yield ends the turn if another process waits for it, and reports whether it did; an
	// error means that it had been lost.
	Yield(ctx context.Context) (yielded bool, err error)
	// Release ends the turn; an error means that it had been lost.
	Release(ctx context.Context) error
	// Close releases what the turns hold, a turn too.
	Close() error
}

const (
	// turnTimeout bounds the wait for a turn. Who has it may keep it for as long as
	// storage takes, and is robbed of it when it hangs.
	turnTimeout = 15 * time.Second
	// releaseTimeout bounds the end of a turn.
	releaseTimeout = 2 * time.Second
	// yieldEvery is how often a process that waits for its publisher asks whether another
	// one waits for the turn.
	yieldEvery = 100 * time.Millisecond
	// followEvery is how often a process looks for what others have done.
	followEvery = time.Second
	// pollTimeout bounds how long a reader waits for the newest head. Past it the newest
	// that is known has to do.
	pollTimeout = 2 * time.Second
	// maxClockError is how far this machine's clock may be from the database's (I6).
	maxClockError = 5 * time.Minute
)

// errClock: this machine's clock can't be right, or the database's can't.
var errClock = errors.New("the clock differs too much from the database's")

// shared reports whether other processes may write to this log.
func (s *Service) shared() bool { return s.parts.sequencing != nil }

// beginTurn waits for this process's turn at sequencing, and learns what others did since
// the last.
func (s *Service) beginTurn(ctx context.Context) error {
	if !s.shared() || s.hasTurn {
		return nil
	}
	began := time.Now()
	waiting, stop := context.WithTimeout(ctx, turnTimeout)
	defer stop()
	now, err := s.parts.sequencing.Acquire(waiting)
	if err != nil {
		return fmt.Errorf("wait for the turn: %w", err)
	}
	s.hasTurn = true
	s.cfg.Metrics.since("turn", began)
	err = s.checkClock(now)
	if err == nil && s.published.Load() != nil { // not while it is being opened
		err = s.refuseDamage(s.checkTurn(ctx))
	}
	if err != nil {
		s.endTurn(ctx)
		return err
	}
	return nil
}

// checkTurn brings this process to where the others are, and refuses a store that is
// behind what any of them has signed (I3), as far as they share the anchor.
func (s *Service) checkTurn(ctx context.Context) error {
	anchored, err := s.parts.anchor.Load(ctx) // first: the head may move in between, and the anchor after it
	if errors.Is(err, ErrAnchor) {
		return s.refuse(err.Error(), err)
	}
	if err != nil {
		return err
	}
	if err := s.followHead(ctx); err != nil {
		return err
	}
	if head := s.published.Load().head; anchored.Size > head.Size {
		return s.olderCopy(head.Size, anchored.Size, "anchor")
	}
	return s.readTail(ctx) // what the one before has stored may not be published yet
}

// olderCopy refuses a store that is behind what has been signed.
func (s *Service) olderCopy(size, signed uint64, says string) error {
	return s.refuse(fmt.Sprintf("the store ends at size %d, but size %d has been signed (%s): the store is an older copy. "+
		"Close this log and begin a successor under another origin", size, signed, says), ErrAnchor)
}

// checkClock compares this machine's clock with the database's (I6).
func (s *Service) checkClock(database time.Time) error {
	ahead := s.cfg.Now().Sub(database)
	if ahead.Abs() > maxClockError {
		return fmt.Errorf("%w: it is %s ahead", errClock, ahead.Round(time.Second))
	}
	return nil
}

// endTurn lets others have their turn.
func (s *Service) endTurn(ctx context.Context) {
	if !s.hasTurn {
		return
	}
	s.hasTurn = false
	s.release(ctx, s.parts.sequencing, "sequencing")
}

func (s *Service) release(ctx context.Context, t turns, at string) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer stop()
	if err := t.Release(ctx); err != nil {
		s.log.Warn("the turn was lost before it ended", "at", at, "error", err)
	}
}

// inTurn publishes by f in this process's turn at publishing, from the head that is stored
// then.
func (s *Service) inTurn(ctx context.Context, f func(context.Context) error) error {
	return s.whileNobodyPublishes(ctx, func(ctx context.Context) error {
		if s.shared() {
			if err := s.followHead(ctx); err != nil {
				return err
			}
		}
		return f(ctx)
	})
}

// whileNobodyPublishes calls f in this process's turn at publishing.
func (s *Service) whileNobodyPublishes(ctx context.Context, f func(context.Context) error) error {
	if !s.shared() {
		return f(ctx)
	}
	began := time.Now()
	waiting, stop := context.WithTimeout(ctx, turnTimeout)
	defer stop()
	if _, err := s.parts.publishing.Acquire(waiting); err != nil {
		return fmt.Errorf("wait for the turn to publish: %w", err)
	}
	defer s.release(ctx, s.parts.publishing, "publishing")
	s.cfg.Metrics.since("publish_turn", began)
	return f(ctx)
}

// yield ends the turn if another process waits for it, which takes in what isn't published
// yet.
func (s *Service) yield(ctx context.Context) {
	if !s.hasTurn {
		return
	}
	yielded, err := s.parts.sequencing.Yield(ctx)
	if err != nil {
		s.log.Warn("the turn was lost before it ended", "at", "sequencing", "error", err)
	}
	s.hasTurn = !yielded && err == nil
}

// drained reports whether all that is stored is published.
func (s *Service) drained() bool {
	s.pendingMu.Lock()
	defer s.pendingMu.Unlock()
	return len(s.batches) == 0
}

// isIdle tells the sequencer that the publisher has nothing to do.
func (s *Service) isIdle() {
	if !s.shared() {
		return
	}
	select {
	case s.idle <- struct{}{}:
	default:
	}
}

// catchUp takes in what is stored past the published head and was left there by
// a process that is gone.
func (s *Service) catchUp(ctx context.Context) {
	err := s.refusing()
	switch {
	case err != nil:
	case s.hasTurn:
		err = s.resync(ctx)
	default:
		err = s.beginTurn(ctx)
	}
	err = s.refuseDamage(err)
	if err != nil {
		s.log.Error("taking in what other processes stored failed", "error", err)
	}
}

// followHead reads the stored head and, where another process has moved it, goes on
// from there.
func (s *Service) followHead(ctx context.Context) error {
	known := s.published.Load()
	stored, err := s.store.Head(ctx)
	if err == nil && stored.Head == known.head && stored.Hold == "" {
		return nil // without waiting for the publisher
	}
	if err := s.headMu.lock(ctx); err != nil {
		return err
	}
	defer s.headMu.unlock()
	if err != nil || s.published.Load() != known { // by this process's publisher, meanwhile
		return s.followHeadLocked(ctx)
	}
	return s.followTo(ctx, stored)
}

// ctxMutex is a lock that is waited for no longer than a context says.
type ctxMutex chan struct{}

func (m ctxMutex) lock(ctx context.Context) error {
	select {
	case m <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (m ctxMutex) unlock() { <-m }

func (s *Service) followHeadLocked(ctx context.Context) error {
	stored, err := s.store.Head(ctx)
	if err != nil {
		return s.refuseDamage(err)
	}
	return s.followTo(ctx, stored)
}

// followTo goes on from a head that was stored since the published one. The caller holds
// headMu.
func (s *Service) followTo(ctx context.Context, stored pubstore.SealedHead) error {
	cur := s.published.Load().head
	if stored.Head == cur && stored.Hold == "" {
		return nil
	}
	if err := s.parts.keys.checkHead(stored); err != nil {
		return s.refuse(err.Error()+": somebody wrote to the database", err)
	}
	if stored.Size < cur.Size {
		return s.olderCopy(stored.Size, cur.Size, "by this process")
	}
	if err := s.checkHold(stored); err != nil {
		return err
	}
	if stored.Size == cur.Size {
		return s.olderCopy(stored.Size, cur.Size, "by this process")
	}
	unsettled := s.fold.unsettled
	if unsettled != nil && stored == unsettled.pub.Head {
		return s.settle(ctx, unsettled)
	}
	folded, err := s.checkMoved(ctx, cur, stored.Head)
	if err != nil {
		return err
	}
	s.fold.unsettled = nil
	// Of a publication before it that may have been ours the marks are ours to drop.
	st := &step{pub: pubstore.Publication{Head: stored}, folded: folded, ours: unsettled != nil}
	for i, id := range compact.RangeNodes(0, stored.Size, nil) {
		st.nodes = append(st.nodes, node{id, folded.Hashes()[i]})
	}
	return s.announceHead(ctx, st)
}

// checkMoved checks that the tiles lead from the published head to a later one, and that
// they hold what this process stored.
func (s *Service) checkMoved(ctx context.Context, from, to pubstore.Head) (*compact.Range, error) {
	tiles := &readTiles{from: s.store}
	for _, h := range []pubstore.Head{from, to} {
		r, err := rangeAt(ctx, tiles, h.Size)
		if err != nil {
			return nil, s.damaged(h.Size, err)
		}
		root, err := rootOf(r)
		if err != nil {
			return nil, err
		}
		if root != h.Root {
			return nil, s.refuse(fmt.Sprintf("the head has moved from size %d to %d, and at size %d its root is %x, but the tiles make %x",
				from.Size, to.Size, h.Size, h.Root, root), errRoot)
		}
		if h == to {
			return r, s.checkStored(ctx, tiles, to.Size)
		}
	}
	return nil, nil
}

// checkStored compares what this process has stored, and another has published, with
// the tiles.
func (s *Service) checkStored(ctx context.Context, tiles tileReader, size uint64) error {
	s.pendingMu.Lock()
	batches := s.batches
	s.pendingMu.Unlock()
	for _, b := range batches {
		for i := range b.leaves {
			index := b.first + uint64(i)
			if index >= size {
				return nil
			}
			published, err := nodeFromTile(ctx, tiles, compact.NodeID{Index: index})
			if err != nil {
				return s.damaged(size, err)
			}
			if [32]byte(published) != b.leaves[i].Hash {
				return s.refuse(fmt.Sprintf("entry %d was stored with leaf hash %x and published with %x", index, b.leaves[i].Hash, published), errRoot)
			}
		}
	}
	return nil
}

// head returns the published head; of a log that others write to, the newest one, as far
// as that can be read: what one process has shown isn't taken back by another.
func (s *Service) head(ctx context.Context) *publishedHead {
	if s.shared() && s.refusing() == nil {
		if err := s.poll(ctx); err != nil {
			s.log.Warn("reading the newest head failed", "error", err)
		}
	}
	return s.published.Load()
}

// poll looks whether another process has moved the head. Those who ask at once share
// one look, which begins after each of them has asked, and nobody waits long for it.
func (s *Service) poll(ctx context.Context) error {
	asked := time.Now()
	s.pollMu.Lock()
	defer s.pollMu.Unlock()
	if s.polled.After(asked) {
		return nil
	}
	s.polled = time.Now()
	ctx, stop := context.WithTimeout(ctx, pollTimeout)
	defer stop()
	if s.public != nil { // what everybody is shown, too
		_, err := s.syncPublic(ctx)
		return err
	}
	return s.followHead(ctx)
}

// covers reports whether the published tree has so many entries.
func (s *Service) covers(ctx context.Context, size uint64) bool {
	return size <= s.published.Load().head.Size || s.shared() && size <= s.head(ctx).head.Size
}

// coversTile reports whether the published tree has so many hashes of a tile.
func (s *Service) coversTile(ctx context.Context, level uint, n uint64, width int) bool {
	covers := func(at *publishedHead) bool {
		have := at.head.Size >> (level * tileHeight)
		return n <= have/tileWidth && n*tileWidth+uint64(width) <= have
	}
	return covers(s.published.Load()) || s.shared() && covers(s.head(ctx))
}

// follow looks, at an interval, for what other processes have done: heads and tokens, and
// entries that nobody publishes.
func (s *Service) follow(ctx context.Context) {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	var kept *publishedHead // the head whose checkpoint has been kept
	keep := func(at *publishedHead) {
		if s.public == nil && at != kept && at.note != nil && s.keeper.keep(ctx, at.note, at.head.Size) == nil {
			kept = at
		}
	}
	var tailAt uint64 // where entries were found the last time, unpublished; 0: nowhere
	for {
		select {
		case <-s.closing:
			keep(s.published.Load())
			return
		case <-tick.C:
		}
		if err := s.poll(ctx); err != nil && s.refusing() == nil {
			s.log.Warn("reading the newest head failed", "error", err)
			s.storageFails()
		}
		at := s.published.Load()
		keep(at)
		if err := s.followTokens(ctx); err != nil {
			s.log.Warn("reading the tokens failed", "error", err)
		}
		if err := s.followSourceKeys(ctx); err != nil {
			s.log.Warn("reading the source keys failed", "error", err)
		}
		found := s.hasTail(ctx, at.head.Size)
		if found && tailAt == at.head.Size+1 {
			s.callSequencer()
		}
		tailAt = 0
		if found {
			tailAt = at.head.Size + 1
		}
	}
}

// storageFails has readiness tell of it, though nobody sends an event, and the sequencer
// find out when it is over.
func (s *Service) storageFails() {
	s.progress(func(w *watch) {
		if w.failing.IsZero() {
			w.failing = time.Now()
		}
	})
	s.callSequencer()
}

// hasTail reports whether entries are stored past the published head, and none of them
// is waited for here.
func (s *Service) hasTail(ctx context.Context, size uint64) bool {
	if !s.drained() || s.refusing() != nil {
		return false
	}
	ctx, stop := context.WithTimeout(ctx, followEvery)
	defer stop()
	leaves, err := s.tree.Leaves(ctx, size, 1)
	return err == nil && len(leaves) > 0
}

// callSequencer has the sequencer take in what it didn't store itself.
func (s *Service) callSequencer() {
	select {
	case s.called <- struct{}{}:
	default:
	}
}

// followTokens takes in the tokens that other processes have made or ended.
func (s *Service) followTokens(ctx context.Context) error {
	s.tokens.changing.Lock()
	defer s.tokens.changing.Unlock()
	err := s.tokens.load(ctx, s.parts.keys, s.store)
	if errors.Is(err, errRecord) || errors.Is(err, pubstore.ErrCorrupt) {
		return s.refuse(err.Error()+": somebody wrote to the database", err)
	}
	return err
}
