package monitor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
)

// outcome is what became of a head.
type outcome struct {
	head     Head
	standing Standing
	why      error // with Open
	full     bool  // it isn't kept
	outside  bool  // anybody may have asked
}

// attempt is the last comparison of an open head.
type attempt struct {
	at   time.Time
	seen *Head // with which it was compared
	why  error
}

// maxAttempts bounds how many are remembered.
const maxAttempts = 4096

// observe takes a signed note from anywhere: writes it down, and compares it. Outside: anybody may have sent it.
func (f *follower) observe(ctx context.Context, signedNote []byte, from string, outside bool) (*outcome, error) {
	o, _, err := f.take(ctx, signedNote, from)
	if err != nil || o.standing != Open {
		return o, err
	}
	o.outside = outside
	if outside && f.triedJustNow(o) {
		return o, nil
	}
	f.judge(ctx, o)
	return o, nil
}

// take writes down a signed note, and says what is known of it: Open, if it has yet to be compared.
func (f *follower) take(ctx context.Context, signedNote []byte, from string) (o *outcome, isNew bool, err error) {
	h, err := f.parse(signedNote)
	if err != nil {
		var nonsense *signedNonsense
		if errors.As(err, &nonsense) {
			f.raiseNonsense(nonsense, from)
		}
		return nil, false, err
	}
	h.From = from
	stored, isNew, err := f.m.cfg.Book.Add(ctx, *h)
	if isNew || err != nil { // one that was there was only read
		f.noteBook(ctx, err)
	}
	switch {
	case errors.Is(err, ErrFull): // compared all the same
		f.mu.Lock()
		f.full = true
		f.mu.Unlock()
		return &outcome{head: *h, standing: Open, full: true}, true, nil
	case err != nil:
		return nil, false, err
	}
	o = &outcome{head: stored, standing: stored.Standing}
	if o.standing == Agreed && f.beyond(&stored) {
		o.standing, o.head.Standing = Open, Open
		if err := f.m.cfg.Book.Judge(ctx, h.Checkpoint, Open); err != nil {
			f.noteBook(ctx, err)
			return nil, false, err
		}
	}
	if isNew {
		f.m.cfg.Log.DebugContext(ctx, "new head", "log", f.origin, "size", h.Size, "from", from)
	}
	return o, isNew, nil
}

// triedJustNow reports whether a head was compared with the same one in this interval: whoever asks again and again
// learns what came of that.
func (f *follower) triedJustNow(o *outcome) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	a, ok := f.tried[o.head.Checkpoint]
	if !ok || a.seen != f.seen || time.Since(a.at) >= f.m.cfg.Interval {
		return false
	}
	o.why = a.why
	return true
}

// try remembers what came of a comparison.
func (f *follower) try(o *outcome, seen *Head) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if o.standing != Open {
		delete(f.tried, o.head.Checkpoint)
		return
	}
	if len(f.tried) >= maxAttempts {
		clear(f.tried)
	}
	f.tried[o.head.Checkpoint] = attempt{time.Now(), seen, o.why}
}

// judge compares an open head with what is known, and writes down what comes of it.
func (f *follower) judge(ctx context.Context, o *outcome) {
	// What needs no proof is looked at however little time there is, and what was found is written down.
	quick := context.WithoutCancel(ctx)
	f.mu.Lock()
	seen := f.seen
	f.mu.Unlock()
	standing, e := f.sameSize(quick, &o.head)
	o.why = nil
	if standing == Open {
		var done bool
		if standing, e, done = f.weigh(ctx, o); done {
			return
		}
	}
	defer func() { f.try(o, seen) }()
	if standing == Forked {
		if err := f.accuse(e); err != nil {
			o.why = err // it stays open until the evidence is on the disk
			return
		}
	}
	o.standing, o.head.Standing = standing, standing
	if standing == Open || o.full {
		return
	}
	if err := f.m.cfg.Book.Judge(quick, o.head.Checkpoint, standing); err != nil {
		f.noteBook(quick, err)
		f.m.cfg.Log.ErrorContext(ctx, "a head's standing isn't written down", "log", f.origin, "size", o.head.Size, "error", err)
	}
}

