package pubstore

import (
	"bytes"
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

// inserts makes multi-row INSERT statements and runs each when it is full.
type inserts struct {
	ctx   context.Context
	tx    *sql.Tx
	into  string // INSERT INTO table (columns) VALUES
	after string // ON DUPLICATE KEY …
	row   string // (?,?)

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
	q := i.into + " " + i.row + strings.Repeat(","+i.row, i.rows-1) + i.after
	_, err := i.tx.ExecContext(i.ctx, q, i.args...)
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
		_, err := tx.ExecContext(ctx, "INSERT INTO prooftrail_head (one, size, root, mac) VALUES (1, ?, ?, ?)",
			empty.Size, empty.Root[:], empty.MAC[:])
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
	err = db.QueryRowContext(ctx, "SELECT size, root, mac FROM prooftrail_head WHERE one = 1").Scan(&h.Size, &root, &mac)
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
		res, err := tx.ExecContext(ctx, "UPDATE prooftrail_head SET size = ?, root = ?, mac = ? WHERE one = 1 AND size = ? AND root = ?",
			pub.Head.Size, pub.Head.Root[:], pub.Head.MAC[:], old.Size, old.Root[:])
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
		return &HeadMovedError{Stored: stored.Head, Want: old}
	}
	if isDuplicate(err) { // nothing is ever published twice
		err = fmt.Errorf("%w: it holds what the head doesn't cover: %w", ErrCorrupt, err)
	}
	if err != nil {
		return failed(err, "publish")
	}
	return nil
}

var errHeadMoved = errors.New("the head has moved")

// publishRows writes what a publication makes visible.
func publishRows(ctx context.Context, tx *sql.Tx, pub Publication) error {
	tiles := inserts{ctx: ctx, tx: tx, into: "INSERT INTO prooftrail_tile (level, n, width, data) VALUES", row: "(?,?,?,?)"}
	for _, t := range pub.Tiles {
		if err := tiles.add(t.Level, t.N, t.Width, t.Data); err != nil {
			return err
		}
	}
	bundles := inserts{ctx: ctx, tx: tx, into: "INSERT INTO prooftrail_bundle (n, width, data) VALUES", row: "(?,?,?)"}
	for _, b := range pub.Bundles {
		if err := bundles.add(b.N, b.Width, b.Data); err != nil {
			return err
		}
	}
	ids := inserts{ctx: ctx, tx: tx, into: "INSERT INTO prooftrail_identity (hash, idx) VALUES", row: "(?,?)"}
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
		q := "DELETE FROM prooftrail_mark WHERE (first, mac) IN ((?,?)" + strings.Repeat(",(?,?)", n-1) + ")"
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
func (m *MySQL) PutCheckpoint(ctx context.Context, note []byte) error {
	if _, err := m.db.ExecContext(ctx, "REPLACE INTO prooftrail_checkpoint (one, note) VALUES (1, ?)", note); err != nil {
		return failed(err, "keep checkpoint")
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

// PutBatch implements Store.
func (m *MySQL) PutBatch(ctx context.Context, batch Batch) error {
	err := m.inTx(ctx, func(tx *sql.Tx) error {
		openings := inserts{ctx: ctx, tx: tx, into: "INSERT INTO prooftrail_opening (idx, leaf_hash, opening) VALUES", row: "(?,?,?)",
			after: " ON DUPLICATE KEY UPDATE opening = VALUES(opening)"}
		for i := range batch.Openings {
			o := &batch.Openings[i]
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
	rows, err := m.db.QueryContext(ctx, "SELECT hash, idx FROM prooftrail_identity WHERE hash IN (?"+strings.Repeat(",?", len(ids)-1)+")", ids...)
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

// Tokens implements Store.
func (m *MySQL) Tokens(ctx context.Context) (tokens []Token, err error) {
	rows, err := m.db.QueryContext(ctx, "SELECT id, token FROM prooftrail_token ORDER BY id")
	if err != nil {
		return nil, failed(err, "read tokens")
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var id string
		var v []byte
		if err := rows.Scan(&id, &v); err != nil {
			return nil, failed(err, "read tokens")
		}
		t, err := parseToken(id, v)
		if err != nil {
			return nil, err
		}
		tokens = append(tokens, t)
	}
	if err := rows.Err(); err != nil {
		return nil, failed(err, "read tokens")
	}
	return tokens, nil
}

// PutToken implements Store.
func (m *MySQL) PutToken(ctx context.Context, t Token) error {
	v, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("encode token: %w", err)
	}
	if _, err := m.db.ExecContext(ctx, "REPLACE INTO prooftrail_token (id, token) VALUES (?, ?)", t.ID, v); err != nil {
		return failed(err, "store token")
	}
	return nil
}
