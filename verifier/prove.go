package verifier

import (
	"context"
	"fmt"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
)

// ProveInclusion makes the inclusion proof for the entry at index in the tree of a size,
// index < size <= MaxTreeSize, from tiles. Cost: at most two tiles a level of eight.
// Nothing is verified: see [CheckInclusion].
func ProveInclusion(ctx context.Context, r TileReader, index, size uint64) ([]Hash, error) {
	nodes, err := proof.Inclusion(index, size)
	if err != nil || size > MaxTreeSize {
		return nil, fmt.Errorf("prove inclusion of %d in %d: no such entry", index, size)
	}
	hashes, err := proofFromTiles(ctx, r, nodes, size)
	if err != nil {
		return nil, fmt.Errorf("prove inclusion of %d in %d: %w", index, size, err)
	}
	return hashes, nil
}

// ProveConsistency makes the consistency proof between the trees of two sizes,
// first <= second <= MaxTreeSize, from tiles of the second. Nothing is verified: see
// [CheckConsistency].
func ProveConsistency(ctx context.Context, r TileReader, first, second uint64) ([]Hash, error) {
	nodes, err := proof.Consistency(first, second)
	if err != nil || second > MaxTreeSize {
		return nil, fmt.Errorf("prove consistency of %d and %d: not in this order", first, second)
	}
	hashes, err := proofFromTiles(ctx, r, nodes, second)
	if err != nil {
		return nil, fmt.Errorf("prove consistency of %d and %d: %w", first, second, err)
	}
	return hashes, nil
}

func proofFromTiles(ctx context.Context, r TileReader, nodes proof.Nodes, size uint64) ([]Hash, error) {
	hashes, err := nodesFromTiles(ctx, r, nodes.IDs, size)
	if err != nil {
		return nil, err
	}
	rehashed, err := nodes.Rehash(byteSlices(hashes), func(left, right []byte) []byte {
		h := NodeHash(Hash(left), Hash(right))
		return h[:]
	})
	if err != nil {
		return nil, err
	}
	out := make([]Hash, len(rehashed))
	for i, h := range rehashed {
		out[i] = Hash(h)
	}
	return out, nil
}

// nodesFromTiles returns the hashes of complete subtrees of the tree of a size.
func nodesFromTiles(ctx context.Context, r TileReader, ids []compact.NodeID, size uint64) ([]Hash, error) {
	cache := map[Tile][]Hash{}
	out := make([]Hash, len(ids))
	for i, id := range ids {
		t, off, n := tileOf(id, size)
		hashes, ok := cache[t]
		if !ok {
			b, err := r.ReadTile(ctx, t)
			if err != nil {
				return nil, fmt.Errorf("read %s: %w", t.Path(), err)
			}
			if hashes, err = ParseTile(b, t.Width); err != nil {
				return nil, fmt.Errorf("read %s: %w", t.Path(), err)
			}
			cache[t] = hashes
		}
		out[i] = subtreeRoot(hashes[off : off+n])
	}
	return out, nil
}

// tileOf returns the tile that a node is made from, and the range of its hashes below the
// node.
func tileOf(id compact.NodeID, size uint64) (t Tile, off, n int) {
	level, height := int(id.Level/TileHeight), id.Level%TileHeight
	first := id.Index << height
	t = tileAt(level, first/TileWidth, size)
	return t, int(first % TileWidth), 1 << height
}

// tileAt returns tile n of a level as wide as it is in the tree of a size: "The partial
// tile at level *l* for a tree of size *s* has `floor(s / 256**l) mod 256` entries." With
// EntriesLevel it is the bundle.
func tileAt(level int, n, size uint64) Tile {
	row := size >> (TileHeight * max(level, 0))
	return Tile{Level: level, N: n, Width: int(min(row-n*TileWidth, TileWidth))}
}
