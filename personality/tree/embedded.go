package tree

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/prooftrail/prooftrail/personality/pebblestore"
)

// DefaultIntegrateBatch is Options.IntegrateBatch when that is 0.
const DefaultIntegrateBatch = 1000

// Options configures a tree that Trillian's code keeps in this process.
type Options struct {
	// Logger gets what Trillian logs through klog. klog has one output a process, so
	// the first Logger that is given to this package stays. Nil: klog as it is.
	Logger *slog.Logger

	// DeferSync, of an Embedded tree alone, makes Append and Integrate return before their commits are on stable
	// storage: they are visible, and durable with the next synced write into the same
	// *pebble.DB. Right only if nobody is answered and nothing is signed before that. A
	// crash in between loses the last of them, never one without those after it.
	DeferSync bool

	// IntegrateBatch is the most leaves that one transaction of Integrate covers.
	// 0 is DefaultIntegrateBatch.
	IntegrateBatch int

	// Now is the clock, time.Now if nil. It may step back: the timestamps in
	// Trillian's roots go on from the last one by a nanosecond each.
	Now func() time.Time
}

func (o *Options) check() error {
	if o.IntegrateBatch < 0 {
		return fmt.Errorf("%w: batches of %d", ErrInvalid, o.IntegrateBatch)
	}
	return nil
}

// Embedded is a Tree that Trillian keeps, in this process, in a Pebble database.
type Embedded struct{ *local }

var _ Tree = (*Embedded)(nil)

// CreateEmbedded creates an empty PREORDERED_LOG tree in db and initialises it,
// durably. It returns the tree's id, positive, which OpenEmbedded takes and the
// caller has to keep. db should have been opened with pebblestore.Configure. After
// an error a tree without a root may be left behind: nobody has its id.
func CreateEmbedded(ctx context.Context, db *pebble.DB, opts Options) (treeID int64, err error) {
	l, err := newEmbedded(db, 0, opts)
	if err != nil {
		return 0, fmt.Errorf("create tree: %w", err)
	}
	if err := l.create(ctx); err != nil {
		return 0, fmt.Errorf("create tree: %w", err)
	}
	return l.treeID, nil
}

// OpenEmbedded opens the tree that CreateEmbedded made. A tree that isn't
// there, is deleted or was never initialised is ErrNoTree: nothing is created.
// Closing db is the caller's, after Close and the end of every call.
func OpenEmbedded(ctx context.Context, db *pebble.DB, treeID int64, opts Options) (*Embedded, error) {
	l, err := newEmbedded(db, treeID, opts)
	if err == nil {
		err = l.open(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("open tree %d: %w", treeID, err)
	}
	return &Embedded{l}, nil
}

func newEmbedded(db *pebble.DB, treeID int64, opts Options) (*local, error) {
	if err := opts.check(); err != nil {
		return nil, err
	}
	store, err := pebblestore.Open(db)
	if err != nil {
		return nil, err
	}
	l := newLocal(store.Admin(), store.Log(), treeID, opts)
	if opts.DeferSync {
		l.commitCtx = pebblestore.DeferSync
	}
	return l, nil
}
