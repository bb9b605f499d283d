// Package store keeps the latest cosigned heads of a witness in one file, a bbolt database.
//
// A lock on the file keeps a second process out. Each record carries a checksum over itself
// and its origin, and all of them together another one, checked when the file is opened: a damaged one is
// an error and never a witness that begins again. What no checksum shows is an older copy of
// the file put back in its place: never restore one from a backup.
package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/prooftrail/prooftrail/verifier/monitor/witness"
)

// maxValue is more than any record has: a signed note and a hundred cosignatures.
const maxValue = 1 << 20

// lockTimeout is how long Open waits for another process to let go of the file.
const lockTimeout = time.Second

var (
	// bucket maps an origin to its record.
	bucket = []byte("prooftrail.witness/1")
	// summary holds one value: the checksums of all records, xored. Without it a damaged page
	// could lose a record without a trace.
	summary    = []byte("summary")
	summaryKey = []byte("xor")
)

// Store implements [witness.Store].
//
// Swaps that come while another one is being written are written together in one
// transaction, so a thousand logs share an fsync, and a single one doesn't wait for a timer.
type Store struct {
	db *bbolt.DB

	turn sync.Mutex // held while a transaction is written

	mu     sync.Mutex // guards the rest
	queue  []*swap
	failed error // of a write: what is on the disk isn't known any more
}

// swap is a Swap that waits. Done and err are written under turn.
type swap struct {
	origin    string
	old, next *witness.Record
	done      bool
	err       error
}

// Create makes a new store, mode 0600. It never touches a file that is there. A crash leaves
// no file of that name, or a whole one.
func Create(path string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("create witness store: %w", err)
		}
	}()
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".tmp*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(tmp.Name())) }()
	if err := tmp.Close(); err != nil {
		return err
	}
	db, err := bbolt.Open(tmp.Name(), 0o600, nil)
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		if _, err := tx.CreateBucket(bucket); err != nil {
			return err
		}
		b, err := tx.CreateBucket(summary)
		if err != nil {
			return err
		}
		return b.Put(summaryKey, make([]byte, sha256.Size))
	})
	if err = errors.Join(err, db.Close()); err != nil {
		return err
	}
	if err := os.Link(tmp.Name(), path); err != nil { // unlike a rename it replaces nothing
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Open opens a store that [Create] made, and checks all of it. A file that isn't there, that
// is damaged, that others may read or write, or that another process has open is an error.
func Open(path string) (*Store, error) {
	s, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("open witness store %s: %w", path, err)
	}
	return s, nil
}

func open(path string) (*Store, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: a store is created once; if this one was lost, so is what the witness knew", err)
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular() || info.Size() == 0: // bbolt would begin anew in an empty file
		return nil, errors.New("not a store: empty or no regular file")
	case info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("mode %04o, expected 0600", info.Mode().Perm())
	}
	s := &Store{}
	err = guard(func() (err error) {
		s.db, err = bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockTimeout, FreelistType: bbolt.FreelistMapType})
		return err
	})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, errors.New("another process has it open")
	}
	if err != nil {
		return nil, err
	}
	if err := errors.Join(checkMetas(path, s.db.Info().PageSize), guard(s.check)); err != nil {
		return nil, errors.Join(err, guard(s.db.Close))
	}
	return s, nil
}

// check reads every record.
func (s *Store) check() error {
	return s.db.View(func(tx *bbolt.Tx) error {
		b, sum := tx.Bucket(bucket), tx.Bucket(summary)
		if b == nil || sum == nil {
			return errors.New("not a witness store of this version")
		}
		all := make([]byte, sha256.Size)
		err := b.ForEach(func(origin, value []byte) error {
			if len(origin) > bbolt.MaxKeySize { // what it says is rather long to print
				return errors.New("damaged: a key is too long")
			}
			if _, err := decode(string(origin), value); err != nil {
				return err
			}
			// A key in the wrong place is there, and still isn't found.
			if !bytes.Equal(b.Get(origin), value) {
				return fmt.Errorf("damaged: the record of %q is in the wrong place", origin)
			}
			subtle.XORBytes(all, all, value[len(value)-sha256.Size:])
			return nil
		})
		if err == nil && !bytes.Equal(all, sum.Get(summaryKey)) {
			err = errors.New("damaged: a record is missing, or there is one too many")
		}
		return err
	})
}

