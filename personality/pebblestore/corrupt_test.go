package pebblestore_test

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/google/trillian"
	"github.com/google/trillian/storage"
	"github.com/google/trillian/storage/tree"
	"github.com/prooftrail/prooftrail/personality/pebblestore"
	"github.com/transparency-dev/merkle/compact"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// TestCorruptRows damages each row of a small tree: whoever meets it reports it.
func TestCorruptRows(t *testing.T) {
	s, db := newStore(t)
	tr := mustCreate(t, s, trillian.TreeType_LOG)
	leaves := testLeaves(0, 33)
	mustAdd(t, s, tr, leaves)
	nodes, size := nodesOf(leaves)
	err := s.Log().ReadWriteTransaction(t.Context(), tr, func(ctx context.Context, tx storage.LogTreeTX) error {
		return errors.Join(tx.SetMerkleNodes(ctx, nodes), tx.StoreSignedLogRoot(ctx, mustRoot(t, size, 99)))
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := readEverything(t.Context(), s, tr, leaves, nodes); err != nil {
		t.Fatal(err)
	}
	for _, key := range keys(t, db, "t") {
		if string(key) == "tv" {
			continue // see TestOtherLayoutIsRefused
		}
		v, closer, err := db.Get(key)
		if err != nil {
			t.Fatal(err)
		}
		good := bytes.Clone(v)
		if err := closer.Close(); err != nil {
			t.Fatal(err)
		}
		flipped := bytes.Clone(good)
		flipped[len(good)-1] ^= 1
		for _, bad := range [][]byte{nil, good[:len(good)-1], flipped} {
			if err := db.Set(key, bad, pebble.NoSync); err != nil {
				t.Fatal(err)
			}
			err := readEverything(t.Context(), s, tr, leaves, nodes)
			if !errors.Is(err, pebblestore.ErrCorrupt) || status.Code(err) != codes.DataLoss {
				t.Errorf("row %x changed to %x: %v", key, bad, err)
			}
		}
		if err := db.Set(key, good, pebble.NoSync); err != nil {
			t.Fatal(err)
		}
	}
}

// readEverything makes calls that read every row of the tree.
func readEverything(ctx context.Context, s *pebblestore.Store, tr *trillian.Tree, leaves []*trillian.LogLeaf, nodes []tree.Node) error {
	if _, err := s.Log().AddSequencedLeaves(ctx, tr, leaves, epoch); err != nil {
		return err
	}
	if _, err := storage.GetTree(ctx, s.Admin(), tr.TreeId); err != nil {
		return err
	}
	tx, err := s.Log().SnapshotForTree(ctx, tr)
	if err != nil {
		return err
	}
	_, err = tx.GetLeavesByRange(ctx, 0, 33)
	for _, n := range nodes {
		_, nerr := tx.GetMerkleNodes(ctx, []compact.NodeID{n.ID})
		err = errors.Join(err, nerr)
	}
	for _, l := range leaves {
		_, herr := tx.GetLeavesByHash(ctx, [][]byte{l.MerkleLeafHash}, true)
		// A leaf of the same identity elsewhere: the identity's row is read.
		other := proto.Clone(l).(*trillian.LogLeaf)
		other.LeafIndex = 1000
		_, aerr := s.Log().AddSequencedLeaves(ctx, tr, []*trillian.LogLeaf{other}, epoch)
		err = errors.Join(err, herr, aerr)
	}
	return errors.Join(err, tx.Close())
}
