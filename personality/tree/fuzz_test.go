package tree

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/google/trillian"
	"github.com/google/trillian/types"
	"google.golang.org/protobuf/proto"
)

// FuzzCheckRoot: a root that Trillian gave is refused as corrupt, or says what was given.
func FuzzCheckRoot(f *testing.F) {
	empty := sha256.Sum256(nil)
	for _, r := range []types.LogRootV1{{}, {RootHash: empty[:], TimestampNanos: 7}, {TreeSize: 5, RootHash: make([]byte, HashSize)}} {
		b, err := r.MarshalBinary()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, logRoot []byte) {
		root, nanos, err := checkRoot(&trillian.SignedLogRoot{LogRoot: logRoot})
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("%x: error %v", logRoot, err)
			}
			return
		}
		if root.Size > maxSize || nanos < 0 || root.Size == 0 && root.Hash != empty || !bytes.Contains(logRoot, root.Hash[:]) {
			t.Errorf("%x: %+v at %d", logRoot, root, nanos)
		}
	})
}

// FuzzCheckLeaves: leaves that Trillian gave, in its own encoding, are refused as corrupt, or
// are those of the range, each whole.
func FuzzCheckLeaves(f *testing.F) {
	reply := &trillian.GetLeavesByRangeResponse{Leaves: []*trillian.LogLeaf{
		{LeafIndex: 5, LeafValue: []byte("a"), LeafIdentityHash: make([]byte, HashSize)},
		{LeafIndex: 6, LeafValue: []byte("b"), LeafIdentityHash: make([]byte, HashSize)},
	}}
	b, err := proto.Marshal(reply)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, uint64(5), 2)
	f.Add(b, uint64(6), 2)
	f.Add([]byte{}, uint64(0), 0)
	f.Fuzz(func(t *testing.T, b []byte, start uint64, count int) {
		var got trillian.GetLeavesByRangeResponse
		if proto.Unmarshal(b, &got) != nil || count < 0 || start > maxSize {
			return
		}
		leaves, err := checkLeaves(got.Leaves, start, count)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("%v: error %v", got.Leaves, err)
			}
			return
		}
		if len(leaves) > count || len(leaves) != len(got.Leaves) {
			t.Fatalf("%d leaves of %d, asked for %d", len(leaves), len(got.Leaves), count)
		}
		for i, l := range leaves {
			if l.Index != start+uint64(i) || !bytes.Equal(l.Value, got.Leaves[i].LeafValue) || len(l.Value) == 0 || len(l.Value) > MaxLeafBytes {
				t.Errorf("leaf %d from %d: %+v", i, start, l)
			}
		}
	})
}
