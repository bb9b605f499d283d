package personality

import (
	"context"
	"fmt"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
)

// witnessAll offers the published head to the witnesses at an interval, until the log is
// closed.
func (s *Service) witnessAll(ctx context.Context) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer s.public.asker.Close()
	go func() { // a witness that hangs doesn't keep the log from being closed
		select {
		case <-s.closing:
			stop()
		case <-ctx.Done():
		}
	}()
	tick := time.NewTicker(s.public.cfg.Every)
	defer tick.Stop()
	for {
		if s.refusing() == nil { // else it signs nothing either
			if err := s.witness(ctx); err != nil && ctx.Err() == nil && s.refusing() == nil {
				s.log.Warn("asking the witnesses failed", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// witness offers the published head to the witnesses, unless they have cosigned it not long
// ago, or another process is doing so.
func (s *Service) witness(ctx context.Context) error {
	p, at := s.public, s.head(ctx)
	if at.head.Size == 0 {
		// There is nothing in it that anybody could have changed.
		return s.keepPublic(ctx, newPublicHead(at.note, verifier.Checkpoint{Root: at.head.Root}, verifier.Witnesses{Status: verifier.Provisional}))
	}
	if p.isFresh(at.head.Size) || p.othersAsk() {
		p.lacks(false, time.Time{})
		return nil
	}
	began := time.Now()
	// What was cosigned since the last refresh may still be joined to what is cosigned now.
	note, who, err := p.asker.Ask(ctx, at.note, began.Add(-p.cfg.Refresh/2))
	if err != nil {
		return err
	}
	if ctx.Err() != nil { // the log is being closed: that nobody answered means nothing
		return context.Cause(ctx)
	}
	h := newPublicHead(note, verifier.Checkpoint{Size: at.head.Size, Root: at.head.Root}, who)
	h.asked = began
	if !h.quorum {
		if !p.lacks(true, began) || p.cfg.Closed {
			return nil
		}
		return s.keepPublic(ctx, h)
	}
	p.lacks(false, time.Time{})
	return s.keepPublic(ctx, h)
}

// isFresh reports whether the quorum has cosigned the tree of a size, and not too long ago.
func (p *public) isFresh(size uint64) bool {
	h := p.cosigned.Load()
	return h != nil && h.head.Size >= size && time.Since(h.asked) < p.cfg.Refresh
}

// othersAsk reports whether another process has just had a head cosigned: it goes on asking,
// for what all of them publish, and this one needn't.
func (p *public) othersAsk() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.others.IsZero() && time.Since(p.others) < 2*p.cfg.Every
}

// lacks notes whether the quorum is missing, and since when if that is new, and reports
// whether it is lost.
func (p *public) lacks(missing bool, since time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !missing:
		p.missing = time.Time{}
	case p.missing.IsZero():
		p.missing = since
	}
	return missing && time.Since(p.missing) > p.cfg.Patience
}

// lacking returns for how long the quorum has been missing, and whether it is lost.
func (p *public) lacking() (long time.Duration, lost bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.missing.IsZero() {
		return 0, false
	}
	long = time.Since(p.missing)
	return long, long > p.cfg.Patience
}

// witnessState is what readiness tells of the witnesses.
func (s *Service) witnessState() (state string, size uint64) {
	if s.public == nil {
		return "", 0
	}
	h := s.public.cosigned.Load()
	if h != nil {
		size = h.head.Size
	}
	switch long, lost := s.public.lacking(); {
	case lost:
		return "lost", size
	case long > 0 || h == nil:
		return "missing", size
	}
	return "quorum", size
}

// unwitnessed returns ErrUnwitnessed where that closes the log.
func (s *Service) unwitnessed() error {
	if s.public == nil || !s.public.cfg.Closed {
		return nil
	}
	if long, lost := s.public.lacking(); lost {
		return fmt.Errorf("%w: it has been missing for %s", ErrUnwitnessed, long.Round(time.Second))
	}
	return nil
}
