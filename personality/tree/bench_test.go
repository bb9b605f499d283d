package tree_test

import (
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prooftrail/prooftrail/personality/tree"
	"github.com/prooftrail/prooftrail/personality/tree/treetest"
)

// BenchmarkAppendIntegrate stores and integrates batches, as the service does: the
// append is synced, the integration's durability is left to whoever syncs next. One
// iteration is one batch; leaves/s counts all time, that of making the leaves excluded.
func BenchmarkAppendIntegrate(b *testing.B) {
	for _, medium := range []string{"disk", "memory"} {
		for _, batch := range []int{1, 64, 500} {
			b.Run(fmt.Sprintf("%s/batch=%d", medium, batch), func(b *testing.B) {
				var db *pebble.DB
				if medium == "disk" {
					db = openDB(b, vfs.Default, b.TempDir())
				} else {
					db = openDB(b, vfs.NewMem(), "")
				}
				e := create(b, db, tree.Options{DeferSync: true})
				run(b, e, batch, b.N/10) // past the smallest trees
				b.ReportAllocs()
				b.ResetTimer()
				run(b, e, batch, b.N)
				b.ReportMetric(float64(batch*b.N)/b.Elapsed().Seconds(), "leaves/s")
			})
		}
	}
}

func run(b *testing.B, e *tree.Embedded, batch, n int) {
	root, err := e.Root(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	var leaves []tree.Leaf
	for range n {
		if len(leaves) == 0 {
			b.StopTimer()
			leaves = treetest.Leaves(root.Size, 64*batch)
			b.StartTimer()
		}
		if err := e.Append(b.Context(), leaves[:batch]); err != nil {
			b.Fatal(err)
		}
		if root, err = e.Integrate(b.Context(), root.Size+uint64(batch)); err != nil {
			b.Fatal(err)
		}
		leaves = leaves[batch:]
	}
}

// BenchmarkLeaves reads back a batch that was integrated long ago.
func BenchmarkLeaves(b *testing.B) {
	e := create(b, openDB(b, vfs.NewMem(), ""), tree.Options{DeferSync: true})
	for range 100 {
		run(b, e, 500, 1)
	}
	b.ReportAllocs()
	for b.Loop() {
		if got, err := e.Leaves(b.Context(), 20000, 500); err != nil || len(got) != 500 {
			b.Fatal(len(got), err)
		}
	}
}
