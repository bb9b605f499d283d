package monitor

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/monitor/gossip"
)

// compare brings two signed heads of one log together. Of three answers one: they are of one history
// (Agreed, no error); they aren't, and here is the evidence (Forked); or nothing is known (Open),
// and the error says why.
func (f *follower) compare(ctx context.Context, a, b *Head) (Standing, *verifier.Evidence, error) {
	switch {
	case a.Checkpoint == b.Checkpoint:
		return Agreed, nil, nil
	case a.Size == b.Size:
		return f.convict(ofOneSize(a, b))
	}
	var whys []error
	for _, t := range f.tiles() {
		// Nobody has to be trusted for tiles: a proof holds or it doesn't.
		e, err := gossip.Relate(ctx, f.policy, t.reader, gossip.Head{Checkpoint: a.Checkpoint, Note: a.Note}, gossip.Head{Checkpoint: b.Checkpoint, Note: b.Note})
		switch {
		case err == nil && e == nil:
			return Agreed, nil, nil
		case err == nil:
			return f.convict(e)
		}
		whys = append(whys, fmt.Errorf("%s: %w", t.name, err))
		if ctx.Err() != nil {
			break
		}
	}
	return Open, nil, fmt.Errorf("no proof between size %d and size %d: %w", a.Size, b.Size, errors.Join(whys...))
}

// ofOneSize is the evidence of two heads of one size: in the order of their roots, so that everybody who holds
// the two makes the same file.
func ofOneSize(a, b *Head) *verifier.Evidence {
	if bytes.Compare(a.Root[:], b.Root[:]) > 0 {
		a, b = b, a
	}
	return &verifier.Evidence{First: a.Note, Second: b.Note}
}

// convict is the only place where a log is found guilty: by what anybody else would check too.
func (f *follower) convict(e *verifier.Evidence) (Standing, *verifier.Evidence, error) {
	if _, err := e.Check(f.policy); err != nil {
		return Open, nil, err
	}
	return Forked, e, nil
}
