package tree

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/trillian"
	"github.com/google/trillian/storage"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Remote is a Tree that a cluster of Trillian's keeps: log servers, which it calls over
// gRPC, and signers, which integrate by themselves. Any number of processes may have one
// tree open.
//
// # What is different here
//
// A log server refuses leaves one by one and stores the rest, and a batch of more than
// one message is stored message by message. So a batch may be stored in part. Append looks
// at the place before it sends anything, sends nothing more after a refusal, and begins
// with one leaf alone when the call before it failed. What is left is a writer who comes in
// between, and an identity that is stored already: see [ErrHole].
//
// A log server answers for leaves past the root only if the range begins below it. So
// ranges begin at the root's last leaf, and an empty tree takes one leaf, which Append
// sends alone, and nothing else until the signers have integrated that. Before that nobody
// sees the leaf: a process that starts there learns of it when its own first leaf is refused.
//
// Log servers may be behind each other, and behind what this process has seen: the
// newest root, the last leaf. Such an answer isn't believed: the next server is asked, where
// there is one, and it again. What stays so for RemoteConfig.Patience is ErrBroken:
// it may be an old copy of the database.
//
// No leaf is sent twice, except where the database has rolled back for a deadlock. gRPC's own repetition, which can't be switched off, is of calls that never left
// or that the server says it didn't begin. If it happened all the same the second would be
// refused by its indices, and ErrIndexTaken has the caller read back.
type Remote struct {
	cfg     RemoteConfig
	treeID  int64
	servers *logServers
	closed  atomic.Bool

	// doubt: the last Append failed, so what is stored is not what the caller thinks.
	doubt atomic.Bool

	seenMu sync.Mutex
	seen   seen
	// The root at which the signers are waited for, and since when; zero: they aren't.
	stallAt    uint64
	stallSince time.Time
}

// seen is what servers have said is there. It only grows.
type seen struct {
	root  Root
	known bool   // root has been read
	end   uint64 // the leaves below it are stored
}

var _ Tree = (*Remote)(nil)

// RemoteConfig is how a cluster is reached. Times that are 0 are their default.
type RemoteConfig struct {
	// Addresses are the log servers, host:port each. Calls go to one of them until one fails,
	// then to the next. A name stands for any of those that DNS says of it.
	Addresses []string

	// TLS is how the servers are authenticated, by the name that they have in Addresses.
	// Nil: they aren't, and are on this machine.
	TLS *tls.Config
	// Insecure allows connections in the clear to other machines: who is on the way can read
	// and change what is stored.
	Insecure bool

	// CallTimeout bounds one call that reads. Default 5 s.
	CallTimeout time.Duration
	// AppendTimeout bounds one message of an Append, of a thousand leaves at most. Default 10 s.
	AppendTimeout time.Duration
	// Patience is how long a read is repeated that failed in passing, or was answered by a
	// server that is behind. Past it what servers are behind of is taken for lost. Default 30 s.
	Patience time.Duration
	// StallTimeout is how long Integrate waits while the root doesn't move. Another signer
	// may take longer to come in for one that has died: then the caller asks again. Default 30 s.
	StallTimeout time.Duration

	// MaxSend bounds the leaves in one message, in bytes. Log servers take messages of
	// 4 MiB unless they are told otherwise. Default 3 MiB.
	MaxSend int
	// MaxReceive bounds a server's message, in bytes. What was stored and isn't integrated
	// comes in one message if anything past it is read: too small and a backlog can't be
	// read until the signers have worked it off. Default 64 MiB.
	MaxReceive int

	// Logger is told of servers that are behind. Nil: nobody is.
	Logger *slog.Logger
	// Now is the clock by which the times above are measured, time.Now if nil.
	Now func() time.Time
}

