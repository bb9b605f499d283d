package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/prooftrail/prooftrail/verifier/client"
	"github.com/prooftrail/prooftrail/verifier/client/spool"
)

// TestSpoolDiskFull fills the disk that a spool is on, again and again, while the log is down: best effort goes on and
// counts what it drops, required stops. With room again and the log back, what was promised is in the log,
// in order, and each gap is accounted for.
func TestSpoolDiskFull(t *testing.T) {
	if os.Getenv(ownMounts) == "" {
		amongOwnMounts(t)
		return
	}
	disk := mountDisk(t, "6m")
	r := newSpoolRun(t)
	r.spool = filepath.Join(disk, "spool")
	q := r.queue(t, nil)
	dropped := 0
	for round := range 4 {
		for range 50 {
			r.enqueue(q, &dropped)
		}
		before := dropped
		fillDisk(t, disk)
		for range 30_000 { // what was reserved for the last segment is used up first
			if r.enqueue(q, &dropped); dropped >= before+20 {
				break
			}
		}
		if dropped < before+20 {
			t.Fatalf("round %d: %d were dropped", round, dropped-before)
		}
		if _, err := q.Enqueue(t.Context(), schedulerEvent(), client.Required); !errors.Is(err, client.ErrNotLogged) || !errors.Is(err, spool.ErrDisk) || !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("required: %v", err)
		}
		if round == 2 { // it comes back while there is no room
			if err := q.Close(); err != nil {
				t.Fatal(err)
			}
			q = r.queue(t, nil)
			r.enqueue(q, &dropped)
		}
		if err := os.Remove(filepath.Join(disk, "filler")); err != nil {
			t.Fatal(err)
		}
	}
	server := r.start()
	if err := q.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.enqueue(q, &dropped)
	if err := q.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	s, size := r.audit(server)
	if int(s.Missing) != dropped || int(s.Dropped) != dropped || s.Repeated != 0 || s.Suspicious() {
		t.Errorf("%d were dropped; the audit says %+v", dropped, s)
	}
	if q.Stats().Unreported != 0 {
		t.Errorf("%+v", q.Stats())
	}
	r.compareSpool(server, size)
}

// enqueue enqueues an event that may be dropped.
func (r *spoolRun) enqueue(q *client.Queue, dropped *int) {
	r.t.Helper()
	e := schedulerEvent()
	e.Details = map[string]any{"n": fmt.Sprint(len(r.promised))}
	got, err := q.Enqueue(r.t.Context(), e, client.BestEffort)
	switch {
	case err == nil:
		r.promised[strconv.FormatUint(got.Seq, 10)] = got.ID
	case errors.Is(err, client.ErrDropped) && errors.Is(err, syscall.ENOSPC):
		*dropped++
	default:
		r.t.Fatal(err)
	}
}
