package personality

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prooftrail/prooftrail/personality/pubstore"
	"github.com/prooftrail/prooftrail/personality/witnesses"
	"github.com/prooftrail/prooftrail/verifier"
)

// WitnessConfig says whose cosignatures a log's public heads need. The zero value of every
// field but Policy has a meaning, given with it.
type WitnessConfig struct {
	// Policy is of this log, and has a quorum of witnesses with URLs.
	Policy *verifier.Policy
	// Every is how often a new head is offered to the witnesses, so that all of them, and all
	// who read the log, meet the same one. Default 1 s.
	Every time.Duration
	// Refresh is after how long a head that stays is cosigned afresh. Default 30 min.
	Refresh time.Duration
	// Patience is how long the quorum may be missing before it counts. Default 1 min.
	Patience time.Duration
	// Closed says what happens then. True: no event is taken until the quorum is back, and the
	// public head stays. False: the log goes on, and its public head is one with fewer
	// cosignatures.
	Closed bool
	// AllowHTTP allows witnesses at plain http URLs that aren't loopback.
	AllowHTTP bool
}

func (c *WitnessConfig) withDefaults() WitnessConfig {
	d := *c
	for _, f := range []struct {
		value *time.Duration
		def   time.Duration
	}{{&d.Every, time.Second}, {&d.Refresh, 30 * time.Minute}, {&d.Patience, time.Minute}} {
		if *f.value <= 0 {
			*f.value = f.def
		}
	}
	return d
}

// ErrUnwitnessed: the quorum of witnesses has been missing for too long, and the log takes
// nothing without it. Nothing was stored.
var ErrUnwitnessed = errors.New("the witnesses' quorum is missing")

// public is the part of a log that its witnesses see.
type public struct {
	cfg   WitnessConfig
	asker *witnesses.Asker
	known []witnesses.Known // what the witnesses had when this process started

	cosigned atomic.Pointer[publicHead] // the newest with the quorum
	shown    atomic.Pointer[publicHead] // what /checkpoint says: that, or a newer one

	mu      sync.Mutex
	moved   chan struct{} // closed when cosigned has moved
	missing time.Time     // since when a head has waited for the quorum; zero: none does
}

// publicHead is a head with the cosignatures that it has.
type publicHead struct {
	publishedHead
	asked time.Time // when
}

