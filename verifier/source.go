package verifier

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// ErrTooLarge is returned by a [Source] for a resource larger than the limit asked for.
var ErrTooLarge = errors.New("larger than its limit")

// Source is where a log's public files come from. Implementations are safe for concurrent
// use and do their own retries: an error is final.
type Source interface {
	// Get returns the file at a path below the log's prefix, "checkpoint" or a [TilePath].
	// The error matches [fs.ErrNotExist] only if the log itself says that there is no such
	// file, and [ErrTooLarge] if it has more than limit bytes; anything else means that it
	// could not be read.
	Get(ctx context.Context, path string, limit int64) ([]byte, error)
}

// DirSource reads a log's files from a directory, such as a mirror on a disk.
func DirSource(dir fs.FS) Source { return dirSource{dir} }

type dirSource struct{ dir fs.FS }

func (d dirSource) Get(ctx context.Context, path string, limit int64) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := d.dir.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size := int64(-1)
	if info, err := f.Stat(); err == nil {
		size = info.Size()
	}
	return readLimited(f, size, limit, path)
}

// maxSizeHint is how much memory is taken on the word of a server alone.
const maxSizeHint = 1 << 20

// readLimited reads all of r and never more than one byte past the limit. size is how
// long r says that it is, below zero if it doesn't.
func readLimited(r io.Reader, size, limit int64, path string) ([]byte, error) {
	var b bytes.Buffer
	if size > 0 {
		b.Grow(int(min(size, limit, maxSizeHint)) + bytes.MinRead) // room to find the end in
	}
	if _, err := b.ReadFrom(io.LimitReader(r, limit+1)); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if int64(b.Len()) > limit {
		return nil, fmt.Errorf("read %s: %w of %d bytes", path, ErrTooLarge, limit)
	}
	return b.Bytes(), nil
}

// TileReader reads Merkle tree tiles: the consumer's side of [ProveInclusion] and
// [ProveConsistency]. Implementations are safe for concurrent use.
type TileReader interface {
	// ReadTile returns exactly width*32 bytes (width 1..256) of the tile, cutting a wider one
	// if need be. The level is 0..63.
	ReadTile(ctx context.Context, t Tile) ([]byte, error)
}

// Tiles reads tiles from a source.
func Tiles(s Source) TileReader { return tiles{s} }

type tiles struct{ s Source }

func (r tiles) ReadTile(ctx context.Context, t Tile) ([]byte, error) {
	b, err := getTile(ctx, r.s, t, MaxTileBytes)
	if err != nil {
		return nil, err
	}
	return b, nil
}

// getTile reads a tile, cut to its width. "Clients […] MAY fetch the full tile in parallel
// as a fallback in case the partial tile is not available anymore."
func getTile(ctx context.Context, s Source, t Tile, limit int64) ([]byte, error) {
	b, err := s.Get(ctx, t.Path(), limit)
	if errors.Is(err, fs.ErrNotExist) && t.Width < TileWidth {
		full, fullErr := s.Get(ctx, TilePath(t.Level, t.N, TileWidth), limit)
		if fullErr != nil {
			return nil, firstHard(err, fullErr)
		}
		if len(full) == MaxTileBytes {
			return full[:t.Width*32], nil
		}
		return nil, failedf("%s: tile of %d bytes, expected %d", TilePath(t.Level, t.N, TileWidth), len(full), MaxTileBytes)
	}
	if err == nil && len(b) != t.Width*32 {
		return nil, failedf("%s: tile of %d bytes, expected %d", t.Path(), len(b), t.Width*32)
	}
	return b, err
}

// getBundle reads an entry bundle and splits it. If only the full one is left, its first
// entries are taken.
func getBundle(ctx context.Context, s Source, t Tile) ([][]byte, error) {
	b, err := s.Get(ctx, t.Path(), MaxBundleBytes)
	width := t.Width
	if errors.Is(err, fs.ErrNotExist) && t.Width < TileWidth {
		var fullErr error
		width = TileWidth
		if b, fullErr = s.Get(ctx, EntriesPath(t.N, TileWidth), MaxBundleBytes); fullErr != nil {
			return nil, firstHard(err, fullErr)
		}
		err = nil
	}
	if err != nil {
		return nil, err
	}
	entries, err := ParseBundle(b, width)
	if err != nil {
		err = &failedError{err}
	}
	if len(entries) >= t.Width {
		// What follows in a wider bundle belongs to a later checkpoint.
		if width != t.Width {
			err = nil
		}
		entries = entries[:t.Width]
	}
	return entries, err
}

// firstHard prefers the error that isn't a mere "not there".
func firstHard(partial, full error) error {
	if errors.Is(full, fs.ErrNotExist) {
		return partial
	}
	return full
}
