// Package smalldisk is a disk in memory that is full when a test says so.
package smalldisk

import (
	"os"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// FS is the disk. What needs room asks Full first.
type FS struct {
	*vfs.MemFS

	mu   sync.Mutex
	full func(Op) int
	free func() (uint64, bool)
	ops  int
}

// Op is something that needs room.
type Op struct {
	N        int    // the number of such operations before it
	Kind     string // create, write, rename, link, mkdir
	Path     string
	Category vfs.DiskWriteCategory
	Bytes    int // of a write
}

// All is what a function for SetFull returns where the operation has all its room.
const All = -1

// New returns an empty disk with room for everything.
func New() *FS { return &FS{MemFS: vfs.NewMem()} }

// SetFull sets what decides how much of an operation there is room for: All, or
// fewer bytes than a write has, of which so many are written. nil: always All.
func (d *FS) SetFull(full func(Op) int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.full = full
}

// SetFree sets what the disk says is free. By default it doesn't know.
func (d *FS) SetFree(free func() (uint64, bool)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.free = free
}

// Ops returns the number of operations so far.
func (d *FS) Ops() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ops
}

func (d *FS) room(op Op) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	op.N = d.ops
	d.ops++
	if d.full == nil {
		return All
	}
	return d.full(op)
}

func (d *FS) check(op Op) error {
	if d.room(op) != All {
		return &os.PathError{Op: op.Kind, Path: op.Path, Err: syscall.ENOSPC}
	}
	return nil
}

// GetDiskUsage implements vfs.FS.
func (d *FS) GetDiskUsage(string) (vfs.DiskUsage, error) {
	d.mu.Lock()
	free := d.free
	d.mu.Unlock()
	if free == nil {
		return vfs.DiskUsage{}, vfs.ErrUnsupported
	}
	bytes, known := free()
	if !known {
		return vfs.DiskUsage{}, nil // some file systems say zero of all
	}
	return vfs.DiskUsage{AvailBytes: bytes, TotalBytes: 1 << 40}, nil
}

// Create implements vfs.FS.
func (d *FS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if err := d.check(Op{Kind: "create", Path: name, Category: category}); err != nil {
		return nil, err
	}
	f, err := d.MemFS.Create(name, category)
	return d.wrap(f, err, name, category)
}

// OpenReadWrite implements vfs.FS.
func (d *FS) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	if _, err := d.Stat(name); err != nil {
		if err := d.check(Op{Kind: "create", Path: name, Category: category}); err != nil {
			return nil, err
		}
	}
	f, err := d.MemFS.OpenReadWrite(name, category, opts...)
	return d.wrap(f, err, name, category)
}

// Rename implements vfs.FS.
func (d *FS) Rename(oldname, newname string) error {
	if err := d.check(Op{Kind: "rename", Path: newname}); err != nil {
		return err
	}
	return d.MemFS.Rename(oldname, newname)
}

// Link implements vfs.FS.
func (d *FS) Link(oldname, newname string) error {
	if err := d.check(Op{Kind: "link", Path: newname}); err != nil {
		return err
	}
	return d.MemFS.Link(oldname, newname)
}

// MkdirAll implements vfs.FS.
func (d *FS) MkdirAll(dir string, perm os.FileMode) error {
	if err := d.check(Op{Kind: "mkdir", Path: dir}); err != nil {
		return err
	}
	return d.MemFS.MkdirAll(dir, perm)
}

// Unwrap implements vfs.FS.
func (d *FS) Unwrap() vfs.FS { return d.MemFS }

func (d *FS) wrap(f vfs.File, err error, path string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &file{f, d, path, category}, nil
}

type file struct {
	vfs.File
	disk     *FS
	path     string
	category vfs.DiskWriteCategory
}

// Write implements vfs.File: of a write without enough room the first bytes are
// written, as a kernel does.
func (f *file) Write(p []byte) (int, error) {
	room := f.disk.room(Op{Kind: "write", Path: f.path, Category: f.category, Bytes: len(p)})
	if room == All {
		return f.File.Write(p)
	}
	n, err := f.File.Write(p[:room])
	if err == nil {
		err = &os.PathError{Op: "write", Path: f.path, Err: syscall.ENOSPC}
	}
	return n, err
}

// WriteAt implements vfs.File.
func (f *file) WriteAt(p []byte, off int64) (int, error) {
	if err := f.disk.check(Op{Kind: "write", Path: f.path, Category: f.category, Bytes: len(p)}); err != nil {
		return 0, err
	}
	return f.File.WriteAt(p, off)
}
