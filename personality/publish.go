package personality

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"runtime"
	"time"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/prooftrail/prooftrail/personality/pubstore"
	"github.com/prooftrail/prooftrail/personality/tree"
	"github.com/prooftrail/prooftrail/verifier"
)

// publisher is what the publishing goroutine knows of the published tree.
type publisher struct {
	folded    *compact.Range  // our own account of the published tree
	unsettled *step           // a publication whose outcome isn't known, or that isn't announced
	drop      []pubstore.Mark // of the batches that the signed head covers: dropped with the next one
}

// retryPause is how long the publisher waits after storage failed.
const retryPause = 100 * time.Millisecond

// maxStep bounds the entries of one publication, batches being whole.
const maxStep = 10_000

// publishAll is the publisher: whenever entries are stored it integrates and
// publishes them, all in one step unless they are very many. It ends when the
// sequencer has and nothing is left, or ctx ends.
func (s *Service) publishAll(ctx context.Context) {
	for range s.wake {
		runtime.Gosched() // as the sequencer does, and for the same reason
		for s.publishStep(ctx) {
		}
		s.isIdle()
	}
}

// publishStep publishes what is stored, and reports whether there may be more to
// do.
func (s *Service) publishStep(ctx context.Context) (more bool) {
	size, ok := s.nextStep()
	if !ok {
		return false
	}
	err := s.refusing()
	if err == nil {
		err = s.refuseDamage(s.publish(ctx, size))
	}
	if err == nil {
		return true
	}
	s.tellSynced(math.MaxUint64, false)
	if errors.Is(err, ErrRefusing) {
		s.failPending(err)
		return false
	}
	if errors.Is(err, errOthers) {
		s.log.Debug("publishing after what other processes stored", "size", size, "error", err)
	} else {
		s.log.Error("publishing failed", "size", size, "error", err)
	}
	pause, stop := context.WithTimeout(ctx, retryPause)
	defer stop()
	<-pause.Done()
	if ctx.Err() != nil {
		s.failPending(fmt.Errorf("%w: %w", ErrUnavailable, err))
	}
	return true
}

// nextStep returns the size to publish next.
func (s *Service) nextStep() (size uint64, ok bool) {
	limit := s.published.Load().head.Size + maxStep
	s.pendingMu.Lock()
	defer s.pendingMu.Unlock()
	for i, b := range s.batches {
		if i > 0 && b.end() > limit {
			break
		}
		size, ok = b.end(), true
	}
	return size, ok
}

// knownUpTo returns the end of the last batch that this process knows and a tree of size
// covers.
func (s *Service) knownUpTo(size uint64) (end uint64) {
	s.pendingMu.Lock()
	defer s.pendingMu.Unlock()
	for _, b := range s.batches {
		if b.end() <= size {
			end = b.end()
		}
	}
	return end
}

// publish moves the head to at least size: integrate, read back, recompute,
// compare, write, anchor, sign. See the crash table in the package comment.
func (s *Service) publish(ctx context.Context, size uint64) error {
	if s.parts.splits { // signers integrate: they are waited for by all processes at once
		if _, err := s.integrate(ctx, size); err != nil {
			return err
		}
	}
	return s.inTurn(ctx, func(ctx context.Context) error { return s.publishInTurn(ctx, size) })
}

func (s *Service) integrate(ctx context.Context, size uint64) (tree.Root, error) {
	began := time.Now()
	root, err := s.tree.Integrate(ctx, size)
	if err != nil {
		return root, fmt.Errorf("integrate up to size %d: %w", size, err)
	}
	s.cfg.Metrics.since("integrate", began)
	return root, nil
}

