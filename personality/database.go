package personality

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/prooftrail/prooftrail/personality/mysqldb"
	"github.com/prooftrail/prooftrail/personality/pubstore"
	"github.com/prooftrail/prooftrail/personality/tree"
)

// database is a MySQL or MariaDB database that several processes may share. It holds our
// part, and Trillian's too unless a cluster keeps that.
type database struct{ Config }

const (
	// sequencingLock and publishingLock are the kinds of the locks by which the processes
	// take turns.
	sequencingLock = "turn"
	publishingLock = "publishing"
	// turnPatience is how long another process may keep its turn while this one waits. It
	// ends it after one batch, or one publication.
	turnPatience = 5 * time.Second
)

func (c database) create(ctx context.Context, _ string, n newLog) (err error) {
	db, err := mysqldb.Open(*c.Database)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	warnings, err := mysqldb.CheckServer(ctx, db)
	if err != nil {
		return err
	}
	c.warn(warnings)
	store := pubstore.NewMySQL(db)
	if _, err := store.Log(ctx); err == nil { // of whatever version its tables are: they aren't touched
		return fmt.Errorf("%w: %w", fs.ErrExist, pubstore.ErrExists)
	}
	if err := mysqldb.Migrate(ctx, db); err != nil {
		return err
	}
	switch _, err := store.Log(ctx); {
	case err == nil:
		return fmt.Errorf("%w: %w", fs.ErrExist, pubstore.ErrExists)
	case !errors.Is(err, pubstore.ErrNotFound):
		return err
	}
	treeID, err := c.createTree(ctx, db, n.takeTree)
	if err != nil {
		return err
	}
	if err = n.storeIn(ctx, store, treeID); errors.Is(err, pubstore.ErrExists) {
		err = fmt.Errorf("%w: %w", fs.ErrExist, err)
	}
	return err
}

func (c database) open(ctx context.Context) (p parts, openTree func(context.Context, int64) (tree.Tree, error), err error) {
	db, err := mysqldb.Open(*c.Database)
	if err != nil {
		return parts{}, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, db.Close())
		}
	}()
	warnings, err := mysqldb.CheckServer(ctx, db)
	if err != nil {
		return parts{}, nil, err
	}
	c.warn(warnings)
	if err := mysqldb.CheckSchema(ctx, db); err != nil {
		return parts{}, nil, err
	}
	p = parts{
		store: pubstore.NewMySQL(db), close: db.Close, splits: c.Trillian != nil,
		sequencing: mysqldb.NewLock(db, sequencingLock, turnPatience),
		publishing: mysqldb.NewLock(db, publishingLock, turnPatience),
	}
	return p, func(ctx context.Context, id int64) (tree.Tree, error) {
		if c.Trillian != nil {
			return tree.OpenRemote(ctx, c.remote(), id)
		}
		return tree.OpenMySQL(ctx, db, id, c.treeOptions())
	}, nil
}

// createTree makes the tree of a new log, or takes the one that is named.
func (c database) createTree(ctx context.Context, db *sql.DB, take int64) (int64, error) {
	switch {
	case c.Trillian == nil:
		return tree.CreateMySQL(ctx, db, c.treeOptions())
	case take == 0:
		return tree.CreateRemote(ctx, c.remote())
	}
	return take, tree.TakeRemote(ctx, c.remote(), take)
}

func (c database) remote() tree.RemoteConfig {
	cfg := *c.Trillian
	cfg.Logger = c.Logger
	return cfg
}

func (c database) treeOptions() tree.Options { return tree.Options{Logger: c.Logger} }

func (c database) warn(warnings []string) {
	for _, w := range warnings {
		c.Logger.Warn("database", "warning", w)
	}
}

// CreateAnchor makes the anchor of a further process of a log in a database, at cfg.Anchor:
// an act of its own, for whoever opens a log without its anchor can't tell whether the
// store is the newest. It begins at the head that is stored now. fs.ErrExist if there is
// one already.
func CreateAnchor(ctx context.Context, cfg Config) (size uint64, err error) {
	c, err := cfg.withDefaults()
	if err != nil {
		return 0, err
	}
	if c.Database == nil {
		return 0, errors.New("create anchor: an embedded log has one process, and init made its anchor")
	}
	p, err := openParts(ctx, c)
	if err != nil {
		return 0, fmt.Errorf("create anchor: %w", err)
	}
	defer func() { err = errors.Join(err, p.closeAll()) }()
	params, err := p.store.Log(ctx)
	if err != nil {
		return 0, fmt.Errorf("create anchor: %w", err)
	}
	head, err := p.store.Head(ctx)
	if err == nil {
		err = p.keys.checkHead(head)
	}
	if err == nil && head.Hold != "" {
		err = errors.New(parseHold(head.Hold).reason())
	}
	if err == nil {
		err = createAnchor(c.Anchor, params.VKey, head.Head)
	}
	if err != nil {
		return 0, fmt.Errorf("create anchor: %w", err)
	}
	return head.Size, nil
}
