package monitor

import (
	"context"
	"errors"
	"fmt"

	"github.com/prooftrail/prooftrail/verifier"
)

// compare brings two signed heads of one log together. Of three answers one: they are of one history
// (Agreed, no error); they aren't, and here is the evidence (Forked); or nothing is known (Open),
// and the error says why.
func (f *follower) compare(ctx context.Context, a, b *Head) (Standing, *verifier.Evidence, error) {
	first, second := a, b
	if first.Size > second.Size {
		first, second = b, a
	}
	switch {
	case first.Checkpoint == second.Checkpoint || first.Size == 0:
		return Agreed, nil, nil // that a head of size 0 has the empty tree's root was checked
	case first.Size == second.Size:
		return f.convict(&verifier.Evidence{First: first.Note, Second: second.Note})
	}
	var whys []error
	for _, t := range f.tiles() {
		standing, e, err := f.prove(ctx, t.reader, first, second)
		if standing != Open {
			return standing, e, nil
		}
		whys = append(whys, fmt.Errorf("tiles of %s: %w", t.name, err))
		if ctx.Err() != nil {
			break
		}
	}
	return Open, nil, fmt.Errorf("no proof from size %d to size %d: %w", first.Size, second.Size, errors.Join(whys...))
}

// prove tries with the tiles of one place. Nobody has to trust them: a proof holds or it doesn't.
func (f *follower) prove(ctx context.Context, tiles verifier.TileReader, first, second *Head) (Standing, *verifier.Evidence, error) {
	proof, err := verifier.ProveConsistency(ctx, tiles, first.Size, second.Size)
	if err != nil {
		return Open, nil, err
	}
	if err = verifier.CheckConsistency(first.Size, second.Size, proof, first.Root, second.Root); err == nil {
		return Agreed, nil, nil
	}
	e, gatherErr := verifier.GatherEvidence(ctx, tiles, f.policy, first.Note, second.Note)
	if gatherErr != nil {
		return Open, nil, gatherErr
	}
	if standing, e, convictErr := f.convict(e); convictErr == nil {
		return standing, e, nil
	}
	return Open, nil, err // neither of them
}

// convict is the only place where a log is found guilty: by what anybody else would check too.
func (f *follower) convict(e *verifier.Evidence) (Standing, *verifier.Evidence, error) {
	if _, err := e.Check(f.policy); err != nil {
		return Open, nil, err
	}
	return Forked, e, nil
}
