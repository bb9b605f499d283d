package personality

import (
	"context"
	"errors"
	"fmt"

	"github.com/prooftrail/prooftrail/personality/pubstore"
	"github.com/prooftrail/prooftrail/verifier"
	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
)

const (
	tileHeight = 8 // tlog-tiles: a tile is a subtree of height 8
	tileWidth  = 1 << tileHeight
)

var rangeFactory = compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}

// node returns a complete node of the published tree, from memory or its tile.
func (s *Service) node(ctx context.Context, id compact.NodeID) ([]byte, error) {
	s.edge.mu.RLock()
	hash, ok := s.edge.get(id)
	s.edge.mu.RUnlock()
	if ok {
		return hash[:], nil
	}
	return nodeFromTile(ctx, s.store, id)
}

// nodeFromTile folds a node from the hashes of the tile that holds it: at most
// 128 of them.
func nodeFromTile(ctx context.Context, store pubstore.Store, id compact.NodeID) ([]byte, error) {
	within := id.Level % tileHeight
	start := id.Index << within
	tile, err := store.Tile(ctx, int(id.Level/tileHeight), start/tileWidth)
	if err != nil {
		return nil, err
	}
	from, count := int(start%tileWidth), 1<<within
	if len(tile) < (from+count)*32 {
		return nil, fmt.Errorf("node %d/%d: %w: its tile has %d hashes", id.Level, id.Index, pubstore.ErrCorrupt, len(tile)/32)
	}
	hashes := make([][]byte, count)
	for i := range hashes {
		hashes[i] = tile[(from+i)*32 : (from+i+1)*32]
	}
	for len(hashes) > 1 {
		for i := range len(hashes) / 2 {
			hashes[i] = rfc6962.DefaultHasher.HashChildren(hashes[2*i], hashes[2*i+1])
		}
		hashes = hashes[:len(hashes)/2]
	}
	return hashes[0], nil
}

// rangeAt returns the compact range of the first size entries, as the tiles have it.
func rangeAt(ctx context.Context, store pubstore.Store, size uint64) (*compact.Range, error) {
	ids := compact.RangeNodes(0, size, nil)
	hashes := make([][]byte, len(ids))
	for i, id := range ids {
		h, err := nodeFromTile(ctx, store, id)
		if err != nil {
			return nil, fmt.Errorf("read the compact range of size %d: %w", size, err)
		}
		hashes[i] = h
	}
	return rangeFactory.NewRange(0, size, hashes)
}

// rootOf returns the RFC 6962 root of what r covers.
func rootOf(r *compact.Range) ([32]byte, error) {
	if r.End() == 0 {
		return [32]byte(rfc6962.DefaultHasher.EmptyRoot()), nil
	}
	root, err := r.GetRootHash(nil)
	if err != nil {
		return [32]byte{}, err
	}
	return [32]byte(root), nil
}

// prove gathers the nodes of a proof.
func (s *Service) prove(ctx context.Context, nodes proof.Nodes) ([]verifier.Hash, error) {
	hashes := make([][]byte, len(nodes.IDs))
	for i, id := range nodes.IDs {
		h, err := s.node(ctx, id)
		if err != nil {
			return nil, err
		}
		hashes[i] = h
	}
	hashes, err := nodes.Rehash(hashes, rfc6962.DefaultHasher.HashChildren)
	if err != nil {
		return nil, err
	}
	out := make([]verifier.Hash, len(hashes))
	for i, h := range hashes {
		out[i] = verifier.Hash(h)
	}
	return out, nil
}

// proveInclusion returns the inclusion proof of the entry in the tree of the
// size, which has been published.
func (s *Service) proveInclusion(ctx context.Context, index, size uint64) ([]verifier.Hash, error) {
	nodes, err := proof.Inclusion(index, size)
	if err != nil {
		return nil, err
	}
	p, err := s.prove(ctx, nodes)
	if err != nil {
		return nil, fmt.Errorf("prove inclusion of %d in size %d: %w", index, size, err)
	}
	return p, nil
}

