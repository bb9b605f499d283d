package verifier

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

// smallTree is a tree made by golang.org/x/mod/sumdb/tlog, an implementation that shares no
// code with what is tested.
type smallTree struct{ hashes []tlog.Hash }

func (s *smallTree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		out[i] = s.hashes[x]
	}
	return out, nil
}

func (s *smallTree) add(t *testing.T, n int64, leaf []byte) {
	t.Helper()
	hs, err := tlog.StoredHashes(n, leaf, s)
	if err != nil {
		t.Fatal(err)
	}
	s.hashes = append(s.hashes, hs...)
}

func (s *smallTree) root(t *testing.T, n int) Hash {
	t.Helper()
	if n == 0 {
		return EmptyRoot
	}
	h, err := tlog.TreeHash(int64(n), s)
	if err != nil {
		t.Fatal(err)
	}
	return Hash(h)
}

func newSmallTree(t *testing.T, n int) (*smallTree, []Hash) {
	s := new(smallTree)
	leaves := make([]Hash, n)
	for i := range n {
		leaf := fmt.Appendf(nil, "leaf %d", i)
		s.add(t, int64(i), leaf)
		leaves[i] = LeafHash(leaf)
	}
	return s, leaves
}

func fromTlog(hs []tlog.Hash) []Hash {
	out := make([]Hash, len(hs))
	for i, h := range hs {
		out[i] = Hash(h)
	}
	return out
}

func TestInclusionExhaustive(t *testing.T) {
	const limit = 130
	s, leaves := newSmallTree(t, limit)
	for size := 1; size <= limit; size++ {
		root := s.root(t, size)
		for index := range size {
			p, err := tlog.ProveRecord(int64(size), int64(index), s)
			if err != nil {
				t.Fatal(err)
			}
			checkOneInclusion(t, uint64(index), uint64(size), leaves[index], fromTlog(p), root)
		}
	}
}

func checkOneInclusion(t *testing.T, index, size uint64, leaf Hash, proof []Hash, root Hash) {
	t.Helper()
	if err := CheckInclusion(index, size, leaf, proof, root); err != nil {
		t.Fatalf("index %d size %d: %v", index, size, err)
	}
	refuse := func(what string, index, size uint64, leaf Hash, proof []Hash, root Hash) {
		t.Helper()
		if err := CheckInclusion(index, size, leaf, proof, root); !errors.Is(err, ErrFailed) {
			t.Fatalf("index %d size %d: %s: error %v", index, size, what, err)
		}
	}
	for i := range proof {
		for _, bit := range []int{0, 255} {
			flip(&proof[i], bit)
			refuse("flipped bit", index, size, leaf, proof, root)
			flip(&proof[i], bit)
		}
	}
	flip(&leaf, int(index)%256)
	refuse("other leaf", index, size, leaf, proof, root)
	flip(&leaf, int(index)%256)
	flip(&root, int(size)%256)
	refuse("other root", index, size, leaf, proof, root)
	flip(&root, int(size)%256)
	refuse("longer proof", index, size, leaf, append(proof[:len(proof):len(proof)], root), root)
	if len(proof) > 0 {
		refuse("shorter proof", index, size, leaf, proof[1:], root)
		refuse("shorter proof", index, size, leaf, proof[:len(proof)-1], root)
	}
	refuse("index past the end", size, size, leaf, proof, root)
	if size > 1 {
		refuse("other index", index^1, size, leaf, proof, root)
	}
	refuse("size too large", index, MaxTreeSize+1, leaf, proof, root)
}

func flip(h *Hash, bit int) { h[bit/8] ^= 1 << (bit % 8) }

func TestConsistencyExhaustive(t *testing.T) {
	const limit = 100
	s, _ := newSmallTree(t, limit)
	for second := range limit + 1 {
		for first := range second + 1 {
			var proof []Hash
			if first > 0 && first < second {
				p, err := tlog.ProveTree(int64(second), int64(first), s)
				if err != nil {
					t.Fatal(err)
				}
				proof = fromTlog(p)
			}
			checkOneConsistency(t, uint64(first), uint64(second), proof, s.root(t, first), s.root(t, second))
		}
	}
}

