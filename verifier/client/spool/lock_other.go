//go:build !unix

package spool

import (
	"errors"
	"os"
)

func lock(*os.File) error {
	return errors.New("a spool can't be locked on this operating system")
}
