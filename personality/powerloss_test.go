package personality

import (
	"github.com/prooftrail/prooftrail/personality/pebblestore/crashtest"

	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// I1, I2, I3: the power fails at random moments under load, and of what wasn't
// synced some is lost, at random. Everything that had been answered is there
// afterwards, the log verifies, and it goes on.
func TestPowerLoss(t *testing.T) {
	const rounds = 12
	rng := rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano())))
	disk := crashtest.New()
	l := newTestLogOn(t, disk)
	told := &answered{}
	for round := range rounds {
		l.open(nil)
		l.mustHold(told)
		stop := l.load(told, round)
		for n := 0; l.svc.published.Load().head.Size < uint64(round+1)*40+uint64(rng.IntN(40)); n++ {
			id := fmt.Sprintf("r%d-%d", round, n)
			told.add(t, id, l.mustSubmit(id, "x"))
		}
		// What was answered before the cut must be there after it.
		before := told.clone()
		after := disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
		stop()
		l.abandon()
		disk = after
		l.cfg.fs, told = disk, before
	}
	l.open(nil)
	l.mustHold(told)
	if r := l.mustAudit(); r.Size < rounds*40 {
		t.Errorf("the log has only %d entries", r.Size)
	}
}

// newTestLogOn is newTestLog with the database on disk.
func newTestLogOn(t *testing.T, disk vfs.FS) *testLog {
	t.Helper()
	l := &testLog{t: t, cfg: Config{Dir: filepath.Join(t.TempDir(), "data"), fs: disk}}
	if err := disk.MkdirAll(l.cfg.Dir+".creating", 0o700); err != nil {
		t.Fatal(err)
	}
	l.create()
	// Create has renamed the directory that it built and synced its parent, on the
	// real file system. Here it takes some more.
	if err := disk.Rename(l.cfg.Dir+".creating", l.cfg.Dir); err != nil {
		t.Fatal(err)
	}
	anchor, err := os.ReadFile(l.cfg.Anchor)
	if err != nil {
		t.Fatal(err)
	}
	f, err := disk.Create(l.cfg.Anchor, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(anchor); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
	for dir := l.cfg.Dir; ; dir = filepath.Dir(dir) {
		d, err := disk.OpenDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(d.Sync(), d.Close()); err != nil {
			t.Fatal(err)
		}
		if dir == filepath.Dir(dir) {
			return l
		}
	}
}

// load submits from eight goroutines until stop is called.
func (l *testLog) load(told *answered, round int) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for client := range 8 {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				id := fmt.Sprintf("r%d-c%d-%d", round, client, n)
				p, err := l.svc.Admit(ctx, submitter("default"), Submission{Event: eventJSON(id, "x")})
				if err != nil {
					continue
				}
				if r := p.Wait(ctx, Wait(n%2)); r.Err == nil {
					told.add(l.t, id, r)
				}
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}
