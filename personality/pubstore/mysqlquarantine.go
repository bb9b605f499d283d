package pubstore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
)

// quarantinePiece is how long a piece of an item is, at most: an item may be longer than a packet.
const quarantinePiece = 1 << 20

// PutQuarantined implements Quarantine.
func (m *MySQL) PutQuarantined(ctx context.Context, items []Quarantined, most QuarantineSize, hold string) error {
	items = slices.Clone(items) // in one order of locks, whoever stores them
	slices.SortFunc(items, func(a, b Quarantined) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.ID, b.ID))
	})
	err := m.inTx(ctx, func(tx *sql.Tx) error {
		if err := checkFree(ctx, tx, holdShared, hold); err != nil {
			return err
		}
		for len(items) > 0 {
			n := 1
			for n < len(items) && items[n].Tenant == items[0].Tenant {
				n++
			}
			if err := putTenant(ctx, tx, items[:n], most); err != nil {
				return err
			}
			items = items[n:]
		}
		return nil
	})
	return m.heldError(ctx, err, "quarantine")
}

// How checkFree reads the head's hold: beside others that do, or one after the other.
const (
	holdShared = "SELECT hold FROM prooftrail_head WHERE one = 1 LOCK IN SHARE MODE"
	holdAlone  = "SELECT hold FROM prooftrail_head WHERE one = 1 FOR UPDATE"
)

// checkFree returns errHeadMoved unless the head's hold is this one, and keeps SetHold out until the
// transaction ends.
func checkFree(ctx context.Context, tx *sql.Tx, query, hold string) error {
	var held []byte
	if err := tx.QueryRowContext(ctx, query).Scan(&held); err != nil {
		return miss(err)
	}
	if string(held) != hold {
		return errHeadMoved
	}
	return nil
}

// heldError is the error of a transaction that has called checkFree.
func (m *MySQL) heldError(ctx context.Context, err error, op string) error {
	switch {
	case errors.Is(err, errHeadMoved):
		stored, herr := m.Head(ctx)
		return errors.Join(fmt.Errorf("%s: %w", op, &HeadMovedError{Stored: stored.Head, Want: stored.Head, Hold: true}), herr)
	case errors.Is(err, ErrQuarantineFull):
		return fmt.Errorf("%s: %w", op, err)
	case err != nil:
		return failed(err, "%s", op)
	}
	return nil
}

// lockSize locks the row that says how much a tenant has, and reads it.
func lockSize(ctx context.Context, tx *sql.Tx, tenant string) (s QuarantineSize, err error) {
	_, err = tx.ExecContext(ctx, "INSERT INTO prooftrail_quarantine_size (tenant, items, bytes) VALUES (?, 0, 0) ON DUPLICATE KEY UPDATE tenant = tenant", []byte(tenant))
	if err == nil {
		err = tx.QueryRowContext(ctx, "SELECT items, bytes FROM prooftrail_quarantine_size WHERE tenant = ? FOR UPDATE", []byte(tenant)).Scan(&s.Items, &s.Bytes)
	}
	return s, err
}

func setSize(ctx context.Context, tx *sql.Tx, tenant string, s QuarantineSize) error {
	_, err := tx.ExecContext(ctx, "UPDATE prooftrail_quarantine_size SET items = ?, bytes = ? WHERE tenant = ?", s.Items, s.Bytes, []byte(tenant))
	return err
}

// putTenant stores items of one tenant.
func putTenant(ctx context.Context, tx *sql.Tx, items []Quarantined, most QuarantineSize) error {
	size, err := lockSize(ctx, tx, items[0].Tenant)
	if err != nil {
		return err
	}
	added := 0
	for i := range items {
		q := &items[i]
		meta, err := q.encode()
		if err != nil {
			return err
		}
		res, err := tx.ExecContext(ctx, "INSERT INTO prooftrail_quarantine (id, tenant, meta) VALUES (?, ?, ?) ON DUPLICATE KEY UPDATE id = id", []byte(q.ID), []byte(q.Tenant), meta)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			if err != nil {
				return err
			}
			continue // it is there
		}
		added++
		size.Items, size.Bytes = size.Items+1, size.Bytes+int64(len(meta)+len(q.Raw))
		if err := size.fits(most); err != nil {
			return err
		}
		if err := putPieces(ctx, tx, q); err != nil {
			return err
		}
	}
	if added == 0 {
		return nil
	}
	return setSize(ctx, tx, items[0].Tenant, size)
}

func putPieces(ctx context.Context, tx *sql.Tx, q *Quarantined) error {
	pieces := inserts{ctx: ctx, tx: tx, insert: "INSERT INTO prooftrail_quarantine_piece (id, n, piece) VALUES (?,?,?)", row: "(?,?,?)"}
	n := 0
	for piece := range slices.Chunk(q.Raw, quarantinePiece) {
		if err := pieces.add([]byte(q.ID), n, piece); err != nil {
			return err
		}
		n++
	}
	return pieces.flush()
}

