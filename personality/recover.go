package personality

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/transparency-dev/merkle/compact"
	"golang.org/x/mod/sumdb/note"

	"github.com/prooftrail/prooftrail/personality/pubstore"
	"github.com/prooftrail/prooftrail/personality/tree"
	"github.com/prooftrail/prooftrail/verifier"
)

// recover brings a log from wherever a crash left it to where everything that is
// stored durably is published and signed. It runs before the service's
// goroutines do. What is wrong with the log makes it refuse (see [Fault]); what
// only can't be read now is an error.
func (s *Service) recover(ctx context.Context) error {
	if stored, err := s.store.Head(ctx); err == nil && s.parts.splits {
		_, _ = s.rootFor(ctx, stored.Size) // the wait for it, before others wait for the turn; it is read again
	}
	if err := s.whileNobodyPublishes(ctx, s.recoverHead); err != nil {
		return err
	}
	if err := s.refusing(); err != nil {
		return s.asRefusal(err)
	}
	head := s.published.Load().head
	if err := s.store.DropMarks(ctx, head.Size); err != nil {
		return err
	}
	if _, err := s.marksAt(ctx, head.Size); err != nil { // though no leaf may be stored there
		return s.asRefusal(err)
	}
	return s.asRefusal(s.publishAtStart(ctx))
}

// rereadPatience bounds for how long a start reads again what was wrong while others moved
// the head.
const rereadPatience = 10 * time.Second

// recoverHead checks what is published, and signs the head. Where another process that
// has lost its turn moves the head meanwhile, what was read is of no one moment: it is read
// again.
func (s *Service) recoverHead(ctx context.Context) error {
	before, began := s.fault.Load(), time.Now()
	for {
		stored, err := s.checkPublished(ctx)
		if s.published.Load() == nil {
			return err // not read at all
		}
		err = s.asRefusal(err)
		if err != nil || s.fault.Load() == before || !s.shared() || time.Since(began) > rereadPatience {
			return err
		}
		now, readErr := s.store.Head(ctx)
		if moved := readErr == nil && now.Size > stored.Size && s.parts.keys.checkHead(now) == nil; !moved {
			return nil
		}
		s.log.Warn("the head has moved meanwhile: checking again", "from", stored.Size, "to", now.Size)
		s.fault.Store(before)
		s.cfg.Metrics.refusing.Set(0)
	}
}

// checkPublished returns the head that it has read.
func (s *Service) checkPublished(ctx context.Context) (stored pubstore.SealedHead, err error) {
	// First: the head may move in between, and the anchor after it.
	anchored, anchorErr := s.parts.anchor.Load(ctx)
	if stored, err = s.store.Head(ctx); err != nil {
		return stored, err
	}
	head := stored.Head
	kept, err := s.store.Checkpoint(ctx)
	if err != nil && !errors.Is(err, pubstore.ErrNotFound) {
		return stored, err
	}
	if !s.signedByUs(kept) {
		kept = nil
	}
	s.published.Store(&publishedHead{head: head, note: kept})
	s.next = head.Size
	s.fold.folded = rangeFactory.NewEmptyRange(0)
	s.cfg.Metrics.published.Set(float64(head.Size))
	s.cfg.Metrics.stored.Set(float64(head.Size))

	if err := s.parts.keys.checkHead(stored); err != nil {
		return stored, s.refuse(err.Error()+": somebody wrote to the database", err)
	}
	if anchorErr == nil && anchored.Size > head.Size { // before the hold, which may be an older copy's too
		return stored, s.olderCopy(head.Size, anchored.Size, "anchor")
	}
	if err := s.checkHold(stored); err != nil {
		return stored, err
	}
	if err := s.checkHead(ctx, head); err != nil {
		return stored, err
	}
	if err := s.checkAnchor(ctx, head, anchored, anchorErr); err != nil {
		return stored, err
	}
	if err := s.checkWitnesses(ctx, head); err != nil {
		return stored, err
	}
	if err := checkEdge(ctx, s.store, head.Size); err != nil {
		return stored, s.damaged(head.Size, err)
	}
	if err := s.checkTree(ctx, head); err != nil {
		return stored, err
	}
	if err := s.refusing(); err != nil { // for what was found before
		return stored, err
	}
	// The head may have been written and not signed: it is signed now. It may
	// have been replayed from a write-ahead log that was never synced: sync.
	if err := s.store.Sync(ctx); err != nil {
		return stored, err
	}
	return stored, s.announceHead(ctx, &step{pub: pubstore.Publication{Head: stored}, folded: s.fold.folded})
}

