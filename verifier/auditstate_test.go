package verifier

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestAuditState(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state")
	l := newTestLog(t, 0)
	for _, n := range []int{0, 1, 100, 255, 256, 256, 300, 512, 700, 1024} {
		l.grow(n)
		clear(l.reads)
		r, err := audit(t, l, stateIn(file))
		if err != nil {
			t.Fatalf("size %d: %v", n, err)
		}
		if r.From+r.Entries != uint64(n) || r.Openings.Verified != r.Entries {
			t.Errorf("size %d: from %d, %d entries, %d openings", n, r.From, r.Entries, r.Openings.Verified)
		}
		if r.From > 256 && l.reads["tile/entries/000"] != 0 {
			t.Errorf("size %d: read again what was checked", n)
		}
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("state file %v, %v", info.Mode(), err)
	}
	if left, _ := filepath.Glob(file + ".tmp*"); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestAuditStateToken: an audit without a token doesn't make a later one with a token
// believe that openings were checked.
func TestAuditStateToken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state")
	l := sharedLog(t, auditSize)
	l.openings[3] = []byte("{}")
	if _, err := audit(t, l, stateIn(file), noToken); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a failed audit doesn't move the state
		r, err := audit(t, l, stateIn(file))
		if !errors.Is(err, ErrFailed) || r.Failures[0].Index != 3 {
			t.Fatalf("error %v", err)
		}
	}
	l.openings[3] = testSealed(t, 3, testStart.Add(3*time.Second)).Opening
	if _, err := audit(t, l, stateIn(file)); err != nil {
		t.Fatal(err)
	}
	l.grow(800)
	if _, err := audit(t, l, stateIn(file), noToken); err != nil {
		t.Fatal(err)
	}
	l.grow(900)
	r, err := audit(t, l, stateIn(file))
	if err != nil || r.From != auditSize || r.Openings.Verified != 200 {
		t.Errorf("from %d, openings %+v, error %v", r.From, r.Openings, err)
	}
	// What was checked may be changed later: only a full audit sees it.
	l.openings[3] = []byte("{}")
	if _, err := audit(t, l, stateIn(file)); err != nil {
		t.Error(err)
	}
	if _, err := audit(t, l, stateIn(file), func(cfg *AuditConfig) { cfg.FromStart = true }); !errors.Is(err, ErrFailed) {
		t.Errorf("full audit: error %v", err)
	}
}

// TestAuditResume ends an audit in the middle, at each place where it can end, and goes on.
func TestAuditResume(t *testing.T) {
	l := sharedLog(t, 1500)
	for stop := uint64(1); stop <= 6; stop++ {
		file := filepath.Join(t.TempDir(), "state")
		ctx, cancel := context.WithCancel(context.Background())
		_, err := Audit(ctx, AuditConfig{Source: l, Policy: l.policy, Openings: l, State: FileState(file), SaveEvery: 1, Workers: 8,
			Progress: func(p Progress) {
				if p.Done >= stop*TileWidth {
					cancel()
				}
			}})
		if stop*TileWidth < 1500 && !errors.Is(err, context.Canceled) {
			t.Fatalf("stop %d: error %v", stop, err)
		}
		more := l.clone()
		more.grow(1700)
		r, err := audit(t, more, stateIn(file))
		if err != nil {
			t.Fatalf("stop %d: %v", stop, err)
		}
		if want := min(stop*TileWidth, 1500); r.From != want || r.Openings.Verified != 1700-want {
			t.Errorf("stop %d: went on from %d, openings %+v", stop, r.From, r.Openings)
		}
	}
}

// forked is l with another entry at an index.
func forked(t *testing.T, l *testLog, at int) *testLog {
	f := l.clone()
	s := testSealed(t, at+1000000, testStart.Add(time.Duration(at)*time.Second))
	f.leaves[at], f.openings[at] = s.Leaf, s.Opening
	f.publish()
	return f
}

func TestAuditFork(t *testing.T) {
	for _, n := range []int{1, 200, 256, 300, 512} {
		for _, more := range []int{0, 1, 300} {
			for _, at := range []int{0, n / 2, n - 1} {
				file := filepath.Join(t.TempDir(), "state")
				l := sharedLog(t, n)
				if _, err := audit(t, l, stateIn(file)); err != nil {
					t.Fatal(err)
				}
				before, _ := os.ReadFile(file)
				f := forked(t, l, at)
				f.grow(n + more)
				r, err := audit(t, f, stateIn(file))
				if !errors.Is(err, ErrFailed) || r.Evidence == nil || !r.Proven {
					t.Fatalf("%d then %d, fork at %d: error %v, report %+v", n, n+more, at, err, r)
				}
				again, err := ParseEvidence(r.Evidence.Text())
				if err != nil {
					t.Fatal(err)
				}
				if _, err := again.Check(l.policy); err != nil {
					t.Fatal(err)
				}
				if after, _ := os.ReadFile(file); string(after) != string(before) {
					t.Error("the state moved")
				}
			}
		}
	}
}

