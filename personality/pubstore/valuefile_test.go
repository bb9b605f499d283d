package pubstore_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/prooftrail/prooftrail/personality/pubstore"
)

// An opening whose value file is damaged can't be read, one by one or in bulk, and
// whoever keeps the database is told: Pebble says it only when the value is closed.
func TestDamagedValueFile(t *testing.T) {
	dir := t.TempDir()
	db := openPebbleIn(t, vfs.Default, dir)
	batch := pubstore.Batch{}
	for i := range 50 {
		batch.Openings = append(batch.Openings, pubstore.Opening{LeafHash: [32]byte{byte(i)}, Bytes: bytes.Repeat([]byte{'a' + byte(i%26)}, 1000)})
	}
	if err := errors.Join(pubstore.NewPebble(db).PutBatch(t.Context(), batch), db.Flush(), db.Close()); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.blob"))
	if err != nil || len(files) == 0 {
		t.Fatalf("openings have no file of their own: %v", err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i := range b[:len(b)/2] {
			b[i] ^= 0xff
		}
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	db = openPebbleIn(t, vfs.Default, dir)
	defer func() { _ = db.Close() }()
	s := pubstore.NewPebble(db)
	told := 0
	s.OnCorruption = func(error) { told++ }
	if o, err := s.Opening(t.Context(), 0, batch.Openings[0].LeafHash); !errors.Is(err, pubstore.ErrCorrupt) || told != 1 {
		t.Errorf("Opening: %q, %v; told %d times", o, err, told)
	}
	err = s.Openings(t.Context(), 0, [][32]byte{batch.Openings[0].LeafHash}, func([]byte) error { return nil })
	if !errors.Is(err, pubstore.ErrCorrupt) || told != 2 {
		t.Errorf("Openings: %v; told %d times", err, told)
	}
}
