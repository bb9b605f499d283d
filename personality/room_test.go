package personality

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/prooftrail/prooftrail/personality/roomfs/smalldisk"
)

// full has no room for anything.
func full(smalldisk.Op) int { return 0 }

// fullFor has no room for what is written to a path.
func fullFor(path string) func(smalldisk.Op) int {
	return func(op smalldisk.Op) int {
		if op.Path == path {
			return 0
		}
		return smalldisk.All
	}
}

// mustBeFull checks that an event is refused, and readiness with it.
func (l *testLog) mustBeFull(reason string) {
	l.t.Helper()
	if r := l.submit(submitter("default"), "refused", "x", Durable); !errors.Is(r.Err, ErrFull) || r.Status != "" {
		l.t.Errorf("an event on a full disk: %+v", r)
	}
	if r := l.svc.Ready(context.Background()); r.Ready || r.Refusing || !strings.Contains(r.Reason, reason) {
		l.t.Errorf("readiness: %+v", r)
	}
}

// Below the reserve events are refused, and reads of content. The rest goes on, and
// all of it once there is room.
func TestReserve(t *testing.T) {
	const mib = 1 << 20
	disk := smalldisk.New()
	l := newTestLogOn(t, disk)
	var free atomic.Uint64
	disk.SetFree(func() (uint64, bool) { return free.Load(), true })
	free.Store(200 * mib)
	l.cfg.MinFree = 160 * mib
	s := l.open(nil)
	l.mustSubmit("before", "x")

	// The service hasn't looked yet; the sequencer does.
	free.Store(160*mib - 1)
	p, err := s.Admit(t.Context(), submitter("default"), Submission{Event: eventJSON("queued", "x")})
	if err != nil {
		t.Fatal(err)
	}
	if r := p.Wait(t.Context(), Durable); !errors.Is(r.Err, ErrFull) {
		t.Errorf("an event that was queued: %+v", r)
	}
	l.mustBeFull("the last 167772160 are not for events")
	ctx := t.Context()
	if _, err := s.Entry(ctx, reader("default"), 0); !errors.Is(err, ErrFull) {
		t.Errorf("reading content: %v", err)
	}
	if e, err := s.Entry(ctx, submitter("default"), 0); err != nil || e.Opening == nil {
		t.Errorf("a submitter reading its own event: %v", err)
	}
	if _, err := s.Tile(ctx, 0, 0, 1); err != nil {
		t.Errorf("a tile: %v", err)
	}
	tok, _, err := s.AddToken(ctx, OperatorCaller(), TokenRequest{Name: "late", Tenant: "default", Roles: []Role{RoleRead}})
	if err == nil {
		err = s.RevokeToken(ctx, OperatorCaller(), tok.ID)
	}
	if err != nil {
		t.Errorf("making and revoking a token: %v", err)
	}

	free.Store(161 * mib) // hardly more than the reserve
	s.cfg.room.look()
	l.mustBeFull("the disk is full")
	free.Store(171 * mib)
	s.cfg.room.look()
	if r := s.Ready(ctx); !r.Ready {
		t.Errorf("with room: %+v", r)
	}
	l.mustSubmit("queued", "y")
	l.mustAudit()
}

// I1: somebody else takes all room at random moments under load, and gives it back.
// Meanwhile nothing is admitted; afterwards all that was answered is there.
func TestStalledUnderLoad(t *testing.T) {
	disk := smalldisk.New()
	l := newTestLogOn(t, disk)
	s := l.open(nil)
	var told answered
	for round := range 8 {
		l.mustSubmit("first of "+string(rune('a'+round)), "x")
		stop := l.load(&told, round)
		disk.SetFull(func(op smalldisk.Op) int { return op.Bytes / (round + 1) % max(op.Bytes, 1) })
		s.waitStall(true)
		l.mustBeFull("nothing can be written")
		if _, _, err := s.AddToken(t.Context(), OperatorCaller(), TokenRequest{Name: "late", Tenant: "default", Roles: []Role{RoleRead}}); !errors.Is(err, ErrFull) {
			t.Errorf("a token: %v", err)
		}
		if _, err := s.Tile(t.Context(), 0, 0, 1); err != nil {
			t.Errorf("a tile: %v", err)
		}
		disk.SetFull(nil)
		s.waitStall(false)
		stop()
		l.mustSubmit("last of "+string(rune('a'+round)), "x") // published after all others
		told.check(l)
		l.mustAudit()
	}
}

// waitStall waits until something has to wait for room, or nothing has.
func (s *Service) waitStall(want bool) {
	for {
		stall, changed := s.cfg.room.disk.Stall()
		if (stall != nil) == want {
			return
		}
		<-changed
	}
}

