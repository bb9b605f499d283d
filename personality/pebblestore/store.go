package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"weak"

	"github.com/cockroachdb/pebble/v2"
	"github.com/google/trillian/storage"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// layoutVersion is the payload of the marker row, written with the first tree.
const layoutVersion = "prooftrail.pebblestore/1"

// Store keeps Trillian's trees in a Pebble database. Any number of Stores over one
// *pebble.DB may be used at once: they share their locks.
type Store struct {
	db    *pebble.DB
	locks *locks
}

// Open returns the Store of db, which stays the caller's to close, after every
// transaction has ended. It creates nothing. A database that holds another layout
// under Prefix is an error.
func Open(db *pebble.DB) (*Store, error) {
	s := &Store{db: db, locks: locksOf(db)}
	if _, err := s.initialised(); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	return s, nil
}

// Log returns the Store as Trillian's storage of leaves, nodes and roots.
func (s *Store) Log() storage.LogStorage { return (*logStorage)(s) }

// Admin returns the Store as Trillian's storage of trees.
func (s *Store) Admin() storage.AdminStorage { return (*adminStorage)(s) }

// initialised says whether the marker row is there, and checks it.
func (s *Store) initialised() (bool, error) {
	v, err := get(s.db, versionKey)
	if err != nil || v == nil {
		return false, err
	}
	p, err := unseal(versionKey, v)
	if err != nil {
		return false, err
	}
	if string(p) != layoutVersion {
		return false, fmt.Errorf("layout %q, want %q", p, layoutVersion)
	}
	return true, nil
}

// get returns a copy of key's value, nil if there is none.
func get(r pebble.Reader, key []byte) ([]byte, error) {
	v, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %x: %w", key, err)
	}
	out := append(make([]byte, 0, len(v)), v...)
	if err := closer.Close(); err != nil {
		return nil, fmt.Errorf("read %x: %w", key, err)
	}
	return out, nil
}

// firstErr returns the first error as it is, for Trillian compares some with ==, and
// errors.Join would wrap it. What closing something reports after an error is dropped.
func firstErr(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// checkTree returns NotFound unless tree id exists. Without it a late write would
// leave keys behind of a tree that has been deleted.
func checkTree(r pebble.Reader, id int64) error {
	key := treeKey(id)
	v, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return status.Errorf(codes.NotFound, "tree %d not found", id)
	}
	if err != nil {
		return fmt.Errorf("read %x: %w", key, err)
	}
	_, uerr := unseal(key, v)
	return firstErr(uerr, closer.Close())
}

// lock is a mutex that a context can give up waiting for.
type lock chan struct{}

func (l lock) acquire(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return status.FromContextError(err).Err()
	}
	select {
	case l <- struct{}{}:
		return nil
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
}

func (l lock) release() { <-l }

// locks are those of one database. The order is: admin, then a tree's.
type locks struct {
	admin lock

	mu    sync.Mutex
	trees map[int64]lock // guarded by mu
}

func (l *locks) tree(id int64) lock {
	l.mu.Lock()
	defer l.mu.Unlock()
	t, ok := l.trees[id]
	if !ok {
		t = make(lock, 1)
		l.trees[id] = t
	}
	return t
}

// databases holds the locks of every database that a Store was opened on, so that
// two Stores on one database can't write a tree at once. An entry goes with its database.
var databases sync.Map // weak.Pointer[pebble.DB] -> *locks

func locksOf(db *pebble.DB) *locks {
	key := weak.Make(db)
	v, loaded := databases.LoadOrStore(key, &locks{admin: make(lock, 1), trees: map[int64]lock{}})
	if !loaded {
		runtime.AddCleanup(db, func(k weak.Pointer[pebble.DB]) { databases.Delete(k) }, key)
	}
	return v.(*locks)
}
