package monitor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
)

const (
	// recheckLimit is how many open heads are compared again in one interval.
	recheckLimit = 16
	// saveEvery is how many entries a crash makes a follower read again, at most.
	saveEvery = 1 << 16
	// savePause is how long what an audit remembers on the way may wait to be stored.
	savePause = 5 * time.Second
	// maxReadPause bounds the pause after reading has failed, which doubles each time: an audit that
	// failed begins at the first entry.
	maxReadPause = time.Hour
	// maxAwayPause is the same, in intervals, if the log only couldn't be reached.
	maxAwayPause = 8
)

// fromLog is where a head was seen that the log itself has served.
const fromLog = "log"

// look fetches the log's newest head, and compares it with what is known.
func (f *follower) look(ctx context.Context) {
	note, err := f.source.Get(ctx, "checkpoint", verifier.MaxNoteBytes)
	if ctx.Err() != nil {
		return
	}
	f.mu.Lock()
	f.served.refused = nil
	f.mu.Unlock()
	if err == nil {
		err = f.lookAt(ctx, note)
	}
	f.mu.Lock()
	f.served.err = err
	f.mu.Unlock()
	if err != nil && ctx.Err() == nil {
		f.m.cfg.Log.WarnContext(ctx, "look at the log", "log", f.origin, "error", err)
	}
	f.mu.Lock()
	f.looked = time.Now()
	f.mu.Unlock()
	f.watch()
}

// lookAt takes what the log has served as its head. An error means that no head was got.
func (f *follower) lookAt(ctx context.Context, note []byte) error {
	o, err := f.observe(ctx, note, fromLog, false)
	if err != nil {
		if errors.Is(err, verifier.ErrFailed) {
			f.mu.Lock()
			f.served.refused = err
			f.mu.Unlock()
		}
		return err
	}
	// Verify is stricter than observe: what isn't a valid checkpoint by the policy is refused, but
	// it was written down, and compared.
	_, witnesses, err := f.policy.Verify(note)
	if err != nil {
		f.mu.Lock()
		f.served.refused = err
		f.mu.Unlock()
		return err
	}
	if o.standing != Agreed && f.beyond(&o.head) {
		if err := f.begin(ctx, o); err != nil {
			return err
		}
	}
	h := &o.head
	f.mu.Lock()
	back := o.standing == Agreed && h.Size < f.state.Served
	f.served = served{head: h, note: note, witnesses: witnesses, at: f.m.cfg.Now(), back: back}
	if o.standing == Agreed && h.Size > f.state.Served {
		f.state.Served = h.Size
	}
	f.mu.Unlock()
	if o.standing == Agreed { // else watch says so
		f.cosign(h, note, witnesses)
	}
	return nil
}

// begin takes the first head ever of a log: there is nothing to compare it with. If another one of its size
// was posted before, the log has forked, and this is the history that is followed all the same.
func (f *follower) begin(ctx context.Context, o *outcome) error {
	first, err := f.settle(ctx, &o.head, nil)
	if err != nil || !first {
		return err
	}
	o.standing, o.head.Standing = Agreed, Agreed
	err = f.m.cfg.Book.Judge(ctx, o.head.Checkpoint, Agreed)
	f.noteBook(ctx, err)
	return err
}

// recheck compares open heads again: some can be proven now that more is known. It isn't part of a look, which a log
// that keeps tiles back would else keep back too.
func (f *follower) recheck(ctx context.Context) {
	f.mu.Lock()
	from := f.nextOpen
	f.mu.Unlock()
	open, err := f.m.cfg.Book.Open(ctx, f.origin, from, recheckLimit)
	if err != nil {
		f.noteRead(ctx, err)
		return
	}
	next := uint64(0)
	if len(open) == recheckLimit {
		next = open[len(open)-1].Size + 1 // the others have their turn in the next round
	}
	budget, cancel := context.WithTimeout(ctx, compareTime) // the log's own head mustn't wait for all of them
	defer cancel()
	for i := range open {
		if i > 0 && budget.Err() != nil {
			next = open[i].Size
			break
		}
		f.judge(budget, &outcome{head: open[i], standing: Open})
	}
	f.mu.Lock()
	f.nextOpen = next
	f.mu.Unlock()
}

// readOn reads new entries whenever there are some.
func (f *follower) readOn(ctx context.Context) {
	f.rouse() // for what an earlier process saw and didn't read
	pause := f.m.cfg.Interval
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.wake:
		}
		f.mu.Lock()
		target, checked := f.seen, f.checked
		f.mu.Unlock()
		if target == nil || checked != nil && checked.Checkpoint == target.Checkpoint && !f.gap {
			continue
		}
		err := f.read(ctx, target)
		if err == nil {
			pause = f.m.cfg.Interval
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		most := maxReadPause
		if !errors.Is(err, verifier.ErrFailed) {
			most = maxAwayPause * f.m.cfg.Interval // it goes on where it stopped
		}
		pause = min(2*pause, max(most, f.m.cfg.Interval))
		f.rouse()
	}
}

// read re-hashes all entries up to a head, and moves checked on when all of it holds.
func (f *follower) read(ctx context.Context, target *Head) error {
	source := f.source
	if f.mirror != nil {
		source = f.mirror.filledFrom(f.source)
	}
	f.mu.Lock()
	// An audit that failed may have put what is false into the mirror, for entries that an earlier one has passed.
	again := f.gap || f.mirror != nil && f.reading.failed
	f.mu.Unlock()
	report, err := verifier.Audit(ctx, verifier.AuditConfig{
		Source: source, Policy: f.policy, Checkpoint: target.Note, State: auditState{ctx, f}, Workers: 4, SaveEvery: saveEvery,
		Progress: f.progress, FromStart: again,
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil && f.mirror != nil {
		err = f.mirror.complete(target)
	}
	if err == nil {
		f.gap = false
		err = f.moveOn(ctx, target)
	}
	if err == nil {
		f.mu.Lock()
		f.reading = reading{done: target.Size}
		if !report.LastTime.IsZero() {
			f.lastLeaf = report.LastTime
		}
		f.mu.Unlock()
		return nil
	}
	if report != nil && report.Proven {
		if err := f.accuse(report.Evidence); err != nil {
			f.m.cfg.Log.ErrorContext(ctx, "evidence", "log", f.origin, "error", err)
		}
	}
	f.mu.Lock()
	f.reading.err, f.reading.failed = err, errors.Is(err, verifier.ErrFailed)
	f.mu.Unlock()
	f.m.cfg.Log.WarnContext(ctx, "read entries", "log", f.origin, "size", target.Size, "error", err)
	return err
}

// moveOn makes a head the checked one, with all that is remembered on the way.
func (f *follower) moveOn(ctx context.Context, h *Head) error {
	err := f.remember(ctx, func(s *logState) { s.Checked = string(h.Note) })
	if err != nil {
		return fmt.Errorf("remember head of size %d: %w", h.Size, err)
	}
	f.mu.Lock()
	f.checked = h
	f.mu.Unlock()
	f.moved()
	return nil
}

// moved says that reading makes good progress. A log that sends just enough not to be silent doesn't.
func (f *follower) moved() {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.since, alarmUnread)
	f.m.cfg.Alarms.Clear(alarmUnread, f.origin, "")
}

func (f *follower) progress(p verifier.Progress) {
	f.mu.Lock()
	good := p.Done/saveEvery > f.reading.done/saveEvery
	f.reading.done = p.Done
	f.mu.Unlock()
	if good {
		f.moved()
	}
}
