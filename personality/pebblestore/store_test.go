package pebblestore_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/trillian"
	"github.com/google/trillian/storage"
	"github.com/google/trillian/storage/testonly"
	"github.com/google/trillian/types"
	"github.com/prooftrail/prooftrail/personality/pebblestore"
	"github.com/prooftrail/prooftrail/personality/pebblestore/crashtest"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

var epoch = time.Unix(1700000000, 0)

// mustCreate creates a tree of the type and gives it a root of size 0.
func mustCreate(t *testing.T, s *pebblestore.Store, kind trillian.TreeType) *trillian.Tree {
	t.Helper()
	spec := proto.Clone(testonly.LogTree).(*trillian.Tree)
	spec.TreeType = kind
	tree, err := storage.CreateTree(t.Context(), s.Admin(), spec)
	if err != nil {
		t.Fatal(err)
	}
	mustStoreRoot(t, s, tree, 0, 1)
	return tree
}

func mustStoreRoot(t *testing.T, s *pebblestore.Store, tree *trillian.Tree, size, nanos uint64) {
	t.Helper()
	if err := storeRoot(t.Context(), s, tree, size, nanos); err != nil {
		t.Fatal(err)
	}
}

func storeRoot(ctx context.Context, s *pebblestore.Store, tree *trillian.Tree, size, nanos uint64) error {
	root, err := (&types.LogRootV1{TreeSize: size, TimestampNanos: nanos, RootHash: make([]byte, 32)}).MarshalBinary()
	if err != nil {
		return err
	}
	return s.Log().ReadWriteTransaction(ctx, tree, func(ctx context.Context, tx storage.LogTreeTX) error {
		return tx.StoreSignedLogRoot(ctx, &trillian.SignedLogRoot{LogRoot: root})
	})
}

func testLeaves(first, n int) []*trillian.LogLeaf {
	leaves := make([]*trillian.LogLeaf, n)
	for i := range leaves {
		value := fmt.Appendf(nil, "leaf %d", first+i)
		id, hash := sha256.Sum256(append([]byte("id"), value...)), sha256.Sum256(append([]byte{0}, value...))
		leaves[i] = &trillian.LogLeaf{
			LeafIndex: int64(first + i), LeafValue: value, ExtraData: []byte{byte(i)},
			LeafIdentityHash: id[:], MerkleLeafHash: hash[:],
		}
	}
	return leaves
}

func mustAdd(t *testing.T, s *pebblestore.Store, tree *trillian.Tree, leaves []*trillian.LogLeaf) []*trillian.QueuedLogLeaf {
	t.Helper()
	res, err := s.Log().AddSequencedLeaves(t.Context(), tree, leaves, epoch)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func code(q *trillian.QueuedLogLeaf) codes.Code { return codes.Code(q.GetStatus().GetCode()) }

func newStore(t *testing.T) (*pebblestore.Store, *pebble.DB) {
	db := openDB(t, vfs.NewMem(), "")
	return openStore(t, db), db
}

// keys lists the keys that begin with prefix.
func keys(t *testing.T, db *pebble.DB, prefix string) (keys [][]byte) {
	t.Helper()
	it, err := db.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		if bytes.HasPrefix(it.Key(), []byte(prefix)) {
			keys = append(keys, bytes.Clone(it.Key()))
		}
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	return keys
}

func TestHardDeleteRemovesAllKeys(t *testing.T) {
	s, db := newStore(t)
	if err := db.Set([]byte("p/other"), []byte("x"), pebble.Sync); err != nil {
		t.Fatal(err)
	}
	keep, gone := mustCreate(t, s, trillian.TreeType_LOG), mustCreate(t, s, trillian.TreeType_LOG)
	before := len(keys(t, db, ""))
	var kept int
	for i, tree := range []*trillian.Tree{keep, gone} {
		mustAdd(t, s, tree, testLeaves(0, 5))
		if _, err := s.Log().QueueLeaves(t.Context(), tree, testLeaves(100, 3), epoch); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			kept = len(keys(t, db, "")) - before
		}
	}
	if kept != 5*3+3*2 {
		t.Errorf("%d keys for 5 sequenced and 3 queued leaves", kept)
	}
	if _, err := storage.SoftDeleteTree(t.Context(), s.Admin(), gone.TreeId); err != nil {
		t.Fatal(err)
	}
	if err := storage.HardDeleteTree(t.Context(), s.Admin(), gone.TreeId); err != nil {
		t.Fatal(err)
	}
	// What is left: the other key, the marker, and the other tree's metadata, root and rows.
	if left := keys(t, db, ""); len(left) != 2+2+kept {
		t.Errorf("%d keys left, want %d: %x", len(left), 4+kept, left)
	}
	if _, err := s.Log().AddSequencedLeaves(t.Context(), gone, testLeaves(9, 1), epoch); status.Code(err) != codes.NotFound {
		t.Errorf("add to a deleted tree: %v", err)
	}
	if _, err := s.Log().SnapshotForTree(t.Context(), gone); status.Code(err) != codes.NotFound {
		t.Errorf("read a deleted tree: %v", err)
	}
	ids, err := s.Log().GetActiveLogIDs(t.Context())
	if err != nil || len(ids) != 1 || ids[0] != keep.TreeId {
		t.Errorf("active logs %v, %v", ids, err)
	}
}

