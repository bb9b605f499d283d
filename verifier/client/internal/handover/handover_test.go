package handover_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/prooftrail/prooftrail/verifier/client/internal/enqueuetest"
	"github.com/prooftrail/prooftrail/verifier/client/internal/handover"
	"github.com/prooftrail/prooftrail/verifier/event"
)

func numbered(i int) event.Event {
	return event.Event{Action: "test.n" + strconv.Itoa(i), Outcome: "success", Actor: event.Actor{Type: "user", ID: "ada"}, Target: []event.Target{{Type: "x", ID: "y"}}}
}

// TestOrder: all arrive, in order, and Close waits for them.
func TestOrder(t *testing.T) {
	r := enqueuetest.New(t)
	h := handover.New(handover.Config{Queue: r, Adapter: "test"})
	var want []string
	for i := range 1000 {
		h.Put(numbered(i))
		want = append(want, "test.n"+strconv.Itoa(i))
	}
	h.Close()
	if got := r.Actions(); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// TestNeverWaits: while the disk hangs, Put returns; what there is no room for is counted, and said later.
func TestNeverWaits(t *testing.T) {
	r := enqueuetest.New(t)
	hangs, taken := make(chan struct{}), make(chan struct{})
	var once sync.Once
	r.Fault(func(event.Event) error {
		once.Do(func() { close(taken) })
		<-hangs
		return nil
	})
	h := handover.New(handover.Config{Queue: r, Adapter: "test", Size: 10})
	h.Put(numbered(0))
	<-taken
	for i := range 25 {
		h.Put(numbered(i + 1))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.Flush(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("flushed: %v", err)
	}
	close(hangs)
	if err := h.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	lost := r.Wait(handover.Lost, 1)
	if got := fmt.Sprint(lost[0].Details); got != "map[count:15]" {
		t.Error(got)
	}
	h.Close()
	if events, _ := r.Events(); len(events) != 12 {
		t.Errorf("%d events", len(events))
	}
}

// TestRefused: what the queue doesn't take doesn't stop the others.
func TestRefused(t *testing.T) {
	r := enqueuetest.New(t)
	r.Fault(func(e event.Event) error {
		if e.Action == "test.n1" {
			return errors.New("no")
		}
		return nil
	})
	h := handover.New(handover.Config{Queue: r, Adapter: "test"})
	for i := range 3 {
		h.Put(numbered(i))
	}
	h.Close()
	if got := r.Actions(); !slices.Equal(got, []string{"test.n0", "test.n2"}) {
		t.Errorf("%q", got)
	}
}
