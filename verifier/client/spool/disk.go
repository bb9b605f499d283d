package spool

import (
	"errors"
	"fmt"
	"os"
)

// Operations of a disk that a test may have fail.
const (
	opCreate   = "create"
	opWrite    = "write"
	opSync     = "sync"
	opTruncate = "truncate"
)

// disk makes the changes to files. fault, if not nil, is asked before each of them: whether it is
// done (of a write, half of it), and with what error it ends all the same.
type disk struct {
	fault func(op string) (apply bool, err error)
}

func (d disk) asked(op string) (apply bool, err error) {
	if d.fault == nil {
		return true, nil
	}
	return d.fault(op)
}

// create makes a file for reading and writing. What is there by that name is the rest of one that failed.
func (d disk) create(path string) (*os.File, error) {
	apply, err := d.asked(opCreate)
	if !apply {
		return nil, err
	}
	f, openErr := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if openErr != nil {
		return nil, openErr
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (d disk) writeAt(f *os.File, b []byte, at int64) error {
	apply, err := d.asked(opWrite)
	if apply && err != nil {
		b = b[:len(b)/2] // as a disk that becomes full
	}
	if apply {
		if _, err := f.WriteAt(b, at); err != nil {
			return err
		}
	}
	return err
}

// sync makes the contents of a file durable.
func (d disk) sync(f *os.File) error {
	apply, err := d.asked(opSync)
	if apply {
		if err := syncData(f); err != nil {
			return fmt.Errorf("sync %s: %w", f.Name(), err)
		}
	}
	return err
}

func (d disk) truncate(f *os.File, size int64) error {
	apply, err := d.asked(opTruncate)
	if apply {
		if err := f.Truncate(size); err != nil {
			return err
		}
	}
	return err
}
