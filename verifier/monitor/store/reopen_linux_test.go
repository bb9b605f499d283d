package store_test

import (
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/monitor"
	"github.com/prooftrail/prooftrail/verifier/monitor/store"
)

// TestReopen: a book that couldn't grow answers nothing, and goes on where it was once there is room
// and it was opened again.
func TestReopen(t *testing.T) {
	book, err := store.OpenBook(filepath.Join(t.TempDir(), "book"), 0)
	if err != nil {
		t.Fatal(err)
	}
	note := []byte(strings.Repeat("n", 512<<10))
	add := func(size uint64) error {
		_, _, err := book.Add(t.Context(), monitor.Head{Checkpoint: verifier.Checkpoint{Origin: "o", Size: size}, Note: note, Standing: monitor.Open})
		return err
	}
	if err := add(1); err != nil {
		t.Fatal(err)
	}
	signal.Ignore(syscall.SIGXFSZ) // the write fails instead
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	full := before
	full.Cur = 16 << 20 // the test's own log is smaller
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &full); err != nil {
		t.Fatal(err)
	}
	size := uint64(1)
	for err = nil; err == nil && size < 100; {
		size++
		err = add(size)
	}
	if e := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before); e != nil {
		t.Fatal(e)
	}
	if err == nil {
		t.Fatal("nothing failed")
	}
	if err := add(size); err == nil {
		t.Error("after a failed write it went on by itself")
	}
	if err := book.Reopen(); err != nil {
		t.Fatal(err)
	}
	if err := add(size); err != nil {
		t.Error(err)
	}
	open, err := book.Open(t.Context(), "o", 0, 1000)
	if err != nil || len(open) != int(size) {
		t.Errorf("%d heads of %d, %v", len(open), size, err)
	}
	if err := book.Reopen(); err != nil { // nothing to do
		t.Error(err)
	}
	if err := book.Close(); err != nil {
		t.Error(err)
	}
	if err := book.Reopen(); err == nil {
		t.Error("a closed book was opened again")
	}
}
