package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/google/trillian"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// GetLeavesByRange implements storage.ReadOnlyLogTreeTX. A hole below the tree's
// size is an error, DataLoss.
func (t *logTX) GetLeavesByRange(_ context.Context, start, count int64) ([]*trillian.LogLeaf, error) {
	switch {
	case t.done:
		return nil, errTxDone
	case count <= 0:
		return nil, status.Errorf(codes.InvalidArgument, "invalid count %d, want > 0", count)
	case start < 0:
		return nil, status.Errorf(codes.InvalidArgument, "invalid start %d, want >= 0", start)
	}
	first, end := uint64(start), uint64(start)+uint64(count)
	size := t.head.treeSize()
	if t.kind == trillian.TreeType_LOG {
		if first >= size {
			return nil, status.Errorf(codes.OutOfRange, "invalid start %d, want < tree size %d", start, size)
		}
		end = min(end, size)
	}
	leaves, err := t.scanLeaves(first, min(end, maxTreeSize))
	if err != nil {
		return nil, t.note(fmt.Errorf("get leaves from %d: %w", start, err))
	}
	if next := first + uint64(len(leaves)); next < min(end, size) {
		key := appendLeafKey(nil, t.id, next)
		return nil, t.note(fmt.Errorf("get leaves from %d: %w", start, corrupt(key, "missing below size %d", size)))
	}
	return leaves, nil
}

// scanLeaves reads leaves [first, end) until the first missing one.
func (t *logTX) scanLeaves(first, end uint64) (_ []*trillian.LogLeaf, err error) {
	r, err := t.reader()
	if err != nil {
		return nil, err
	}
	it, err := r.NewIter(&pebble.IterOptions{
		LowerBound: appendLeafKey(make([]byte, 0, leafKeyLen), t.id, first),
		UpperBound: appendLeafKey(make([]byte, 0, leafKeyLen), t.id, end),
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = firstErr(err, it.Close()) }()
	var a leafAllocator
	var leaves []*trillian.LogLeaf
	for ok := it.First(); ok; ok = it.Next() {
		index := first + uint64(len(leaves))
		if lastUint64(it.Key()) != index {
			break
		}
		leaf, err := a.leaf(it.Key(), it.Value())
		if err != nil {
			return nil, err
		}
		leaf.LeafIndex = int64(index)
		leaves = append(leaves, leaf)
	}
	return leaves, it.Error()
}

// leafAllocator makes leaves whose parts lie in a few pieces of memory, each piece
// larger than the one before.
type leafAllocator struct {
	leaves     []trillian.LogLeaf
	bytes      []byte
	nextLeaves int
	nextBytes  int
	queued     *timestamppb.Timestamp
	integrated *timestamppb.Timestamp
}

const (
	minAllocLeaves, maxAllocLeaves = 1, 256
	minAllocBytes, maxAllocBytes   = 128, 32 << 10
)

// leaf decodes a row, copying it; LeafIndex is left to the caller.
func (a *leafAllocator) leaf(key, value []byte) (*trillian.LogLeaf, error) {
	p, err := unseal(key, value)
	if err != nil {
		return nil, err
	}
	row, err := parseLeafRow(key, a.copy(p))
	if err != nil {
		return nil, err
	}
	if len(a.leaves) == 0 {
		a.nextLeaves = min(max(4*a.nextLeaves, minAllocLeaves), maxAllocLeaves)
		a.leaves = make([]trillian.LogLeaf, a.nextLeaves)
	}
	leaf := &a.leaves[0]
	a.leaves = a.leaves[1:]
	leaf.MerkleLeafHash, leaf.LeafIdentityHash = row.hash, row.identity
	leaf.LeafValue, leaf.ExtraData = row.value, row.extra
	leaf.QueueTimestamp = timestamp(&a.queued, row.queued)
	leaf.IntegrateTimestamp = timestamp(&a.integrated, row.integrated)
	return leaf, nil
}

func (a *leafAllocator) copy(p []byte) []byte {
	if cap(a.bytes)-len(a.bytes) < len(p) {
		a.nextBytes = min(max(4*a.nextBytes, minAllocBytes), maxAllocBytes)
		a.bytes = make([]byte, 0, max(len(p), a.nextBytes))
	}
	n := len(a.bytes)
	a.bytes = append(a.bytes, p...)
	return a.bytes[n:len(a.bytes):len(a.bytes)]
}

// timestamp returns nanos as a message; neighbours often have the same one and share it.
func timestamp(last **timestamppb.Timestamp, nanos int64) *timestamppb.Timestamp {
	t := time.Unix(0, nanos)
	if l := *last; l == nil || l.Seconds != t.Unix() || int(l.Nanos) != t.Nanosecond() {
		*last = timestamppb.New(t)
	}
	return *last
}

// leafAt reads one leaf, nil if it isn't stored.
func (t *logTX) leafAt(r pebble.Reader, index uint64) (*trillian.LogLeaf, error) {
	var buf [leafKeyLen]byte
	leaf, err := readLeaf(r, appendLeafKey(buf[:0], t.id, index))
	if leaf != nil {
		leaf.LeafIndex = int64(index)
	}
	return leaf, err
}

func readLeaf(r pebble.Reader, key []byte) (*trillian.LogLeaf, error) {
	v, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %x: %w", key, err)
	}
	var a leafAllocator
	leaf, err := a.leaf(key, v)
	return leaf, firstErr(err, closer.Close())
}
