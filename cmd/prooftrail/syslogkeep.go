//go:build !client

package main

import (
	"context"
	"errors"
	"hash/fnv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/cronlog"
	"github.com/prooftrail/prooftrail/verifier/client"
)

const (
	keeperCount = 8  // that wait for the disk together: see decision 23
	keeperDepth = 16 // events in front of each
	// keeperWait is how long a line waits for the disk before its event is dropped, when dropping was chosen.
	keeperWait = time.Second
	// retryAfter is how long after a disk that failed it is tried again, when waiting was chosen.
	retryAfter = time.Second
)

// keepers put events into the queue. Events of one lane go to the same keeper, and stay in order.
type keepers struct {
	run     *syslogRun
	queue   *client.Queue
	lanes   [keeperCount]chan cronlog.Out
	wg      sync.WaitGroup
	ending  chan struct{} // closed when nothing is waited for any more
	stopped sync.Once
	full    atomic.Bool // the last event was dropped by the queue
	started bool

	mu        sync.Mutex
	congested bool          // the last one had to be dropped: others don't wait
	moved     chan struct{} // closed, and made anew, when the queue has moved
}

func newKeepers(r *syslogRun) *keepers {
	return &keepers{run: r, ending: make(chan struct{}), moved: make(chan struct{})}
}

func (k *keepers) start(q *client.Queue) {
	k.queue, k.started = q, true
	for i := range k.lanes {
		k.lanes[i] = make(chan cronlog.Out, keeperDepth)
		k.wg.Go(func() {
			for o := range k.lanes[i] {
				k.enqueue(o)
			}
		})
	}
}

// observe is told whenever the queue has moved.
func (k *keepers) observe(client.QueueStats) {
	k.mu.Lock()
	defer k.mu.Unlock()
	close(k.moved)
	k.moved = make(chan struct{})
}

// stop ends waiting for room.
func (k *keepers) stop() { k.stopped.Do(func() { close(k.ending) }) }

// end waits until all that was put is kept. put must not be called any more.
func (k *keepers) end() {
	if !k.started {
		return
	}
	k.started = false
	for _, lane := range k.lanes {
		close(lane)
	}
	k.wg.Wait()
}

// put hands an event to its keeper.
func (k *keepers) put(o cronlog.Out) {
	if o.Event.ID == "" {
		if id, err := uuid.NewV7(); err == nil {
			o.Event.ID = id.String() // the same in each attempt
		}
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(o.Lane)) // it never fails
	lane := k.lanes[h.Sum32()%keeperCount]
	select {
	case lane <- o:
		k.setCongested(false)
		return
	default:
	}
	if k.run.whenFull == "wait" {
		select {
		case lane <- o:
		case <-k.ending:
			k.drop(o)
		}
		return
	}
	// A queue that is full takes a sync of the disk for each few events that it drops: nobody waits for that.
	if !k.full.Load() && !k.isCongested() {
		t := time.NewTimer(keeperWait)
		defer t.Stop()
		select {
		case lane <- o:
			return
		case <-t.C:
		}
		k.setCongested(true)
	}
	k.drop(o)
}

// drop gives an event up before the queue has seen it.
func (k *keepers) drop(o cronlog.Out) {
	k.run.counts.full.Add(1)
	k.done(o, false)
}

// done says to whom the event came from what became of it.
func (k *keepers) done(o cronlog.Out, kept bool) {
	if o.Done == nil {
		return
	}
	if err := o.Done(kept); err != nil {
		k.run.log.Warn("a crontab's version isn't remembered: its change will be told again", "error", err)
	}
}

func (k *keepers) isCongested() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.congested
}

func (k *keepers) setCongested(to bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.congested = to
}

// enqueue puts an event into the queue, and says so to whom it came from.
func (k *keepers) enqueue(o cronlog.Out) {
	ctx := context.Background() // the queue has a limit of its own
	wait := k.run.whenFull == "wait"
	for {
		if wait {
			k.awaitRoom()
		}
		_, err := k.queue.Enqueue(ctx, o.Event, client.BestEffort)
		switch {
		case err == nil:
			k.full.Store(false)
			k.done(o, true)
			return
		case errors.Is(err, client.ErrRefused): // it isn't done: told again, it would be refused again
			k.run.counts.invalid.Add(1)
			k.run.log.Error("an event isn't valid", "action", o.Event.Action, "error", err)
			return
		case !errors.Is(err, client.ErrDropped):
			k.run.counts.unsure.Add(1)
			k.done(o, false)
			return
		case !wait:
			k.full.Store(true)
			k.done(o, false) // the queue has counted it
			return
		case !k.pause():
			k.done(o, false)
			return
		}
	}
}

// pause waits for a while; false if the process ends.
func (k *keepers) pause() bool {
	select {
	case <-time.After(retryAfter):
		return true
	case <-k.ending:
		return false
	}
}

// awaitRoom waits until the spool has room for what all keepers hold, and more.
func (k *keepers) awaitRoom() {
	for {
		k.mu.Lock()
		moved := k.moved
		k.mu.Unlock()
		st := k.queue.Stats()
		spare := min(k.run.spoolEvents/10, 1000)
		if st.Waiting+spare < k.run.spoolEvents && st.WaitingBytes < k.run.spoolBytes/100*75 {
			return
		}
		select {
		case <-moved:
		case <-time.After(retryAfter):
		case <-k.ending:
			return
		}
	}
}
