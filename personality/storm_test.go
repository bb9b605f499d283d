package personality

import (
	"github.com/prooftrail/prooftrail/personality/pebblestore/crashtest"

	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Every call of the stores fails at random, applied or not, while many clients send
// events, the same ones and others under their ids, until each is answered; then
// the power fails. Nobody was told anything that isn't so afterwards, and the log
// never found itself wrong.
func TestFaultsUnderLoad(t *testing.T) {
	const rounds, clients, events = 6, 8, 12
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	disk := crashtest.New()
	l := newTestLogOn(t, disk)
	told, conflicts := &answered{}, &answered{}
	for round := range rounds {
		l.open(nil)
		l.mustHold(told)
		for _, r := range conflicts.byID {
			l.mustHaveEvent(r.Index, ActionConflict)
		}
		l.close()
		f := &fault{}
		l.open(withFaults(f))
		f.storm(rand.New(rand.NewPCG(seed, uint64(round))), 4+rng.IntN(12))
		var done atomic.Int64
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		for c := range clients {
			wg.Go(func() {
				for n := range events {
					l.stormOne(ctx, told, conflicts, fmt.Sprintf("r%d-%d", round, (n+c/4)%events), c, n)
					done.Add(1)
				}
			})
		}
		for least := 20 + rng.Int64N(clients*events-20); done.Load() < least; {
			<-time.After(time.Millisecond) // the moment is to be random
		}
		before, conflictsBefore := told.clone(), conflicts.clone()
		after := disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
		cancel()
		wg.Wait()
		if err := l.svc.refusing(); err != nil {
			t.Fatal(err)
		}
		f.clear()
		l.abandon()
		disk, told, conflicts, l.cfg.fs = after, before, conflictsBefore, after
	}
	l.open(nil)
	l.mustHold(told)
	if len(told.byID) < rounds*events/4 {
		t.Errorf("only %d events were answered", len(told.byID))
	}
}

// storm makes one call in n fail, half of those after it was applied.
func (f *fault) storm(rng *rand.Rand, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.random = func(string) outcome {
		switch rng.IntN(2 * n) {
		case 0:
			return failed
		case 1:
			return failedButStored
		}
		return passed
	}
}

// stormOne sends an event until it is answered. Every fourth client has other content
// under the id.
func (l *testLog) stormOne(ctx context.Context, told, conflicts *answered, id string, client, n int) {
	note := "x"
	if client%4 == 3 {
		note = "other"
	}
	for ctx.Err() == nil {
		p, err := l.svc.Admit(ctx, submitter("default"), Submission{Event: eventJSON(id, note)})
		if err != nil {
			if ctx.Err() == nil {
				l.t.Errorf("admit %s: %v", id, err)
			}
			return
		}
		r := p.Wait(ctx, Wait(n%2))
		if r.Err == nil {
			told.add(l.t, id, r)
			if r.Status == StatusConflict {
				conflicts.add(l.t, id, Result{Index: r.ConflictIndex})
			}
			return
		}
		if ctx.Err() == nil && !errors.Is(r.Err, ErrUnavailable) && !errors.Is(r.Err, ErrBusy) {
			l.t.Errorf("submit %s: %v", id, r.Err)
			return
		}
	}
}
