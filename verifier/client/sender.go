package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/client/spool"
	"github.com/prooftrail/prooftrail/verifier/event"
	"github.com/prooftrail/prooftrail/verifier/internal/atomicfile"
)

// send sends what is in the spool, for as long as the queue is open.
func (q *Queue) send(ctx context.Context) {
	if q.cfg.SendAfter > 0 && !q.pause(ctx, q.cfg.SendAfter) {
		return
	}
	var last string // the kind of trouble that was told last
	for n := 0; ; n++ {
		before := q.spool.Stats().Acked
		pause, err := q.drain(ctx)
		if ctx.Err() != nil {
			return
		}
		moved := q.spool.Stats().Acked > before
		if moved {
			n, last = 0, ""
		}
		if err == nil {
			continue
		}
		q.count(func(s *QueueStats) {
			s.Failures++
			s.LastError = err
			s.Accused = s.Accused || errors.Is(err, verifier.ErrFailed)
			if s.FailingSince.IsZero() || moved {
				s.FailingSince = time.Now()
			}
		})
		if kind := kindOf(err); kind != "" {
			q.failWaiters(err)
			if kind != last {
				q.cfg.Alarm(err)
			}
			last = kind
		}
		q.cfg.Logger.WarnContext(ctx, "the log doesn't take events", "waiting", q.spool.Stats().Events, "error", err)
		q.hold(ctx, n, pause)
	}
}

// kindOf names trouble that waiting won't mend, and that a required event must not wait for: the log lies,
// or doesn't accept the token. Of other trouble it is "".
func kindOf(err error) string {
	var evidence *EvidenceError
	switch {
	case errors.As(err, &evidence):
		return "evidence"
	case errors.Is(err, verifier.ErrFailed):
		return "receipt"
	case errors.Is(err, ErrUnauthorized), errors.Is(err, ErrForbidden):
		return "token"
	case errors.Is(err, ErrUnsigned):
		return "unsigned"
	case errors.Is(err, errSetAside):
		return "set aside"
	case errors.Is(err, errTooLarge):
		return "too large"
	}
	return ""
}

// hold waits after the nth failure. Whoever waits for the log has it tried again sooner.
func (q *Queue) hold(ctx context.Context, n int, pause time.Duration) {
	d := q.cfg.MaxBackoff
	if n < 20 {
		d = min(d, q.cfg.MinBackoff<<n)
	}
	d = max(d/2+rand.N(d/2+1), min(pause, q.cfg.MaxBackoff))
	least := min(d, q.cfg.MinBackoff)
	if sleep(ctx, least) == nil {
		q.pause(ctx, d-least)
	}
}

// pause waits until somebody waits for the log, d at most; false if the context has ended.
func (q *Queue) pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-q.kick:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// flight is a batch that the log has answered.
type flight struct {
	records []spool.Record
	sent    []event.Fields
	open    []int  // places of the records that were sent: what is damaged wasn't
	answer  []byte // a line for each of them
	results []Result
}

// drain sends until something fails, which it returns with how long the server asked to wait; nil if the log
// refused events for good, and nothing else failed.
//
// While the receipts of one batch are checked, the next one is on its way: but only if the log has said of each event
// before that it has it. So events are logged in order, and nothing leaves the spool without a
// receipt that holds.
func (q *Queue) drain(ctx context.Context) (pause time.Duration, err error) {
	r := q.spool.Reader()
	defer r.Close()
	var checking chan error // of the batch before; nil: none
	checked := func() error {
		if checking == nil {
			return nil
		}
		defer func() { checking = nil }()
		return <-checking
	}
	for {
		select {
		case <-r.More():
		case err := <-checking:
			if checking = nil; err != nil {
				return 0, err
			}
			continue
		case <-ctx.Done():
			return 0, errors.Join(ctx.Err(), checked())
		}
		records, err := r.Next(q.batch, MaxBatchBytes)
		f := flight{records: records}
		if err == nil {
			pause, err = q.post(ctx, &f)
		}
		if err := checked(); err != nil {
			return 0, err
		}
		if err != nil {
			return pause, err
		}
		all := f.logged()
		checking = make(chan error, 1)
		go func(c chan error) { c <- q.check(ctx, &f) }(checking)
		if !all {
			return 0, checked()
		}
	}
}

