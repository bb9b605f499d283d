package pebblestore_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/trillian"
	"github.com/google/trillian/storage"
	"github.com/prooftrail/prooftrail/personality/pebblestore"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

func mustQueue(t *testing.T, s *pebblestore.Store, tr *trillian.Tree, at time.Time, leaves ...*trillian.LogLeaf) []*trillian.QueuedLogLeaf {
	t.Helper()
	res, err := s.Log().QueueLeaves(t.Context(), tr, leaves, at)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestQueueDuplicates(t *testing.T) {
	s, _ := newStore(t)
	tr := mustCreate(t, s, trillian.TreeType_LOG)
	l := testLeaves(0, 3)
	mustQueue(t, s, tr, epoch, l[0], l[1])
	again := proto.Clone(l[0]).(*trillian.LogLeaf)
	again.LeafValue = []byte("other")
	res := mustQueue(t, s, tr, epoch.Add(time.Second), again, l[2], l[2])
	if code(res[0]) != codes.AlreadyExists || string(res[0].Leaf.LeafValue) != "leaf 0" {
		t.Errorf("duplicate: %v", res[0])
	}
	if res[1].Status != nil || code(res[2]) != codes.AlreadyExists {
		t.Errorf("new leaf and its duplicate: %v, %v", res[1], res[2])
	}
	preordered := mustCreate(t, s, trillian.TreeType_PREORDERED_LOG)
	if _, err := s.Log().QueueLeaves(t.Context(), preordered, l, epoch); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("queue to a PREORDERED_LOG: %v", err)
	}
}

// TestDequeueOrder: by queue time, then identity hash, up to the cutoff, none twice.
func TestDequeueOrder(t *testing.T) {
	s, _ := newStore(t)
	tr := mustCreate(t, s, trillian.TreeType_LOG)
	l := testLeaves(0, 5)
	mustQueue(t, s, tr, epoch.Add(2*time.Second), l[0], l[1])
	mustQueue(t, s, tr, epoch.Add(1*time.Second), l[2])
	mustQueue(t, s, tr, epoch.Add(3*time.Second), l[3])
	mustQueue(t, s, tr, epoch.Add(4*time.Second), l[4])
	want := []int{2, 0, 1, 3}
	if bytes.Compare(l[0].LeafIdentityHash, l[1].LeafIdentityHash) > 0 {
		want = []int{2, 1, 0, 3}
	}
	rollBack := errors.New("roll back")
	err := s.Log().ReadWriteTransaction(t.Context(), tr, func(ctx context.Context, tx storage.LogTreeTX) error {
		var got []*trillian.LogLeaf
		for range 3 { // one at a time, then the rest, then nothing
			part, err := tx.DequeueLeaves(ctx, 1+2*len(got), epoch.Add(3*time.Second))
			if err != nil {
				return err
			}
			got = append(got, part...)
		}
		if len(got) != len(want) {
			t.Fatalf("dequeued %d leaves, want %d", len(got), len(want))
		}
		for i, w := range want {
			if !bytes.Equal(got[i].MerkleLeafHash, l[w].MerkleLeafHash) {
				t.Errorf("dequeued %q as leaf %d", got[i].LeafValue, i)
			}
			got[i].LeafIndex, got[i].IntegrateTimestamp = 0, timestamppb.New(epoch)
		}
		if err := tx.UpdateSequencedLeaves(ctx, got[:2]); err == nil {
			t.Error("two leaves at one index")
		}
		return rollBack
	})
	if !errors.Is(err, rollBack) {
		t.Fatal(err)
	}
	sequenceAll(t, s, tr, 5) // nothing was lost
}

// sequenceAll sequences all that is queued, which must be n leaves, from index 0 on.
func sequenceAll(t *testing.T, s *pebblestore.Store, tr *trillian.Tree, n int) {
	t.Helper()
	err := s.Log().ReadWriteTransaction(t.Context(), tr, func(ctx context.Context, tx storage.LogTreeTX) error {
		got, err := tx.DequeueLeaves(ctx, 2*n, epoch.Add(time.Minute))
		if err != nil || len(got) != n {
			t.Fatalf("%d leaves, %v", len(got), err)
		}
		for i := range got {
			got[i].LeafIndex, got[i].IntegrateTimestamp = int64(i), timestamppb.New(epoch)
		}
		if err := tx.UpdateSequencedLeaves(ctx, got); err != nil {
			return err
		}
		if err := tx.UpdateSequencedLeaves(ctx, got[:1]); status.Code(err) != codes.FailedPrecondition {
			t.Errorf("sequenced twice: %v", err)
		}
		return tx.StoreSignedLogRoot(ctx, mustRoot(t, uint64(n), 99))
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestSequenceQueued(t *testing.T) {
	s, _ := newStore(t)
	tr := mustCreate(t, s, trillian.TreeType_LOG)
	l := testLeaves(0, 5)
	for i, leaf := range l {
		mustQueue(t, s, tr, epoch.Add(time.Duration(i)), leaf)
	}
	sequenceAll(t, s, tr, 5)
	if res := mustQueue(t, s, tr, epoch, l[3]); code(res[0]) != codes.AlreadyExists || res[0].Leaf.LeafIndex != 3 {
		t.Errorf("queue a sequenced leaf: %v", res[0])
	}
	tx, err := s.Log().SnapshotForTree(t.Context(), tr)
	if err != nil {
		t.Fatal(err)
	}
	got, err := tx.GetLeavesByRange(t.Context(), 0, 10)
	if err := errors.Join(err, tx.Close()); err != nil || len(got) != 5 {
		t.Fatalf("%d leaves, %v", len(got), err)
	}
	for i, leaf := range got {
		if !sameContent(leaf, l[i]) || !leaf.IntegrateTimestamp.AsTime().Equal(epoch) ||
			!leaf.QueueTimestamp.AsTime().Equal(epoch.Add(time.Duration(i))) {
			t.Errorf("leaf %d is %v", i, leaf)
		}
	}
}
