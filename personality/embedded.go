package personality

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2"

	"github.com/prooftrail/prooftrail/personality/pebblestore"
	"github.com/prooftrail/prooftrail/personality/pubstore"
	"github.com/prooftrail/prooftrail/personality/tree"
)

// storage is what a log is kept in: the tree and the publication store.
type storage interface {
	// create makes both, empty, and the log in them. dir is the data directory in the making.
	create(ctx context.Context, dir string, n newLog) error
	// open opens the store and what goes with it. The tree's id is believed only once the log's
	// parameters have been checked: then openTree is called. Closing is parts.close.
	open(ctx context.Context) (p parts, openTree func(ctx context.Context, id int64) (tree.Tree, error), err error)
}

// storage returns what the configuration says.
func (c Config) storage() storage {
	if c.Database != nil {
		return database{c}
	}
	return embedded{c}
}

// embedded is a Pebble database in the data directory, with Trillian's part and ours.
type embedded struct{ Config }

func (c embedded) create(ctx context.Context, dir string, n newLog) (err error) {
	// What an earlier attempt left there isn't a log yet: see Migrate.
	if err := c.fs.RemoveAll(filepath.Join(dir, storeDir)); err != nil {
		return fmt.Errorf("remove what an earlier attempt left: %w", err)
	}
	db, err := openPebble(c.Config, dir, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	treeID, err := tree.CreateEmbedded(ctx, db, c.treeOptions())
	if err != nil {
		return err
	}
	return n.storeIn(ctx, pubstore.NewPebble(db), treeID)
}

func (c embedded) open(context.Context) (p parts, openTree func(context.Context, int64) (tree.Tree, error), err error) {
	// Pebble makes directories before it finds that there is no database in them.
	if _, err := c.fs.Stat(filepath.Join(c.Dir, storeDir)); err != nil {
		return parts{}, nil, fmt.Errorf("%w (a log is made by init; one in a database is opened with its name)", err)
	}
	if err := checkPrivate(c.Dir); err != nil {
		return parts{}, nil, err
	}
	c.corruption = &corruption{}
	db, err := openPebble(c.Config, c.Dir, true)
	if err != nil {
		return parts{}, nil, err
	}
	store := pubstore.NewPebble(db)
	store.OnCorruption = c.corruption.note
	p = parts{store: store, corruption: c.corruption, close: db.Close, deferSync: true}
	return p, func(ctx context.Context, id int64) (tree.Tree, error) {
		return tree.OpenEmbedded(ctx, db, id, c.treeOptions())
	}, nil
}

func (c embedded) treeOptions() tree.Options {
	return tree.Options{DeferSync: true, Logger: c.Logger}
}

// openPebble opens the database of a data directory, which must exist unless
// one is being created.
func openPebble(c Config, dir string, mustExist bool) (*pebble.DB, error) {
	if !mustExist { // Pebble makes its files readable for all
		if err := c.fs.MkdirAll(filepath.Join(dir, storeDir), 0o700); err != nil {
			return nil, fmt.Errorf("make the database's directory: %w", err)
		}
	}
	cache := pebble.NewCache(c.CacheBytes)
	defer cache.Unref()
	opts := &pebble.Options{
		FS: c.room.disk, Cache: cache, ErrorIfNotExists: mustExist, ErrorIfExists: !mustExist,
		Logger: pebbleLogger{c.Logger.With("component", "pebble")},
	}
	pebblestore.Configure(opts)
	pubstore.Configure(opts)
	c.corruption.watch(opts)
	db, err := pebble.Open(filepath.Join(dir, storeDir), opts)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	return db, nil
}

// pebbleLogger sends what Pebble says to slog. Where Pebble can't go on, nor may
// the process: recovery starts from what is durable. The panic is on a goroutine
// of its own, so that nobody can recover it, as net/http would.
type pebbleLogger struct{ log *slog.Logger }

func (l pebbleLogger) Infof(format string, args ...any) { l.log.Debug(fmt.Sprintf(format, args...)) }
func (l pebbleLogger) Errorf(format string, args ...any) {
	l.log.Error(fmt.Sprintf(format, args...))
}
func (l pebbleLogger) Fatalf(format string, args ...any) {
	reason := fmt.Sprintf(format, args...)
	l.log.Error(reason)
	go func() { panic("pebble: " + reason) }()
	select {}
}
