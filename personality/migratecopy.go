package personality

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/prooftrail/prooftrail/personality/pubstore"
	"github.com/prooftrail/prooftrail/personality/tree"
)

// copyTiles is how many tiles of entries are copied, or compared, as one batch, at most.
// Whole tiles are one row each where a publication's rows stay.
const copyTiles = 3

// maxAppends bounds how often a batch is appended and read back. Each time at least one
// more leaf must be there.
const maxAppends = 16

// copied is a batch on its way.
type copied struct {
	leaves []tree.Leaf
	batch  pubstore.Batch
}

func (c *copied) end() uint64 { return c.batch.Mark.End() }

// copyAll copies tokens, keys of sources, the quarantine and entries until the new log has the old one's head.
func (m *migration) copyAll(ctx context.Context) error {
	if err := errors.Join(m.copyRecords(ctx), m.copyQuarantine(ctx)); err != nil {
		return err
	}
	for m.head.Size < m.srcHead.Size {
		if err := errors.Join(ctx.Err(), m.alone(ctx)); err != nil {
			return err
		}
		m.to.room.look()
		if err := m.to.room.refuse(false); err != nil {
			return err
		}
		c, err := m.readBatch(ctx, m.head.Size)
		if err != nil {
			return fmt.Errorf("read from the old log: %w", brokenIf(err))
		}
		before := m.head.Size
		if err := m.storeBatch(ctx, c); err != nil {
			return fmt.Errorf("copy entries from %d: %w", before, brokenIf(err))
		}
		m.done.Copied += m.head.Size - before
		m.progress(false, m.head.Size)
	}
	return nil
}

func (m *migration) progress(checking bool, done uint64) {
	if m.cfg.Progress != nil {
		m.cfg.Progress(MigrateProgress{Checking: checking, Done: done, Size: m.srcHead.Size})
	}
}

// chunkEnd is where the batch that begins at first ends: at the end of a tile, or of the log.
func (m *migration) chunkEnd(first uint64) uint64 {
	return min(m.srcHead.Size, (first/tileWidth+m.tiles)*tileWidth)
}

// readBatch reads entries of the old log, compared with what it has published, and their
// openings, byte for byte.
func (m *migration) readBatch(ctx context.Context, first uint64) (*copied, error) {
	leaves, err := m.readLeaves(ctx, m.src.tree, first, m.chunkEnd(first))
	if err != nil {
		return nil, err
	}
	ids := leafIDs(leaves)
	if err := m.asPublished(ctx, first, ids); err != nil {
		return nil, err
	}
	c := &copied{leaves: leaves, batch: pubstore.Batch{Mark: pubstore.Mark{First: first}}}
	enough, size := errors.New("enough"), 0
	err = m.src.store.Openings(ctx, first, hashesOf(ids), func(opening []byte) error {
		o := pubstore.Opening{LeafHash: ids[len(c.batch.Openings)].Hash, Bytes: bytes.Clone(opening)}
		c.batch.Openings = append(c.batch.Openings, o)
		if size += len(opening); size >= maxBatchBytes {
			return enough
		}
		return nil
	})
	if err != nil && !errors.Is(err, enough) {
		return nil, err
	}
	n := len(c.batch.Openings)
	c.leaves, c.batch.Mark.Leaves = c.leaves[:n], ids[:n]
	c.batch.Mark.MAC = m.src.parts.keys.markMAC(&c.batch.Mark)
	return c, nil
}

// readLeaves reads all leaves in [first, end) from a tree.
func (m *migration) readLeaves(ctx context.Context, t tree.Tree, first, end uint64) (leaves []tree.Leaf, err error) {
	for next := first; next < end; {
		some, err := t.Leaves(ctx, next, int(end-next))
		if err != nil {
			return nil, fmt.Errorf("read entries from %d: %w", next, err)
		}
		if len(some) == 0 {
			return nil, unfit("entry %d can't be read from Trillian's tree, though it is published", next)
		}
		leaves, next = append(leaves, some...), next+uint64(len(some))
	}
	return leaves, nil
}

func leafIDs(leaves []tree.Leaf) []pubstore.LeafID {
	ids := make([]pubstore.LeafID, len(leaves))
	for i, l := range leaves {
		ids[i] = pubstore.LeafID{Hash: leafHashOf(l.Value), Identity: l.IdentityHash}
	}
	return ids
}

