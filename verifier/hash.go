package verifier

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/bits"
	"slices"
)

// Hash is a SHA-256 hash: of a leaf, of a node, or of a whole tree (RFC 6962, section 2.1).
type Hash = [sha256.Size]byte

// MaxTreeSize is the largest tree size that is accepted anywhere, 2^63 - 1, so that
// neither sizes nor indices overflow in signed arithmetic.
const MaxTreeSize = 1<<63 - 1

// EmptyRoot is the root of the tree without leaves: "The hash of an empty list is the
// hash of an empty string" (RFC 6962, section 2.1).
var EmptyRoot = sha256.Sum256(nil)

// LeafHash returns SHA-256(0x00 ‖ leaf), the leaf hash of RFC 6962, section 2.1.
func LeafHash(leaf []byte) Hash {
	var small [256]byte // a leaf of this log has 109 bytes: no allocation on the hot path
	if len(leaf) < len(small) {
		copy(small[1:], leaf)
		return sha256.Sum256(small[:1+len(leaf)])
	}
	h := sha256.New()
	h.Write([]byte{0})
	h.Write(leaf)
	return Hash(h.Sum(nil))
}

// NodeHash returns SHA-256(0x01 ‖ left ‖ right), the interior node of RFC 6962, section 2.1.
func NodeHash(left, right Hash) Hash {
	var b [1 + 2*sha256.Size]byte
	b[0] = 1
	copy(b[1:], left[:])
	copy(b[1+sha256.Size:], right[:])
	return sha256.Sum256(b[:])
}

// CompactRange holds the roots of the complete subtrees that a tree of some size is made
// of, left to right: at most 63 hashes from which the root follows and to which leaves
// can be appended. The zero value is the empty tree. It is not safe for concurrent use.
type CompactRange struct {
	size   uint64
	hashes []Hash // one for each set bit of size, the largest subtree first
}

// NewCompactRange makes a range from a size and the hashes that [CompactRange.Hashes]
// returned for it. It is an error when their number doesn't fit the size.
func NewCompactRange(size uint64, hashes []Hash) (*CompactRange, error) {
	if size > MaxTreeSize {
		return nil, fmt.Errorf("compact range: size %d exceeds %d", size, uint64(MaxTreeSize))
	}
	if want := bits.OnesCount64(size); len(hashes) != want {
		return nil, fmt.Errorf("compact range: %d hashes for size %d, expected %d", len(hashes), size, want)
	}
	return &CompactRange{size: size, hashes: slices.Clone(hashes)}, nil
}

// Size returns the number of leaves.
func (r *CompactRange) Size() uint64 { return r.size }

// Hashes returns a copy of the subtree roots, the largest subtree first.
func (r *CompactRange) Hashes() []Hash { return slices.Clone(r.hashes) }

// Clone returns an independent copy.
func (r *CompactRange) Clone() *CompactRange {
	return &CompactRange{size: r.size, hashes: slices.Clone(r.hashes)}
}

// Append adds one leaf by its leaf hash. Amortised cost: one node hash.
func (r *CompactRange) Append(leaf Hash) { r.merge(leaf, 0) }

// AppendSubtree adds the root of a complete subtree of 2^level leaves. It is an error
// when the size isn't a multiple of 2^level, or the new size would exceed MaxTreeSize.
func (r *CompactRange) AppendSubtree(root Hash, level int) error {
	if level < 0 || level > 62 || r.size&(1<<level-1) != 0 {
		return fmt.Errorf("compact range: a subtree of level %d doesn't fit at %d", level, r.size)
	}
	if r.size > MaxTreeSize-1<<level {
		return errors.New("compact range: too large")
	}
	r.merge(root, level)
	return nil
}

// merge pushes the root and joins it with its left siblings.
func (r *CompactRange) merge(root Hash, level int) {
	for n := r.size >> level; n&1 == 1; n >>= 1 {
		last := len(r.hashes) - 1
		root = NodeHash(r.hashes[last], root)
		r.hashes = r.hashes[:last]
	}
	r.hashes = append(r.hashes, root)
	r.size += 1 << level
}

// Root returns the root of the tree of that size. Cost: at most 62 node hashes.
func (r *CompactRange) Root() Hash {
	if len(r.hashes) == 0 {
		return EmptyRoot
	}
	root := r.hashes[len(r.hashes)-1]
	for i := len(r.hashes) - 2; i >= 0; i-- {
		root = NodeHash(r.hashes[i], root)
	}
	return root
}

// truncate drops the last size mod 2^level leaves.
func (r *CompactRange) truncate(level int) {
	r.size = r.size >> level << level
	r.hashes = r.hashes[:bits.OnesCount64(r.size)]
}

// subtreeRoot returns the root of the tree over the hashes, 1 to 256 of them; it
// overwrites nothing. It goes through the tree level by level: a last node without a
// sibling is a node of the next level as well.
func subtreeRoot(hashes []Hash) Hash {
	var room [TileWidth / 2]Hash
	for len(hashes) > 1 {
		next := room[:0]
		for i := 1; i < len(hashes); i += 2 {
			next = append(next, NodeHash(hashes[i-1], hashes[i]))
		}
		if len(hashes)%2 == 1 {
			next = append(next, hashes[len(hashes)-1])
		}
		hashes = next
	}
	return hashes[0]
}
