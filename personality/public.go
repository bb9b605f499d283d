package personality

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
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
	// Policy is of this log, and has a quorum of witnesses with URLs. With "quorum none"
	// nobody is asked, and the log is one without witnesses.
	Policy *verifier.Policy
	// Every is how often a new head is offered to the witnesses, so that all of them, and all
	// who read the log, meet the same one. Default 1 s.
	Every time.Duration
	// Refresh is after how long a head that stays is cosigned afresh. Default 30 min.
	Refresh time.Duration
	// Patience is how long the quorum may be missing before it is lost. Default 1 min.
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
var ErrUnwitnessed = errors.New("the witnesses' quorum is lost")

// public is what a log with witnesses shows to everybody: the checkpoint that the store
// keeps. It is shown only once it is kept, durably, and it is moved by compare-and-swap,
// forward only. So it goes back neither in a crash nor between servers that share the store.
type public struct {
	cfg    WitnessConfig
	asker  *witnesses.Asker
	before []witnesses.Known // what the witnesses had when this process started

	shown    atomic.Pointer[publicHead] // what is kept, as far as this process knows
	cosigned atomic.Pointer[publicHead] // the newest with the quorum

	mu      sync.Mutex
	moved   chan struct{} // closed when cosigned has moved
	missing time.Time     // since when a head has waited for the quorum; zero: none does
	others  time.Time     // when another process moved cosigned last
}

// publicHead is a head with the cosignatures that it has.
type publicHead struct {
	publishedHead
	quorum   bool
	cosigned time.Time // when the newest of its cosignatures was made, at the latest when it was seen here; zero: it has none
	number   int       // of cosignatures
	asked    time.Time // when the witnesses were, by this machine's clock, as far as that is known
}

// after reports whether h takes the place of another public head: it is larger; or the same,
// and cosigned by the quorum, later; or by more while there is no quorum.
func (h *publicHead) after(o *publicHead) bool {
	switch {
	case o == nil || h.head.Size != o.head.Size:
		return o == nil || h.head.Size > o.head.Size
	case h.quorum != o.quorum:
		return h.quorum
	case h.quorum:
		return h.cosigned.After(o.cosigned)
	}
	return h.number > o.number
}

func newPublicHead(note []byte, c verifier.Checkpoint, who verifier.Witnesses) *publicHead {
	h := &publicHead{
		publishedHead: publishedHead{head: pubstore.Head{Size: c.Size, Root: c.Root}, note: note},
		quorum:        who.Status == verifier.Quorum, number: len(who.Cosigned),
	}
	now := time.Now()
	for _, sig := range who.Cosigned {
		at := sig.Time
		if at.After(now) {
			at = now // one witness that dates ahead would else keep the others' later ones from being shown
		}
		if at.After(h.cosigned) {
			h.cosigned = at
		}
	}
	h.asked = h.cosigned
	return h
}

