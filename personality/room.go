package personality

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prooftrail/prooftrail/personality/roomfs"
)

// room is the room on the disks that a log writes to. Below the reserve of the data
// directory's disk events are refused before anything is written. Should
// somebody else take the reserve too, what the database writes waits (package
// roomfs), and nothing is admitted any more. See docs/decisions/0013-disk-full.md.
type room struct {
	disk    *roomfs.FS // the database's
	dir     string
	reserve uint64 // bytes; 0: none
	log     *slog.Logger
	metrics *Metrics

	free   atomic.Uint64
	low    atomic.Bool  // less than the reserve is free
	anchor atomic.Bool  // the anchor's disk had no room for the newest head
	told   atomic.Int32 // the roomState that the log and the metric tell of
}

// roomState says what there is no room for.
type roomState int32

const (
	roomy      roomState = iota
	low                  // for events: the reserve has been reached
	anchorFull           // for the anchor
	stalled              // for anything
)

func (r *room) state() roomState {
	switch {
	case r.disk.Stalled() != nil:
		return stalled
	case r.low.Load():
		return low
	case r.anchor.Load():
		return anchorFull
	}
	return roomy
}

// minOpen is the free space, in bytes, without which a log is neither made nor
// opened: what either writes at least, with something to spare.
const minOpen = 4 << 20

func newRoom(c Config, dir string) *room {
	r := &room{dir: dir, reserve: uint64(max(c.MinFree, 0)), log: c.Logger, metrics: c.Metrics}
	// A compaction may take half of the reserve: it gives back what it replaces. Were it
	// kept off all of it, events would still come while it waits, and level 0 fill up.
	r.disk = roomfs.New(c.fs, roomfs.Options{Dir: dir, Floor: r.reserve / 2})
	return r
}

// look asks the disk how much is free. Events are taken again only when there is
// somewhat more than the reserve, or each compaction would let a few in.
func (r *room) look() {
	if free, known := r.disk.Free(); known {
		r.free.Store(free)
		r.metrics.diskFree.Set(float64(free))
		if free < r.reserve {
			r.low.Store(true)
		} else if free >= r.reserve+r.reserve/16 {
			r.low.Store(false)
		}
	}
	r.tell()
}

// tell logs when the disk becomes full, and when it is no more so.
func (r *room) tell() {
	now := r.state()
	if roomState(r.told.Swap(int32(now))) == now {
		return
	}
	if now == roomy {
		r.metrics.diskFull.Set(0)
		r.log.Warn("the disk has room again", "dir", r.dir, "free", r.free.Load())
		return
	}
	r.metrics.diskFull.Set(1)
	attrs := []any{"reason", r.why(now), "dir", r.dir, "free", r.free.Load(), "min_free", r.reserve}
	if s := r.disk.Stalled(); s != nil {
		attrs = append(attrs, "waiting", s.Path, "error", s.Err)
	}
	r.log.Error("events are refused", attrs...)
}

// why puts a state into words, for readiness and for who is refused.
func (r *room) why(s roomState) string {
	switch s {
	case stalled:
		return "the disk is full: nothing can be written"
	case low:
		return fmt.Sprintf("the disk is full: %d bytes are free, and the last %d are not for events", r.free.Load(), r.reserve)
	case anchorFull:
		return "the disk is full: the anchor can't be written"
	}
	return ""
}

// refuse returns ErrFull if there is no room. What may use the reserve has room as
// long as anything can be written.
func (r *room) refuse(useReserve bool) error {
	s := r.state()
	if s == roomy || useReserve && s != stalled {
		return nil
	}
	return &fullError{r.why(s)}
}

// fullError is ErrFull with a reason.
type fullError struct{ reason string }

func (e *fullError) Error() string { return e.reason }
func (e *fullError) Unwrap() error { return ErrFull }

// anchored takes note of what moving the anchor reported.
func (r *room) anchored(err error) {
	if full := roomfs.IsFull(err); full != r.anchor.Load() {
		r.anchor.Store(full)
		r.tell()
	}
}

// watch keeps looking until done is closed: while nobody sends events, too.
func (r *room) watch(done <-chan struct{}) {
	every := time.NewTicker(probeEvery)
	defer every.Stop()
	for {
		_, changed := r.disk.Stall() // before it looks, to miss no change
		r.look()
		select {
		case <-every.C:
		case <-changed:
		case <-done:
			return
		}
	}
}

// atStart returns ErrFull if the disk is as good as full. Who wants no reserve doesn't
// believe what the disk says is free.
func (r *room) atStart() error {
	if free, known := r.disk.Free(); known && r.reserve > 0 && free < minOpen {
		return r.startError(fmt.Sprintf("%d bytes are free in %s", free, r.dir))
	}
	return nil
}

func (r *room) startError(what string) error {
	need := fmt.Sprintf("it takes at least %d", minOpen)
	if r.reserve > 0 {
		need += fmt.Sprintf(", and events are taken above %d (min_free)", r.reserve+r.reserve/16)
	}
	return &fullError{"the disk is full: " + what + "; " + need}
}

// unlessFull does f, and gives up on it when what it writes has to wait for room:
// who starts a log wants to know, not to wait. What is given up leaves its
// goroutines behind, and its locks, until the process ends.
func unlessFull[T any](r *room, f func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		v, err := f()
		done <- result{v, err}
	}()
	for {
		s, changed := r.disk.Stall()
		if s != nil {
			r.disk.Abandon()
			var none T
			return none, r.startError(s.Err.Error())
		}
		select {
		case res := <-done:
			return res.value, res.err
		case <-changed:
		}
	}
}

// untilStalled returns a context that ends, with ErrFull, when nothing can be
// written any more.
func (r *room) untilStalled(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		for {
			s, changed := r.disk.Stall()
			if s != nil {
				cancel(fmt.Errorf("%w: %w", ErrFull, s.Err))
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	return ctx, func() { cancel(nil) }
}

// withRoom fails the events that there is no room for, and returns the others.
func (s *Service) withRoom(events []*Pending) []*Pending {
	room := s.cfg.room
	room.look()
	if room.refuse(false) == nil {
		return events
	}
	var left []*Pending
	for _, p := range events {
		if err := room.refuse(p.useReserve); err != nil {
			s.cfg.Metrics.refused.WithLabelValues(refusedReason(err)).Inc()
			p.fail(err)
		} else {
			left = append(left, p)
		}
	}
	return left
}