// newPublic returns nil where no witness is needed.
func (s *Service) newPublic(c *WitnessConfig) (*public, error) {
	if c == nil || !c.Policy.RequiresWitnesses() {
		return nil, nil
	}
	p := &public{cfg: c.withDefaults(), moved: make(chan struct{})}
	if c.Policy.Origin() != s.params.Origin {
		return nil, fmt.Errorf("the witness policy is of the log %q, and this is %q", c.Policy.Origin(), s.params.Origin)
	}
	var err error
	p.asker, err = witnesses.New(witnesses.Config{
		Policy: c.Policy, Prove: s.ProveConsistency, AllowHTTP: c.AllowHTTP, Logger: s.log, Asked: s.cfg.Metrics.asked,
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// checkWitnesses compares the head with what the witnesses have seen of this log (I3).
func (s *Service) checkWitnesses(ctx context.Context, head pubstore.Head) error {
	if s.public == nil {
		return nil
	}
	for _, k := range s.public.known {
		if k.Head.Size > head.Size {
			return s.olderCopy(head.Size, k.Head.Size, "by the witness at "+k.Witness)
		}
		r, err := rangeAt(ctx, s.store, k.Head.Size)
		if err != nil {
			return s.damaged(k.Head.Size, err)
		}
		root, err := rootOf(r)
		if err != nil {
			return err
		}
		if root != k.Head.Root {
			return s.refuse(fmt.Sprintf("the witness at %s has root %x of size %d, signed by this log, but the store has %x there: it holds another history. "+
				"Close this log and begin a successor under another origin", k.Witness, k.Head.Root, k.Head.Size, root), errRoot)
		}
	}
	return nil
}

// showKept shows the checkpoint that was kept, if the quorum has cosigned it and the
// published tree covers it.
func (s *Service) showKept(ctx context.Context) error {
	kept, err := s.store.Checkpoint(ctx)
	if errors.Is(err, pubstore.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if cur := s.public.cosigned.Load(); cur != nil && bytes.Equal(cur.note, kept) {
		return nil
	}
	head, who, err := s.public.cfg.Policy.Verify(kept)
	if err != nil || who.Status != verifier.Quorum {
		return nil // of before there were witnesses, or of another policy
	}
	if !s.covers(ctx, head.Size) {
		return nil
	}
	s.public.show(&publicHead{publishedHead{head: pubstore.Head{Size: head.Size, Root: head.Root}, note: kept}, newest(who)}, true)
	return nil
}

// newest returns the time of the newest cosignature, or now if that is to come yet.
func newest(who verifier.Witnesses) (t time.Time) {
	for _, c := range who.Cosigned {
		if c.Time.After(t) {
			t = c.Time
		}
	}
	if now := time.Now(); t.After(now) {
		return now
	}
	return t
}

// show moves the public head, forward only; one of the same size takes its place.
func (p *public) show(h *publicHead, quorum bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if cur := p.shown.Load(); cur == nil || h.head.Size >= cur.head.Size {
		p.shown.Store(h)
	}
	if cur := p.cosigned.Load(); quorum && (cur == nil || h.head.Size >= cur.head.Size) {
		p.cosigned.Store(h)
		close(p.moved)
		p.moved = make(chan struct{})
	}
}

// witnessAll offers the published head to the witnesses at an interval, until the log is
// closed.
func (s *Service) witnessAll(ctx context.Context) {
	tick := time.NewTicker(s.public.cfg.Every)
	defer tick.Stop()
	for {
		if err := s.witness(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("asking the witnesses failed", "error", err)
		}
		select {
		case <-s.closing:
			return
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// witness offers the published head to the witnesses, unless they have cosigned it not long
// ago.
func (s *Service) witness(ctx context.Context) error {
	if err := s.refusing(); err != nil {
		return nil // it signs nothing either
	}
	if s.shared() { // another process may have asked
		if err := s.showKept(ctx); err != nil {
			return err
		}
	}
	p, at := s.public, s.head(ctx)
	if cur := p.cosigned.Load(); cur != nil && cur.head.Size >= at.head.Size && time.Since(cur.asked) < p.cfg.Refresh {
		p.lacks(false)
		return nil
	}
	began := time.Now()
	ctx, stop := context.WithTimeout(ctx, p.cfg.Patience)
	defer stop()
	note, who, err := p.asker.Ask(ctx, at.note)
	if err != nil {
		return err
	}
	h := &publicHead{publishedHead{head: at.head, note: note}, began}
	if who.Status == verifier.Quorum {
		p.lacks(false)
		if err := s.store.PutCheckpoint(ctx, note); err != nil {
			s.log.Warn("keeping the cosigned checkpoint failed", "error", err) // a restart shows the one before
		}
		p.show(h, true)
		s.cfg.Metrics.witnessed.Set(float64(at.head.Size))
		s.cfg.Metrics.quorum.Set(float64(began.Unix()))
		return nil
	}
	if p.lacks(true) > p.cfg.Patience && !p.cfg.Closed {
		p.show(h, false)
	}
	return nil
}

// lacks notes whether the quorum is missing, and returns for how long it has been.
func (p *public) lacks(missing bool) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !missing:
		p.missing = time.Time{}
		return 0
	case p.missing.IsZero():
		p.missing = time.Now()
	}
	return time.Since(p.missing)
}

// lacking returns for how long the quorum has been missing.
func (p *public) lacking() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.missing.IsZero() {
		return 0
	}
	return time.Since(p.missing)
}

// unwitnessed returns ErrUnwitnessed where that closes the log.
func (s *Service) unwitnessed() error {
	if s.public == nil || !s.public.cfg.Closed {
		return nil
	}
	if long := s.public.lacking(); long > s.public.cfg.Patience {
		return fmt.Errorf("%w: for %s", ErrUnwitnessed, long.Round(time.Second))
	}
	return nil
}

// publicCheckpoint returns the checkpoint that everybody is shown.
func (s *Service) publicCheckpoint(ctx context.Context) []byte {
	if s.public == nil {
		return s.head(ctx).note
	}
	if s.shared() && s.refusing() == nil { // what another process has shown isn't taken back
		if err := s.showKept(ctx); err != nil {
			s.log.Warn("reading the cosigned checkpoint failed", "error", err)
		}
	}
	if h := s.public.shown.Load(); h != nil {
		return h.note
	}
	return nil
}

// receiptHead returns the head that a receipt of an entry is made at: the newest that the
// quorum has cosigned, if it covers the entry; else the published one, and the receipt is
// provisional.
func (s *Service) receiptHead(index uint64) *publishedHead {
	if s.public != nil {
		if h := s.public.cosigned.Load(); h != nil && index < h.head.Size {
			return &h.publishedHead
		}
	}
	return s.published.Load()
}

// waitCosigned waits until the quorum has cosigned a head with the entry. Nil: ctx ended
// before.
func (s *Service) waitCosigned(ctx context.Context, index uint64) *publishedHead {
	p := s.public
	for {
		p.mu.Lock()
		h, moved := p.cosigned.Load(), p.moved
		p.mu.Unlock()
		if h != nil && index < h.head.Size {
			return &h.publishedHead
		}
		if !waitFor(ctx, moved) {
			return nil
		}
	}
}