// A service on a full disk can be closed: it says why it isn't closed in order.
func TestCloseStalled(t *testing.T) {
	disk := smalldisk.New()
	l := newTestLogOn(t, disk)
	s := l.open(nil)
	if err := s.Announce(t.Context()); err != nil {
		t.Fatal(err)
	}
	disk.SetFull(full)
	p, err := s.Admit(t.Context(), submitter("default"), Submission{Event: eventJSON("stuck", "x")})
	if err != nil {
		t.Fatal(err)
	}
	s.waitStall(true)
	if err := s.Close(context.Background()); !errors.Is(err, ErrFull) {
		t.Errorf("close: %v", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	stop()
	if r := p.Wait(ctx, Durable); r.Err == nil {
		t.Errorf("the event that was being stored: %+v", r)
	}
	l.svc = nil
}

// A full disk found only when the database closes ends that too.
func TestCloseMeetsFullDisk(t *testing.T) {
	disk := smalldisk.New()
	l := newTestLogOn(t, disk)
	s := l.open(nil)
	l.mustSubmit("stored", "x")
	disk.SetFull(full)
	if err := s.Close(context.Background()); !errors.Is(err, ErrFull) {
		t.Errorf("close: %v", err)
	}
	l.svc = nil
}

// The anchor's disk is full: what is stored waits for its signature, nothing more is
// taken, and all goes on by itself.
func TestAnchorFull(t *testing.T) {
	disk := smalldisk.New()
	l := newTestLogOn(t, disk)
	s := l.open(nil)
	l.mustSubmit("before", "x")
	tries := make(chan struct{}, 1)
	disk.SetFull(func(op smalldisk.Op) int {
		if op.Path == l.cfg.Anchor {
			select {
			case tries <- struct{}{}:
			default:
			}
		}
		return fullFor(l.cfg.Anchor)(op)
	})
	p, err := s.Admit(t.Context(), submitter("default"), Submission{Event: eventJSON("unsigned", "x")})
	if err != nil {
		t.Fatal(err)
	}
	if r := p.Wait(t.Context(), Durable); r.Err != nil || r.Status != StatusAccepted {
		t.Fatalf("stored: %+v", r)
	}
	<-tries
	<-tries
	l.mustBeFull("the anchor can't be written")
	disk.SetFull(nil)
	if r := p.Wait(t.Context(), Integrated); r.Err != nil || r.Receipt == nil {
		t.Fatalf("signed: %+v", r)
	}
	l.mustSubmit("after", "x")
	l.mustAudit()
}

// A log isn't opened on a full disk, and the error says which disk and how much it takes.
func TestOpenOnFullDisk(t *testing.T) {
	disk := smalldisk.New()
	l := newTestLogOn(t, disk)
	before := disk.Ops()
	disk.SetFree(func() (uint64, bool) { return minOpen - 1, true })
	store := filepath.Join(l.cfg.Dir, storeDir)
	_, err := Open(t.Context(), l.cfg)
	if !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "4194303 bytes are free in "+store) || disk.Ops() != before {
		t.Errorf("open: %v, after %d operations", err, disk.Ops()-before)
	}
	disk.SetFree(nil)
	l.open(nil)
	l.mustSubmit("before", "x")
	l.close()
	// Full in the middle: what is left of the attempt goes with the process.
	disk.SetFull(func(op smalldisk.Op) int { return 0 })
	if _, err := Open(t.Context(), l.cfg); !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), store) {
		t.Errorf("open: %v", err)
	}
}

// A start that finds the disk full, at whatever it does, harms nothing: the next
// start, with room, finds all that was answered.
func TestOpenFullAtEachOperation(t *testing.T) {
	disk := smalldisk.New()
	l := newTestLogOn(t, disk)
	l.open(nil)
	var told answered
	for _, id := range []string{"a", "b", "c", "d"} {
		told.add(t, id, l.mustSubmit(id, strings.Repeat(id, 20_000)))
	}
	killed := l.copyOf(disk) // what kill -9 would have left
	l.close()
	n := 0
	for ; ; n++ {
		disk := l.copyOf(killed)
		l.cfg.fs = disk
		first := disk.Ops() + n
		disk.SetFull(func(op smalldisk.Op) int {
			if op.N < first {
				return smalldisk.All
			}
			return op.Bytes / 2
		})
		s, err := Open(t.Context(), l.cfg)
		if err == nil {
			disk.SetFull(nil)
			if err := s.Close(t.Context()); err != nil {
				t.Error(err)
			}
			break
		}
		if !errors.Is(err, ErrFull) && !strings.Contains(err.Error(), "move anchor: ") {
			t.Errorf("full after %d operations: %v", n, err)
		}
		l.cfg.fs = l.copyOf(disk)
		l.open(nil)
		told.check(l)
		l.mustAudit()
		l.close()
	}
	if n < 10 {
		t.Errorf("opened with %d operations only", n)
	}
}

// copyOf copies the log's files to a disk of their own.
func (l *testLog) copyOf(disk *smalldisk.FS) *smalldisk.FS {
	l.t.Helper()
	parent := filepath.Dir(l.cfg.Dir)
	c := smalldisk.New()
	if err := c.MkdirAll(filepath.Dir(parent), 0o700); err != nil {
		l.t.Fatal(err)
	}
	if ok, err := vfs.Clone(disk.MemFS, c.MemFS, parent, parent, vfs.CloneSync); !ok || err != nil {
		l.t.Fatalf("copy %s: %v, %v", parent, ok, err)
	}
	return c
}

// A log that can't be made for want of room leaves nothing behind, however far it
// had come.
func TestCreateOnFullDisk(t *testing.T) {
	for n := 0; ; n++ {
		var logged bytes.Buffer
		disk := smalldisk.New()
		parent := t.TempDir()
		cfg := Config{Dir: filepath.Join(parent, "data"), CacheBytes: 1 << 20, fs: disk, Logger: slog.New(slog.NewTextHandler(&logged, nil))}
		disk.SetFull(func(op smalldisk.Op) int {
			if op.N < n {
				return smalldisk.All
			}
			return 0
		})
		_, err := Create(context.Background(), CreateConfig{Config: cfg, Origin: testOrigin})
		if err == nil {
			if n < 10 {
				t.Errorf("made with %d operations only", n)
			}
			return
		}
		left, readErr := os.ReadDir(parent)
		if readErr != nil || len(left) != 0 || !strings.Contains(err.Error(), "no space left on device") {
			t.Errorf("full after %d operations: %v; left %v, %v\n%s", n, err, left, readErr, &logged)
		}
	}
}
