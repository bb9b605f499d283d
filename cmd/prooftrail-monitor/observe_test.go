package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/monitor/gossip"
)

func headNote(size int, root byte) []byte {
	return []byte(verifier.Checkpoint{Origin: "example.com/audit", Size: uint64(size), Root: verifier.Hash{root}}.Text() + "\n— sig\n")
}

// observed counts what gets to the monitor, which may be slow, or fail.
type observed struct {
	mu    sync.Mutex
	n     map[string]int
	block chan struct{}
	err   error
}

func (o *observed) observe(ctx context.Context, note []byte, _ string) (gossip.Answer, error) {
	if o.block != nil {
		<-o.block
	}
	if err := ctx.Err(); err != nil {
		return gossip.Answer{}, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.n[string(note)]++
	return gossip.Answer{}, o.err
}

func newTestObserver(t *testing.T, to *observed) (*observer, *prometheus.CounterVec) {
	t.Helper()
	key, err := verifier.ParseLogKey(testVKey)
	if err != nil {
		t.Fatal(err)
	}
	count := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "x"}, []string{"result"})
	return newObserver(to.observe, []*verifier.LogKey{key}, slog.New(slog.DiscardHandler), count), count
}

// TestFlood: a million refusals of old heads wait for nothing and keep nothing, and the proof gets
// through.
func TestFlood(t *testing.T) {
	to := &observed{n: map[string]int{}, block: make(chan struct{})}
	o, count := newTestObserver(t, to)
	ctx, stop := context.WithCancel(t.Context())
	o.start(ctx)
	known := headNote(1_000_000, 1)
	for i := range 100_000 {
		o.refused("example.com/audit", known, headNote(i, 1), nil)
	}
	o.refused("example.com/audit", known, headNote(1_000_000, 2), nil) // the fork
	o.refused("example.com/audit", known, headNote(1_000_001, 3), nil) // what may be one
	o.refused("example.com/other", known, headNote(1_000_000, 2), nil) // not followed
	close(to.block)
	for deadline := time.Now().Add(20 * time.Second); ; {
		to.mu.Lock()
		done := to.n[string(known)] == 1 && to.n[string(headNote(1_000_000, 2))] == 1 && to.n[string(headNote(1_000_001, 3))] == 1
		to.mu.Unlock()
		if done {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the proof doesn't get through")
		}
		<-time.After(time.Millisecond)
	}
	stop()
	o.drain(t.Context())
	if n := testutil.ToFloat64(count.WithLabelValues("dropped")); n < 90_000 {
		t.Errorf("%v dropped", n)
	}
	if len(to.n) > 2*queueLength+3 {
		t.Errorf("%d notes got through", len(to.n))
	}
}

// TestKnown: what was looked at isn't again; what couldn't be written down is.
func TestKnown(t *testing.T) {
	to := &observed{n: map[string]int{}, err: errors.New("disk full")}
	o, count := newTestObserver(t, to)
	o.refused("example.com/audit", nil, headNote(5, 1), nil)
	o.drain(t.Context())
	to.err = nil
	for range 3 {
		o.refused("example.com/audit", nil, headNote(5, 1), nil)
		o.refused("example.com/audit", nil, headNote(5, 1), nil)
		o.drain(t.Context())
	}
	if n := to.n[string(headNote(5, 1))]; n != 2 {
		t.Errorf("looked at %d times", n)
	}
	to.err = fmt.Errorf("nonsense: %w", verifier.ErrFailed) // signed and no head: an alarm, once
	for range 2 {
		o.refused("example.com/audit", headNote(9, 1), []byte("example.com/audit\nnonsense\n\n— sig\n"), nil)
		o.drain(t.Context())
	}
	if n := to.n["example.com/audit\nnonsense\n\n— sig\n"]; n != 1 {
		t.Errorf("looked at %d times", n)
	}
	for i := range 2 * rememberNotes {
		o.remember(headNote(i, 1))
	}
	if len(o.known) != rememberNotes {
		t.Errorf("%d notes are remembered", len(o.known))
	}
	if n := testutil.ToFloat64(count.WithLabelValues("failed")); n != 1 {
		t.Errorf("%v failed", n)
	}
}

// TestDrain: what waits when the end comes, and what is being looked at, is looked at.
func TestDrain(t *testing.T) {
	to := &observed{n: map[string]int{}, block: make(chan struct{})}
	o, count := newTestObserver(t, to)
	ctx, stop := context.WithCancel(t.Context())
	o.start(ctx)
	for i := range 10 {
		o.refused("example.com/audit", headNote(100, 1), headNote(i, 1), nil)
	}
	stop()
	close(to.block)
	o.drain(t.Context())
	if len(to.n) != 10 || testutil.ToFloat64(count.WithLabelValues("observed")) != 10 {
		t.Errorf("%d of 10 heads were looked at", len(to.n))
	}
}