// Close waits for what is being written and lets go of the file.
func (s *Store) Close() error {
	s.turn.Lock()
	defer s.turn.Unlock()
	if err := guard(s.db.Close); err != nil {
		return fmt.Errorf("close witness store: %w", err)
	}
	return nil
}

// Load implements [witness.Store].
func (s *Store) Load(ctx context.Context, origin string) (rec *witness.Record, err error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	err = guard(func() error {
		return s.db.View(func(tx *bbolt.Tx) (err error) {
			rec, err = get(tx, origin)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("load record: %w", err)
	}
	return rec, nil
}

// usable refuses everything after a write that failed: the kernel may have dropped what it
// couldn't write, and what is read now needn't be what a restart finds.
func (s *Store) usable(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return fmt.Errorf("witness store: an earlier write failed, open it again: %w", s.failed)
	}
	return nil
}

// get returns the record in a transaction, nil if there is none.
func get(tx *bbolt.Tx, origin string) (*witness.Record, error) {
	b := tx.Bucket(bucket)
	if b == nil {
		return nil, errors.New("damaged: no bucket")
	}
	value := b.Get([]byte(origin))
	if value == nil {
		return nil, nil
	}
	return decode(origin, value)
}

// Swap implements [witness.Store]. Once it has begun it doesn't look at ctx.
func (s *Store) Swap(ctx context.Context, origin string, old, next *witness.Record) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	w := &swap{origin: origin, old: old, next: next}
	s.mu.Lock()
	s.queue = append(s.queue, w)
	s.mu.Unlock()

	s.turn.Lock()
	defer s.turn.Unlock()
	if !w.done { // nobody took it along
		s.mu.Lock()
		batch := s.queue
		s.queue = nil
		s.mu.Unlock()
		s.write(batch)
	}
	if w.err != nil {
		return fmt.Errorf("swap record: %w", w.err)
	}
	return nil
}

// write does a batch in one transaction: a conflict concerns one of them, an error all.
func (s *Store) write(batch []*swap) {
	err := s.usable(context.Background())
	if err == nil {
		err = guard(func() error {
			return s.db.Update(func(tx *bbolt.Tx) error {
				for _, w := range batch {
					if err := w.apply(tx); err != nil {
						return err
					}
				}
				return nil
			})
		})
		if err != nil {
			s.mu.Lock()
			s.failed = err
			s.mu.Unlock()
		}
	}
	for _, w := range batch {
		w.done = true
		if err != nil {
			w.err = err
		}
	}
}

// apply puts one record in its place within a transaction.
func (w *swap) apply(tx *bbolt.Tx) error {
	rec, err := get(tx, w.origin)
	if err != nil {
		return err
	}
	if !rec.Equal(w.old) {
		w.err = witness.ErrConflict
		return nil
	}
	b, sums := tx.Bucket(bucket), tx.Bucket(summary)
	if sums == nil || len(sums.Get(summaryKey)) != sha256.Size {
		return errors.New("damaged: no summary")
	}
	all := bytes.Clone(sums.Get(summaryKey))
	if value := b.Get([]byte(w.origin)); value != nil {
		subtle.XORBytes(all, all, value[len(value)-sha256.Size:])
	}
	next := encode(w.origin, w.next)
	if len(next) > maxValue {
		return fmt.Errorf("a record of %d bytes, at most %d", len(next), maxValue)
	}
	subtle.XORBytes(all, all, next[len(next)-sha256.Size:])
	return errors.Join(b.Put([]byte(w.origin), next), sums.Put(summaryKey, all))
}
