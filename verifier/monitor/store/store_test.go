package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/prooftrail/prooftrail/verifier/monitor/store"
	"github.com/prooftrail/prooftrail/verifier/monitor/witness"
)

func create(t *testing.T) (string, *store.Store) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "store")
	if err := store.Create(path); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return path, s
}

func TestStore(t *testing.T) {
	path, s := create(t)
	ctx := t.Context()
	a, b := &witness.Record{Note: []byte("a"), Time: 1}, &witness.Record{Note: []byte("b"), Time: 2}
	for i, tt := range []struct {
		origin    string
		old, next *witness.Record
		conflict  bool
	}{
		{"x", nil, a, false}, {"x", nil, b, true}, {"x", b, a, true}, {"x", a, b, false}, {"y", nil, a, false}, {"x", a, b, true}, {"x", b, b, false},
	} {
		if err := s.Swap(ctx, tt.origin, tt.old, tt.next); errors.Is(err, witness.ErrConflict) != tt.conflict || err != nil && !tt.conflict {
			t.Errorf("swap %d: %v", i, err)
		}
	}
	if _, err := store.Open(path); err == nil {
		t.Error("opened twice")
	}
	if err := store.Create(path); err == nil {
		t.Error("created over a store")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for origin, want := range map[string]*witness.Record{"x": b, "y": a, "z": nil} {
		if got, err := s.Load(ctx, origin); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v, %v", origin, got, err)
		}
	}
}

// TestTogether: of many swaps of one record one wins, and all of other origins do.
func TestTogether(t *testing.T) {
	_, s := create(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for i := range 50 {
		wg.Go(func() {
			rec := &witness.Record{Note: []byte(strconv.Itoa(i)), Time: int64(i)}
			if err := s.Swap(t.Context(), strconv.Itoa(i), nil, rec); err != nil {
				t.Error(err)
			}
			if s.Swap(t.Context(), "one", nil, rec) == nil {
				mu.Lock()
				won++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if won != 1 {
		t.Errorf("%d won", won)
	}
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	if _, err := store.Open(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(empty); err == nil {
		t.Error("began anew in an empty file")
	}
	path, s := create(t)
	s.Close()
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(path); err == nil {
		t.Error("opened a file that others can read")
	}
}
