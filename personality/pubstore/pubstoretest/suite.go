// Package pubstoretest is the suite that every publication store passes.
package pubstoretest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/personality/pubstore"
)

// Factory returns an empty store, and a function that closes it and opens the
// same one again.
type Factory func(t *testing.T) (s pubstore.Store, reopen func() pubstore.Store)

// Run runs the suite.
func Run(t *testing.T, factory Factory) {
	for name, test := range map[string]func(*testing.T, Factory){
		"Create":                   testCreate,
		"EmptyStoreIsAMiss":        testEmpty,
		"PublishGrowsTiles":        testPublishGrowsTiles,
		"PublishComparesTheHead":   testPublishCompares,
		"PublishRefusesNonsense":   testPublishRefuses,
		"ConcurrentPublishersRace": testRace,
		"Hold":                     testHold,
		"Openings":                 testOpenings,
		"OpeningsInBulk":           testOpeningsInBulk,
		"Marks":                    testMarks,
		"Tokens":                   testTokens,
		"SourceKeys":               testSourceKeys,
		"Checkpoint":               testCheckpoint,
		"Quarantine":               testQuarantine,
		"QuarantineFull":           testQuarantineFull,
		"QuarantineHeld":           testQuarantineHeld,
		"QuarantineRace":           testQuarantineRace,
	} {
		t.Run(name, func(t *testing.T) { test(t, factory) })
	}
}

func params() pubstore.Log {
	return pubstore.Log{Origin: "example.com/audit", Name: "audit", VKey: "example.com/audit+01020304+AAAA",
		TreeID: 7, IDSecret: bytes.Repeat([]byte{9}, 32), Created: time.Unix(1700000000, 0).UTC()}
}

func emptyHead() pubstore.SealedHead { return head(0) }

func created(t *testing.T, factory Factory) (pubstore.Store, func() pubstore.Store) {
	t.Helper()
	s, reopen := factory(t)
	if err := s.Create(t.Context(), params(), emptyHead()); err != nil {
		t.Fatalf("Create: %v", err)
	}
	return s, reopen
}

func testCreate(t *testing.T, factory Factory) {
	s, reopen := created(t, factory)
	if err := s.Create(t.Context(), params(), emptyHead()); !errors.Is(err, pubstore.ErrExists) {
		t.Errorf("Create again: got %v, want ErrExists", err)
	}
	s = reopen()
	got, err := s.Log(t.Context())
	if err != nil || fmt.Sprint(got) != fmt.Sprint(params()) {
		t.Errorf("Log after reopening: got %+v, %v", got, err)
	}
	if h, err := s.Head(t.Context()); err != nil || h != emptyHead() {
		t.Errorf("Head of a new log: got %+v, %v", h, err)
	}
}

func testEmpty(t *testing.T, factory Factory) {
	s, _ := factory(t)
	ctx := t.Context()
	miss := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, pubstore.ErrNotFound) {
			t.Errorf("%s of an empty store: got %v, want ErrNotFound", what, err)
		}
	}
	_, err := s.Log(ctx)
	miss("Log", err)
	_, err = s.Head(ctx)
	miss("Head", err)
	_, err = s.Tile(ctx, 0, 0)
	miss("Tile", err)
	_, err = s.Bundle(ctx, 0)
	miss("Bundle", err)
	_, err = s.Opening(ctx, 0, [32]byte{})
	miss("Opening", err)
	if found, err := s.Indexes(ctx, make([][32]byte, 1)); err != nil || len(found) != 0 {
		t.Errorf("Indexes of an empty store: got %v, %v; want none", found, err)
	}
	_, err = s.Checkpoint(ctx)
	miss("Checkpoint", err)
	miss("Publish", s.Publish(ctx, pubstore.Head{}, pubstore.Publication{Head: head(1)}))
}

// publication makes up the publication that adds entries [from, to).
func publication(from, to uint64) pubstore.Publication {
	p := pubstore.Publication{Head: head(to)}
	for i := from; i < to; i++ {
		if k := len(p.Tiles); k == 0 || p.Tiles[k-1].N != i/256 {
			p.Tiles = append(p.Tiles, pubstore.TileAppend{N: i / 256, Width: int(i % 256)})
			p.Bundles = append(p.Bundles, pubstore.TileAppend{N: i / 256, Width: int(i % 256)})
		}
		h := entryHash(i)
		p.Tiles[len(p.Tiles)-1].Data = append(p.Tiles[len(p.Tiles)-1].Data, h[:]...)
		b := &p.Bundles[len(p.Bundles)-1]
		b.Data = append(b.Data, entry(i)...)
		p.IDs = append(p.IDs, pubstore.ID{Hash: h, Index: i})
	}
	return p
}

