package mysqldb

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"

	"github.com/go-sql-driver/mysql"
)

// Trillian's MySQL provider adds leaves one by one: a savepoint and two inserts for each,
// every one a round trip. A batchConn makes them what they amount to: one INSERT a table.
//
// It can, because this program has no use for what the savepoints are for, which is to
// refuse a leaf alone: it rolls a batch back whole if any of its leaves is refused. So a
// savepoint is passed over, and an insert waits until the provider says anything else
// on that connection; the rows go then, in order, before it. A refusal shows at that
// point, as a *TakenError.
//
// It goes by the provider's exact words. Should a later version use others, they pass
// through as they are, and a test that counts statements fails.
type batchConn struct {
	mysqlConn
	waiting [len(batched)]pending
}

// mysqlConn is what the driver's connections do.
type mysqlConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
	driver.SessionResetter
	driver.Validator
	driver.NamedValueChecker
}

// batched are the statements that wait: github.com/google/trillian v1.8.0,
// storage/mysql/log_storage.go.
var batched = [...]struct{ insert, row, table string }{
	{"INSERT INTO LeafData(TreeId,LeafIdentityHash,LeafValue,ExtraData,QueueTimestampNanos) VALUES", "(?,?,?,?,?)", "LeafData"},
	{"INSERT INTO SequencedLeafData(TreeId,LeafIdentityHash,MerkleLeafHash,SequenceNumber,IntegrateTimestampNanos) VALUES", "(?,?,?,?,?)", "SequencedLeafData"},
}

const (
	savepoint        = "SAVEPOINT AddSequencedLeaves"
	releaseSavepoint = "RELEASE SAVEPOINT AddSequencedLeaves"
)

// maxBatchBytes bounds the rows of one statement, so that it stays below MinPacket.
const maxBatchBytes = 4 << 20

// pending are the rows of one statement that wait.
type pending struct {
	args  []driver.NamedValue
	rows  int
	bytes int
}

// TakenError is a row that can't be inserted, because one with its key is there.
type TakenError struct {
	Table string // of Trillian's
	Err   error
}

func (e *TakenError) Error() string { return fmt.Sprintf("insert into %s: %v", e.Table, e.Err) }

// Unwrap makes errors.As find the driver's error.
func (e *TakenError) Unwrap() error { return e.Err }

// batchConnector makes connections that are batchConns.
type batchConnector struct{ driver.Connector }

func (c batchConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	m, ok := conn.(mysqlConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("the driver's %T lacks what is needed", conn), conn.Close())
	}
	// Trillian's provider takes what the server has as default, and needs this one.
	if _, err := m.ExecContext(ctx, "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ", nil); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &batchConn{mysqlConn: m}, nil
}

// added is the result of an insert that waits.
type added struct{}

func (added) LastInsertId() (int64, error) { return 0, nil }
func (added) RowsAffected() (int64, error) { return 1, nil }

// ExecContext implements driver.ExecerContext.
func (c *batchConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if query == savepoint {
		return added{}, nil
	}
	for i, b := range batched {
		if len(query) == len(b.insert)+len(b.row) && strings.HasPrefix(query, b.insert) && strings.HasSuffix(query, b.row) {
			return added{}, c.add(ctx, i, args)
		}
	}
	if err := c.flush(ctx); err != nil {
		return nil, err
	}
	if query == releaseSavepoint {
		return added{}, nil
	}
	return c.mysqlConn.ExecContext(ctx, query, args)
}

// add has a row wait.
func (c *batchConn) add(ctx context.Context, i int, args []driver.NamedValue) error {
	size := 0
	for _, a := range args {
		if b, ok := a.Value.([]byte); ok {
			size += 2 * len(b)
		}
		size += 24
	}
	p := &c.waiting[i]
	if p.bytes+size > maxBatchBytes {
		if err := c.flush(ctx); err != nil {
			return err
		}
	}
	for _, a := range args {
		a.Ordinal = len(p.args) + 1
		p.args = append(p.args, a)
	}
	p.rows, p.bytes = p.rows+1, p.bytes+size
	return nil
}

// flush inserts the rows that wait: a leaf's data before its place, which refers to them.
func (c *batchConn) flush(ctx context.Context) error {
	for i, b := range batched {
		p := c.waiting[i]
		c.waiting[i] = pending{}
		if p.rows == 0 {
			continue
		}
		_, err := c.mysqlConn.ExecContext(ctx, b.insert+b.row+strings.Repeat(","+b.row, p.rows-1), p.args)
		if err != nil {
			c.forget()
		}
		if isDuplicate(err) {
			return &TakenError{b.table, err}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func isDuplicate(err error) bool {
	var e *mysql.MySQLError
	return errors.As(err, &e) && e.Number == 1062 // ER_DUP_ENTRY
}

// forget drops what waits: its transaction has failed.
func (c *batchConn) forget() { c.waiting = [len(batched)]pending{} }

// QueryContext implements driver.QueryerContext.
func (c *batchConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if err := c.flush(ctx); err != nil {
		return nil, err
	}
	return c.mysqlConn.QueryContext(ctx, query, args)
}

// PrepareContext implements driver.ConnPrepareContext. What is prepared is run later, and
// reads or writes other rows: the provider prepares nothing while leaves are added.
func (c *batchConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	if err := c.flush(ctx); err != nil {
		return nil, err
	}
	return c.mysqlConn.PrepareContext(ctx, query)
}

// BeginTx implements driver.ConnBeginTx.
func (c *batchConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	c.forget()
	tx, err := c.mysqlConn.BeginTx(ctx, opts)
	if err != nil {
		return nil, err
	}
	return &batchTx{tx, c}, nil
}

// ResetSession implements driver.SessionResetter.
func (c *batchConn) ResetSession(ctx context.Context) error {
	c.forget()
	return c.mysqlConn.ResetSession(ctx)
}

type batchTx struct {
	driver.Tx
	conn *batchConn
}

// Commit implements driver.Tx.
func (t *batchTx) Commit() error {
	if err := t.conn.flush(context.Background()); err != nil {
		return errors.Join(err, t.Tx.Rollback())
	}
	return t.Tx.Commit()
}

// Rollback implements driver.Tx.
func (t *batchTx) Rollback() error {
	t.conn.forget()
	return t.Tx.Rollback()
}
