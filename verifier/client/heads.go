package client

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"sync"

	"github.com/prooftrail/prooftrail/verifier"
)

// maxPendingHeads bounds how many heads are remembered until they are proven to
// belong to one history: some 400 bytes each.
const maxPendingHeads = 4096

// EvidenceError is proof that the log has shown two histories: two heads that
// can't both be of one append-only log, both signed. It matches
// [verifier.ErrFailed].
type EvidenceError struct {
	// Older and Newer are the signed notes. Of the same size: they prove it by
	// themselves.
	Older, Newer []byte
	// Proof is what the server gave to lead from Older's size to Newer's, as
	// [verifier.Evidence] holds it, when the sizes differ. That the server's own
	// proof doesn't hold is an accusation. It is proof only if it yields Newer's
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
type signedHead struct {
	checkpoint verifier.Checkpoint
	note       []byte
}

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
		if known == nil || known.checkpoint.Size != cp.Size {
			continue
		}
		if known.checkpoint.Root != cp.Root {
			e := &EvidenceError{Older: known.note, Newer: bytes.Clone(note),
				Reason: fmt.Sprintf("two signed heads of size %d have different roots", cp.Size)}
			h.convict(e)
			return false, e
		}
		return false, nil
	}
	s := &signedHead{cp, bytes.Clone(note)}
	if h.newest == nil || cp.Size > h.newest.checkpoint.Size {
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

// chain returns heads to be proven, by size, at most so many if most isn't 0: the
// newest, and others by chance. A head that is proven already is among them when
// there is one.
func (h *heads) chain(most int) []*signedHead {
	h.mu.Lock()
	defer h.mu.Unlock()
	var chain []*signedHead
	if h.newest != nil && h.pending[h.newest.checkpoint.Size] == h.newest {
		chain = append(chain, h.newest)
	}
	for _, s := range h.pending {
		if most > 0 && len(chain) >= most {
			break
		}
		if s != h.newest {
			chain = append(chain, s)
		}
	}
	if h.proven != nil {
		chain = append(chain, h.proven)
	}
	slices.SortFunc(chain, func(a, b *signedHead) int { return cmp.Compare(a.checkpoint.Size, b.checkpoint.Size) })
	return chain
}

// prove records that all heads of the chain are of one history.
func (h *heads) prove(chain []*signedHead) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range chain {
		if h.pending[s.checkpoint.Size] == s {
			delete(h.pending, s.checkpoint.Size)
			h.total++
		}
	}
	if last := chain[len(chain)-1]; h.proven == nil || last.checkpoint.Size > h.proven.checkpoint.Size {
		h.proven = last
	}
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

// CheckHeads asks the server for consistency proofs between all the heads that
// this client has seen and that aren't proven yet, in the order of their sizes, and
// checks them: one request for each head. An *EvidenceError says that the log
// has shown two histories. A proof that can't be had proves nothing: the error
// then is what kept it away.
//
// The same is done in the background ([Config].CheckEvery). A program that is about to
// end, and one that wants to know now, calls it.
func (c *Client) CheckHeads(ctx context.Context) (HeadsReport, error) {
	if c.checker == nil {
		return HeadsReport{}, errNoPolicy
	}
	r, err := c.checkHeads(ctx, 0)
	if err == nil {
		err = c.saveHeads()
	}
	return r, err
}

// checkHeads is CheckHeads for at most so many heads, all if most is 0. Only one runs at
// a time.
func (c *Client) checkHeads(ctx context.Context, most int) (HeadsReport, error) {
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
	chain := h.chain(most)
	if len(chain) == 0 {
		return HeadsReport{}, errors.New("check heads: no head seen yet")
	}
	if err := c.checkChain(ctx, chain); err != nil {
		return HeadsReport{}, err
	}
	h.prove(chain)
	last := chain[len(chain)-1]
	h.mu.Lock()
	defer h.mu.Unlock()
	return HeadsReport{Newest: last.checkpoint, Note: last.note, Proven: h.total, Dropped: h.dropped}, nil
}

// checkChain checks each head against the one before. A proof that doesn't hold needn't
// convict: the server can't lead to a head that isn't of the history that it shows now. Then the
// next one may, which is, and whose proof that head doesn't fit.
func (c *Client) checkChain(ctx context.Context, chain []*signedHead) (accusation error) {
	for i := 1; i < len(chain); i++ {
		err := c.checkConsistent(ctx, chain[i-1], chain[i])
		var evidence *EvidenceError
		switch {
		case err == nil:
		case !errors.As(err, &evidence), c.checker.heads.verdict() != nil:
			return cmp.Or(c.checker.heads.verdict(), accusation, err)
		case accusation == nil:
			accusation = err
		}
	}
	return accusation
}

func (c *Client) checkConsistent(ctx context.Context, older, newer *signedHead) error {
	a, b := older.checkpoint, newer.checkpoint
	var proof []verifier.Hash
	if a.Size > 0 {
		var err error
		if proof, err = c.ConsistencyProof(ctx, a.Size, b.Size); err != nil {
			return fmt.Errorf("check heads %d and %d: %w", a.Size, b.Size, err)
		}
	}
	if err := verifier.CheckConsistency(a.Size, b.Size, proof, a.Root, b.Root); err != nil {
		e := &EvidenceError{Older: older.note, Newer: newer.note, Proof: c.forkProof(ctx, a.Size, b.Size, proof),
			Reason: fmt.Sprintf("the proof from size %d to size %d doesn't hold: %v", a.Size, b.Size, err)}
		if _, err := e.Evidence().Check(c.cfg.Policy); err == nil {
			c.convict(e)
		}
		return e
	}
	return nil
}

// convict remembers evidence that proves a fork.
func (c *Client) convict(e *EvidenceError) {
	h := &c.checker.heads
	h.mu.Lock()
	defer h.mu.Unlock()
	h.convict(e)
}

// forkProof makes the proof of [verifier.Evidence] from a consistency proof. At a
// power of two m that lacks the root of the first m leaves, which whoever checks
// consistency is expected to have. The inclusion proof of entry m holds it: below
// it are the hashes of leaves behind m, above it those that the consistency proof
// ends with, all but its first. If it can't be had, the proof stays as it is.
func (c *Client) forkProof(ctx context.Context, m, n uint64, consistency []verifier.Hash) []verifier.Hash {
	if bits.OnesCount64(m) != 1 || m >= n {
		return consistency
	}
	inclusion, err := c.inclusionProof(ctx, m, n)
	at := len(inclusion) - len(consistency)
	if err != nil || at < 0 || at >= len(inclusion) {
		return consistency
	}
	return append([]verifier.Hash{inclusion[at]}, consistency...)
}

var errNoPolicy = errors.New("client: nothing can be checked without a policy")
