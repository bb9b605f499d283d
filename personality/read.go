package personality

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/transparency-dev/merkle/compact"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/event"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

// Entry is a published entry as a caller may see it.
type Entry struct {
	Index    uint64
	Leaf     []byte
	LeafHash verifier.Hash
	Opening  []byte // nil where the event isn't the caller's to see
	Receipt  []byte // without the opening, likewise
}

// leafHash returns a published entry's leaf hash, from memory or its tile.
func (s *Service) leafHash(ctx context.Context, index uint64) (verifier.Hash, error) {
	h, _, err := s.nodes(ctx, []compact.NodeID{{Index: index}})
	if err != nil {
		return verifier.Hash{}, err
	}
	return verifier.Hash(h[0]), nil
}

// leaf returns a published entry's leaf from its bundle.
func (s *Service) leaf(ctx context.Context, index uint64) ([]byte, error) {
	bundle, err := s.store.Bundle(ctx, index/tileWidth)
	if err != nil {
		return nil, notAMiss(err)
	}
	var leaf []byte
	end := 0
	for range index%tileWidth + 1 {
		if leaf, end, err = bundleEntry(bundle, end); err != nil {
			return nil, fmt.Errorf("entry bundle %d: %w", index/tileWidth, err)
		}
	}
	return leaf, nil
}

// makeReceipt returns the receipt of an entry at a head; without the opening
// where that is nil.
func (s *Service) makeReceipt(ctx context.Context, index uint64, at *publishedHead, opening []byte) (*verifier.Receipt, error) {
	release, err := s.use()
	if err != nil {
		return nil, err
	}
	defer release()
	if at.note == nil {
		return nil, s.refusing()
	}
	p, err := s.proveInclusion(ctx, index, at.head.Size)
	if err != nil {
		return nil, err
	}
	return &verifier.Receipt{Index: index, Proof: p, Checkpoint: at.note, Extra: opening}, nil
}

// seen is an entry's opening with what decides who may see it.
type seen struct {
	opening []byte
	event   event.Fields
}

// see returns the opening if the caller may see it: a reader of its tenant, or
// the submitter of this very event. Neither: nil, and no error.
func (s *Service) see(ctx context.Context, from Caller, index uint64, leafHash verifier.Hash) (*seen, error) {
	opening, err := s.store.Opening(ctx, index, leafHash)
	if err != nil {
		return nil, notAMiss(err)
	}
	o, err := seal.ParseOpening(opening)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if o.LeafHash() != leafHash { // who doesn't check would believe it
		return nil, fmt.Errorf("%w: its opening is not of its leaf", ErrDamaged)
	}
	e := &seen{opening: opening, event: o.Event()}
	if from.Token.Has(RoleRead) && from.Token.Sees(e.tenant()) || e.submittedBy(from.Token) {
		return e, nil
	}
	return nil, nil
}

func (e *seen) tenant() string { return e.event.Text("/tenant") }

func (e *seen) submittedBy(t *Token) bool {
	return t.Has(RoleSubmit) && t.Tenant == e.tenant() && e.event.Text("/ingest/principal") == t.Principal()
}

// mayRead refuses content to tokens without a role for it, and to everybody
// when the service refuses to go on (I3).
func (s *Service) mayRead(from Caller, roles ...Role) error {
	if err := s.refusing(); err != nil {
		return err
	}
	for _, r := range roles {
		if from.Token.Has(r) {
			return nil
		}
	}
	return fmt.Errorf("%w: it lacks the role %s", ErrForbidden, RoleRead)
}

// Entry returns a published entry. Of another tenant's event it returns leaf and
// proof, never the opening. Reading content is logged before it is returned; a
// submitter fetching its own event is not.
func (s *Service) Entry(ctx context.Context, from Caller, index uint64) (*Entry, error) {
	release, err := s.use()
	if err != nil {
		return nil, err
	}
	defer release()
	if err := s.mayRead(from, RoleRead, RoleSubmit); err != nil {
		return nil, err
	}
	if !s.covers(ctx, index+1) {
		return nil, ErrBeyondHead
	}
	e, shown, err := s.entry(ctx, from, index, s.receiptHead(index))
	if err != nil {
		return nil, fmt.Errorf("read entry %d: %w", index, err)
	}
	if shown != nil && !shown.submittedBy(from.Token) {
		if err := s.logRead(ctx, from, shown.tenant(), "entry", strconv.FormatUint(index, 10)); err != nil {
			return nil, err
		}
	}
	return e, nil
}

