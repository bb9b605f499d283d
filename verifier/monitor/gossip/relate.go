package gossip

import (
	"context"
	"errors"
	"fmt"

	"github.com/prooftrail/prooftrail/verifier"
)

// Head is a head and the note, signed by the log, that it was read from.
type Head struct {
	Checkpoint verifier.Checkpoint
	Note       []byte
}

// Relate proves, from the log's tiles, whether two of its heads are of one history. Both notes
// are the log's; that is for the caller to have checked.
//
// No evidence and no error: they are. Evidence and no error: they are not, and it convicts the log. With an
// error nothing is proven: evidence beside it is what the tiles led to, which fits neither, and no evidence
// means that the proof could not be had. Cost: a few tiles.
func Relate(ctx context.Context, p *verifier.Policy, tiles verifier.TileReader, a, b Head) (*verifier.Evidence, error) {
	first, second := a.Checkpoint, b.Checkpoint
	if first.Size > second.Size {
		first, second = second, first
	}
	err := error(nil)
	switch {
	case first == second, first.Size == 0: // every log extends the empty one
		return nil, nil
	case first.Size < second.Size:
		var proof []verifier.Hash
		if proof, err = verifier.ProveConsistency(ctx, tiles, first.Size, second.Size); err == nil {
			err = verifier.CheckConsistency(first.Size, second.Size, proof, first.Root, second.Root)
		}
		if err == nil {
			return nil, nil
		}
	}
	// Tiles that don't lead to one history may be anybody's fault. Those that lead to the larger
	// head, and not to the smaller one, are the log's.
	e, gathered := verifier.GatherEvidence(ctx, tiles, p, a.Note, b.Note)
	if gathered != nil {
		return nil, fmt.Errorf("no proof can be had from the log: %w", gathered)
	}
	if _, check := e.Check(p); check != nil {
		return e, fmt.Errorf("the log's tiles prove nothing: %w", errors.Join(err, check))
	}
	return e, nil
}

// ReadHead reads a note that the policy's log signed, whoever else did and whatever quorum the policy
// wants: that is enough to be held against the log. The error matches [verifier.ErrFailed].
func ReadHead(p *verifier.Policy, note []byte) (Head, error) {
	c, _, err := signedHead(p, note)
	return Head{c, note}, err
}

// signedHead is ReadHead; it also returns the note with the log's signature alone.
func signedHead(p *verifier.Policy, note []byte) (verifier.Checkpoint, []byte, error) {
	bare, err := p.Log().Bare(note)
	if err != nil {
		return verifier.Checkpoint{}, nil, err
	}
	c, _, err := p.Log().Verify(bare)
	return c, bare, err
}
