package pubstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/go-sql-driver/mysql"
)

// MySQL is a Store in a MySQL or MariaDB database, in the tables that package mysqldb
// makes. Several processes may use one at once.
//
// What is committed is durable, so Sync has nothing to do.
type MySQL struct{ db *sql.DB }

var _ Store = (*MySQL)(nil)

// NewMySQL returns the store in db, which package mysqldb has opened. The caller closes it.
func NewMySQL(db *sql.DB) *MySQL { return &MySQL{db: db} }

// Statements stay below this many bytes, but for one value that is longer.
const maxStatement = 4 << 20

// maxRows bounds the rows of a statement, and the values of an IN.
const maxRows = 1000

// inTx runs f in a transaction. After an error of commit it may or may not have happened.
func (m *MySQL) inTx(ctx context.Context, f func(tx *sql.Tx) error) error {
	tx, err := m.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		return errors.Join(err, rolledBack(tx.Rollback()))
	}
	return tx.Commit()
}

// rolledBack: a transaction whose connection or context has ended is rolled back already.
func rolledBack(err error) error {
	if errors.Is(err, sql.ErrTxDone) || errors.Is(err, mysql.ErrInvalidConn) {
		return nil
	}
	return err
}

// miss makes ErrNotFound of no rows.
func miss(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNotFound
	}
	return err
}

// failed says what was being done. What isn't an answer of the store's is ErrUnavailable.
func failed(err error, format string, args ...any) error {
	op := fmt.Sprintf(format, args...)
	for _, answer := range []error{ErrNotFound, ErrCorrupt} {
		if errors.Is(err, answer) {
			return fmt.Errorf("%s: %w", op, err)
		}
	}
	return fmt.Errorf("%s: %w: %w", op, ErrUnavailable, err)
}

// isDuplicate reports whether a row with that key is there already.
func isDuplicate(err error) bool {
	var e *mysql.MySQLError
	return errors.As(err, &e) && e.Number == 1062 // ER_DUP_ENTRY
}

// several returns a statement with n places of one kind, which has one.
func several(statement, place string, n int) string {
	return strings.Replace(statement, place, place+strings.Repeat(","+place, n-1), 1)
}

// inserts makes multi-row INSERT statements and runs each when it is full.
type inserts struct {
	ctx    context.Context
	tx     *sql.Tx
	insert string // with one row
	row    string // in it, (?,?)

	args  []any
	rows  int
	bytes int
}

// add adds a row. What is binary takes up to two bytes for one in a statement.
func (i *inserts) add(args ...any) error {
	size := 0
	for _, a := range args {
		if b, ok := a.([]byte); ok {
			size += 2 * len(b)
		} else {
			size += 20
		}
	}
	if i.rows == maxRows || i.rows > 0 && i.bytes+size > maxStatement {
		if err := i.flush(); err != nil {
			return err
		}
	}
	i.args, i.rows, i.bytes = append(i.args, args...), i.rows+1, i.bytes+size
	return nil
}

func (i *inserts) flush() error {
	if i.rows == 0 {
		return nil
	}
	_, err := i.tx.ExecContext(i.ctx, several(i.insert, i.row, i.rows), i.args...)
	i.args, i.rows, i.bytes = i.args[:0], 0, 0
	return err
}

// Create implements Store.
func (m *MySQL) Create(ctx context.Context, log Log, empty SealedHead) error {
	params, err := json.Marshal(log)
	if err != nil {
		return fmt.Errorf("encode the log's parameters: %w", err)
	}
	err = m.inTx(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "INSERT INTO prooftrail_log (one, params) VALUES (1, ?)", params); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO prooftrail_head (one, size, root, mac, hold) VALUES (1, ?, ?, ?, ?)",
			empty.Size, empty.Root[:], empty.MAC[:], []byte(empty.Hold))
		return err
	})
	if isDuplicate(err) {
		return ErrExists
	}
	if err != nil {
		return failed(err, "create log")
	}
	return nil
}

// Log implements Store.
func (m *MySQL) Log(ctx context.Context) (Log, error) {
	var v []byte
	if err := m.db.QueryRowContext(ctx, "SELECT params FROM prooftrail_log WHERE one = 1").Scan(&v); err != nil {
		return Log{}, failed(miss(err), "read the log's parameters")
	}
	return parseLog(v)
}

// Head implements Store.
func (m *MySQL) Head(ctx context.Context) (SealedHead, error) { return readHead(ctx, m.db) }

