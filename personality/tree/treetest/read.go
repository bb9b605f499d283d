package treetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/personality/tree"
)

// short is a context for calls that may wait for what never comes.
func (r *run) short() (context.Context, context.CancelFunc) {
	return context.WithTimeout(r.ctx, 5*time.Second)
}

func (r *run) checkRange(t *testing.T, start uint64, count int) {
	t.Helper()
	got, err := r.tree.Leaves(r.ctx, start, count)
	if err != nil {
		t.Fatalf("leaves(%d, %d): %v", start, count, err)
	}
	want := 0
	if start < r.model.size() {
		want = min(count, int(r.model.size()-start))
	}
	if len(got) != want {
		t.Fatalf("leaves(%d, %d): %d leaves, want %d", start, count, len(got), want)
	}
	r.model.checkLeaves(t, start, got)
}

// testReadPastRoot: what Trillian's server doesn't answer, and start-up needs.
func testReadPastRoot(t *testing.T, r *run) {
	r.checkRange(t, 0, 10)
	r.append(t, 5)
	for _, start := range []uint64{0, 1, 4, 5, 6} { // the tree's size is 0
		r.checkRange(t, start, 10)
	}
	r.integrate(t)
	r.append(t, 5)
	for _, start := range []uint64{0, 4, 5, 6, 9, 10, 11} {
		r.checkRange(t, start, 10)
		r.checkRange(t, start, 1)
	}
}

func testReadRanges(t *testing.T, r *run) {
	r.append(t, 70)
	r.integrate(t)
	r.append(t, 10)
	for start := uint64(0); start < 82; start += 3 {
		for _, count := range []int{0, 1, 2, 16, 63, 64, 1000} {
			r.checkRange(t, start, count)
		}
	}
	r.checkRange(t, 1<<40, 5)
	r.checkRange(t, 1<<63-1, 5)
	for _, bad := range []struct {
		start uint64
		count int
	}{{0, -1}, {1 << 63, 1}} {
		if _, err := r.tree.Leaves(r.ctx, bad.start, bad.count); !errors.Is(err, tree.ErrInvalid) {
			t.Errorf("leaves(%d, %d): %v, want %v", bad.start, bad.count, err, tree.ErrInvalid)
		}
	}
}
