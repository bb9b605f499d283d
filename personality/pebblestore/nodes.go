package pebblestore

import (
	"context"
	"fmt"
	"math/bits"

	"github.com/cockroachdb/pebble/v2"
	"github.com/google/trillian/storage/tree"
	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// nodeStride: nodes are stored at levels that are multiples of it. The ones in between
// are computed from at most 1<<(nodeStride-1) stored ones, side by side.
const nodeStride = 4

// maxNodeLevel is that of the root of a full tree.
const maxNodeLevel = 63

func checkNodeID(id compact.NodeID) error {
	if id.Level > maxNodeLevel || id.Index > (maxTreeSize-1)>>id.Level {
		return status.Errorf(codes.InvalidArgument, "no such node: level %d, index %d", id.Level, id.Index)
	}
	return nil
}

// SetMerkleNodes implements storage.LogTreeTX. As in Trillian's own storages a node
// comes together with those below it that aren't stored yet: levels in between the
// stored ones are only remembered until the transaction ends, and level 0 is the
// hash in the leaf's row.
func (t *logTX) SetMerkleNodes(_ context.Context, nodes []tree.Node) error {
	if err := t.writable(); err != nil {
		return err
	}
	for i := range nodes {
		n := &nodes[i]
		if err := checkNodeID(n.ID); err != nil {
			return err
		}
		if len(n.Hash) != hashSize {
			return status.Errorf(codes.InvalidArgument, "node %v has a hash of %d bytes", n.ID, len(n.Hash))
		}
		if err := t.setNode(n); err != nil {
			return fmt.Errorf("set node %v: %w", n.ID, err)
		}
	}
	t.nodes, t.nodeMap = append(t.nodes, nodes...), nil
	return nil
}

func (t *logTX) setNode(n *tree.Node) error {
	if n.ID.Level == 0 || n.ID.Level%nodeStride != 0 {
		return nil
	}
	op := t.batch.SetDeferred(nodeKeyLen, nodeLen)
	appendNodeKey(op.Key[:0], t.id, n.ID.Level, n.ID.Index)
	copy(op.Value[1:], n.Hash)
	seal(op.Key, op.Value)
	return op.Finish()
}

// edge returns the edge of a tree of size leaves from what this transaction set
// and what was there before; nil if neither has all of it.
func (t *logTX) edge(size uint64) []byte {
	edge := make([]byte, hashSize*bits.OnesCount64(size))
	have := uint64(0) // levels
	place := func(level uint, hash []byte) {
		n := bits.OnesCount64(size>>level) - 1
		copy(edge[n*hashSize:], hash)
		have |= 1 << level
	}
	for level := uint(0); level <= maxNodeLevel; level++ {
		id := compact.NodeID{Level: level, Index: size>>level - 1}
		if !onEdge(size, id) {
			continue
		}
		if h := t.head.edgeHash(id); h != nil {
			place(level, h)
		}
	}
	for i := range t.nodes {
		if n := &t.nodes[i]; onEdge(size, n.ID) {
			place(n.ID.Level, n.Hash)
		}
	}
	if have != size {
		return nil
	}
	return edge
}

// GetMerkleNodes implements storage.ReadOnlyLogTreeTX. A node that can't be had
// is an error, never left out.
func (t *logTX) GetMerkleNodes(_ context.Context, ids []compact.NodeID) ([]tree.Node, error) {
	if err := t.readable(); err != nil {
		return nil, err
	}
	if t.nodeMap == nil && len(t.nodes) > 0 {
		t.nodeMap = make(map[compact.NodeID][]byte, len(t.nodes))
		for _, n := range t.nodes {
			t.nodeMap[n.ID] = n.Hash
		}
	}
	nodes := make([]tree.Node, len(ids))
	for i, id := range ids {
		hash, err := t.node(id)
		if err != nil {
			return nil, t.note(fmt.Errorf("get node %v: %w", id, err))
		}
		nodes[i] = tree.Node{ID: id, Hash: hash}
	}
	return nodes, nil
}

func (t *logTX) node(id compact.NodeID) ([]byte, error) {
	if err := checkNodeID(id); err != nil {
		return nil, err
	}
	if h := t.nodeMap[id]; h != nil {
		return h, nil
	}
	if h := t.head.edgeHash(id); h != nil {
		return h, nil
	}
	// Leaves past the root may be stored already; nodes over them are not part of the tree.
	if size := t.latest().treeSize(); id.Index >= size>>id.Level {
		return nil, status.Errorf(codes.OutOfRange, "node past size %d", size)
	}
	level := id.Level - id.Level%nodeStride
	hashes, err := t.storedHashes(level, id.Index<<(id.Level-level), 1<<(id.Level-level))
	if err != nil {
		return nil, err
	}
	for len(hashes) > 1 {
		for i := range len(hashes) / 2 {
			hashes[i] = rfc6962.DefaultHasher.HashChildren(hashes[2*i], hashes[2*i+1])
		}
		hashes = hashes[:len(hashes)/2]
	}
	return hashes[0], nil
}

// storedHashes reads count hashes of a stored level from first on.
func (t *logTX) storedHashes(level uint, first uint64, count int) (_ [][]byte, err error) {
	r, err := t.reader()
	if err != nil {
		return nil, err
	}
	key := func(index uint64) []byte {
		if level == 0 {
			return appendLeafKey(nil, t.id, index)
		}
		return appendNodeKey(nil, t.id, level, index)
	}
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: key(first), UpperBound: key(first + uint64(count))})
	if err != nil {
		return nil, err
	}
	defer func() { err = firstErr(err, it.Close()) }()
	hashes := make([][]byte, 0, count)
	for ok := it.First(); ok; ok = it.Next() {
		next := first + uint64(len(hashes))
		if lastUint64(it.Key()) != next {
			return nil, corrupt(key(next), "missing")
		}
		h, err := storedHash(level, it.Key(), it.Value())
		if err != nil {
			return nil, err
		}
		hashes = append(hashes, append([]byte(nil), h...))
	}
	if err := it.Error(); err != nil {
		return nil, err
	}
	if len(hashes) != count {
		return nil, corrupt(key(first+uint64(len(hashes))), "missing")
	}
	return hashes, nil
}

func storedHash(level uint, key, value []byte) ([]byte, error) {
	if level > 0 {
		return parseNodeRow(key, value)
	}
	p, err := unseal(key, value)
	if err != nil {
		return nil, err
	}
	row, err := parseLeafRow(key, p)
	return row.hash, err
}
