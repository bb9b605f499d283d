package tree

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/trillian"
	"github.com/google/trillian/extension"
	"github.com/google/trillian/log"
	"github.com/google/trillian/quota"
	"github.com/google/trillian/server"
	"github.com/google/trillian/storage"
	"github.com/google/trillian/trees"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/prooftrail/prooftrail/personality/mysqldb"
	"github.com/prooftrail/prooftrail/personality/pebblestore"
)

var (
	optsWrite = trees.NewGetOpts(trees.SequenceLog, trillian.TreeType_PREORDERED_LOG)
	optsRead  = trees.NewGetOpts(trees.Query, trillian.TreeType_PREORDERED_LOG)
)

// local is a Tree that Trillian's code keeps in this process, on any of its storages
// whose transactions have an AddSequencedLeaves of their own.
type local struct {
	admin  storage.AdminStorage
	logs   storage.LogStorage
	server *server.TrillianLogRPCServer
	clock  *risingClock
	treeID int64
	closed atomic.Bool

	// What Options say.
	batch     int
	commitCtx func(context.Context) context.Context // how Append and Integrate commit

	// integrated, unless nil, is called after each integration.
	integrated func(ctx context.Context) error

	// The tree's metadata, and until when they are believed without asking again.
	remember time.Duration
	metaMu   sync.Mutex
	meta     *trillian.Tree
	metaTill time.Time
}

func newLocal(admin storage.AdminStorage, logs storage.LogStorage, treeID int64, opts Options) *local {
	prepareTrillian(opts.Logger)
	now, batch := opts.Now, opts.IntegrateBatch
	if now == nil {
		now = time.Now
	}
	if batch == 0 {
		batch = DefaultIntegrateBatch
	}
	l := &local{
		admin: admin, logs: logs, treeID: treeID,
		clock:     &risingClock{now: now},
		batch:     batch,
		commitCtx: func(ctx context.Context) context.Context { return ctx },
	}
	l.server = server.NewTrillianLogRPCServer(extension.Registry{
		AdminStorage: admin, LogStorage: logs, QuotaManager: quota.Noop(), MetricFactory: noMetrics{},
	}, l.clock)
	return l
}

// create makes the tree and its first root.
func (l *local) create(ctx context.Context) error {
	tree, err := storage.CreateTree(ctx, l.admin, &trillian.Tree{
		TreeState:       trillian.TreeState_ACTIVE,
		TreeType:        trillian.TreeType_PREORDERED_LOG,
		DisplayName:     "prooftrail",
		MaxRootDuration: durationpb.New(0),
	})
	if err != nil {
		return err
	}
	l.treeID = tree.TreeId
	if _, err := l.server.InitLog(ctx, &trillian.InitLogRequest{LogId: l.treeID}); err != nil {
		return err
	}
	_, err = l.root(ctx)
	return err
}

// open checks that the tree is there and initialised.
func (l *local) open(ctx context.Context) error {
	if _, err := l.getTree(ctx, optsRead); err != nil {
		return err
	}
	_, err := l.root(ctx)
	return err
}

// ready says whether a call may begin.
func (l *local) ready(ctx context.Context) error {
	if l.closed.Load() {
		return ErrClosed
	}
	return ctx.Err()
}

// getTree returns the tree's metadata if what opts ask for may be done with it. Trillian
// checks a tree's state in its RPC layer, not in storage: who goes past the one must do it.
func (l *local) getTree(ctx context.Context, opts trees.GetOpts) (*trillian.Tree, error) {
	if tree := l.remembered(); tree != nil {
		return tree, nil
	}
	tree, err := trees.GetTree(ctx, l.admin, l.treeID, opts)
	if err == nil && tree.TreeState == trillian.TreeState_ACTIVE {
		l.metaMu.Lock()
		l.meta, l.metaTill = tree, time.Now().Add(l.remember)
		l.metaMu.Unlock()
	}
	if status.Code(err) == codes.InvalidArgument { // the wrong type, or state
		return nil, fmt.Errorf("%w: %w", ErrNotWritable, err)
	}
	return tree, known(err)
}

// remembered returns the metadata of an active tree, with which all may be done, if
// they were read not long ago.
func (l *local) remembered() *trillian.Tree {
	l.metaMu.Lock()
	defer l.metaMu.Unlock()
	if l.meta == nil || time.Now().After(l.metaTill) {
		return nil
	}
	return l.meta
}

// rootMismatch is what Trillian's sequencer says, without a type, when the stored nodes
// don't make the stored root.
const rootMismatch = "root hash mismatch"

// missingNodes is what Trillian says, likewise, when nodes below the root aren't stored.
const missingNodes = "preload did not get all tiles"

// holeBelowRoot is how Trillian's MySQL storage begins to say, likewise, that a leaf below
// the root is missing.
const holeBelowRoot = "got unexpected index"

