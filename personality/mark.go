package personality

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/prooftrail/prooftrail/personality/pubstore"
	"github.com/prooftrail/prooftrail/personality/tree"
)

// maxStoredBatch bounds the leaves of a stored batch: a batch's events, and a
// conflict for each.
const maxStoredBatch = 2 * maxBatchEvents

// errUnmarked: leaves are stored that this log didn't sequence.
var errUnmarked = errors.New("leaves that this log did not sequence")

// mark makes a batch's mark: HMAC-SHA-256, under a key that only the service has,
// over "prooftrail.batch/1", the first index and the count as uint64 big endian, and
// each leaf's hash and identity hash. Until a leaf is signed for, it is all that tells
// it from one that somebody put into the database.
func (s *Service) mark(b *batch) pubstore.Mark {
	mac := hmac.New(sha256.New, s.parts.keys.batch)
	mac.Write([]byte("prooftrail.batch/1"))
	var n [16]byte
	binary.BigEndian.PutUint64(n[:8], b.first)
	binary.BigEndian.PutUint64(n[8:], uint64(b.count))
	mac.Write(n[:])
	for i := range b.hashes {
		mac.Write(b.hashes[i][:])
		mac.Write(b.ids[i][:])
	}
	return pubstore.Mark{First: b.first, Count: b.count, MAC: [32]byte(mac.Sum(nil))}
}

// readBatch reads back the batch that begins at index first; nil if no leaf is
// stored there. A leaf without a mark makes the service refuse: it would sign what
// nobody submitted.
func (s *Service) readBatch(ctx context.Context, first uint64) (*batch, error) {
	marks, err := s.store.Marks(ctx, first)
	if errors.Is(err, pubstore.ErrCorrupt) {
		return nil, s.refuse(fmt.Sprintf("the marks of entry %d are damaged", first), err)
	}
	if err != nil {
		return nil, err
	}
	count := 1
	for _, m := range marks {
		count = max(count, min(m.Count, maxStoredBatch))
	}
	leaves, err := s.tree.Leaves(ctx, first, count)
	if err != nil {
		return nil, fmt.Errorf("read back from entry %d: %w", first, err)
	}
	if len(leaves) == 0 {
		return nil, nil
	}
	for _, m := range marks {
		if m.Count < 1 || m.Count > len(leaves) {
			continue
		}
		b, err := recovered(leaves[:m.Count], first)
		if err != nil {
			return nil, err
		}
		b.mark = s.mark(b)
		if hmac.Equal(b.mark.MAC[:], m.MAC[:]) {
			return b, nil
		}
	}
	return nil, s.refuse(fmt.Sprintf("entry %d is stored, but this log didn't sequence it, or not with this content: "+
		"somebody wrote to the database", first), errUnmarked)
}

// recovered makes a batch of leaves read back, which start at index first.
func recovered(leaves []tree.Leaf, first uint64) (*batch, error) {
	b := newBatch(first)
	b.count = len(leaves)
	for i, l := range leaves {
		if l.Index != first+uint64(i) {
			return nil, fmt.Errorf("read back: got entry %d for %d", l.Index, first+uint64(i))
		}
		b.hashes = append(b.hashes, leafHashOf(l.Value))
		b.ids = append(b.ids, l.IdentityHash)
	}
	return b, nil
}
