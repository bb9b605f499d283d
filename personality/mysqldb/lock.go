package mysqldb

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"database/sql/driver"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"
)

// Lock is a named lock of the server (GET_LOCK) on a connection of its own, by which the
// processes that share a database take turns. The server ends it when the connection ends,
// and knows nothing of it on other nodes of a Galera cluster: nothing may depend on it but
// speed and fairness.
//
// Who waits holds a second lock meanwhile, the turnstile: it keeps the others in a row, and
// lets the holder see that somebody waits.
//
// One goroutine at a time.
type Lock struct {
	db       *sql.DB
	kind     string
	patience time.Duration

	mu              sync.Mutex // conn, for Close
	conn            *sql.Conn
	name, turnstile string // once the database's name is known
}

// ErrLockLost: the lock had been lost before it was released.
var ErrLockLost = errors.New("the database's lock was lost")

// waitPiece is how long one statement waits for the lock: whole seconds, for MySQL takes no
// other.
const waitPiece = time.Second

// NewLock returns the lock of this kind of the database. A holder that keeps it for longer
// than patience while this one waits is robbed of it: its connection is killed. It may hang,
// or its machine may be gone without a word.
func NewLock(db *sql.DB, kind string, patience time.Duration) *Lock {
	return &Lock{db: db, kind: kind, patience: patience}
}

// connect takes a connection for the lock, unless there is one.
func (l *Lock) connect(ctx context.Context) (*sql.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		return l.conn, nil
	}
	conn, err := l.db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	if l.name == "" {
		var database string
		if err := conn.QueryRowContext(ctx, "SELECT DATABASE()").Scan(&database); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		// Names are the server's, not the database's, and of 64 characters at most.
		sum := sha256.Sum256([]byte(l.kind + "\x00" + database))
		l.name = "prooftrail." + hex.EncodeToString(sum[:16])
		l.turnstile = l.name + ".next"
	}
	l.conn = conn
	return conn, nil
}

// drop ends the connection, and with it whatever it holds.
func (l *Lock) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil {
		return
	}
	_ = l.conn.Raw(func(any) error { return driver.ErrBadConn }) // so that the pool doesn't keep it
	_ = l.conn.Close()
	l.conn = nil
}

// Acquire waits for the lock and returns the server's clock.
func (l *Lock) Acquire(ctx context.Context) (now time.Time, err error) {
	for fresh := false; ; fresh = true {
		conn, err := l.connect(ctx)
		if err != nil {
			return now, fmt.Errorf("acquire the database's lock: %w", err)
		}
		if now, err = l.acquire(ctx, conn); err == nil {
			return now, nil
		}
		l.drop()
		// A connection may have ended since it was last used.
		if ended := errors.Is(err, mysql.ErrInvalidConn) || errors.Is(err, driver.ErrBadConn); !ended || fresh {
			return now, fmt.Errorf("acquire the database's lock: %w", err)
		}
	}
}

func (l *Lock) acquire(ctx context.Context, conn *sql.Conn) (now time.Time, err error) {
	// Nobody holds it, mostly: one round trip. Who has only come through the turnstile stays
	// there.
	const atOnce = "SELECT IF(GET_LOCK(?,0) = 1, IF(GET_LOCK(?,0) = 1, 1 + RELEASE_LOCK(?), 1), 0), " + clockSQL
	var got, micros sql.NullInt64
	if err := conn.QueryRowContext(ctx, atOnce, l.turnstile, l.name, l.turnstile).Scan(&got, &micros); err != nil {
		return now, err
	}
	if got.Int64 == 2 {
		return time.UnixMicro(micros.Int64), nil
	}
	var rob robber
	for next := got; next.Int64 != 1; {
		var holder sql.NullInt64
		if err := conn.QueryRowContext(ctx, "SELECT GET_LOCK(?,?), IS_USED_LOCK(?)", l.turnstile, waitPiece.Seconds(), l.turnstile).Scan(&next, &holder); err != nil {
			return now, err
		}
		if err := ctx.Err(); err != nil {
			return now, err
		}
		// Who is in it robs the holder of the lock after patience. One that is there for much
		// longer is gone.
		if next.Int64 != 1 {
			if err := rob.rob(ctx, conn, holder, 2*(l.patience+waitPiece)); err != nil {
				return now, err
			}
		}
	}
	return l.wait(ctx, conn)
}

// clockSQL is the server's clock in microseconds, not that of the statement's beginning.
const clockSQL = "CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED)"

