package pubstore_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"github.com/prooftrail/prooftrail/personality/pubstore"
)

// BenchmarkPublish is one step of the head with so many entries, on a disk: what
// the main path writes for them but their openings.
func BenchmarkPublish(b *testing.B) {
	for _, n := range []int{1, 64, 500} {
		b.Run(fmt.Sprintf("entries=%d", n), func(b *testing.B) {
			s := benchStore(b)
			head := pubstore.Head{}
			b.ReportAllocs()
			for b.Loop() {
				p := benchPublication(head.Size, n)
				if err := s.Publish(b.Context(), head, p); err != nil {
					b.Fatal(err)
				}
				head = p.Head.Head
			}
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}

// BenchmarkPutBatch is the other half of what is written for an event. It
// isn't synced: the tree's Append that follows is.
func BenchmarkPutBatch(b *testing.B) {
	s := benchStore(b)
	opening := bytes.Repeat([]byte("o"), 2200)
	b.SetBytes(int64(len(opening)))
	b.ReportAllocs()
	var n uint64
	for b.Loop() {
		n++
		h := sha256.Sum256(binary.BigEndian.AppendUint64(nil, n))
		if err := s.PutBatch(b.Context(), pubstore.Batch{Mark: pubstore.Mark{First: n, Leaves: []pubstore.LeafID{{Hash: h}}}, Openings: []pubstore.Opening{{LeafHash: h, Bytes: opening}}}); err != nil {
			b.Fatal(err)
		}
	}
}

func benchStore(b *testing.B) *pubstore.Pebble {
	b.Helper()
	db, err := pebble.Open(filepath.Join(b.TempDir(), "db"), &pebble.Options{Logger: quietBench{}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close() })
	s := pubstore.NewPebble(db)
	log := pubstore.Log{Origin: "o", Name: "n", VKey: "v", TreeID: 1, IDSecret: make([]byte, 32)}
	if err := s.Create(b.Context(), log, pubstore.SealedHead{}); err != nil {
		b.Fatal(err)
	}
	return s
}

type quietBench struct{}

func (quietBench) Infof(string, ...any)  {}
func (quietBench) Errorf(string, ...any) {}
func (quietBench) Fatalf(string, ...any) {}

// benchPublication adds n entries of 109 bytes at index from.
func benchPublication(from uint64, n int) pubstore.Publication {
	p := pubstore.Publication{Head: pubstore.SealedHead{Head: pubstore.Head{Size: from + uint64(n)}}}
	for i := from; i < p.Head.Size; i++ {
		if k := len(p.Tiles); k == 0 || p.Tiles[k-1].N != i/256 {
			p.Tiles = append(p.Tiles, pubstore.TileAppend{N: i / 256, Width: int(i % 256)})
			p.Bundles = append(p.Bundles, pubstore.TileAppend{N: i / 256, Width: int(i % 256)})
		}
		h := sha256.Sum256(binary.BigEndian.AppendUint64(nil, i))
		t, e := &p.Tiles[len(p.Tiles)-1], &p.Bundles[len(p.Bundles)-1]
		t.Data = append(t.Data, h[:]...)
		e.Data = append(append(e.Data, 0, 109), make([]byte, 109)...)
		p.IDs = append(p.IDs, pubstore.ID{Hash: h, Index: i})
	}
	return p
}
