package alarm

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"
)

const (
	firstPause = time.Second
	maxPause   = time.Minute
	maxAfter   = 5 * time.Minute // of what a receiver asks for
	// manyFailures in a row of a sink, or of one alarm, are an alarm.
	manyFailures = 5
	// anyOne is after how many failures in a row a sink is tried with any of those that failed
	// least often, not with the worst: that may be what it doesn't take, and keep the others from it.
	anyOne = 3
	// maxSleep is after how long a sender looks at the clock again, which may have been set.
	maxSleep = time.Minute
	// maxPlan is for how many notices one look through all alarms is enough.
	maxPlan = 256
)

// SinkHealth is how a sink does.
type SinkHealth struct {
	Name         string    `json:"name"`
	Sent         uint64    `json:"sent"`    // notices that it took
	Failed       uint64    `json:"failed"`  // calls that failed
	Dropped      uint64    `json:"dropped"` // resolved alarms that it could not be told of in time
	Pending      int       `json:"pending"` // alarms of which it isn't up to date, repetitions aside
	LastError    string    `json:"last_error,omitempty"`
	LastErrorAt  time.Time `json:"last_error_at,omitzero"`
	LastSuccess  time.Time `json:"last_success,omitzero"`
	InARow       int       `json:"failures_in_a_row"`
	NextAttempt  time.Time `json:"next_attempt,omitzero"` // after a failure
	LastDuration float64   `json:"last_duration_seconds"`
}

// outlet is a sink and how it does. Index, sink, manner and wake don't change; the board's mu
// guards the rest.
type outlet struct {
	index  int
	sink   Sink
	manner Manner
	wake   chan struct{}

	health SinkHealth
	pause  time.Duration // after a failure, from LastErrorAt on
	plan   []candidate   // what comes next; nil once something has changed
}

// Health returns how each sink does, in the order of Config.Sinks.
func (b *Board) Health() []SinkHealth {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []SinkHealth
	for _, o := range b.outlets {
		h := o.health
		if o.pause > 0 {
			h.NextAttempt = h.LastErrorAt.Add(o.pause)
		}
		for _, e := range b.entries {
			if reason, _ := o.wants(e, b.now()); reason != "" && reason != Repeated {
				h.Pending++
			}
		}
		all = append(all, h)
	}
	return all
}

// left is how much of a time that began at from is still to come. A clock that was set back
// before it ends it: nothing waits for a clock to come round again.
func left(from time.Time, d time.Duration, now time.Time) time.Duration {
	if now.Before(from) {
		return 0
	}
	return max(0, from.Add(d).Sub(now))
}

func (t *told) knowsGone(e *entry) bool {
	return t.resolved && t.since.Equal(e.alarm.Since)
}

// wants says why a sink is to be told of an alarm, "" if it isn't, and in how long.
func (o *outlet) wants(e *entry, now time.Time) (Reason, time.Duration) {
	t := &e.told[o.index]
	wait := left(t.failedAt, t.pause, now)
	switch {
	case !e.active():
		if t.knowsGone(e) {
			return "", 0
		}
		return Ended, wait
	case t.at.IsZero() || t.resolved || !t.since.Equal(e.alarm.Since):
		return Began, wait
	case e.alarm.Severity.rank() < t.severity.rank():
		return Worsened, wait
	case !o.manner.Acknowledged && (e.alarm.Ack != nil || e.restored): // it may be gone
		return "", 0
	}
	return Repeated, max(wait, left(t.at, o.manner.Repeat, now))
}

// candidate is an entry that is due.
type candidate struct {
	e      *entry
	reason Reason
}

