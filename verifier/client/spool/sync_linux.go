package spool

import (
	"os"
	"syscall"
)

// syncData is fdatasync: the size of the file too, but not its times.
func syncData(f *os.File) error {
	for {
		if err := syscall.Fdatasync(int(f.Fd())); err != syscall.EINTR {
			return err
		}
	}
}
