// Package crashtest has a disk in memory for tests that look at what a crash leaves of it.
package crashtest

import "github.com/cockroachdb/pebble/v2/vfs"

// Disk is Pebble's vfs.NewCrashableMem without the reuse of files: its MemFS takes its lock
// twice there, and hangs for ever if CrashClone comes in between.
type Disk struct{ *vfs.MemFS }

var _ vfs.FS = Disk{}

// New makes an empty disk.
func New() Disk { return Disk{vfs.NewCrashableMem()} }

// CrashClone returns what a crash at this moment leaves. It may be called at any time.
func (d Disk) CrashClone(cfg vfs.CrashCloneCfg) Disk { return Disk{d.MemFS.CrashClone(cfg)} }

// ReuseForWrite implements vfs.FS with a new file in the place of the old one.
func (d Disk) ReuseForWrite(old, new string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if err := d.Remove(old); err != nil {
		return nil, err
	}
	return d.Create(new, category)
}

// Unwrap implements vfs.FS.
func (d Disk) Unwrap() vfs.FS { return d.MemFS }
