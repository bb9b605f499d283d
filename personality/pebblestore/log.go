package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/trillian"
	"github.com/google/trillian/storage"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// logStorage implements storage.LogStorage.
type logStorage Store

// CheckDatabaseAccessible implements storage.LogStorage.
func (s *logStorage) CheckDatabaseAccessible(context.Context) error {
	_, err := (*Store)(s).initialised()
	return err
}

// GetActiveLogIDs implements storage.LogStorage: the logs, not deleted, that are ACTIVE
// or DRAINING.
func (s *logStorage) GetActiveLogIDs(ctx context.Context) ([]int64, error) {
	all, err := storage.ListTrees(ctx, (*Store)(s).Admin(), false)
	if err != nil {
		return nil, err
	}
	ids := []int64{}
	for _, t := range all {
		isLog := t.TreeType == trillian.TreeType_LOG || t.TreeType == trillian.TreeType_PREORDERED_LOG
		if isLog && (t.TreeState == trillian.TreeState_ACTIVE || t.TreeState == trillian.TreeState_DRAINING) {
			ids = append(ids, t.TreeId)
		}
	}
	return ids, nil
}

// SnapshotForTree implements storage.LogStorage. Of a tree without a root it returns
// storage.ErrTreeNeedsInit and a transaction that has ended, so that nobody has to
// close it (Trillian's GetLatestSignedLogRoot doesn't).
func (s *logStorage) SnapshotForTree(_ context.Context, tree *trillian.Tree) (storage.ReadOnlyLogTreeTX, error) {
	snap := s.db.NewSnapshot()
	tx := &logTX{store: (*Store)(s), id: tree.TreeId, kind: tree.TreeType, r: snap, snap: snap}
	if err := tx.begin(); err != nil {
		return nil, firstErr(err, tx.Close())
	}
	if tx.head == nil {
		if err := tx.Close(); err != nil {
			return nil, err
		}
		return tx, storage.ErrTreeNeedsInit
	}
	return tx, nil
}

// ReadWriteTransaction implements storage.LogStorage. Those of one tree run one
// after another; f isn't repeated and must not start another one on the same tree.
// The commit is on stable storage when it returns nil, unless ctx says DeferSync. A ctx
// that ends before the commit leaves nothing, after it everything.
func (s *logStorage) ReadWriteTransaction(ctx context.Context, tree *trillian.Tree, f storage.LogTXFunc) error {
	l := s.locks.tree(tree.TreeId)
	if err := l.acquire(ctx); err != nil {
		return err
	}
	defer l.release()
	tx := &logTX{store: (*Store)(s), id: tree.TreeId, kind: tree.TreeType, r: s.db}
	if err := tx.begin(); err != nil {
		return firstErr(err, tx.Close())
	}
	tx.batch = s.db.NewBatch()
	err := f(ctx, tx)
	if err == nil && !tx.done {
		err = tx.Commit(ctx)
	} else if err != nil && tx.broken != nil && !errors.Is(err, ErrCorrupt) {
		// Trillian's sequencer formats errors with %v: give the cause back.
		err = fmt.Errorf("%w (%w)", err, tx.broken)
	}
	return firstErr(err, tx.Close())
}

// AddSequencedLeaves implements storage.LogStorage: leaves that are refused don't
// keep the others of the batch from being stored.
func (s *logStorage) AddSequencedLeaves(ctx context.Context, tree *trillian.Tree, leaves []*trillian.LogLeaf, timestamp time.Time) ([]*trillian.QueuedLogLeaf, error) {
	var res []*trillian.QueuedLogLeaf
	err := s.ReadWriteTransaction(ctx, tree, func(ctx context.Context, tx storage.LogTreeTX) error {
		var err error
		res, err = tx.(*logTX).AddSequencedLeaves(ctx, leaves, timestamp)
		return err
	})
	if err != nil {
		return nil, err
	}
	return res, nil
}

// QueueLeaves implements storage.LogStorage.
func (s *logStorage) QueueLeaves(ctx context.Context, tree *trillian.Tree, leaves []*trillian.LogLeaf, queueTimestamp time.Time) ([]*trillian.QueuedLogLeaf, error) {
	var existing []*trillian.LogLeaf
	err := s.ReadWriteTransaction(ctx, tree, func(ctx context.Context, tx storage.LogTreeTX) error {
		var err error
		existing, err = tx.(*logTX).QueueLeaves(ctx, leaves, queueTimestamp)
		return err
	})
	if err != nil {
		return nil, err
	}
	res := make([]*trillian.QueuedLogLeaf, len(leaves))
	for i, leaf := range leaves {
		res[i] = &trillian.QueuedLogLeaf{Leaf: leaf}
		if e := existing[i]; e != nil {
			st := status.Newf(codes.AlreadyExists, "leaf exists already: %x", e.LeafIdentityHash)
			res[i] = &trillian.QueuedLogLeaf{Leaf: e, Status: st.Proto()}
		}
	}
	return res, nil
}
