package pebblestore

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/google/trillian"
	"github.com/google/trillian/storage"
	"github.com/google/trillian/storage/tree"
	"github.com/transparency-dev/merkle/compact"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// logTX implements storage.LogTreeTX. It is for one goroutine at a time.
//
// A writing one holds the tree's lock, so it reads the database itself and collects
// its writes in a plain batch. Should it read rows after it has written some,
// the batch is turned into an indexed one first (see reader): the sequencer and the
// service never do that, and an index costs as much as the write.
type logTX struct {
	store *Store
	id    int64
	kind  trillian.TreeType
	done  bool

	r      pebble.Reader
	snap   *pebble.Snapshot // of a reading transaction
	batch  *pebble.Batch    // of a writing one
	broken error            // the first corrupt row that was met

	head    *head // nil: the tree needs initialising
	newHead *head // stored by this transaction, written at its commit

	nodes    []tree.Node // set by this transaction
	nodeMap  map[compact.NodeID][]byte
	dequeued map[[hashSize]byte]dequeuedLeaf
}

// begin checks that the tree exists and reads its head.
func (t *logTX) begin() error {
	if err := checkTree(t.r, t.id); err != nil {
		return err
	}
	key := headKey(t.id)
	v, err := get(t.r, key)
	if err != nil || v == nil {
		return err
	}
	t.head, err = parseHead(key, v)
	return err
}

// note remembers a corrupt row, for Trillian drops the type of the errors it is given.
func (t *logTX) note(err error) error {
	if t.broken == nil && errors.Is(err, ErrCorrupt) {
		t.broken = err
	}
	return err
}

// reader returns what rows are read from: it sees the transaction's own writes.
func (t *logTX) reader() (pebble.Reader, error) {
	if t.batch == nil || t.batch.Empty() || t.batch.Indexed() {
		return t.r, nil
	}
	indexed := t.store.db.NewIndexedBatch()
	if err := firstErr(indexed.Apply(t.batch, nil), t.batch.Close()); err != nil {
		return nil, fmt.Errorf("index batch: %w", err)
	}
	t.batch, t.r = indexed, indexed
	return t.r, nil
}

func (t *logTX) readable() error {
	if t.done {
		return errTxDone
	}
	return nil
}

func (t *logTX) writable() error {
	if t.done || t.batch == nil {
		return errTxDone
	}
	return nil
}

// Commit implements storage.ReadOnlyLogTreeTX.
func (t *logTX) Commit(ctx context.Context) error {
	if t.done {
		return errTxDone
	}
	var err error
	if t.batch != nil {
		err = t.write(ctx)
	}
	return firstErr(err, t.Close())
}

func (t *logTX) write(ctx context.Context) error {
	if t.newHead != nil {
		t.newHead.edge = t.edge(t.newHead.size)
		key := headKey(t.id)
		if err := t.batch.Set(key, sealed(key, t.newHead.encode()), nil); err != nil {
			return fmt.Errorf("write root: %w", err)
		}
	}
	if t.batch.Empty() {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return status.FromContextError(err).Err()
	}
	if err := t.batch.Commit(writeOptions(ctx)); err != nil {
		return fmt.Errorf("commit tree %d: %w", t.id, err)
	}
	return nil
}

// Close implements storage.ReadOnlyLogTreeTX.
func (t *logTX) Close() error {
	if t.done {
		return nil
	}
	t.done = true
	if t.snap != nil {
		return t.snap.Close()
	}
	if t.batch != nil {
		return t.batch.Close()
	}
	return nil
}

// LatestSignedLogRoot implements storage.ReadOnlyLogTreeTX.
func (t *logTX) LatestSignedLogRoot(context.Context) (*trillian.SignedLogRoot, error) {
	h := t.latest()
	if h == nil {
		return nil, storage.ErrTreeNeedsInit
	}
	if err := t.readable(); err != nil {
		return nil, err
	}
	return &trillian.SignedLogRoot{LogRoot: append([]byte(nil), h.logRoot...)}, nil
}

// StoreSignedLogRoot implements storage.LogTreeTX. Only the latest root is kept, so a
// root that isn't later than it, or is smaller, is refused.
func (t *logTX) StoreSignedLogRoot(_ context.Context, root *trillian.SignedLogRoot) error {
	if err := t.writable(); err != nil {
		return err
	}
	h, err := newHead(append([]byte(nil), root.GetLogRoot()...))
	if err != nil {
		return status.Errorf(codes.InvalidArgument, "store root: %v", err)
	}
	last := t.latest()
	if last != nil && (h.size < last.size || h.timestamp <= last.timestamp) {
		return status.Errorf(codes.FailedPrecondition, "store root: size %d at %d after size %d at %d",
			h.size, h.timestamp, last.size, last.timestamp)
	}
	t.newHead = h
	return nil
}

// latest is the head that the transaction stored, or found.
func (t *logTX) latest() *head {
	if t.newHead != nil {
		return t.newHead
	}
	return t.head
}
