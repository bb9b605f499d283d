package pebblestore

import (
	"context"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/google/trillian"
	"github.com/google/trillian/storage"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// QueueLeaves queues leaves of a LOG tree. For each leaf whose identity hash is there
// already, queued or sequenced, the result holds that leaf, else nil. The leaves'
// QueueTimestamp is set.
func (t *logTX) QueueLeaves(_ context.Context, leaves []*trillian.LogLeaf, queueTimestamp time.Time) ([]*trillian.LogLeaf, error) {
	if err := t.writable(); err != nil {
		return nil, err
	}
	if t.kind != trillian.TreeType_LOG {
		return nil, status.Errorf(codes.FailedPrecondition, "queue leaves: tree is a %v", t.kind)
	}
	if t.latest() == nil {
		return nil, storage.ErrTreeNeedsInit
	}
	for i, leaf := range leaves {
		if err := checkLeaf(i, leaf); err != nil {
			return nil, err
		}
	}
	r, err := t.reader()
	if err != nil {
		return nil, err
	}
	existing := make([]*trillian.LogLeaf, len(leaves))
	fresh := make(map[[hashSize]byte]*trillian.LogLeaf, len(leaves))
	for i, leaf := range leaves {
		id := [hashSize]byte(leaf.LeafIdentityHash)
		if existing[i] = fresh[id]; existing[i] != nil {
			continue
		}
		if existing[i], err = t.leafByIdentity(r, leaf.LeafIdentityHash); err != nil {
			return nil, t.note(fmt.Errorf("queue leaf: %w", err))
		}
		leaf.QueueTimestamp = timestamppb.New(queueTimestamp)
		if existing[i] == nil {
			fresh[id] = leaf
			if err := t.enqueue(leaf, queueTimestamp.UnixNano()); err != nil {
				return nil, fmt.Errorf("queue leaf: %w", err)
			}
		}
	}
	return existing, nil
}

func (t *logTX) enqueue(leaf *trillian.LogLeaf, nanos int64) error {
	row := leafRow{
		queued: nanos, identity: leaf.LeafIdentityHash, hash: leaf.MerkleLeafHash,
		extra: leaf.ExtraData, value: leaf.LeafValue,
	}
	op := t.batch.SetDeferred(queueKeyLen, row.size())
	appendQueueKey(op.Key[:0], t.id, nanos, leaf.LeafIdentityHash)
	row.encode(op.Key, op.Value)
	if err := op.Finish(); err != nil {
		return err
	}
	return t.putIdentity(leaf.LeafIdentityHash, identityRow{queued: true, at: sortable(nanos)})
}

func (t *logTX) queuedLeaf(r pebble.Reader, nanos int64, identity []byte) (*trillian.LogLeaf, error) {
	leaf, err := readLeaf(r, appendQueueKey(nil, t.id, nanos, identity))
	if leaf != nil {
		leaf.LeafIndex = -1
	}
	return leaf, err
}

// dequeuedLeaf is what a transaction needs again to move a leaf out of the queue.
type dequeuedLeaf struct {
	key  []byte
	leaf *trillian.LogLeaf
}

// DequeueLeaves implements storage.LogTreeTX. LOG trees give queued leaves in the
// order of queue time, then identity hash, none twice within a transaction.
//
// PREORDERED_LOG trees give the leaves past the root, whatever the cutoff, as Trillian's
// MySQL storage does: their order is final, and a clock that stepped back must
// not keep them from being integrated.
func (t *logTX) DequeueLeaves(_ context.Context, limit int, cutoff time.Time) ([]*trillian.LogLeaf, error) {
	if err := t.readable(); err != nil {
		return nil, err
	}
	if limit <= 0 {
		return nil, status.Errorf(codes.InvalidArgument, "dequeue leaves: limit %d", limit)
	}
	var leaves []*trillian.LogLeaf
	var err error
	if t.kind == trillian.TreeType_PREORDERED_LOG {
		size := t.head.treeSize()
		leaves, err = t.scanLeaves(size, min(size+uint64(limit), maxTreeSize))
	} else {
		leaves, err = t.dequeue(limit, cutoff.UnixNano())
	}
	if err != nil {
		return nil, t.note(fmt.Errorf("dequeue leaves: %w", err))
	}
	return leaves, nil
}

func (t *logTX) dequeue(limit int, cutoff int64) (_ []*trillian.LogLeaf, err error) {
	r, err := t.reader()
	if err != nil {
		return nil, err
	}
	lower := appendDataKey(nil, t.id, kindQueue)
	upper := appendDataKey(nil, t.id, kindQueue+1)
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, err
	}
	defer func() { err = firstErr(err, it.Close()) }()
	if t.dequeued == nil {
		t.dequeued = make(map[[hashSize]byte]dequeuedLeaf)
	}
	var a leafAllocator
	var leaves []*trillian.LogLeaf
	for ok := it.First(); ok && len(leaves) < limit; ok = it.Next() {
		key := it.Key()
		if len(key) != queueKeyLen {
			return nil, corrupt(key, "key of a queued leaf")
		}
		if unsortable(lastUint64(key[:dataKeyLen+8])) > cutoff {
			break
		}
		id := [hashSize]byte(key[dataKeyLen+8:])
		if _, again := t.dequeued[id]; again {
			continue
		}
		leaf, err := a.leaf(key, it.Value())
		if err != nil {
			return nil, err
		}
		if [hashSize]byte(leaf.LeafIdentityHash) != id {
			return nil, corrupt(key, "holds leaf %x", leaf.LeafIdentityHash)
		}
		leaf.LeafIndex, leaf.IntegrateTimestamp = -1, nil
		t.dequeued[id] = dequeuedLeaf{key: append([]byte(nil), key...), leaf: leaf}
		leaves = append(leaves, leaf)
	}
	return leaves, it.Error()
}