func head(size uint64) pubstore.SealedHead {
	return pubstore.SealedHead{
		Head: pubstore.Head{Size: size, Root: sha256.Sum256(fmt.Append(nil, "root ", size))},
		MAC:  sha256.Sum256(fmt.Append(nil, "mac ", size)),
	}
}

func entry(i uint64) []byte       { return fmt.Appendf(nil, "\x00\x08%08d", i) }
func entryHash(i uint64) [32]byte { return sha256.Sum256(entry(i)) }

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func testPublishGrowsTiles(t *testing.T, factory Factory) {
	s, reopen := created(t, factory)
	size := uint64(0)
	for _, to := range []uint64{1, 2, 3, 200, 256, 257, 511, 513, 1030} {
		check(t, s.Publish(t.Context(), head(size).Head, publication(size, to)))
		size = to
		verify(t, s, size)
	}
	verify(t, reopen(), size)
}

// verify checks that the store holds exactly what publishing size entries put there.
func verify(t *testing.T, s pubstore.Store, size uint64) {
	t.Helper()
	ctx := t.Context()
	if h, err := s.Head(ctx); err != nil || h != head(size) {
		t.Fatalf("Head: got %+v, %v; want size %d", h, err, size)
	}
	for n := uint64(0); n*256 < size; n++ {
		var tile, bundle []byte
		for i := n * 256; i < min(size, n*256+256); i++ {
			h := entryHash(i)
			tile, bundle = append(tile, h[:]...), append(bundle, entry(i)...)
		}
		if got, err := s.Tile(ctx, 0, n); err != nil || !bytes.Equal(got, tile) {
			t.Fatalf("Tile %d at size %d: %d bytes, %v; want %d", n, size, len(got), err, len(tile))
		}
		if got, err := s.Bundle(ctx, n); err != nil || !bytes.Equal(got, bundle) {
			t.Fatalf("Bundle %d at size %d: %d bytes, %v; want %d", n, size, len(got), err, len(bundle))
		}
	}
	ids, want := [][32]byte{{1}, {2}}, map[[32]byte]uint64{} // two that nobody has
	for i := range size {
		ids = append(ids, entryHash(i), entryHash(i+size))
		want[entryHash(i)] = i
	}
	if got, err := s.Indexes(ctx, ids); err != nil || !maps.Equal(got, want) {
		t.Fatalf("Indexes at size %d: got %v, %v; want %v", size, got, err, want)
	}
}

func testPublishCompares(t *testing.T, factory Factory) {
	s, _ := created(t, factory)
	check(t, s.Publish(t.Context(), head(0).Head, publication(0, 5)))
	for _, old := range []pubstore.Head{head(0).Head, head(6).Head, {Size: 5, Root: [32]byte{1}}} {
		err := s.Publish(t.Context(), old, publication(5, 9))
		var moved *pubstore.HeadMovedError
		if !errors.As(err, &moved) || moved.Stored != head(5).Head || moved.Want != old {
			t.Errorf("Publish on %+v: got %v, want *HeadMovedError with what is stored", old, err)
		}
	}
	verify(t, s, 5)
}

func testPublishRefuses(t *testing.T, factory Factory) {
	s, _ := created(t, factory)
	check(t, s.Publish(t.Context(), head(0).Head, publication(0, 5)))
	short := publication(5, 6)
	short.Tiles[0].Data = short.Tiles[0].Data[:31]
	wide := publication(5, 6)
	wide.Tiles[0].Width = 256
	for name, p := range map[string]pubstore.Publication{
		"same size": {Head: head(5)}, "smaller size": {Head: head(4)}, "half a hash": short, "past a tile": wide,
	} {
		if err := s.Publish(t.Context(), head(5).Head, p); err == nil {
			t.Errorf("Publish of %s: no error", name)
		}
	}
	verify(t, s, 5)
}

