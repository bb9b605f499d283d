package personality

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/prooftrail/prooftrail/personality/pubstore"
)

// partSuffix is of a file that is being copied.
const partSuffix = ".part"

// copyFiles brings the data directory's files to the new one, durably: key, policy, tokens,
// and whatever else is there, but for an embedded database. A file is there whole or not
// at all. Those that have changed since an earlier run are copied again; a key never changes.
func (m *migration) copyFiles() error {
	return m.step("files", func() error {
		if err := os.Mkdir(m.to.Dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := syncDir(filepath.Dir(m.to.Dir)); err != nil {
			return err
		}
		// First: into another log's directory nothing is copied.
		key, err := os.ReadFile(filepath.Join(m.to.Dir, keyFile))
		if err == nil {
			err = copyFile(filepath.Join(m.from.Dir, keyFile), filepath.Join(m.to.Dir, keyFile), 0o600)
		}
		if err != nil && (key != nil || !errors.Is(err, fs.ErrNotExist)) {
			return err
		}
		return copyDir(m.from.Dir, m.to.Dir, storeDir)
	})
}

// copyDir copies what is in a directory, but for one name.
func copyDir(from, to, but string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == but {
			continue
		}
		src, dst := filepath.Join(from, e.Name()), filepath.Join(to, e.Name())
		info, err := os.Stat(src) // of what a link leads to
		if err != nil {
			return err
		}
		switch {
		case info.IsDir() && !e.IsDir():
			return unfit("%s is a link to another directory: a data directory is moved whole", src)
		case info.IsDir():
			if err = os.Mkdir(dst, info.Mode().Perm()); err == nil || errors.Is(err, fs.ErrExist) {
				err = copyDir(src, dst, "")
			}
		case info.Mode().IsRegular():
			err = copyFile(src, dst, info.Mode().Perm())
		}
		if err != nil {
			return err
		}
	}
	return syncDir(to)
}

func copyFile(src, dst string, perm fs.FileMode) (err error) {
	content, err := os.ReadFile(src)
	if err != nil {
		return err
	}
	there, err := os.ReadFile(dst)
	switch {
	case err == nil && bytes.Equal(there, content):
		return nil
	case err == nil && filepath.Base(dst) == keyFile:
		return unfit("%s is another key than %s", dst, src)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	f, err := os.OpenFile(dst+partSuffix, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, perm)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(dst+partSuffix, dst)
}

// createTarget makes the new storage, with the log's parameters and a head that is held.
func (m *migration) createTarget(ctx context.Context) error {
	hold, err := m.arriving().text()
	if err != nil {
		return err
	}
	params := m.src.params
	params.TreeID, params.MAC = 0, nil
	n := newLog{keys: m.src.parts.keys, params: params, empty: pubstore.Head{Root: sha256.Sum256(nil)}, hold: hold}
	if err := m.to.storage().create(ctx, m.to.Dir, n); err != nil {
		return err
	}
	return syncDir(m.to.Dir)
}

func (m *migration) arriving() hold {
	return hold{Kind: holdArriving, Place: m.cfg.FromPlace, TreeID: m.src.params.TreeID}
}

// checkTarget refuses what isn't the old log, or a prefix of it on its way here. How it was
// left, it is gone on with.
func (m *migration) checkTarget(ctx context.Context, moved bool) error {
	if err := m.sameLog(); err != nil {
		return err
	}
	head, err := m.dst.store.Head(ctx)
	if err != nil {
		return err
	}
	if err := m.src.parts.keys.checkHead(head); err != nil {
		return unfit("somebody wrote to it: %w", err)
	}
	m.head = head
	if head.Hold == "" && moved {
		return nil // it is the log already
	}
	if h := parseHold(head.Hold); h.Kind != holdArriving || h.TreeID != m.src.params.TreeID {
		return unfit("it holds this log, and not because it is being moved there from %s: "+
			"a log moves to a storage without one", m.cfg.FromPlace)
	}
	if head.Size > m.srcHead.Size || moved && head.Size != m.srcHead.Size {
		return unfit("it has %d entries, and the old log %d", head.Size, m.srcHead.Size)
	}
	if m.folded, err = rangeAt(ctx, m.dst.store, head.Size); err == nil {
		err = checkEdge(ctx, m.dst.store, head.Size)
	}
	if errors.Is(err, pubstore.ErrNotFound) || errors.Is(err, pubstore.ErrCorrupt) {
		return unfit("its tiles are damaged: %w", err)
	}
	if err != nil {
		return err
	}
	return m.samePrefix(ctx)
}

// samePrefix compares the root of what the new log has with what the old one had at that size.
func (m *migration) samePrefix(ctx context.Context) error {
	root, err := rootOf(m.folded)
	if err != nil {
		return err
	}
	old, err := rangeAt(ctx, m.src.store, m.head.Size)
	if err != nil {
		return err
	}
	oldRoot, err := rootOf(old)
	if err != nil {
		return err
	}
	if root != oldRoot || root != m.head.Root {
		return unfit("at size %d the old log has the root %x, and the new one's head has %x and its tiles make %x",
			m.head.Size, oldRoot, m.head.Root, root)
	}
	return nil
}

// sameLog compares the parameters, whose MAC has been checked. The tree's id is another.
func (m *migration) sameLog() error {
	old, now := m.src.params, m.params
	if now.Origin != old.Origin || now.Name != old.Name || now.VKey != old.VKey || !bytes.Equal(now.IDSecret, old.IDSecret) || !now.Created.Equal(old.Created) {
		return unfit("it has been made with other parameters than the old log")
	}
	if now.TreeID == old.TreeID {
		return unfit("both are the same storage, or one is a copy of the other")
	}
	return nil
}
