package treetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/personality/tree"
)

func testCancelled(t *testing.T, r *run) {
	r.append(t, 3)
	ctx, cancel := context.WithCancel(r.ctx)
	cancel()
	if err := r.tree.Append(ctx, Leaves(3, 5)); !errors.Is(err, context.Canceled) {
		t.Fatalf("append with a cancelled context: %v", err)
	}
	if _, err := r.tree.Integrate(ctx, 3); err == nil {
		t.Fatal("integrated with a cancelled context")
	}
	r.check(t)
	r.integrate(t)
}

// testCancelledMidway cancels an append at some moment: after it all of the batch is
// stored or nothing, or from its beginning a part where batches may be split, whatever
// the error says, and a nil means all.
func testCancelledMidway(t *testing.T, r *run) {
	for i := range 60 {
		ctx, cancel := context.WithCancel(r.ctx)
		timer := time.AfterFunc(time.Duration(i)*20*time.Microsecond, cancel)
		_ = r.appendUnsure(ctx, t, 20)
		timer.Stop()
		cancel()
	}
	// What was cancelled last may be stored only now.
	for end := r.model.size() + 20; r.model.size() < end; {
		if err := r.appendUnsure(r.ctx, t, int(end-r.model.size())); err != nil && !errors.Is(err, tree.ErrIndexTaken) {
			t.Fatal(err)
		}
	}
	r.integrate(t)
}

// appendUnsure appends n leaves, reads back which of them are stored, and adds those to the
// model.
func (r *run) appendUnsure(ctx context.Context, t *testing.T, n int) error {
	t.Helper()
	leaves := Leaves(r.model.size(), n)
	err := r.tree.Append(ctx, leaves)
	got, rerr := r.tree.Leaves(r.ctx, r.model.size(), 30)
	if rerr != nil {
		t.Fatal(rerr)
	}
	if len(got) > n || len(got) != n && (err == nil || len(got) != 0 && !r.Split) {
		t.Fatalf("append returned %v and stored %d leaves of %d", err, len(got), n)
	}
	r.model.add(leaves[:len(got)])
	r.model.checkLeaves(t, leaves[0].Index, got)
	return err
}

// testConcurrentReaders reads while leaves are appended and integrated.
func testConcurrentReaders(t *testing.T, r *run) {
	all := newModel()
	all.add(Leaves(0, 400))
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for size := uint64(0); ; {
				var err error
				if size, err = r.readOnce(all, size); err != nil {
					t.Error(err)
					return
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for n := 1; r.model.size() < uint64(r.sizes()); n = n%9 + 1 {
		r.append(t, n)
		r.integrate(t)
	}
	close(done)
	wg.Wait()
}

// readOnce reads root and leaves; the root must be right and not smaller than last.
func (r *run) readOnce(all *model, last uint64) (uint64, error) {
	root, err := r.tree.Root(r.ctx)
	if err != nil {
		return 0, err
	}
	if root.Size < last || root != all.roots[root.Size] {
		return 0, fmt.Errorf("root %v after size %d", root, last)
	}
	leaves, err := r.tree.Leaves(r.ctx, 0, 1000)
	if err != nil {
		return 0, err
	}
	if uint64(len(leaves)) < root.Size {
		return 0, fmt.Errorf("%d leaves below a root of size %d", len(leaves), root.Size)
	}
	for i, l := range leaves {
		if err := sameLeaf(l, all.leaves[i]); err != nil {
			return 0, err
		}
	}
	return root.Size, nil
}

// testConcurrentWriters lets goroutines race for the next index.
func testConcurrentWriters(t *testing.T, r *run) { race(t, r, r.tree, r.tree, r.tree) }

// testOverlappingTrees does the same with a Tree each.
func testOverlappingTrees(t *testing.T, r *run) {
	if r.Overlap {
		race(t, r, r.tree, r.open(t), r.open(t))
	}
}

// race has each tree append batches of its own at what it believes to be the end. Who
// is refused looks where the end is now. In the end every batch is there once, whole.
func race(t *testing.T, r *run, trees ...tree.Tree) {
	const batches, size = 15, 4
	if r.Split { // the first leaf of all would go alone
		r.append(t, size)
	}
	before := r.model.size()
	var wg sync.WaitGroup
	for w, tr := range trees {
		wg.Go(func() {
			for b := range batches {
				if err := appendAtEnd(r.ctx, tr, uint64(1000*(w+1)+b*size), size); err != nil {
					t.Errorf("writer %d, batch %d: %v", w, b, err)
					return
				}
			}
		})
	}
	wg.Wait()
	total := len(trees) * batches * size
	got, err := r.tree.Leaves(r.ctx, before, total+1)
	if err != nil || len(got) != total {
		t.Fatalf("%d leaves, want %d; %v", len(got), total, err)
	}
	next := map[uint64]uint64{} // writer -> number of its next leaf
	for i, l := range got {
		var number uint64
		if _, err := fmt.Sscanf(string(l.Value), "race %d", &number); err != nil {
			t.Fatal(err)
		}
		w := number / 1000
		if number != 1000*w+next[w] || i%size != int(number%1000)%size {
			t.Fatalf("leaf %d is %q", i, l.Value)
		}
		next[w]++
	}
	r.model.add(got)
	r.integrate(t)
}

// appendAtEnd appends leaves first to first+n wherever the end is.
func appendAtEnd(ctx context.Context, tr tree.Tree, first uint64, n int) error {
	for {
		stored, err := tr.Leaves(ctx, 0, 1<<20)
		if err != nil {
			return err
		}
		leaves := Leaves(uint64(len(stored)), n)
		for i := range leaves {
			number := first + uint64(i)
			leaves[i].Value = fmt.Appendf(nil, "race %d", number)
			leaves[i].IdentityHash = Leaf(number).IdentityHash
		}
		switch err := tr.Append(ctx, leaves); {
		case err == nil:
			return nil
		case !errors.Is(err, tree.ErrIndexTaken):
			return err
		}
	}
}
