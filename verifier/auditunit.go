package verifier

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/prooftrail/prooftrail/verifier/seal"
)

// unit is a run of consecutive tiles that one worker checks: entries [start, end), start a
// multiple of TileWidth.
type unit struct {
	start, end uint64
	done       chan struct{} // closed when what follows is set
	err        error         // could not be checked

	tiles      []tileResult
	counts     OpeningCounts
	redactions []Redaction // the first MaxListedRedactions
	hidden     bool        // some opening, or signature, was not shown, first that of hiddenAt
	hiddenAt   uint64
	failures   []Failure
	nfail      uint64 // all, also those not listed
	warnings   []Failure
	events     []sourceEvent // in order
	signatures signatures
}

// tileResult is what the fold needs of a level-0 tile.
type tileResult struct {
	n      uint64
	hashes []Hash // leaf hashes to go on with
	root   Hash   // of a full tile
	times  tileTimes
}

// tileTimes are the leaf times of a tile in short.
type tileTimes struct {
	any         bool // some leaf could be read; else nothing else is set
	first, last time.Time
	firstIndex  uint64 // of first
	back        []stepBack
}

// stepBack is a leaf whose time lies before that of the one before it.
type stepBack struct {
	index    uint64
	from, to time.Time
}

func (u *unit) fail(index, count uint64, format string, args ...any) {
	u.nfail++
	if len(u.failures) < MaxListed {
		u.failures = append(u.failures, Failure{index, count, clip(fmt.Sprintf(format, args...))})
	}
}

// notShown notes that the server doesn't show an entry's opening.
func (u *unit) notShown(index uint64) {
	u.counts.NotShown++
	u.hide(index)
}

// hide notes that something of an entry is to be asked for again by the next audit.
func (u *unit) hide(index uint64) {
	if !u.hidden {
		u.hidden, u.hiddenAt = true, index
	}
}

func (u *unit) redacted(r Redaction) {
	u.counts.Redacted++
	if r.withheld {
		u.counts.Withheld++
	}
	if r.erased {
		u.counts.Erased++
	}
	if len(u.redactions) < MaxListedRedactions {
		u.redactions = append(u.redactions, r)
	}
}

// worker checks one unit after the other, and uses its memory again.
type worker struct {
	*auditor
	parser seal.Parser
	lines  []byte            // buffer for lines of openings
	leaves []Hash            // of a unit
	names  map[string]string // of tenants and sources
}

// check does all the work of a unit that needs no other unit.
func (w *worker) check(ctx context.Context, u *unit, openFrom uint64) error {
	for at := u.start; at < u.end; at += TileWidth {
		r, err := w.checkTile(ctx, u, at/TileWidth)
		if err != nil {
			return err
		}
		u.tiles = append(u.tiles, r)
	}
	if w.cfg.Openings == nil {
		return nil
	}
	return w.checkOpenings(ctx, u, openFrom)
}

