package personality

import (
	"os"
	"syscall"
)

// syncData makes what was written in place durable. fdatasync leaves out times,
// which the anchor doesn't need; its file never changes size.
func syncData(f *os.File) error {
	for {
		if err := syscall.Fdatasync(int(f.Fd())); err != syscall.EINTR {
			return err
		}
	}
}