// known adds this package's error to one of Trillian's, where there is one. It doesn't
// for InvalidArgument and others that may mean several things.
func known(err error) error {
	var taken *mysqldb.TakenError
	switch {
	case err == nil || errors.Is(err, ErrCorrupt):
		return err
	case errors.As(err, &taken) && taken.Table == "LeafData":
		return fmt.Errorf("%w (%w)", ErrDuplicate, err)
	case errors.As(err, &taken):
		return fmt.Errorf("%w (%w)", ErrIndexTaken, err)
	case errors.Is(err, pebblestore.ErrCorrupt) || strings.Contains(err.Error(), rootMismatch), strings.Contains(err.Error(), missingNodes):
		return fmt.Errorf("%w: %w: %w", ErrBroken, ErrCorrupt, err)
	case errors.Is(err, storage.ErrTreeNeedsInit) || status.Code(err) == codes.NotFound:
		return fmt.Errorf("%w: %w", ErrNoTree, err)
	case strings.Contains(err.Error(), holeBelowRoot):
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	case status.Code(err) == codes.PermissionDenied:
		return fmt.Errorf("%w: %w", ErrNotWritable, err)
	case status.Code(err) == codes.DataLoss:
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return err
}

// sequencedAdder is what the transactions of the MySQL and the Pebble storage have
// beside storage.LogTreeTX.
type sequencedAdder interface {
	AddSequencedLeaves(ctx context.Context, leaves []*trillian.LogLeaf, timestamp time.Time) ([]*trillian.QueuedLogLeaf, error)
}

// Append implements Tree.
func (l *local) Append(ctx context.Context, leaves []Leaf) error {
	if err := l.append(ctx, leaves); err != nil {
		return fmt.Errorf("append %d leaves: %w", len(leaves), err)
	}
	return nil
}

func (l *local) append(ctx context.Context, leaves []Leaf) error {
	if err := l.ready(ctx); err != nil {
		return err
	}
	if err := checkAppend(leaves); err != nil || len(leaves) == 0 {
		return err
	}
	tree, err := l.getTree(ctx, optsWrite)
	if err != nil {
		return err
	}
	logLeaves := toLogLeaves(leaves)
	return known(again(ctx, func() error { return l.appendOnce(ctx, tree, leaves, logLeaves) }))
}

// maxDeadlocks is how often a transaction that the database gave up for another is tried.
const maxDeadlocks = 20

// again calls f, and again while the database has rolled its transaction back, whole,
// because it and another wait for each other. No other outcome is known enough for that.
func again(ctx context.Context, f func() error) error {
	for tried := 1; ; tried++ {
		err := f()
		if status.Code(err) != codes.Aborted || tried == maxDeadlocks || ctx.Err() != nil {
			return err
		}
		select {
		case <-time.After(rand.N(time.Duration(tried) * time.Millisecond)):
		case <-ctx.Done():
		}
	}
}

func (l *local) appendOnce(ctx context.Context, tree *trillian.Tree, leaves []Leaf, logLeaves []*trillian.LogLeaf) error {
	return l.logs.ReadWriteTransaction(l.commitCtx(ctx), tree, func(ctx context.Context, tx storage.LogTreeTX) error {
		if err := checkPlace(ctx, tx, leaves[0].Index); err != nil {
			return err
		}
		adder, ok := tx.(sequencedAdder)
		if !ok {
			return fmt.Errorf("storage's %T has no AddSequencedLeaves", tx)
		}
		res, err := adder.AddSequencedLeaves(ctx, logLeaves, l.clock.now())
		if err != nil {
			return err
		}
		return checkAdded(res, leaves)
	})
}

// checkPlace refuses a batch that doesn't follow the last stored leaf. The one before
// it is enough: that one was appended by the same rule. It says that the place is taken
// before a storage says, of the same batch once more, that its identities are.
func checkPlace(ctx context.Context, tx storage.LogTreeTX, first uint64) error {
	from := first - min(first, 1)
	got, err := tx.GetLeavesByRange(ctx, int64(from), int64(first-from)+1)
	if err != nil {
		return err
	}
	leaves, err := checkLeaves(got, from, int(first-from)+1)
	switch {
	case err != nil:
		return err
	case from < first && len(leaves) == 0:
		return fmt.Errorf("%w: %d isn't stored", ErrGap, from)
	case from+uint64(len(leaves)) > first:
		return fmt.Errorf("%w: leaf %d", ErrIndexTaken, first)
	}
	return nil
}

// toLogLeaves makes Trillian's leaves, in few pieces of memory. Their Merkle leaf hash
// is RFC 6962's: SHA-256(0x00 || value).
func toLogLeaves(leaves []Leaf) []*trillian.LogLeaf {
	messages := make([]trillian.LogLeaf, len(leaves))
	hashes := make([][HashSize]byte, len(leaves))
	out := make([]*trillian.LogLeaf, len(leaves))
	var buf []byte
	for i := range leaves {
		buf = append(append(buf[:0], 0), leaves[i].Value...)
		hashes[i] = sha256.Sum256(buf)
		m := &messages[i]
		m.LeafIndex, m.LeafValue = int64(leaves[i].Index), leaves[i].Value
		m.LeafIdentityHash, m.MerkleLeafHash = leaves[i].IdentityHash[:], hashes[i][:]
		out[i] = m
	}
	return out
}

// Root implements Tree.
func (l *local) Root(ctx context.Context) (Root, error) {
	if err := l.ready(ctx); err != nil {
		return Root{}, fmt.Errorf("read root: %w", err)
	}
	return l.root(ctx)
}

func (l *local) root(ctx context.Context) (Root, error) {
	tree, err := l.getTree(ctx, optsRead)
	if err != nil {
		return Root{}, fmt.Errorf("read root: %w", err)
	}
	return l.rootOf(ctx, tree)
}

func (l *local) rootOf(ctx context.Context, tree *trillian.Tree) (_ Root, err error) {
	tx, err := l.logs.SnapshotForTree(ctx, tree)
	if tx != nil {
		defer func() { err = errors.Join(err, tx.Close()) }()
	}
	if err != nil {
		return Root{}, fmt.Errorf("read root: %w", known(err))
	}
	signed, err := tx.LatestSignedLogRoot(ctx)
	if err != nil {
		return Root{}, fmt.Errorf("read root: %w", known(err))
	}
	if err := tx.Commit(ctx); err != nil {
		return Root{}, fmt.Errorf("read root: %w", known(err))
	}
	root, nanos, err := checkRoot(signed)
	if err != nil {
		return Root{}, fmt.Errorf("read root: %w", err)
	}
	l.clock.saw(nanos)
	return root, nil
}

// Integrate implements Tree.
func (l *local) Integrate(ctx context.Context, size uint64) (Root, error) {
	root, err := l.integrate(ctx, size)
	if err != nil {
		return Root{}, fmt.Errorf("integrate %d leaves: %w", size, err)
	}
	return root, nil
}

func (l *local) integrate(ctx context.Context, size uint64) (Root, error) {
	if err := l.ready(ctx); err != nil {
		return Root{}, err
	}
	tree, err := l.getTree(ctx, optsWrite)
	if err != nil {
		return Root{}, err
	}
	root, err := l.rootOf(ctx, tree)
	if err != nil || root.Size >= size {
		return root, err
	}
	for root.Size < size {
		limit := int(min(uint64(l.batch), size-root.Size))
		var n int
		err := again(ctx, func() (err error) {
			n, err = log.IntegrateBatch(l.commitCtx(ctx), tree, limit, 0, 0, l.clock, l.logs, quota.Noop())
			return err
		})
		if err != nil {
			return Root{}, known(err)
		}
		next, err := l.rootOf(ctx, tree)
		switch {
		case err != nil:
			return Root{}, err
		case next.Size < root.Size:
			return Root{}, fmt.Errorf("%w: root of size %d after %d", ErrCorrupt, next.Size, root.Size)
		case next.Size == root.Size && n > 0:
			return Root{}, fmt.Errorf("%w: root still of size %d after %d more leaves", ErrCorrupt, next.Size, n)
		case next.Size == root.Size:
			return Root{}, fmt.Errorf("%w: %d isn't stored", ErrGap, root.Size)
		}
		root = next
		if l.integrated != nil {
			if err := l.integrated(ctx); err != nil {
				return Root{}, err
			}
		}
	}
	return root, nil
}

// Leaves implements Tree. It reads storage itself: Trillian's server answers past the
// root only for a range that starts below it.
func (l *local) Leaves(ctx context.Context, start uint64, count int) ([]Leaf, error) {
	leaves, err := l.leaves(ctx, start, count)
	if err != nil {
		return nil, fmt.Errorf("read leaves from %d: %w", start, err)
	}
	return leaves, nil
}

func (l *local) leaves(ctx context.Context, start uint64, count int) (_ []Leaf, err error) {
	if err := l.ready(ctx); err != nil {
		return nil, err
	}
	if count < 0 || start > maxSize {
		return nil, fmt.Errorf("%w: %d leaves from %d", ErrInvalid, count, start)
	}
	if count == 0 {
		return nil, nil
	}
	tree, err := l.getTree(ctx, optsRead)
	if err != nil {
		return nil, err
	}
	tx, err := l.logs.SnapshotForTree(ctx, tree)
	if tx != nil {
		defer func() { err = errors.Join(err, tx.Close()) }()
	}
	if err != nil {
		return nil, known(err)
	}
	got, err := tx.GetLeavesByRange(ctx, int64(start), int64(count))
	if err != nil {
		return nil, known(err)
	}
	if err := tx.Commit(ctx); err != nil {
		return nil, known(err)
	}
	return checkLeaves(got, start, count)
}

// Close implements Tree.
func (l *local) Close() error {
	l.closed.Store(true)
	return nil
}

// TreeID is Trillian's id of the tree.
func (l *local) TreeID() int64 { return l.treeID }
