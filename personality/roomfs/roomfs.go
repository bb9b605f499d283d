// Package roomfs lays a file system for Pebble over another, on which a full disk
// makes writes wait instead of fail.
//
// Pebble takes an error of its write-ahead log or its MANIFEST for the end: it
// can't know what of the write has happened, so the process must go. A disk that is
// full is different. The kernel says of each write how many bytes it took, and the
// rest can be written once there is room. So here a write that meets ENOSPC or
// EDQUOT is begun again behind its last byte taken, until all is written. Whoever
// waits for it waits on, and [FS.Stall] says so.
//
// What an fsync reports is passed on as it is: the kernel may have dropped what it
// could not write, and nobody can write it again.
//
// Files are of three kinds, told apart by Pebble's write categories:
//
//   - Vital ones (write-ahead log, MANIFEST, markers) wait for ever.
//   - Tables that a flush writes wait until [FS.Close]: then they fail, which Pebble
//     takes for a reason to drop them.
//   - Tables that a compaction writes do the same, and wait also while less than
//     [Options.Floor] is free: they may not take what the others need.
package roomfs

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Options are how an FS waits.
type Options struct {
	// Dir is a directory on the disk that is written to; its free space is asked for.
	Dir string
	// Floor is how many bytes compactions and preallocation leave free. 0: none.
	Floor uint64
	// Retry is how long a write that met a full disk waits before the next try.
	// Default 100 ms.
	Retry time.Duration
	// After is time.After, but for tests.
	After func(time.Duration) <-chan time.Time
}

// FS is the file system. It may be used by several goroutines at once.
type FS struct {
	vfs.FS // what it is laid over
	opts   Options

	closing   chan struct{}
	closeOnce sync.Once
	abandoned atomic.Bool
	stall     atomic.Pointer[Stall] // stalls[0]

	mu      sync.Mutex
	stalls  []*Stall           // in the order in which they began
	changed chan struct{}      // closed when stalls becomes empty, or isn't any more
	tables  map[*file]struct{} // those being written
}

// A Stall is something written that waits for room.
type Stall struct {
	Path  string
	Since time.Time
	Err   error // what the disk said
}

// New returns an FS over another one.
func New(inner vfs.FS, o Options) *FS {
	if o.Retry == 0 {
		o.Retry = 100 * time.Millisecond
	}
	if o.After == nil {
		o.After = time.After
	}
	return &FS{FS: inner, opts: o, closing: make(chan struct{}), changed: make(chan struct{}), tables: map[*file]struct{}{}}
}

// IsFull reports whether an error says that the disk, or the quota, is used up.
func IsFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// Stall returns what has waited the longest for room, nil if nothing waits. The
// channel is closed when that changes from nil or to nil.
func (fs *FS) Stall() (*Stall, <-chan struct{}) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.stall.Load(), fs.changed
}

// Stalled is Stall for those who ask often: it takes no lock.
func (fs *FS) Stalled() *Stall { return fs.stall.Load() }

// Free returns how many bytes are free, as far as that is known: not every file
// system tells.
func (fs *FS) Free() (bytes uint64, known bool) {
	u, err := fs.GetDiskUsage(fs.opts.Dir)
	return u.AvailBytes, err == nil && u.TotalBytes > 0
}

// Close makes tables that wait for room fail, and those that would wait later, so
// that a database can be closed.
func (fs *FS) Close() { fs.closeOnce.Do(func() { close(fs.closing) }) }

// Abandon gives up a database that is stalled and can't be closed: whatever is
// written from now on waits for ever, so that no error of it ends the process. It
// removes the tables that are being written, for nothing refers to them yet and the
// next one who opens the database needs their room. Only the end of the process
// frees the rest.
func (fs *FS) Abandon() {
	fs.abandoned.Store(true)
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for f := range fs.tables {
		_ = fs.FS.Remove(f.path) // what is left the database removes when it is opened
	}
}

// gate keeps what is written after Abandon from being so.
func (fs *FS) gate() {
	if fs.abandoned.Load() {
		select {}
	}
}

// persist does op until it meets something else than a full disk.
func (fs *FS) persist(path string, u use, op func() error) error {
	fs.gate()
	err := op()
	if !IsFull(err) {
		return err
	}
	s := &Stall{Path: path, Since: time.Now(), Err: err}
	fs.begin(s)
	defer fs.end(s)
	for IsFull(err) && fs.pause(u) {
		err = op()
	}
	return err
}

// pause waits a little; false if there is no more use in it.
func (fs *FS) pause(u use) bool {
	closing := fs.closing
	if u == vital {
		closing = nil
	}
	select {
	case <-closing:
		return false
	default:
	}
	select {
	case <-fs.opts.After(fs.opts.Retry):
		fs.gate()
		return true
	case <-closing:
		return false
	}
}

