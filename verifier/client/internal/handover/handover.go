// Package handover passes events to a queue from code that mustn't wait, not even for a disk: callbacks that a scheduler
// makes inline, a log handler.
//
// What it costs: an event is in memory until it is in the spool, for as long as the disk takes, usually a few
// milliseconds. A crash of the process loses what is there, and nobody can tell: these events have no seq yet.
// When the disk hangs, up to Size events wait; those beyond are counted, and an event says later how many there
// were. Close loses nothing.
package handover

import (
	"context"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/prooftrail/prooftrail/verifier/client"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// Lost is the action of the event that says how many events there was no room for.
const Lost = "adapter.lost"

// Config says where events go.
type Config struct {
	Queue client.Enqueuer
	// Adapter names the one who hands over, in events with the action Lost.
	Adapter string
	// Size is how many events wait at most. Default 4096.
	Size int
	// Logger gets the events that the queue didn't take, and why. Default: nobody.
	Logger *slog.Logger
}

// Handover passes events on, in order. It is safe for concurrent use.
type Handover struct {
	cfg  Config
	kick chan struct{} // holds one when there is something to do
	done chan struct{}

	mu      sync.Mutex
	waiting []event.Event
	lost    uint64
	closed  bool
	passing bool          // some were taken out and aren't in the queue yet
	idle    chan struct{} // closed when nothing waits and nothing is passed on; nil if nobody waits for that
}

// New begins to pass events on. Close must be called.
func New(cfg Config) *Handover {
	if cfg.Size <= 0 {
		cfg.Size = 4096
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	h := &Handover{cfg: cfg, kick: make(chan struct{}, 1), done: make(chan struct{})}
	go h.run()
	return h
}

// Put takes an event, and reports whether it did: there may be no room, or it is closed. It never waits. The event's
// time is now, if it has none.
func (h *Handover) Put(e event.Event) bool {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	h.mu.Lock()
	taken := !h.closed && len(h.waiting) < h.cfg.Size
	if taken {
		h.waiting = append(h.waiting, e)
	} else {
		h.lost++
	}
	h.mu.Unlock()
	h.wake()
	return taken
}

func (h *Handover) wake() {
	select {
	case h.kick <- struct{}{}:
	default:
	}
}

// Flush waits until all that was put before is in the queue, or was refused by it.
func (h *Handover) Flush(ctx context.Context) error {
	h.mu.Lock()
	if len(h.waiting) == 0 && !h.passing {
		h.mu.Unlock()
		return nil
	}
	if h.idle == nil {
		h.idle = make(chan struct{})
	}
	idle := h.idle
	h.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close takes no more, and returns when all is in the queue. Close the queue afterwards.
func (h *Handover) Close() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.wake()
	<-h.done
}

// take returns what waits, and whether there will be more.
func (h *Handover) take() (events []event.Event, lost uint64, closed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	events, lost, closed = h.waiting, h.lost, h.closed
	h.waiting, h.lost = nil, 0
	h.passing = len(events) > 0 || lost > 0
	if !h.passing && h.idle != nil {
		close(h.idle)
		h.idle = nil
	}
	return events, lost, closed
}

func (h *Handover) run() {
	defer close(h.done)
	for {
		events, lost, closed := h.take()
		for _, e := range events {
			h.pass(e)
		}
		if lost > 0 {
			h.pass(h.lossOf(lost))
		}
		switch {
		case len(events) > 0 || lost > 0: // there may be more
		case closed:
			return
		default:
			<-h.kick
		}
	}
}

func (h *Handover) pass(e event.Event) {
	if _, err := h.cfg.Queue.Enqueue(context.Background(), e, client.BestEffort); err != nil {
		h.cfg.Logger.Error("an event isn't logged", "adapter", h.cfg.Adapter, "event_action", e.Action, "error", err)
	}
}

func (h *Handover) lossOf(n uint64) event.Event {
	return event.Event{Action: Lost, Outcome: "failure", Reason: &event.Reason{Code: "memory_full"}, Time: time.Now(),
		Actor: event.Actor{Type: "service", ID: h.cfg.Adapter}, Target: []event.Target{{Type: "adapter", ID: h.cfg.Adapter}},
		Details: map[string]any{"count": strconv.FormatUint(n, 10)}}
}
