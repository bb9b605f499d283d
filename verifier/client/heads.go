package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"sync"

	"github.com/prooftrail/prooftrail/verifier"
)

// maxPendingHeads bounds how many heads are remembered until [Client.CheckHeads]
// proves them to belong to one history: some 400 bytes each.
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
	pending map[uint64]*signedHead // by size, those that CheckHeads has yet to prove
	dropped uint64                 // heads that no longer fitted into pending
}

// see records a head whose signatures hold.
func (h *heads) see(cp verifier.Checkpoint, note []byte) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, known := range []*signedHead{h.proven, h.newest, h.pending[cp.Size]} {
		if known == nil || known.checkpoint.Size != cp.Size {
			continue
		}
		if known.checkpoint.Root != cp.Root {
			return &EvidenceError{Older: known.note, Newer: bytes.Clone(note),
				Reason: fmt.Sprintf("two signed heads of size %d have different roots", cp.Size)}
		}
		return nil
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
	return nil
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

// chain returns the heads to be proven, by size; the first is proven already
// when there is one.
func (h *heads) chain() []*signedHead {
	h.mu.Lock()
	defer h.mu.Unlock()
	chain := make([]*signedHead, 0, len(h.pending)+1)
	for _, size := range slices.Sorted(maps.Keys(h.pending)) {
		chain = append(chain, h.pending[size])
	}
	if h.proven != nil {
		chain = append(chain, h.proven)
		slices.SortStableFunc(chain, func(a, b *signedHead) int {
			if a.checkpoint.Size < b.checkpoint.Size {
				return -1
			}
			return 1
		})
	}
	return chain
}

// prove records that all heads of the chain are of one history.
func (h *heads) prove(chain []*signedHead) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range chain {
		delete(h.pending, s.checkpoint.Size)
	}
	if last := chain[len(chain)-1]; h.proven == nil || last.checkpoint.Size > h.proven.checkpoint.Size {
		h.proven = last
	}
}

// HeadsReport is what CheckHeads found.
type HeadsReport struct {
	// Newest is the newest head, proven to extend all the others.
	Newest verifier.Checkpoint
	// Note is Newest as it was signed. Keep it, and hand it to the next client.
	Note []byte
	// Proven is how many heads this call has proven.
	Proven int
	// Dropped is how many heads weren't remembered, in the life of the client,
	// because more than 4096 came between two calls. Nothing is known of them.
	Dropped uint64
}

// CheckHeads asks the server for consistency proofs between all the heads that
// this client has seen since the last call, in the order of their sizes, and
// checks them: one request for each head. An *EvidenceError says that the log
// has shown two histories. A proof that can't be had proves nothing: the error
// then is what kept it away.
func (c *Client) CheckHeads(ctx context.Context) (HeadsReport, error) {
	if c.checker == nil {
		return HeadsReport{}, errNoPolicy
	}
	h := &c.checker.heads
	chain := h.chain()
	if len(chain) == 0 {
		return HeadsReport{}, errors.New("check heads: no head seen yet")
	}
	for i := 1; i < len(chain); i++ {
		if err := c.checkConsistent(ctx, chain[i-1], chain[i]); err != nil {
			return HeadsReport{}, err
		}
	}
	h.prove(chain)
	last := chain[len(chain)-1]
	h.mu.Lock()
	defer h.mu.Unlock()
	return HeadsReport{Newest: last.checkpoint, Note: last.note, Proven: len(chain), Dropped: h.dropped}, nil
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
		return &EvidenceError{Older: older.note, Newer: newer.note, Proof: c.forkProof(ctx, a.Size, b.Size, proof),
			Reason: fmt.Sprintf("the proof from size %d to size %d doesn't hold: %v", a.Size, b.Size, err)}
	}
	return nil
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