// signersPatience is how long a start waits for the signers of a cluster. Where they take
// longer the service begins, and says that it isn't ready.
const signersPatience = 3 * time.Second

// publishAtStart publishes what is stored past the head, and leaves it to the publisher
// where that waits for others.
func (s *Service) publishAtStart(ctx context.Context) error {
	if !s.parts.splits {
		return s.publishStored(ctx)
	}
	if err := s.resync(ctx); err != nil {
		return err
	}
	size, more := s.nextStep()
	if !more {
		return nil
	}
	patience, stop := context.WithTimeout(ctx, signersPatience)
	defer stop()
	_, err := s.tree.Integrate(patience, size)
	if err == nil {
		err = s.publishStored(ctx)
	}
	if errors.Is(err, tree.ErrStalled) && ctx.Err() == nil {
		s.log.Warn("publishing what is stored goes on after the start", "error", err)
		return nil
	}
	return err
}

// publishStored publishes what is stored past the head.
func (s *Service) publishStored(ctx context.Context) error {
	if err := s.resync(ctx); err != nil {
		return err
	}
	for {
		size, ok := s.nextStep()
		if !ok {
			return nil
		}
		err := s.publish(ctx, size)
		if errors.Is(err, errOthers) { // the turn was lost
			err = s.resync(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// signedByUs reports whether a stored note has this log's signature.
func (s *Service) signedByUs(kept []byte) bool {
	v, err := note.NewVerifier(s.params.VKey)
	if err != nil {
		return false
	}
	_, err = note.Open(kept, note.VerifierList(v))
	return err == nil
}

// asRefusal lets a service that refuses open, so that it can say why.
func (s *Service) asRefusal(err error) error {
	if err = s.refuseDamage(err); errors.Is(err, ErrRefusing) {
		return nil
	}
	return err
}

// refuseDamage makes the service refuse where the database holds what can't be right:
// trying again won't help. Other errors it returns as they are.
func (s *Service) refuseDamage(err error) error {
	if errors.Is(err, ErrRefusing) {
		return err
	}
	for _, damage := range []error{pubstore.ErrCorrupt, tree.ErrBroken, errNoTree} {
		if errors.Is(err, damage) {
			return s.refuse("the database was changed, or is broken: "+err.Error(), err)
		}
	}
	return err
}

// checkHead recomputes the head's root from the tiles and takes their right
// edge as our account of the published tree.
func (s *Service) checkHead(ctx context.Context, head pubstore.Head) error {
	folded, err := rangeAt(ctx, s.store, head.Size)
	if err != nil {
		return s.damaged(head.Size, err)
	}
	root, err := rootOf(folded)
	if err != nil {
		return err
	}
	if root != head.Root {
		return s.refuse(fmt.Sprintf("the stored head of size %d has root %x, but its tiles make %x", head.Size, head.Root, root), errRoot)
	}
	s.fold.folded = folded
	for i, id := range compact.RangeNodes(0, head.Size, nil) {
		s.edge.put(id, folded.Hashes()[i])
	}
	return nil
}

// checkEdge checks the tiles and the bundle that the next publication appends to: they
// hold what the head covers and no more, or what is appended would be out of place.
func checkEdge(ctx context.Context, store pubstore.Store, size uint64) error {
	for level := 0; size>>(level*tileHeight) > 0; level++ {
		n, width := size>>(level*tileHeight)/tileWidth, size>>(level*tileHeight)%tileWidth
		if width == 0 {
			continue
		}
		tile, err := store.Tile(ctx, level, n)
		if err == nil && uint64(len(tile)) != width*32 {
			err = fmt.Errorf("tile %d/%d has %d hashes for %d: %w", level, n, len(tile)/32, width, pubstore.ErrCorrupt)
		}
		if err == nil && level == 0 {
			err = checkBundle(ctx, store, n, tile)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkBundle compares an entry bundle with the hashes of its tile.
func checkBundle(ctx context.Context, store pubstore.Store, n uint64, tile []byte) error {
	bundle, err := store.Bundle(ctx, n)
	if err != nil {
		return err
	}
	end := 0
	for i := range len(tile) / 32 {
		var entry []byte
		if entry, end, err = bundleEntry(bundle, end); err != nil {
			return fmt.Errorf("entry bundle %d: %w", n, err)
		}
		if leafHashOf(entry) != verifier.Hash(tile[i*32:]) {
			return fmt.Errorf("entry bundle %d: entry %d isn't the one in the tile: %w", n, n*tileWidth+uint64(i), pubstore.ErrCorrupt)
		}
	}
	if end != len(bundle) {
		return fmt.Errorf("entry bundle %d is longer than its tile: %w", n, pubstore.ErrCorrupt)
	}
	return nil
}

// damaged makes the service refuse where tiles are missing or malformed, and
// returns the error where they only can't be read now.
func (s *Service) damaged(size uint64, err error) error {
	if errors.Is(err, pubstore.ErrNotFound) || errors.Is(err, pubstore.ErrCorrupt) {
		return s.refuse(fmt.Sprintf("the tiles of the published tree, up to size %d, are damaged: %v", size, err), err)
	}
	return err
}

// checkAnchor compares the head with the newest one that may have been signed, which isn't
// ahead of it (I3).
func (s *Service) checkAnchor(ctx context.Context, head, anchored pubstore.Head, err error) error {
	if errors.Is(err, ErrAnchor) {
		return s.refuse(err.Error(), err)
	}
	if err != nil {
		return err
	}
	older, err := rangeAt(ctx, s.store, anchored.Size)
	if err != nil {
		return s.damaged(anchored.Size, err)
	}
	root, err := rootOf(older)
	if err != nil {
		return err
	}
	if root != anchored.Root {
		return s.refuse(fmt.Sprintf("root %x has been signed at size %d (anchor), but the store has %x there: it holds another history. "+
			"Close this log and begin a successor under another origin", anchored.Root, anchored.Size, root), ErrAnchor)
	}
	return nil
}

// checkTree compares the head with Trillian's own root, as far as that goes
// before its newer leaves are read back.
func (s *Service) checkTree(ctx context.Context, head pubstore.Head) error {
	root, err := s.rootFor(ctx, head.Size)
	if err != nil {
		return fmt.Errorf("read Trillian's root: %w", err)
	}
	if root.Size > head.Size {
		return nil // publish recomputes it
	}
	if root.Size == head.Size && root.Hash == head.Root {
		return nil
	}
	// Trillian integrates before the head moves. But the embedded tree's last
	// integration becomes durable with the head's write, so neither is behind.
	return s.refuse(fmt.Sprintf("Trillian's tree has size %d and root %x, but size %d with root %x has been published",
		root.Size, root.Hash, head.Size, head.Root), errRoot)
}

const (
	// behindPatience is how long a start waits for a server that has the published tree,
	// where the tree has several and they may be behind each other.
	behindPatience = 10 * time.Second
	behindPause    = 50 * time.Millisecond
)

// rootFor reads Trillian's root, and again while it may be one of a server that is behind:
// no size is published before Trillian has it.
func (s *Service) rootFor(ctx context.Context, size uint64) (tree.Root, error) {
	patience, stop := context.WithTimeout(ctx, behindPatience)
	defer stop()
	for {
		root, err := s.tree.Root(ctx)
		if err != nil || root.Size >= size || !s.parts.splits || patience.Err() != nil {
			return root, err
		}
		select {
		case <-time.After(behindPause):
		case <-patience.Done():
		}
	}
}
