//go:build !client

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/client"
	"github.com/prooftrail/prooftrail/verifier/event"
)

const recorderHeader = "TIME          WHO             ACTION             WHAT                OUTCOME   ENTRY\n"

// recorder submits the cron service's events in their order, prints a line for
// each, and remembers where they are.
type recorder struct {
	client *client.Client
	out    io.Writer
	done   chan struct{} // closed when the queue was closed and is empty

	mu       sync.Mutex
	queue    []queued
	closed   bool
	wake     chan struct{} // holds one: there is something to do
	counted  receipts
	forged   error     // the first receipt that doesn't hold
	target   *recorded // the event to forge later: a failed login
	fallback *recorded // any other
	doubtful *recorded // one that is where it is only by the log's word
}

type queued struct {
	event event.Event
	done  chan error
}

// recorded is an event that is in the log.
type recorded struct {
	event    event.Event
	index    uint64
	leafHash verifier.Hash
}

func newRecorder(c *client.Client, out io.Writer) *recorder {
	r := &recorder{client: c, out: out, done: make(chan struct{}), wake: make(chan struct{}, 1)}
	go r.submitAll()
	return r
}

// Record implements cronservice.Recorder.
func (r *recorder) Record(e event.Event) <-chan error {
	q := queued{e, make(chan error, 1)}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		q.done <- errors.New("the recorder is closed")
		return q.done
	}
	r.counted.events++
	r.queue = append(r.queue, q)
	r.poke()
	return q.done
}

func (r *recorder) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// close takes no more events and waits until those it has are dealt with.
func (r *recorder) close(ctx context.Context) error {
	r.mu.Lock()
	r.closed = true
	r.poke()
	r.mu.Unlock()
	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("submit the last events: %w", ctx.Err())
	}
}

// counts returns how many events there were, and how many receipts verified.
func (r *recorder) counts() receipts {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counted
}

// forgery is the first receipt's error that says FAILED; nil if there is none.
func (r *recorder) forgery() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.forged
}

// victim is the event to forge; nil if none was logged.
func (r *recorder) victim() *recorded {
	r.mu.Lock()
	defer r.mu.Unlock()
	return cmp.Or(r.target, r.fallback, r.doubtful)
}

func (r *recorder) submitAll() {
	defer close(r.done)
	for range r.wake {
		r.mu.Lock()
		queue, closed := r.queue, r.closed
		r.queue = nil
		r.mu.Unlock()
		for _, q := range queue {
			q.done <- r.submit(q.event)
		}
		if closed {
			return
		}
	}
}

func (r *recorder) submit(e event.Event) error {
	raw, err := json.Marshal(e)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	result, err := r.client.Submit(ctx, raw)
	if err == nil && !result.Verified() {
		err = errors.New("no receipt")
	}
	r.print(e, result, err)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil && r.forged == nil && errors.Is(err, verifier.ErrFailed) {
		r.forged = fmt.Errorf("event %s: %w", e.ID, err)
	}
	if result == nil {
		return err
	}
	in := &recorded{e, result.Index, result.LeafHash}
	if err != nil {
		r.doubtful = in
		return err
	}
	r.counted.verified++
	if r.target == nil && e.Action == "auth.login" && e.Outcome == "failure" {
		r.target = in
	}
	r.fallback = in
	return nil
}

func (r *recorder) print(e event.Event, result *client.Result, err error) {
	who := e.Actor.Name
	if who == "" {
		who = e.Actor.ID
	}
	if e.Actor.Type == "anonymous" {
		who += "?"
	}
	what := e.Target[0].Name
	if what == "" {
		what = e.Target[0].ID
	}
	line := fmt.Sprintf("%s  %-15.15s %-18.18s %-19.19s %-8s ", e.Time.Format("15:04:05.000"), who, e.Action, what, e.Outcome)
	if err != nil {
		line += "NOT VERIFIED: " + err.Error()
	} else {
		line += fmt.Sprintf("%6d ✓ verified", result.Index)
	}
	fmt.Fprintln(r.out, line)
}
