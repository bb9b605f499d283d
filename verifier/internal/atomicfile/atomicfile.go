// Package atomicfile replaces a file as a whole.
package atomicfile

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// tmpInfix follows the file's name in the names of the temporary files beside it.
const tmpInfix = ".tmp"

// Write puts b in the place of the file, mode 0600. A crash before the rename leaves the old
// file, after it the new one; the fsync between sees to it that the new name never holds half
// a file. It returns once the rename is durable too.
func Write(file string, b []byte) (err error) {
	dir := filepath.Dir(file)
	tmp, err := os.CreateTemp(dir, filepath.Base(file)+tmpInfix+"*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(tmp.Name()))
			_ = tmp.Close() // it may be closed already
		}
	}()
	if _, err = tmp.Write(b); err != nil {
		return err
	}
	if err = tmp.Sync(); err != nil {
		return err
	}
	if err = tmp.Close(); err != nil {
		return err
	}
	if err = os.Rename(tmp.Name(), file); err != nil {
		return err
	}
	return SyncDir(dir)
}

// SyncDir makes what was named, renamed or removed in a directory durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Sweep removes what writers of the file that were killed have left behind. Nobody may be
// writing it.
func Sweep(file string) error {
	dir, prefix := filepath.Dir(file), filepath.Base(file)+tmpInfix
	all, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range all {
		random, ok := strings.CutPrefix(e.Name(), prefix)
		if ok && random != "" && strings.Trim(random, "0123456789") == "" && e.Type().IsRegular() {
			err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return err
}
