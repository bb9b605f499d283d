package tree

import (
	"context"
	"database/sql"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/google/trillian/storage/mysql"
)

// MySQL is a Tree that Trillian keeps, in this process, in a MySQL or MariaDB database
// through its own storage provider. Several processes may use one at once.
//
// What a database server answers wrongly for a moment is ErrCorrupt too: Trillian's
// provider reads a query that was killed, or timed out, as an empty root.
type MySQL struct{ *local }

var _ Tree = (*MySQL)(nil)

// rememberTree is how long a tree's metadata are believed: reading them takes four round
// trips. Who freezes a tree has to wait that long.
const rememberTree = time.Second

// CreateMySQL creates an empty PREORDERED_LOG tree in db, which has Trillian's tables, and
// initialises it. It returns the tree's id, as CreateEmbedded does.
func CreateMySQL(ctx context.Context, db *sql.DB, opts Options) (treeID int64, err error) {
	l, err := newMySQL(db, 0, opts)
	if err == nil {
		err = l.create(ctx)
	}
	if err != nil {
		return 0, fmt.Errorf("create tree: %w", err)
	}
	return l.treeID, nil
}

// OpenMySQL opens the tree that CreateMySQL made, as OpenEmbedded does.
func OpenMySQL(ctx context.Context, db *sql.DB, treeID int64, opts Options) (*MySQL, error) {
	l, err := newMySQL(db, treeID, opts)
	if err == nil {
		err = l.open(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("open tree %d: %w", treeID, err)
	}
	return &MySQL{l}, nil
}

func newMySQL(db *sql.DB, treeID int64, opts Options) (*local, error) {
	if err := opts.check(); err != nil {
		return nil, err
	}
	if opts.DeferSync {
		return nil, fmt.Errorf("%w: a database syncs when it commits", ErrInvalid)
	}
	l := newLocal(mysql.NewAdminStorage(db), mysql.NewLogStorage(db, noMetrics{}), treeID, opts)
	l.remember = rememberTree
	l.integrated = (&headPruner{db: db, treeID: treeID, clock: l.clock}).integrated
	return l, nil
}

// headPruner deletes old rows of Trillian's TreeHead: each integration adds one, and only
// the newest is ever read.
type headPruner struct {
	db     *sql.DB
	treeID int64
	clock  *risingClock
	n      atomic.Int64
}

const (
	pruneEvery = 256         // integrations
	keepHeads  = time.Minute // before the newest
	pruneRows  = 4096        // in one statement, so that it doesn't take long
)

// Revisions 0 and 1 stay: the provider, when it can't read the root, takes it for one of
// revision 0, and would write revision 1. The key of that row is what then refuses it.
const pruneSQL = "DELETE FROM TreeHead WHERE TreeId = ? AND TreeHeadTimestamp < ? AND TreeRevision > 1 LIMIT ?"

func (p *headPruner) integrated(ctx context.Context) error {
	if p.n.Add(1)%pruneEvery != 0 {
		return nil
	}
	if _, err := p.db.ExecContext(ctx, pruneSQL, p.treeID, p.clock.last.Load()-int64(keepHeads), pruneRows); err != nil {
		return fmt.Errorf("delete old roots: %w", err)
	}
	return nil
}
