package verifier

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"sync"
	"time"
)

// fold goes through the units in order and builds the tree. Tree and rows always say the
// same: rows holds what tiles of the higher levels have to hold.
type fold struct {
	a    *auditor
	tree *CompactRange
	// rows[l] are the hashes of the tile of level l that isn't full yet, l >= 1.
	rows [8][]Hash
	from uint64 // warnings about entries before it were given by an earlier audit

	timed    bool // lastTime is that of some leaf
	lastTime time.Time
	waymarks []waymark // in order of size
	saved    uint64
	// opened, if set, is where the openings' mark stops: before the first entry that wasn't
	// shown. Whoever says "not yours" today must not be believed for ever.
	opened *mark
	// sources is the tally of the entries up to the tree's size; nil without openings.
	sources *sources

	signatures signatures // of the entries that this audit has checked
}

// waymark is a root that the tree must have when it has some size.
type waymark struct {
	size uint64
	root Hash
}

// errStop ends a pass that can't recompute the root: the structure is gone.
var errStop = errors.New("stop")

// pass audits from a mark (nil: from entry 0) to the head, and reports whether the
// recomputed root is the signed one.
func (a *auditor) pass(ctx context.Context, start, opened *mark) (rootHeld bool, err error) {
	f := &fold{a: a, tree: new(CompactRange)}
	var openFrom uint64
	if opened != nil {
		openFrom = opened.tree.Size()
	}
	if start != nil {
		f.from = start.tree.Size()
		f.tree = start.tree.Clone()
		f.tree.truncate(TileHeight)
		if f.tree.Size() == f.from {
			f.timed, f.lastTime = f.from > 0, start.lastTime
		}
		f.waymarks = append(f.waymarks, waymark{f.from, start.tree.Root()})
	}
	f.saved = f.tree.Size()
	if a.old != nil && a.oldHead.Size >= f.from {
		f.waymarks = append(f.waymarks, waymark{a.oldHead.Size, a.oldHead.Root})
	}
	a.report.From = f.from
	defer func() { a.report.Entries = max(f.tree.Size(), f.from) - f.from }()
	if a.cfg.Openings != nil {
		a.report.OpeningsFrom, a.report.Openings = openFrom, new(OpeningCounts)
		f.sources = newSources()
		if opened != nil && opened.sources != nil {
			f.sources = opened.sources.clone()
		}
		if keys := a.cfg.SourceKeys; keys != nil {
			a.report.SourceKeys = len(keys.lines)
			defer func() {
				a.report.Signatures, a.report.MoreSignatures = f.signatures.report()
				a.report.UnusedSourceKeys = f.signatures.unused(keys)
			}()
		}
		defer func() { a.report.Sources, a.report.MoreSources = f.sources.report(a.now()), f.sources.more }()
	}
	if err = f.loadRows(ctx); err == nil {
		err = a.units(ctx, f.tree.Size(), openFrom, f.add)
	}
	if errors.Is(err, errStop) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return f.finish(ctx)
}

