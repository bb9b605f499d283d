package verifier

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
)

// Evidence is two signed heads of one log that don't go together. Whoever holds the log's
// public key can check it, offline: [Evidence.Check]. Its text form, a file, is docs/spec/evidence.md:
// [ParseEvidence], [Evidence.Text].
type Evidence struct {
	// First is the signed note with the smaller (or an equal) size, Second the other one.
	First, Second []byte
	// Proof is SUBPROOF(m, D[n], false) of RFC 6962, section 2.1.2, for First's size m and
	// Second's size n: what leads from the root of the first m leaves of Second's tree to
	// Second's root. It is the consistency proof, at most MaxProofHashes hashes; but where m is
	// a power of two, the root of those m leaves stands before it. For equal sizes it is empty.
	// Where it is missing, the notes accuse, but don't prove.
	Proof []Hash
}

// Fork is what evidence proves: the log signed two heads, and no log has both.
type Fork struct {
	Origin string   `json:"origin"`
	First  ForkHead `json:"first"`
	Second ForkHead `json:"second"`
	// Prefix is the root, in base64, that Second's tree has at First's size. It isn't
	// First's.
	Prefix string `json:"prefix_root"`
	// CosignedBoth are the names of the policy's witnesses that cosigned both heads. What such
	// a witness vouches for can't be true either.
	CosignedBoth []string `json:"cosigned_both,omitempty"`
}

// ForkHead is one of the two heads, and who else has signed it.
type ForkHead struct {
	Size     uint64        `json:"size"`
	Root     string        `json:"root"`               // base64
	Cosigned []Cosignature `json:"cosigned,omitempty"` // of the policy's witnesses, each verified
	// Wrong are the policy's names of witnesses with a cosignature that isn't good. It counts
	// for nothing, neither for the witness nor against the evidence.
	Wrong []string `json:"wrong_cosignatures,omitempty"`
}

// Check says what the evidence proves under a policy's log key. The error is nil only if the
// log signed two histories: both texts carry its signature, and the proof yields Second's
// root but not First's. Every other error matches [ErrFailed] and says why nothing is
// proven. Quorums don't matter: the log's own signature convicts it.
//
// Unlike [Policy.Verify] it demands of a note no more than one good signature by the log. A log could
// else keep its heads from being used against it by adding a wrong line to them.
func (e *Evidence) Check(p *Policy) (*Fork, error) {
	first, a, err := p.forkHead(e.First)
	if err != nil {
		return nil, failedf("evidence: first note: %w", err)
	}
	second, b, err := p.forkHead(e.Second)
	if err != nil {
		return nil, failedf("evidence: second note: %w", err)
	}
	prefix, err := e.prefix(first, second)
	if err != nil {
		return nil, failedf("evidence: %w", err)
	}
	return &Fork{
		Origin: first.Origin, First: a, Second: b,
		Prefix: b64.EncodeToString(prefix[:]), CosignedBoth: inBoth(a.Cosigned, b.Cosigned),
	}, nil
}

// prefix returns the root that second's tree has at first's size, if it isn't first's.
func (e *Evidence) prefix(first, second Checkpoint) (Hash, error) {
	m, n := first.Size, second.Size
	switch {
	case m > n:
		return Hash{}, fmt.Errorf("the first head, of size %d, is larger than the second, of size %d: expected the smaller one first", m, n)
	case m == n && first.Root == second.Root:
		return Hash{}, fmt.Errorf("both notes are of the same head, of size %d: no fork", m)
	case m == n && len(e.Proof) > 0:
		return Hash{}, errors.New("a proof between two heads of one size, expected none")
	case m == n:
		return second.Root, nil
	case m == 0:
		return Hash{}, errors.New("every log extends the empty one: a head of size 0 proves nothing")
	case len(e.Proof) == 0:
		return Hash{}, fmt.Errorf("no proof: heads of two sizes, %d and %d, prove nothing without one", m, n)
	}
	return forkedPrefix(first, second, e.Proof)
}