// UpdateSequencedLeaves implements storage.LogTreeTX: it moves leaves that this
// transaction dequeued to the indices that they have now.
func (t *logTX) UpdateSequencedLeaves(_ context.Context, leaves []*trillian.LogLeaf) error {
	if err := t.writable(); err != nil {
		return err
	}
	r, err := t.reader()
	if err != nil {
		return err
	}
	taken := make(map[int64]bool, len(leaves)) // by this call, whose writes r doesn't show
	for i, leaf := range leaves {
		if err := checkLeaf(i, leaf); err != nil {
			return err
		}
		if taken[leaf.LeafIndex] {
			return status.Errorf(codes.InvalidArgument, "leaves[%d]: index %d comes twice", i, leaf.LeafIndex)
		}
		taken[leaf.LeafIndex] = true
		if err := leaf.IntegrateTimestamp.CheckValid(); err != nil {
			return status.Errorf(codes.InvalidArgument, "leaves[%d]: integrate timestamp: %v", i, err)
		}
		if err := t.moveToIndex(r, leaf); err != nil {
			return t.note(fmt.Errorf("sequence leaf %d: %w", leaf.LeafIndex, err))
		}
	}
	return nil
}

func (t *logTX) moveToIndex(r pebble.Reader, leaf *trillian.LogLeaf) error {
	id := [hashSize]byte(leaf.LeafIdentityHash)
	d, ok := t.dequeued[id]
	if !ok || d.leaf == nil {
		return status.Errorf(codes.FailedPrecondition, "leaf %x wasn't dequeued here", leaf.LeafIdentityHash)
	}
	index := uint64(leaf.LeafIndex)
	if taken, err := t.leafAt(r, index); err != nil || taken != nil {
		return firstErr(err, status.Error(codes.FailedPrecondition, "conflicting LeafIndex"))
	}
	row := leafRow{
		queued: d.leaf.QueueTimestamp.AsTime().UnixNano(), integrated: leaf.IntegrateTimestamp.AsTime().UnixNano(),
		identity: leaf.LeafIdentityHash, hash: leaf.MerkleLeafHash,
		extra: d.leaf.ExtraData, value: d.leaf.LeafValue,
	}
	// From here on the leaf is done with, but isn't to be dequeued again either.
	t.dequeued[id] = dequeuedLeaf{}
	if err := t.batch.Delete(d.key, nil); err != nil {
		return err
	}
	return t.putLeaf(&row, index)
}
