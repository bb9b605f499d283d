package personality

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/transparency-dev/merkle/compact"

	"github.com/prooftrail/prooftrail/personality/pubstore"
	"github.com/prooftrail/prooftrail/personality/tree"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

// openingsCompared is how many openings of each log are in memory at once.
const openingsCompared = 64

// prove reads the whole new log, and returns nil only if it is the old one: every leaf,
// tile, bundle, identity, opening, token and source key, and the root that they make.
func (m *migration) prove(ctx context.Context) error {
	if err := m.proveRecords(ctx); err != nil {
		return brokenIf(err)
	}
	m.done.WithoutOpening = 0
	p := &proving{m: m, folded: rangeFactory.NewEmptyRange(0), tiles: &readTiles{from: m.dst.store}}
	for p.next < m.srcHead.Size {
		if err := errors.Join(ctx.Err(), m.alone(ctx)); err != nil {
			return err
		}
		if err := p.chunk(ctx, m.chunkEnd(p.next)); err != nil {
			return fmt.Errorf("check the new log from entry %d: %w", p.next, brokenIf(err))
		}
		m.progress(true, p.next)
	}
	root, err := rootOf(p.folded)
	if err != nil {
		return err
	}
	if root != m.srcHead.Root || m.head.Head != m.srcHead.Head {
		return unfit("the old log's head has size %d and root %x, but the new one's leaves make %x, and its head has size %d and root %x",
			m.srcHead.Size, m.srcHead.Root, root, m.head.Size, m.head.Root)
	}
	if err := checkEdge(ctx, m.dst.store, m.head.Size); err != nil {
		return brokenIf(err)
	}
	more, err := m.dst.tree.Leaves(ctx, m.head.Size, 1)
	if err == nil && len(more) > 0 {
		err = unfit("the new tree has more entries than the old log: somebody wrote to it")
	}
	return err
}

// brokenIf makes ErrNotMigrated of what says that something is missing or malformed, where all
// has been put there before.
func brokenIf(err error) error {
	for _, broken := range []error{pubstore.ErrNotFound, pubstore.ErrCorrupt, tree.ErrBroken, errNoTree} {
		if errors.Is(err, broken) {
			return unfit("somebody wrote to it, or it is broken: %w", err)
		}
	}
	return err
}

// proving is a reading of the new log, chunk after chunk.
type proving struct {
	m      *migration
	next   uint64
	folded *compact.Range
	tiles  *readTiles // of the levels above 0
}

// chunk checks the entries from the next one to end.
func (p *proving) chunk(ctx context.Context, end uint64) error {
	m, first := p.m, p.next
	leaves, err := m.readLeaves(ctx, m.dst.tree, first, end)
	if err != nil {
		return err
	}
	ids := leafIDs(leaves)
	if err := m.asPublished(ctx, first, ids); err != nil {
		return err
	}
	if err := m.sameIdentities(ctx, first, ids); err != nil {
		return err
	}
	for i := 0; i < len(leaves); i += tileWidth {
		if err := m.sameTile(ctx, leaves[i:min(i+tileWidth, len(leaves))]); err != nil {
			return err
		}
	}
	if err := p.fold(ctx, ids); err != nil {
		return err
	}
	for i := 0; i < len(ids); i += openingsCompared {
		if err := m.sameOpenings(ctx, first+uint64(i), hashesOf(ids[i:min(i+openingsCompared, len(ids))])); err != nil {
			return err
		}
	}
	p.next = end
	return nil
}

// fold folds the leaves in, and compares the nodes that are hashes of upper tiles.
func (p *proving) fold(ctx context.Context, ids []pubstore.LeafID) error {
	var upper []node
	visit := func(id compact.NodeID, hash []byte) {
		if id.Level > 0 && id.Level%tileHeight == 0 {
			upper = append(upper, node{id, hash})
		}
	}
	for i := range ids {
		if err := p.folded.Append(ids[i].Hash[:], visit); err != nil {
			return err
		}
	}
	for _, n := range upper {
		stored, err := nodeFromTile(ctx, p.tiles, n.id)
		if err != nil {
			return err
		}
		if !bytes.Equal(stored, n.hash) {
			return unfit("its tile of level %d has another hash %d than its entries make: somebody wrote to it", n.id.Level/tileHeight, n.id.Index)
		}
	}
	return nil
}

// sameIdentities looks the entries up in the new log's map.
func (m *migration) sameIdentities(ctx context.Context, first uint64, ids []pubstore.LeafID) error {
	identities := make([][32]byte, len(ids))
	for i := range ids {
		identities[i] = ids[i].Identity
	}
	indexes, err := m.dst.store.Indexes(ctx, identities)
	if err != nil {
		return err
	}
	for i := range identities {
		if index, ok := indexes[identities[i]]; !ok || index != first+uint64(i) {
			return unfit("the identity of its entry %d leads elsewhere: somebody wrote to it", first+uint64(i))
		}
	}
	return nil
}

// sameTile compares the leaves of one tile, from its beginning on, with the new log's
// tile and bundle. At the end of the log checkEdge sees to it that there is no more.
func (m *migration) sameTile(ctx context.Context, leaves []tree.Leaf) error {
	n := leaves[0].Index / tileWidth
	tile, err := m.dst.store.Tile(ctx, 0, n)
	if err != nil {
		return err
	}
	bundle, err := m.dst.store.Bundle(ctx, n)
	if err != nil {
		return err
	}
	var hashes, entries []byte
	for _, l := range leaves {
		h := leafHashOf(l.Value)
		hashes = append(hashes, h[:]...)
		entries = append(append(entries, byte(len(l.Value)>>8), byte(len(l.Value))), l.Value...)
	}
	if !bytes.Equal(tile, hashes) || !bytes.Equal(bundle, entries) {
		return unfit("its tile or bundle %d doesn't hold its entries: somebody wrote to it", n)
	}
	return nil
}

// sameOpenings compares the openings of the leaves with these hashes, from index first on.
func (m *migration) sameOpenings(ctx context.Context, first uint64, hashes [][32]byte) error {
	var old [][]byte
	err := m.src.store.Openings(ctx, first, hashes, func(o []byte) error {
		old = append(old, bytes.Clone(o))
		return nil
	})
	if err != nil {
		return err
	}
	differ := map[int][]byte{}
	i := 0
	err = m.dst.store.Openings(ctx, first, hashes, func(o []byte) error {
		if (o == nil) != (old[i] == nil) || !bytes.Equal(o, old[i]) {
			differ[i] = bytes.Clone(o)
		}
		if old[i] == nil {
			m.done.WithoutOpening++
		}
		i++
		return nil
	})
	if err != nil {
		return err
	}
	for i, o := range differ {
		if err := m.loseValues(ctx, first+uint64(i), hashes[i], o, old[i]); err != nil {
			return err
		}
	}
	return nil
}

// loseValues puts the old log's opening in the place of another one of the same leaf, which
// it was when an earlier run copied it: an opening may have lost values since.
func (m *migration) loseValues(ctx context.Context, index uint64, leafHash [32]byte, copied, now []byte) error {
	for _, opening := range [][]byte{copied, now} {
		o, err := seal.ParseOpening(opening)
		if err != nil || o.LeafHash() != leafHash {
			return unfit("its opening of entry %d isn't the old log's: somebody wrote to one of them", index)
		}
	}
	return m.dst.store.ReplaceOpening(ctx, index, leafHash, copied, now)
}