func TestUninitialisedTree(t *testing.T) {
	s, _ := newStore(t)
	tree, err := storage.CreateTree(t.Context(), s.Admin(), testonly.PreorderedLogTree)
	if err != nil {
		t.Fatal(err)
	}
	tx, err := s.Log().SnapshotForTree(t.Context(), tree)
	if !errors.Is(err, storage.ErrTreeNeedsInit) || tx == nil {
		t.Fatalf("snapshot: %v, %v", tx, err)
	}
	// Nobody closes tx: closing the database would report a leaked snapshot.
	if _, err := s.Log().AddSequencedLeaves(t.Context(), tree, testLeaves(0, 1), epoch); !errors.Is(err, storage.ErrTreeNeedsInit) {
		t.Errorf("add: %v", err)
	}
}

func TestRootOnlyGoesForward(t *testing.T) {
	s, _ := newStore(t)
	tree := mustCreate(t, s, trillian.TreeType_PREORDERED_LOG)
	mustStoreRoot(t, s, tree, 5, 100)
	for _, bad := range [][2]uint64{{4, 101}, {5, 100}, {6, 99}, {0, 200}} {
		if err := storeRoot(t.Context(), s, tree, bad[0], bad[1]); status.Code(err) != codes.FailedPrecondition {
			t.Errorf("size %d at %d after size 5 at 100: %v", bad[0], bad[1], err)
		}
	}
	mustStoreRoot(t, s, tree, 5, 101)
}

func TestOtherLayoutIsRefused(t *testing.T) {
	_, db := newStore(t)
	if err := db.Set([]byte("tv"), []byte("something else"), pebble.Sync); err != nil {
		t.Fatal(err)
	}
	if _, err := pebblestore.Open(db); !errors.Is(err, pebblestore.ErrCorrupt) {
		t.Errorf("open: %v", err)
	}
}

// TestStoresShareLocks: two Stores on one database must not both find an index free.
func TestStoresShareLocks(t *testing.T) {
	s, db := newStore(t)
	tree := mustCreate(t, s, trillian.TreeType_PREORDERED_LOG)
	var mu sync.Mutex
	won := 0
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			other, err := pebblestore.Open(db)
			if err != nil {
				t.Error(err)
				return
			}
			for i := range 50 {
				leaf := testLeaves(1000*w+i, 1)
				leaf[0].LeafIndex = int64(i)
				res, err := other.Log().AddSequencedLeaves(t.Context(), tree, leaf, epoch)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if code(res[0]) == codes.OK {
					won++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if won != 50 {
		t.Errorf("%d leaves stored at 50 indices", won)
	}
}

func TestLockHeedsContext(t *testing.T) {
	s, _ := newStore(t)
	tree := mustCreate(t, s, trillian.TreeType_PREORDERED_LOG)
	err := s.Log().ReadWriteTransaction(t.Context(), tree, func(context.Context, storage.LogTreeTX) error {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := s.Log().AddSequencedLeaves(ctx, tree, testLeaves(0, 1), epoch)
		return err
	})
	if status.Code(err) != codes.Canceled {
		t.Errorf("nested transaction: %v", err)
	}
}

func TestFailedTransactionLeavesNothing(t *testing.T) {
	s, db := newStore(t)
	tree := mustCreate(t, s, trillian.TreeType_PREORDERED_LOG)
	before := keys(t, db, "t")
	boom := errors.New("boom")
	err := s.Log().ReadWriteTransaction(t.Context(), tree, func(ctx context.Context, tx storage.LogTreeTX) error {
		adder := tx.(interface {
			AddSequencedLeaves(context.Context, []*trillian.LogLeaf, time.Time) ([]*trillian.QueuedLogLeaf, error)
		})
		if _, err := adder.AddSequencedLeaves(ctx, testLeaves(0, 9), epoch); err != nil {
			return err
		}
		return boom
	})
	if !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
	if after := keys(t, db, "t"); len(after) != len(before) {
		t.Errorf("%d keys, were %d", len(after), len(before))
	}
}

// TestDeferSync: a deferred commit is visible, lost by a crash, and kept by a crash after
// a later synced commit.
func TestDeferSync(t *testing.T) {
	fs := crashtest.New()
	db := openDB(t, fs, "db")
	s := openStore(t, db)
	tree := mustCreate(t, s, trillian.TreeType_PREORDERED_LOG)
	stored := func(fs vfs.FS) int {
		t.Helper()
		tx, err := openStore(t, openDB(t, fs, "db")).Log().SnapshotForTree(t.Context(), tree)
		if err != nil {
			t.Fatal(err)
		}
		leaves, err := tx.GetLeavesByRange(t.Context(), 0, 100)
		if err := errors.Join(err, tx.Close()); err != nil {
			t.Fatal(err)
		}
		return len(leaves)
	}
	mustAdd(t, s, tree, testLeaves(0, 2))
	if _, err := s.Log().AddSequencedLeaves(pebblestore.DeferSync(t.Context()), tree, testLeaves(2, 2), epoch); err != nil {
		t.Fatal(err)
	}
	if n := stored(fs.CrashClone(vfs.CrashCloneCfg{})); n != 2 {
		t.Errorf("%d leaves after a crash, want 2", n)
	}
	if err := db.Set([]byte("p"), nil, pebble.Sync); err != nil {
		t.Fatal(err)
	}
	if n := stored(fs.CrashClone(vfs.CrashCloneCfg{})); n != 4 {
		t.Errorf("%d leaves after a synced commit and a crash, want 4", n)
	}
}
