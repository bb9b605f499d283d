//go:build !race

// The race detector checks pointers too, and dies where bbolt makes one of damaged bytes.

package store_test

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/prooftrail/prooftrail/verifier/monitor"
	"github.com/prooftrail/prooftrail/verifier/monitor/store"
)

// TestBookDamage: of a file with one byte changed, or cut short, each call that reads is an error or an answer: nothing
// ends the process. What a damaged note says, its signature tells. Nothing is written: bbolt believes a damaged
// page's header however many pages it says there are, and writes them.
func TestBookDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "book")
	b := openBook(t, path, 0)
	for size := range uint64(6) {
		add(t, b, head(size, "a"))
	}
	judge(t, b, head(2, "a"), monitor.Agreed)
	judge(t, b, head(3, "a"), monitor.Forked)
	if err := b.PutState(t.Context(), origin, []byte("state")); err != nil {
		t.Fatal(err)
	}
	b.Close()
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	opened, answered := 0, 0
	check := func(what string, data []byte) {
		damaged := filepath.Join(dir, what) // another file each time: bbolt keeps what it panicked over
		defer os.Remove(damaged)
		if err := os.WriteFile(damaged, data, 0o600); err != nil {
			t.Fatal(err)
		}
		b, err := store.OpenBook(damaged, 0)
		if err != nil {
			return
		}
		opened++
		defer b.Close()
		ctx := t.Context()
		_, err1 := b.State(ctx, origin)
		_, err2 := b.Counts(ctx, origin)
		_, err3 := b.Open(ctx, origin, 0, 100)
		_, err4 := b.SameSize(ctx, head(2, "b").Checkpoint)
		_, err5 := b.Open(ctx, origin, 3, 1)
		for _, err := range []error{err1, err2, err3, err4, err5} {
			if err == nil {
				answered++
			}
		}
	}
	for i := range good {
		page := good[i/4096*4096 : min(i/4096*4096+4096, len(good))]
		if i%7 > 0 || i%4096 > 200 && (page[i%4096] == 0 || i%5 > 0) { // most of a page is empty, and most of the rest are notes
			continue
		}
		data := append([]byte(nil), good...)
		data[i] ^= 0x41
		check("byte "+strconv.Itoa(i), data)
	}
	for n := 0; n < len(good); n += 1024 {
		check("cut to "+strconv.Itoa(n), good[:n])
	}
	t.Logf("%d opened, %d calls answered", opened, answered)
}