// ProveInclusion returns the leaf hash of the entry and its proof in the tree of
// the size. ErrBeyondHead where that isn't published.
func (s *Service) ProveInclusion(ctx context.Context, index, size uint64) (verifier.Hash, []verifier.Hash, error) {
	release, err := s.use()
	if err != nil {
		return verifier.Hash{}, nil, err
	}
	defer release()
	if index >= size {
		return verifier.Hash{}, nil, &InvalidError{Field: "index", Expected: "a number below size"}
	}
	if size > s.published.Load().head.Size {
		return verifier.Hash{}, nil, ErrBeyondHead
	}
	leaf, err := s.node(ctx, compact.NewNodeID(0, index))
	if err != nil {
		return verifier.Hash{}, nil, err
	}
	p, err := s.proveInclusion(ctx, index, size)
	return verifier.Hash(leaf), p, err
}

// ProveConsistency returns the RFC 6962 proof that the tree of size second
// extends that of size first. ErrBeyondHead where second isn't published.
func (s *Service) ProveConsistency(ctx context.Context, first, second uint64) ([]verifier.Hash, error) {
	release, err := s.use()
	if err != nil {
		return nil, err
	}
	defer release()
	if first == 0 || first > second {
		return nil, &InvalidError{Field: "first", Expected: "a number from 1 to second"}
	}
	if second > s.published.Load().head.Size {
		return nil, ErrBeyondHead
	}
	nodes, err := proof.Consistency(first, second)
	if err != nil {
		return nil, err
	}
	p, err := s.prove(ctx, nodes)
	if err != nil {
		return nil, fmt.Errorf("prove consistency of %d and %d: %w", first, second, err)
	}
	return p, nil
}

// Tile returns the first width hashes of a tile, 32 bytes each, as c2sp.org/tlog-tiles
// has them. Levels 0..63, width 1..256. ErrNotFound where that isn't published.
func (s *Service) Tile(ctx context.Context, level int, n uint64, width int) ([]byte, error) {
	release, err := s.use()
	if err != nil {
		return nil, err
	}
	defer release()
	have := s.published.Load().head.Size >> (uint(level) * tileHeight)
	if level < 0 || level > 63 || width < 1 || width > tileWidth || n > have/tileWidth || n*tileWidth+uint64(width) > have {
		return nil, ErrNotFound
	}
	tile, err := s.store.Tile(ctx, level, n)
	if err != nil {
		return nil, notAMiss(err)
	}
	if len(tile) < width*32 {
		return nil, fmt.Errorf("tile %d/%d: %w: %d bytes", level, n, pubstore.ErrCorrupt, len(tile))
	}
	return tile[:width*32], nil
}

// EntryBundle returns the first width entries of a bundle, each after its length
// as a big-endian uint16. Width 1..256. ErrNotFound where that isn't published.
func (s *Service) EntryBundle(ctx context.Context, n uint64, width int) ([]byte, error) {
	release, err := s.use()
	if err != nil {
		return nil, err
	}
	defer release()
	have := s.published.Load().head.Size
	if width < 1 || width > tileWidth || n > have/tileWidth || n*tileWidth+uint64(width) > have {
		return nil, ErrNotFound
	}
	bundle, err := s.store.Bundle(ctx, n)
	if err != nil {
		return nil, notAMiss(err)
	}
	end := 0
	for range width {
		if _, end, err = bundleEntry(bundle, end); err != nil {
			return nil, fmt.Errorf("entry bundle %d: %w", n, err)
		}
	}
	return bundle[:end], nil
}

// bundleEntry returns the entry that starts at offset, and where the next one does.
func bundleEntry(bundle []byte, offset int) (entry []byte, next int, err error) {
	if len(bundle)-offset < 2 {
		return nil, 0, fmt.Errorf("%w: it ends at byte %d", pubstore.ErrCorrupt, len(bundle))
	}
	next = offset + 2 + int(bundle[offset])<<8 + int(bundle[offset+1])
	if next > len(bundle) {
		return nil, 0, fmt.Errorf("%w: it ends at byte %d", pubstore.ErrCorrupt, len(bundle))
	}
	return bundle[offset+2 : next], next, nil
}

// notAMiss turns "not there" into "corrupt" for what the head says must be there.
func notAMiss(err error) error {
	if errors.Is(err, pubstore.ErrNotFound) {
		return fmt.Errorf("%w: %w", pubstore.ErrCorrupt, errMissing)
	}
	return err
}

var errMissing = errors.New("the published head covers it, but it is missing")
