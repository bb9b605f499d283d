package personality

import (
	"github.com/prooftrail/prooftrail/personality/pebblestore/crashtest"

	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// lazyDisk is a file system that does not sync while lazy is above 0, and doesn't say so.
type lazyDisk struct {
	vfs.FS
	lazy atomic.Int32
}

func (d *lazyDisk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return d.file(d.FS.Create(name, c))
}

func (d *lazyDisk) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return d.file(d.FS.OpenReadWrite(name, c, opts...))
}

func (d *lazyDisk) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return d.file(d.FS.ReuseForWrite(oldname, newname, c))
}

func (d *lazyDisk) file(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return lazyFile{f, d}, nil
}

type lazyFile struct {
	vfs.File
	disk *lazyDisk
}

func (f lazyFile) Sync() error     { return f.unlessLazy(f.File.Sync) }
func (f lazyFile) SyncData() error { return f.unlessLazy(f.File.SyncData) }

func (f lazyFile) unlessLazy(sync func() error) error {
	if f.disk.lazy.Load() > 0 {
		return nil
	}
	return sync()
}

func (f lazyFile) SyncTo(n int64) (full bool, err error) {
	if f.disk.lazy.Load() > 0 {
		return false, nil
	}
	return f.File.SyncTo(n)
}

// I1: while syncing fails and nothing is published, nobody is answered: not the event
// itself, nor one like it, nor one with other content, nor that one again. What can be
// read may be gone after a loss of power.
func TestNothingUnsyncedIsAnswered(t *testing.T) {
	disk := crashtest.New()
	l := newTestLogOn(t, disk)
	f := &fault{}
	l.open(withFaults(f))
	l.mustSubmit("before", "x")
	f.next("sync", repeat(failed, 1000)...)
	f.next("integrate", repeat(failed, 1000)...)
	for _, note := range []string{"x", "x", "other", "other"} {
		p, err := l.svc.Admit(t.Context(), submitter("default"), Submission{Event: eventJSON("a", note)})
		if err != nil {
			t.Fatal(err)
		}
		if r := waitReady(p); !errors.Is(r.Err, ErrUnavailable) {
			t.Errorf("a with content %s, not synced: %+v, want ErrUnavailable", note, r)
		}
	}
	l.cfg.fs = disk.CrashClone(vfs.CrashCloneCfg{})
	f.clear()
	told := &answered{}
	told.add(t, "a", l.insist("a"))
	l.mustHold(told)
	l.close()
	// Without power in between, what had been stored is gone, and may come again.
	l.open(nil)
	if r := l.submit(submitter("default"), "a", "other", Integrated); r.Status != StatusAccepted {
		t.Errorf("the first of its id after losing power: %+v", r)
	}
	l.mustAudit()
}

// I1: a duplicate of an entry that isn't published yet is as durable as that.
func TestDuplicateInFlightIsDurable(t *testing.T) {
	disk := crashtest.New()
	l := newTestLogOn(t, disk)
	f := &fault{}
	l.open(withFaults(f))
	f.next("integrate", repeat(failed, 1000)...)
	f.next("append", failedButStored)
	if r := l.submit(submitter("default"), "a", "x", Durable); !errors.Is(r.Err, ErrUnavailable) {
		t.Fatalf("append failed: %+v", r)
	}
	told := &answered{}
	for range 2 {
		r := l.submit(submitter("default"), "a", "x", Durable)
		if r.Err != nil || r.Status != StatusDuplicate {
			t.Fatalf("sent again: %+v", r)
		}
		told.add(t, "a", r)
	}
	late := l.submitUntil(ended(), "a", "x")
	if late.Err != nil || late.Status != StatusDuplicate || late.Receipt != nil {
		t.Errorf("when the time for its receipt is up: %+v", late)
	}
	l.cfg.fs = disk.CrashClone(vfs.CrashCloneCfg{})
	f.clear()
	l.abandon()
	l.open(nil)
	l.mustHold(told)
}

// submitUntil sends an event, and once it has been sequenced waits for its receipt until
// ctx ends.
func (l *testLog) submitUntil(ctx context.Context, id, note string) Result {
	p, err := l.svc.Admit(context.Background(), submitter("default"), Submission{Event: eventJSON(id, note)})
	if err != nil {
		return Result{Err: err}
	}
	waitReady(p)
	return p.Wait(ctx, Integrated)
}

// A process is killed, and what it had written and not synced is there when the next
// one starts; then the power fails. What start-up found and signed again is durable.
func TestPowerLossAfterKill(t *testing.T) {
	disk := crashtest.New()
	l := newTestLogOn(t, disk)
	lazy := &lazyDisk{FS: disk}
	l.cfg.fs = lazy
	f := &fault{}
	l.open(withFaults(f))
	lazy.lazy.Store(1)
	told := &answered{}
	told.add(t, "published", l.mustSubmit("published", "x"))
	f.next("anchor", repeat(failed, 1000)...) // the head of what comes is stored and not signed
	told.add(t, "durable", l.submit(submitter("default"), "durable", "x", Durable))
	l.abandon()
	lazy.lazy.Store(0)
	l.open(nil)
	head := l.svc.published.Load().head
	l.cfg.fs = disk.CrashClone(vfs.CrashCloneCfg{})
	l.close()
	l.open(nil)
	l.mustHold(told, head)
}

// waitReady returns what a submitter that waits for Durable is told as soon as it is
// told something.
func waitReady(p *Pending) Result {
	select {
	case <-p.ready:
	case <-time.After(20 * time.Second):
	}
	return p.Wait(ended(), Durable)
}
