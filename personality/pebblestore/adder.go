package pebblestore

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/google/trillian"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// adder adds the leaves of one call. It reads r, which doesn't see what the call
// itself writes: that is in byIndex and byIdentity.
//
// A batch is looked at as a whole first: one look at the range of its indices, one
// pass over its identity hashes in their order with one iterator. Almost always
// nothing is in the way of any leaf (fresh), and the rows are written in the
// order of their keys, which a memtable takes much faster than a random one.
type adder struct {
	t     *logTX
	r     pebble.Reader
	nanos int64

	fresh  bool    // nothing is in the way of any leaf
	sorted []int32 // leaves in the order of their identity hashes; if fresh

	byIndex    map[int64]*trillian.LogLeaf
	byIdentity map[[hashSize]byte]*trillian.LogLeaf
}

func (t *logTX) newAdder(leaves []*trillian.LogLeaf, nanos int64) (*adder, error) {
	r, err := t.reader()
	if err != nil {
		return nil, err
	}
	a := &adder{t: t, r: r, nanos: nanos}
	if len(leaves) == 0 {
		return a, nil
	}
	if a.fresh, err = a.allFresh(leaves); err != nil || a.fresh {
		return a, err
	}
	a.byIdentity = make(map[[hashSize]byte]*trillian.LogLeaf, len(leaves))
	a.byIndex = make(map[int64]*trillian.LogLeaf, len(leaves))
	return a, nil
}

// allFresh says whether no index and no identity hash is stored or comes twice. It says
// no, too, for indices that don't follow each other.
func (a *adder) allFresh(leaves []*trillian.LogLeaf) (bool, error) {
	for i, leaf := range leaves {
		if leaf.LeafIndex != leaves[0].LeafIndex+int64(i) {
			return false, nil
		}
	}
	first := uint64(leaves[0].LeafIndex)
	free, err := a.indicesFree(first, min(first+uint64(len(leaves)), maxTreeSize))
	if err != nil || !free {
		return false, err
	}
	a.sorted = make([]int32, len(leaves))
	for i := range a.sorted {
		a.sorted[i] = int32(i)
	}
	slices.SortFunc(a.sorted, func(i, j int32) int {
		return bytes.Compare(leaves[i].LeafIdentityHash, leaves[j].LeafIdentityHash)
	})
	for i := range a.sorted[1:] {
		if bytes.Equal(leaves[a.sorted[i]].LeafIdentityHash, leaves[a.sorted[i+1]].LeafIdentityHash) {
			return false, nil
		}
	}
	return a.identitiesFree(leaves)
}

// indicesFree says whether no leaf is stored at indices [first, end).
func (a *adder) indicesFree(first, end uint64) (bool, error) {
	it, err := a.r.NewIter(&pebble.IterOptions{
		LowerBound: appendLeafKey(make([]byte, 0, leafKeyLen), a.t.id, first),
		UpperBound: appendLeafKey(make([]byte, 0, leafKeyLen), a.t.id, end),
	})
	if err != nil {
		return false, err
	}
	found := it.First()
	return !found, firstErr(it.Error(), it.Close())
}

// identitiesFree says whether no identity hash of leaves is stored. One iterator moves
// forward through all of them; by prefix, so that it asks the tables' filters, and
// those of the last level too, which Get and other iterators leave alone: there
// is most of the data, and without them each new hash costs a block read there.
func (a *adder) identitiesFree(leaves []*trillian.LogLeaf) (bool, error) {
	it, err := a.r.NewIter(&pebble.IterOptions{
		LowerBound:   appendDataKey(make([]byte, 0, dataKeyLen), a.t.id, kindIdentity),
		UpperBound:   appendDataKey(make([]byte, 0, dataKeyLen), a.t.id, kindIdentity+1),
		UseL6Filters: true,
	})
	if err != nil {
		return false, err
	}
	var buf [identityKeyLen]byte
	found := false
	for _, i := range a.sorted {
		if found = it.SeekPrefixGE(appendIdentityKey(buf[:0], a.t.id, leaves[i].LeafIdentityHash)); found || it.Error() != nil {
			break
		}
	}
	return !found, firstErr(it.Error(), it.Close())
}

func (a *adder) row(leaf *trillian.LogLeaf) leafRow {
	return leafRow{
		queued: a.nanos, identity: leaf.LeafIdentityHash, hash: leaf.MerkleLeafHash,
		extra: leaf.ExtraData, value: leaf.LeafValue,
	}
}

// addAll writes the leaves of a fresh batch.
func (a *adder) addAll(leaves []*trillian.LogLeaf) error {
	for _, leaf := range leaves {
		row := a.row(leaf)
		if err := a.t.putLeafRow(&row, uint64(leaf.LeafIndex)); err != nil {
			return fmt.Errorf("leaf %d: %w", leaf.LeafIndex, err)
		}
	}
	for _, i := range a.sorted {
		if err := a.t.putIdentity(leaves[i].LeafIdentityHash, identityRow{at: uint64(leaves[i].LeafIndex)}); err != nil {
			return fmt.Errorf("leaf %d: %w", leaves[i].LeafIndex, err)
		}
	}
	return nil
}

// add writes leaf, or returns the stored leaf that is in its way.
func (a *adder) add(leaf *trillian.LogLeaf) (stored *trillian.LogLeaf, refusal *spb.Status, err error) {
	stored, err = a.atIndex(leaf.LeafIndex)
	switch {
	case err != nil:
		return nil, nil, err
	case stored != nil && sameLeaf(stored, leaf):
		return stored, status.New(codes.AlreadyExists, "leaf is stored already").Proto(), nil
	case stored != nil:
		return stored, status.New(codes.FailedPrecondition, "conflicting LeafIndex").Proto(), nil
	}
	stored, err = a.withIdentity(leaf.LeafIdentityHash)
	switch {
	case err != nil:
		return nil, nil, err
	case stored != nil:
		return stored, status.New(codes.FailedPrecondition, "conflicting LeafIdentityHash").Proto(), nil
	}
	a.byIndex[leaf.LeafIndex] = leaf
	a.byIdentity[[hashSize]byte(leaf.LeafIdentityHash)] = leaf
	row := a.row(leaf)
	return nil, nil, a.t.putLeaf(&row, uint64(leaf.LeafIndex))
}

func sameLeaf(a, b *trillian.LogLeaf) bool {
	return a.LeafIndex == b.LeafIndex && bytes.Equal(a.LeafIdentityHash, b.LeafIdentityHash) &&
		bytes.Equal(a.MerkleLeafHash, b.MerkleLeafHash) && bytes.Equal(a.LeafValue, b.LeafValue) &&
		bytes.Equal(a.ExtraData, b.ExtraData)
}

func (a *adder) atIndex(index int64) (*trillian.LogLeaf, error) {
	if leaf := a.byIndex[index]; leaf != nil {
		return leaf, nil
	}
	return a.t.leafAt(a.r, uint64(index))
}

func (a *adder) withIdentity(identity []byte) (*trillian.LogLeaf, error) {
	if leaf := a.byIdentity[[hashSize]byte(identity)]; leaf != nil {
		return leaf, nil
	}
	return a.t.leafByIdentity(a.r, identity)
}