// queryer is a database or a transaction.
type queryer interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func readHead(ctx context.Context, db queryer) (h SealedHead, err error) {
	var root, mac []byte
	err = db.QueryRowContext(ctx, "SELECT size, root, mac, hold FROM prooftrail_head WHERE one = 1").Scan(&h.Size, &root, &mac, &h.Hold)
	if err != nil {
		return h, failed(miss(err), "read head")
	}
	if len(root) != 32 || len(mac) != 32 {
		return h, fmt.Errorf("read head: %w: a root of %d bytes, a MAC of %d", ErrCorrupt, len(root), len(mac))
	}
	h.Root, h.MAC = [32]byte(root), [32]byte(mac)
	return h, nil
}

// Publish implements Store.
func (m *MySQL) Publish(ctx context.Context, old Head, pub Publication) error {
	if err := pub.check(old); err != nil {
		if _, missing := m.Head(ctx); missing != nil {
			err = missing
		}
		return failed(err, "publish")
	}
	moved := false
	err := m.inTx(ctx, func(tx *sql.Tx) error {
		// First: the row's lock lets one publisher at a time go on.
		res, err := tx.ExecContext(ctx, "UPDATE prooftrail_head SET size = ?, root = ?, mac = ? WHERE one = 1 AND size = ? AND root = ? AND hold = ?",
			pub.Head.Size, pub.Head.Root[:], pub.Head.MAC[:], old.Size, old.Root[:], []byte(pub.Head.Hold))
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		if err == nil && n != 1 {
			moved, err = true, errHeadMoved
		}
		if err != nil {
			return err
		}
		return publishRows(ctx, tx, pub)
	})
	if moved {
		stored, err := m.Head(ctx)
		if err != nil {
			return failed(err, "publish")
		}
		return &HeadMovedError{Stored: stored.Head, Want: old, Hold: stored.Hold != pub.Head.Hold}
	}
	if isDuplicate(err) { // nothing is ever published twice
		err = fmt.Errorf("%w: it holds what the head doesn't cover: %w", ErrCorrupt, err)
	}
	if err != nil {
		return failed(err, "publish")
	}
	return nil
}

// SetHold implements Store.
func (m *MySQL) SetHold(ctx context.Context, old, held SealedHead) error {
	if err := checkHold(old, held); err != nil {
		return fmt.Errorf("hold the head: %w", err)
	}
	res, err := m.db.ExecContext(ctx, "UPDATE prooftrail_head SET hold = ?, mac = ? WHERE one = 1 AND size = ? AND root = ? AND hold = ?",
		[]byte(held.Hold), held.MAC[:], old.Size, old.Root[:], []byte(old.Hold))
	if err != nil {
		return failed(err, "hold the head")
	}
	if n, err := res.RowsAffected(); err != nil || n == 1 {
		return err
	}
	stored, err := m.Head(ctx)
	if err != nil {
		return failed(err, "hold the head")
	}
	return fmt.Errorf("hold the head: %w", &HeadMovedError{Stored: stored.Head, Want: old.Head, Hold: stored.Hold != old.Hold})
}

var errHeadMoved = errors.New("the head has moved")

// publishRows writes what a publication makes visible.
func publishRows(ctx context.Context, tx *sql.Tx, pub Publication) error {
	tiles := inserts{ctx: ctx, tx: tx, insert: "INSERT INTO prooftrail_tile (level, n, width, data) VALUES (?,?,?,?)", row: "(?,?,?,?)"}
	for _, t := range pub.Tiles {
		if err := tiles.add(t.Level, t.N, t.Width, t.Data); err != nil {
			return err
		}
	}
	bundles := inserts{ctx: ctx, tx: tx, insert: "INSERT INTO prooftrail_bundle (n, width, data) VALUES (?,?,?)", row: "(?,?,?)"}
	for _, b := range pub.Bundles {
		if err := bundles.add(b.N, b.Width, b.Data); err != nil {
			return err
		}
	}
	ids := inserts{ctx: ctx, tx: tx, insert: "INSERT INTO prooftrail_identity (hash, idx) VALUES (?,?)", row: "(?,?)"}
	for _, i := range inOrder(len(pub.IDs), func(i int) []byte { return pub.IDs[i].Hash[:] }) {
		if err := ids.add(pub.IDs[i].Hash[:], pub.IDs[i].Index); err != nil {
			return err
		}
	}
	for _, i := range []*inserts{&tiles, &bundles, &ids} {
		if err := i.flush(); err != nil {
			return err
		}
	}
	return dropRows(ctx, tx, pub.Drop)
}

