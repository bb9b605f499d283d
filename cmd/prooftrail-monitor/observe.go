package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/monitor"
	"github.com/prooftrail/prooftrail/verifier/monitor/gossip"
)

const (
	// queueLength is how many notes of a log wait to be looked at.
	queueLength = 64
	// rememberNotes is how many notes, of all logs, are known to have been looked at.
	rememberNotes = 4096
)

// observe is Monitor.Observe.
type observe func(ctx context.Context, note []byte, from string) (gossip.Answer, error)

// observer takes what the witness has refused, and what it has cosigned, to the monitor, in the
// background: the witness's answer waits for nothing. Anybody can make a witness refuse old heads as
// often as they like, so a note that was looked at isn't again, each log has a queue of its own, and
// what doesn't fit is let go, for whoever sent it can do so again. What such a flood can't be made of
// has queues of its own, which are looked at first.
type observer struct {
	observe observe
	log     *slog.Logger
	count   *prometheus.CounterVec // by result
	queues  map[string]*queue      // by origin
	workers sync.WaitGroup
	looking context.Context // of the workers' calls
	stop    context.CancelFunc

	mu    sync.Mutex
	known map[[sha256.Size]byte]bool
	ring  [rememberNotes][sha256.Size]byte
	next  int
}

// queue is what waits of one log, by urgency.
type queue [3]chan []byte

const (
	// proof: two heads of one size, which only the log can sign, and what our own witness has cosigned.
	proof = iota
	// larger heads than the one cosigned, of which a log has signed few; with a wrong proof, mostly.
	larger
	// older ones, of which there are as many as anybody cares to send.
	older
)

// newObserver is for these logs; count has the label result.
func newObserver(f observe, logs []*verifier.LogKey, log *slog.Logger, count *prometheus.CounterVec) *observer {
	o := &observer{observe: f, log: log, count: count, queues: map[string]*queue{}, known: map[[sha256.Size]byte]bool{}}
	for _, l := range logs {
		o.queues[l.Origin()] = &queue{make(chan []byte, queueLength), make(chan []byte, queueLength), make(chan []byte, queueLength)}
	}
	for _, result := range []string{"observed", "known", "dropped", "failed"} {
		count.WithLabelValues(result)
	}
	return o
}

// refused is the witness's OnRefused.
func (o *observer) refused(origin string, known, refused []byte, _ []verifier.Hash) {
	q := o.queues[origin]
	if q == nil {
		return
	}
	urgency := urgencyOf(known, refused)
	if urgency == proof {
		o.put(q[proof], known)
	}
	o.put(q[urgency], refused)
}

// put never waits.
func (o *observer) put(q chan []byte, note []byte) {
	if o.isKnown(note) {
		o.count.WithLabelValues("known").Inc()
		return
	}
	select {
	case q <- bytes.Clone(note):
	default:
		o.count.WithLabelValues("dropped").Inc()
	}
}

// textOf is what of a note is signed.
func textOf(note []byte) string {
	text, _, _ := strings.Cut(string(note), "\n\n")
	return text + "\n"
}

// urgencyOf compares a refused head with the one that the witness has cosigned, nil if there is none.
func urgencyOf(known, refused []byte) int {
	x, err := verifier.ParseCheckpoint(textOf(known))
	if err != nil {
		return older
	}
	y, err := verifier.ParseCheckpoint(textOf(refused))
	switch {
	case err != nil || y.Size < x.Size || y == x:
		return older
	case y.Size == x.Size:
		return proof
	}
	return larger
}

func (o *observer) isKnown(note []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.known[sha256.Sum256([]byte(textOf(note)))]
}

// remember makes a note a known one, in the place of the one that has been known longest.
func (o *observer) remember(note []byte) {
	sum := sha256.Sum256([]byte(textOf(note)))
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.known[sum] {
		return
	}
	delete(o.known, o.ring[o.next])
	o.ring[o.next] = sum
	o.known[sum] = true
	o.next = (o.next + 1) % rememberNotes
}

// start begins to look at what comes, until ctx ends. What is being looked at then is looked at to its
// end: drain says when that is.
func (o *observer) start(ctx context.Context) {
	o.looking, o.stop = context.WithCancel(context.WithoutCancel(ctx))
	for _, q := range o.queues {
		o.workers.Go(func() { o.work(ctx, q) })
	}
}

func (o *observer) work(ctx context.Context, q *queue) {
	for ctx.Err() == nil {
		note := q.next()
		if note == nil {
			select {
			case <-ctx.Done():
				return
			case note = <-q[proof]:
			case note = <-q[larger]:
			case note = <-q[older]:
			}
		}
		o.look(o.looking, note)
	}
}

// next is the most urgent one that waits, nil if there is none.
func (q *queue) next() []byte {
	for _, c := range q {
		select {
		case note := <-c:
			return note
		default:
		}
	}
	return nil
}

// look hands one note to the monitor. One that the monitor couldn't write down isn't known yet.
func (o *observer) look(ctx context.Context, note []byte) {
	if o.isKnown(note) { // the same one waited twice
		o.count.WithLabelValues("known").Inc()
		return
	}
	_, err := o.observe(ctx, note, "witness")
	if err != nil && !errors.Is(err, verifier.ErrFailed) && !errors.Is(err, monitor.ErrUnknownLog) {
		o.count.WithLabelValues("failed").Inc()
		o.log.WarnContext(ctx, "look at a head of the witness", "error", err)
		return
	}
	o.count.WithLabelValues("observed").Inc()
	o.remember(note)
}

// drain looks at what still waits, until ctx ends. The workers have been told to stop.
func (o *observer) drain(ctx context.Context) {
	if o.stop != nil {
		defer o.stop()
		defer context.AfterFunc(ctx, o.stop)()
	}
	o.workers.Wait()
	for _, q := range o.queues {
		for note := q.next(); note != nil && ctx.Err() == nil; note = q.next() {
			o.look(ctx, note)
		}
	}
}

// follow looks, each interval, at what the witness has cosigned last: a log may show its witnesses
// another history than its monitors.
func (o *observer) follow(ctx context.Context, interval time.Duration, latest func(ctx context.Context, origin string) ([]byte, error)) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for origin, q := range o.queues {
			if note, err := latest(ctx, origin); err == nil && note != nil && !o.isKnown(note) {
				o.put(q[proof], note)
			}
		}
	}
}
