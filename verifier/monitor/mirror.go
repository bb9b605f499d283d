package monitor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/internal/atomicfile"
)

// mirror keeps a log's tiles and bundles in a directory, as files of the names that c2sp.org/tlog-tiles
// gives them. What isn't full yet is under the name of the full one, and grows: a shorter file is
// cut from a longer one when it is asked for.
//
// The file checkpoint is the head up to which all is there. What is below its size was checked, and never
// changes. What is behind it was fetched by an audit that isn't over; it counts for nothing, and is
// fetched again.
type mirror struct {
	dir string

	mu    sync.Mutex
	head  *Head           // what is complete up to there; nil: nothing
	dirty map[string]bool // directories with new names
}

// openMirror opens or makes a mirror. Its head has to be one that parse accepts.
func openMirror(dir string, parse func([]byte) (*Head, error)) (*mirror, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("mirror: %w", err)
	}
	m := &mirror{dir: dir, dirty: map[string]bool{}}
	note, err := readFile(filepath.Join(dir, "checkpoint"), verifier.MaxNoteBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err == nil {
		m.head, err = parse(note)
	}
	if err != nil {
		return nil, fmt.Errorf("mirror: %w", err)
	}
	return m, nil
}

// complete says that an audit up to a head held: everything below it is there.
func (m *mirror) complete(h *Head) error {
	m.mu.Lock()
	dirty := maps.Clone(m.dirty)
	m.mu.Unlock()
	for dir := range dirty {
		if err := atomicfile.SyncDir(dir); err != nil { // it stays dirty, and is synced the next time
			return fmt.Errorf("mirror: %w", err)
		}
		m.mu.Lock()
		delete(m.dirty, dir)
		m.mu.Unlock()
	}
	if err := atomicfile.Write(filepath.Join(m.dir, "checkpoint"), h.Note); err != nil {
		return fmt.Errorf("mirror: %w", err)
	}
	m.mu.Lock()
	m.head = h
	m.mu.Unlock()
	return nil
}

func (m *mirror) size() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.head == nil {
		return 0
	}
	return m.head.Size
}

// Get implements [verifier.Source] for what is complete.
func (m *mirror) Get(ctx context.Context, path string, limit int64) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if path == "checkpoint" {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.head == nil {
			return nil, fmt.Errorf("mirror: %s: %w", path, fs.ErrNotExist)
		}
		return m.head.Note, nil
	}
	t, err := verifier.ParseTilePath(path)
	if err != nil {
		return nil, fmt.Errorf("mirror: %w: %w", err, fs.ErrNotExist)
	}
	if uint64(t.Width) > widthIn(t, m.size()) {
		return nil, fmt.Errorf("mirror: %s: %w", path, fs.ErrNotExist)
	}
	b, err := readFile(m.file(t), int64(verifier.MaxBundleBytes))
	if err != nil {
		return nil, fmt.Errorf("mirror: %w", err)
	}
	if b, err = cut(b, t); err != nil {
		return nil, fmt.Errorf("mirror: %s: %w", path, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("mirror: %s: %w", path, verifier.ErrTooLarge)
	}
	return b, nil
}

// widthIn is how wide a tile is in a tree of a size.
func widthIn(t verifier.Tile, size uint64) uint64 {
	row := size
	if t.Level != verifier.EntriesLevel {
		if t.Level*verifier.TileHeight >= 64 {
			return 0
		}
		row = size >> (verifier.TileHeight * t.Level)
	}
	if t.N >= 1<<55 || row <= t.N*verifier.TileWidth {
		return 0
	}
	return min(row-t.N*verifier.TileWidth, verifier.TileWidth)
}

// cut returns the first entries or hashes of a file.
func cut(b []byte, t verifier.Tile) ([]byte, error) {
	if t.Level != verifier.EntriesLevel {
		if len(b) < t.Width*32 {
			return nil, fmt.Errorf("the file has %d bytes: %w", len(b), errShort)
		}
		return b[:t.Width*32], nil
	}
	n := 0
	for range t.Width {
		if len(b)-n < 2 || len(b)-n-2 < int(b[n])<<8|int(b[n+1]) {
			return nil, fmt.Errorf("the file has %d bytes: %w", len(b), errShort)
		}
		n += 2 + int(b[n])<<8 | int(b[n+1])
	}
	return b[:n], nil
}

var errShort = errors.New("damaged: it is too short")

func (m *mirror) file(t verifier.Tile) string {
	t.Width = verifier.TileWidth
	return filepath.Join(m.dir, filepath.FromSlash(t.Path()))
}

// filler is the source of an audit: what is complete comes from the mirror, the rest from the log, and is
// kept.
type filler struct {
	m    *mirror
	log  verifier.Source
	from uint64 // what is below that is complete
}

func (m *mirror) filledFrom(log verifier.Source) verifier.Source {
	return &filler{m, log, m.size()}
}

// Get implements [verifier.Source].
func (s *filler) Get(ctx context.Context, path string, limit int64) ([]byte, error) {
	t, err := verifier.ParseTilePath(path)
	if err != nil { // the checkpoint
		return s.log.Get(ctx, path, limit)
	}
	if uint64(t.Width) <= widthIn(t, s.from) {
		if b, err := s.m.Get(ctx, path, limit); err == nil {
			return b, nil
		} // a file that was lost is fetched again
	}
	b, err := s.log.Get(ctx, path, limit)
	if err != nil {
		return nil, err
	}
	if err := s.m.keep(t, b); err != nil {
		return nil, fmt.Errorf("mirror: %w", err)
	}
	return b, nil
}

// keep writes a file. Of one that is complete in part, that part must stay as it is: what else the log
// serves there is for the audit to judge, and isn't kept.
func (m *mirror) keep(t verifier.Tile, b []byte) error {
	complete := widthIn(t, m.size())
	if uint64(t.Width) < complete {
		return nil
	}
	file := m.file(t)
	if complete > 0 {
		had := t
		had.Width = int(complete)
		old, err := readFile(file, int64(verifier.MaxBundleBytes))
		if err == nil {
			old, err = cut(old, had)
		}
		if err == nil && !bytes.HasPrefix(b, old) {
			return nil
		} // a file that was lost or damaged is made again
	}
	dir := filepath.Dir(file)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, ".tmp*")
	if err != nil {
		return err
	}
	_, err = tmp.Write(b)
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	m.mu.Lock()
	for ; len(dir) >= len(m.dir) && !m.dirty[dir]; dir = filepath.Dir(dir) {
		m.dirty[dir] = true
	}
	m.mu.Unlock()
	return nil
}