// A held head is published on only by who knows the hold, and the hold changes by
// compare-and-swap.
func testHold(t *testing.T, factory Factory) {
	s, reopen := created(t, factory)
	ctx := t.Context()
	check(t, s.Publish(ctx, head(0).Head, publication(0, 5)))
	held := func(size uint64, hold string) pubstore.SealedHead {
		h := head(size)
		h.Hold, h.MAC = hold, sha256.Sum256([]byte(hold))
		return h
	}
	moved := func(what string, err error) {
		t.Helper()
		var moved *pubstore.HeadMovedError
		if !errors.As(err, &moved) {
			t.Errorf("%s: got %v, want *HeadMovedError", what, err)
		}
	}
	moved("SetHold on another hold", s.SetHold(ctx, held(5, "x"), held(5, "y")))
	moved("SetHold on another size", s.SetHold(ctx, head(4), held(4, "y")))
	if err := s.SetHold(ctx, head(5), held(6, "y")); err == nil {
		t.Error("SetHold on another size: no error")
	}
	if err := s.SetHold(ctx, head(5), held(5, strings.Repeat("y", pubstore.MaxHold+1))); err == nil {
		t.Error("SetHold with a long hold: no error")
	}
	long := strings.Repeat("y ", pubstore.MaxHold/2)
	check(t, s.SetHold(ctx, head(5), held(5, long)))
	moved("Publish on a held head", s.Publish(ctx, head(5).Head, publication(5, 9)))
	moved("SetHold again", s.SetHold(ctx, head(5), held(5, "z")))
	moved("PutToken on a held head", s.PutToken(ctx, pubstore.Token{ID: "t"}, ""))
	if tokens, err := s.Tokens(ctx); err != nil || len(tokens) != 0 {
		t.Errorf("%d tokens, %v", len(tokens), err)
	}
	moved("PutSourceKey on a held head", s.PutSourceKey(ctx, sourceKey("k"), ""))
	if keys, err := s.SourceKeys(ctx); err != nil || len(keys) != 0 {
		t.Errorf("%d source keys, %v", len(keys), err)
	}
	check(t, s.PutToken(ctx, pubstore.Token{ID: "t"}, long))
	s = reopen()
	if h, err := s.Head(ctx); err != nil || h != held(5, long) {
		t.Errorf("the held head: %+v, %v", h, err)
	}
	p := publication(5, 9)
	p.Head = held(9, long)
	check(t, s.Publish(ctx, head(5).Head, p))
	check(t, s.SetHold(ctx, held(9, long), head(9)))
	check(t, s.Publish(ctx, head(9).Head, publication(9, 12)))
	verify(t, s, 12)

	first, _ := factory(t)
	check(t, first.Create(ctx, params(), held(0, "x")))
	moved("Publish on a log that is held from its beginning", first.Publish(ctx, head(0).Head, publication(0, 5)))
	if h, err := first.Head(ctx); err != nil || h != held(0, "x") {
		t.Errorf("the held head: %+v, %v", h, err)
	}
}

func testRace(t *testing.T, factory Factory) {
	s, _ := created(t, factory)
	const writers, rounds = 4, 20
	for round := range uint64(rounds) {
		var wins sync.Map
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				err := s.Publish(context.Background(), head(round).Head, publication(round, round+1))
				var moved *pubstore.HeadMovedError
				switch {
				case err == nil:
					wins.Store(w, true)
				case !errors.As(err, &moved):
					t.Errorf("Publish: %v", err)
				}
			})
		}
		wg.Wait()
		n := 0
		wins.Range(func(any, any) bool { n++; return true })
		if n != 1 {
			t.Fatalf("round %d: %d writers moved the head", round, n)
		}
	}
	verify(t, s, rounds)
}

// putOpenings stores a batch whose openings and leaf hashes are made of text.
func putOpenings(t *testing.T, s pubstore.Store, first uint64, openings ...string) {
	t.Helper()
	b := pubstore.Batch{Mark: pubstore.Mark{First: first, MAC: sha256.Sum256(fmt.Append(nil, openings))}}
	for _, o := range openings {
		b.Mark.Leaves = append(b.Mark.Leaves, pubstore.LeafID{Hash: textHash(o)})
		b.Openings = append(b.Openings, pubstore.Opening{LeafHash: textHash(o), Bytes: []byte(o)})
	}
	check(t, s.PutBatch(t.Context(), b))
}

func textHash(opening string) [32]byte { return sha256.Sum256([]byte(opening)) }

