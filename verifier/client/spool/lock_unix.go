//go:build unix

package spool

import (
	"errors"
	"os"
	"syscall"
)

// lock takes the lock of a spool, or says that another one has it. The kernel gives it back when the
// process ends, however it ends.
func lock(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case errors.Is(err, syscall.EWOULDBLOCK):
			return ErrLocked
		case err != syscall.EINTR:
			return err
		}
	}
}
