package tree_test

import (
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prooftrail/prooftrail/personality/pebblestore"
	"github.com/prooftrail/prooftrail/personality/tree"
	"github.com/prooftrail/prooftrail/personality/tree/treetest"
)

// openDB opens a database and closes it when the test ends.
func openDB(t testing.TB, fs vfs.FS, dir string) *pebble.DB {
	t.Helper()
	o := &pebble.Options{FS: fs, Logger: testLogger{t}}
	pebblestore.Configure(o)
	db, err := pebble.Open(dir, o)
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

type testLogger struct{ t testing.TB }

func (l testLogger) Infof(string, ...any)           {}
func (l testLogger) Errorf(format string, a ...any) { l.t.Errorf(format, a...) }
func (l testLogger) Fatalf(format string, a ...any) { l.t.Fatalf(format, a...) }

// create makes a tree in db and opens it.
func create(t testing.TB, db *pebble.DB, opts tree.Options) *tree.Embedded {
	t.Helper()
	id, err := tree.CreateEmbedded(t.Context(), db, opts)
	if err != nil {
		t.Fatal(err)
	}
	return open(t, db, id, opts)
}

func open(t testing.TB, db *pebble.DB, id int64, opts tree.Options) *tree.Embedded {
	t.Helper()
	e, err := tree.OpenEmbedded(t.Context(), db, id, opts)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func factory(fs func(t *testing.T) (vfs.FS, string), opts tree.Options) treetest.Factory {
	return func(t *testing.T) treetest.Subject {
		f, dir := fs(t)
		db := openDB(t, f, dir)
		id, err := tree.CreateEmbedded(t.Context(), db, opts)
		if err != nil {
			t.Fatal(err)
		}
		return treetest.Subject{
			Overlap: true,
			Open:    func(t *testing.T) tree.Tree { return open(t, db, id, opts) },
		}
	}
}

func inMemory(*testing.T) (vfs.FS, string) { return vfs.NewMem(), "" }
func onDisk(t *testing.T) (vfs.FS, string) { return vfs.Default, t.TempDir() }

func TestEmbeddedSuite(t *testing.T) {
	t.Run("disk", func(t *testing.T) { treetest.Run(t, factory(onDisk, tree.Options{})) })
	t.Run("memory", func(t *testing.T) { treetest.Run(t, factory(inMemory, tree.Options{})) })
	t.Run("deferred", func(t *testing.T) {
		treetest.Run(t, factory(inMemory, tree.Options{DeferSync: true, IntegrateBatch: 7}))
	})
}

func TestOpenWhatIsNotThere(t *testing.T) {
	db := openDB(t, vfs.NewMem(), "")
	for _, id := range []int64{-1, 0, 1, 1 << 62} {
		if _, err := tree.OpenEmbedded(t.Context(), db, id, tree.Options{}); !errors.Is(err, tree.ErrNoTree) {
			t.Errorf("open tree %d: %v, want %v", id, err, tree.ErrNoTree)
		}
	}
	create(t, db, tree.Options{})
	if _, err := tree.OpenEmbedded(t.Context(), db, 1, tree.Options{}); !errors.Is(err, tree.ErrNoTree) {
		t.Errorf("open tree 1: %v, want %v", err, tree.ErrNoTree)
	}
}
