package client

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/prooftrail/prooftrail/verifier/client/spool"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// Enqueued says under which names an event was taken.
type Enqueued struct {
	ID  string
	Seq uint64
	// Result is that of the log, for a required event.
	Result *Result
}

// Enqueue puts an event into the spool, from which it is sent in order, and returns when it is on stable
// storage (BestEffort), or in the log with a receipt that holds (Required). Seq is the queue's to set; Source may be
// left out, and so may ID, for which a UUIDv7 is made, and Time, which is then now. An event that isn't
// valid is refused in either mode, with a *[Problem]. Secrets are masked before it is written anywhere
// (QueueConfig.Mask); the given event isn't changed.
//
// In best effort an error is ErrDropped, or that DiskWait or the context is over and it isn't known whether the
// event was kept. It is for the caller's information; the action goes on.
//
// A required event that isn't logged is ErrNotLogged, beside the reason. Don't do the action then, and
// don't enqueue the event again: it may be in the spool, and get logged as what was attempted. What became of it
// can be an event of its own.
func (q *Queue) Enqueue(ctx context.Context, e event.Event, mode Mode) (Enqueued, error) {
	id, raw, err := q.prepare(e, mode)
	if err != nil {
		return Enqueued{}, err
	}
	wait := q.cfg.DiskWait
	if mode == Required {
		wait = q.cfg.RequiredWait
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	w := &waiter{done: make(chan struct{})}
	stamp, err := q.spool.Append(ctx, mode == Required, len(raw)+maxSeqMember, func(st spool.Stamp) ([]byte, error) {
		if mode == Required {
			q.await(st.Seq, w)
		}
		return withSeq(raw, st.Seq), nil
	})
	out := Enqueued{ID: id, Seq: stamp.Seq}
	switch {
	case err == nil:
		q.countEnqueued()
	case mode == Required:
		q.forget(w)
		return Enqueued{}, fmt.Errorf("client: %w: %w", ErrNotLogged, err)
	case errors.Is(err, spool.ErrFull) || errors.Is(err, spool.ErrDisk):
		q.count(func(s *QueueStats) { s.Dropped++ })
		return Enqueued{}, fmt.Errorf("client: %w: %w", ErrDropped, err)
	default:
		return Enqueued{}, fmt.Errorf("client: %w", err)
	}
	if mode == BestEffort {
		return out, nil
	}
	return q.waitFor(ctx, out, w)
}

// countEnqueued is count without showing it to anybody, for that is done for each batch that is logged.
func (q *Queue) countEnqueued() {
	q.mu.Lock()
	q.stats.Enqueued++
	q.mu.Unlock()
}

// waitFor waits until a required event is logged.
func (q *Queue) waitFor(ctx context.Context, out Enqueued, w *waiter) (Enqueued, error) {
	select {
	case q.kick <- struct{}{}:
	default:
	}
	select {
	case <-w.done:
	case <-ctx.Done():
		q.forget(w)
		q.mu.Lock()
		last := q.stats.LastError
		if q.stats.FailingSince.IsZero() {
			last = nil
		}
		q.mu.Unlock()
		return out, fmt.Errorf("client: %w: %w", ErrNotLogged, errors.Join(ctx.Err(), last))
	}
	out.Result = w.r
	if w.err != nil {
		return out, fmt.Errorf("client: %w: %w", ErrNotLogged, w.err)
	}
	return out, nil
}

// await has the sender tell w what becomes of the event with the seq.
func (q *Queue) await(seq uint64, w *waiter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiters[seq] = w
}

// forget ends that.
func (q *Queue) forget(w *waiter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for seq, other := range q.waiters {
		if other == w {
			delete(q.waiters, seq)
		}
	}
}

// settle tells who waits for an event what became of it.
func (q *Queue) settle(seq uint64, r *Result, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if w, ok := q.waiters[seq]; ok {
		w.r, w.err = r, err
		close(w.done)
		delete(q.waiters, seq)
	}
}

// failWaiters tells all that their events aren't logged.
func (q *Queue) failWaiters(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for seq, w := range q.waiters {
		w.err = err
		close(w.done)
		delete(q.waiters, seq)
	}
}

// maxSeqMember is how long the member seq is at most.
const maxSeqMember = len(`"seq":"18446744073709551615",`)

// prepare makes the event's JSON, all but its seq, and checks that it is valid with whatever seq.
func (q *Queue) prepare(e event.Event, mode Mode) (id string, raw []byte, err error) {
	if mode != BestEffort && mode != Required {
		return "", nil, fmt.Errorf("client: mode %d: say BestEffort or Required", mode)
	}
	if e.Source == "" {
		e.Source = q.cfg.Source
	}
	switch {
	case e.Source != q.cfg.Source:
		return "", nil, fmt.Errorf("client: the queue is of the source %q, not %q: %w", q.cfg.Source, e.Source, ErrRefused)
	case e.Seq != "":
		return "", nil, fmt.Errorf("client: the queue sets seq: %w", ErrRefused)
	case strings.HasPrefix(e.Action, "audit."):
		return "", nil, fmt.Errorf("client: the queue makes audit.heartbeat and audit.dropped by itself: %w", ErrRefused)
	}
	if e.ID == "" {
		e.ID = newID(time.Now())
	}
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	raw, err = json.Marshal(q.cfg.Mask.Event(e))
	if err == nil {
		_, err = event.Parse(withSeq(raw, math.MaxUint64))
	}
	if err != nil {
		return "", nil, fmt.Errorf("client: %w", localProblem(err))
	}
	return e.ID, raw, nil
}

// withSeq adds the member seq to a JSON object.
func withSeq(raw []byte, seq uint64) []byte {
	b := make([]byte, 0, len(raw)+maxSeqMember)
	b = strconv.AppendUint(append(b, `{"seq":"`...), seq, 10)
	return append(append(b, `",`...), raw[1:]...)
}

// newID makes a UUIDv7 (RFC 9562): time order helps the log's index of ids.
func newID(now time.Time) string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails: crypto/rand
	ms := uint64(now.UnixMilli())
	binary.BigEndian.PutUint16(b[:], uint16(ms>>32))
	binary.BigEndian.PutUint32(b[2:], uint32(ms))
	b[6] = b[6]&0x0f | 0x70
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// own makes an event of the queue's.
func (q *Queue) own(e event.Event, seq uint64) ([]byte, error) {
	now := time.Now()
	e.ID, e.Source, e.Time, e.Actor = newID(now), q.cfg.Source, now, q.cfg.Actor
	e.Seq = strconv.FormatUint(seq, 10)
	e.Target = []event.Target{{Type: "source", ID: q.cfg.Source}}
	raw, err := json.Marshal(e)
	if err == nil {
		_, err = event.Parse(raw)
	}
	return raw, err
}

// heartbeat makes the event that says up to where all is said.
func (q *Queue) heartbeat(st spool.Stamp) ([]byte, error) {
	details := map[string]any{"last_seq": decimal(st.Seq - 1), "count": decimal(st.Count)}
	if q.cfg.Heartbeat >= time.Second {
		details["interval_s"] = decimal(uint64(q.cfg.Heartbeat / time.Second))
	}
	return q.own(event.Event{Action: event.ActionHeartbeat, Outcome: "success", Details: details}, st.Seq)
}

// dropped makes the event that says what won't come.
func (q *Queue) dropped(st spool.Stamp, l spool.Losses) ([]byte, error) {
	details := map[string]any{"first_seq": decimal(l.First), "last_seq": decimal(l.Last), "count": decimal(l.Count())}
	for name, n := range map[string]uint64{"full": l.Full, "disk": l.Disk, "damaged": l.Damaged, "refused": l.Refused} {
		if n > 0 {
			details[name] = decimal(n)
		}
	}
	reason := &event.Reason{Code: "dropped"}
	return q.own(event.Event{Action: event.ActionDropped, Outcome: "failure", Reason: reason, Details: details}, st.Seq)
}

func decimal(n uint64) string { return strconv.FormatUint(n, 10) }

// heartbeats puts one into the spool now, and then one each interval. A full spool takes none: what is in it
// shows that the source is alive.
func (q *Queue) heartbeats(ctx context.Context) {
	t := time.NewTicker(q.cfg.Heartbeat)
	defer t.Stop()
	for {
		_, err := q.spool.Append(ctx, true, 512, q.heartbeat)
		if err == nil {
			q.countEnqueued()
		} else if ctx.Err() == nil {
			q.cfg.Logger.Warn("no heartbeat could be kept", "error", err)
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}
