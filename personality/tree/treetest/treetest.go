// Package treetest is what every implementation of tree.Tree must pass.
//
// Whatever it stores it also hashes by itself, with transparency-dev/merkle's
// compact ranges, and after each step compares: the root of every size, and every
// leaf read back.
package treetest

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"testing"

	"github.com/prooftrail/prooftrail/personality/tree"
	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
)

// Subject is one empty tree under test.
type Subject struct {
	// Open opens the tree, as a process does that starts. The suite closes what it opened.
	Open func(t *testing.T) tree.Tree

	// Split says that an Append which fails may store a part of its batch.
	Split bool

	// Overlap says that two Trees of Open may be in use at once.
	Overlap bool

	// Sizes is up to which size each one is integrated by itself, and others are while
	// readers look on; 0 is 300.
	Sizes int
}

// Factory makes an empty tree, initialised, for one test.
type Factory func(t *testing.T) Subject

// Run runs the suite.
func Run(t *testing.T, factory Factory) {
	tests := []struct {
		name string
		run  func(*testing.T, *run)
	}{
		{"Empty", testEmpty},
		{"EmptyAppend", testEmptyAppend},
		{"Order", testOrder},
		{"Invalid", testInvalid},
		{"DuplicateInBatch", testDuplicateInBatch},
		{"DuplicateStored", testDuplicateStored},
		{"IndexTaken", testIndexTaken},
		{"Replay", testReplay},
		{"Gap", testGap},
		{"SameValue", testSameValue},
		{"BigLeaves", testBigLeaves},
		{"ReadPastRoot", testReadPastRoot},
		{"ReadRanges", testReadRanges},
		{"EverySize", testEverySize},
		{"OddBatches", testOddBatches},
		{"IntegrateAgain", testIntegrateAgain},
		{"IntegrateTooFar", testIntegrateTooFar},
		{"LargeBatches", testLargeBatches},
		{"Reopen", testReopen},
		{"Closed", testClosed},
		{"Cancelled", testCancelled},
		{"CancelledMidway", testCancelledMidway},
		{"ConcurrentReaders", testConcurrentReaders},
		{"ConcurrentWriters", testConcurrentWriters},
		{"OverlappingTrees", testOverlappingTrees},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := factory(t)
			r := &run{Subject: s, ctx: t.Context(), model: newModel()}
			r.tree = r.open(t)
			tt.run(t, r)
			r.check(t)
		})
	}
}

// run is one test: the tree, and a model of what it must hold.
type run struct {
	Subject
	ctx   context.Context
	tree  tree.Tree
	model *model
}

func (r *run) sizes() int { return cmp.Or(r.Sizes, 300) }

func (r *run) open(t *testing.T) tree.Tree {
	t.Helper()
	tr := r.Open(t)
	t.Cleanup(func() {
		if err := tr.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return tr
}

// append appends n leaves, which must work, and integrates nothing.
func (r *run) append(t *testing.T, n int) {
	t.Helper()
	leaves := Leaves(r.model.size(), n)
	if err := r.tree.Append(r.ctx, leaves); err != nil {
		t.Fatal(err)
	}
	r.model.add(leaves)
}

// integrate integrates all leaves and compares the root.
func (r *run) integrate(t *testing.T) tree.Root {
	t.Helper()
	root, err := r.tree.Integrate(r.ctx, r.model.size())
	if err != nil {
		t.Fatal(err)
	}
	r.model.checkRoot(t, root)
	if root.Size != r.model.size() {
		t.Fatalf("root of size %d, want %d", root.Size, r.model.size())
	}
	return root
}

// check compares everything the tree holds with the model.
func (r *run) check(t *testing.T) {
	t.Helper()
	tr := r.open(t)
	root, err := tr.Root(r.ctx)
	if err != nil {
		t.Fatal(err)
	}
	r.model.checkRoot(t, root)
	leaves, err := tr.Leaves(r.ctx, 0, int(r.model.size())+10)
	if err != nil {
		t.Fatal(err)
	}
	if len(leaves) != int(r.model.size()) {
		t.Fatalf("%d leaves, want %d", len(leaves), r.model.size())
	}
	r.model.checkLeaves(t, 0, leaves)
}

// model is what a tree should hold.
type model struct {
	leaves []tree.Leaf
	roots  []tree.Root // by size
	edge   *compact.Range
}

func newModel() *model {
	f := compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}
	empty := tree.Root{Hash: [32]byte(rfc6962.DefaultHasher.EmptyRoot())}
	return &model{edge: f.NewEmptyRange(0), roots: []tree.Root{empty}}
}

func (m *model) size() uint64 { return uint64(len(m.leaves)) }

func (m *model) add(leaves []tree.Leaf) {
	for _, l := range leaves {
		if err := m.edge.Append(rfc6962.DefaultHasher.HashLeaf(l.Value), nil); err != nil {
			panic(err) // the range starts at 0 and only grows
		}
		hash, err := m.edge.GetRootHash(nil)
		if err != nil {
			panic(err) // as above
		}
		m.leaves = append(m.leaves, l)
		m.roots = append(m.roots, tree.Root{Size: m.size(), Hash: [32]byte(hash)})
	}
}

// checkRoot compares a root of any size that the model has reached.
func (m *model) checkRoot(t *testing.T, root tree.Root) {
	t.Helper()
	if root.Size > m.size() {
		t.Fatalf("root of size %d, stored are %d", root.Size, m.size())
	}
	if want := m.roots[root.Size]; root != want {
		t.Fatalf("root of size %d is %x, want %x", root.Size, root.Hash, want.Hash)
	}
}

func (m *model) checkLeaves(t *testing.T, start uint64, got []tree.Leaf) {
	t.Helper()
	for i, l := range got {
		if err := sameLeaf(l, m.leaves[start+uint64(i)]); err != nil {
			t.Fatal(err)
		}
	}
}

func sameLeaf(got, want tree.Leaf) error {
	if got.Index != want.Index || got.IdentityHash != want.IdentityHash || string(got.Value) != string(want.Value) {
		return fmt.Errorf("got leaf %d %x %.40q, want %d %x %.40q",
			got.Index, got.IdentityHash, got.Value, want.Index, want.IdentityHash, want.Value)
	}
	return nil
}

// Leaves returns n leaves from index first on; a leaf's content follows from its index.
func Leaves(first uint64, n int) []tree.Leaf {
	leaves := make([]tree.Leaf, n)
	for i := range leaves {
		leaves[i] = Leaf(first + uint64(i))
	}
	return leaves
}

// Leaf returns the leaf of an index, of 120 to 130 bytes.
func Leaf(index uint64) tree.Leaf {
	value := fmt.Appendf(nil, `{"root":"%064x","time":"2026-01-31T23:59:59Z","v":"prooftrail.leaf/1"}`, index)
	return tree.Leaf{Index: index, Value: value, IdentityHash: sha256.Sum256(fmt.Appendf(nil, "identity %d", index))}
}
