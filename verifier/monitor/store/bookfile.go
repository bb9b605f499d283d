package store

import (
	"errors"
	"fmt"
	"os"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// OpenBook opens a book, or makes one, mode 0600. Agreed is how many agreed heads of a log are
// kept, DefaultAgreed if 0. Another process that has it open is an error.
func OpenBook(path string, agreed uint64) (*Book, error) {
	if agreed == 0 {
		agreed = DefaultAgreed
	}
	b := &Book{path: path, agreed: agreed}
	if err := b.open(); err != nil {
		return nil, err
	}
	return b, nil
}

func (b *Book) open() error {
	err := guard(func() (err error) {
		b.db, err = bbolt.Open(b.path, 0o600, &bbolt.Options{Timeout: lockTimeout, FreelistType: bbolt.FreelistMapType})
		return err
	})
	if errors.Is(err, bolterrors.ErrTimeout) {
		err = errors.New("another process has it open")
	}
	if err == nil {
		err = b.prepare(b.path)
	}
	if err != nil {
		return fmt.Errorf("open book %s: %w", b.path, err)
	}
	return nil
}

// Reopen opens the book again after a write has failed, on a full disk for instance: what is on the
// disk counts. While that fails too, every call does. If nothing had failed it does nothing.
func (b *Book) Reopen() error {
	b.file.Lock()
	defer b.file.Unlock()
	if b.closed {
		return errors.New("reopen book: it is closed")
	}
	b.mu.Lock()
	failed := b.failed
	b.mu.Unlock()
	if failed == nil {
		return nil
	}
	if b.db != nil {
		if err := guard(b.db.Close); err != nil {
			return fmt.Errorf("reopen book: %w", err)
		}
	}
	if err := b.open(); err != nil {
		return err
	}
	b.mu.Lock()
	b.failed = nil
	b.mu.Unlock()
	return nil
}

func (b *Book) prepare(path string) error {
	err := b.mode(path)
	if err == nil {
		err = guard(func() error {
			return b.db.Update(func(tx *bbolt.Tx) error {
				_, err := tx.CreateBucketIfNotExists(books)
				return err
			})
		})
	}
	if err != nil {
		return errors.Join(err, guard(b.db.Close))
	}
	return nil
}

func (b *Book) mode(path string) error {
	info, err := os.Stat(path)
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		err = fmt.Errorf("mode %04o, expected 0600", info.Mode().Perm())
	}
	return err
}

// Close waits for what is being written and lets go of the file.
func (b *Book) Close() error {
	b.file.Lock()
	defer b.file.Unlock()
	b.closed = true
	if b.db == nil {
		return nil // it couldn't be opened again
	}
	if err := guard(b.db.Close); err != nil {
		return fmt.Errorf("close book: %w", err)
	}
	return nil
}
