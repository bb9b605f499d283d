package pebblestore

import (
	"context"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/google/trillian"
	"github.com/google/trillian/storage"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// errTxDone is returned by a transaction that has been committed or closed.
var errTxDone = status.Error(codes.FailedPrecondition, "transaction has ended")

// adminStorage implements storage.AdminStorage.
type adminStorage Store

// CheckDatabaseAccessible implements storage.AdminStorage.
func (s *adminStorage) CheckDatabaseAccessible(context.Context) error {
	_, err := (*Store)(s).initialised()
	return err
}

// Snapshot implements storage.AdminStorage.
func (s *adminStorage) Snapshot(context.Context) (storage.ReadOnlyAdminTX, error) {
	snap := s.db.NewSnapshot()
	return &adminTX{store: (*Store)(s), r: snap, end: snap.Close}, nil
}

// ReadWriteTransaction implements storage.AdminStorage. One runs at a time; it isn't
// repeated. A tree that f deletes for good is locked until f has returned and its
// outcome is on stable storage, so f must not wait for that tree's own transactions.
func (s *adminStorage) ReadWriteTransaction(ctx context.Context, f storage.AdminTXFunc) error {
	if err := s.locks.admin.acquire(ctx); err != nil {
		return err
	}
	defer s.locks.admin.release()
	batch := s.db.NewIndexedBatch()
	tx := &adminTX{store: (*Store)(s), r: batch, w: batch, end: batch.Close}
	defer tx.unlock()
	err := f(ctx, tx)
	if err == nil && !tx.done {
		err = tx.Commit()
	}
	return firstErr(err, tx.Close())
}

// adminTX implements storage.AdminTX. A read-only one has no w.
type adminTX struct {
	store  *Store
	r      pebble.Reader
	w      *pebble.Batch
	end    func() error
	locked []lock
	done   bool
}

func (t *adminTX) unlock() {
	for _, l := range t.locked {
		l.release()
	}
}

// Commit implements storage.ReadOnlyAdminTX.
func (t *adminTX) Commit() error {
	if t.done {
		return errTxDone
	}
	var err error
	if t.w != nil && !t.w.Empty() {
		if err = t.w.Commit(pebble.Sync); err != nil {
			err = fmt.Errorf("commit trees: %w", err)
		}
	}
	return firstErr(err, t.Close())
}

// Close implements storage.ReadOnlyAdminTX.
func (t *adminTX) Close() error {
	if t.done {
		return nil
	}
	t.done = true
	return t.end()
}

// GetTree implements storage.ReadOnlyAdminTX.
func (t *adminTX) GetTree(_ context.Context, treeID int64) (*trillian.Tree, error) {
	if t.done {
		return nil, errTxDone
	}
	key := treeKey(treeID)
	v, err := get(t.r, key)
	if err != nil {
		return nil, err
	}
	if v == nil {
		return nil, status.Errorf(codes.NotFound, "tree %d not found", treeID)
	}
	return parseTree(key, v)
}

func parseTree(key, value []byte) (*trillian.Tree, error) {
	p, err := unseal(key, value)
	if err != nil {
		return nil, err
	}
	tree := new(trillian.Tree)
	if err := proto.Unmarshal(p, tree); err != nil {
		return nil, corrupt(key, "tree: %v", err)
	}
	if tree.TreeId != int64(lastUint64(key)) || tree.TreeId <= 0 {
		return nil, corrupt(key, "tree %d", tree.TreeId)
	}
	return tree, nil
}

// ListTrees implements storage.ReadOnlyAdminTX.
func (t *adminTX) ListTrees(_ context.Context, includeDeleted bool) (_ []*trillian.Tree, err error) {
	if t.done {
		return nil, errTxDone
	}
	lower, upper := treeBounds()
	it, err := t.r.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, fmt.Errorf("list trees: %w", err)
	}
	defer func() { err = firstErr(err, it.Close()) }()
	trees := []*trillian.Tree{}
	for ok := it.First(); ok; ok = it.Next() {
		if len(it.Key()) != len(lower)+8 {
			return nil, corrupt(it.Key(), "key of a tree")
		}
		tree, err := parseTree(it.Key(), it.Value())
		if err != nil {
			return nil, err
		}
		if includeDeleted || !tree.Deleted {
			trees = append(trees, tree)
		}
	}
	return trees, nil
}

func (t *adminTX) put(tree *trillian.Tree) error {
	p, err := proto.MarshalOptions{Deterministic: true}.Marshal(tree)
	if err != nil {
		return fmt.Errorf("encode tree %d: %w", tree.TreeId, err)
	}
	key := treeKey(tree.TreeId)
	return t.w.Set(key, sealed(key, p), nil)
}

