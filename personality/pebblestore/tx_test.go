package pebblestore_test

import (
	"bytes"
	"context"
	"math/bits"
	"slices"
	"testing"
	"time"

	"github.com/google/trillian"
	"github.com/google/trillian/storage"
	"github.com/google/trillian/storage/tree"
	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

func TestAddSequencedLeavesStatuses(t *testing.T) {
	s, _ := newStore(t)
	tr := mustCreate(t, s, trillian.TreeType_PREORDERED_LOG)
	stored := testLeaves(0, 5)
	for _, q := range mustAdd(t, s, tr, stored) {
		if code(q) != codes.OK {
			t.Fatalf("got %v", q)
		}
	}
	change := func(index int, f func(*trillian.LogLeaf)) *trillian.LogLeaf {
		l := proto.Clone(stored[index]).(*trillian.LogLeaf)
		f(l)
		return l
	}
	fresh := testLeaves(5, 3)
	twin := proto.Clone(fresh[0]).(*trillian.LogLeaf)
	twin.LeafIndex = 8
	tests := []struct {
		name   string
		leaves []*trillian.LogLeaf
		code   codes.Code // of the last leaf
		stored *trillian.LogLeaf
	}{
		{"identical", stored[2:3], codes.AlreadyExists, stored[2]},
		{"identical, whole batch", stored, codes.AlreadyExists, stored[4]},
		{"index, other identity", []*trillian.LogLeaf{change(1, func(l *trillian.LogLeaf) { l.LeafIdentityHash = fresh[0].LeafIdentityHash })}, codes.FailedPrecondition, stored[1]},
		{"index, other value", []*trillian.LogLeaf{change(1, func(l *trillian.LogLeaf) { l.LeafValue = []byte("x") })}, codes.FailedPrecondition, stored[1]},
		{"index, other extra data", []*trillian.LogLeaf{change(1, func(l *trillian.LogLeaf) { l.ExtraData = nil })}, codes.FailedPrecondition, stored[1]},
		{"identity at another index", []*trillian.LogLeaf{change(3, func(l *trillian.LogLeaf) { l.LeafIndex = 5 })}, codes.FailedPrecondition, stored[3]},
		{"identity twice in the batch", []*trillian.LogLeaf{fresh[0], fresh[1], twin}, codes.FailedPrecondition, fresh[0]},
	}
	for _, tt := range tests {
		res := mustAdd(t, s, tr, tt.leaves)
		got := res[len(res)-1]
		if code(got) != tt.code || !sameContent(got.Leaf, tt.stored) {
			t.Errorf("%s: got %v, want %v with %v", tt.name, got, tt.code, tt.stored)
		}
	}
	for name, bad := range map[string]*trillian.LogLeaf{
		"nil":               nil,
		"short identity":    change(0, func(l *trillian.LogLeaf) { l.LeafIdentityHash = l.LeafIdentityHash[:31] }),
		"short Merkle hash": change(0, func(l *trillian.LogLeaf) { l.MerkleLeafHash = nil }),
		"negative index":    change(0, func(l *trillian.LogLeaf) { l.LeafIndex = -1 }),
	} {
		if _, err := s.Log().AddSequencedLeaves(t.Context(), tr, []*trillian.LogLeaf{bad}, epoch); err == nil {
			t.Errorf("%s: added", name)
		}
	}
}

func sameContent(a, b *trillian.LogLeaf) bool {
	return a.GetLeafIndex() == b.GetLeafIndex() && bytes.Equal(a.GetLeafValue(), b.GetLeafValue()) &&
		bytes.Equal(a.GetLeafIdentityHash(), b.GetLeafIdentityHash()) && bytes.Equal(a.GetExtraData(), b.GetExtraData())
}

type adderTX interface {
	storage.LogTreeTX
	AddSequencedLeaves(context.Context, []*trillian.LogLeaf, time.Time) ([]*trillian.QueuedLogLeaf, error)
}

// TestReadsSeeOwnWrites reads all that a transaction wrote before it commits.
func TestReadsSeeOwnWrites(t *testing.T) {
	s, _ := newStore(t)
	tr := mustCreate(t, s, trillian.TreeType_PREORDERED_LOG)
	leaves := testLeaves(0, 20)
	ctx := t.Context()
	err := s.Log().ReadWriteTransaction(ctx, tr, func(ctx context.Context, tx storage.LogTreeTX) error {
		for _, part := range [][]*trillian.LogLeaf{leaves[:7], leaves[7:]} {
			res, err := tx.(adderTX).AddSequencedLeaves(ctx, part, epoch)
			if err != nil || code(res[0]) != codes.OK {
				t.Fatalf("add: %v, %v", res, err)
			}
			// Once more: what is in the way is found in the batch.
			res, err = tx.(adderTX).AddSequencedLeaves(ctx, part[:1], epoch)
			if err != nil || code(res[0]) != codes.AlreadyExists {
				t.Errorf("again: %v, %v", res, err)
			}
		}
		got, err := tx.GetLeavesByRange(ctx, 3, 100)
		if err != nil || len(got) != 17 {
			t.Errorf("%d leaves by range, %v", len(got), err)
		}
		if got, err := tx.DequeueLeaves(ctx, 100, epoch); err != nil || len(got) != 20 {
			t.Errorf("%d leaves dequeued, %v", len(got), err)
		}
		nodes, size := nodesOf(leaves)
		if err := tx.SetMerkleNodes(ctx, nodes); err != nil {
			return err
		}
		checkNodes(t, tx, nodes)
		if got, err := tx.GetLeavesByHash(ctx, [][]byte{leaves[9].MerkleLeafHash}, true); err != nil || len(got) != 1 {
			t.Errorf("%d leaves by hash, %v", len(got), err)
		}
		root := mustRoot(t, size, 50)
		if err := tx.StoreSignedLogRoot(ctx, root); err != nil {
			return err
		}
		if got, err := tx.LatestSignedLogRoot(ctx); err != nil || !proto.Equal(got, root) {
			t.Errorf("root %v, %v", got, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// nodesOf returns every perfect subtree's hash over leaves.
func nodesOf(leaves []*trillian.LogLeaf) (nodes []tree.Node, size uint64) {
	f := compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}
	r := f.NewEmptyRange(0)
	for _, l := range leaves {
		err := r.Append(l.MerkleLeafHash, func(id compact.NodeID, hash []byte) {
			nodes = append(nodes, tree.Node{ID: id, Hash: hash})
		})
		if err != nil {
			panic(err) // the range starts at 0 and only grows
		}
	}
	return nodes, r.End()
}

func mustRoot(t *testing.T, size, nanos uint64) *trillian.SignedLogRoot {
	t.Helper()
	b := make([]byte, 0, 61)
	b = append(b, 0, 1)
	for i := range 8 {
		b = append(b, byte(size>>(56-8*i)))
	}
	b = append(append(b, 32), make([]byte, 32)...)
	for i := range 8 {
		b = append(b, byte(nanos>>(56-8*i)))
	}
	return &trillian.SignedLogRoot{LogRoot: append(b, make([]byte, 10)...)}
}

func checkNodes(t *testing.T, tx storage.ReadOnlyLogTreeTX, want []tree.Node) {
	t.Helper()
	ids := make([]compact.NodeID, len(want))
	for i, n := range want {
		ids[i] = n.ID
	}
	got, err := tx.GetMerkleNodes(t.Context(), ids)
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range want {
		if got[i].ID != n.ID || !bytes.Equal(got[i].Hash, n.Hash) {
			t.Fatalf("node %v is %v, want %x", n.ID, got[i], n.Hash)
		}
	}
}

// TestMerkleNodes sets the nodes of each growth and reads every node of the tree, most
// of which aren't stored; without and with the edge in the head.
func TestMerkleNodes(t *testing.T) {
	s, _ := newStore(t)
	tr := mustCreate(t, s, trillian.TreeType_PREORDERED_LOG)
	leaves := testLeaves(0, 300)
	mustAdd(t, s, tr, leaves)
	all, _ := nodesOf(leaves)
	size, from := 0, 0
	for _, n := range []int{1, 2, 3, 10, 16, 1, 100, 3, 64, 100} {
		size += n
		known, _ := nodesOf(leaves[:size])
		err := s.Log().ReadWriteTransaction(t.Context(), tr, func(ctx context.Context, tx storage.LogTreeTX) error {
			if err := tx.SetMerkleNodes(ctx, known[from:]); err != nil {
				return err
			}
			return tx.StoreSignedLogRoot(ctx, mustRoot(t, uint64(size), uint64(1000+size)))
		})
		if err != nil {
			t.Fatal(err)
		}
		from = len(known)
		tx, err := s.Log().SnapshotForTree(t.Context(), tr)
		if err != nil {
			t.Fatal(err)
		}
		checkNodes(t, tx, all[:from])
		next := compact.NodeID{Level: uint(bits.Len(uint(size))), Index: 0}
		if _, err := tx.GetMerkleNodes(t.Context(), []compact.NodeID{next}); err == nil {
			t.Errorf("size %d has node %v", size, next)
		}
		if err := tx.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestGetLeavesByHash(t *testing.T) {
	for _, kind := range []trillian.TreeType{trillian.TreeType_LOG, trillian.TreeType_PREORDERED_LOG} {
		t.Run(kind.String(), func(t *testing.T) {
			s, _ := newStore(t)
			tr := mustCreate(t, s, kind)
			l := testLeaves(0, 8)
			l[6].MerkleLeafHash = l[2].MerkleLeafHash
			l[7].MerkleLeafHash = append(bytes.Clone(l[2].MerkleLeafHash[:16]), make([]byte, 16)...) // same prefix
			mustAdd(t, s, tr, l)
			tx, err := s.Log().SnapshotForTree(t.Context(), tr)
			if err != nil {
				t.Fatal(err)
			}
			check := func(ordered bool, want []int64, hashes ...[]byte) {
				t.Helper()
				got, err := tx.GetLeavesByHash(t.Context(), hashes, ordered)
				if err != nil {
					t.Fatal(err)
				}
				var indices []int64
				for _, leaf := range got {
					indices = append(indices, leaf.LeafIndex)
					if !sameContent(leaf, l[leaf.LeafIndex]) {
						t.Errorf("got %v", leaf)
					}
				}
				if !slices.Equal(indices, want) {
					t.Errorf("found %v, want %v", indices, want)
				}
			}
			check(true, nil)
			check(true, nil, make([]byte, 32))
			check(true, []int64{2, 5, 6}, l[5].MerkleLeafHash, l[2].MerkleLeafHash)
			check(false, []int64{5, 2, 6}, l[5].MerkleLeafHash, make([]byte, 32), l[2].MerkleLeafHash)
			check(true, []int64{7}, l[7].MerkleLeafHash)
			if _, err := tx.GetLeavesByHash(t.Context(), [][]byte{{1}}, true); status.Code(err) != codes.InvalidArgument {
				t.Errorf("short hash: %v", err)
			}
			if err := tx.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
