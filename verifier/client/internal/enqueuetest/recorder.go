// Package enqueuetest records what adapters enqueue.
package enqueuetest

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/verifier/client"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// Recorder takes events as a queue does, if they are valid. It is safe for concurrent use.
type Recorder struct {
	tb testing.TB

	mu      sync.Mutex
	events  []event.Event
	modes   []client.Mode
	changed chan struct{} // closed and made anew with each event
	fault   func(event.Event) error
}

// New returns a recorder. An event that isn't valid fails the test.
func New(tb testing.TB) *Recorder { return &Recorder{tb: tb, changed: make(chan struct{})} }

// Fault has each event asked for an error; nil for none. It may wait.
func (r *Recorder) Fault(f func(event.Event) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault = f
}

// Enqueue takes an event.
func (r *Recorder) Enqueue(_ context.Context, e event.Event, mode client.Mode) (client.Enqueued, error) {
	r.mu.Lock()
	fault := r.fault
	r.mu.Unlock()
	if fault != nil {
		if err := fault(e); err != nil {
			return client.Enqueued{}, err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(r.events) + 1
	valid := e
	valid.Source, valid.ID = "cron://test/", "e"+strconv.Itoa(n)
	if valid.Time.IsZero() {
		valid.Time = time.Now()
	}
	if _, err := valid.Fields(); err != nil {
		r.tb.Errorf("%s isn't valid: %v", e.Action, err)
	}
	r.events, r.modes = append(r.events, e), append(r.modes, mode)
	close(r.changed)
	r.changed = make(chan struct{})
	return client.Enqueued{ID: valid.ID, Seq: uint64(n)}, nil
}

// Events returns what there is, and in which modes it was enqueued.
func (r *Recorder) Events() ([]event.Event, []client.Mode) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]event.Event(nil), r.events...), append([]client.Mode(nil), r.modes...)
}

// Wait waits until there are n events with the action, and returns these.
func (r *Recorder) Wait(action string, n int) []event.Event {
	r.tb.Helper()
	ctx, cancel := context.WithTimeout(r.tb.Context(), 20*time.Second)
	defer cancel()
	for {
		r.mu.Lock()
		var got []event.Event
		for _, e := range r.events {
			if e.Action == action {
				got = append(got, e)
			}
		}
		changed := r.changed
		r.mu.Unlock()
		if len(got) >= n {
			return got
		}
		select {
		case <-changed:
		case <-ctx.Done():
			r.tb.Fatalf("%d events %s, expected %d; all: %q", len(got), action, n, r.Actions())
		}
	}
}

// Actions returns the events' actions.
func (r *Recorder) Actions() (all []string) {
	events, _ := r.Events()
	for _, e := range events {
		all = append(all, e.Action)
	}
	return all
}