// logged reports whether the log says that it has all of the batch. It looks at how the lines begin, which takes next to
// nothing; check reads them while the next batch is on its way.
func (f *flight) logged() bool {
	n := 0
	for line := range bytes.Lines(f.answer) {
		if !bytes.HasPrefix(line, []byte(`{"status":"accepted"`)) && !bytes.HasPrefix(line, []byte(`{"status":"duplicate"`)) {
			return false
		}
		n++
	}
	return n == len(f.open)
}

// read reads the log's answer.
func (f *flight) read() error {
	f.results = make([]Result, len(f.records))
	got, err := parseResults(f.answer, len(f.open))
	if err != nil {
		return err
	}
	for n, i := range f.open {
		f.results[i] = got[n]
	}
	f.answer = nil
	return nil
}

// post sends a batch once, and takes the log's answer.
func (q *Queue) post(ctx context.Context, f *flight) (pause time.Duration, err error) {
	size := 0
	for i := range f.records {
		size += len(f.records[i].Payload) + 1
	}
	body := make([]byte, 0, size)
	for i, rec := range f.records {
		if rec.Damaged == 0 {
			body = append(append(body, rec.Payload...), '\n')
			f.open = append(f.open, i)
		}
	}
	if len(f.open) == 0 {
		return 0, nil
	}
	req := q.c.batchRequest(body)
	a, pause, err := q.c.attempt(ctx, req)
	var p *Problem
	if errors.As(err, &p) && p.Status == http.StatusRequestEntityTooLarge { // a proxy may take less than the log
		if len(f.open) == 1 {
			err = fmt.Errorf("seq %d, %d bytes: %w: %w", f.records[f.open[0]].Seq, len(body), errTooLarge, err)
		}
		q.batch = max(1, len(f.records)/2)
	}
	if err != nil {
		return max(pause, 0), fmt.Errorf("%s %s: %w", req.method, req.path, err)
	}
	q.batch = min(q.batch+1, MaxBatchEvents) // it may take more by now
	f.answer = a.body
	return 0, nil
}

// check reads the answer to a batch and checks the receipts, on all cores, and acks the events up to the first one that has
// to stay: that one's failure is the error.
func (q *Queue) check(ctx context.Context, f *flight) error {
	if err := f.read(); err != nil {
		return err
	}
	f.sent = make([]event.Fields, len(f.records))
	inParallel(len(f.records), func(i int) {
		r := &f.results[i]
		if f.records[i].Damaged > 0 {
			return
		}
		sent, err := readSubmission(f.records[i].Payload)
		if f.sent[i] = sent.fields; err != nil && r.Err == nil {
			r.Err = fmt.Errorf("in the spool is no valid event, and the log took it: %w", err)
		}
		if r.Err == nil {
			q.c.finish(ctx, r, sent.fields, sent.envelope)
		}
	})
	n, err := 0, error(nil)
	for ; n < len(f.records); n++ {
		if err = q.judge(f, n); err != nil {
			break
		}
	}
	ackErr := q.spool.Ack(f.records[:n]...)
	q.tell(f, n)
	if ackErr != nil { // after a restart they are sent again
		return fmt.Errorf("the spool's cursor can't be written: %w", ackErr)
	}
	return err
}

// judge decides whether the ith event may leave the spool.
func (q *Queue) judge(f *flight, i int) error {
	rec, r := &f.records[i], &f.results[i]
	switch {
	case rec.Damaged > 0:
		q.cfg.Alarm(fmt.Errorf("client: the spool %s is damaged: %d events up to seq %d are lost", q.cfg.Dir, rec.Damaged, rec.Seq))
		return nil
	case r.Err == nil && r.Verdict != nil:
		if q.cfg.Receipt != nil {
			q.cfg.Receipt(Logged{Seq: rec.Seq, ID: f.sent[i].Text("/id"), Result: r})
		}
		return nil
	case r.Err == nil:
		return fmt.Errorf("event with seq %d: no receipt was checked", rec.Seq)
	case r.forGood():
		if err := q.setAside(rec, r.Err); err != nil {
			return fmt.Errorf("event with seq %d: %w: %w; it can't be set aside: %w", rec.Seq, errSetAside, r.Err, err)
		}
		rec.Refused = !strings.HasPrefix(f.sent[i].Text("/action"), "audit.") // or the report would be refused in turn
		return nil
	}
	return fmt.Errorf("event with seq %d: %w", rec.Seq, r.Err)
}