func (s *Service) entry(ctx context.Context, from Caller, index uint64, at *publishedHead) (*Entry, *seen, error) {
	e := &Entry{Index: index}
	var err error
	if e.LeafHash, err = s.leafHash(ctx, index); err != nil {
		return nil, nil, err
	}
	if e.Leaf, err = s.leaf(ctx, index); err != nil {
		return nil, nil, err
	}
	if leafHashOf(e.Leaf) != e.LeafHash {
		return nil, nil, fmt.Errorf("%w: its bundle and its tile differ", ErrDamaged)
	}
	shown, err := s.see(ctx, from, index, e.LeafHash)
	if err != nil {
		return nil, nil, err
	}
	if shown != nil {
		e.Opening = shown.opening
	}
	r, err := s.makeReceipt(ctx, index, at, e.Opening)
	if err != nil {
		return nil, nil, err
	}
	e.Receipt = r.Bytes()
	return e, shown, nil
}

// EventByID returns the entry of the event with this source and id in the
// caller's tenant; ErrNotFound where there is none that it may see.
func (s *Service) EventByID(ctx context.Context, from Caller, source, eventID string) (*Entry, error) {
	release, err := s.use()
	if err != nil {
		return nil, err
	}
	defer release()
	if err := s.mayRead(from, RoleRead, RoleSubmit); err != nil {
		return nil, err
	}
	tenants := []string{from.Token.Tenant}
	if from.Token.Tenant == AllTenants {
		tenants = s.tokens.tenants()
	}
	ids := make([][32]byte, len(tenants))
	for i, tenant := range tenants {
		ids[i] = s.identity(tenant, source, eventID)
	}
	indexes, err := s.store.Indexes(ctx, ids)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		index, ok := indexes[id]
		if !ok {
			continue
		}
		e, err := s.Entry(ctx, from, index)
		if errors.Is(err, ErrBeyondHead) && s.lookUpInFlight(id) == nil {
			// It isn't on its way: it has arrived meanwhile, or never will.
			if e, err = s.Entry(ctx, from, index); errors.Is(err, ErrBeyondHead) {
				err = fmt.Errorf("%w: its identity leads past the published tree", ErrDamaged)
			}
		}
		if err != nil {
			return nil, err
		}
		if e.Opening != nil {
			return e, e.mustBe(source, eventID)
		}
	}
	return nil, ErrNotFound
}

// mustBe returns ErrDamaged if the entry, which is shown, is of another event than the
// one whose identity led to it.
func (e *Entry) mustBe(source, id string) error {
	o, err := seal.ParseOpening(e.Opening)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if stored := o.Event(); stored.Text("/source") != source || stored.Text("/id") != id {
		return fmt.Errorf("%w: the identity leads to entry %d, which is of another event", ErrDamaged, e.Index)
	}
	return nil
}

// Receipt returns the entry's receipt at the newest head that the witnesses' quorum has
// cosigned, or at the newest of all where that one doesn't cover the entry yet; with the
// opening where the caller may see it. Logged as Entry is. With Witnessed it waits for such a
// head until ctx ends, and returns ErrBeyondHead then.
func (s *Service) Receipt(ctx context.Context, from Caller, index uint64, w Wait) ([]byte, error) {
	if w == Witnessed && s.public != nil {
		if err := s.mayRead(from, RoleRead, RoleSubmit); err != nil {
			return nil, err
		}
		if s.covers(ctx, index+1) && s.waitCosigned(ctx, index) == nil {
			return nil, fmt.Errorf("no witnessed head has entry %d yet: %w", index, ErrBeyondHead)
		}
	}
	e, err := s.Entry(ctx, from, index)
	if err != nil {
		return nil, err
	}
	return e.Receipt, nil
}