func TestAuditRollback(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state")
	l := sharedLog(t, 300)
	old := maps.Clone(l.files)
	l.grow(600)
	if _, err := audit(t, l, stateIn(file)); err != nil {
		t.Fatal(err)
	}
	l.put("checkpoint", old["checkpoint"])
	r, err := audit(t, l, stateIn(file))
	if !errors.Is(err, ErrFailed) || err.Error() != "an older head than the remembered one is served: size 300, and size 600 was seen; this alone doesn't show a false history" {
		t.Fatalf("error %v", err)
	}
	if want := (History{HistoryOlder, 600}); r.History != want || r.Entries != 0 || r.StoppedAt == nil {
		t.Errorf("report %+v", r)
	}
	if r.Evidence == nil || r.Proven || string(r.Evidence.First) != string(old["checkpoint"]) {
		t.Errorf("evidence %+v, proven %v", r.Evidence, r.Proven)
	}
}

// TestAuditBadTileAfterState: a tile that is needed for the consistency proof is changed.
// That is no fork, and the report names the place.
func TestAuditBadTileAfterState(t *testing.T) {
	for path, want := range map[string]string{
		"tile/1/000.p/3":       "entries 0 to 255: tile/1/000.p/3 differs",
		"tile/0/001":           "entry 256: tile differs from leaf hash",
		"tile/entries/003.p/1": "entry 768: leaf hash differs from tile",
	} {
		file := filepath.Join(t.TempDir(), "state")
		l := sharedLog(t, 600)
		if _, err := audit(t, l, stateIn(file)); err != nil {
			t.Fatal(err)
		}
		before, _ := os.ReadFile(file)
		l.grow(769)
		l.edit(path, 20)
		r, err := audit(t, l, stateIn(file))
		if path == "tile/0/001" && err == nil {
			continue // not needed from 600 on: nothing reads it
		}
		if !errors.Is(err, ErrFailed) || r.Proven || !strings.HasPrefix(r.Failures[0].String(), want) {
			t.Errorf("%s: error %v", path, err)
		}
		if after, _ := os.ReadFile(file); string(after) != string(before) {
			t.Errorf("%s: the state moved", path)
		}
	}
}

func TestAuditBadState(t *testing.T) {
	l := sharedLog(t, 300)
	file := filepath.Join(t.TempDir(), "state")
	if _, err := audit(t, l, stateIn(file)); err != nil {
		t.Fatal(err)
	}
	good, _ := os.ReadFile(file)
	edit := func(old, with string) string { return strings.Replace(string(good), old, with, 1) }
	s, _ := parseState(good)
	other := b64.EncodeToString(make([]byte, 32))
	first := b64.EncodeToString(s.checked.tree.hashes[0][:])
	for name, text := range map[string]string{
		"empty":          "",
		"cut short":      string(good[:len(good)/2]),
		"version":        edit("audit-state/1", "audit-state/2"),
		"unknown member": edit(`"v"`, `"w": 1, "v"`),
		"trailing":       string(good) + "{}",
		"hash":           edit(first, other),
		"size":           edit(`"size": 300`, `"size": 301`),
		"signature":      edit("— example.com/audit ", "— example.com/audit AAAA"),
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if r, err := audit(t, l, stateIn(file)); err == nil || errors.Is(err, ErrFailed) || r != nil {
			t.Errorf("%s: error %v, report %v", name, err, r)
		}
	}
}

// TestAuditRestart: what the state says and what is served don't go together, though the
// heads do. The audit begins again, to name the place.
func TestAuditRestart(t *testing.T) {
	for path, want := range map[string]string{
		"tile/1/000.p/2":   "entries 0 to 255: tile/1/000.p/2 differs from the tiles below it",
		"tile/0/002.p/188": "entry 512: tile differs from leaf hash",
	} {
		file := filepath.Join(t.TempDir(), "state")
		l := sharedLog(t, auditSize)
		if _, err := audit(t, l, stateIn(file)); err != nil {
			t.Fatal(err)
		}
		l.edit(path, 20)
		r, err := audit(t, l, stateIn(file))
		if !errors.Is(err, ErrFailed) || len(r.Failures) != 1 || r.Failures[0].String() != want {
			t.Errorf("%s: error %v", path, err)
		}
	}
}

// TestAuditStateUnwritable: an audit whose state can't be kept isn't finished.
func TestAuditStateUnwritable(t *testing.T) {
	l := sharedLog(t, 300)
	if _, err := audit(t, l, stateIn(filepath.Join(t.TempDir(), "no", "such", "directory"))); err == nil || errors.Is(err, ErrFailed) {
		t.Errorf("error %v", err)
	}
	if _, err := audit(t, l, stateIn(t.TempDir())); err == nil || errors.Is(err, ErrFailed) {
		t.Errorf("a directory as state file: error %v", err)
	}
}