func (fs *FS) begin(s *Stall) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.setStalls(append(fs.stalls, s))
}

func (fs *FS) end(s *Stall) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	left := make([]*Stall, 0, len(fs.stalls))
	for _, other := range fs.stalls {
		if other != s {
			left = append(left, other)
		}
	}
	fs.setStalls(left)
}

// setStalls tells who watches. The caller holds mu.
func (fs *FS) setStalls(stalls []*Stall) {
	if (len(stalls) == 0) != (len(fs.stalls) == 0) {
		close(fs.changed)
		fs.changed = make(chan struct{})
	}
	fs.stalls = stalls
	if len(stalls) == 0 {
		fs.stall.Store(nil)
	} else {
		fs.stall.Store(stalls[0])
	}
}

// leaveFloor waits until n more bytes leave the floor free.
func (fs *FS) leaveFloor(n int) error {
	for fs.opts.Floor > 0 {
		free, known := fs.Free()
		if !known || free >= fs.opts.Floor+uint64(n) {
			return nil
		}
		if !fs.pause(compaction) {
			return syscall.ENOSPC
		}
	}
	return nil
}

// Create implements vfs.FS.
func (fs *FS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	u := useOf(category)
	var f vfs.File
	err := fs.persist(name, u, func() (err error) { f, err = fs.FS.Create(name, category); return err })
	return fs.wrap(f, err, name, u)
}

// OpenReadWrite implements vfs.FS.
func (fs *FS) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	u := useOf(category)
	var f vfs.File
	err := fs.persist(name, u, func() (err error) { f, err = fs.FS.OpenReadWrite(name, category, opts...); return err })
	return fs.wrap(f, err, name, u)
}

// ReuseForWrite implements vfs.FS, in two steps that can each be done again: were
// it one, a rename that had happened would fail the second time.
func (fs *FS) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if err := fs.Rename(oldname, newname); err != nil {
		return nil, err
	}
	return fs.OpenReadWrite(newname, category)
}

// Rename implements vfs.FS.
func (fs *FS) Rename(oldname, newname string) error {
	return fs.persist(newname, vital, func() error { return fs.FS.Rename(oldname, newname) })
}

// Link implements vfs.FS.
func (fs *FS) Link(oldname, newname string) error {
	return fs.persist(newname, vital, func() error { return fs.FS.Link(oldname, newname) })
}

// MkdirAll implements vfs.FS.
func (fs *FS) MkdirAll(dir string, perm os.FileMode) error {
	return fs.persist(dir, vital, func() error { return fs.FS.MkdirAll(dir, perm) })
}

// Unwrap implements vfs.FS.
func (fs *FS) Unwrap() vfs.FS { return fs.FS }

func (fs *FS) wrap(inner vfs.File, err error, path string, u use) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	f := &file{File: inner, fs: fs, path: path, use: u}
	if u != vital {
		fs.mu.Lock()
		fs.tables[f] = struct{}{}
		fs.mu.Unlock()
	}
	return f, nil
}

// use is what a file is written for.
type use int

const (
	vital use = iota
	flush
	compaction
)

// useOf knows Pebble's categories; what it doesn't know is vital.
func useOf(c vfs.DiskWriteCategory) use {
	switch c {
	case "pebble-memtable-flush":
		return flush
	case "pebble-compaction", "pebble-blob-file-rewrite":
		return compaction
	}
	return vital
}

// file is one being written. As vfs.File has it, one Write at a time.
type file struct {
	vfs.File
	fs   *FS
	path string
	use  use
	free int // of a compaction: bytes that may be written before the floor is looked at again
}

// floorStep is how many bytes a compaction writes between two looks at the floor.
const floorStep = 256 << 10

// Write implements vfs.File. It counts on what vfs.File doesn't promise, that the
// file system below leaves p as it is.
func (f *file) Write(p []byte) (n int, err error) {
	if f.use == compaction && f.free < len(p) {
		more := max(floorStep, len(p))
		if err := f.fs.leaveFloor(more); err != nil {
			return 0, err
		}
		f.free = more
	}
	err = f.fs.persist(f.path, f.use, func() error {
		k, err := f.File.Write(p[n:])
		n += k
		if err == nil && n < len(p) {
			err = io.ErrShortWrite
		}
		return err
	})
	f.free -= n
	return n, err
}

// Preallocate implements vfs.File. It is a hint, and takes nothing of the floor.
func (f *file) Preallocate(offset, length int64) error {
	f.fs.gate()
	if free, known := f.fs.Free(); known && free < f.fs.opts.Floor+uint64(length) {
		return syscall.ENOSPC
	}
	return f.File.Preallocate(offset, length)
}

// Close implements vfs.File.
func (f *file) Close() error {
	if f.use != vital {
		f.fs.mu.Lock()
		delete(f.fs.tables, f)
		f.fs.mu.Unlock()
	}
	return f.File.Close()
}
