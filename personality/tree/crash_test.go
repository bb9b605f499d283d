package tree_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/prooftrail/prooftrail/personality/pebblestore"
	"github.com/prooftrail/prooftrail/personality/pebblestore/crashtest"
	"github.com/prooftrail/prooftrail/personality/tree"
	"github.com/prooftrail/prooftrail/personality/tree/treetest"
	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
)

// crash is what a disk may look like after a crash at one moment, and what must be on it.
type crash struct {
	fs       crashtest.Disk
	op       string
	appended int // leaves of appends that had returned
	durable  int // size of a root before a later synced write had returned
}

// crashes takes a crash image before each file system operation that writes. An image is what was
// synced and a part (none, some, all) of what wasn't.
type crashes struct {
	fs  crashtest.Disk
	rng *rand.Rand

	mu                sync.Mutex
	appended, durable int
	ops               int
	images            []crash
}

// note records what has been promised to the caller by now.
func (c *crashes) note(appended, durable int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.appended, c.durable = appended, durable
}

func (c *crashes) MaybeError(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() == errorfs.OpIsRead {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ops++
	if c.appended == 0 {
		return nil
	}
	cfg := vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 50, 0, 100, 20}[c.ops%5], RNG: c.rng}
	what := fmt.Sprintf("operation %d, %v of %s, %d%% of unsynced data kept", c.ops, op.Kind, op.Path, cfg.UnsyncedDataPercent)
	c.images = append(c.images, crash{c.fs.CrashClone(cfg), what, c.appended, c.durable})
	return nil
}

// taken returns the images so far; the database may still be compacting.
func (c *crashes) taken() []crash {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.images)
}

func (c *crashes) String() string { return "crashes" }

// TestCrash appends and integrates with a crash before every write, sync, create, rename and
// removal. From each image: every append that had returned nil is there, or that a synced
// write followed where syncs are deferred; no batch in part; a root that a synced write
// followed is there, a lost one comes back the same; and the log goes on.
func TestCrash(t *testing.T) {
	t.Run("synced", func(t *testing.T) { testCrash(t, tree.Options{IntegrateBatch: 10}) })
	t.Run("deferred", func(t *testing.T) { testCrash(t, tree.Options{DeferSync: true, IntegrateBatch: 10}) })
}

func testCrash(t *testing.T, opts tree.Options) {
	c := &crashes{fs: crashtest.New(), rng: rand.New(rand.NewPCG(1, 2))}
	db := openSmall(t, errorfs.Wrap(c.fs, c))
	id, err := tree.CreateEmbedded(t.Context(), db, opts)
	if err != nil {
		t.Fatal(err)
	}
	ends := []int{0}
	e := open(t, db, id, opts)
	size, appended, durable := 0, 0, 0
	batches := []int{1, 3, 1, 20, 2, 64, 1, 1, 300, 5, 17, 100, 1, 40, 9, 250, 3}
	for i := range 2 * len(batches) {
		n := batches[i%len(batches)]
		ends = append(ends, size+n)
		if err := e.Append(t.Context(), treetest.Leaves(uint64(size), n)); err != nil {
			t.Fatal(err)
		}
		size += n
		if !opts.DeferSync {
			appended = size
		}
		c.note(appended, durable)
		if i%4 == 2 {
			continue
		}
		if _, err := e.Integrate(t.Context(), uint64(size)); err != nil {
			t.Fatal(err)
		}
		// What publishing does next, at times late.
		if i%2 == 0 {
			if err := db.Set([]byte("p"), nil, pebble.Sync); err != nil {
				t.Fatal(err)
			}
			appended, durable = size, size
			c.note(appended, durable)
		}
	}
	images := c.taken()
	if len(images) < 2*len(batches) {
		t.Fatalf("only %d crashes", len(images))
	}
	t.Logf("%d crashes", len(images))
	roots := rootsOf(size + 5)
	for _, image := range images {
		recovered(t, image, id, ends, roots)
	}
}

// openSmall opens a database that flushes and compacts after some hundred leaves.
func openSmall(t *testing.T, fs vfs.FS) *pebble.DB {
	t.Helper()
	o := &pebble.Options{FS: fs, Logger: testLogger{t}}
	pebblestore.Configure(o)
	o.MemTableSize = 64 << 10
	db, err := pebble.Open("db", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// recovered opens a crash image and looks at what is there.
func recovered(t *testing.T, image crash, id int64, ends []int, roots []tree.Root) {
	t.Run(image.op, func(t *testing.T) {
		e := open(t, openSmall(t, image.fs), id, tree.Options{})
		leaves, err := e.Leaves(t.Context(), 0, len(roots))
		if err != nil {
			t.Fatal(err)
		}
		if len(leaves) < image.appended || !slices.Contains(ends, len(leaves)) {
			t.Fatalf("%d leaves, want at least %d and whole batches", len(leaves), image.appended)
		}
		for i, l := range leaves {
			if want := treetest.Leaf(uint64(i)); string(l.Value) != string(want.Value) || l.IdentityHash != want.IdentityHash {
				t.Fatalf("leaf %d is %q", i, l.Value)
			}
		}
		root, err := e.Root(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if root != roots[root.Size] || root.Size < uint64(image.durable) || root.Size > uint64(len(leaves)) {
			t.Fatalf("root %v of %d leaves, want at least size %d", root, len(leaves), image.durable)
		}
		if root, err = e.Integrate(t.Context(), uint64(len(leaves))); err != nil || root != roots[len(leaves)] {
			t.Fatalf("integrated again: %v, %v", root, err)
		}
		if err := e.Append(t.Context(), treetest.Leaves(uint64(len(leaves)), 5)); err != nil {
			t.Fatal(err)
		}
		if root, err = e.Integrate(t.Context(), root.Size+5); err != nil || root != roots[len(leaves)+5] {
			t.Fatalf("five more: %v, %v", root, err)
		}
	})
}

// rootsOf returns the roots of all sizes up to n of the tree of treetest.Leaf.
func rootsOf(n int) []tree.Root {
	f := compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}
	r := f.NewEmptyRange(0)
	roots := []tree.Root{{Hash: [32]byte(rfc6962.DefaultHasher.EmptyRoot())}}
	for i := range n {
		if err := r.Append(rfc6962.DefaultHasher.HashLeaf(treetest.Leaf(uint64(i)).Value), nil); err != nil {
			panic(err) // the range starts at 0 and only grows
		}
		hash, err := r.GetRootHash(nil)
		if err != nil {
			panic(err) // as above
		}
		roots = append(roots, tree.Root{Size: uint64(i + 1), Hash: [32]byte(hash)})
	}
	return roots
}
