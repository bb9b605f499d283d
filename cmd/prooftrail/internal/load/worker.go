package load

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/client"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// counts is what a worker has seen.
type counts struct {
	requests                      uint64
	accepted, duplicate, conflict uint64
	rejected, unanswered          uint64
	verified                      uint64
	sent, received                uint64 // bytes of bodies
	errors                        map[string]uint64
}

// worker is one client: a connection, a generator and its own counts.
type worker struct {
	run  *run
	conn *conn
	gen  *Generator
	pick *rand.Rand // which receipts are verified

	body   []byte
	ends   []int // of the events in body
	counts counts

	verified Histogram // of the sample: from submission, or when it was due, to the verified receipt
	answered Histogram // to the answer, of every request
}

func (r *run) newWorker(i int) (*worker, error) {
	c, err := newConn(&r.cfg)
	if err != nil {
		return nil, err
	}
	source, seed := fmt.Sprintf("%s/%d", r.cfg.Source, i), r.cfg.Seed*1_000_003+uint64(i)
	w := &worker{run: r, conn: c, gen: NewGenerator(source, seed, time.Now), pick: rand.New(rand.NewPCG(seed, 0x2545f4914f6cdd1d))}
	w.counts.errors = map[string]uint64{}
	return w, nil
}

// pause is how long a worker rests after a failed request, so that a server
// that is down isn't hammered. In the open loop the rate does that.
const pause = 10 * time.Millisecond

// work sends until sending ends; what is under way then is still answered.
func (w *worker) work(sending, ctx context.Context) {
	defer w.conn.close()
	for sending.Err() == nil {
		start := time.Now()
		if w.run.cfg.Rate > 0 {
			at, ok := w.run.dueAt(sending)
			if !ok {
				return
			}
			start = at
		}
		w.fill()
		if w.post(ctx, start) || w.run.cfg.Rate > 0 {
			continue
		}
		select {
		case <-time.After(pause):
		case <-sending.Done():
		}
	}
}

// fill makes the next request's events.
func (w *worker) fill() {
	w.body, w.ends = w.body[:0], w.ends[:0]
	for range w.run.cfg.Batch {
		w.body = w.gen.Append(w.body)
		w.ends = append(w.ends, len(w.body))
		if w.run.cfg.Batch > 1 {
			w.body = append(w.body, '\n')
		}
	}
}

// event is the nth event of the body.
func (w *worker) event(n int) []byte {
	if n == 0 {
		return w.body[:w.ends[0]]
	}
	return w.body[w.ends[n-1]+1 : w.ends[n]]
}

// post sends the body and accounts for the answer. It reports whether the
// request succeeded.
func (w *worker) post(ctx context.Context, start time.Time) bool {
	w.counts.requests++
	w.counts.sent += uint64(len(w.body))
	status, answer, err := w.conn.post(ctx, w.body)
	if err != nil {
		w.counts.unanswered += uint64(len(w.ends))
		w.counts.errors["network"]++
		return false
	}
	w.counts.received += uint64(len(answer))
	if status == 409 && w.run.cfg.Batch == 1 {
		w.counts.conflict++
		return true
	}
	if status < 200 || status > 299 {
		w.counts.rejected += uint64(len(w.ends))
		w.counts.errors[problemKind(answer, fmt.Sprintf("http %d", status))]++
		return false
	}
	took := time.Since(start)
	w.answered.Add(took)
	w.results(answer, took)
	return true
}

func (w *worker) results(answer []byte, took time.Duration) {
	n := 0
	for line := range bytes.Lines(answer) {
		if len(line) < 2 {
			continue
		}
		if n == len(w.ends) {
			w.counts.errors["protocol"]++
			return
		}
		w.result(line, n, took)
		n++
	}
	if n < len(w.ends) {
		w.counts.unanswered += uint64(len(w.ends) - n)
		w.counts.errors["protocol"]++
	}
}

// result accounts for the nth event's result, and checks its receipt if it is
// of the sample. The event's time is that to the answer and that of its own
// check: how many others of the request are of the sample doesn't show in it.
func (w *worker) result(line []byte, n int, took time.Duration) {
	r, err := scanResult(line)
	if err != nil {
		w.counts.unanswered++
		w.counts.errors["protocol"]++
		return
	}
	switch string(r.status) {
	case "accepted":
		w.counts.accepted++
	case "duplicate":
		w.counts.duplicate++
	case "conflict":
		w.counts.conflict++
		return
	default:
		w.counts.rejected++
		w.counts.errors[problemKind(r.problem, "rejected")]++
		return
	}
	if r.receipt == nil || !r.indexed {
		w.counts.errors["no receipt"]++
		return
	}
	if !w.sampled() {
		return
	}
	checking := time.Now()
	if err := w.check(&r, n); err != nil {
		w.counts.errors["receipt: "+err.Error()]++
		return
	}
	w.counts.verified++
	w.verified.Add(took + time.Since(checking))
}

// sampled draws whether the next receipt is verified: by chance, so that no place
// in a request is never looked at. The run's first one always is.
func (w *worker) sampled() bool {
	first := !w.run.begun.Load() && w.run.begun.CompareAndSwap(false, true)
	return w.pick.IntN(w.run.cfg.Sample) == 0 || first
}

// check verifies a receipt in full, against the policy and the event sent.
func (w *worker) check(r *result, n int) error {
	receipt, err := r.text()
	if err != nil {
		return err
	}
	sent, err := event.Parse(w.event(n))
	if err != nil {
		return err
	}
	v, err := w.run.client.Checker().Check(receipt, sent)
	if err == nil && v.Index != r.index {
		err = fmt.Errorf("of entry %d, the answer said %d", v.Index, r.index)
	}
	if err == nil && w.run.cfg.Wait == string(client.Witnessed) && v.Witnesses.Status != verifier.Quorum {
		err = client.ErrProvisional
	}
	return err
}
