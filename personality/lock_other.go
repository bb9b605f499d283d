//go:build !unix

package personality

import "errors"

func lockFile(uintptr) error {
	return errors.New("an anchor can't be shared on this operating system")
}

func unlockFile(uintptr) error { return nil }