// manyOpenings creates a store with the openings a to f of entries 254 to 260, and
// with others in their way.
func manyOpenings(t *testing.T, factory Factory) (pubstore.Store, func() pubstore.Store) {
	t.Helper()
	s, reopen := created(t, factory)
	putOpenings(t, s, 254, "a", "b", "c")
	putOpenings(t, s, 257, "lost", "lost too")
	putOpenings(t, s, 257, "d", "e")
	putOpenings(t, s, 257, "lost as well", "e") // the same leaf again
	putOpenings(t, s, 260, "f")
	putOpenings(t, s, 1<<40, "far")
	putOpenings(t, s, 1<<41, "")
	none := pubstore.Batch{Mark: pubstore.Mark{First: 1 << 42, MAC: [32]byte{42}, Leaves: make([]pubstore.LeafID, 3)},
		Openings: []pubstore.Opening{{LeafHash: textHash("x"), Bytes: []byte("x")}, {LeafHash: textHash("no")}, {LeafHash: textHash("y"), Bytes: []byte("y")}}}
	check(t, s.PutBatch(t.Context(), none))
	check(t, s.PutBatch(t.Context(), pubstore.Batch{}))
	return s, reopen
}

// An opening is found under index and leaf hash, and replaced there alone.
func testOpenings(t *testing.T, factory Factory) {
	s, reopen := manyOpenings(t, factory)
	ctx := t.Context()
	if err := s.ReplaceOpening(ctx, 254, textHash("a"), []byte("x"), []byte("y")); !errors.Is(err, pubstore.ErrNotFound) {
		t.Errorf("ReplaceOpening of what isn't there: got %v, want ErrNotFound", err)
	}
	if err := s.ReplaceOpening(ctx, 255, textHash("a"), []byte("a"), []byte("y")); !errors.Is(err, pubstore.ErrNotFound) {
		t.Errorf("ReplaceOpening at another index: got %v, want ErrNotFound", err)
	}
	check(t, s.ReplaceOpening(ctx, 255, textHash("b"), []byte("b"), []byte("less of b")))
	check(t, s.Sync(ctx))
	s = reopen()
	for i, o := range []string{"a", "b", "c", "d", "e"} {
		want := o
		if o == "b" {
			want = "less of b"
		}
		if got, err := s.Opening(ctx, 254+uint64(i), textHash(o)); err != nil || string(got) != want {
			t.Errorf("Opening %d: got %q, %v; want %q", 254+i, got, err, want)
		}
	}
	if _, err := s.Opening(ctx, 253, textHash("a")); !errors.Is(err, pubstore.ErrNotFound) {
		t.Errorf("Opening of another index: got %v, want ErrNotFound", err)
	}
}

// In bulk, too, those of leaves that were never stored are in nobody's way.
func testOpeningsInBulk(t *testing.T, factory Factory) {
	s, _ := manyOpenings(t, factory)
	ctx := t.Context()
	bulk := func(first uint64, openings []string, want string) {
		t.Helper()
		var hashes [][32]byte
		for _, o := range openings {
			hashes = append(hashes, textHash(o))
		}
		var got []string
		err := s.Openings(ctx, first, hashes, func(o []byte) error {
			if o == nil {
				got = append(got, "none")
			} else {
				got = append(got, string(o))
			}
			return nil
		})
		if err != nil || strings.Join(got, ",") != want {
			t.Errorf("Openings from %d: got %q, %v; want %s", first, got, err, want)
		}
	}
	all := []string{"a", "b", "c", "d", "e", "not here", "f"}
	bulk(254, all, "a,b,c,d,e,none,f")
	bulk(256, all[2:5], "c,d,e")
	bulk(255, all, "none,none,none,none,none,none,none")
	bulk(0, nil, "")
	bulk(1<<40, []string{"far", "beyond"}, "far,none")
	bulk(1<<41, []string{"", "beyond"}, ",none") // an empty one isn't a missing one
	bulk(1<<42, []string{"x", "no", "y"}, "x,none,y")
	enough := errors.New("enough")
	calls := 0
	err := s.Openings(ctx, 254, [][32]byte{textHash("a"), textHash("b")}, func([]byte) error { calls++; return enough })
	if !errors.Is(err, enough) || calls != 1 {
		t.Errorf("Openings whose reader has enough: %v after %d calls", err, calls)
	}
}

