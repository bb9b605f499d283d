package pubstore_test

import (
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/prooftrail/prooftrail/personality/pebblestore"
	"github.com/prooftrail/prooftrail/personality/pubstore"
	"github.com/prooftrail/prooftrail/personality/pubstore/pubstoretest"
)

func openPebble(t testing.TB, fs vfs.FS) *pebble.DB {
	t.Helper()
	return openPebbleIn(t, fs, "db")
}

// openPebbleIn opens a database as the service does.
func openPebbleIn(t testing.TB, fs vfs.FS, dir string) *pebble.DB {
	t.Helper()
	opts := &pebble.Options{FS: fs, Logger: quiet{t}}
	pebblestore.Configure(opts)
	pubstore.Configure(opts)
	db, err := pebble.Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

type quiet struct{ t testing.TB }

func (quiet) Infof(string, ...any)                {}
func (q quiet) Errorf(format string, args ...any) { q.t.Errorf(format, args...) }
func (q quiet) Fatalf(format string, args ...any) { q.t.Fatalf(format, args...) }

func TestPebble(t *testing.T) {
	pubstoretest.Run(t, func(t *testing.T) (pubstore.Store, func() pubstore.Store) {
		fs := vfs.NewMem()
		db := openPebble(t, fs)
		t.Cleanup(func() { _ = db.Close() })
		return pubstore.NewPebble(db), func() pubstore.Store {
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			db = openPebble(t, fs)
			return pubstore.NewPebble(db)
		}
	})
}

// What nobody wrote this way is corrupt, not missing and not a zero value (I7).
func TestPebbleRefusesDamagedValues(t *testing.T) {
	db := openPebble(t, vfs.NewMem())
	t.Cleanup(func() { _ = db.Close() })
	s := pubstore.NewPebble(db)
	tile := append([]byte("pt"), make([]byte, 9)...)
	id := append([]byte("pi"), make([]byte, 32)...)
	reads := map[string]struct {
		key  []byte
		read func() error
	}{
		"head":       {[]byte("ph"), func() error { _, err := s.Head(t.Context()); return err }},
		"log":        {[]byte("pl"), func() error { _, err := s.Log(t.Context()); return err }},
		"tile":       {tile, func() error { _, err := s.Tile(t.Context(), 0, 0); return err }},
		"index":      {id, func() error { _, err := s.Indexes(t.Context(), make([][32]byte, 1)); return err }},
		"token":      {[]byte("pkx"), func() error { _, err := s.Tokens(t.Context()); return err }},
		"source key": {[]byte("pvx"), func() error { _, err := s.SourceKeys(t.Context()); return err }},
	}
	for name, r := range reads {
		for _, damage := range []string{"", "x", "{}"} {
			if err := db.Set(r.key, []byte(damage), nil); err != nil {
				t.Fatal(err)
			}
			if err := r.read(); !errors.Is(err, pubstore.ErrCorrupt) || errors.Is(err, pubstore.ErrNotFound) {
				t.Errorf("%s holding %q: got %v, want ErrCorrupt", name, damage, err)
			}
		}
	}
}
