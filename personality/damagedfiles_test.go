package personality

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/transparency-dev/merkle/compact"
)

// A flipped bit in any of the database's files: the log doesn't open, or refuses once
// the place has been read, or all of it verifies. Never does the process end.
func TestDamagedFiles(t *testing.T) {
	l := newTestLog(t)
	for range 3 { // each start makes files of what the one before left in the log
		l.open(nil)
		for i := range 100 {
			if r := l.submit(submitter("default"), fmt.Sprint("e", i), strings.Repeat("x", 1000), Durable); r.Err != nil {
				t.Fatal(r.Err)
			}
		}
		l.mustSubmit("last", "x")
		l.close()
	}
	files, err := filepath.Glob(filepath.Join(l.cfg.Dir, storeDir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for _, file := range files {
		whole, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for part := 1; part < 8 && len(whole) > 0; part += 2 {
			name := fmt.Sprintf("%s at %d/8", filepath.Base(file), part)
			t.Run(name, func(t *testing.T) {
				damaged := l.copyTo(t)
				bad := append([]byte(nil), whole...)
				bad[len(bad)*part/8] ^= 4
				if err := os.WriteFile(filepath.Join(damaged.cfg.Dir, storeDir, filepath.Base(file)), bad, 0o600); err != nil {
					t.Fatal(err)
				}
				if damaged.useDamaged() {
					refused++
				}
			})
		}
	}
	if refused == 0 {
		t.Error("no damage was noticed")
	}
}

// copyTo copies the closed log, with its anchor, to a directory of t's.
func (l *testLog) copyTo(t *testing.T) *testLog {
	t.Helper()
	to := &testLog{t: t, cfg: l.cfg, policy: l.policy, vkey: l.vkey}
	to.cfg.Dir = filepath.Join(t.TempDir(), "data")
	to.cfg.Anchor = to.cfg.Dir + ".anchor"
	anchor, err := os.ReadFile(l.cfg.Anchor)
	if err := errors.Join(err, os.CopyFS(to.cfg.Dir, os.DirFS(l.cfg.Dir)), os.Chmod(to.cfg.Dir, 0o700),
		os.Chmod(filepath.Join(to.cfg.Dir, keyFile), 0o600), os.WriteFile(to.cfg.Anchor, anchor, 0o600)); err != nil {
		t.Fatal(err)
	}
	return to
}

// useDamaged reports whether the damage was noticed; if not, all must verify.
func (l *testLog) useDamaged() (noticed bool) {
	l.t.Helper()
	svc, err := Open(l.t.Context(), l.cfg)
	if err != nil {
		return true
	}
	l.svc = svc
	defer l.close()
	report, err := l.audit()
	if r := l.svc.Ready(l.t.Context()); r.Refusing {
		return true
	}
	if err != nil {
		l.t.Errorf("audit: %+v, %v; but the log doesn't refuse", report, err)
	}
	l.mustSubmit("after", "x")
	return false
}

// A proof from tiles that were edited is not given to anybody.
func TestProofsFromEditedTiles(t *testing.T) {
	l := newTestLog(t)
	l.open(nil)
	for i := range 300 {
		if r := l.submit(submitter("default"), fmt.Sprint("e", i), "x", Durable); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	l.mustSubmit("last", "x")
	l.close()
	l.edit(append([]byte("pt"), make([]byte, 9)...), func(b []byte) []byte { b[100*32] ^= 1; return b })
	l.open(nil)
	ctx := t.Context()
	head := l.svc.published.Load().head.Size
	damaged := func(what string, err error, want bool) {
		t.Helper()
		if errors.Is(err, ErrDamaged) != want || !want && err != nil {
			t.Errorf("%s: %v, want damaged %v", what, err, want)
		}
	}
	for _, size := range []uint64{128, 200, 256, 257, head} {
		_, _, err := l.svc.ProveInclusion(ctx, 99, size)
		damaged(fmt.Sprintf("inclusion of entry 99 in %d", size), err, true)
	}
	_, _, err := l.svc.ProveInclusion(ctx, 280, head)
	damaged("inclusion of entry 280, whose proof isn't from that tile", err, false)
	for _, first := range []uint64{1, 100, 101, 128, 255} {
		_, err := l.svc.ProveConsistency(ctx, first, head)
		damaged(fmt.Sprintf("consistency of %d", first), err, true)
	}
	_, err = l.svc.ProveConsistency(ctx, 256, head)
	damaged("consistency of 256", err, false)
	if _, found, err := l.svc.nodes(ctx, []compact.NodeID{{Index: 99}}); found || err != nil {
		t.Errorf("entry 99's hash came from memory: %v", err)
	}
}
