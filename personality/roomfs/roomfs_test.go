package roomfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/prooftrail/prooftrail/personality/roomfs"
	"github.com/prooftrail/prooftrail/personality/roomfs/smalldisk"
)

const (
	wal        = "pebble-wal"
	flush      = "pebble-memtable-flush"
	compaction = "pebble-compaction"
)

// atOnce is a clock on which no time passes while one waits.
func atOnce(time.Duration) <-chan time.Time {
	c := make(chan time.Time)
	close(c)
	return c
}

// hourglass is a clock whose time passes when the test says so. asked has an
// element for each wait begun.
type hourglass struct{ asked, pass chan time.Time }

func newHourglass() hourglass {
	return hourglass{make(chan time.Time, 100), make(chan time.Time)}
}

func (h hourglass) after(time.Duration) <-chan time.Time {
	h.asked <- time.Time{}
	return h.pass
}

func content(t *testing.T, disk vfs.FS, name string) []byte {
	t.Helper()
	f, err := disk.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Every set of positions at which the disk can be full, for several ways to cut the
// same bytes into writes: the file has each byte once, in its place.
func TestEveryShortWrite(t *testing.T) {
	text := []byte("0123456789")
	for _, chunks := range [][]int{{10}, {1, 9}, {5, 5}, {3, 0, 4, 3}, {1, 1, 1, 1, 1, 1, 1, 1, 1, 1}} {
		for set := range 1 << (len(text) + 1) {
			disk := smalldisk.New()
			fs := roomfs.New(disk, roomfs.Options{After: atOnce})
			f, err := fs.Create("f", wal)
			if err != nil {
				t.Fatal(err)
			}
			full, written := set, 0
			disk.SetFull(func(op smalldisk.Op) int {
				for at := written; at <= written+op.Bytes; at++ {
					if full>>at&1 == 1 && (at > written || op.Bytes > 0) {
						full &^= 1 << at
						defer func() { written = at }()
						return at - written
					}
				}
				written += op.Bytes
				return smalldisk.All
			})
			rest := bytes.Clone(text) // a vfs.File may change what it is given, and MemFS does
			for _, n := range chunks {
				if k, err := f.Write(rest[:n]); k != n || err != nil {
					t.Fatalf("writing %d bytes, full at %b: %d, %v", n, set, k, err)
				}
				rest = rest[n:]
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			if got := content(t, disk, "f"); !bytes.Equal(got, text) {
				t.Fatalf("writes of %v, full at %b: the file has %q", chunks, set, got)
			}
			if s, _ := fs.Stall(); s != nil {
				t.Fatalf("still stalled: %+v", s)
			}
		}
	}
}

// Creating, renaming, linking and making directories wait too, and are done once.
func TestNamesWait(t *testing.T) {
	for kind, do := range map[string]func(fs vfs.FS) error{
		"create": func(fs vfs.FS) error { return closed(fs.Create("new", wal)) },
		"rename": func(fs vfs.FS) error { return fs.Rename("old", "new") },
		"link":   func(fs vfs.FS) error { return fs.Link("old", "new") },
		"mkdir":  func(fs vfs.FS) error { return fs.MkdirAll("new", 0o700) },
		"reuse":  func(fs vfs.FS) error { return closed(fs.ReuseForWrite("old", "new", wal)) },
		"open":   func(fs vfs.FS) error { return closed(fs.OpenReadWrite("new", wal)) },
	} {
		disk := smalldisk.New()
		if err := closed(disk.Create("old", wal)); err != nil {
			t.Fatal(err)
		}
		fs := roomfs.New(disk, roomfs.Options{After: atOnce})
		times := 3
		disk.SetFull(func(smalldisk.Op) int { times--; return max(times, -1) })
		if err := do(fs); err != nil || times > 0 {
			t.Errorf("%s: %v, still full %d times", kind, err, times)
		}
		if _, err := disk.Stat("new"); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func closed(f vfs.File, err error) error {
	if err != nil {
		return err
	}
	return f.Close()
}

// What isn't a full disk is passed on at once, of a quota and of a sync too.
func TestOtherErrors(t *testing.T) {
	for _, err := range []error{syscall.EIO, io.ErrShortWrite, nil} {
		if roomfs.IsFull(err) {
			t.Errorf("%v is taken for a full disk", err)
		}
	}
	for _, err := range []error{syscall.EDQUOT, fmt.Errorf("write: %w", syscall.ENOSPC)} {
		if !roomfs.IsFull(err) {
			t.Errorf("%v isn't taken for a full disk", err)
		}
	}
	fs := roomfs.New(brokenFS{vfs.NewMem()}, roomfs.Options{After: func(time.Duration) <-chan time.Time { t.Error("it waits"); return nil }})
	f, err := fs.Create("f", wal)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := f.Write([]byte("abc")); n != 2 || !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("a short write without an error: %d, %v", n, err)
	}
	if err := f.Sync(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a sync without room: %v", err)
	}
}

// brokenFS has files whose writes are short and whose syncs fail.
type brokenFS struct{ *vfs.MemFS }

func (b brokenFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := b.MemFS.Create(name, c)
	return brokenFile{f}, err
}

type brokenFile struct{ vfs.File }

func (f brokenFile) Write(p []byte) (int, error) { return f.File.Write(p[:len(p)-1]) }
func (f brokenFile) Sync() error                 { return syscall.ENOSPC }

// While a write waits, Stall says so, and what is seen of it changes when it ends.
func TestStall(t *testing.T) {
	disk, clock := smalldisk.New(), newHourglass()
	fs := roomfs.New(disk, roomfs.Options{After: clock.after})
	f, err := fs.Create("f", wal)
	if err != nil {
		t.Fatal(err)
	}
	s, begins := fs.Stall()
	if s != nil || fs.Stalled() != nil {
		t.Fatalf("stalled from the start: %+v", s)
	}
	disk.SetFull(func(op smalldisk.Op) int { return min(1, op.Bytes-1) })
	wrote := make(chan error, 1)
	go func() { _, err := f.Write([]byte("abc")); wrote <- err }()
	<-begins
	<-clock.asked
	s, ends := fs.Stall()
	if s == nil || s != fs.Stalled() || s.Path != "f" || !errors.Is(s.Err, syscall.ENOSPC) || s.Since.IsZero() {
		t.Fatalf("stall: %+v", s)
	}
	fs.Close() // of no use to a write-ahead log
	clock.pass <- time.Time{}
	<-clock.asked
	disk.SetFull(nil)
	clock.pass <- time.Time{}
	<-ends
	if err := <-wrote; err != nil || fs.Stalled() != nil {
		t.Errorf("the write: %v; stall: %+v", err, fs.Stalled())
	}
	if got := content(t, disk, "f"); string(got) != "abc" {
		t.Errorf("the file has %q", got)
	}
}

// Tables wait until Close, and then fail.
func TestTablesFailAtClose(t *testing.T) {
	for _, category := range []vfs.DiskWriteCategory{flush, compaction, "pebble-blob-file-rewrite"} {
		disk, clock := smalldisk.New(), newHourglass()
		fs := roomfs.New(disk, roomfs.Options{After: clock.after})
		f, err := fs.Create("f", category)
		if err != nil {
			t.Fatal(err)
		}
		disk.SetFull(func(op smalldisk.Op) int { return 0 })
		wrote := make(chan error, 1)
		go func() { _, err := f.Write([]byte("abc")); wrote <- err }()
		<-clock.asked
		fs.Close()
		if err := <-wrote; !roomfs.IsFull(err) {
			t.Errorf("%s: %v", category, err)
		}
		if _, err := fs.Create("g", category); !roomfs.IsFull(err) {
			t.Errorf("%s after Close: %v", category, err)
		}
	}
}

// Compactions leave the floor free; nothing else looks at it.
func TestFloor(t *testing.T) {
	const floor = 10 << 20
	disk, clock := smalldisk.New(), newHourglass()
	fs := roomfs.New(disk, roomfs.Options{Floor: floor, After: clock.after})
	free := uint64(floor)
	known := true
	disk.SetFree(func() (uint64, bool) { return free, known })
	for _, category := range []vfs.DiskWriteCategory{wal, flush} {
		f, err := fs.Create("f", category)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	f, err := fs.Create("c", compaction)
	if err != nil {
		t.Fatal(err)
	}
	wrote := make(chan error, 1)
	go func() { _, err := f.Write([]byte("abc")); wrote <- err }()
	<-clock.asked
	if fs.Stalled() != nil {
		t.Error("a compaction that keeps off the floor is called a stall")
	}
	disk.SetFree(func() (uint64, bool) { return floor + 1<<20, true })
	clock.pass <- time.Time{}
	if err := <-wrote; err != nil {
		t.Error(err)
	}
	disk.SetFree(func() (uint64, bool) { return 0, false })
	if _, err := f.Write(make([]byte, 1<<20)); err != nil {
		t.Errorf("on a disk that doesn't tell: %v", err)
	}
	disk.SetFree(func() (uint64, bool) { return floor, true })
	go func() { _, err := f.Write(make([]byte, 1<<20)); wrote <- err }()
	<-clock.asked
	fs.Close()
	if err := <-wrote; !roomfs.IsFull(err) {
		t.Errorf("waiting for the floor at Close: %v", err)
	}
	if free, known := fs.Free(); free != floor || !known {
		t.Errorf("free: %d, %v", free, known)
	}
	if err := f.Preallocate(0, 1); !roomfs.IsFull(err) {
		t.Errorf("preallocating below the floor: %v", err)
	}
	disk.SetFree(func() (uint64, bool) { return math.MaxInt64, true })
	if err := f.Preallocate(0, 1); err != nil {
		t.Errorf("preallocating: %v", err)
	}
}

// Abandon removes unfinished tables, and nothing is written any more.
func TestAbandon(t *testing.T) {
	disk, clock := smalldisk.New(), newHourglass()
	fs := roomfs.New(disk, roomfs.Options{After: clock.after})
	files := map[string]vfs.File{}
	for name, category := range map[string]vfs.DiskWriteCategory{"log": wal, "done": flush, "begun": flush, "half": compaction} {
		f, err := fs.Create(name, category)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = f
	}
	if err := files["done"].Close(); err != nil {
		t.Fatal(err)
	}
	fs.Abandon()
	for name, there := range map[string]bool{"log": true, "done": true, "begun": false, "half": false} {
		if _, err := disk.Stat(name); (err == nil) != there {
			t.Errorf("%s: %v, expected it to be there: %v", name, err, there)
		}
	}
	before := disk.Ops()
	for range 3 {
		go func() { _, err := files["log"].Write([]byte("abc")); t.Errorf("written: %v", err) }()
		go func() { t.Errorf("created: %v", closed(fs.Create("late", wal))) }()
	}
	for range 1000 {
		runtime.Gosched()
	}
	if disk.Ops() != before {
		t.Error("something was written")
	}
}

// A real database, on a disk that is full once at each of its operations in turn,
// with every second write half written, loses nothing.
func TestPebbleAtEachOperation(t *testing.T) {
	n := 0
	var stalls atomic.Int64
	for ; ; n++ {
		disk := smalldisk.New()
		fs := roomfs.New(disk, roomfs.Options{After: func(d time.Duration) <-chan time.Time { stalls.Add(1); return atOnce(d) }})
		left := 3
		disk.SetFull(func(op smalldisk.Op) int {
			if op.N < n || left == 0 {
				return smalldisk.All
			}
			left--
			return op.Bytes / 2 * (left % 2)
		})
		useDatabase(t, fs)
		if disk.Ops() < n {
			break
		}
	}
	t.Logf("%d operations", n)
	if n < 50 || stalls.Load() < int64(n) {
		t.Errorf("only %d operations and %d waits", n, stalls.Load())
	}
}

// fatal fails the test where Pebble would end the process.
type fatal struct{ t *testing.T }

func (l fatal) Infof(string, ...any)              {}
func (l fatal) Errorf(format string, args ...any) { l.t.Errorf(format, args...) }
func (l fatal) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func useDatabase(t *testing.T, fs *roomfs.FS) {
	t.Helper()
	open := func() *pebble.DB {
		o := &pebble.Options{FS: fs, Logger: fatal{t}, MemTableSize: 64 << 10, L0CompactionThreshold: 2, FormatMajorVersion: pebble.FormatValueSeparation}
		db, err := pebble.Open("db", o)
		if err != nil {
			t.Fatal(err)
		}
		return db
	}
	check := func(db *pebble.DB, n int) {
		for i := range n {
			v, closer, err := db.Get(key(i))
			if err != nil || !bytes.Equal(v, value(i)) {
				t.Fatalf("key %d: %d bytes, %v", i, len(v), err)
			}
			closer.Close()
		}
	}
	db := open()
	const n = 24
	for i := range n {
		if err := db.Set(key(i), value(i), pebble.Sync); err != nil {
			t.Fatal(err)
		}
		if i == n/2 {
			if err := db.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := db.Compact(t.Context(), key(0), key(n), false); err != nil {
		t.Fatal(err)
	}
	check(db, n)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = open()
	check(db, n)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func key(i int) []byte { return fmt.Appendf(nil, "key %06d", i) }

// value is longer than a block of the write-ahead log now and then.
func value(i int) []byte {
	v := make([]byte, 100+i*i*50)
	for k := range v {
		v[k] = byte(k * (i + 1))
	}
	return v
}
