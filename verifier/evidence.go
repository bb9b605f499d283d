package verifier

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/bits"

	"github.com/transparency-dev/merkle/compact"
)

// Evidence is two signed heads of one log that don't go together. Whoever holds the log's
// public key can check it, offline: [Evidence.Check].
type Evidence struct {
	// First is the signed note with the smaller (or an equal) size, Second the other one.
	First, Second []byte
	// Proof holds hashes of the tree of Second, of complete subtrees from left to right: first
	// those that the leaves of First are made of, then those of the leaves after them. For
	// equal sizes it is empty. Without it the notes accuse, but don't prove.
	Proof []Hash
}

// Check returns nil if the evidence proves that the log signed two histories: both notes
// carry the log's signature, and the proof yields Second's root but not First's. A proof
// that yields neither proves nothing.
func (e *Evidence) Check(p *Policy) error {
	first, _, err := p.Verify(e.First)
	if err != nil {
		return fmt.Errorf("evidence: first note: %w", err)
	}
	second, _, err := p.Verify(e.Second)
	if err != nil {
		return fmt.Errorf("evidence: second note: %w", err)
	}
	return e.prove(first, second)
}

func (e *Evidence) prove(first, second Checkpoint) error {
	if first.Size == second.Size {
		if first.Root == second.Root {
			return errors.New("evidence: the heads are the same")
		}
		if len(e.Proof) > 0 {
			return errors.New("evidence: a proof between heads of one size")
		}
		return nil
	}
	if first.Size > second.Size {
		return errors.New("evidence: the first head is larger than the second")
	}
	n := bits.OnesCount64(first.Size)
	rest := compact.RangeNodes(first.Size, second.Size, nil)
	if len(e.Proof) != n+len(rest) {
		return errors.New("evidence: wrong number of hashes")
	}
	tree, err := NewCompactRange(first.Size, e.Proof[:n])
	if err != nil {
		return fmt.Errorf("evidence: %w", err)
	}
	if tree.Root() == first.Root {
		return errors.New("evidence: the proof yields the root of the first head: no fork")
	}
	for i, id := range rest {
		if err := tree.AppendSubtree(e.Proof[n+i], int(id.Level)); err != nil {
			return fmt.Errorf("evidence: %w", err)
		}
	}
	if tree.Root() != second.Root {
		return errors.New("evidence: the proof doesn't yield the root of the second head: nothing is proven")
	}
	return nil
}

// GatherEvidence puts two verified notes in order and fetches the proof from the tiles of
// the larger tree. A nil error doesn't mean that the evidence proves a fork: see
// [Evidence.Check].
func GatherEvidence(ctx context.Context, r TileReader, p *Policy, a, b []byte) (*Evidence, error) {
	first, _, err := p.Verify(a)
	if err != nil {
		return nil, err
	}
	second, _, err := p.Verify(b)
	if err != nil {
		return nil, err
	}
	if first.Size > second.Size {
		a, b, first, second = b, a, second, first
	}
	e := &Evidence{First: a, Second: b}
	if first.Size == second.Size {
		return e, nil
	}
	ids := compact.RangeNodes(0, first.Size, nil)
	ids = compact.RangeNodes(first.Size, second.Size, ids)
	e.Proof, err = nodesFromTiles(ctx, r, ids, second.Size)
	return e, err
}

// evidenceJSON is the wire form: notes as text, hashes in base64.
type evidenceJSON struct {
	First  string   `json:"first"`
	Second string   `json:"second"`
	Proof  []string `json:"proof,omitempty"`
}

// MarshalJSON writes `{"first": note, "second": note, "proof": [base64…]}`.
func (e *Evidence) MarshalJSON() ([]byte, error) {
	return json.Marshal(evidenceJSON{string(e.First), string(e.Second), encodeHashes(e.Proof)})
}

// UnmarshalJSON reads what MarshalJSON wrote, and no other members.
func (e *Evidence) UnmarshalJSON(b []byte) error {
	var j evidenceJSON
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&j); err != nil {
		return fmt.Errorf("evidence: %w", err)
	}
	proof, err := decodeHashes(j.Proof)
	if err != nil {
		return fmt.Errorf("evidence: %w", err)
	}
	*e = Evidence{First: []byte(j.First), Second: []byte(j.Second), Proof: proof}
	return nil
}

func encodeHashes(hs []Hash) []string {
	out := make([]string, len(hs))
	for i := range hs {
		out[i] = b64.EncodeToString(hs[i][:])
	}
	return out
}

func decodeHashes(ss []string) ([]Hash, error) {
	if len(ss) > 2*MaxProofHashes {
		return nil, fmt.Errorf("%d hashes, at most %d", len(ss), 2*MaxProofHashes)
	}
	out := make([]Hash, len(ss))
	for i, s := range ss {
		h, err := parseHash(s)
		if err != nil {
			return nil, fmt.Errorf("hash %d: %w", i, err)
		}
		out[i] = h
	}
	return out, nil
}
