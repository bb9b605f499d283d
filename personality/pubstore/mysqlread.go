package pubstore

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// Tile implements Store.
func (m *MySQL) Tile(ctx context.Context, level int, n uint64) ([]byte, error) {
	tile, err := m.pieces(ctx, func(piece []byte) (int, error) { return len(piece) / 32, nil },
		"SELECT width, data FROM prooftrail_tile WHERE level = ? AND n = ? ORDER BY width", level, n)
	if err != nil {
		return nil, failed(err, "read tile %d/%d", level, n)
	}
	return tile, checkTile(level, n, tile)
}

// Bundle implements Store.
func (m *MySQL) Bundle(ctx context.Context, n uint64) ([]byte, error) {
	bundle, err := m.pieces(ctx, countEntries, "SELECT width, data FROM prooftrail_bundle WHERE n = ? ORDER BY width", n)
	if err != nil {
		return nil, failed(err, "read entry bundle %d", n)
	}
	return bundle, nil
}

// countEntries counts the entries of a piece of a bundle.
func countEntries(piece []byte) (n int, err error) {
	for ; len(piece) > 0; n++ {
		if len(piece) < 2 || len(piece) < 2+int(piece[0])<<8+int(piece[1]) {
			return 0, fmt.Errorf("%w: an entry that is cut", ErrCorrupt)
		}
		piece = piece[2+int(piece[0])<<8+int(piece[1]):]
	}
	return n, nil
}

// pieces puts together what publications appended to a tile or bundle. Each row says how
// much was there before it: what doesn't fit is ErrCorrupt.
func (m *MySQL) pieces(ctx context.Context, count func(piece []byte) (int, error), query string, args ...any) (whole []byte, err error) {
	rows, err := m.db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	width := 0
	for rows.Next() {
		var at int
		var piece sql.RawBytes
		if err := rows.Scan(&at, &piece); err != nil {
			return nil, err
		}
		n, err := count(piece)
		if err != nil {
			return nil, err
		}
		if at != width || n == 0 {
			return nil, fmt.Errorf("%w: %d at %d, where %d was due", ErrCorrupt, n, at, width)
		}
		width += n
		whole = append(whole, piece...)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	if width == 0 {
		return nil, ErrNotFound
	}
	return whole, nil
}

// Opening implements Store.
func (m *MySQL) Opening(ctx context.Context, index uint64, leafHash [32]byte) (opening []byte, err error) {
	err = m.db.QueryRowContext(ctx, "SELECT opening FROM prooftrail_opening WHERE idx = ? AND leaf_hash = ?", index, leafHash[:]).Scan(&opening)
	if err != nil {
		return nil, failed(miss(err), "read opening %d", index)
	}
	return opening, nil
}

// openingsAtOnce is how many openings are read, and held in memory, before they are
// passed on: who takes them may be slow, and connections are few.
const openingsAtOnce = 64

// Openings implements Store.
func (m *MySQL) Openings(ctx context.Context, first uint64, leafHashes [][32]byte, each func(opening []byte) error) error {
	for len(leafHashes) > 0 {
		n := min(len(leafHashes), openingsAtOnce)
		openings, err := m.readOpenings(ctx, first, leafHashes[:n])
		if err != nil {
			return failed(err, "read openings from %d", first)
		}
		for _, o := range openings {
			if err := each(o); err != nil {
				return err
			}
		}
		first, leafHashes = first+uint64(n), leafHashes[n:]
	}
	return nil
}

// readOpenings returns the openings of the leaves from index first on; nil where there
// is none. Those of leaves that were never stored lie between them.
func (m *MySQL) readOpenings(ctx context.Context, first uint64, leafHashes [][32]byte) (_ [][]byte, err error) {
	rows, err := m.db.QueryContext(ctx, "SELECT idx, leaf_hash, opening FROM prooftrail_opening WHERE idx >= ? AND idx < ?",
		first, first+uint64(len(leafHashes)))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	openings := make([][]byte, len(leafHashes))
	for rows.Next() {
		var index uint64
		var hash, opening sql.RawBytes
		if err := rows.Scan(&index, &hash, &opening); err != nil {
			return nil, err
		}
		if i := index - first; i < uint64(len(leafHashes)) && bytes.Equal(hash, leafHashes[i][:]) {
			openings[i] = append([]byte{}, opening...)
		}
	}
	return openings, rows.Err()
}

// ReplaceOpening implements Store.
func (m *MySQL) ReplaceOpening(ctx context.Context, index uint64, leafHash [32]byte, old, opening []byte) error {
	res, err := m.db.ExecContext(ctx, "UPDATE prooftrail_opening SET opening = ? WHERE idx = ? AND leaf_hash = ? AND opening = ?",
		opening, index, leafHash[:], old)
	if err != nil {
		return failed(err, "replace opening")
	}
	n, err := res.RowsAffected()
	if err == nil && n != 1 {
		err = fmt.Errorf("%w: it isn't there, or has changed since it was read", ErrNotFound)
	}
	if err != nil {
		return failed(err, "replace opening")
	}
	return nil
}

// Indexes implements Store.
func (m *MySQL) Indexes(ctx context.Context, ids [][32]byte) (map[[32]byte]uint64, error) {
	var found map[[32]byte]uint64
	order := inOrder(len(ids), func(i int) []byte { return ids[i][:] })
	for len(order) > 0 {
		n := min(len(order), maxRows)
		args := make([]any, n)
		for k, i := range order[:n] {
			args[k] = ids[i][:]
		}
		some, err := m.indexes(ctx, args)
		if err != nil {
			return nil, failed(err, "look up identities")
		}
		for id, index := range some {
			if found == nil {
				found = make(map[[32]byte]uint64)
			}
			found[id] = index
		}
		order = order[n:]
	}
	return found, nil
}

func (m *MySQL) indexes(ctx context.Context, ids []any) (_ map[[32]byte]uint64, err error) {
	rows, err := m.db.QueryContext(ctx, several("SELECT hash, idx FROM prooftrail_identity WHERE hash IN (?)", "?", len(ids)), ids...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var found map[[32]byte]uint64
	for rows.Next() {
		var hash sql.RawBytes
		var index uint64
		if err := rows.Scan(&hash, &index); err != nil {
			return nil, err
		}
		if len(hash) != 32 {
			return nil, fmt.Errorf("%w: an identity of %d bytes", ErrCorrupt, len(hash))
		}
		if found == nil {
			found = make(map[[32]byte]uint64)
		}
		found[[32]byte(hash)] = index
	}
	return found, rows.Err()
}
