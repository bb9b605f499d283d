package personality

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

// OpeningLine is one entry's opening, for auditors.
type OpeningLine = verifier.OpeningLine

// Openings calls each for up to count entries from start, in order, up to the
// published size. What each is given is good until it returns; an error of its own
// ends the reading. The request is logged, as one, before the first call. A stored
// opening is passed on as it is, even one that no longer opens its leaf: finding
// that out is the auditor's work, and hiding it would be the attacker's.
func (s *Service) Openings(ctx context.Context, from Caller, start uint64, count int, each func(OpeningLine) error) error {
	release, err := s.use()
	if err != nil {
		return err
	}
	defer release()
	if err := s.mayRead(from, RoleRead); err != nil {
		return err
	}
	if start == math.MaxUint64 || !s.covers(ctx, start+1) {
		return ErrBeyondHead
	}
	size := s.published.Load().head.Size
	end := min(size, start+uint64(count))
	tenant := from.Token.Tenant
	if tenant == AllTenants {
		tenant = OwnTenant
	}
	if err := s.logRead(ctx, from, tenant, "entries", fmt.Sprintf("%d-%d", start, end-1)); err != nil {
		return err
	}
	r := openingReader{s: s, token: from.Token, each: each}
	for r.next = start; r.next < end; {
		if err := r.tile(ctx, end); err != nil {
			return err
		}
	}
	return nil
}

// openingReader reads openings for one caller, tile after tile.
type openingReader struct {
	s      *Service
	token  *Token
	each   func(OpeningLine) error
	next   uint64 // the entry that is next
	hashes [][32]byte
	parser seal.Parser
}

// tile reads the openings from the next entry to the end of its tile, or to end. One
// tile at a time: its hashes are one read, and the store's iterator, which holds on to
// what has been overwritten since it was made, isn't held for as long as a slow client
// takes for them all.
func (r *openingReader) tile(ctx context.Context, end uint64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	end = min(end, (r.next/tileWidth+1)*tileWidth)
	err := r.readHashes(ctx, end)
	if errors.Is(err, ErrDamaged) { // then nobody can find them
		return r.missing(end)
	}
	if err != nil {
		return fmt.Errorf("read openings from %d: %w", r.next, err)
	}
	return r.s.store.Openings(ctx, r.next, r.hashes, func(opening []byte) error {
		line := r.line(opening)
		r.next++
		return r.each(line)
	})
}

// missing says of the entries [next, end) that their openings aren't there.
func (r *openingReader) missing(end uint64) error {
	for ; r.next < end; r.next++ {
		if err := r.each(r.line(nil)); err != nil {
			return err
		}
	}
	return nil
}

// readHashes reads the leaf hashes of the entries [next, end), which are of one tile.
func (r *openingReader) readHashes(ctx context.Context, end uint64) error {
	tile, err := r.s.store.Tile(ctx, 0, r.next/tileWidth)
	if err != nil {
		return notAMiss(err)
	}
	first, past := int(r.next%tileWidth), int((end-1)%tileWidth)+1
	if len(tile) < past*32 {
		return fmt.Errorf("tile 0/%d: %w: %d bytes", r.next/tileWidth, ErrDamaged, len(tile))
	}
	r.hashes = r.hashes[:0]
	for i := first; i < past; i++ {
		r.hashes = append(r.hashes, [32]byte(tile[i*32:]))
	}
	return nil
}

// line decides what the caller may see of the next entry.
func (r *openingReader) line(opening []byte) OpeningLine {
	l := OpeningLine{Index: r.next}
	if opening == nil {
		l.Reason = verifier.ReasonMissing
		return l
	}
	if r.token.Tenant == AllTenants {
		l.Opening = opening
		return l
	}
	// Whose it is, is believed only of what is an opening from end to end.
	o, err := r.parser.Parse(opening)
	switch {
	case err != nil:
		l.Reason = verifier.ReasonMissing // what can't be read isn't anybody's
		r.s.log.Error("a stored opening is malformed", "index", r.next, "error", err)
	case !r.token.Sees(o.Text("/tenant")):
		l.Reason = verifier.ReasonTenant
	default:
		l.Opening = opening
	}
	return l
}