func hashesOf(ids []pubstore.LeafID) [][32]byte {
	hashes := make([][32]byte, len(ids))
	for i := range ids {
		hashes[i] = ids[i].Hash
	}
	return hashes
}

// asPublished compares leaves, from index first on, with what the old log has published:
// their hashes with its tiles, their identities with its map.
func (m *migration) asPublished(ctx context.Context, first uint64, ids []pubstore.LeafID) error {
	var tile []byte
	identities := make([][32]byte, len(ids))
	for i := range ids {
		index := first + uint64(i)
		if i == 0 || index%tileWidth == 0 {
			var err error
			if tile, err = m.src.store.Tile(ctx, 0, index/tileWidth); err != nil {
				return err
			}
		}
		at := int(index%tileWidth) * 32
		if len(tile) < at+32 || [32]byte(tile[at:]) != ids[i].Hash {
			return unfit("entry %d has the leaf hash %x, and another one is published: somebody wrote to the database", index, ids[i].Hash)
		}
		identities[i] = ids[i].Identity
	}
	indexes, err := m.src.store.Indexes(ctx, identities)
	if err != nil {
		return err
	}
	for i := range identities {
		if index, ok := indexes[identities[i]]; !ok || index != first+uint64(i) {
			return unfit("entry %d has the identity %x, which isn't published as its: somebody wrote to the database", first+uint64(i), identities[i])
		}
	}
	return nil
}

// storeBatch brings a batch into the new log as a server would, and publishes it there
// by the same steps, but for the signature.
func (m *migration) storeBatch(ctx context.Context, c *copied) error {
	if err := m.dst.store.PutBatch(ctx, c.batch); err != nil {
		return err
	}
	if err := m.append(ctx, c.leaves); err != nil {
		return err
	}
	root, err := m.dst.tree.Integrate(ctx, c.end())
	if err != nil {
		return err
	}
	if root.Size > m.srcHead.Size {
		return unfit("its tree has %d entries, and the old log %d: somebody else writes to it", root.Size, m.srcHead.Size)
	}
	st, err := extend(ctx, m.dst.tree, m.folded, root, root.Size)
	var wrong *Fault
	if errors.As(err, &wrong) {
		return unfit("the new tree is wrong: %s", wrong.Reason)
	}
	if err != nil {
		return err
	}
	if err := m.asPublished(ctx, m.head.Size, st.ids()); err != nil { // an earlier run may have stored some
		return err
	}
	st.pub.Head = m.src.parts.keys.sealHeld(st.pub.Head.Head, m.head.Hold)
	st.pub.Drop = m.drop
	if err := m.dst.store.Publish(ctx, m.head.Head, st.pub); err != nil {
		return err
	}
	m.head, m.folded, m.drop = st.pub.Head, st.folded, []pubstore.Mark{c.batch.Mark}
	return nil
}

// ids are what is known of the step's leaves.
func (st *step) ids() []pubstore.LeafID {
	ids := make([]pubstore.LeafID, len(st.hashes))
	for i := range ids {
		ids[i] = pubstore.LeafID{Hash: st.hashes[i], Identity: st.pub.IDs[i].Hash}
	}
	return ids
}

// append stores the leaves that aren't there. Those that are, since an earlier run stored
// them or the outcome of a call isn't known, must be these.
func (m *migration) append(ctx context.Context, leaves []tree.Leaf) error {
	var failed error
	for range maxAppends {
		there, err := m.dst.tree.Leaves(ctx, leaves[0].Index, len(leaves))
		if err != nil {
			return err
		}
		for i, l := range there {
			if l.Index != leaves[i].Index || l.IdentityHash != leaves[i].IdentityHash || !bytes.Equal(l.Value, leaves[i].Value) {
				return unfit("its entry %d isn't the old log's: it holds something else, or somebody wrote to it", leaves[i].Index)
			}
		}
		if failed != nil && len(there) == 0 {
			return failed
		}
		if leaves = leaves[len(there):]; len(leaves) == 0 {
			return nil
		}
		if failed = m.dst.tree.Append(ctx, leaves); failed == nil {
			return nil
		}
	}
	return failed
}