func (s *Service) publishInTurn(ctx context.Context, size uint64) error {
	// Not while the head is held: log servers may take long, and sequencing needs the head.
	old, folded, err := s.settled(ctx)
	if err != nil {
		return err
	}
	if old.Size >= size {
		return s.answerPublished(ctx)
	}
	root, err := s.integrate(ctx, size)
	if err != nil {
		return err
	}
	if size = s.knownUpTo(min(root.Size, max(size, old.Size+maxStep))); !s.shared() {
		size = root.Size // whatever is there: what this process didn't sequence nobody did
	}
	began := time.Now()
	next, err := s.readBackTo(ctx, folded, root, size)
	if err != nil {
		return err
	}
	s.cfg.Metrics.since("verify", began)

	if err := s.headMu.lock(ctx); err != nil {
		return err
	}
	defer s.headMu.unlock()
	if s.published.Load().head != old { // another process has moved it: again, from there
		return nil
	}
	next.pub.Drop = s.fold.drop
	if err := s.sameAsSequenced(old.Size, next); err != nil {
		return err
	}
	began = time.Now()
	s.fold.unsettled = next
	if err := s.store.Publish(ctx, s.published.Load().head, next.pub); err != nil {
		var moved *pubstore.HeadMovedError
		if errors.As(err, &moved) && s.shared() {
			return s.followHeadLocked(ctx)
		}
		if errors.As(err, &moved) {
			return s.refuse("somebody else moved the head of this log: "+moved.Error(), err)
		}
		return fmt.Errorf("publish size %d: %w", next.pub.Head.Size, err)
	}
	s.fold.drop = nil // it has dropped them
	s.cfg.Metrics.since("publish", began)
	s.tellSynced(next.pub.Head.Size, true)
	return s.announceHead(ctx, next)
}

// tellSynced tells the sequencer of the batches up to a size that they are durable, or
// that it has to see to that itself; each batch once.
func (s *Service) tellSynced(size uint64, durable bool) {
	s.pendingMu.Lock()
	defer s.pendingMu.Unlock()
	for _, b := range s.batches {
		if b.end() <= size && !b.told {
			b.told = true
			b.synced <- durable
		}
	}
}

// settle finds out what became of a publication that reported an error, or that
// wasn't announced for one: it was stored, or it wasn't.
func (s *Service) settle(ctx context.Context, st *step) error {
	stored, err := s.store.Head(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("settle the publication of size %d: %w", st.pub.Head.Size, err)
	case stored == st.pub.Head:
		// Readable is not yet durable: the write may have failed in its sync.
		if err := s.store.Sync(ctx); err != nil {
			return fmt.Errorf("settle the publication of size %d: %w", st.pub.Head.Size, err)
		}
		s.tellSynced(st.pub.Head.Size, true)
		return s.announceHead(ctx, st)
	case stored.Head == s.published.Load().head:
		s.fold.unsettled = nil
		return nil
	case s.shared():
		return s.followHeadLocked(ctx)
	}
	return s.refuse(fmt.Sprintf("the stored head has size %d and root %x: this process put neither it nor the one before there",
		stored.Size, stored.Root), errRoot)
}

// settled returns the published head and our account of its tree, once it is known what became
// of the publication before.
func (s *Service) settled(ctx context.Context) (pubstore.Head, *compact.Range, error) {
	if err := s.headMu.lock(ctx); err != nil {
		return pubstore.Head{}, nil, err
	}
	defer s.headMu.unlock()
	var err error
	if s.fold.unsettled != nil {
		err = s.settle(ctx, s.fold.unsettled)
	}
	return s.published.Load().head, s.fold.folded, err
}

// readBackTo reads the leaves that the root adds to the published tree back from Trillian,
// compares them with the root (I2), and makes the step to size.
func (s *Service) readBackTo(ctx context.Context, folded *compact.Range, root tree.Root, size uint64) (*step, error) {
	st, err := extend(ctx, s.tree, folded, root, size)
	var wrong *Fault
	if errors.As(err, &wrong) {
		return nil, s.refuse(wrong.Reason, wrong.Err)
	}
	if err != nil {
		return nil, err
	}
	st.pub.Head = s.parts.keys.sealHead(st.pub.Head.Head)
	st.ours = true
	return st, nil
}

// errOthers: the tree has entries that this process hasn't read back yet.
var errOthers = errors.New("another process has stored entries")

var errRoot = errors.New("the stored tree is wrong")

