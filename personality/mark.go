package personality

import (
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"slices"

	"github.com/prooftrail/prooftrail/personality/pubstore"
)

// errUnmarked: leaves are stored that this log didn't sequence.
var errUnmarked = errors.New("leaves that this log did not sequence")

// mark makes a batch's mark.
func (s *Service) mark(b *batch) pubstore.Mark {
	m := pubstore.Mark{First: b.first, Leaves: b.leaves}
	m.MAC = s.parts.keys.markMAC(&m)
	return m
}

// marksAt returns the stored marks that have a leaf at index and are this log's.
func (s *Service) marksAt(ctx context.Context, index uint64) ([]pubstore.Mark, error) {
	stored, err := s.store.Marks(ctx, index)
	if errors.Is(err, pubstore.ErrCorrupt) {
		return nil, s.refuse(fmt.Sprintf("the marks of entry %d are damaged", index), err)
	}
	return slices.DeleteFunc(stored, func(m pubstore.Mark) bool {
		mac := s.parts.keys.markMAC(&m)
		return !hmac.Equal(mac[:], m.MAC[:])
	}), err
}

// readBatch reads back the batch that is stored from index first on; nil if no leaf is
// stored there. A leaf without a mark makes the service refuse: it would sign what
// nobody submitted.
func (s *Service) readBatch(ctx context.Context, tail *tailReader, first uint64) (*batch, error) {
	// The leaf first: its mark was there before it.
	if leaf, err := s.readLeaves(ctx, tail, first, nil); err != nil || len(leaf) == 0 {
		return nil, err
	}
	marks, err := s.marksAt(ctx, first)
	if err != nil {
		return nil, err
	}
	leaves, err := s.readLeaves(ctx, tail, first, marks)
	if err != nil || len(leaves) == 0 {
		return nil, err
	}
	b := newBatch(first)
	b.marks = marks
	if b.leaves = s.marked(marks, first, leaves); len(b.leaves) > 0 {
		return b, nil
	}
	if err := s.publishedByOthers(ctx, first); err != nil {
		return nil, err
	}
	return nil, s.refuse(fmt.Sprintf("entry %d is stored, but this log didn't sequence it, or not with this content: "+
		"somebody wrote to the database", first), errUnmarked)
}

// readLeaves reads back what is stored from index first on, as far as the marks go.
func (s *Service) readLeaves(ctx context.Context, tail *tailReader, first uint64, marks []pubstore.Mark) ([]pubstore.LeafID, error) {
	end := first + 1
	for i := range marks {
		end = max(end, marks[i].End())
	}
	stored, err := tail.read(ctx, first, int(end-first))
	if err != nil {
		return nil, fmt.Errorf("read back from entry %d: %w", first, err)
	}
	leaves := make([]pubstore.LeafID, len(stored))
	for i, l := range stored {
		if l.Index != first+uint64(i) {
			return nil, fmt.Errorf("read back: got entry %d for %d", l.Index, first+uint64(i))
		}
		leaves[i] = pubstore.LeafID{Hash: leafHashOf(l.Value), Identity: l.IdentityHash}
	}
	return leaves, nil
}

// publishedByOthers returns errOthers if another process has published the entry
// meanwhile: its mark is gone then.
func (s *Service) publishedByOthers(ctx context.Context, index uint64) error {
	if !s.shared() {
		return nil
	}
	stored, err := s.store.Head(ctx)
	if err == nil && stored.Size > index && s.parts.keys.checkHead(stored) == nil {
		return fmt.Errorf("entry %d: %w", index, errOthers)
	}
	return err
}

// marked returns the leaves, which are stored from index first on, as far as they are a
// batch of this log. Where the tree stores batches whole, one that is there in part isn't.
func (s *Service) marked(marks []pubstore.Mark, first uint64, leaves []pubstore.LeafID) []pubstore.LeafID {
	if s.parts.splits {
		n := 0
		for n < len(leaves) && hasLeaf(marks, first+uint64(n), leaves[n]) {
			n++
		}
		return leaves[:n]
	}
	for _, m := range marks {
		if n := len(m.Leaves); m.First == first && n <= len(leaves) && slices.Equal(m.Leaves, leaves[:n]) {
			return m.Leaves
		}
	}
	return nil
}

// hasLeaf reports whether one of the marks has the leaf at index.
func hasLeaf(marks []pubstore.Mark, index uint64, id pubstore.LeafID) bool {
	return slices.ContainsFunc(marks, func(m pubstore.Mark) bool {
		return m.First <= index && index < m.End() && m.Leaves[index-m.First] == id
	})
}