// units cuts [start, size) into units, checks them concurrently, and hands them over in order.
func (a *auditor) units(ctx context.Context, start, openFrom uint64, add func(context.Context, *unit) error) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	jobs := make(chan *unit)
	order := make(chan *unit, 2*a.cfg.Workers) // bounds what is finished but not folded yet
	for range a.cfg.Workers {
		wg.Go(func() {
			w := worker{auditor: a}
			for u := range jobs {
				u.err = w.check(ctx, u, openFrom)
				close(u.done)
			}
		})
	}
	wg.Go(func() {
		defer close(jobs)
		defer close(order)
		for u := range a.cut(start) {
			for _, ch := range []chan *unit{order, jobs} {
				select {
				case ch <- u:
				case <-ctx.Done():
					return
				}
			}
		}
	})
	for u := range order {
		select {
		case <-u.done:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			return fmt.Errorf("audit: %w", ctx.Err())
		}
		if u.err != nil {
			return fmt.Errorf("audit: entries %d to %d: %w", u.start, u.end-1, u.err)
		}
		if err := add(ctx, u); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// cut yields the units: small ones in a small log, so that all workers have work.
func (a *auditor) cut(start uint64) func(func(*unit) bool) {
	size := a.head.Size
	tiles := (size - start + TileWidth - 1) / TileWidth
	per := min(max(tiles/uint64(a.cfg.Workers), 1), unitTiles) * TileWidth
	return func(yield func(*unit) bool) {
		for at := start; at < size; at += per {
			if !yield(&unit{start: at, end: min(at+per, size), done: make(chan struct{})}) {
				return
			}
		}
	}
}

// loadRows fills the rows of the right edge when the audit goes on from a mark: the tree
// says what they must fold to.
func (f *fold) loadRows(ctx context.Context) error {
	size, hashes := f.tree.Size(), f.tree.hashes
	for level := len(f.rows) - 1; level >= 1; level-- {
		row := size >> (TileHeight * level)
		width := int(row % TileWidth)
		if width == 0 {
			continue
		}
		part, err := NewCompactRange(uint64(width), hashes[:bits.OnesCount(uint(width))])
		if err != nil {
			return err
		}
		hashes = hashes[bits.OnesCount(uint(width)):]
		t := tileAt(level, row/TileWidth, f.a.head.Size)
		got, err := f.a.tileHashes(ctx, t)
		if err != nil {
			return err
		}
		if got == nil || subtreeRoot(got[:width]) != part.Root() {
			return errStop // the pass from entry 0 that follows names the place
		}
		f.rows[level] = append(make([]Hash, 0, TileWidth), got[:width]...)
	}
	return nil
}

// tileHashes reads a tile; nil if the log doesn't have it as it should be.
func (a *auditor) tileHashes(ctx context.Context, t Tile) ([]Hash, error) {
	b, err := getTile(ctx, a.cfg.Source, t, MaxTileBytes)
	if err != nil {
		if structural(err) {
			return nil, nil
		}
		return nil, fmt.Errorf("audit: %w", err)
	}
	return ParseTile(b, t.Width)
}

// add folds one unit into the tree.
func (f *fold) add(ctx context.Context, u *unit) error {
	r := f.a.report
	slices.SortStableFunc(u.failures, func(a, b Failure) int { return cmp.Compare(a.Index, b.Index) })
	slices.SortStableFunc(u.redactions, func(a, b Redaction) int { return cmp.Compare(a.Index, b.Index) })
	for _, failure := range u.failures {
		r.fail(failure)
	}
	r.FailureCount += u.nfail - uint64(len(u.failures))
	for _, warning := range u.warnings {
		r.warn(warning)
	}
	if r.Openings != nil {
		r.Openings.add(u.counts)
		r.redacted(u.redactions)
		f.signatures.add(&u.signatures)
	}
	for i := range u.tiles {
		f.stopOpened(u)
		if err := f.addTile(ctx, &u.tiles[i]); err != nil {
			return err
		}
		f.addEvents(u)
	}
	if f.tree.Size()-f.saved >= f.a.cfg.SaveEvery && f.tree.Size() < f.a.head.Size && !f.a.unproven {
		f.saved = f.tree.Size()
		if err := f.save(false); err != nil {
			return err
		}
	}
	f.a.progress(f.tree.Size())
	return nil
}

// addEvents tallies the events of the unit that are in the tree by now.
func (f *fold) addEvents(u *unit) {
	for len(u.events) > 0 && u.events[0].index < f.tree.Size() {
		f.sources.add(&u.events[0])
		u.events = u.events[1:]
	}
}

// stopOpened stops the openings' mark before the next tile, if the first entry that wasn't
// shown is in it.
func (f *fold) stopOpened(u *unit) {
	if f.opened == nil && u.hidden && u.hiddenAt-f.tree.Size() < TileWidth {
		f.opened = f.mark()
	}
}

func (f *fold) save(complete bool) error {
	m := f.mark()
	opened := m
	if f.opened != nil {
		opened = f.opened
	}
	return f.a.save(m, opened, complete)
}

func (f *fold) mark() *mark {
	m := &mark{tree: f.tree.Clone(), lastTime: f.lastTime}
	if f.sources != nil {
		m.sources = f.sources.clone()
	}
	return m
}

// now is what heartbeats are overdue at: the caller's clock, or else the last leaf's.
func (a *auditor) now() time.Time {
	if a.cfg.Now.IsZero() {
		return a.report.LastTime
	}
	return a.cfg.Now
}

func (a *auditor) progress(done uint64) {
	if a.cfg.Progress != nil {
		a.cfg.Progress(Progress{Done: done, Size: a.head.Size, Failures: a.report.FailureCount})
	}
}

func (f *fold) addTile(ctx context.Context, t *tileResult) error {
	if t.hashes == nil {
		return errStop
	}
	f.addTimes(&t.times)
	if err := f.checkWaymarks(ctx, t.hashes); err != nil {
		return err
	}
	if len(t.hashes) < TileWidth {
		for _, h := range t.hashes {
			f.tree.Append(h)
		}
		return nil
	}
	if err := f.tree.AppendSubtree(t.root, TileHeight); err != nil {
		return err
	}
	return f.push(ctx, 1, t.root)
}

// addTimes reports where time steps back, within the tile and at its first leaf.
func (f *fold) addTimes(t *tileTimes) {
	if !t.any {
		return
	}
	if f.a.report.FirstTime.IsZero() { // no leaf's time is: see ParseLeaf
		f.a.report.FirstTime = t.first
	}
	if f.timed && t.first.Before(f.lastTime) {
		f.stepBack(stepBack{t.firstIndex, f.lastTime, t.first})
	}
	f.timed = true
	for _, b := range t.back {
		f.stepBack(b)
	}
	f.lastTime = t.last
	f.a.report.LastTime = t.last
}

// stepBack reports a leaf time before the one of the entry before it (invariant I6 of the
// service: a process whose clock is off doesn't sequence; a minute is what audits let pass
// with a plain warning).
func (f *fold) stepBack(b stepBack) {
	if b.index < f.from {
		return
	}
	by := b.from.Sub(b.to)
	failure := Failure{Index: b.index, Count: 1, Reason: fmt.Sprintf("leaf time steps back by %s", by)}
	if by > time.Minute {
		failure.Reason += ", more than 60 s"
	}
	if f.a.cfg.StrictTime {
		f.a.report.fail(failure)
	} else {
		f.a.report.warn(failure)
	}
}

// checkWaymarks checks the roots that lie in the next tile, or at its end.
func (f *fold) checkWaymarks(ctx context.Context, next []Hash) error {
	for len(f.waymarks) > 0 {
		w := f.waymarks[0]
		if w.size > f.tree.Size()+uint64(len(next)) {
			return nil
		}
		f.waymarks = f.waymarks[1:]
		tree := f.tree.Clone()
		for _, h := range next[:w.size-f.tree.Size()] {
			tree.Append(h)
		}
		if tree.Root() == w.root {
			continue
		}
		if f.from > 0 {
			return errStop // the pass from entry 0 that follows names the place
		}
		f.a.accuse(ctx, fmt.Sprintf("the entries don't lead to the remembered head of size %d", w.size))
	}
	return nil
}

// push adds a hash to a row, and checks the tile when the row is full.
func (f *fold) push(ctx context.Context, level int, h Hash) error {
	if level >= len(f.rows) {
		return errors.New("audit: tree too large")
	}
	f.rows[level] = append(f.rows[level], h)
	if len(f.rows[level]) < TileWidth {
		return nil
	}
	if err := f.checkRow(ctx, level); err != nil {
		return err
	}
	root := subtreeRoot(f.rows[level])
	f.rows[level] = f.rows[level][:0]
	return f.push(ctx, level+1, root)
}

// checkRow compares the tile of a row with the hashes recomputed from below.
func (f *fold) checkRow(ctx context.Context, level int) error {
	row := f.rows[level]
	n := (f.tree.Size()>>(TileHeight*level) - 1) / TileWidth
	t := Tile{level, n, len(row)}
	got, err := f.a.tileHashes(ctx, t)
	if err != nil {
		return err
	}
	under := uint64(1) << (TileHeight * level) // entries under one hash
	first := n * TileWidth * under
	if got == nil {
		f.a.report.fail(Failure{first, uint64(len(row)) * under, t.Path() + " is missing or malformed"})
		return nil
	}
	for i := range row {
		if got[i] != row[i] {
			f.a.report.fail(Failure{first + uint64(i)*under, under, t.Path() + " differs from the tiles below it"})
		}
	}
	return nil
}

// finish checks the tiles of the right edge and the root, and moves the state.
func (f *fold) finish(ctx context.Context) (rootHeld bool, err error) {
	a := f.a
	if err := f.checkWaymarks(ctx, nil); err != nil { // of an empty log
		return false, err
	}
	for level := 1; level < len(f.rows); level++ {
		if len(f.rows[level]) > 0 {
			if err := f.checkRow(ctx, level); err != nil {
				return false, err
			}
		}
	}
	if f.tree.Root() != a.head.Root {
		a.report.fail(Failure{Reason: fmt.Sprintf("root recomputed from the leaves is %x, the signed root is %x", f.tree.Root(), a.head.Root)})
		return false, nil
	}
	if a.report.History.Status == HistoryUnproven {
		// The tiles didn't show it, but the entries had the remembered head's root.
		a.report.History.Status = HistoryExtends
	}
	return true, f.save(true)
}
