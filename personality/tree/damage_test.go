package tree_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/trillian"
	"github.com/google/trillian/storage"
	"github.com/google/trillian/storage/testonly"
	"github.com/prooftrail/prooftrail/personality/pebblestore"
	"github.com/prooftrail/prooftrail/personality/pebblestore/crashtest"
	"github.com/prooftrail/prooftrail/personality/tree"
	"github.com/prooftrail/prooftrail/personality/tree/treetest"
)

// TestDamagedDatabase changes each row of a database in turn: the calls fail with
// ErrCorrupt or answer right, never wrong.
func TestDamagedDatabase(t *testing.T) {
	fs := crashtest.New()
	db := openDB(t, fs, "db")
	id, err := tree.CreateEmbedded(t.Context(), db, tree.Options{})
	if err != nil {
		t.Fatal(err)
	}
	e := open(t, db, id, tree.Options{})
	if err := e.Append(t.Context(), treetest.Leaves(0, 20)); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Integrate(t.Context(), 20); err != nil {
		t.Fatal(err)
	}
	if err := e.Append(t.Context(), treetest.Leaves(20, 20)); err != nil {
		t.Fatal(err)
	}
	it, err := db.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	rows, noticed := 0, 0
	for ok := it.First(); ok; ok = it.Next() {
		rows++
		bad := bytes.Clone(it.Value())
		bad[len(bad)/2] ^= 4
		copied := openDB(t, fs.CrashClone(vfs.CrashCloneCfg{}), "db")
		set(t, copied, it.Key(), bad)
		if useDamaged(t, copied, id) {
			noticed++
		}
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	// Not read by any of the calls: the identity hashes but one, and the stored node, for
	// the hashes that integration goes on from lie in the head.
	if want := rows - 39 - 1; noticed != want {
		t.Errorf("%d of %d damaged rows were noticed, want %d", noticed, rows, want)
	}
}

// useDamaged makes all calls and says whether one noticed.
func useDamaged(t *testing.T, db *pebble.DB, id int64) bool {
	roots := rootsOf(40)
	e, openErr := tree.OpenEmbedded(t.Context(), db, id, tree.Options{})
	if openErr != nil {
		return errors.Is(openErr, tree.ErrCorrupt) || errors.Is(openErr, pebblestore.ErrCorrupt)
	}
	leaves, leavesErr := e.Leaves(t.Context(), 0, 100)
	if leavesErr == nil && len(leaves) != 40 {
		t.Errorf("%d leaves", len(leaves))
	}
	twin := treetest.Leaf(40)
	twin.IdentityHash = treetest.Leaf(7).IdentityHash
	appendErr := e.Append(t.Context(), []tree.Leaf{twin})
	if !errors.Is(appendErr, tree.ErrDuplicate) && !errors.Is(appendErr, tree.ErrCorrupt) {
		t.Errorf("append of a duplicate: %v", appendErr)
	}
	root, integrateErr := e.Integrate(t.Context(), 40)
	if integrateErr == nil && root != roots[40] {
		t.Errorf("root %v", root)
	}
	noticed := false
	for _, err := range []error{leavesErr, appendErr, integrateErr} {
		noticed = noticed || errors.Is(err, tree.ErrCorrupt)
	}
	return noticed
}

func set(t *testing.T, db *pebble.DB, key, value []byte) {
	t.Helper()
	if err := db.Set(key, value, pebble.NoSync); err != nil {
		t.Fatal(err)
	}
}

// TestHole: a hole that somebody else made is refused, and said to be one.
func TestHole(t *testing.T) {
	db := openDB(t, vfs.NewMem(), "")
	id, err := tree.CreateEmbedded(t.Context(), db, tree.Options{})
	if err != nil {
		t.Fatal(err)
	}
	e := open(t, db, id, tree.Options{})
	if err := e.Append(t.Context(), treetest.Leaves(0, 3)); err != nil {
		t.Fatal(err)
	}
	store, err := pebblestore.Open(db)
	if err != nil {
		t.Fatal(err)
	}
	tr := &trillian.Tree{TreeId: id, TreeType: trillian.TreeType_PREORDERED_LOG}
	far := &trillian.LogLeaf{LeafIndex: 5, LeafValue: []byte("x"), LeafIdentityHash: make([]byte, 32), MerkleLeafHash: make([]byte, 32)}
	if _, err := store.Log().AddSequencedLeaves(t.Context(), tr, []*trillian.LogLeaf{far}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if got, err := e.Leaves(t.Context(), 0, 10); err != nil || len(got) != 3 {
		t.Errorf("%d leaves before the hole, %v", len(got), err)
	}
	if err := e.Append(t.Context(), treetest.Leaves(3, 4)); !errors.Is(err, tree.ErrIndexTaken) {
		t.Errorf("append over the end of the hole: %v", err)
	}
	if _, err := e.Integrate(t.Context(), 6); !errors.Is(err, tree.ErrGap) {
		t.Errorf("integrate over the hole: %v", err)
	}
	if err := e.Append(t.Context(), treetest.Leaves(3, 2)); err != nil {
		t.Errorf("fill the hole: %v", err)
	}
	if _, err := e.Integrate(t.Context(), 6); err != nil {
		t.Error(err)
	}
}

// TestTreeState: storage doesn't look at a tree's state, so Append and Integrate must.
func TestTreeState(t *testing.T) {
	db := openDB(t, vfs.NewMem(), "")
	id, err := tree.CreateEmbedded(t.Context(), db, tree.Options{})
	if err != nil {
		t.Fatal(err)
	}
	e := open(t, db, id, tree.Options{})
	if err := e.Append(t.Context(), treetest.Leaves(0, 3)); err != nil {
		t.Fatal(err)
	}
	store, err := pebblestore.Open(db)
	if err != nil {
		t.Fatal(err)
	}
	setState := func(state trillian.TreeState) {
		t.Helper()
		if _, err := storage.UpdateTree(t.Context(), store.Admin(), id, func(tr *trillian.Tree) { tr.TreeState = state }); err != nil {
			t.Fatal(err)
		}
	}
	setState(trillian.TreeState_FROZEN)
	_, integrateErr := e.Integrate(t.Context(), 3)
	for _, err := range []error{integrateErr, e.Append(t.Context(), treetest.Leaves(3, 1))} {
		if !errors.Is(err, tree.ErrNotWritable) {
			t.Errorf("frozen tree: %v", err)
		}
	}
	if got, err := e.Leaves(t.Context(), 0, 10); err != nil || len(got) != 3 {
		t.Errorf("frozen tree: %d leaves, %v", len(got), err)
	}
	setState(trillian.TreeState_ACTIVE)
	if _, err := e.Integrate(t.Context(), 3); err != nil {
		t.Error(err)
	}
	if _, err := storage.SoftDeleteTree(t.Context(), store.Admin(), id); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Root(t.Context()); !errors.Is(err, tree.ErrNoTree) {
		t.Errorf("root of a deleted tree: %v", err)
	}
	if _, err := tree.OpenEmbedded(t.Context(), db, id, tree.Options{}); !errors.Is(err, tree.ErrNoTree) {
		t.Errorf("open a deleted tree: %v", err)
	}
}

// TestOpenOtherTrees: a LOG tree, and one without a root.
func TestOpenOtherTrees(t *testing.T) {
	db := openDB(t, vfs.NewMem(), "")
	store, err := pebblestore.Open(db)
	if err != nil {
		t.Fatal(err)
	}
	for spec, want := range map[*trillian.Tree]error{
		testonly.LogTree: tree.ErrNotWritable, testonly.PreorderedLogTree: tree.ErrNoTree,
	} {
		tr, err := storage.CreateTree(t.Context(), store.Admin(), spec)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tree.OpenEmbedded(t.Context(), db, tr.TreeId, tree.Options{}); !errors.Is(err, want) {
			t.Errorf("open a %v without a root: %v", tr.TreeType, err)
		}
	}
}

// TestClockStepsBack: a clock that once ran ahead by a day must not stop the log.
func TestClockStepsBack(t *testing.T) {
	now := time.Now()
	clock := func() time.Time { return now }
	db := openDB(t, vfs.NewMem(), "")
	e := create(t, db, tree.Options{Now: clock})
	size := uint64(0)
	for i, step := range []time.Duration{0, 24 * time.Hour, 0, -24 * time.Hour, 0, -time.Hour, time.Minute} {
		now = now.Add(step)
		if err := e.Append(t.Context(), treetest.Leaves(size, 2)); err != nil {
			t.Fatal(err)
		}
		size += 2
		if _, err := e.Integrate(t.Context(), size); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
	}
}

// TestEdgeOfAnotherTree: hashes that integration goes on from, and that don't make the
// root, are ErrBroken, whatever their checksum.
func TestEdgeOfAnotherTree(t *testing.T) {
	db := openDB(t, vfs.NewMem(), "")
	id, err := tree.CreateEmbedded(t.Context(), db, tree.Options{})
	if err != nil {
		t.Fatal(err)
	}
	e := open(t, db, id, tree.Options{})
	for _, from := range []uint64{0, 5} {
		if err := e.Append(t.Context(), treetest.Leaves(from, 5)); err != nil {
			t.Fatal(err)
		}
		if from == 0 {
			if _, err := e.Integrate(t.Context(), 5); err != nil {
				t.Fatal(err)
			}
		}
	}
	key := append(binary.BigEndian.AppendUint64([]byte("td"), uint64(id)), 'h')
	v, closer, err := db.Get(key)
	if err != nil {
		t.Fatal(err)
	}
	body := bytes.Clone(v[:len(v)-4])
	if err := closer.Close(); err != nil {
		t.Fatal(err)
	}
	body[len(body)-1] ^= 1 // of the edge
	table := crc32.MakeTable(crc32.Castagnoli)
	set(t, db, key, binary.BigEndian.AppendUint32(body, crc32.Update(crc32.Checksum(key, table), table, body)))
	if root, err := e.Integrate(t.Context(), 10); !errors.Is(err, tree.ErrBroken) || !errors.Is(err, tree.ErrCorrupt) {
		t.Errorf("integrate: %+v, %v; want ErrBroken", root, err)
	}
}