// sameAsSequenced compares what was read back with what the sequencer answered
// for, or recovery found marked: a leaf that has changed since, or one more, must
// not be signed.
func (s *Service) sameAsSequenced(first uint64, st *step) error {
	s.pendingMu.Lock()
	defer s.pendingMu.Unlock()
	next, end := first, first+uint64(len(st.hashes))
	for _, b := range s.batches {
		for i, want := range b.leaves {
			index := b.first + uint64(i)
			if index < first {
				continue // published already: a root may end within a batch
			}
			if next == end {
				return nil
			}
			got := pubstore.LeafID{Hash: st.hashes[next-first], Identity: st.pub.IDs[next-first].Hash}
			if index != next || got != want {
				return s.refuse(fmt.Sprintf("entry %d was stored with leaf hash %x and identity %x and read back with %x and %x",
					next, want.Hash, want.Identity, got.Hash, got.Identity), errRoot)
			}
			next++
		}
	}
	if next < end && s.shared() { // or somebody wrote to the database: who reads it back will see
		s.callSequencer()
		return fmt.Errorf("the tree has %d entries: %w", end, errOthers)
	}
	if next < end {
		return s.refuse(fmt.Sprintf("Trillian's tree has %d entries, but this log sequenced only %d", end, next), errUnmarked)
	}
	return nil
}

// announceHead makes a stored head visible: anchor, signature, answers.
func (s *Service) announceHead(ctx context.Context, st *step) error {
	began := time.Now()
	err := s.parts.anchor.Move(ctx, st.pub.Head.Head)
	s.cfg.room.anchored(err)
	if err != nil {
		if errors.Is(err, ErrAnchor) {
			return s.refuse("the anchor is ahead of the head: "+err.Error(), err)
		}
		return err
	}
	s.cfg.Metrics.since("anchor", began)
	p, err := s.sign(ctx, st.pub.Head.Head)
	if err != nil {
		return err
	}
	s.edge.mu.Lock()
	for _, nd := range st.nodes {
		s.edge.put(nd.id, nd.hash)
	}
	s.edge.mu.Unlock()
	s.fold.folded, s.fold.unsettled = st.folded, nil
	s.published.Store(p)
	s.cfg.Metrics.published.Set(float64(p.head.Size))
	s.answer(p, st.ours)
	return nil
}

// sign signs the head, which is stored and anchored. Only this function signs.
func (s *Service) sign(ctx context.Context, h pubstore.Head) (*publishedHead, error) {
	cp := verifier.Checkpoint{Origin: s.params.Origin, Size: h.Size, Root: h.Root}
	signed, err := verifier.SignCheckpoint(cp, s.parts.signer)
	if err != nil {
		return nil, fmt.Errorf("sign checkpoint of size %d: %w", h.Size, err)
	}
	if !s.shared() && s.public == nil { // else it is kept now and then: see follow and witness
		if err := s.keeper.keep(ctx, signed, h.Size); err != nil {
			s.log.Warn("keeping the checkpoint failed", "error", err) // it can be signed again
		}
	}
	return &publishedHead{head: h, note: signed}, nil
}

// answer wakes those who wait for batches that p covers. Who has published them drops
// their marks.
func (s *Service) answer(p *publishedHead, ours bool) {
	s.pendingMu.Lock()
	defer s.pendingMu.Unlock()
	n := 0
	for ; n < len(s.batches) && s.batches[n].end() <= p.head.Size; n++ {
		b := s.batches[n]
		b.head = p
		for _, m := range b.marks {
			if ours && m.End() <= p.head.Size {
				s.fold.drop = append(s.fold.drop, m)
			}
		}
		s.forgetLocked(b)
		close(b.published)
	}
	s.dropBatches(n)
}

// answerPublished answers for the batches that the published head covers: another process
// had published them before the sequencer put them with those that wait.
func (s *Service) answerPublished(ctx context.Context) error {
	if err := s.headMu.lock(ctx); err != nil {
		return err
	}
	defer s.headMu.unlock()
	p := s.published.Load()
	if err := s.checkStored(ctx, &readTiles{from: s.store}, p.head.Size); err != nil {
		return err
	}
	s.answer(p, false)
	return nil
}

// failPending answers all who wait for publication with err. What they sent is
// durable all the same.
func (s *Service) failPending(err error) {
	s.pendingMu.Lock()
	defer s.pendingMu.Unlock()
	for _, b := range s.batches {
		b.err = err
		s.forgetLocked(b)
		close(b.published)
	}
	s.dropBatches(len(s.batches))
}

func (s *Service) dropBatches(n int) {
	s.batches = append(s.batches[:0:0], s.batches[n:]...)
	s.observeOldest()
}

// leafHashOf returns the RFC 6962 leaf hash.
func leafHashOf(leaf []byte) verifier.Hash {
	var buf [256]byte // leaves have 109 bytes
	return sha256.Sum256(append(append(buf[:0], rfc6962.RFC6962LeafHashPrefix), leaf...))
}
