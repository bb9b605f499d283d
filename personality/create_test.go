package personality

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
)

func TestCreateTouchesNothingThatExists(t *testing.T) {
	l := newTestLog(t)
	for name, change := range map[string]func(*Config){
		"same directory": func(*Config) {},
		"same anchor":    func(c *Config) { c.Dir += "2" },
	} {
		cfg := l.cfg
		change(&cfg)
		if _, err := Create(t.Context(), CreateConfig{Config: cfg, Origin: testOrigin}); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s: %v, want fs.ErrExist", name, err)
		}
	}
	l.open(nil)
	l.mustSubmit("a", "x")
}

func TestCreateChecksItsInput(t *testing.T) {
	for _, origin := range []string{"", "a b", "a+b", "ä", strings.Repeat("a", 129), "a\nb", "a#b", "https://a/b"} {
		var bad *InvalidError
		if _, err := Create(t.Context(), CreateConfig{Config: Config{Dir: t.TempDir() + "/d"}, Origin: origin}); !errors.As(err, &bad) || bad.Field != "origin" {
			t.Errorf("origin %q: %v, want a refusal of origin", origin, err)
		}
	}
	for _, name := range []string{"A", "a/b", "..", "-a"} {
		var bad *InvalidError
		if _, err := Create(t.Context(), CreateConfig{Config: Config{Dir: t.TempDir() + "/d"}, Origin: "a", Log: name}); !errors.As(err, &bad) || bad.Field != "log" {
			t.Errorf("log %q: %v, want a refusal of log", name, err)
		}
	}
}

func TestFilesArePrivate(t *testing.T) {
	l := newTestLog(t)
	for path, want := range map[string]fs.FileMode{l.cfg.Dir: 0o700, filepath.Join(l.cfg.Dir, storeDir): 0o700, l.cfg.Anchor: 0o600,
		filepath.Join(l.cfg.Dir, keyFile): 0o600, filepath.Join(l.cfg.Dir, PolicyFile): 0o600} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: mode %v, %v; want %v", path, info.Mode(), err, want)
		}
	}
	for path, want := range map[string]fs.FileMode{filepath.Join(l.cfg.Dir, keyFile): 0o600, l.cfg.Dir: 0o700} {
		if err := os.Chmod(path, want|0o040); err != nil {
			t.Fatal(err)
		}
		if _, err := l.tryOpen(nil); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("expected %04o", want)) {
			t.Errorf("%s, readable for a group: %v", path, err)
		}
		if err := os.Chmod(path, want); err != nil {
			t.Fatal(err)
		}
	}
	l.open(nil)
}

func TestLimitsAreNamed(t *testing.T) {
	for field, cfg := range map[string]Config{"MaxBatch": {MaxBatch: -1}, "CacheBytes": {CacheBytes: 4}, "QueueBytes": {QueueBytes: -1}} {
		cfg.Dir = "unused"
		var bad *InvalidError
		if _, err := cfg.withDefaults(); !errors.As(err, &bad) || bad.Field != field {
			t.Errorf("%+v: %v, want a refusal of %s", cfg, err, field)
		}
	}
}

// Opening is never creating.
func TestOpenMakesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	if _, err := Open(t.Context(), Config{Dir: dir}); err == nil {
		t.Error("a log was opened where none is")
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("opening made the directory: %v", err)
	}
}

// What is edited in the database while the service is down, and shows in what
// start-up recomputes.
func TestEditedStoreIsRefused(t *testing.T) {
	head := func(b []byte) []byte { b[len(b)-1] ^= 1; return b }
	for name, edit := range map[string]struct {
		key    []byte
		change func([]byte) []byte
		refuse string
	}{
		"head's MAC":        {[]byte("ph"), head, "the head of size 3: changed outside the service"},
		"head's root":       {[]byte("ph"), func(b []byte) []byte { b[20] ^= 1; return b }, "the head of size 3: changed outside the service"},
		"head's size":       {[]byte("ph"), func(b []byte) []byte { b[8]--; return b }, "the head of size 2: changed outside the service"},
		"tile on the edge":  {append([]byte("pt"), make([]byte, 9)...), head, "its tiles make"},
		"tile deleted":      {append([]byte("pt"), make([]byte, 9)...), func([]byte) []byte { return nil }, "damaged"},
		"tile cut in bytes": {append([]byte("pt"), make([]byte, 9)...), func(b []byte) []byte { return b[:33] }, "damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newTestLog(t)
			l.open(nil)
			for _, id := range []string{"a", "b", "c"} {
				l.mustSubmit(id, "x")
			}
			l.close()
			l.edit(edit.key, edit.change)
			l.open(nil)
			l.mustRefuse(edit.refuse)
		})
	}
}

// edit changes a value in the closed log's database; nil deletes it.
func (l *testLog) edit(key []byte, change func([]byte) []byte) {
	l.t.Helper()
	cfg, err := l.cfg.withDefaults()
	if err != nil {
		l.t.Fatal(err)
	}
	db, err := openPebble(cfg, cfg.Dir, true)
	if err != nil {
		l.t.Fatal(err)
	}
	defer db.Close()
	v, closer, err := db.Get(key)
	if err != nil {
		l.t.Fatal(err)
	}
	changed := change(append([]byte(nil), v...))
	closer.Close()
	if changed == nil {
		err = db.Delete(key, pebble.Sync)
	} else {
		err = db.Set(key, changed, pebble.Sync)
	}
	if err != nil {
		l.t.Fatal(err)
	}
}
