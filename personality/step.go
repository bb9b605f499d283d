package personality

import (
	"context"
	"fmt"

	"github.com/transparency-dev/merkle/compact"

	"github.com/prooftrail/prooftrail/personality/pubstore"
	"github.com/prooftrail/prooftrail/personality/tree"
	"github.com/prooftrail/prooftrail/verifier"
)

// step is a publication in the making.
type step struct {
	pub    pubstore.Publication
	ours   bool // not one that another process has made
	folded *compact.Range
	nodes  []node // all new complete nodes, in the order they arose
	hashes []verifier.Hash
}

type node struct {
	id   compact.NodeID
	hash []byte
}

// readBack is how many leaves are read from the tree at once.
const readBack = 1000

// extend makes the step from what old covers to size, which Trillian's root covers: it reads
// the leaves in between back, folds their hashes into our own compact range, and compares.
// What lies between size and the root is read for the comparison only. A tree that
// is wrong is a *Fault. The step's head is the caller's to seal.
func extend(ctx context.Context, t tree.Tree, old *compact.Range, root tree.Root, size uint64) (*step, error) {
	wrong := func(format string, args ...any) error {
		return &Fault{Reason: fmt.Sprintf(format, args...), Err: errRoot}
	}
	if root.Size <= old.End() || root.Size < size {
		return nil, wrong("Trillian's tree has %d entries, but %d are published", root.Size, old.End())
	}
	folded, err := cloneRange(old)
	if err != nil {
		return nil, fmt.Errorf("recompute the root: %w", err)
	}
	st := &step{folded: folded}
	all := folded // of the root's leaves
	for next := old.End(); next < root.Size; {
		leaves, err := t.Leaves(ctx, next, int(min(readBack, root.Size-next)))
		if err != nil {
			return nil, fmt.Errorf("read back entries from %d: %w", next, err)
		}
		if len(leaves) == 0 {
			return nil, wrong("Trillian's tree has %d entries, but entry %d can't be read back", root.Size, next)
		}
		n := min(uint64(len(leaves)), size-min(size, next))
		if err := st.add(leaves[:n]); err != nil {
			return nil, fmt.Errorf("recompute the root: %w", err)
		}
		if n < uint64(len(leaves)) {
			if all, err = foldBehind(st, all, leaves[n:]); err != nil {
				return nil, fmt.Errorf("recompute the root: %w", err)
			}
		}
		next += uint64(len(leaves))
	}
	got, err := rootOf(all)
	if err != nil {
		return nil, fmt.Errorf("recompute the root: %w", err)
	}
	if got != root.Hash {
		return nil, wrong("at size %d Trillian's root is %x, but its leaves make %x", root.Size, root.Hash, got)
	}
	st.pub.Head.Size = st.folded.End()
	if st.pub.Head.Root, err = rootOf(st.folded); err != nil {
		return nil, fmt.Errorf("recompute the root: %w", err)
	}
	st.tiles()
	return st, nil
}

// foldBehind folds leaves behind the step's into all, which is the step's own range at first.
func foldBehind(st *step, all *compact.Range, leaves []tree.Leaf) (*compact.Range, error) {
	if all == st.folded {
		var err error
		if all, err = cloneRange(st.folded); err != nil {
			return nil, err
		}
	}
	for _, l := range leaves {
		if l.Index != all.End() {
			return nil, fmt.Errorf("read back entry %d where %d was due", l.Index, all.End())
		}
		h := leafHashOf(l.Value)
		if err := all.Append(h[:], nil); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// cloneRange copies a compact range; folding into the copy leaves the account of
// the published tree alone until the head has moved.
func cloneRange(r *compact.Range) (*compact.Range, error) {
	return rangeFactory.NewRange(0, r.End(), append([][]byte(nil), r.Hashes()...))
}

// add folds leaves in, and collects their entries and identities.
func (st *step) add(leaves []tree.Leaf) error {
	visit := func(id compact.NodeID, hash []byte) { st.nodes = append(st.nodes, node{id, hash}) }
	for _, l := range leaves {
		if l.Index != st.folded.End() {
			return fmt.Errorf("read back entry %d where %d was due", l.Index, st.folded.End())
		}
		h := leafHashOf(l.Value)
		if err := st.folded.Append(h[:], visit); err != nil {
			return err
		}
		st.hashes = append(st.hashes, h)
		st.pub.IDs = append(st.pub.IDs, pubstore.ID{Hash: l.IdentityHash, Index: l.Index})
		n := l.Index / tileWidth
		if k := len(st.pub.Bundles); k == 0 || st.pub.Bundles[k-1].N != n {
			st.pub.Bundles = append(st.pub.Bundles, pubstore.TileAppend{N: n, Width: int(l.Index % tileWidth)})
		}
		b := &st.pub.Bundles[len(st.pub.Bundles)-1]
		b.Data = append(b.Data, byte(len(l.Value)>>8), byte(len(l.Value)))
		b.Data = append(b.Data, l.Value...)
	}
	return nil
}

// tiles turns the new nodes into what they add to the tiles. A tile's hashes are
// the complete nodes of every eighth level.
func (st *step) tiles() {
	last := map[uint]int{} // level of nodes -> index of its newest tile in pub.Tiles
	for _, nd := range st.nodes {
		if nd.id.Level%tileHeight != 0 {
			continue
		}
		n := nd.id.Index / tileWidth
		k, ok := last[nd.id.Level]
		if !ok || st.pub.Tiles[k].N != n {
			k = len(st.pub.Tiles)
			last[nd.id.Level] = k
			st.pub.Tiles = append(st.pub.Tiles, pubstore.TileAppend{
				Level: int(nd.id.Level / tileHeight), N: n, Width: int(nd.id.Index % tileWidth)})
		}
		st.pub.Tiles[k].Data = append(st.pub.Tiles[k].Data, nd.hash...)
	}
}
