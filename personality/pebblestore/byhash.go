package pebblestore

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/google/trillian"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// GetLeavesByHash implements storage.ReadOnlyLogTreeTX: sequenced leaves in the order of
// leafHashes, or of their indices if orderBySequence. A LOG tree has an index for it.
//
// A PREORDERED_LOG tree has none, and all of its leaves are read: whoever writes such a
// tree decides on the indices and knows them, and the index took a sixth of the CPU
// time that it takes to store and to integrate a leaf.
func (t *logTX) GetLeavesByHash(ctx context.Context, leafHashes [][]byte, orderBySequence bool) ([]*trillian.LogLeaf, error) {
	if err := t.readable(); err != nil {
		return nil, err
	}
	for _, hash := range leafHashes {
		if len(hash) != hashSize {
			return nil, status.Errorf(codes.InvalidArgument, "leaf hash of %d bytes, want %d", len(hash), hashSize)
		}
	}
	find := t.indexedByHash
	if t.kind == trillian.TreeType_PREORDERED_LOG {
		find = t.scanForHashes
	}
	leaves, err := find(ctx, leafHashes)
	if err != nil {
		return nil, t.note(fmt.Errorf("get leaves by hash: %w", err))
	}
	if orderBySequence {
		slices.SortStableFunc(leaves, func(a, b *trillian.LogLeaf) int { return cmp.Compare(a.LeafIndex, b.LeafIndex) })
	}
	return leaves, nil
}

func (t *logTX) indexedByHash(_ context.Context, hashes [][]byte) (leaves []*trillian.LogLeaf, err error) {
	r, err := t.reader()
	if err != nil {
		return nil, err
	}
	for _, hash := range hashes {
		if leaves, err = t.appendByHash(leaves, r, hash); err != nil {
			return nil, err
		}
	}
	return leaves, nil
}

func (t *logTX) appendByHash(leaves []*trillian.LogLeaf, r pebble.Reader, hash []byte) (_ []*trillian.LogLeaf, err error) {
	it, err := r.NewIter(&pebble.IterOptions{
		LowerBound: appendHashKey(nil, t.id, hash, 0),
		UpperBound: appendHashKey(nil, t.id, hash, maxTreeSize),
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = firstErr(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		if p, err := unseal(it.Key(), it.Value()); err != nil || len(p) != 0 {
			return nil, firstErr(err, corrupt(it.Key(), "%d bytes too many", len(p)))
		}
		leaf, err := t.leafAt(r, lastUint64(it.Key()))
		if err != nil {
			return nil, err
		}
		if leaf == nil {
			return nil, corrupt(it.Key(), "leaf missing")
		}
		if bytes.Equal(leaf.MerkleLeafHash, hash) {
			leaves = append(leaves, leaf)
		}
	}
	return leaves, it.Error()
}

// scanForHashes looks at the hash of every leaf.
func (t *logTX) scanForHashes(ctx context.Context, hashes [][]byte) (_ []*trillian.LogLeaf, err error) {
	r, err := t.reader()
	if err != nil {
		return nil, err
	}
	it, err := r.NewIter(&pebble.IterOptions{
		LowerBound: appendDataKey(nil, t.id, kindLeaf),
		UpperBound: appendDataKey(nil, t.id, kindLeaf+1),
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = firstErr(err, it.Close()) }()
	found := make(map[[hashSize]byte][]*trillian.LogLeaf, len(hashes))
	for _, hash := range hashes {
		found[[hashSize]byte(hash)] = nil
	}
	var a leafAllocator
	n := 0
	for ok := it.First(); ok; ok = it.Next() {
		if n++; n%4096 == 0 && ctx.Err() != nil {
			return nil, status.FromContextError(ctx.Err()).Err()
		}
		h, err := storedHash(0, it.Key(), it.Value())
		if err != nil {
			return nil, err
		}
		id := [hashSize]byte(h)
		if _, wanted := found[id]; !wanted {
			continue
		}
		leaf, err := a.leaf(it.Key(), it.Value())
		if err != nil {
			return nil, err
		}
		leaf.LeafIndex = int64(lastUint64(it.Key()))
		found[id] = append(found[id], leaf)
	}
	var leaves []*trillian.LogLeaf
	for _, hash := range hashes {
		leaves = append(leaves, found[[hashSize]byte(hash)]...)
	}
	return leaves, it.Error()
}