// checkOpenings checks the openings of a unit from an index on: each run of tiles that have
// leaf hashes by itself. The openings of the others can't be compared with anything.
func (w *worker) checkOpenings(ctx context.Context, u *unit, openFrom uint64) error {
	for i := 0; i < len(u.tiles); {
		end := i
		w.leaves = w.leaves[:0]
		for end < len(u.tiles) && (u.tiles[end].hashes == nil) == (u.tiles[i].hashes == nil) {
			w.leaves = append(w.leaves, u.tiles[end].hashes...)
			end++
		}
		first, past := u.start+uint64(i)*TileWidth, min(u.start+uint64(end)*TileWidth, u.end)
		from := max(first, openFrom)
		missing := u.tiles[i].hashes == nil
		i = end
		switch {
		case from >= past:
		case missing:
			u.counts.NotChecked += past - from
			u.warnings = append(u.warnings, Failure{from, past - from, "openings not checked: there are no leaf hashes to compare them with"})
		default:
			c := &openingChecker{worker: w, start: from, leaves: w.leaves[from-first:], unit: u}
			if err := c.run(ctx); err != nil {
				return err
			}
			if err := c.settle(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// newestSize is the size of the newest head that the log has signed by now, for entries that
// were recorded after this audit began. Whether it extends the head that is audited is for
// the next audit to check.
func (a *auditor) newestSize(ctx context.Context) (uint64, error) {
	note, err := a.cfg.Source.Get(ctx, "checkpoint", MaxNoteBytes)
	if err != nil && !structural(err) {
		return 0, fmt.Errorf("read the newest checkpoint: %w", err)
	}
	if err == nil {
		if head, _, err := a.cfg.Policy.Verify(note); err == nil {
			return max(head.Size, a.head.Size), nil
		}
	}
	return a.head.Size, nil
}

// checkTile checks an entry bundle against its level-0 tile.
func (a *auditor) checkTile(ctx context.Context, u *unit, n uint64) (r tileResult, err error) {
	t := tileAt(0, n, a.head.Size)
	r.n = n
	entries, entriesErr := getBundle(ctx, a.cfg.Source, Tile{EntriesLevel, n, t.Width})
	tile, tileErr := getTile(ctx, a.cfg.Source, t, MaxTileBytes)
	for _, err := range []error{entriesErr, tileErr} {
		if err != nil && !structural(err) {
			return r, err
		}
	}
	var want []Hash
	if tileErr == nil {
		want, tileErr = ParseTile(tile, t.Width)
	}
	got, malformed := hashEntries(n, entries, &r.times)
	differs := a.settle(ctx, u, &r, t, got, want, entriesErr, tileErr)
	for _, m := range malformed {
		if !differs[m.Index] { // else there is no need to say more
			u.fail(m.Index, 1, "%s", m.Reason)
		}
	}
	if len(r.hashes) == TileWidth {
		r.root = subtreeRoot(r.hashes)
	}
	return r, nil
}

// structural reports whether an error is the log's answer, not a lack of one.
func structural(err error) bool {
	return errors.Is(err, ErrFailed) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrTooLarge)
}

// hashEntries re-hashes the entries of a bundle, and returns those of another form.
func hashEntries(n uint64, entries [][]byte, times *tileTimes) (hashes []Hash, malformed []Failure) {
	hashes = make([]Hash, len(entries))
	var p leafParser
	for i, e := range entries {
		hashes[i] = LeafHash(e)
		index := n*TileWidth + uint64(i)
		t, err := p.parse(e)
		if err != nil {
			malformed = append(malformed, Failure{index, 1, err.Error()})
			continue
		}
		times.add(index, t)
	}
	return hashes, malformed
}

func (tt *tileTimes) add(index uint64, t time.Time) {
	if !tt.any {
		tt.any, tt.first, tt.firstIndex = true, t, index
	} else if t.Before(tt.last) {
		tt.back = append(tt.back, stepBack{index, tt.last, t})
	}
	tt.last = t
}

// settle compares the hashes of the entries with those of the tile, reports what differs,
// and decides which of the two the audit goes on with. It returns the entries that differ.
func (a *auditor) settle(ctx context.Context, u *unit, r *tileResult, t Tile, got, want []Hash, entriesErr, tileErr error) (differs map[uint64]bool) {
	first, width := t.N*TileWidth, uint64(t.Width)
	if entriesErr != nil {
		lost := uint64(len(got))
		if lost == width { // all there, but something follows
			lost = 0
		}
		u.fail(first+lost, width-lost, "%s", bundleReason(entriesErr))
	}
	if tileErr != nil {
		u.fail(first, width, "%s can't be used: %s", t.Path(), reasonOf(tileErr))
		r.hashes = got
		if len(got) < t.Width {
			r.hashes = nil
		}
		return nil
	}
	r.hashes = want
	diff := -1
	for i := range got {
		if got[i] != want[i] {
			diff = i
			break
		}
	}
	if diff < 0 {
		return nil
	}
	reason := "leaf hash differs from tile"
	if len(got) == t.Width && !a.committed(ctx, t, want, diff) && a.committed(ctx, t, got, diff) {
		// The entries are what the log signed; it is the tile that was changed.
		r.hashes = got
		reason = "tile differs from leaf hash"
	}
	differs = map[uint64]bool{}
	for i := diff; i < len(got); i++ {
		if got[i] != want[i] {
			u.fail(first+uint64(i), 1, "%s", reason)
			differs[first+uint64(i)] = true
		}
	}
	return differs
}

// committed reports whether the signed root commits to these hashes as level-0 tile t: the
// inclusion proof of one of them has all the others in it.
func (a *auditor) committed(ctx context.Context, t Tile, hashes []Hash, i int) bool {
	index := t.N*TileWidth + uint64(i)
	proof, err := ProveInclusion(ctx, replacedTile{a.tiles, t, EncodeTile(hashes)}, index, a.head.Size)
	return err == nil && CheckInclusion(index, a.head.Size, hashes[i], proof, a.head.Root) == nil
}

// replacedTile is a TileReader with one tile exchanged.
type replacedTile struct {
	TileReader
	tile Tile
	data []byte
}

func (r replacedTile) ReadTile(ctx context.Context, t Tile) ([]byte, error) {
	if t == r.tile {
		return r.data, nil
	}
	return r.TileReader.ReadTile(ctx, t)
}

func bundleReason(err error) string {
	if errors.Is(err, fs.ErrNotExist) {
		return "entry bundle is missing"
	}
	return reasonOf(err)
}

// reasonOf says what is wrong without the URL that it came from.
func reasonOf(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "it is missing"
	case errors.Is(err, ErrTooLarge):
		return "it is larger than it can be"
	}
	return err.Error()
}