// A mark is found by the index of each of its leaves, beside others of that index, and
// stays until it is dropped.
func testMarks(t *testing.T, factory Factory) {
	s, reopen := created(t, factory)
	ctx := t.Context()
	mark := func(first uint64, count int, mac byte) pubstore.Mark {
		m := pubstore.Mark{First: first, MAC: [32]byte{mac}}
		for i := range count {
			m.Leaves = append(m.Leaves, pubstore.LeafID{Hash: [32]byte{mac, 1, byte(i)}, Identity: [32]byte{mac, 2, byte(i >> 8)}})
		}
		return m
	}
	for _, m := range []pubstore.Mark{mark(0, 5, 1), mark(5, 3, 2), mark(5, 4, 3), mark(9, pubstore.MaxMark, 4)} {
		check(t, s.PutBatch(ctx, pubstore.Batch{Mark: m}))
	}
	check(t, s.PutBatch(ctx, pubstore.Batch{Mark: mark(5, 3, 2)})) // again
	expect := func(index uint64, want ...pubstore.Mark) {
		t.Helper()
		got, err := s.Marks(ctx, index)
		slices.SortFunc(got, func(a, b pubstore.Mark) int { return bytes.Compare(a.MAC[:], b.MAC[:]) })
		if err != nil || !slices.EqualFunc(got, want, sameMark) {
			t.Fatalf("Marks(%d): %v, %v; want %v", index, got, err, want)
		}
	}
	check(t, s.Sync(ctx))
	s = reopen()
	expect(0, mark(0, 5, 1))
	expect(4, mark(0, 5, 1))
	expect(5, mark(5, 3, 2), mark(5, 4, 3))
	expect(8, mark(5, 4, 3))
	expect(9, mark(9, pubstore.MaxMark, 4))
	expect(8+pubstore.MaxMark, mark(9, pubstore.MaxMark, 4))
	expect(9 + pubstore.MaxMark)
	check(t, s.Publish(ctx, head(0).Head, publication(0, 5)))
	expect(0, mark(0, 5, 1)) // the head of size 5 may not have been signed yet
	p := publication(5, 9)
	p.Drop = []pubstore.Mark{mark(0, 5, 1)}
	check(t, s.Publish(ctx, head(5).Head, p))
	expect(0)
	expect(5, mark(5, 3, 2), mark(5, 4, 3))
	check(t, s.DropMarks(ctx, 7))
	expect(5, mark(5, 3, 2), mark(5, 4, 3))
	check(t, s.DropMarks(ctx, 8))
	expect(5, mark(5, 4, 3))
	check(t, s.DropMarks(ctx, 9))
	expect(5)
	expect(9, mark(9, pubstore.MaxMark, 4))
	check(t, s.DropMarks(ctx, 1<<40))
	expect(9)
}

func sameMark(a, b pubstore.Mark) bool {
	return a.First == b.First && a.MAC == b.MAC && slices.Equal(a.Leaves, b.Leaves)
}

func testTokens(t *testing.T, factory Factory) {
	s, reopen := created(t, factory)
	ctx := t.Context()
	tok := func(id string) pubstore.Token {
		return pubstore.Token{ID: id, Name: "n" + id, Tenant: "default", Roles: []string{"submit"}, Sources: []string{"cron://"},
			SecretHash: bytes.Repeat([]byte{3}, 32), Created: time.Unix(1700000001, 0).UTC()}
	}
	for _, id := range []string{"b", "a", "c"} {
		check(t, s.PutToken(ctx, tok(id), ""))
	}
	revoked := tok("b")
	revoked.Revoked = time.Unix(1700000002, 0).UTC()
	check(t, s.PutToken(ctx, revoked, ""))
	got, err := reopen().Tokens(ctx)
	if want := []pubstore.Token{tok("a"), revoked, tok("c")}; err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("Tokens: got %v, %v; want %v", got, err, want)
	}
}

func testCheckpoint(t *testing.T, factory Factory) {
	s, _ := created(t, factory)
	var old []byte
	for _, note := range []string{"one", "two"} {
		for _, other := range []string{"", "another", note} {
			wrong := []byte(other)
			if old == nil && other == "" || string(old) == other {
				continue
			}
			if err := s.PutCheckpoint(t.Context(), wrong, []byte(note)); !errors.Is(err, pubstore.ErrCheckpointMoved) {
				t.Errorf("PutCheckpoint of %q over %q, with %q there: %v", note, other, old, err)
			}
		}
		check(t, s.PutCheckpoint(t.Context(), old, []byte(note)))
		if err := s.PutCheckpoint(t.Context(), old, []byte("late")); !errors.Is(err, pubstore.ErrCheckpointMoved) {
			t.Errorf("PutCheckpoint over %q once more: %v", old, err)
		}
		if got, err := s.Checkpoint(t.Context()); err != nil || string(got) != note {
			t.Errorf("Checkpoint: got %q, %v; want %q", got, err, note)
		}
		old = []byte(note)
	}
}