// Quarantined implements Quarantine.
func (m *MySQL) Quarantined(ctx context.Context, id string) (q Quarantined, err error) {
	var meta, raw []byte
	err = m.inTx(ctx, func(tx *sql.Tx) error { // the item and its pieces of one moment
		if err := tx.QueryRowContext(ctx, "SELECT meta FROM prooftrail_quarantine WHERE id = ?", []byte(id)).Scan(&meta); err != nil {
			return miss(err)
		}
		raw, err = readPieces(ctx, tx, id)
		return err
	})
	if err == nil {
		q, err = parseQuarantined(id, meta)
	}
	if err == nil {
		q, err = q.withRaw(raw)
	}
	if err != nil {
		return Quarantined{}, failed(err, "read quarantined item")
	}
	return q, nil
}

func readPieces(ctx context.Context, tx *sql.Tx, id string) (raw []byte, err error) {
	rows, err := tx.QueryContext(ctx, "SELECT piece FROM prooftrail_quarantine_piece WHERE id = ? ORDER BY n", []byte(id))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var piece sql.RawBytes
		if err := rows.Scan(&piece); err != nil {
			return nil, err
		}
		raw = append(raw, piece...)
	}
	return raw, rows.Err()
}

// ListQuarantined implements Quarantine.
func (m *MySQL) ListQuarantined(ctx context.Context, tenant, after string, count int) (list []Quarantined, err error) {
	query, args := "SELECT id, meta FROM prooftrail_quarantine WHERE id > ? ORDER BY id LIMIT ?", []any{[]byte(after), count}
	if tenant != "" {
		query, args = "SELECT id, meta FROM prooftrail_quarantine WHERE tenant = ? AND id > ? ORDER BY id LIMIT ?", []any{[]byte(tenant), []byte(after), count}
	}
	rows, err := m.db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, failed(err, "list the quarantine")
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var id string
		var meta []byte
		if err := rows.Scan(&id, &meta); err != nil {
			return nil, failed(err, "list the quarantine")
		}
		q, err := parseQuarantined(id, meta)
		if err != nil {
			return nil, failed(err, "list the quarantine")
		}
		list = append(list, q)
	}
	if err := rows.Err(); err != nil {
		return nil, failed(err, "list the quarantine")
	}
	return list, nil
}

// DropQuarantined implements Quarantine.
func (m *MySQL) DropQuarantined(ctx context.Context, id, hold string) error {
	err := m.inTx(ctx, func(tx *sql.Tx) error {
		if err := checkFree(ctx, tx, holdShared, hold); err != nil {
			return err
		}
		var tenant string
		if err := tx.QueryRowContext(ctx, "SELECT tenant FROM prooftrail_quarantine WHERE id = ?", []byte(id)).Scan(&tenant); err != nil {
			return miss(err)
		}
		size, err := lockSize(ctx, tx, tenant) // in the order in which PutQuarantined locks
		if err != nil {
			return err
		}
		bytes, err := dropItem(ctx, tx, id)
		if err != nil {
			return err
		}
		return setSize(ctx, tx, tenant, QuarantineSize{size.Items - 1, size.Bytes - bytes})
	})
	return m.heldError(ctx, err, "drop quarantined item")
}

// dropItem removes the rows of an item, and returns how many bytes they held.
func dropItem(ctx context.Context, tx *sql.Tx, id string) (bytes int64, err error) {
	var meta, pieces int64
	if err := tx.QueryRowContext(ctx, "SELECT LENGTH(meta) FROM prooftrail_quarantine WHERE id = ? FOR UPDATE", []byte(id)).Scan(&meta); err != nil {
		return 0, miss(err) // another one was faster
	}
	if err := tx.QueryRowContext(ctx, "SELECT COALESCE(SUM(LENGTH(piece)), 0) FROM prooftrail_quarantine_piece WHERE id = ?", []byte(id)).Scan(&pieces); err != nil {
		return 0, err
	}
	for _, q := range []string{"DELETE FROM prooftrail_quarantine_piece WHERE id = ?", "DELETE FROM prooftrail_quarantine WHERE id = ?"} {
		if _, err := tx.ExecContext(ctx, q, []byte(id)); err != nil {
			return 0, err
		}
	}
	return meta + pieces, nil
}

// QuarantineSize implements Quarantine.
func (m *MySQL) QuarantineSize(ctx context.Context) (s QuarantineSize, err error) {
	err = m.db.QueryRowContext(ctx, "SELECT COALESCE(SUM(items), 0), COALESCE(SUM(bytes), 0) FROM prooftrail_quarantine_size").Scan(&s.Items, &s.Bytes)
	if err != nil {
		return s, failed(err, "size of the quarantine")
	}
	return s, nil
}
