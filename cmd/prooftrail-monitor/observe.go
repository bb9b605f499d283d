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
// what doesn't fit is let go, for whoever sent it can do so again. Two heads of one size are proof by
// themselves, and have a queue that such a flood can't fill, for only the log can sign them.
type observer struct {
	observe observe
	log     *slog.Logger
	count   *prometheus.CounterVec // by result
	queues  map[string]*queue      // by origin
	workers sync.WaitGroup

	mu    sync.Mutex
	known map[[sha256.Size]byte]bool
	ring  [rememberNotes][sha256.Size]byte
	next  int
}

// queue is what waits of one log.
type queue struct {
	urgent, usual chan []byte
}

// newObserver is for these logs; count has the label result.
func newObserver(f observe, logs []*verifier.LogKey, log *slog.Logger, count *prometheus.CounterVec) *observer {
	o := &observer{observe: f, log: log, count: count, queues: map[string]*queue{}, known: map[[sha256.Size]byte]bool{}}
	for _, l := range logs {
		o.queues[l.Origin()] = &queue{make(chan []byte, queueLength), make(chan []byte, queueLength)}
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
	if known != nil && contradict(known, refused) {
		o.put(q.urgent, known)
		o.put(q.urgent, refused)
		return
	}
	o.put(q.usual, refused)
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

// contradict reports whether two notes are heads of one size and of two roots.
func contradict(a, b []byte) bool {
	x, err := verifier.ParseCheckpoint(textOf(a))
	if err != nil {
		return false
	}
	y, err := verifier.ParseCheckpoint(textOf(b))
	return err == nil && x.Size == y.Size && x.Root != y.Root
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

// start begins to look at what comes, until ctx ends.
func (o *observer) start(ctx context.Context) {
	for _, q := range o.queues {
		o.workers.Go(func() { o.work(ctx, q) })
	}
}

func (o *observer) work(ctx context.Context, q *queue) {
	for {
		select {
		case note := <-q.urgent: // first, if there is one
			o.look(ctx, note)
			continue
		default:
		}
		select {
		case <-ctx.Done():
			return
		case note := <-q.urgent:
			o.look(ctx, note)
		case note := <-q.usual:
			o.look(ctx, note)
		}
	}
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
	o.workers.Wait()
	for _, q := range o.queues {
		for left := true; left && ctx.Err() == nil; {
			select {
			case note := <-q.urgent:
				o.look(ctx, note)
			case note := <-q.usual:
				o.look(ctx, note)
			default:
				left = false
			}
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
				o.put(q.usual, note)
			}
		}
	}
}
