package client

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/monitor/gossip"
)

// maxPendingHeads bounds how many heads are remembered until they are proven to
// belong to one history: some 400 bytes each.
const maxPendingHeads = 4096

// EvidenceError says that the log has shown two histories: two heads that don't go
// together, both signed. It matches [verifier.ErrFailed].
type EvidenceError struct {
	// Older and Newer are the signed notes. Of the same size: they prove it by
	// themselves.
	Older, Newer []byte
	// Proof is what the log's tiles, or a monitor, gave to lead from Older's size to
	// Newer's, as [verifier.Evidence] holds it, when the sizes differ. That the log's own
	// tiles don't lead there is an accusation. It is proof only if it yields Newer's
	// root: see Evidence.
	Proof []verifier.Hash
	// Reason says what doesn't fit.
	Reason string
}

func (e *EvidenceError) Error() string {
	return "the log contradicts itself: " + e.Reason
}

// Evidence is what others can check, offline: it says by [verifier.Evidence.Check]
// whether it proves anything to them, and its text is an evidence file.
func (e *EvidenceError) Evidence() *verifier.Evidence {
	return &verifier.Evidence{First: e.Older, Second: e.Newer, Proof: e.Proof}
}

// Unwrap gives [verifier.ErrFailed].
func (e *EvidenceError) Unwrap() error { return verifier.ErrFailed }

// signedHead is a head and the note that it was read from.
type signedHead = gossip.Head

// heads remembers the heads seen. The zero value has seen none.
type heads struct {
	mu      sync.Mutex
	proven  *signedHead            // the newest of those that are proven to be one history
	newest  *signedHead            // the newest seen
	pending map[uint64]*signedHead // by size, those that are yet to be proven
	dropped uint64                 // heads that no longer fitted into pending
	total   int                    // how many were proven

	convicted *EvidenceError // the first one that proves a fork: from then on the log is believed nothing

	fresh func() // if set, called when there is a head to prove; it must not wait
}

// see records a head whose signatures hold.
func (h *heads) see(cp verifier.Checkpoint, note []byte) error {
	fresh, err := h.record(cp, note)
	if fresh && h.fresh != nil && h.unproven() {
		h.fresh()
	}
	return err
}

// record does see's work, and reports whether the head is a new one.
func (h *heads) record(cp verifier.Checkpoint, note []byte) (fresh bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, known := range []*signedHead{h.proven, h.newest, h.pending[cp.Size]} {
		if known == nil || known.Checkpoint.Size != cp.Size {
			continue
		}
		if known.Checkpoint.Root != cp.Root {
			e := &EvidenceError{Older: known.Note, Newer: bytes.Clone(note),
				Reason: fmt.Sprintf("two signed heads of size %d have different roots", cp.Size)}
			h.convict(e)
			return false, e
		}
		return false, nil
	}
	s := &signedHead{Checkpoint: cp, Note: bytes.Clone(note)}
	if h.newest == nil || cp.Size > h.newest.Checkpoint.Size {
		h.newest = s
	}
	if h.pending == nil {
		h.pending = make(map[uint64]*signedHead)
	}
	if len(h.pending) >= maxPendingHeads {
		h.dropOne()
	}
	h.pending[cp.Size] = s
	return true, nil
}

// convict remembers evidence that proves a fork. h.mu is held.
func (h *heads) convict(e *EvidenceError) {
	if h.convicted == nil {
		h.convicted = e
	}
}

// verdict returns the evidence that convicts the log, if there is any.
func (h *heads) verdict() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.convicted == nil {
		return nil
	}
	return h.convicted
}

// unproven reports whether there are heads to prove.
func (h *heads) unproven() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.pending) > 0 && h.convicted == nil
}

// head returns the newest head seen, nil if there is none.
func (h *heads) head() *signedHead {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.newest
}

// dropOne forgets some head other than the newest. Which one is left to the
// map's random order: nobody can predict what is still remembered.
func (h *heads) dropOne() {
	for size, s := range h.pending {
		if s != h.newest {
			delete(h.pending, size)
			h.dropped++
			return
		}
	}
}

// toProve returns the newest head and those to be proven against it, in no order; but one that is proven
// already is the first, when there is one that isn't the newest.
func (h *heads) toProve() (newest *signedHead, rest []*signedHead) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.proven != nil && h.proven != h.newest {
		rest = append(rest, h.proven)
	}
	for _, s := range h.pending {
		if s != h.newest {
			rest = append(rest, s)
		}
	}
	return h.newest, rest
}

// prove records heads that were proven to be of one history with newest, and so with what was
// proven before.
func (h *heads) prove(newest *signedHead, rest []*signedHead) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range append(rest, newest) {
		if size := s.Checkpoint.Size; h.pending[size] == s {
			delete(h.pending, size)
			h.total++
		}
	}
	h.proven = newest // only checkHeads comes here, one at a time: never a smaller one
}

