package pebblestore_test

import (
	"context"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/trillian/integration/storagetest"
	"github.com/google/trillian/storage"
	"github.com/google/trillian/storage/testonly"
	"github.com/prooftrail/prooftrail/personality/pebblestore"
)

// openDB opens a database in dir of fs and closes it when the test ends.
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

func openStore(t testing.TB, db *pebble.DB) *pebblestore.Store {
	t.Helper()
	s, err := pebblestore.Open(db)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// media runs f on disk and in memory.
func media(t *testing.T, f func(t *testing.T, open func() *pebble.DB)) {
	t.Run("disk", func(t *testing.T) {
		f(t, func() *pebble.DB { return openDB(t, vfs.Default, t.TempDir()) })
	})
	t.Run("memory", func(t *testing.T) {
		f(t, func() *pebble.DB { return openDB(t, vfs.NewMem(), "") })
	})
}

func TestTrillianLogStorageSuite(t *testing.T) {
	media(t, func(t *testing.T, open func() *pebble.DB) {
		s := openStore(t, open())
		storagetest.RunLogStorageTests(t, func(context.Context, *testing.T) (storage.LogStorage, storage.AdminStorage) {
			return s.Log(), s.Admin()
		})
	})
}

func TestTrillianAdminStorageSuite(t *testing.T) {
	media(t, func(t *testing.T, open func() *pebble.DB) {
		tester := &testonly.AdminStorageTester{NewAdminStorage: func() storage.AdminStorage {
			return openStore(t, open()).Admin()
		}}
		tester.RunAllTests(t)
	})
}