func dropRows(ctx context.Context, tx *sql.Tx, drop []Mark) error {
	for len(drop) > 0 {
		n := min(len(drop), maxRows)
		var args []any
		for i := range drop[:n] {
			args = append(args, drop[i].First, drop[i].MAC[:])
		}
		q := several("DELETE FROM prooftrail_mark WHERE (first, mac) IN ((?,?))", "(?,?)", n)
		if _, err := tx.ExecContext(ctx, q, args...); err != nil {
			return err
		}
		drop = drop[n:]
	}
	return nil
}

// Sync implements Store.
func (m *MySQL) Sync(context.Context) error { return nil }

// PutCheckpoint implements Store.
func (m *MySQL) PutCheckpoint(ctx context.Context, old, note []byte) error {
	var res sql.Result
	var err error
	if old == nil {
		res, err = m.db.ExecContext(ctx, "INSERT INTO prooftrail_checkpoint (one, note) VALUES (1, ?)", note)
	} else {
		res, err = m.db.ExecContext(ctx, "UPDATE prooftrail_checkpoint SET note = ? WHERE one = 1 AND note = ?", note, old)
	}
	if isDuplicate(err) {
		return fmt.Errorf("keep checkpoint: %w", ErrCheckpointMoved)
	}
	var n int64
	if err == nil {
		n, err = res.RowsAffected()
	}
	if err != nil {
		return failed(err, "keep checkpoint")
	}
	if n != 1 {
		return fmt.Errorf("keep checkpoint: %w", ErrCheckpointMoved)
	}
	return nil
}

// Checkpoint implements Store.
func (m *MySQL) Checkpoint(ctx context.Context) (note []byte, err error) {
	if err := m.db.QueryRowContext(ctx, "SELECT note FROM prooftrail_checkpoint WHERE one = 1").Scan(&note); err != nil {
		return nil, failed(miss(err), "read the kept checkpoint")
	}
	return note, nil
}

// PutBatch implements Store.
func (m *MySQL) PutBatch(ctx context.Context, batch Batch) error {
	err := m.inTx(ctx, func(tx *sql.Tx) error {
		openings := inserts{ctx: ctx, tx: tx, row: "(?,?,?)",
			insert: "INSERT INTO prooftrail_opening (idx, leaf_hash, opening) VALUES (?,?,?) ON DUPLICATE KEY UPDATE idx = idx"} // one that has lost values since stays so
		for i := range batch.Openings {
			o := &batch.Openings[i]
			if o.Bytes == nil {
				continue
			}
			if err := openings.add(batch.Mark.First+uint64(i), o.LeafHash[:], o.Bytes); err != nil {
				return err
			}
		}
		if err := openings.flush(); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO prooftrail_mark (first, mac, past, leaves) VALUES (?,?,?,?) ON DUPLICATE KEY UPDATE leaves = VALUES(leaves)",
			batch.Mark.First, batch.Mark.MAC[:], batch.Mark.End(), batch.Mark.appendLeaves([]byte{}))
		return err
	})
	if err != nil {
		return failed(err, "store batch")
	}
	return nil
}

// Marks implements Store.
func (m *MySQL) Marks(ctx context.Context, index uint64) (marks []Mark, err error) {
	rows, err := m.db.QueryContext(ctx, "SELECT first, mac, leaves FROM prooftrail_mark WHERE first BETWEEN ? AND ? AND past > ?",
		index-min(index, MaxMark-1), index, index)
	if err != nil {
		return nil, failed(err, "read marks at %d", index)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var first uint64
		var mac, leaves []byte
		if err := rows.Scan(&first, &mac, &leaves); err != nil {
			return nil, failed(err, "read marks at %d", index)
		}
		if len(mac) != 32 || len(leaves)%leafIDLen != 0 || len(leaves) > MaxMark*leafIDLen {
			return nil, fmt.Errorf("read marks at %d: %w: %d bytes", index, ErrCorrupt, len(leaves))
		}
		if mark := (Mark{First: first, MAC: [32]byte(mac), Leaves: parseLeafIDs(leaves)}); index < mark.End() {
			marks = append(marks, mark)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, failed(err, "read marks at %d", index)
	}
	return marks, nil
}

// DropMarks implements Store.
func (m *MySQL) DropMarks(ctx context.Context, below uint64) error {
	if _, err := m.db.ExecContext(ctx, "DELETE FROM prooftrail_mark WHERE first < ? AND past <= ?", below, below); err != nil {
		return failed(err, "drop marks")
	}
	return nil
}
