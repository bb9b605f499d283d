package verifier

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/mod/sumdb/tlog"
)

func TestTilePath(t *testing.T) {
	for _, tt := range []struct {
		tile Tile
		want string
	}{
		{Tile{0, 0, 256}, "tile/0/000"},
		{Tile{0, 1234067, 256}, "tile/0/x001/x234/067"},
		{Tile{63, 999, 1}, "tile/63/999.p/1"},
		{Tile{1, 1000, 255}, "tile/1/x001/000.p/255"},
		{Tile{EntriesLevel, 1000000, 112}, "tile/entries/x001/x000/000.p/112"},
		{Tile{EntriesLevel, MaxTreeSize, 256}, "tile/entries/x009/x223/x372/x036/x854/x775/807"},
	} {
		if got := tt.tile.Path(); got != tt.want {
			t.Errorf("%+v: %s, expected %s", tt.tile, got, tt.want)
		}
		if got, err := ParseTilePath(tt.want); err != nil || got != tt.tile {
			t.Errorf("%s: %+v, %v", tt.want, got, err)
		}
	}
	if EntriesPath(7, 256) != "tile/entries/007" {
		t.Error(EntriesPath(7, 256))
	}
	for _, bad := range []string{
		"", "tile", "tile/", "tile/0", "tile/0/", "/tile/0/000", "tile/0/0", "tile/0/00", "tile/0/0000", "tile/0/x000/000",
		"tile/0/000/", "tile/0/001/000", "tile/0/x001/x000", "tile/0/x01/000", "tile/00/000", "tile/64/000", "tile/-1/000", "tile/+1/000",
		"tile/8/0/000", "tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p/01", "tile/0/000.p/", "tile/0/000.p/1/", "tile/0/000.p/+1",
		"tile/0/000.p", "tile/0/000.p/1.p/1", "tile/0/.p/1", "tile/0/xx01/000", "tile/entries", "tile/Entries/000", "tile/data/000",
		"tile/0/x009/x223/x372/x036/x854/x775/808", "tile/0/x999/x999/x999/x999/x999/x999/x999/999", "tile/0/0x0", "tile/0/..",
	} {
		if got, err := ParseTilePath(bad); err == nil {
			t.Errorf("took %q as %+v", bad, got)
		}
	}
}

// TestTilePathAgainstTlog: golang.org/x/mod writes the same but for the height.
func TestTilePathAgainstTlog(t *testing.T) {
	for _, n := range []int64{0, 1, 255, 999, 1000, 1001, 999999, 1000000, 123456789, 1 << 40} {
		for _, w := range []int{1, 17, 255, 256} {
			for level := -1; level < 8; level++ {
				want := strings.Replace(tlog.Tile{H: 8, L: level, N: n, W: w}.Path(), "tile/8/", "tile/", 1)
				want = strings.Replace(want, "tile/data/", "tile/entries/", 1)
				if got := TilePath(level, uint64(n), w); got != want {
					t.Errorf("%s, expected %s", got, want)
				}
			}
		}
	}
}

// TestTileAt: the specification's examples.
func TestTileAt(t *testing.T) {
	for want, got := range map[Tile]Tile{
		{0, 272, 256}: tileAt(0, 272, 70000), {0, 273, 112}: tileAt(0, 273, 70000),
		{1, 0, 256}: tileAt(1, 0, 70000), {1, 1, 17}: tileAt(1, 1, 70000), {2, 0, 1}: tileAt(2, 0, 70000),
		{0, 0, 256}: tileAt(0, 0, 256), {1, 0, 1}: tileAt(1, 0, 256),
		{EntriesLevel, 273, 112}: tileAt(EntriesLevel, 273, 70000),
	} {
		if got != want {
			t.Errorf("%+v, expected %+v", got, want)
		}
	}
}

func TestBundle(t *testing.T) {
	in := [][]byte{[]byte("a"), {}, bytes.Repeat([]byte{1}, MaxEntryBytes)}
	var b []byte
	for _, e := range in {
		var err error
		if b, err = AppendEntry(b, e); err != nil {
			t.Fatal(err)
		}
	}
	out, err := ParseBundle(b, 3)
	if err != nil || len(out) != 3 || !bytes.Equal(bytes.Join(out, []byte("|")), bytes.Join(in, []byte("|"))) {
		t.Fatalf("%d entries, %v", len(out), err)
	}
	if _, err := AppendEntry(nil, make([]byte, MaxEntryBytes+1)); err == nil {
		t.Error("took an entry that is too large")
	}
	for n := range b[:10] {
		if _, err := ParseBundle(b[:n], 3); err == nil {
			t.Errorf("took %d bytes of a bundle", n)
		}
	}
	if got, err := ParseBundle(b, 2); err == nil || len(got) != 2 {
		t.Error("took a bundle that is too long")
	}
	if got, err := ParseBundle(b, 4); err == nil || len(got) != 3 {
		t.Error("took a bundle that is too short")
	}
	if _, err := ParseTile(make([]byte, 33), 1); err == nil {
		t.Error("took a tile of 33 bytes")
	}
}

func TestDirSource(t *testing.T) {
	l := sharedLog(t, 300)
	dir := fstest.MapFS{}
	for path, b := range l.files {
		dir[path] = &fstest.MapFile{Data: b}
	}
	s := DirSource(dir)
	r, err := Audit(context.Background(), AuditConfig{Source: s, Policy: l.policy})
	if err != nil || r.Entries != 300 {
		t.Fatal(err)
	}
	if _, err := s.Get(context.Background(), "tile/0/007", 9); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if _, err := s.Get(context.Background(), "tile/0/000", 8191); !errors.Is(err, ErrTooLarge) {
		t.Errorf("large file: %v", err)
	}
	if b, err := s.Get(context.Background(), "tile/0/000", 8192); err != nil || len(b) != 8192 {
		t.Errorf("just so large: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Get(ctx, "checkpoint", 8192); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