// forkedPrefix returns the root that second's tree has at first's size, 0 < m < n, by a proof
// as [Evidence] holds it, if it isn't first's.
func forkedPrefix(first, second Checkpoint, path []Hash) (Hash, error) {
	verify := func(path []Hash, root1 Hash) error {
		return proof.VerifyConsistency(rfc6962.DefaultHasher, first.Size, second.Size, byteSlices(path), root1[:], second.Root[:])
	}
	prefix := path[0]
	if bits.OnesCount64(first.Size) == 1 {
		path = path[1:]
	} else {
		// Which root the proof leads to from the first leaves, the library says when it isn't the
		// one that was expected.
		var other proof.RootMismatchError
		switch err := verify(path, first.Root); {
		case err == nil:
			prefix = first.Root
		case errors.As(err, &other):
			prefix = Hash(other.CalculatedRoot)
		default:
			return Hash{}, fmt.Errorf("no proof between sizes %d and %d: %w", first.Size, second.Size, err)
		}
	}
	if err := verify(path, prefix); err != nil {
		return Hash{}, fmt.Errorf("the proof doesn't yield the root of the second head, so it proves nothing: %w", merkleError(err))
	}
	if prefix == first.Root {
		return Hash{}, fmt.Errorf("the proof yields both roots: the head of size %d extends that of size %d, no fork", second.Size, first.Size)
	}
	return prefix, nil
}

// forkHead reads a note as [Evidence.Check] does.
func (p *Policy) forkHead(signedNote []byte) (Checkpoint, ForkHead, error) {
	c, text, sigs, err := p.signedByLog(signedNote)
	if err != nil {
		return Checkpoint{}, ForkHead{}, err
	}
	h := ForkHead{Size: c.Size, Root: b64.EncodeToString(c.Root[:])}
	for _, s := range sigs {
		i := p.find(s)
		if i < 0 {
			continue
		}
		w := p.witnesses[i]
		t, err := w.key.checkCosignature(c, text, s.sig)
		if err != nil {
			h.Wrong = append(h.Wrong, w.name)
		} else if t.Unix() <= lastSecond {
			h.Cosigned = append(h.Cosigned, Cosignature{w.name, s.name, t})
		}
	}
	return c, h, nil
}

// signedByLog opens a note that the policy's log has signed, whoever else did. Of several
// lines with the log's key one has to be good.
func (p *Policy) signedByLog(signedNote []byte) (Checkpoint, string, []signature, error) {
	text, sigs, err := splitNote(signedNote)
	if err != nil {
		return Checkpoint{}, "", nil, err
	}
	if _, err := p.log.findAny(text, sigs); err != nil {
		return Checkpoint{}, "", nil, err
	}
	c, err := p.log.parse(text)
	if err != nil {
		return Checkpoint{}, "", nil, err
	}
	return c, text, sigs, nil
}

// inBoth returns the names of the witnesses that are in both lists, each once.
func inBoth(a, b []Cosignature) (names []string) {
	for _, c := range a {
		same := func(o Cosignature) bool { return o.Witness == c.Witness }
		if slices.ContainsFunc(b, same) && !slices.Contains(names, c.Witness) {
			names = append(names, c.Witness)
		}
	}
	return names
}

// GatherEvidence puts two notes that the policy's log has signed in order and fetches the
// proof from the tiles of the larger tree. A nil error doesn't mean that the evidence proves
// a fork: see [Evidence.Check]. An error of the tiles comes with the evidence without a
// proof.
func GatherEvidence(ctx context.Context, r TileReader, p *Policy, a, b []byte) (*Evidence, error) {
	first, _, _, err := p.signedByLog(a)
	if err != nil {
		return nil, failedf("gather evidence: %w", err)
	}
	second, _, _, err := p.signedByLog(b)
	if err != nil {
		return nil, failedf("gather evidence: %w", err)
	}
	if first.Size > second.Size {
		a, b, first, second = b, a, second, first
	}
	e := &Evidence{First: a, Second: b}
	if first.Size == 0 || first.Size == second.Size {
		return e, nil
	}
	e.Proof, err = proveFork(ctx, r, first.Size, second.Size)
	return e, err
}

// proveFork makes the proof of [Evidence] between two sizes, 0 < m < n, from tiles of n.
// [forkedPrefix] is its counterpart.
func proveFork(ctx context.Context, r TileReader, m, n uint64) ([]Hash, error) {
	path, err := ProveConsistency(ctx, r, m, n)
	if err != nil || bits.OnesCount64(m) > 1 {
		return path, err
	}
	whole, err := nodesFromTiles(ctx, r, []compact.NodeID{compact.NewNodeID(uint(bits.TrailingZeros64(m)), 0)}, n)
	if err != nil {
		return nil, fmt.Errorf("prove a fork at %d from %d: %w", m, n, err)
	}
	return append(whole, path...), nil
}