// forGood reports whether the log refuses this very event, whenever it is sent: it is another one's id, or
// not valid. What the token may not do isn't that.
func (r *Result) forGood() bool {
	var p *Problem
	return (r.Status == Conflict || r.Status == Rejected) && errors.As(r.Err, &p) && !p.Retryable() &&
		(errors.Is(p, ErrConflict) || errors.Is(p, ErrRefused))
}

// tell tells everybody what has left the spool.
func (q *Queue) tell(f *flight, n int) {
	if n == 0 {
		return
	}
	var logged, duplicates, refused uint64
	var refusal error
	for i := range n {
		rec, r := &f.records[i], &f.results[i]
		switch {
		case rec.Damaged > 0:
			continue
		case r.Err != nil:
			if refused++; refused == 1 {
				refusal = fmt.Errorf("seq %d: %w", rec.Seq, r.Err)
			}
		case r.Status == Duplicate:
			duplicates++
			logged++
		default:
			logged++
		}
		q.settle(rec.Seq, r, r.Err)
	}
	if refusal != nil {
		q.cfg.Alarm(fmt.Errorf("client: the log refuses %d events, which are kept in %s: the first with %w", refused, q.asidePath(), refusal))
	}
	q.count(func(s *QueueStats) {
		s.Logged += logged
		s.Duplicates += duplicates
		s.Refused += refused
		if logged > 0 {
			s.LastLogged, s.FailingSince = time.Now(), time.Time{}
		}
	})
	q.mu.Lock()
	defer q.mu.Unlock()
	q.left = f.records[n-1].Seq
	close(q.settled)
	q.settled = make(chan struct{})
}

// errTooLarge: something between here and the log doesn't take even one event, and all others wait behind it.
var errTooLarge = errors.New("the event is too large for what is before the log")

// errSetAside: there is no room for what the log refuses, so nothing is sent until a person has looked.
var errSetAside = errors.New("refused by the log")

// maxAside bounds the file of what the log refused: a log that refuses everything doesn't empty the spool.
const maxAside = 64 << 20

func (q *Queue) asidePath() string { return filepath.Join(q.cfg.Dir, "refused.ndjson") }

// setAside keeps an event that the log refuses for good, with what it said. A crash before the ack has it
// there twice.
func (q *Queue) setAside(rec *spool.Record, why error) error {
	line, err := json.Marshal(struct {
		Seq   uint64 `json:"seq"`
		Error string `json:"error"`
		Event string `json:"event"`
	}{rec.Seq, why.Error(), string(bytes.TrimSpace(rec.Payload))})
	if err != nil {
		return err
	}
	f, err := os.OpenFile(q.asidePath(), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(q.appendAside(f, append(line, '\n')), f.Close())
}

// appendAside appends a line to the file, and its name to the directory. A line that a crash or a full disk has cut is ended
// first.
func (q *Queue) appendAside(f *os.File, line []byte) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	size := info.Size()
	if size+int64(len(line)) > maxAside {
		return fmt.Errorf("%s has %d bytes: look at it and move it away", q.asidePath(), size)
	}
	if size > 0 {
		end := make([]byte, 1)
		if _, err := f.ReadAt(end, size-1); err != nil {
			return err
		}
		if end[0] != '\n' {
			line = append([]byte("\n"), line...)
		}
	}
	if _, err := f.Write(line); err != nil {
		return err
	}
	if err := f.Sync(); err != nil || size > 0 {
		return err
	}
	return atomicfile.SyncDir(q.cfg.Dir)
}