// compare puts news before repetitions, then the worst first.
func (c candidate) compare(d candidate) int {
	return cmp.Or(compareBool(c.reason == Repeated, d.reason == Repeated), c.e.alarm.compare(d.e.alarm))
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// next returns what a sink is to be told now; if that is nothing, how long to wait; and
// whether there is nothing left before the end.
func (b *Board) next(o *outlet) (batch []Notice, wait time.Duration, done bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	if len(o.plan) == 0 {
		if wait, done = b.plan(o, now); len(o.plan) == 0 {
			return nil, max(wait, time.Millisecond), done
		}
	}
	for len(o.plan) > 0 && len(batch) < o.manner.Batch {
		c := o.plan[0]
		// What failed goes alone: it may be what the receiver doesn't take.
		alone := c.e.told[o.index].failures > 0
		if alone && len(batch) > 0 {
			break
		}
		batch = append(batch, o.notice(c, now))
		o.plan = o.plan[1:]
		if alone {
			break
		}
	}
	return batch, 0, false
}

// plan looks through all alarms for the first that a sink is to be told of.
func (b *Board) plan(o *outlet, now time.Time) (wait time.Duration, done bool) {
	wait, done = maxSleep, b.draining
	pause := left(o.health.LastErrorAt, o.pause, now)
	best := make([]candidate, 0, maxPlan+1) // sorted
	for _, e := range b.entries {
		reason, in := o.wants(e, now)
		if reason == "" || b.draining && reason == Repeated {
			continue
		}
		done = false
		if in = max(in, pause); in > 0 {
			wait = min(wait, in)
			continue
		}
		c := candidate{e, reason}
		if o.health.InARow >= anyOne {
			best = o.least(best, c)
			continue
		}
		if len(best) == maxPlan && c.compare(best[maxPlan-1]) >= 0 {
			continue
		}
		i, _ := slices.BinarySearchFunc(best, c, candidate.compare)
		best = slices.Insert(best, i, c)
		best = best[:min(len(best), maxPlan)]
	}
	if o.health.InARow >= anyOne && len(best) > 0 {
		best = []candidate{best[rand.N(len(best))]}
	}
	o.plan = best
	return wait, done
}

// least keeps those candidates that failed least often.
func (o *outlet) least(best []candidate, c candidate) []candidate {
	failures := func(c candidate) int { return c.e.told[o.index].failures }
	if len(best) > 0 && failures(c) > failures(best[0]) {
		return best
	}
	if len(best) > 0 && failures(c) < failures(best[0]) {
		best = best[:0]
	}
	return append(best, c)
}

func (o *outlet) notice(c candidate, now time.Time) Notice {
	n := Notice{Alarm: c.e.alarm.clone(), Status: Firing, Reason: c.reason, ResolvedAt: c.e.resolved, At: now}
	if t := &c.e.told[o.index]; !t.resolved {
		n.Told = t.severity
	}
	if !c.e.active() {
		n.Status = Resolved
	}
	return n
}

// serve tells a sink what it is to be told, until ctx ends, or until there is nothing left
// when the board comes to its end.
func (b *Board) serve(ctx context.Context, o *outlet) {
	for ctx.Err() == nil {
		batch, wait, done := b.next(o)
		if done {
			return
		}
		if len(batch) > 0 {
			began := time.Now()
			err := o.sink.Deliver(ctx, batch)
			pause := b.delivered(o, batch, err, time.Since(began))
			if err != nil { // said here, for no lock is held: a log may be slow
				b.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "alarms not delivered", slog.String("sink", o.sink.Name()), slog.Int("alarms", len(batch)),
					slog.Duration("again_in", pause), slog.String("error", printable(err.Error(), maxSummary)))
			}
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-o.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// delivered notes what came of a call, and returns how long its sink is left alone.
func (b *Board) delivered(o *outlet, batch []Notice, err error, took time.Duration) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	o.health.LastDuration = took.Seconds()
	for _, n := range batch {
		e := b.entries[n.key()]
		if e == nil { // gave way to a worse one
			continue
		}
		t := &e.told[o.index]
		if err != nil {
			t.failures++
			t.failedAt, t.pause = now, backoff(t.failures)
			continue
		}
		*t = told{at: now, since: n.Since, severity: n.Severity, resolved: n.Status == Resolved}
		b.forget(e)
	}
	if err != nil {
		b.failed(o, err, now)
		return o.pause
	}
	o.health.Sent += uint64(len(batch))
	o.health.LastSuccess, o.health.InARow, o.pause = now, 0, 0
	if e := b.entries[key{SinkFailing, "", o.health.Name}]; e != nil && e.active() && !b.stuck(o) {
		b.clear(e)
	}
	poke(b.dirty)
	return 0
}

func (b *Board) failed(o *outlet, err error, now time.Time) {
	h := &o.health
	o.plan = nil
	h.Failed++
	h.InARow++
	h.LastError, h.LastErrorAt = printable(err.Error(), maxSummary), now
	o.pause = backoff(h.InARow)
	if retry := (*RetryError)(nil); errors.As(err, &retry) {
		o.pause = max(o.pause, min(retry.After, maxAfter))
	}
	if h.InARow < manyFailures && !b.stuck(o) {
		return
	}
	b.raise(clean(Alarm{Name: SinkFailing, Peer: h.Name, Severity: Warning, Summary: "alarms can't be delivered to " + h.Name,
		Details: map[string]string{"error": h.LastError, "failures": strconv.Itoa(h.InARow)}}), true)
}

// stuck reports whether some alarm can't be delivered, whatever becomes of the others.
func (b *Board) stuck(o *outlet) bool {
	for _, e := range b.entries {
		if e.told[o.index].failures >= manyFailures {
			return true
		}
	}
	return false
}

// backoff doubles with each failure in a row, up to a minute; half of it is jitter.
func backoff(failures int) time.Duration {
	d := min(firstPause<<min(failures-1, 10), maxPause)
	return d/2 + rand.N(d/2+1)
}