// newPublic returns nil where no witness is needed.
func (s *Service) newPublic(c *WitnessConfig) (*public, error) {
	if c == nil {
		return nil, nil
	}
	if c.Policy == nil {
		return nil, &InvalidError{Field: "Witnesses.Policy", Expected: "a policy"}
	}
	if c.Policy.Origin() != s.params.Origin {
		return nil, fmt.Errorf("the witness policy is of the log %q, and this is %q", c.Policy.Origin(), s.params.Origin)
	}
	if !c.Policy.RequiresWitnesses() {
		if named := len(c.Policy.Witnesses()); named > 0 {
			s.log.Warn("the policy's quorum is none: its witnesses aren't asked", "witnesses", named)
		}
		return nil, nil
	}
	p := &public{cfg: c.withDefaults(), moved: make(chan struct{})}
	s.cfg.Metrics.lost.show(p.cfg.Closed, func() bool { _, lost := p.lacking(); return lost })
	var err error
	p.asker, err = witnesses.New(witnesses.Config{
		Policy: c.Policy, Prove: s.ProveConsistency, Check: s.checkKnown, AllowHTTP: c.AllowHTTP, Logger: s.log, Asked: s.cfg.Metrics.asked,
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// knownPatience bounds how long a start waits for what the witnesses have seen. A witness that
// takes longer is looked at before it is asked.
const knownPatience = 5 * time.Second

// askBefore asks the witnesses what they have seen of this log, before its head is read: so
// the head can't be behind but where the store is.
func (s *Service) askBefore(ctx context.Context) {
	if s.public == nil {
		return
	}
	ctx, stop := context.WithTimeout(ctx, knownPatience)
	defer stop()
	s.public.before = s.public.asker.Known(ctx)
}

// checkWitnesses compares the head with what the witnesses had seen of this log (I3).
func (s *Service) checkWitnesses(ctx context.Context, head pubstore.Head) error {
	if s.public == nil {
		return nil
	}
	for _, k := range s.public.before {
		if err := s.checkSigned(ctx, head, k.Head, k.Note, "cosigned by the witness at "+k.Witness); err != nil {
			return err
		}
	}
	return nil
}

// checkKnown compares a witness's head with the newest one, while the log goes on (I3).
func (s *Service) checkKnown(ctx context.Context, k witnesses.Known) error {
	release, err := s.use()
	if err != nil {
		return err
	}
	defer release()
	if err := s.refusing(); err != nil {
		return err
	}
	if s.shared() { // another process may have published what the witness has seen
		if err := s.followHead(ctx); err != nil {
			return err
		}
	}
	return s.checkSigned(ctx, s.published.Load().head, k.Head, k.Note, "cosigned by the witness at "+k.Witness)
}

// checkSigned refuses a store that doesn't lead to a head which this log has signed (I3). The
// note is evidence: it is logged.
func (s *Service) checkSigned(ctx context.Context, head pubstore.Head, signed verifier.Checkpoint, note []byte, says string) error {
	if signed.Size > head.Size {
		s.log.Error("the store is behind a head that was signed", "size", head.Size, "signed", string(note), "says", says)
		return s.olderCopy(head.Size, signed.Size, says)
	}
	r, err := rangeAt(ctx, s.store, signed.Size)
	if err != nil {
		return s.damaged(signed.Size, err)
	}
	root, err := rootOf(r)
	if err != nil {
		return err
	}
	if root != signed.Root {
		s.log.Error("the store differs from a head that was signed", "root", fmt.Sprintf("%x", root), "signed", string(note), "says", says)
		return s.refuse(fmt.Sprintf("root %x has been signed at size %d (%s), but the store has %x there: it holds another history. "+
			"Close this log and begin a successor under another origin", signed.Root, signed.Size, says, root), errRoot)
	}
	return nil
}

// syncPublic shows the checkpoint that the store keeps, and returns it; nil if there is none.
func (s *Service) syncPublic(ctx context.Context) ([]byte, error) {
	kept, err := s.store.Checkpoint(ctx) // first: the head may move in between, and what is kept after it
	if err != nil && !errors.Is(err, pubstore.ErrNotFound) {
		return nil, err
	}
	if s.shared() {
		if err := s.followHead(ctx); err != nil {
			return nil, err
		}
	}
	return kept, s.adoptKept(ctx, kept)
}

// adoptKept shows a checkpoint that was found in the store. The published head was read after it.
func (s *Service) adoptKept(ctx context.Context, kept []byte) error {
	if cur := s.public.shown.Load(); kept == nil || cur != nil && bytes.Equal(cur.note, kept) {
		return nil
	}
	c, who, ok := s.public.verifies(kept)
	if !ok {
		return nil // it is nothing to show: the next one takes its place
	}
	err := s.checkSigned(ctx, s.published.Load().head, c, kept, "by the checkpoint that is kept")
	if err == nil {
		err = s.store.Sync(ctx) // keeping it may have failed after it was written
	}
	if err == nil {
		s.show(newPublicHead(kept, c, who), true)
	}
	return err
}

// verifies reports whether anybody with the policy would take a checkpoint.
func (p *public) verifies(note []byte) (verifier.Checkpoint, verifier.Witnesses, bool) {
	c, who, err := p.cfg.Policy.Verify(note)
	return c, who, err == nil
}

// showKept shows the checkpoint that is kept, at start.
func (s *Service) showKept(ctx context.Context) error {
	var err error
	if s.public != nil && s.refusing() == nil {
		_, err = s.syncPublic(ctx)
		s.public.resume(s.published.Load())
	}
	return s.asRefusal(err)
}

// resume has a log that takes nothing without the quorum go on as it ended: if the quorum was missing
// then it still is, until a witness has been asked. Else each restart would give it the patience anew.
func (p *public) resume(at *publishedHead) {
	h := p.cosigned.Load()
	if !p.cfg.Closed || at == nil || h == nil || p.isFresh(at.head.Size) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.missing = h.asked
}

// keepPublic keeps a head in the store, for all processes, and shows it; unless a newer one is
// kept, which is shown then.
func (s *Service) keepPublic(ctx context.Context, h *publicHead) error {
	for range maxSwaps {
		kept, err := s.syncPublic(ctx)
		if err != nil {
			return err
		}
		if !h.after(s.public.shown.Load()) {
			return nil
		}
		err = s.store.PutCheckpoint(ctx, kept, h.note)
		if errors.Is(err, pubstore.ErrCheckpointMoved) {
			continue
		}
		if err == nil {
			err = s.store.Sync(ctx)
		}
		if err != nil {
			return err
		}
		s.show(h, false)
		return nil
	}
	return pubstore.ErrCheckpointMoved
}

// show moves the public head, forward only.
func (s *Service) show(h *publicHead, others bool) {
	p := s.public
	p.mu.Lock()
	defer p.mu.Unlock()
	if h.after(p.shown.Load()) {
		p.shown.Store(h)
	}
	if !h.quorum || !h.after(p.cosigned.Load()) {
		return
	}
	p.cosigned.Store(h)
	close(p.moved)
	p.moved = make(chan struct{})
	if others && s.shared() { // else it is what this log had kept before it started
		p.others = time.Now()
	}
	s.cfg.Metrics.witnessed.Set(float64(h.head.Size))
	s.cfg.Metrics.quorum.Set(float64(h.cosigned.Unix()))
	s.log.Debug("the quorum has cosigned", slog.Uint64("size", h.head.Size), slog.Int("cosignatures", h.number))
}

// publicCheckpoint returns the checkpoint that everybody is shown; nil if there is none yet.
func (s *Service) publicCheckpoint(ctx context.Context) []byte {
	at := s.head(ctx) // what another process has shown isn't taken back
	if s.public == nil {
		return at.note
	}
	if h := s.public.shown.Load(); h != nil {
		return h.note
	}
	if s.refusing() != nil {
		return at.note // the one that is kept, whatever is wrong
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
// before, or the log was closed.
func (s *Service) waitCosigned(ctx context.Context, index uint64) *publishedHead {
	p := s.public
	for {
		p.mu.Lock()
		h, moved := p.cosigned.Load(), p.moved
		p.mu.Unlock()
		if h != nil && index < h.head.Size {
			return &h.publishedHead
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return nil
		case <-s.closing:
			return nil
		}
	}
}
