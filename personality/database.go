package personality

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/prooftrail/prooftrail/personality/mysqldb"
	"github.com/prooftrail/prooftrail/personality/pubstore"
	"github.com/prooftrail/prooftrail/personality/tree"
)

// database is a MySQL or MariaDB database, with Trillian's part and ours, that several
// processes may share.
type database struct{ Config }

const (
	// turnLock is the kind of the lock by which the processes take turns.
	turnLock = "turn"
	// turnPatience is how long another process may keep its turn while this one waits. It
	// ends its turn within drainTimeout of being asked, and one statement more.
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
	if err := mysqldb.Migrate(ctx, db); err != nil {
		return err
	}
	store := pubstore.NewMySQL(db)
	switch _, err := store.Log(ctx); {
	case err == nil:
		return fmt.Errorf("%w: %w", fs.ErrExist, pubstore.ErrExists)
	case !errors.Is(err, pubstore.ErrNotFound):
		return err
	}
	treeID, err := tree.CreateMySQL(ctx, db, c.treeOptions())
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
	p = parts{store: pubstore.NewMySQL(db), turns: mysqldb.NewLock(db, turnLock, turnPatience), close: db.Close}
	return p, func(ctx context.Context, id int64) (tree.Tree, error) {
		return tree.OpenMySQL(ctx, db, id, c.treeOptions())
	}, nil
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
