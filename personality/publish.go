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

// readBack is how many leaves are read from the tree at once.
const readBack = 1000

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
	if err != nil || old.Size >= size { // another process has
		return err
	}
	root, err := s.integrate(ctx, size)
	if err != nil {
		return err
	}
	if !s.shared() {
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

// step is a publication in the making.
type step struct {
	pub    pubstore.Publication
	ours   bool // not one that another process has made
	folded *compact.Range
	nodes  []node // all new complete nodes, in the order they arose
	hashes []verifier.Hash
}

type node struct {
	id   compact.NodeID
	hash []byte
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

// extend makes the step from what old covers to size, which Trillian's root covers: it reads
// the leaves in between back, folds their hashes into our own compact range, and compares.
// What lies between size and the root is read for the comparison only. A tree that
// is wrong is a *Fault. The step's head is the caller's to seal.
func extend(ctx context.Context, t tree.Tree, old *compact.Range, root tree.Root, size uint64) (*step, error) {
	wrong := func(format string, args ...any) error {
		return &Fault{Reason: fmt.Sprintf(format, args...), Err: errRoot}
	}
	if root.Size <= old.End() || root.Size < size {
		return nil, wrong("Trillian's tree has %d entries, but %d are published", root.Size, old.End())
	}
	folded, err := cloneRange(old)
	if err != nil {
		return nil, fmt.Errorf("recompute the root: %w", err)
	}
	st := &step{folded: folded}
	all := folded // of the root's leaves
	for next := old.End(); next < root.Size; {
		leaves, err := t.Leaves(ctx, next, int(min(readBack, root.Size-next)))
		if err != nil {
			return nil, fmt.Errorf("read back entries from %d: %w", next, err)
		}
		if len(leaves) == 0 {
			return nil, wrong("Trillian's tree has %d entries, but entry %d can't be read back", root.Size, next)
		}
		n := min(uint64(len(leaves)), size-min(size, next))
		if err := st.add(leaves[:n]); err != nil {
			return nil, fmt.Errorf("recompute the root: %w", err)
		}
		if n < uint64(len(leaves)) {
			if all, err = foldBehind(st, all, leaves[n:]); err != nil {
				return nil, fmt.Errorf("recompute the root: %w", err)
			}
		}
		next += uint64(len(leaves))
	}
	got, err := rootOf(all)
	if err != nil {
		return nil, fmt.Errorf("recompute the root: %w", err)
	}
	if got != root.Hash {
		return nil, wrong("at size %d Trillian's root is %x, but its leaves make %x", root.Size, root.Hash, got)
	}
	st.pub.Head.Size = st.folded.End()
	if st.pub.Head.Root, err = rootOf(st.folded); err != nil {
		return nil, fmt.Errorf("recompute the root: %w", err)
	}
	st.tiles()
	return st, nil
}

// foldBehind folds leaves behind the step's into all, which is the step's own range at first.
func foldBehind(st *step, all *compact.Range, leaves []tree.Leaf) (*compact.Range, error) {
	if all == st.folded {
		var err error
		if all, err = cloneRange(st.folded); err != nil {
			return nil, err
		}
	}
	for _, l := range leaves {
		if l.Index != all.End() {
			return nil, fmt.Errorf("read back entry %d where %d was due", l.Index, all.End())
		}
		h := leafHashOf(l.Value)
		if err := all.Append(h[:], nil); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// errOthers: the tree has entries that this process hasn't read back yet.
var errOthers = errors.New("another process has stored entries")

var errRoot = errors.New("the stored tree is wrong")

// cloneRange copies a compact range; folding into the copy leaves the account of
// the published tree alone until the head has moved.
func cloneRange(r *compact.Range) (*compact.Range, error) {
	return rangeFactory.NewRange(0, r.End(), append([][]byte(nil), r.Hashes()...))
}

// add folds leaves in, and collects their entries and identities.
func (st *step) add(leaves []tree.Leaf) error {
	visit := func(id compact.NodeID, hash []byte) { st.nodes = append(st.nodes, node{id, hash}) }
	for _, l := range leaves {
		if l.Index != st.folded.End() {
			return fmt.Errorf("read back entry %d where %d was due", l.Index, st.folded.End())
		}
		h := leafHashOf(l.Value)
		if err := st.folded.Append(h[:], visit); err != nil {
			return err
		}
		st.hashes = append(st.hashes, h)
		st.pub.IDs = append(st.pub.IDs, pubstore.ID{Hash: l.IdentityHash, Index: l.Index})
		n := l.Index / tileWidth
		if k := len(st.pub.Bundles); k == 0 || st.pub.Bundles[k-1].N != n {
			st.pub.Bundles = append(st.pub.Bundles, pubstore.TileAppend{N: n, Width: int(l.Index % tileWidth)})
		}
		b := &st.pub.Bundles[len(st.pub.Bundles)-1]
		b.Data = append(b.Data, byte(len(l.Value)>>8), byte(len(l.Value)))
		b.Data = append(b.Data, l.Value...)
	}
	return nil
}

// tiles turns the new nodes into what they add to the tiles. A tile's hashes are
// the complete nodes of every eighth level.
func (st *step) tiles() {
	last := map[uint]int{} // level of nodes -> index of its newest tile in pub.Tiles
	for _, nd := range st.nodes {
		if nd.id.Level%tileHeight != 0 {
			continue
		}
		n := nd.id.Index / tileWidth
		k, ok := last[nd.id.Level]
		if !ok || st.pub.Tiles[k].N != n {
			k = len(st.pub.Tiles)
			last[nd.id.Level] = k
			st.pub.Tiles = append(st.pub.Tiles, pubstore.TileAppend{
				Level: int(nd.id.Level / tileHeight), N: n, Width: int(nd.id.Index % tileWidth)})
		}
		st.pub.Tiles[k].Data = append(st.pub.Tiles[k].Data, nd.hash...)
	}
}

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
	if !s.shared() { // else it is kept now and then: see follow
		if err := s.store.PutCheckpoint(ctx, signed); err != nil {
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
	if ours { // what was to be dropped before, it dropped
		s.fold.drop = nil
	}
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
