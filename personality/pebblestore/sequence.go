package pebblestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/google/trillian"
	"github.com/google/trillian/storage"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// checkLeaf refuses what can't be stored.
func checkLeaf(i int, leaf *trillian.LogLeaf) error {
	switch {
	case leaf == nil:
		return status.Errorf(codes.InvalidArgument, "leaves[%d] is nil", i)
	case len(leaf.LeafIdentityHash) != hashSize:
		return status.Errorf(codes.FailedPrecondition, "leaves[%d] has an identity hash of %d bytes, want %d",
			i, len(leaf.LeafIdentityHash), hashSize)
	case len(leaf.MerkleLeafHash) != hashSize:
		return status.Errorf(codes.FailedPrecondition, "leaves[%d] has a Merkle leaf hash of %d bytes, want %d",
			i, len(leaf.MerkleLeafHash), hashSize)
	case leaf.LeafIndex < 0:
		return status.Errorf(codes.OutOfRange, "leaves[%d] has index %d", i, leaf.LeafIndex)
	}
	return nil
}

// AddSequencedLeaves does within a transaction what storage.LogStorage's method of the
// same name does in one of its own, with the same result for each leaf. Leaves that
// are refused don't keep the others from being stored: a caller for whom it's
// all or nothing returns an error from its transaction if any status isn't OK.
// It has the signature of the one in Trillian's MySQL storage.
func (t *logTX) AddSequencedLeaves(_ context.Context, leaves []*trillian.LogLeaf, timestamp time.Time) ([]*trillian.QueuedLogLeaf, error) {
	if err := t.writable(); err != nil {
		return nil, err
	}
	if t.latest() == nil {
		return nil, storage.ErrTreeNeedsInit
	}
	for i, leaf := range leaves {
		if err := checkLeaf(i, leaf); err != nil {
			return nil, err
		}
	}
	a, err := t.newAdder(leaves, timestamp.UnixNano())
	if err != nil {
		return nil, t.note(fmt.Errorf("add leaves: %w", err))
	}
	ok := status.New(codes.OK, "OK").Proto()
	results := make([]trillian.QueuedLogLeaf, len(leaves))
	res := make([]*trillian.QueuedLogLeaf, len(leaves))
	for i, leaf := range leaves {
		results[i].Leaf, results[i].Status = leaf, ok
		res[i] = &results[i]
	}
	if a.fresh {
		if err := a.addAll(leaves); err != nil {
			return nil, fmt.Errorf("add leaves: %w", err)
		}
		return res, nil
	}
	for i, leaf := range leaves {
		stored, refusal, err := a.add(leaf)
		if err != nil {
			return nil, t.note(fmt.Errorf("add leaf %d: %w", leaf.LeafIndex, err))
		}
		if refusal != nil {
			results[i].Leaf, results[i].Status = stored, refusal
		}
	}
	return res, nil
}

// leafByIdentity returns the leaf with that identity hash, sequenced or queued, or nil.
func (t *logTX) leafByIdentity(r pebble.Reader, identity []byte) (*trillian.LogLeaf, error) {
	var buf [identityKeyLen]byte
	key := appendIdentityKey(buf[:0], t.id, identity)
	v, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %x: %w", key, err)
	}
	row, perr := parseIdentityRow(key, v)
	if err := firstErr(perr, closer.Close()); err != nil {
		return nil, err
	}
	var leaf *trillian.LogLeaf
	if row.queued {
		leaf, err = t.queuedLeaf(r, unsortable(row.at), identity)
	} else {
		leaf, err = t.leafAt(r, row.at)
	}
	switch {
	case err != nil:
		return nil, err
	case leaf == nil || !bytes.Equal(leaf.LeafIdentityHash, identity):
		return nil, corrupt(key, "no such leaf at %d", row.at)
	}
	return leaf, nil
}

// putLeaf writes the rows of a sequenced leaf.
func (t *logTX) putLeaf(row *leafRow, index uint64) error {
	return firstErr(t.putLeafRow(row, index), t.putIdentity(row.identity, identityRow{at: index}))
}

// putLeafRow writes all of them but the one that its identity hash has.
func (t *logTX) putLeafRow(row *leafRow, index uint64) error {
	op := t.batch.SetDeferred(leafKeyLen, row.size())
	appendLeafKey(op.Key[:0], t.id, index)
	row.encode(op.Key, op.Value)
	if err := op.Finish(); err != nil {
		return err
	}
	if t.kind == trillian.TreeType_PREORDERED_LOG {
		return nil
	}
	return t.putHashRow(row.hash, index)
}

func (t *logTX) putHashRow(hash []byte, index uint64) error {
	op := t.batch.SetDeferred(hashKeyLen, hashRowLen)
	appendHashKey(op.Key[:0], t.id, hash, index)
	seal(op.Key, op.Value)
	return op.Finish()
}

func (t *logTX) putIdentity(identity []byte, row identityRow) error {
	op := t.batch.SetDeferred(identityKeyLen, identityLen)
	appendIdentityKey(op.Key[:0], t.id, identity)
	row.encode(op.Key, op.Value)
	return op.Finish()
}
