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

// A tileReader reads tiles: the store, or one that remembers them.
type tileReader interface {
	Tile(ctx context.Context, level int, n uint64) ([]byte, error)
}

// readTiles reads each tile once. For one goroutine, and for as long as no tile that it
// has read may grow.
type readTiles struct {
	from tileReader
	read map[tileID][]byte
}

type tileID struct {
	level int
	n     uint64
}

func (r *readTiles) Tile(ctx context.Context, level int, n uint64) ([]byte, error) {
	id := tileID{level, n}
	if tile, ok := r.read[id]; ok {
		return tile, nil
	}
	tile, err := r.from.Tile(ctx, level, n)
	if err == nil {
		if r.read == nil {
			r.read = map[tileID][]byte{}
		}
		r.read[id] = tile
	}
	return tile, err
}

// nodeFromTile folds a node from the hashes of the tile that holds it: at most
// 128 of them.
func nodeFromTile(ctx context.Context, store tileReader, id compact.NodeID) ([]byte, error) {
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
func rangeAt(ctx context.Context, store tileReader, size uint64) (*compact.Range, error) {
	tiles := &readTiles{from: store}
	ids := compact.RangeNodes(0, size, nil)
	hashes := make([][]byte, len(ids))
	for i, id := range ids {
		h, err := nodeFromTile(ctx, tiles, id)
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

// prove gathers the nodes of a proof. If not all of them came from memory, it
// is to be checked before it is given to anybody.
func (s *Service) prove(ctx context.Context, nodes proof.Nodes) (p []verifier.Hash, inMemory bool, err error) {
	hashes, inMemory, err := s.nodes(ctx, nodes.IDs)
	if err != nil {
		return nil, false, err
	}
	if hashes, err = nodes.Rehash(hashes, rfc6962.DefaultHasher.HashChildren); err != nil {
		return nil, false, err
	}
	p = make([]verifier.Hash, len(hashes))
	for i, h := range hashes {
		p[i] = verifier.Hash(h)
	}
	return p, inMemory, nil
}

func (s *Service) nodes(ctx context.Context, ids []compact.NodeID) (hashes [][]byte, inMemory bool, err error) {
	hashes = make([][]byte, len(ids))
	if inMemory = s.edge.getAll(ids, hashes); inMemory {
		return hashes, true, nil
	}
	for i, id := range ids {
		if hashes[i] != nil {
			continue
		}
		if hashes[i], err = nodeFromTile(ctx, s.store, id); err != nil {
			return nil, false, notAMiss(err)
		}
	}
	return hashes, false, nil
}

// proveInclusion returns the inclusion proof of the entry in the tree of the
// size, which has been published. It is ErrDamaged if that leads elsewhere than to
// the signed root.
func (s *Service) proveInclusion(ctx context.Context, index, size uint64) ([]verifier.Hash, error) {
	nodes, err := proof.Inclusion(index, size)
	if err != nil {
		return nil, err
	}
	p, inMemory, err := s.prove(ctx, nodes)
	if err == nil && !inMemory {
		err = s.checkInclusion(ctx, index, size, p)
	}
	if err != nil {
		return nil, fmt.Errorf("prove inclusion of %d in size %d: %w", index, size, err)
	}
	return p, nil
}

func (s *Service) checkInclusion(ctx context.Context, index, size uint64, p []verifier.Hash) error {
	leafHash, err := s.leafHash(ctx, index)
	if err != nil {
		return err
	}
	root, err := s.rootAt(ctx, size)
	if err != nil {
		return err
	}
	return notProven(verifier.CheckInclusion(index, size, leafHash, p, root))
}

// notProven: where a proof from the tiles doesn't hold, they have been changed.
func notProven(err error) error {
	if err != nil {
		err = fmt.Errorf("%w: the tiles don't lead to the signed root: %w", ErrDamaged, err)
	}
	return err
}

// rootAt returns the root that the published tree had at a size from 1 on, proven
// to lead to the root that is signed.
func (s *Service) rootAt(ctx context.Context, size uint64) (root verifier.Hash, err error) {
	head := s.published.Load().head
	if size == head.Size {
		return head.Root, nil
	}
	hashes, _, err := s.nodes(ctx, compact.RangeNodes(0, size, nil))
	if err != nil {
		return root, err
	}
	r, err := rangeFactory.NewRange(0, size, hashes)
	if err != nil {
		return root, err
	}
	if root, err = rootOf(r); err != nil {
		return root, err
	}
	nodes, err := proof.Consistency(size, head.Size)
	if err != nil {
		return root, err
	}
	p, _, err := s.prove(ctx, nodes)
	if err != nil {
		return root, err
	}
	return root, notProven(verifier.CheckConsistency(size, head.Size, p, root, head.Root))
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
	if !s.covers(ctx, size) {
		return verifier.Hash{}, nil, ErrBeyondHead
	}
	leafHash, err := s.leafHash(ctx, index)
	if err != nil {
		return verifier.Hash{}, nil, err
	}
	p, err := s.proveInclusion(ctx, index, size)
	return leafHash, p, err
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
	if !s.covers(ctx, second) {
		return nil, ErrBeyondHead
	}
	nodes, err := proof.Consistency(first, second)
	if err != nil {
		return nil, err
	}
	p, inMemory, err := s.prove(ctx, nodes)
	if err == nil && !inMemory {
		err = s.checkConsistency(ctx, first, second, p)
	}
	if err != nil {
		return nil, fmt.Errorf("prove consistency of %d and %d: %w", first, second, err)
	}
	return p, nil
}

func (s *Service) checkConsistency(ctx context.Context, first, second uint64, p []verifier.Hash) error {
	before, err := s.rootAt(ctx, first)
	if err != nil {
		return err
	}
	after, err := s.rootAt(ctx, second)
	if err != nil {
		return err
	}
	return notProven(verifier.CheckConsistency(first, second, p, before, after))
}

// Tile returns the first width hashes of a tile, 32 bytes each, as c2sp.org/tlog-tiles
// has them. Levels 0..63, width 1..256. ErrNotFound where that isn't published.
func (s *Service) Tile(ctx context.Context, level int, n uint64, width int) ([]byte, error) {
	release, err := s.use()
	if err != nil {
		return nil, err
	}
	defer release()
	if level < 0 || level > 63 || width < 1 || width > tileWidth || !s.coversTile(ctx, uint(level), n, width) {
		return nil, ErrNotFound
	}
	tile, err := s.store.Tile(ctx, level, n)
	if err == nil && len(tile) < width*32 {
		err = fmt.Errorf("%w: %d bytes", ErrDamaged, len(tile))
	}
	if err != nil {
		return nil, s.lost(verifier.TilePath(level, n, width), err)
	}
	return tile[:width*32], nil
}

// lost logs that a file of the published tree is gone or malformed, and has it
// answered as not found: an auditor who is told so accuses, but waits for one that can't
// be read.
func (s *Service) lost(path string, err error) error {
	err = notAMiss(err)
	if errors.Is(err, ErrDamaged) {
		s.log.Error("a published tile is damaged", "path", path, "error", err)
		return fmt.Errorf("%s: %w: %w", path, ErrNotFound, err)
	}
	return err
}

// EntryBundle returns the first width entries of a bundle, each after its length
// as a big-endian uint16. Width 1..256. ErrNotFound where that isn't published.
func (s *Service) EntryBundle(ctx context.Context, n uint64, width int) ([]byte, error) {
	release, err := s.use()
	if err != nil {
		return nil, err
	}
	defer release()
	if width < 1 || width > tileWidth || !s.coversTile(ctx, 0, n, width) {
		return nil, ErrNotFound
	}
	bundle, err := s.store.Bundle(ctx, n)
	end := 0
	for i := 0; i < width && err == nil; i++ {
		_, end, err = bundleEntry(bundle, end)
	}
	if err != nil {
		return nil, s.lost(verifier.EntriesPath(n, width), err)
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
		return fmt.Errorf("%w: %w", ErrDamaged, errMissing)
	}
	return err
}

var errMissing = errors.New("the published head covers it, but it is missing")