func checkOneConsistency(t *testing.T, first, second uint64, proof []Hash, root1, root2 Hash) {
	t.Helper()
	if err := CheckConsistency(first, second, proof, root1, root2); err != nil {
		t.Fatalf("%d to %d: %v", first, second, err)
	}
	refuse := func(what string, proof []Hash, root1, root2 Hash) {
		t.Helper()
		if err := CheckConsistency(first, second, proof, root1, root2); !errors.Is(err, ErrFailed) {
			t.Fatalf("%d to %d: %s: error %v", first, second, what, err)
		}
	}
	for i := range proof {
		for _, bit := range []int{0, 255} {
			flip(&proof[i], bit)
			refuse("flipped bit", proof, root1, root2)
			flip(&proof[i], bit)
		}
	}
	refuse("longer proof", append(proof[:len(proof):len(proof)], root1), root1, root2)
	if len(proof) > 0 {
		refuse("shorter proof", proof[1:], root1, root2)
		refuse("shorter proof", proof[:len(proof)-1], root1, root2)
	}
	bad := root1
	flip(&bad, 7)
	refuse("other first root", proof, bad, root2)
	if first > 0 { // anything extends the empty tree
		bad = root2
		flip(&bad, 7)
		refuse("other second root", proof, root1, bad)
	}
	if first != second {
		if err := CheckConsistency(second, first, proof, root2, root1); !errors.Is(err, ErrFailed) {
			t.Fatalf("%d to %d: other way round: error %v", first, second, err)
		}
	}
}

func TestCompactRange(t *testing.T) {
	const limit = 300
	s, leaves := newSmallTree(t, limit)
	var r CompactRange
	for size := range limit {
		if r.Size() != uint64(size) || r.Root() != s.root(t, size) {
			t.Fatalf("size %d: wrong root", size)
		}
		again, err := NewCompactRange(r.Size(), r.Hashes())
		if err != nil || again.Root() != r.Root() {
			t.Fatalf("size %d: not the same again: %v", size, err)
		}
		if _, err := NewCompactRange(r.Size(), append(r.Hashes(), Hash{})); err == nil {
			t.Fatalf("size %d: one hash more than fits was taken", size)
		}
		for level := range 8 {
			if size%(1<<level) != 0 || size+1<<level > limit {
				continue
			}
			c := r.Clone()
			if err := c.AppendSubtree(subtreeRoot(leaves[size:size+1<<level]), level); err != nil {
				t.Fatal(err)
			}
			if c.Root() != s.root(t, size+1<<level) {
				t.Fatalf("size %d: wrong root after a subtree of level %d", size, level)
			}
		}
		if size%2 == 1 && r.Clone().AppendSubtree(Hash{}, 1) == nil {
			t.Fatalf("size %d: a subtree that doesn't fit was taken", size)
		}
		r.Append(leaves[size])
	}
}

// TestProveFromTiles proves everything about all small trees, and spots in a larger one,
// from tiles.
func TestProveFromTiles(t *testing.T) {
	ctx := context.Background()
	for _, size := range []uint64{1, 2, 3, 7, 100, 255, 256, 257, 511, 512, 700, 65536, 65537, 70000} {
		l := hashLog(t, int(size))
		head := l.root(size)
		step := max(size/97, 1)
		for index := uint64(0); index < size; index += step {
			proof, err := ProveInclusion(ctx, Tiles(l), index, size)
			if err != nil {
				t.Fatal(err)
			}
			if err := CheckInclusion(index, size, l.leafHash(index), proof, head); err != nil {
				t.Fatalf("index %d size %d: %v", index, size, err)
			}
			proof, err = ProveConsistency(ctx, Tiles(l), index, size)
			if err != nil {
				t.Fatal(err)
			}
			if err := CheckConsistency(index, size, proof, l.root(index), head); err != nil {
				t.Fatalf("%d to %d: %v", index, size, err)
			}
		}
	}
	if _, err := ProveInclusion(ctx, Tiles(DirSource(nil)), 3, 3); err == nil {
		t.Error("proved an entry past the end")
	}
	if _, err := ProveConsistency(ctx, Tiles(DirSource(nil)), 4, 3); err == nil {
		t.Error("proved consistency backwards")
	}
}

// hashLog is a log of short leaves that aren't events, for what doesn't look into them.
func hashLog(t *testing.T, n int) *plainLog {
	signer, _ := testKey(t, testOrigin)
	l := &plainLog{testLog: &testLog{t: t, signer: signer, files: map[string][]byte{}, reads: map[string]int{}}}
	for i := range n {
		l.leaves = append(l.leaves, fmt.Appendf(nil, "%d", i))
	}
	l.publish()
	return l
}

type plainLog struct {
	*testLog
	sofar CompactRange // extended as larger roots are asked for
}

func (l *plainLog) leafHash(i uint64) Hash { return LeafHash(l.leaves[i]) }

func (l *plainLog) root(size uint64) Hash {
	if l.sofar.Size() > size {
		l.sofar = CompactRange{}
	}
	for l.sofar.Size() < size {
		l.sofar.Append(l.leafHash(l.sofar.Size()))
	}
	return l.sofar.Root()
}
