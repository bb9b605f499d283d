package treetest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/prooftrail/prooftrail/personality/tree"
)

// refused appends leaves, wants an error, and nothing stored.
func (r *run) refused(t *testing.T, leaves []tree.Leaf, want error) {
	t.Helper()
	err := r.tree.Append(r.ctx, leaves)
	if err == nil || !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
	r.check(t)
}

// splits appends leaves to a tree that stores them but for the one at place, whose identity
// is stored already, and fills the hole with another.
func (r *run) splits(t *testing.T, leaves []tree.Leaf, place int) {
	t.Helper()
	err := r.tree.Append(r.ctx, leaves)
	if !errors.Is(err, tree.ErrDuplicate) {
		t.Fatalf("got error %v, want %v", err, tree.ErrDuplicate)
	}
	r.model.add(leaves[:place])
	r.check(t)
	last := place == len(leaves)-1
	if got, rerr := r.tree.Leaves(r.ctx, leaves[place].Index, 9); rerr != nil || len(got) > 0 || errors.Is(err, tree.ErrHole) == last {
		t.Fatalf("append returned %v; %d leaves from the hole on, %v", err, len(got), rerr)
	}
	fill := leaves[place]
	fill.IdentityHash = Leaf(fill.Index).IdentityHash
	if err := r.tree.Append(r.ctx, []tree.Leaf{fill}); err != nil {
		t.Fatal(err)
	}
	r.model.add([]tree.Leaf{fill})
	r.model.add(leaves[place+1:])
	r.check(t)
}

func testEmpty(t *testing.T, r *run) {
	root, err := r.tree.Root(r.ctx)
	if err != nil {
		t.Fatal(err)
	}
	if root.Size != 0 || root.Hash != sha256.Sum256(nil) {
		t.Fatalf("empty tree has root %v", root)
	}
	if root, err = r.tree.Integrate(r.ctx, 0); err != nil || root.Size != 0 {
		t.Fatalf("integrate nothing: %v, %v", root, err)
	}
}

func testEmptyAppend(t *testing.T, r *run) {
	if err := r.tree.Append(r.ctx, nil); err != nil {
		t.Fatal(err)
	}
	r.append(t, 3)
	if err := r.tree.Append(r.ctx, []tree.Leaf{}); err != nil {
		t.Fatal(err)
	}
}

func testOrder(t *testing.T, r *run) {
	// Identity hashes are in no order: what counts is the index.
	for _, n := range []int{1, 7, 2, 64, 1} {
		r.append(t, n)
		r.check(t)
	}
	r.integrate(t)
}

func testInvalid(t *testing.T, r *run) {
	r.append(t, 3)
	change := func(f func(l []tree.Leaf)) []tree.Leaf {
		l := Leaves(3, 4)
		f(l)
		return l
	}
	for name, leaves := range map[string][]tree.Leaf{
		"no value":        change(func(l []tree.Leaf) { l[2].Value = nil }),
		"too long":        change(func(l []tree.Leaf) { l[1].Value = make([]byte, tree.MaxLeafBytes+1) }),
		"hole in batch":   change(func(l []tree.Leaf) { l[3].Index++ }),
		"index twice":     change(func(l []tree.Leaf) { l[3].Index-- }),
		"wrong order":     change(func(l []tree.Leaf) { l[0], l[1] = l[1], l[0] }),
		"index too large": {{Index: 1 << 63, Value: []byte("x")}},
		"too many":        Leaves(3, tree.MaxAppend+1),
	} {
		t.Run(name, func(t *testing.T) { r.refused(t, leaves, tree.ErrInvalid) })
	}
}

func testDuplicateInBatch(t *testing.T, r *run) {
	for _, pair := range [][2]int{{0, 1}, {0, 4}, {3, 4}} {
		leaves := Leaves(r.model.size(), 5)
		leaves[pair[1]].IdentityHash = leaves[pair[0]].IdentityHash
		r.refused(t, leaves, tree.ErrDuplicate)
	}
	r.append(t, 5)
	r.integrate(t)
}

func testDuplicateStored(t *testing.T, r *run) {
	r.append(t, 5)
	duplicate := func(stored, place int) {
		leaves := Leaves(r.model.size(), 5)
		leaves[place].IdentityHash = r.model.leaves[stored].IdentityHash
		if r.Split {
			r.splits(t, leaves, place)
		} else {
			r.refused(t, leaves, tree.ErrDuplicate)
		}
	}
	duplicate(0, 0)
	duplicate(4, 4)
	r.integrate(t)
	duplicate(2, 3)
	r.append(t, 5)
	duplicate(1, 2) // integrated
	duplicate(7, 0) // not integrated
	// A lone leaf, too.
	lone := Leaf(r.model.size())
	lone.IdentityHash = r.model.leaves[9].IdentityHash
	r.refused(t, []tree.Leaf{lone}, tree.ErrDuplicate)
}

func testIndexTaken(t *testing.T, r *run) {
	r.append(t, 6)
	for _, first := range []uint64{0, 3, 5} {
		leaves := Leaves(first, 4)
		for i := range leaves {
			leaves[i].IdentityHash = sha256.Sum256(append([]byte("other"), leaves[i].Value...))
		}
		r.refused(t, leaves, tree.ErrIndexTaken)
		r.refused(t, leaves[:1], tree.ErrIndexTaken)
	}
	r.integrate(t)
}

// testReplay appends once more what is stored already: refused, and nothing changes.
func testReplay(t *testing.T, r *run) {
	r.append(t, 4)
	r.refused(t, Leaves(0, 4), tree.ErrIndexTaken)
	r.refused(t, Leaves(3, 1), tree.ErrIndexTaken)
	r.refused(t, Leaves(2, 4), tree.ErrIndexTaken) // overlaps the end
	r.integrate(t)
	r.refused(t, Leaves(0, 4), tree.ErrIndexTaken)
	r.append(t, 4)
}

func testGap(t *testing.T, r *run) {
	r.refused(t, Leaves(1, 2), tree.ErrGap)
	r.append(t, 2)
	r.refused(t, Leaves(3, 2), tree.ErrGap)
	r.refused(t, Leaves(1000, 1), tree.ErrGap)
	r.integrate(t)
	r.refused(t, Leaves(3, 1), tree.ErrGap)
	r.append(t, 1)
}

// testSameValue stores leaves of the same value under different identities.
func testSameValue(t *testing.T, r *run) {
	leaves := Leaves(0, 9)
	for i := range leaves {
		leaves[i].Value = []byte("same")
	}
	if err := r.tree.Append(r.ctx, leaves); err != nil {
		t.Fatal(err)
	}
	r.model.add(leaves)
	r.integrate(t)
}

func testBigLeaves(t *testing.T, r *run) {
	for _, size := range []int{1, 1 << 10, 1<<15 - 1, 1 << 15, tree.MaxLeafBytes - 1, tree.MaxLeafBytes} {
		leaves := Leaves(r.model.size(), 4)
		leaves[1].Value = bytes.Repeat([]byte{0, 0xff, '\n'}, size/3+1)[:size]
		leaves[2].Value = bytes.Repeat([]byte{byte(size)}, size)
		if err := r.tree.Append(r.ctx, leaves); err != nil {
			t.Fatal(err)
		}
		r.model.add(leaves)
		r.integrate(t)
	}
	// The tree must not keep what it was handed.
	mine := Leaf(r.model.size())
	r.model.add([]tree.Leaf{Leaf(mine.Index)})
	if err := r.tree.Append(r.ctx, []tree.Leaf{mine}); err != nil {
		t.Fatal(err)
	}
	clear(mine.Value)
	r.integrate(t)
}
