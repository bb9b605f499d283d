package verifier

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

const (
	// TileWidth is the number of hashes in a full tile and of entries in a full bundle.
	TileWidth = 256
	// TileHeight is the number of tree levels that a tile covers.
	TileHeight = 8
	// EntriesLevel stands for entry bundles where a tile's level is asked for.
	EntriesLevel = -1

	maxTileLevel = 63 // "a decimal ASCII integer between 0 and 63"
)

// TilePath returns the path of a tile below the log's prefix, `tile/<L>/<N>[.p/<W>]`
// (c2sp.org/tlog-tiles; no height component). Level is 0..63, width 1..256, 256 for a full
// tile; with EntriesLevel it is the path of an entry bundle.
func TilePath(level int, n uint64, width int) string {
	b := make([]byte, 0, 48)
	b = append(b, "tile/"...)
	if level == EntriesLevel {
		b = append(b, "entries"...)
	} else {
		b = strconv.AppendInt(b, int64(level), 10)
	}
	b = appendTileIndex(append(b, '/'), n)
	if width < TileWidth {
		b = strconv.AppendInt(append(b, ".p/"...), int64(width), 10)
	}
	return string(b)
}

// EntriesPath returns the path of an entry bundle, `tile/entries/<N>[.p/<W>]`.
func EntriesPath(n uint64, width int) string { return TilePath(EntriesLevel, n, width) }

// appendTileIndex: "a non-negative integer encoded into zero-padded 3-digit path elements.
// All but the last path element MUST begin with an `x`. For example, index 1234067 will be
// encoded as `x001/x234/067`."
func appendTileIndex(b []byte, n uint64) []byte {
	if n >= 1000 {
		b = append(appendTileParents(b, n/1000), '/')
	}
	return appendGroup(b, n%1000)
}

// appendTileParents writes all elements but the last.
func appendTileParents(b []byte, n uint64) []byte {
	if n >= 1000 {
		b = append(appendTileParents(b, n/1000), '/')
	}
	return appendGroup(append(b, 'x'), n%1000)
}

func appendGroup(b []byte, n uint64) []byte {
	return append(b, byte('0'+n/100), byte('0'+n/10%10), byte('0'+n%10))
}

// Tile names a tile or, with EntriesLevel, an entry bundle.
type Tile struct {
	Level int // 0..63 or EntriesLevel
	N     uint64
	Width int // 1..256
}

// Path returns the path of the tile, see [TilePath].
func (t Tile) Path() string { return TilePath(t.Level, t.N, t.Width) }

// ParseTilePath reads a path that [TilePath] made. It takes no other spelling: a path has
// one cache entry.
func ParseTilePath(path string) (Tile, error) {
	t, err := parseTilePath(path)
	if err != nil {
		return Tile{}, fmt.Errorf("tile path: %w", err)
	}
	if t.Path() != path {
		return Tile{}, errors.New("tile path: not in its canonical spelling")
	}
	return t, nil
}

func parseTilePath(path string) (t Tile, err error) {
	rest, ok := strings.CutPrefix(path, "tile/")
	level, index, ok2 := strings.Cut(rest, "/")
	if !ok || !ok2 {
		return t, errors.New("expected tile/<L>/<N>[.p/<W>]")
	}
	t.Level = EntriesLevel
	if level != "entries" {
		// "MUST be a decimal ASCII integer between 0 and 63, with no additional leading zeroes."
		l, err := strconv.ParseUint(level, 10, 8)
		if err != nil || l > maxTileLevel {
			return t, errors.New("level: expected 0 to 63")
		}
		t.Level = int(l)
	}
	// "`<W>` is the width of the tile, a decimal ASCII integer between 1 and 255, with no
	// additional leading zeroes."
	t.Width = TileWidth
	index, width, partial := strings.Cut(index, ".p/")
	if partial {
		w, err := strconv.ParseUint(width, 10, 16)
		if err != nil || w < 1 || w >= TileWidth {
			return t, errors.New("width: expected 1 to 255")
		}
		t.Width = int(w)
	}
	t.N, err = parseTileIndex(index)
	return t, err
}

func parseTileIndex(s string) (n uint64, err error) {
	for elem := range strings.SplitSeq(s, "/") {
		g, err := strconv.ParseUint(strings.TrimPrefix(elem, "x"), 10, 16)
		if err != nil || g > 999 {
			return 0, errors.New("index: expected elements of three digits")
		}
		if n > (MaxTreeSize-g)/1000 {
			return 0, errors.New("index: too large")
		}
		n = n*1000 + g
	}
	return n, nil
}