// HeadsReport is what CheckHeads found.
type HeadsReport struct {
	// Newest is the newest head, proven to extend all the others.
	Newest verifier.Checkpoint
	// Note is Newest as it was signed. [Config].HeadsFile keeps it for the next client.
	Note []byte
	// Proven is how many heads were proven in the life of the client.
	Proven int
	// Dropped is how many heads weren't remembered, in the life of the client,
	// because more than 4096 came between two calls. Nothing is known of them.
	Dropped uint64
}

// CheckHeads has all heads that this client has seen, and that aren't proven yet, proven to be of one
// history with the newest one. It makes the proofs from the log's tiles, which many heads share: some
// requests for a few heads, and few more for many that are close together. An
// *EvidenceError says that the log has shown two histories. A proof that can't be had proves
// nothing: the error then is what kept it away.
//
// The same is done in the background ([Config].CheckEvery). A program that is about to
// end, and one that wants to know now, calls it.
func (c *Client) CheckHeads(ctx context.Context) (HeadsReport, error) {
	if c.checker == nil {
		return HeadsReport{}, errNoPolicy
	}
	r, err := c.checkHeads(ctx, math.MaxInt)
	if err == nil {
		err = c.saveHeads()
	}
	return r, err
}

// checkHeads is CheckHeads with at most so many requests: heads that it can't prove with these are left
// to the next one. Only one runs at a time.
func (c *Client) checkHeads(ctx context.Context, requests int) (HeadsReport, error) {
	select {
	case c.checking <- struct{}{}:
		defer func() { <-c.checking }()
	case <-ctx.Done():
		return HeadsReport{}, ctx.Err()
	}
	h := &c.checker.heads
	if err := h.verdict(); err != nil {
		return HeadsReport{}, err
	}
	newest, rest := h.toProve()
	if newest == nil {
		return HeadsReport{}, errors.New("check heads: no head seen yet")
	}
	done, err := c.relateAll(ctx, newest, rest, requests)
	if err != nil {
		return HeadsReport{}, err
	}
	h.prove(newest, done)
	h.mu.Lock()
	defer h.mu.Unlock()
	return HeadsReport{Newest: newest.Checkpoint, Note: newest.Note, Proven: h.total, Dropped: h.dropped}, nil
}

// relateAll proves heads to be of one history with the newest one, and returns those that it could with
// so many requests. One that convicts the log ends it. Of one that only accuses it the others may
// still convict: the server can't lead to a head that isn't of the history that it shows now.
func (c *Client) relateAll(ctx context.Context, newest *signedHead, rest []*signedHead, requests int) (done []*signedHead, accusation error) {
	tiles := &fewTiles{r: verifier.Tiles(logFiles{c}), left: requests, known: map[verifier.Tile][]byte{}}
	for i, s := range rest {
		e, err := gossip.Relate(ctx, c.cfg.Policy, tiles, *s, *newest)
		switch {
		case e == nil && err == nil:
			done = append(done, s)
		case errors.Is(err, errEnough) && i > 0:
			return done, accusation
		case e == nil:
			return nil, cmp.Or(accusation, fmt.Errorf("check heads %d and %d: %w", s.Checkpoint.Size, newest.Checkpoint.Size, err))
		case err == nil:
			reason := fmt.Sprintf("the tree of the signed head of size %d doesn't extend that of size %d", newest.Checkpoint.Size, s.Checkpoint.Size)
			return nil, c.convict(&EvidenceError{Older: e.First, Newer: e.Second, Proof: e.Proof, Reason: reason})
		case accusation == nil:
			accusation = &EvidenceError{Older: e.First, Newer: e.Second, Proof: e.Proof,
				Reason: fmt.Sprintf("from size %d to size %d: %v", s.Checkpoint.Size, newest.Checkpoint.Size, err)}
		}
	}
	return done, accusation
}

// convict remembers evidence that proves a fork, and returns it, or what was there before.
func (c *Client) convict(e *EvidenceError) error {
	h := &c.checker.heads
	h.mu.Lock()
	defer h.mu.Unlock()
	h.convict(e)
	return h.convicted
}

// errEnough: so many requests were made.
var errEnough = errors.New("enough tiles were asked for")

// fewTiles reads each tile once, and not more than so many.
type fewTiles struct {
	r     verifier.TileReader
	left  int
	known map[verifier.Tile][]byte
}

// ReadTile implements [verifier.TileReader], for one goroutine.
func (f *fewTiles) ReadTile(ctx context.Context, t verifier.Tile) ([]byte, error) {
	if b, ok := f.known[t]; ok {
		return b, nil
	}
	if f.left <= 0 {
		return nil, errEnough
	}
	f.left--
	b, err := f.r.ReadTile(ctx, t)
	if err == nil {
		f.known[t] = b
	}
	return b, err
}

var errNoPolicy = errors.New("client: nothing can be checked without a policy")