func (t *adminTX) writable() error {
	if t.done || t.w == nil {
		return errTxDone
	}
	return nil
}

// CreateTree implements storage.AdminWriter.
func (t *adminTX) CreateTree(ctx context.Context, tree *trillian.Tree) (*trillian.Tree, error) {
	if err := t.writable(); err != nil {
		return nil, err
	}
	if err := storage.ValidateTreeForCreation(ctx, tree); err != nil {
		return nil, err
	}
	id, err := storage.NewTreeID()
	if err != nil {
		return nil, fmt.Errorf("make tree id: %w", err)
	}
	if v, err := get(t.r, treeKey(id)); err != nil || v != nil {
		return nil, firstErr(err, status.Errorf(codes.Aborted, "tree id %d is in use", id))
	}
	tree = proto.Clone(tree).(*trillian.Tree)
	tree.TreeId = id
	now := nowMillis()
	tree.CreateTime, tree.UpdateTime = now, proto.Clone(now).(*timestamppb.Timestamp)
	if err := t.w.Set(versionKey, sealed(versionKey, []byte(layoutVersion)), nil); err != nil {
		return nil, fmt.Errorf("create tree: %w", err)
	}
	if err := t.put(tree); err != nil {
		return nil, fmt.Errorf("create tree: %w", err)
	}
	return proto.Clone(tree).(*trillian.Tree), nil
}

// nowMillis is the time in the resolution that other Trillian storages keep.
func nowMillis() *timestamppb.Timestamp {
	return timestamppb.New(time.Now().Truncate(time.Millisecond))
}

// UpdateTree implements storage.AdminWriter. Trillian lets a frozen PREORDERED_LOG become
// a LOG; this storage doesn't, for the one has no index by hash and the other needs it.
func (t *adminTX) UpdateTree(ctx context.Context, treeID int64, update func(*trillian.Tree)) (*trillian.Tree, error) {
	if err := t.writable(); err != nil {
		return nil, err
	}
	tree, err := t.GetTree(ctx, treeID)
	if err != nil {
		return nil, err
	}
	before := proto.Clone(tree).(*trillian.Tree)
	update(tree)
	if err := storage.ValidateTreeForUpdate(ctx, before, tree); err != nil {
		return nil, err
	}
	if tree.TreeType != before.TreeType {
		return nil, status.Errorf(codes.Unimplemented, "change a %v into a %v", before.TreeType, tree.TreeType)
	}
	tree.UpdateTime = nowMillis()
	return tree, t.put(tree)
}

// SoftDeleteTree implements storage.AdminWriter.
func (t *adminTX) SoftDeleteTree(ctx context.Context, treeID int64) (*trillian.Tree, error) {
	tree, err := t.forDeletion(ctx, treeID, false)
	if err != nil {
		return nil, err
	}
	tree.Deleted, tree.DeleteTime = true, nowMillis()
	return tree, t.put(tree)
}

// UndeleteTree implements storage.AdminWriter.
func (t *adminTX) UndeleteTree(ctx context.Context, treeID int64) (*trillian.Tree, error) {
	tree, err := t.forDeletion(ctx, treeID, true)
	if err != nil {
		return nil, err
	}
	tree.Deleted, tree.DeleteTime = false, nil
	return tree, t.put(tree)
}

// HardDeleteTree implements storage.AdminWriter. Every key of the tree goes, as one
// range deletion; the disk space comes back with later compactions.
func (t *adminTX) HardDeleteTree(ctx context.Context, treeID int64) error {
	if _, err := t.forDeletion(ctx, treeID, true); err != nil {
		return err
	}
	l := t.store.locks.tree(treeID)
	if err := l.acquire(ctx); err != nil {
		return err
	}
	t.locked = append(t.locked, l)
	lower, upper := dataBounds(treeID)
	return firstErr(t.w.DeleteRange(lower, upper, nil), t.w.Delete(treeKey(treeID), nil))
}

// forDeletion returns the tree if it is soft deleted, or isn't, as wanted.
func (t *adminTX) forDeletion(ctx context.Context, treeID int64, deleted bool) (*trillian.Tree, error) {
	if err := t.writable(); err != nil {
		return nil, err
	}
	tree, err := t.GetTree(ctx, treeID)
	switch {
	case err != nil:
		return nil, err
	case deleted && !tree.Deleted:
		return nil, status.Errorf(codes.FailedPrecondition, "tree %d is not soft deleted", treeID)
	case !deleted && tree.Deleted:
		return nil, status.Errorf(codes.FailedPrecondition, "tree %d is soft deleted already", treeID)
	}
	return tree, nil
}
