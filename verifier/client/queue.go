package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/prooftrail/prooftrail/verifier/client/mask"
	"github.com/prooftrail/prooftrail/verifier/client/spool"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// Mode says, for each event, what happens to the action that it is about when the event can't be logged.
type Mode int

// The modes. There is no default: whoever enqueues an event chooses.
const (
	// BestEffort: the action goes on. Enqueue returns when the event is in the spool, on stable
	// storage, and never waits for the log. Its error says that the event won't be logged, or
	// may not be; that is counted, and reported later.
	BestEffort Mode = iota + 1
	// Required: the action must not happen unless the event is logged. Enqueue returns nil when
	// it is in the log, with a receipt that holds, and else an error.
	Required
)

var (
	// ErrDropped: a best-effort event wasn't kept: the spool is full or can't be written. It is
	// counted, its seq is a gap, and a later event says so.
	ErrDropped = errors.New("the event was dropped")
	// ErrNotLogged: a required event isn't known to be in the log. The error has the reason beside it.
	// It may be in the spool, and get logged later: then the log has what was asked for, and not
	// what was done.
	ErrNotLogged = errors.New("the event is not known to be in the log")
)

// QueueConfig says where a Queue keeps events and how it sends them.
type QueueConfig struct {
	// Dir is the directory of the spool, for this source and this process alone. It is made, mode 0700, if
	// it isn't there; its parent must exist. It holds the content of events.
	Dir string
	// Source is the source of all events of the queue, which numbers them (seq). One queue a source: with
	// two there would be two events with each number.
	Source string
	// MaxEvents and MaxBytes bound the spool. Defaults 1,000,000 and 1 GiB.
	MaxEvents uint64
	MaxBytes  int64
	// SegmentBytes is how large the spool's files are, and what it takes when it is empty. All of them are
	// read when it is opened. Default 8 MiB, or an eighth of MaxBytes if that is less.
	SegmentBytes int64
	// DiskWait is how long Enqueue waits for the disk in best effort. Then the event may be
	// kept or not. Default 1 s.
	DiskWait time.Duration
	// RequiredWait is how long Enqueue waits for a required event to be logged, unless the context
	// ends before. Default 30 s.
	RequiredWait time.Duration
	// Heartbeat is how often the queue says in the log up to which seq it has used (audit.heartbeat), the
	// first time when it is opened. Default 1 minute; negative: never, and then silence doesn't
	// show in the log.
	Heartbeat time.Duration
	// MinBackoff and MaxBackoff bound the pause after a failure, which doubles from one to the next
	// and is jittered by half. Defaults 200 ms and 30 s.
	MinBackoff, MaxBackoff time.Duration
	// Mask takes secrets out of each event before it is written to the spool. Default: mask.Default; mask.New
	// makes one that knows more. With mask.Off a password in an event is on this disk and in a log that
	// can't forget, for all who may read the event: read there what that takes.
	Mask *mask.Masker
	// Actor is who heartbeats and reports of losses are by. Default: the service with the source's name.
	Actor event.Actor
	// Receipt, if not nil, is called with each event that is logged, in order, and its result, before the event
	// is removed from the spool: after a crash it may be called again. While it runs, nothing else
	// is sent.
	Receipt func(Logged)
	// Alarm, if not nil, is called with what a person should see, from a goroutine of the queue: a
	// receipt that doesn't hold, evidence of a fork, a token that isn't accepted, an event that the
	// log refuses; once each time that the kind of trouble changes. Default: Config.Alarm.
	Alarm func(error)
	// Observe, if not nil, is called with the queue's figures whenever events were logged, dropped or
	// couldn't be sent, one call at a time, and must be fast. Stats has the same at any time.
	Observe func(QueueStats)
	// Logger gets what happens to the spool and the sender. Default: nobody.
	Logger *slog.Logger
}

// Logged is an event that is in the log.
type Logged struct {
	Seq    uint64
	ID     string
	Result *Result
}

// Queue keeps events on disk until they are in the log, and sends them in order. It is safe for
// concurrent use.
type Queue struct {
	c     *Client
	cfg   QueueConfig
	spool *spool.Spool

	stop context.CancelFunc
	wg   sync.WaitGroup
	kick chan struct{} // holds one when somebody waits for the log

	mu      sync.Mutex
	waiters map[uint64]*waiter // by seq
	stats   QueueStats         // what the spool doesn't know
	left    uint64             // the seq up to which all has left the spool, and everybody was told
	settled chan struct{}      // closed and made anew each time that left moves

	observing sync.Mutex
	batch     int // how many events a request has at most; the sender's
}

// waiter waits for a required event.
type waiter struct {
	done chan struct{}
	r    *Result
	err  error
}

