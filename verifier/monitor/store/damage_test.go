//go:build !race

// The race detector checks pointers too, and dies where bbolt makes one of damaged bytes.

package store_test

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/prooftrail/prooftrail/verifier/monitor/store"
	"github.com/prooftrail/prooftrail/verifier/monitor/witness"
)

// TestDamage: a file with one byte changed, or cut short, is refused, or holds what was stored.
func TestDamage(t *testing.T) {
	path, s := create(t)
	recs := map[string]*witness.Record{}
	for i := range 3 {
		origin := "example.com/" + strconv.Itoa(i)
		recs[origin] = &witness.Record{Note: []byte(origin + "\n1\nroot\n"), Time: 7}
		if err := s.Swap(t.Context(), origin, nil, recs[origin]); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	check := func(what string, b []byte) bool {
		t.Helper()
		damaged := filepath.Join(dir, what) // another file each time: bbolt keeps what it panicked over
		defer os.Remove(damaged)
		if err := os.WriteFile(damaged, b, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := store.Open(damaged)
		if err != nil {
			return false
		}
		defer s.Close()
		for origin, want := range recs {
			if got, err := s.Load(t.Context(), origin); err == nil && !got.Equal(want) {
				t.Errorf("%s: %s is %v", what, origin, got)
			}
		}
		return true
	}
	refused := 0
	for i := range good {
		page := good[i/4096*4096 : min(i/4096*4096+4096, len(good))]
		if i%4096 > 600 && page[i%4096] == 0 { // most of a page is empty
			continue
		}
		b := append([]byte(nil), good...)
		b[i] ^= 0x41
		if !check("byte "+strconv.Itoa(i), b) {
			refused++
		}
	}
	for n := 0; n < len(good); n += 1024 {
		check("cut to "+strconv.Itoa(n), good[:n])
	}
	t.Logf("%d of %d refused", refused, len(good))
}
