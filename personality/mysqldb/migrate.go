package mysqldb

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/pressly/goose/v3"
)

// migrations are the tables, version after version; provider adds what SQL can't say. What a released one makes never changes.
// Each of their statements may be run again: one that makes a table can't be undone, and
// where Migrate is cut off in the middle of a version it begins that again.
//
//go:embed migrations/*.sql
var migrations embed.FS

// addHold adds the column that says why nothing may be published on the head; empty: it
// may. MySQL has no ADD COLUMN IF NOT EXISTS.
func addHold(ctx context.Context, tx *sql.Tx) error {
	var there int
	err := tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.columns "+
		"WHERE table_schema = DATABASE() AND table_name = 'prooftrail_head' AND column_name = 'hold'").Scan(&there)
	if err != nil || there > 0 {
		return err
	}
	_, err = tx.ExecContext(ctx, "ALTER TABLE prooftrail_head ADD COLUMN hold VARBINARY(4096) NOT NULL DEFAULT ''")
	return err
}

// ErrSchema: the database doesn't have the tables of this version.
var ErrSchema = errors.New("the database's tables")

// migrateLock is the name of the lock that is held while tables are made.
const (
	migrateLock     = "migrate"
	migratePatience = time.Hour
)

func provider(db *sql.DB) (*goose.Provider, error) {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	hold := goose.NewGoMigration(3, &goose.GoFunc{RunTx: addHold}, nil)
	return goose.NewProvider(goose.DialectMySQL, db, dir, goose.WithLogger(goose.NopLogger()), goose.WithGoMigrations(hold))
}

// Migrate makes the tables, or brings those of an older version to this one. Two at once
// wait for each other. Where it fails, or is cut off, it goes on the next time.
func Migrate(ctx context.Context, db *sql.DB) (err error) {
	l := NewLock(db, migrateLock, migratePatience)
	defer func() { err = errors.Join(err, l.Close()) }()
	if _, err := l.Acquire(ctx); err != nil {
		return fmt.Errorf("make the tables: %w", err)
	}
	if err := dropUnbegun(ctx, db); err != nil {
		return fmt.Errorf("make the tables: %w", err)
	}
	p, err := provider(db)
	if err != nil {
		return fmt.Errorf("make the tables: %w", err)
	}
	if has, want, err := p.GetVersions(ctx); err != nil {
		return fmt.Errorf("make the tables: %w", err)
	} else if has > want {
		return tooNew(has, want)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("make the tables: %w", err)
	}
	return nil
}

// dropUnbegun drops goose's own table where it has no row: goose makes the two one after the
// other, and takes the table without its first row for broken.
func dropUnbegun(ctx context.Context, db *sql.DB) error {
	there, err := hasVersions(ctx, db)
	if err != nil || !there {
		return err
	}
	var rows int
	if err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+goose.DefaultTablename).Scan(&rows); err != nil || rows > 0 {
		return err
	}
	_, err = db.ExecContext(ctx, "DROP TABLE "+goose.DefaultTablename)
	return err
}

// hasVersions reports whether goose's own table is there.
func hasVersions(ctx context.Context, db *sql.DB) (bool, error) {
	var tables int
	err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ?",
		goose.DefaultTablename).Scan(&tables)
	return tables > 0, err
}

func tooNew(has, want int64) error {
	return fmt.Errorf("%w are of version %d, and this program knows %d: use a newer one", ErrSchema, has, want)
}

// CheckSchema returns ErrSchema unless the tables are those of this version.
func CheckSchema(ctx context.Context, db *sql.DB) error {
	p, err := provider(db)
	if err != nil {
		return fmt.Errorf("read the tables' version: %w", err)
	}
	has, err := version(ctx, db)
	if err != nil {
		return fmt.Errorf("read the tables' version: %w", err)
	}
	sources := p.ListSources()
	want := sources[len(sources)-1].Version
	switch {
	case has > want:
		return tooNew(has, want)
	case has == 0:
		return fmt.Errorf("%w aren't there: a log is made by init", ErrSchema)
	case has < want:
		return fmt.Errorf("%w are of version %d, and this program needs %d: bring them there with `prooftrail schema`", ErrSchema, has, want)
	}
	return nil
}

// version returns the tables' version, 0 if there are none. It makes nothing, as goose's
// own would.
func version(ctx context.Context, db *sql.DB) (int64, error) {
	if there, err := hasVersions(ctx, db); err != nil || !there {
		return 0, err
	}
	var v sql.NullInt64
	err := db.QueryRowContext(ctx, "SELECT MAX(version_id) FROM "+goose.DefaultTablename+" WHERE is_applied").Scan(&v)
	return v.Int64, err
}
