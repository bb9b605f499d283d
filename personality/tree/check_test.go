package tree

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"math"
	"testing"

	"github.com/google/trillian"
	"github.com/google/trillian/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestImpossibleRoots: what Trillian's MySQL storage makes of a killed query, among others.
func TestImpossibleRoots(t *testing.T) {
	hash := make([]byte, HashSize)
	empty := sha256.Sum256(nil)
	for name, root := range map[string]*types.LogRootV1{
		"nothing":         {},
		"no hash":         {TreeSize: 5},
		"short hash":      {TreeSize: 5, RootHash: hash[:31]},
		"long hash":       {TreeSize: 5, RootHash: append(hash, 0)},
		"size 0, no hash": {RootHash: nil, TimestampNanos: 1},
		"size 0, a hash":  {RootHash: hash},
		"size too large":  {TreeSize: 1 << 63, RootHash: hash},
		"time too large":  {TreeSize: 5, RootHash: hash, TimestampNanos: math.MaxInt64},
	} {
		b, err := root.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := checkRoot(&trillian.SignedLogRoot{LogRoot: b}); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		for i := range b {
			if _, _, err := checkRoot(&trillian.SignedLogRoot{LogRoot: b[:i]}); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s, cut at %d: %v", name, i, err)
			}
		}
	}
	for _, slr := range []*trillian.SignedLogRoot{nil, {}} {
		if _, _, err := checkRoot(slr); !errors.Is(err, ErrCorrupt) {
			t.Errorf("root %v: %v", slr, err)
		}
	}
	b, err := (&types.LogRootV1{RootHash: empty[:], TimestampNanos: 7}).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	if root, nanos, err := checkRoot(&trillian.SignedLogRoot{LogRoot: b}); err != nil || root.Size != 0 || nanos != 7 {
		t.Errorf("empty root: %v, %d, %v", root, nanos, err)
	}
}

func TestImpossibleLeaves(t *testing.T) {
	good := func() []*trillian.LogLeaf {
		return []*trillian.LogLeaf{
			{LeafIndex: 5, LeafValue: []byte("a"), LeafIdentityHash: make([]byte, HashSize)},
			{LeafIndex: 6, LeafValue: []byte("b"), LeafIdentityHash: make([]byte, HashSize)},
		}
	}
	if got, err := checkLeaves(good(), 5, 2); err != nil || len(got) != 2 || got[1].Index != 6 {
		t.Fatalf("%v, %v", got, err)
	}
	for name, change := range map[string]func(l []*trillian.LogLeaf){
		"nil":            func(l []*trillian.LogLeaf) { l[1] = nil },
		"wrong index":    func(l []*trillian.LogLeaf) { l[1].LeafIndex = 7 },
		"negative index": func(l []*trillian.LogLeaf) { l[0].LeafIndex = -1 },
		"index twice":    func(l []*trillian.LogLeaf) { l[1].LeafIndex = 5 },
		"no value":       func(l []*trillian.LogLeaf) { l[0].LeafValue = nil },
		"long value":     func(l []*trillian.LogLeaf) { l[0].LeafValue = make([]byte, MaxLeafBytes+1) },
		"no identity":    func(l []*trillian.LogLeaf) { l[0].LeafIdentityHash = nil },
		"long identity":  func(l []*trillian.LogLeaf) { l[0].LeafIdentityHash = make([]byte, HashSize+1) },
	} {
		l := good()
		change(l)
		if _, err := checkLeaves(l, 5, 2); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := checkLeaves(good(), 5, 1); !errors.Is(err, ErrCorrupt) {
		t.Errorf("more than asked for: %v", err)
	}
}

// TestRefusals covers what each storage says of a leaf that it refuses; MySQL's
// returns no leaf, only a text.
func TestRefusals(t *testing.T) {
	leaf := Leaf{Index: 5, IdentityHash: [HashSize]byte{1}}
	st := func(c codes.Code, text string) *trillian.QueuedLogLeaf {
		return &trillian.QueuedLogLeaf{Status: status.New(c, text).Proto()}
	}
	with := func(q *trillian.QueuedLogLeaf, index int64, id byte) *trillian.QueuedLogLeaf {
		q.Leaf = &trillian.LogLeaf{LeafIndex: index, LeafIdentityHash: append([]byte{id}, bytes.Repeat([]byte{0}, 31)...)}
		return q
	}
	for name, tt := range map[string]struct {
		res  []*trillian.QueuedLogLeaf
		want error
	}{
		"stored at the index": {[]*trillian.QueuedLogLeaf{with(st(codes.FailedPrecondition, ""), 5, 9)}, ErrIndexTaken},
		"stored identical":    {[]*trillian.QueuedLogLeaf{with(st(codes.AlreadyExists, ""), 5, 1)}, ErrIndexTaken},
		"identity elsewhere":  {[]*trillian.QueuedLogLeaf{with(st(codes.FailedPrecondition, ""), 4, 1)}, ErrDuplicate},
		"MySQL, index":        {[]*trillian.QueuedLogLeaf{st(codes.FailedPrecondition, "conflicting LeafIndex")}, ErrIndexTaken},
		"MySQL, identity":     {[]*trillian.QueuedLogLeaf{st(codes.FailedPrecondition, "conflicting LeafIdentityHash")}, ErrDuplicate},
		"no result":           {nil, ErrCorrupt},
		"nil result":          {[]*trillian.QueuedLogLeaf{nil}, ErrCorrupt},
		"one result too many": {[]*trillian.QueuedLogLeaf{{}, {}}, ErrCorrupt},
		"without a status, as Trillian's QueueLeaves has it": {[]*trillian.QueuedLogLeaf{{}}, nil},
	} {
		if err := checkAdded(tt.res, []Leaf{leaf}); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
	if err := checkAdded([]*trillian.QueuedLogLeaf{st(codes.OutOfRange, "x")}, []Leaf{leaf}); status.Code(err) != codes.OutOfRange {
		t.Errorf("another refusal: %v", err)
	}
}
