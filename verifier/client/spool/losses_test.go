package spool

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// TestLossesSynced: a machine that stops keeps what was synced, and of each loss that Append has told that includes the count and
// the seq.
func TestLossesSynced(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	few := func(c *Config) { c.MaxEvents = 8 }
	var mu sync.Mutex
	var synced []byte // the cursor as it was at the last sync
	s := testSpool(t, dir, func(op string) (bool, error) {
		if b, err := os.ReadFile(filepath.Join(dir, "cursor")); err == nil && op == opSync {
			mu.Lock()
			defer mu.Unlock()
			synced = b
		}
		return true, nil
	}, few)
	mustPut(t, s, 8)
	m := files(t, dir)
	for lost := uint64(1); lost <= 5; lost++ {
		if _, err := put(t, s, false, 0); !errors.Is(err, ErrFull) {
			t.Fatal(err)
		}
		mu.Lock()
		m["cursor"] = bytes.Clone(synced)
		mu.Unlock()
		after := testSpool(t, restore(t, m), nil, few)
		if st := after.Stats(); st.Lost != (Losses{First: 9, Last: 8 + lost, Full: lost}) || st.LastSeq != 8+lost {
			t.Errorf("after %d losses: %+v", lost, st)
		}
	}
}

// TestCursorUnread: a cursor that can't be read for now isn't one that is lost.
func TestCursorUnread(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s := testSpool(t, dir, nil, nil)
	mustPut(t, s, 5)
	ack(t, s, 3)
	s.Close()
	cursor := filepath.Join(dir, "cursor")
	if err := os.Rename(cursor, cursor+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("cursor", cursor); err != nil { // to itself
		t.Fatal(err)
	}
	if _, err := openTest(t, dir, nil, nil); err == nil {
		t.Error("opened with a cursor that can't be read")
	}
	if err := os.Rename(cursor+".away", cursor); err != nil {
		t.Fatal(err)
	}
	expect(t, rest(t, testSpool(t, dir, nil, nil)), events(4, 5))
}

// TestForeignSegment: what another spool has written isn't cut off as if it were the end of this one that was torn.
func TestForeignSegment(t *testing.T) {
	dir, other := filepath.Join(t.TempDir(), "spool"), filepath.Join(t.TempDir(), "other")
	s := testSpool(t, dir, nil, nil)
	mustPut(t, s, 3)
	s.Close()
	o := testSpool(t, other, nil, nil)
	mustPut(t, o, 3)
	o.Close()
	m := files(t, dir)
	foreign := files(t, other)[segmentName(1)]
	m[segmentName(9)] = foreign
	dir = restore(t, m)
	s = testSpool(t, dir, nil, nil)
	expect(t, rest(t, s), events(1, 3))
	mustPut(t, s, 1)
	expect(t, rest(t, s), events(1, 4))
	if b, err := os.ReadFile(filepath.Join(dir, segmentName(9)+".damaged")); err != nil || !bytes.Equal(b, foreign) {
		t.Errorf("%d bytes are left of it, %v", len(b), err)
	}
}