// wait waits for the lock, first in the row, and opens the turnstile for the next one.
func (l *Lock) wait(ctx context.Context, conn *sql.Conn) (now time.Time, err error) {
	const wait = "SELECT IF(GET_LOCK(?,?) = 1, 1 + RELEASE_LOCK(?), 0), IS_USED_LOCK(?), " + clockSQL
	var rob robber
	for {
		var got, holder, micros sql.NullInt64
		err := conn.QueryRowContext(ctx, wait, l.name, min(waitPiece, l.patience).Seconds(), l.turnstile, l.name).Scan(&got, &holder, &micros)
		if err != nil {
			return now, err
		}
		if got.Int64 == 2 {
			return time.UnixMicro(micros.Int64), nil
		}
		if err := ctx.Err(); err != nil {
			return now, err
		}
		if err := rob.rob(ctx, conn, holder, l.patience); err != nil {
			return now, err
		}
	}
}

// A robber ends the connection of who keeps a lock for too long: once.
type robber struct {
	seen, robbed sql.NullInt64
	since        time.Time
}

func (r *robber) rob(ctx context.Context, conn *sql.Conn, holder sql.NullInt64, patience time.Duration) error {
	if !holder.Valid {
		return nil
	}
	if holder != r.seen {
		r.seen, r.since = holder, time.Now()
	}
	if time.Since(r.since) < patience || r.robbed == holder {
		return nil
	}
	r.robbed = holder
	if _, err := conn.ExecContext(ctx, fmt.Sprintf("KILL CONNECTION %d", holder.Int64)); err != nil && !isGone(err) {
		return fmt.Errorf("end connection %d, which has kept a lock for %s: %w", holder.Int64, patience, err)
	}
	return nil
}

// isGone reports whether the connection that was to be ended has ended already.
func isGone(err error) bool {
	var e *mysql.MySQLError
	return errors.As(err, &e) && e.Number == 1094 // ER_NO_SUCH_THREAD
}

// Wanted reports whether another process waits for the lock.
func (l *Lock) Wanted(ctx context.Context) (bool, error) {
	conn, err := l.connect(ctx)
	if err != nil {
		return false, fmt.Errorf("ask who waits for the database's lock: %w", err)
	}
	var waits sql.NullInt64
	if err := conn.QueryRowContext(ctx, "SELECT IS_USED_LOCK(?)", l.turnstile).Scan(&waits); err != nil {
		l.drop()
		return false, fmt.Errorf("ask who waits for the database's lock: %w", err)
	}
	return waits.Valid, nil
}

// Held reports whether another connection has the lock.
func (l *Lock) Held(ctx context.Context) (bool, error) {
	conn, err := l.connect(ctx)
	if err != nil {
		return false, fmt.Errorf("ask who has the database's lock: %w", err)
	}
	var holder sql.NullInt64
	var own int64
	if err := conn.QueryRowContext(ctx, "SELECT IS_USED_LOCK(?), CONNECTION_ID()", l.name).Scan(&holder, &own); err != nil {
		l.drop()
		return false, fmt.Errorf("ask who has the database's lock: %w", err)
	}
	return holder.Valid && holder.Int64 != own, nil
}

// Yield lets go of the lock if another process waits for it, and reports whether it did.
// ErrLockLost as Release.
func (l *Lock) Yield(ctx context.Context) (yielded bool, _ error) {
	conn, err := l.connect(ctx)
	if err != nil {
		return false, fmt.Errorf("yield the database's lock: %w", err)
	}
	var released sql.NullInt64
	if err := conn.QueryRowContext(ctx, "SELECT IF(IS_USED_LOCK(?) IS NULL, -1, COALESCE(RELEASE_LOCK(?), 0))", l.turnstile, l.name).Scan(&released); err != nil {
		l.drop()
		return true, fmt.Errorf("yield the database's lock: %w: %w", ErrLockLost, err)
	}
	if released.Int64 == 0 {
		return true, fmt.Errorf("yield the database's lock: %w", ErrLockLost)
	}
	return released.Int64 == 1, nil
}

// Release lets go of the lock. ErrLockLost if it wasn't held any more.
func (l *Lock) Release(ctx context.Context) error {
	conn, err := l.connect(ctx)
	if err != nil {
		return fmt.Errorf("release the database's lock: %w", err)
	}
	var released sql.NullInt64
	if err := conn.QueryRowContext(ctx, "SELECT RELEASE_LOCK(?)", l.name).Scan(&released); err != nil {
		l.drop()
		return fmt.Errorf("release the database's lock: %w: %w", ErrLockLost, err)
	}
	if released.Int64 != 1 {
		return fmt.Errorf("release the database's lock: %w", ErrLockLost)
	}
	return nil
}

// Close ends the connection. The lock is free then.
func (l *Lock) Close() error {
	l.drop()
	return nil
}
