package tree

import (
	"crypto/sha256"
	"fmt"
	"math"

	"github.com/google/trillian"
	"github.com/google/trillian/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// maxSize keeps indices within Trillian's int64.
const maxSize = math.MaxInt64

// checkAppend refuses leaves that can't be right for any tree.
func checkAppend(leaves []Leaf) error {
	if len(leaves) > MaxAppend {
		return fmt.Errorf("%w: %d leaves, want at most %d", ErrInvalid, len(leaves), MaxAppend)
	}
	for i := range leaves {
		l := &leaves[i]
		if len(l.Value) == 0 || len(l.Value) > MaxLeafBytes {
			return fmt.Errorf("%w: leaf %d has %d bytes, want 1 to %d", ErrInvalid, l.Index, len(l.Value), MaxLeafBytes)
		}
		if l.Index >= maxSize || l.Index != leaves[0].Index+uint64(i) {
			return fmt.Errorf("%w: leaf %d follows index %d", ErrInvalid, l.Index, leaves[max(i-1, 0)].Index)
		}
	}
	return nil
}

// checkRoot reads a root that Trillian returned, and when it was made.
func checkRoot(slr *trillian.SignedLogRoot) (Root, int64, error) {
	if slr == nil {
		return Root{}, 0, fmt.Errorf("%w: no root", ErrCorrupt)
	}
	var r types.LogRootV1
	if err := r.UnmarshalBinary(slr.LogRoot); err != nil {
		return Root{}, 0, fmt.Errorf("%w: root: %w", ErrCorrupt, err)
	}
	switch {
	case len(r.RootHash) != HashSize:
		return Root{}, 0, fmt.Errorf("%w: root hash of %d bytes", ErrCorrupt, len(r.RootHash))
	case r.TreeSize > maxSize:
		return Root{}, 0, fmt.Errorf("%w: root of size %d", ErrCorrupt, r.TreeSize)
	case r.TimestampNanos >= math.MaxInt64:
		return Root{}, 0, fmt.Errorf("%w: root at %d ns", ErrCorrupt, r.TimestampNanos)
	}
	root := Root{Size: r.TreeSize, Hash: [HashSize]byte(r.RootHash)}
	if root.Size == 0 && root.Hash != sha256.Sum256(nil) {
		return Root{}, 0, fmt.Errorf("%w: root %x of size 0", ErrCorrupt, root.Hash)
	}
	return root, int64(r.TimestampNanos), nil
}

// checkLeaves converts leaves that Trillian returned for [start, start+count).
func checkLeaves(got []*trillian.LogLeaf, start uint64, count int) ([]Leaf, error) {
	if len(got) > count {
		return nil, fmt.Errorf("%w: %d leaves, asked for %d", ErrCorrupt, len(got), count)
	}
	leaves := make([]Leaf, len(got))
	for i, l := range got {
		want := start + uint64(i)
		switch {
		case l == nil:
			return nil, fmt.Errorf("%w: leaf %d is nil", ErrCorrupt, want)
		case l.LeafIndex < 0 || uint64(l.LeafIndex) != want:
			return nil, fmt.Errorf("%w: leaf %d in the place of %d", ErrCorrupt, l.LeafIndex, want)
		case len(l.LeafValue) == 0 || len(l.LeafValue) > MaxLeafBytes:
			return nil, fmt.Errorf("%w: leaf %d has %d bytes", ErrCorrupt, want, len(l.LeafValue))
		case len(l.LeafIdentityHash) != HashSize:
			return nil, fmt.Errorf("%w: leaf %d has an identity hash of %d bytes", ErrCorrupt, want, len(l.LeafIdentityHash))
		}
		leaves[i] = Leaf{Index: want, Value: l.LeafValue, IdentityHash: [HashSize]byte(l.LeafIdentityHash)}
	}
	return leaves, nil
}

// checkAdded returns the first refusal in what AddSequencedLeaves returned for leaves.
func checkAdded(res []*trillian.QueuedLogLeaf, leaves []Leaf) error {
	if len(res) != len(leaves) {
		return fmt.Errorf("%w: %d results for %d leaves", ErrCorrupt, len(res), len(leaves))
	}
	for i, r := range res {
		if r == nil {
			return fmt.Errorf("%w: no result for leaf %d", ErrCorrupt, leaves[i].Index)
		}
		if codes.Code(r.GetStatus().GetCode()) != codes.OK {
			return fmt.Errorf("leaf %d: %w", leaves[i].Index, refusal(r, &leaves[i]))
		}
	}
	return nil
}

// refusal says why a leaf was refused: by what is stored in its way, which a storage
// returns or (MySQL) only names.
func refusal(r *trillian.QueuedLogLeaf, leaf *Leaf) error {
	st := status.FromProto(r.Status)
	stored := r.Leaf
	switch {
	case st.Code() == codes.AlreadyExists, stored != nil && uint64(stored.LeafIndex) == leaf.Index,
		stored == nil && st.Message() == "conflicting LeafIndex":
		return fmt.Errorf("%w (%v)", ErrIndexTaken, st.Message())
	case stored != nil && string(stored.LeafIdentityHash) == string(leaf.IdentityHash[:]),
		stored == nil && st.Message() == "conflicting LeafIdentityHash":
		return fmt.Errorf("%w (%v)", ErrDuplicate, st.Message())
	}
	return st.Err()
}
