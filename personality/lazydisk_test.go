package personality

import (
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
	disk := vfs.NewCrashableMem()
	l := newTestLogOn(t, disk)
	f := &fault{}
	l.open(withFaults(f))
	l.mustSubmit("before", "x")
	f.next("sync", repeat(failed, 1000)...)
	f.next("integrate", repeat(failed, 1000)...)
	for _, note := range []string{"x", "x", "other", "other"} {
		p, err := l.svc.Admit(t.Context(), submitter("default"), eventJSON("a", note))
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

// waitReady returns what a submitter that waits for Durable is told as soon as it is
// told something.
func waitReady(p *Pending) Result {
	select {
	case <-p.ready:
	case <-time.After(20 * time.Second):
	}
	return p.Wait(ended(), Durable)
}
