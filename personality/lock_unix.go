//go:build unix

package personality

import "syscall"

// lockFile waits for an exclusive lock on an open file (flock).
func lockFile(fd uintptr) error {
	for {
		if err := syscall.Flock(int(fd), syscall.LOCK_EX); err != syscall.EINTR {
			return err
		}
	}
}

func unlockFile(fd uintptr) error { return syscall.Flock(int(fd), syscall.LOCK_UN) }