// sameSize holds a head against those of the same size, which needs no proof: it is Forked then, or Open.
func (f *follower) sameSize(ctx context.Context, h *Head) (Standing, *verifier.Evidence) {
	others, err := f.m.cfg.Book.SameSize(ctx, h.Checkpoint)
	if err != nil {
		f.noteRead(ctx, err)
	}
	for i := range others {
		if standing, e, _ := f.convict(ofOneSize(&others[i], h)); standing == Forked {
			return standing, e
		}
	}
	return Open, nil
}

// weigh compares a head with the newest one of the history that is followed. A head that agrees and is larger
// is the newest one then. Done: there is nothing to add to what the outcome says already.
func (f *follower) weigh(ctx context.Context, o *outcome) (s Standing, e *verifier.Evidence, done bool) {
	ctx, cancel := context.WithTimeout(ctx, compareTime)
	defer cancel()
	if o.outside {
		select {
		case f.comparing <- struct{}{}:
			defer func() { <-f.comparing }()
		case <-ctx.Done():
			o.why = ctx.Err()
			return Open, nil, true
		}
		if f.triedJustNow(o) { // meanwhile
			return Open, nil, true
		}
	}
	for {
		f.mu.Lock()
		seen := f.seen
		f.mu.Unlock()
		if seen == nil {
			o.why = errors.New("nothing of this log was read yet")
			return Open, nil, false
		}
		s, e, o.why = f.compare(ctx, &o.head, seen)
		if s != Agreed {
			return s, e, false
		}
		settled, err := f.settle(ctx, &o.head, seen)
		if err != nil {
			o.why = err
			return Open, nil, false
		}
		if settled {
			return Agreed, nil, false
		}
	}
}

// accuse keeps evidence.
func (f *follower) accuse(e *verifier.Evidence) error {
	file, err := checkEvidence(e.Text(), func(string) *verifier.Policy { return f.policy })
	if err != nil {
		return err
	}
	return f.m.keepEvidence(f, file)
}

// keepEvidence writes down evidence that convicts, and rings.
func (m *Monitor) keepEvidence(f *follower, file *evidenceFile) error {
	isNew, err := m.evidence.add(file)
	if err != nil {
		f.mu.Lock()
		f.bookErr = err
		f.mu.Unlock()
		return err
	}
	if isNew {
		m.cfg.Log.Error("the log forked", "log", f.origin, "first", file.FirstSize, "second", file.SecondSize, "evidence", file.ID)
	}
	f.raiseFork(m.evidence.of(f.origin))
	return nil
}

// settle makes a head the newest one seen, if it is larger than the one that it was found to agree with, nil for
// the first one ever. It reports false if another one has become the newest meanwhile: two heads that both
// extend one needn't be of one history.
//
// It is on stable storage before anybody is told that the head agrees. After a crash the log could else show
// another history that extends what is remembered, and the head, judged already, would never be
// compared with that one.
func (f *follower) settle(ctx context.Context, h, with *Head) (bool, error) {
	if with != nil && h.Size <= with.Size {
		return true, nil // what it is a prefix of stays one of all that come
	}
	f.storing.Lock()
	defer f.storing.Unlock()
	f.mu.Lock()
	moved := f.seen != with
	f.mu.Unlock()
	if moved {
		return false, nil
	}
	from, now := h.Size, f.m.cfg.Now()
	if with != nil {
		from = with.Size
	}
	err := f.store(ctx, func(s *logState) {
		s.Seen = string(h.Note)
		s.grow(from, now)
	})
	if err != nil {
		return false, fmt.Errorf("remember head of size %d: %w", h.Size, err)
	}
	newest := *h
	newest.Standing = Agreed
	f.mu.Lock()
	f.seen = &newest
	f.mu.Unlock()
	f.rouse()
	return true, nil
}

// beyond reports whether a head is larger than the newest one seen. One that the book says agreed can only be
// that if the state is older than the book: it has to be compared again.
func (f *follower) beyond(h *Head) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen == nil || h.Size > f.seen.Size
}
