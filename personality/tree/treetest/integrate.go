package treetest

import (
	"errors"
	"testing"

	"github.com/prooftrail/prooftrail/personality/tree"
)

// testEverySize integrates each size by itself, and checks old roots against new leaves.
func testEverySize(t *testing.T, r *run) {
	for range r.sizes() {
		r.append(t, 1)
		r.integrate(t)
	}
}

// testOddBatches lets batches of Append and Integrate end on all sides of subtrees.
func testOddBatches(t *testing.T, r *run) {
	for i, n := range []int{1, 2, 3, 5, 8, 13, 16, 17, 31, 33, 63, 64, 65, 127, 129, 255, 256, 257, 1, 500, 3} {
		r.append(t, n)
		if i%3 != 1 {
			r.integrate(t)
		}
	}
	r.integrate(t)
}

// testIntegrateAgain asks for sizes that are covered already.
func testIntegrateAgain(t *testing.T, r *run) {
	r.append(t, 20)
	want := r.integrate(t)
	for _, size := range []uint64{20, 19, 1, 0, 20} {
		got, err := r.tree.Integrate(r.ctx, size)
		if err != nil || got != want {
			t.Fatalf("integrate %d again: %v, %v, want %v", size, got, err, want)
		}
	}
	if got, err := r.tree.Root(r.ctx); err != nil || got != want {
		t.Fatalf("root: %v, %v, want %v", got, err, want)
	}
}

// testIntegrateTooFar asks for more than is stored.
func testIntegrateTooFar(t *testing.T, r *run) {
	check := func(size uint64) {
		t.Helper()
		ctx, cancel := r.short()
		defer cancel()
		if _, err := r.tree.Integrate(ctx, size); err == nil {
			t.Fatalf("integrated %d leaves of %d", size, r.model.size())
		} else if !errors.Is(err, tree.ErrGap) && !errors.Is(err, ctx.Err()) {
			t.Fatalf("integrate %d of %d leaves: %v", size, r.model.size(), err)
		}
	}
	check(1)
	r.append(t, 3)
	check(4)
	check(1 << 40)
	r.integrate(t)
	check(4)
}

// testLargeBatches is several times what one batch of the sequencer takes.
func testLargeBatches(t *testing.T, r *run) {
	r.append(t, 2500)
	r.append(t, 600)
	r.integrate(t)
	r.append(t, 1)
	r.integrate(t)
}

func testReopen(t *testing.T, r *run) {
	for i := range 6 {
		r.append(t, 3)
		if i%2 == 0 {
			r.integrate(t)
		}
		r.append(t, 10*i)
		if err := r.tree.Close(); err != nil {
			t.Fatal(err)
		}
		r.tree = r.open(t)
		r.check(t)
	}
	r.integrate(t)
}

func testClosed(t *testing.T, r *run) {
	r.append(t, 2)
	r.integrate(t)
	if err := errors.Join(r.tree.Close(), r.tree.Close()); err != nil {
		t.Fatal(err)
	}
	_, rootErr := r.tree.Root(r.ctx)
	_, leavesErr := r.tree.Leaves(r.ctx, 0, 1)
	_, integrateErr := r.tree.Integrate(r.ctx, 1)
	appendErr := r.tree.Append(r.ctx, Leaves(2, 1))
	for call, err := range map[string]error{
		"Root": rootErr, "Leaves": leavesErr, "Integrate": integrateErr, "Append": appendErr,
	} {
		if !errors.Is(err, tree.ErrClosed) {
			t.Errorf("%s on a closed tree: %v, want %v", call, err, tree.ErrClosed)
		}
	}
	r.tree = r.open(t)
}