// OpenQueue opens the spool and begins to send what is in it. The client must have a policy, and wait for
// receipts.
func (c *Client) OpenQueue(cfg QueueConfig) (*Queue, error) {
	switch {
	case c.checker == nil:
		return nil, errNoPolicy
	case c.cfg.Wait == Durable:
		return nil, errors.New("client: a queue needs receipts, and Wait durable gives none")
	}
	setQueueDefaults(&cfg, c)
	q := &Queue{c: c, cfg: cfg, waiters: map[uint64]*waiter{}, kick: make(chan struct{}, 1), settled: make(chan struct{}), batch: MaxBatchEvents}
	if err := q.checkSource(); err != nil {
		return nil, err
	}
	var err error
	q.spool, err = spool.Open(spool.Config{Dir: cfg.Dir, MaxEvents: cfg.MaxEvents, MaxBytes: cfg.MaxBytes, SegmentBytes: cfg.SegmentBytes, Logger: cfg.Logger, Report: q.dropped})
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	if err := q.keepSource(); err != nil {
		return nil, errors.Join(err, q.spool.Close())
	}
	q.left = q.spool.Stats().Acked
	ctx, stop := context.WithCancel(context.Background())
	q.stop = stop
	q.wg.Go(func() { q.send(ctx) })
	if cfg.Heartbeat > 0 {
		q.wg.Go(func() { q.heartbeats(ctx) })
	}
	return q, nil
}

func setQueueDefaults(cfg *QueueConfig, c *Client) {
	if cfg.DiskWait <= 0 {
		cfg.DiskWait = time.Second
	}
	if cfg.RequiredWait <= 0 {
		cfg.RequiredWait = 30 * time.Second
	}
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = time.Minute
	}
	if cfg.MinBackoff <= 0 {
		cfg.MinBackoff = 200 * time.Millisecond
	}
	if cfg.MaxBackoff <= 0 {
		cfg.MaxBackoff = 30 * time.Second
	}
	if cfg.Mask == nil {
		cfg.Mask = mask.Default()
	}
	if cfg.Actor.Type == "" {
		cfg.Actor = event.Actor{Type: "service", ID: cfg.Source}
	}
	if cfg.Alarm == nil {
		cfg.Alarm = c.alarm
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
}

// checkSource finds out whether heartbeats would be valid.
func (q *Queue) checkSource() error {
	_, err := q.heartbeat(spool.Stamp{Seq: math.MaxUint64, Count: math.MaxUint64 - 1})
	if err != nil {
		return fmt.Errorf("client: source %q or actor of the queue: %w", q.cfg.Source, err)
	}
	return nil
}

// keepSource remembers whose the spool is: the numbers of one source aren't another's.
func (q *Queue) keepSource() error {
	path := filepath.Join(q.cfg.Dir, "source")
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return os.WriteFile(path, []byte(q.cfg.Source+"\n"), 0o600)
	case err != nil:
		return err
	case len(b) > 0 && string(b) != q.cfg.Source+"\n": // empty: the disk was full
		return fmt.Errorf("client: the spool %s is of the source %q, not %q", q.cfg.Dir, strings.TrimSpace(string(b)), q.cfg.Source)
	}
	return nil
}

// Close ends sending and gives the spool back; what is in it stays, and is sent when it is opened again.
// Required events that are waited for end with ErrNotLogged.
func (q *Queue) Close() error {
	q.stop()
	q.wg.Wait()
	q.failWaiters(spool.ErrClosed)
	return q.spool.Close()
}

// Flush waits until all that was enqueued before has left the spool. The error has why nothing moved
// last, if the context ends before.
func (q *Queue) Flush(ctx context.Context) error {
	st := q.spool.Stats()
	for {
		q.mu.Lock()
		settled, left := q.settled, q.left
		q.mu.Unlock()
		if left >= st.Kept {
			return nil
		}
		select {
		case <-settled:
		case <-ctx.Done():
			q.mu.Lock()
			last := q.stats.LastError
			q.mu.Unlock()
			return errors.Join(fmt.Errorf("client: %d events are not logged yet: %w", q.spool.Stats().Events, ctx.Err()), last)
		}
	}
}

// QueueStats are figures of a Queue, since it was opened unless they say otherwise.
type QueueStats struct {
	Waiting      uint64 // events in the spool
	WaitingBytes int64  // of its files
	LastSeq      uint64 // the last seq that was used
	LoggedSeq    uint64 // the seq up to which nothing waits

	Enqueued   uint64 // events that were put into the spool, the queue's own included
	Logged     uint64 // events whose receipt held
	Duplicates uint64 // of those, how many were in the log already
	Refused    uint64 // events that the log refused for good; they are in the file refused.ndjson
	Dropped    uint64 // events that weren't taken, the spool being full or the disk
	Unreported uint64 // events that won't come, and that no event has said so of yet
	Failures   uint64 // attempts that failed

	// FailingSince is when the attempts began to fail that still do; zero if the last one succeeded.
	FailingSince time.Time
	LastError    error     // of the last attempt that failed
	LastLogged   time.Time // when an event was logged last
	// Accused is set once the log has been caught at a lie: LastError was a *ReceiptError or an
	// *EvidenceError.
	Accused bool
}

// Stats returns figures of now. A Waiting that grows, or a FailingSince, is what to watch.
func (q *Queue) Stats() QueueStats {
	q.mu.Lock()
	st := q.stats
	q.mu.Unlock()
	s := q.spool.Stats()
	st.Waiting, st.WaitingBytes, st.LastSeq, st.LoggedSeq, st.Unreported = s.Events, s.Bytes, s.LastSeq, s.Acked, s.Lost.Count()
	return st
}

// count changes the figures and shows them.
func (q *Queue) count(change func(*QueueStats)) {
	q.mu.Lock()
	change(&q.stats)
	q.mu.Unlock()
	if q.cfg.Observe != nil {
		q.observing.Lock()
		defer q.observing.Unlock()
		q.cfg.Observe(q.Stats())
	}
}