// CreateRemote creates an empty PREORDERED_LOG tree and initialises it. It returns the
// tree's id, positive, which OpenRemote takes and the caller has to keep. After an error
// a tree may be left behind: nobody has its id.
func CreateRemote(ctx context.Context, cfg RemoteConfig) (treeID int64, err error) {
	r, err := dial(cfg, 0)
	if err != nil {
		return 0, fmt.Errorf("create tree: %w", err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := r.create(ctx); err != nil {
		return 0, fmt.Errorf("create tree: %w", err)
	}
	return r.treeID, nil
}

// TakeRemote sees to it that a tree that somebody made is one to begin a log in: an active
// PREORDERED_LOG without leaves, else ErrNotWritable. It initialises it if that wasn't done.
func TakeRemote(ctx context.Context, cfg RemoteConfig, treeID int64) (err error) {
	r, err := dial(cfg, treeID)
	if err != nil {
		return fmt.Errorf("take tree %d: %w", treeID, err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	err = r.checkWritable(ctx)
	if err == nil {
		err = r.initialise(ctx)
	}
	if err != nil {
		return fmt.Errorf("take tree %d: %w", treeID, err)
	}
	return nil
}

func (r *Remote) create(ctx context.Context) error {
	var tree *trillian.Tree
	err := r.read(ctx, func(ctx context.Context, s *logServer) (err error) {
		tree, err = s.admin.CreateTree(ctx, &trillian.CreateTreeRequest{Tree: &trillian.Tree{
			TreeState:       trillian.TreeState_ACTIVE,
			TreeType:        trillian.TreeType_PREORDERED_LOG,
			DisplayName:     "prooftrail",
			MaxRootDuration: durationpb.New(0),
		}})
		return err
	})
	if err != nil {
		return err
	}
	if tree.GetTreeId() <= 0 {
		return fmt.Errorf("%w: tree has id %d", ErrCorrupt, tree.GetTreeId())
	}
	r.treeID = tree.TreeId
	return r.initialise(ctx)
}

// initialise gives a tree without leaves its first root, unless it has it.
func (r *Remote) initialise(ctx context.Context) error {
	// Not there yet is what a server says that is behind; there already, what is said of a
	// call whose answer was lost.
	err := r.read(ctx, func(ctx context.Context, s *logServer) error {
		_, err := s.logs.InitLog(ctx, &trillian.InitLogRequest{LogId: r.treeID})
		if status.Code(err) == codes.AlreadyExists {
			return nil
		}
		if status.Code(err) == codes.FailedPrecondition && strings.Contains(err.Error(), codes.NotFound.String()) {
			return fmt.Errorf("%w: %w", errBehind, err)
		}
		return err
	})
	if err != nil {
		return err
	}
	root, err := r.root(ctx)
	if err == nil && root.Size > 0 {
		return fmt.Errorf("%w: it has %d leaves already", ErrNotWritable, root.Size)
	}
	return err
}

// OpenRemote opens the tree that CreateRemote made. A tree that isn't there, is deleted
// or was never initialised is ErrNoTree: nothing is created.
func OpenRemote(ctx context.Context, cfg RemoteConfig, treeID int64) (*Remote, error) {
	r, err := dial(cfg, treeID)
	if err != nil {
		return nil, fmt.Errorf("open tree %d: %w", treeID, err)
	}
	if err := r.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open tree %d: %w", treeID, err), r.Close())
	}
	return r, nil
}

func (r *Remote) open(ctx context.Context) error {
	if _, err := r.getTree(ctx); err != nil {
		return err
	}
	_, err := r.root(ctx)
	return err
}

// checkWritable checks that the tree takes leaves.
func (r *Remote) checkWritable(ctx context.Context) error {
	tree, err := r.getTree(ctx)
	if err == nil && tree.GetTreeState() != trillian.TreeState_ACTIVE {
		err = fmt.Errorf("%w: its state is %v", ErrNotWritable, tree.GetTreeState())
	}
	return err
}

// getTree returns what the servers know of the tree, which must be there, and one of leaves
// whose order the caller decides.
func (r *Remote) getTree(ctx context.Context) (*trillian.Tree, error) {
	var tree *trillian.Tree
	err := r.read(ctx, func(ctx context.Context, s *logServer) (err error) {
		tree, err = s.admin.GetTree(ctx, &trillian.GetTreeRequest{TreeId: r.treeID})
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case tree.GetTreeId() != r.treeID:
		return nil, fmt.Errorf("%w: tree %d for %d", ErrCorrupt, tree.GetTreeId(), r.treeID)
	case tree.GetDeleted():
		return nil, fmt.Errorf("%w: it is deleted", ErrNoTree)
	case tree.GetTreeType() != trillian.TreeType_PREORDERED_LOG:
		return nil, fmt.Errorf("%w: it is a %v", ErrNotWritable, tree.GetTreeType())
	}
	return tree, nil
}

// TreeID is Trillian's id of the tree.
func (r *Remote) TreeID() int64 { return r.treeID }

// Close implements Tree. It ends the calls that are under way, but for those of a way that
// was renewed: they end by themselves, in time.
func (r *Remote) Close() error {
	if r.closed.Swap(true) {
		return nil
	}
	return r.servers.close()
}

// ready says whether a call may begin.
func (r *Remote) ready(ctx context.Context) error {
	if r.closed.Load() {
		return ErrClosed
	}
	return ctx.Err()
}

// known adds this package's error to a server's, where there is one.
func (r *Remote) known(err error) error {
	switch {
	case err == nil:
		return nil
	case r.closed.Load():
		return fmt.Errorf("%w: %w", ErrClosed, err)
	case status.Code(err) == codes.FailedPrecondition && status.Convert(err).Message() == needsInit:
		return fmt.Errorf("%w: %w", ErrNoTree, err)
	}
	if status.Code(err) == codes.PermissionDenied { // of anybody on the way: see notWritable
		return err
	}
	return known(err)
}

// needsInit is what a server says of a tree without a root.
var needsInit = status.Convert(storage.ErrTreeNeedsInit).Message()

// saw notes a root that a server gave, unless it can't follow what was seen before.
func (r *Remote) saw(root Root) error {
	r.seenMu.Lock()
	defer r.seenMu.Unlock()
	switch last := r.seen.root; {
	case r.seen.known && root.Size < last.Size:
		return fmt.Errorf("%w: root of size %d after %d", errBehind, root.Size, last.Size)
	case r.seen.known && root.Size == last.Size && root.Hash != last.Hash:
		return fmt.Errorf("%w: root %x of size %d after %x", ErrCorrupt, root.Hash, root.Size, last.Hash)
	}
	r.seen.root, r.seen.known = root, true
	r.seen.end = max(r.seen.end, root.Size)
	return nil
}

// stored notes that the leaves below end are stored.
func (r *Remote) stored(end uint64) {
	r.seenMu.Lock()
	defer r.seenMu.Unlock()
	r.seen.end = max(r.seen.end, end)
}

func (r *Remote) lastSeen() seen {
	r.seenMu.Lock()
	defer r.seenMu.Unlock()
	return r.seen
}
