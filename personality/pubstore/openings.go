package pubstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// openingKey is where an opening is. Keys begin with the index, so that batch after
// batch is written at the end, and a whole log is read from front to back: openings
// are nearly all of the data, and in the order of their hashes each would be read from
// a block of its own. The hash says of which leaf: a batch that was stored and whose
// leaves were not leaves openings at indices that others get.
func openingKey(index uint64, leafHash [32]byte) []byte {
	return append(openingsFrom(index), leafHash[:]...)
}

// openingsFrom is the least key of an opening at index or behind it.
func openingsFrom(index uint64) []byte {
	return binary.BigEndian.AppendUint64(append(make([]byte, 0, 42), prefixOpening...), index)
}

// Opening implements Store.
func (p *Pebble) Opening(_ context.Context, index uint64, leafHash [32]byte) ([]byte, error) {
	v, err := p.get(openingKey(index, leafHash))
	if err != nil {
		return nil, fmt.Errorf("read opening %d: %w", index, err)
	}
	return v, nil
}

// Openings implements Store.
func (p *Pebble) Openings(ctx context.Context, first uint64, leafHashes [][32]byte, each func(opening []byte) error) (err error) {
	it, err := p.db.NewIterWithContext(ctx, &pebble.IterOptions{
		LowerBound: openingsFrom(first), UpperBound: openingsFrom(first + uint64(len(leafHashes)))})
	if err != nil {
		return fmt.Errorf("read openings: %w", err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	it.First()
	key := openingsFrom(first)
	for i := range leafHashes {
		key = binary.BigEndian.AppendUint64(key[:len(prefixOpening)], first+uint64(i))
		key = append(key, leafHashes[i][:]...)
		var opening []byte
		for it.Valid() && bytes.Compare(it.Key(), key) < 0 { // of leaves that weren't stored
			it.Next()
		}
		if it.Valid() && bytes.Equal(it.Key(), key) {
			if opening, err = it.ValueAndErr(); err != nil {
				return fmt.Errorf("read opening %d: %w", first+uint64(i), p.damage(err))
			}
			if opening == nil {
				opening = []byte{} // which isn't one either, but it is there
			}
		}
		if err := p.damage(it.Error()); err != nil { // which isn't a miss
			return fmt.Errorf("read opening %d: %w", first+uint64(i), err)
		}
		if err := each(opening); err != nil {
			return err
		}
	}
	return nil
}

// ReplaceOpening implements Store.
func (p *Pebble) ReplaceOpening(ctx context.Context, index uint64, leafHash [32]byte, old, opening []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	stored, err := p.Opening(ctx, index, leafHash)
	if err != nil {
		return fmt.Errorf("replace opening: %w", err)
	}
	if !bytes.Equal(stored, old) {
		return fmt.Errorf("replace opening: %w: it has changed since it was read", ErrNotFound)
	}
	if err := p.db.Set(openingKey(index, leafHash), opening, pebble.Sync); err != nil {
		return fmt.Errorf("replace opening: %w", err)
	}
	return nil
}
