package alarm

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

const (
	// savePause is between two writes of the state file; savePauseFailed after one that failed.
	savePause       = time.Second
	savePauseFailed = 10 * time.Second
	tendEvery       = time.Minute
)

// Run delivers until ctx ends, and then for at most Config.Drain more, so that what was raised
// before goes out; what doesn't is in the state file. It returns nil, or what kept it from
// writing that file in the end. One call at a time.
func (b *Board) Run(ctx context.Context) error {
	b.mu.Lock()
	if b.running {
		b.mu.Unlock()
		return errors.New("alarms: it runs already")
	}
	b.running, b.draining = true, false
	b.mu.Unlock()

	sending, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var senders, others sync.WaitGroup
	for _, o := range b.outlets {
		senders.Go(func() { b.serve(sending, o) })
	}
	others.Go(func() { b.tend(ctx) })
	others.Go(func() { b.keep(ctx) })
	<-ctx.Done()
	b.mu.Lock()
	b.draining = true
	b.changed()
	b.mu.Unlock()
	timer := time.AfterFunc(b.cfg.Drain, stop)
	senders.Wait()
	timer.Stop()
	others.Wait()
	b.mu.Lock()
	b.running = false
	b.mu.Unlock()
	return b.save()
}

// tend clears, once the grace period is over, what the state file knew and nobody raised
// again, and the overflow once nothing overflows any more.
func (b *Board) tend(ctx context.Context) {
	grace := time.NewTimer(b.cfg.Grace)
	defer grace.Stop()
	tick := time.NewTicker(tendEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-grace.C:
			b.clearRestored(ctx)
		case <-tick.C:
			b.clearOverflow()
		}
	}
}

func (b *Board) clearRestored(ctx context.Context) {
	n := 0
	b.mu.Lock()
	for _, e := range b.entries {
		if e.restored {
			b.clear(e)
			n++
		}
	}
	b.mu.Unlock()
	if n > 0 {
		b.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "alarms of the state file that nobody raised again are gone", slog.Int("alarms", n))
	}
}

func (b *Board) clearOverflow() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if left(b.overflow, b.cfg.Grace, b.now()) == 0 {
		b.clear(b.entries[key{name: Overflow}])
	}
}

// keep writes the state file whenever it is out of date.
func (b *Board) keep(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.dirty:
		}
		pause := savePause
		if b.save() != nil { // which is an alarm
			pause = savePauseFailed
			poke(b.dirty)
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}
