package verifier

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/verifier/seal"
)

// auditSize is large enough for a full and a partial tile on level 1, when it has to be;
// most tests do with a few tiles of level 0.
const auditSize = 700

// sharedLog is made once; tests corrupt clones.
var sharedLogs = map[int]*testLog{}

func sharedLog(t testing.TB, n int) *testLog {
	if sharedLogs[n] == nil {
		sharedLogs[n] = newTestLog(t, n)
	}
	c := sharedLogs[n].clone()
	c.t = t
	return c
}

func audit(t *testing.T, l *testLog, change ...func(*AuditConfig)) (*AuditReport, error) {
	t.Helper()
	cfg := AuditConfig{Source: l, Policy: l.policy, Openings: l}
	for _, f := range change {
		f(&cfg)
	}
	return Audit(context.Background(), cfg)
}

func noToken(cfg *AuditConfig) { cfg.Openings = nil }

func stateIn(file string) func(*AuditConfig) {
	return func(cfg *AuditConfig) {
		if file != "" {
			cfg.State = FileState(file)
		}
	}
}

func TestAuditGood(t *testing.T) {
	for _, n := range []int{0, 1, 2, 255, 256, 257, 512, auditSize} {
		l := newTestLog(t, n)
		var last Progress
		r, err := audit(t, l, func(cfg *AuditConfig) { cfg.Progress = func(p Progress) { last = p } })
		if err != nil {
			t.Fatalf("size %d: %v", n, err)
		}
		if r.Size != uint64(n) || r.Entries != uint64(n) || r.Openings.Verified != uint64(n) || r.WarningCount != 0 {
			t.Errorf("size %d: report %+v, openings %+v", n, r, r.Openings)
		}
		if n > 0 && (last.Done != uint64(n) || last.Size != uint64(n)) {
			t.Errorf("size %d: last progress %+v", n, last)
		}
		if n > 0 && (!r.FirstTime.Equal(testStart) || !r.LastTime.Equal(testStart.Add(time.Duration(n-1)*time.Second))) {
			t.Errorf("size %d: times %v to %v", n, r.FirstTime, r.LastTime)
		}
	}
}

const leafSize = 2 + leafLen // in a bundle

// corruptions are what can be done to a log of auditSize entries, and what an audit says.
var corruptions = []struct {
	name    string
	corrupt func(l *testLog)
	want    []string // failures, all of them
}{
	{"leaf edited", func(l *testLog) { l.edit("tile/entries/000", 17*leafSize+20) },
		[]string{"entry 17: leaf hash differs from tile"}},
	{"leaf edited in the partial bundle", func(l *testLog) { l.edit("tile/entries/002.p/188", 5*leafSize+20) },
		[]string{"entry 517: leaf hash differs from tile"}},
	{"two leaves edited", func(l *testLog) {
		l.edit("tile/entries/001", 3*leafSize+20)
		l.edit("tile/entries/001", 9*leafSize+20)
	}, []string{"entry 259: leaf hash differs from tile", "entry 265: leaf hash differs from tile"}},
	{"tile of level 0 edited", func(l *testLog) { l.edit("tile/0/001", 4*32) },
		[]string{"entry 260: tile differs from leaf hash"}},
	{"partial tile of level 0 edited", func(l *testLog) { l.edit("tile/0/002.p/188", 187*32+31) },
		[]string{"entry 699: tile differs from leaf hash"}},
	{"tile of level 1 edited", func(l *testLog) { l.edit("tile/1/000.p/2", 32) },
		[]string{"entries 256 to 511: tile/1/000.p/2 differs from the tiles below it"}},
	{"leaf and tile edited together", func(l *testLog) {
		l.edit("tile/entries/001", 3*leafSize+20)
		entries, _ := ParseBundle(l.files["tile/entries/001"], TileWidth)
		tile := []byte(string(l.files["tile/0/001"]))
		h := LeafHash(entries[3])
		copy(tile[3*32:], h[:])
		l.put("tile/0/001", tile)
	}, []string{
		"entry 259: opening does not match the leaf",
		"entries 256 to 511: tile/1/000.p/2 differs from the tiles below it",
		"root recomputed"}},
	{"opening edited", func(l *testLog) {
		l.openings[300] = []byte(strings.Replace(string(l.openings[300]), `"Backup"`, `"Backop"`, 1))
	}, []string{"entry 300: opening does not match the leaf"}},
	{"openings exchanged", func(l *testLog) { l.openings[1], l.openings[2] = l.openings[2], l.openings[1] },
		[]string{"entry 1: opening does not match the leaf", "entry 2: opening does not match the leaf"}},
	{"opening no longer JSON", func(l *testLog) { l.openings[699] = []byte("\x00\xff") },
		[]string{"entry 699: opening is malformed"}},
	{"opening missing", func(l *testLog) { l.lines[4] = `{"index":4,"opening":null,"reason":"missing"}` + "\n" },
		[]string{"entry 4: opening is missing"}},
	{"opening not shown for a strange reason", func(l *testLog) { l.lines[4] = `{"index":4,"opening":null,"reason":"lunch"}` + "\n" },
		[]string{"entry 4: opening line is malformed"}},
	{"opening line left out", func(l *testLog) { l.lines[4] = "" },
		[]string{"entry 4: opening of entry 5 was sent in its place"}},
	{"opening with a newline in it", func(l *testLog) { l.openings[4] = []byte("{\n}") },
		[]string{"entry 4: opening line is malformed"}},
	{"opening too long", func(l *testLog) { l.openings[4] = make([]byte, MaxOpeningLine) },
		[]string{"entry 4: opening line of more than"}},
	{"bundle cut short", func(l *testLog) { l.put("tile/entries/001", l.files["tile/entries/001"][:10*leafSize+7]) },
		[]string{"entries 266 to 511: entry bundle is cut short"}},
	{"entry deleted", func(l *testLog) { l.put("tile/entries/002.p/188", l.files["tile/entries/002.p/188"][:187*leafSize]) },
		[]string{"entry 699: entry bundle holds 187 entries, expected 188"}},
	{"bytes after a bundle", func(l *testLog) {
		l.put("tile/entries/000", append(l.files["tile/entries/000"][:256*leafSize:256*leafSize], 0))
	},
		[]string{"entries 0 to 255: entry bundle has 1 bytes after its 256 entries"}},
	{"bytes after a tile", func(l *testLog) { l.put("tile/0/000", append(l.files["tile/0/000"][:8192:8192], 0)) },
		[]string{"entries 0 to 255: tile/0/000 can't be used: it is larger than it can be"}},
	{"bytes after a partial tile", func(l *testLog) { l.put("tile/1/000.p/2", append(l.files["tile/1/000.p/2"][:64:64], 0)) },
		[]string{"entries 0 to 511: tile/1/000.p/2 is missing or malformed"}},
	{"bundle gone", func(l *testLog) { delete(l.files, "tile/entries/001") },
		[]string{"entries 256 to 511: entry bundle is missing"}},
	{"tile gone", func(l *testLog) { delete(l.files, "tile/0/001") },
		[]string{"entries 256 to 511: tile/0/001 can't be used: it is missing"}},
	{"bundle and tile gone", func(l *testLog) { delete(l.files, "tile/entries/001"); delete(l.files, "tile/0/001") },
		[]string{"entries 256 to 511: entry bundle is missing", "entries 256 to 511: tile/0/001 can't be used: it is missing"}},
	{"checkpoint's signature", func(l *testLog) { l.edit("checkpoint", len(l.files["checkpoint"])-10) },
		[]string{"checkpoint: signature of the log \"example.com/audit\" is wrong"}},
	{"checkpoint's root", func(l *testLog) {
		note, _ := SignCheckpoint(Checkpoint{testOrigin, auditSize, Hash{1}}, l.signer)
		l.put("checkpoint", note)
	}, []string{"root recomputed from the leaves is"}},
	{"leaf of another form, sealed", func(l *testLog) { l.leaves[20] = []byte("hello"); l.publish() },
		[]string{"entry 20: leaf is not in the form of prooftrail.leaf/1", "entry 20: opening does not match the leaf"}},
}

// TestAuditCorrupted corrupts one thing at a time and expects the failure to be named, at
// exactly its place.
func TestAuditCorrupted(t *testing.T) {
	for _, tt := range corruptions {
		t.Run(tt.name, func(t *testing.T) {
			l := sharedLog(t, auditSize)
			tt.corrupt(l)
			r, err := audit(t, l)
			if !errors.Is(err, ErrFailed) {
				t.Fatalf("error %v, expected one that matches ErrFailed", err)
			}
			var got []string
			for _, f := range r.Failures {
				got = append(got, f.String())
			}
			if len(got) != len(tt.want) {
				t.Fatalf("failures %q, expected %q", got, tt.want)
			}
			for i := range got {
				if !strings.HasPrefix(got[i], tt.want[i]) {
					t.Errorf("failure %q, expected %q", got[i], tt.want[i])
				}
			}
			if !strings.HasPrefix(err.Error(), tt.want[0]) {
				t.Errorf("error %q, expected %q", err, tt.want[0])
			}
		})
	}
}

// TestAuditTallTree has level-1 tiles that are full, so that level 2 is checked as well.
func TestAuditTallTree(t *testing.T) {
	l := syntheticLog(t, 256*256+256+3)
	if _, err := audit(t, l, noToken); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"tile/1/000":     "entries 1792 to 2047: tile/1/000 differs from the tiles below it",
		"tile/1/001.p/1": "entries 65536 to 65791: tile/1/001.p/1 differs from the tiles below it",
		"tile/2/000.p/1": "entries 0 to 65535: tile/2/000.p/1 differs from the tiles below it",
	} {
		c := l.clone()
		c.edit(path, min(7*32, len(c.files[path])-1))
		r, err := audit(t, c, noToken)
		if !errors.Is(err, ErrFailed) || len(r.Failures) != 1 || r.Failures[0].String() != want {
			t.Errorf("%s: error %v", path, err)
		}
	}
}

// syntheticLog has leaves of the right form that nothing opens: quick to make.
func syntheticLog(t testing.TB, n int) *testLog {
	signer, vkey := testKey(t, testOrigin)
	l := &testLog{t: t, signer: signer, files: map[string][]byte{}, lines: map[uint64]string{}, reads: map[string]int{}}
	l.policy = mustPolicy(t, "log "+vkey+"\nquorum none\n")
	for i := range n {
		root := LeafHash(fmt.Append(nil, i))
		l.leaves = append(l.leaves, []byte(leafHead+b64.EncodeToString(root[:])+leafMid+testStart.Add(time.Duration(i)*time.Second).Format(time.RFC3339)+leafTail))
	}
	l.publish()
	return l
}

func TestAuditTenantAndRedacted(t *testing.T) {
	l := sharedLog(t, auditSize)
	l.lines[4] = `{"index":4,"opening":null,"reason":"tenant"}` + "\n"
	o, err := seal.ParseOpening(l.openings[5])
	if err != nil {
		t.Fatal(err)
	}
	if o, err = o.Withhold("/actor/id"); err != nil {
		t.Fatal(err)
	}
	l.openings[5] = o.Bytes()
	r, err := audit(t, l)
	if err != nil {
		t.Fatal(err)
	}
	if want := (OpeningCounts{Verified: auditSize - 2, Redacted: 1, Withheld: 1, NotShown: 1}); *r.Openings != want {
		t.Errorf("counts %+v, expected %+v", *r.Openings, want)
	}
}

func TestAuditTimes(t *testing.T) {
	l := sharedLog(t, 300)
	l.leaves[100] = testSealed(t, 100, testStart).Leaf                      // 99 s before entry 99
	l.leaves[256] = testSealed(t, 256, testStart.Add(250*time.Second)).Leaf // 5 s, across tiles
	l.leaves[257] = testSealed(t, 257, testStart.Add(250*time.Second)).Leaf // equal is fine
	l.publish()
	r, err := audit(t, l, noToken)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, w := range r.Warnings {
		got = append(got, w.String())
	}
	want := []string{"entry 100: leaf time steps back by 1m39s, more than 60 s", "entry 256: leaf time steps back by 5s"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("warnings %q, expected %q", got, want)
	}
	r, err = audit(t, l, noToken, func(cfg *AuditConfig) { cfg.StrictTime = true })
	if !errors.Is(err, ErrFailed) || r.FailureCount != 2 {
		t.Errorf("strict: error %v", err)
	}
}

func TestAuditManyFailures(t *testing.T) {
	l := sharedLog(t, auditSize)
	for i := range l.openings {
		l.openings[i] = []byte("{}")
	}
	r, err := audit(t, l)
	if !errors.Is(err, ErrFailed) || r.FailureCount != auditSize || len(r.Failures) != MaxListed || r.Openings.Failed != auditSize {
		t.Errorf("%d failures, %d listed, error %v", r.FailureCount, len(r.Failures), err)
	}
}

// TestAuditPartialGone: a log "MAY delete any partial tile once the corresponding full tile
// is […] available".
func TestAuditPartialGone(t *testing.T) {
	l := sharedLog(t, 300)
	checkpoint := l.files["checkpoint"]
	l.grow(600)
	l.put("checkpoint", checkpoint)
	delete(l.files, "tile/0/001.p/44")
	delete(l.files, "tile/entries/001.p/44")
	if _, err := audit(t, l); err != nil {
		t.Fatal(err)
	}
}

func TestAuditNoCheckpoint(t *testing.T) {
	l := sharedLog(t, 300)
	delete(l.files, "checkpoint")
	if r, err := audit(t, l); err == nil || errors.Is(err, ErrFailed) || r != nil {
		t.Errorf("error %v, report %v", err, r)
	}
	if _, err := Audit(context.Background(), AuditConfig{}); err == nil {
		t.Error("an audit of nothing succeeded")
	}
}

func TestAuditCancelled(t *testing.T) {
	l := sharedLog(t, auditSize)
	ctx, cancel := context.WithCancel(context.Background())
	_, err := Audit(ctx, AuditConfig{Source: l, Policy: l.policy, Workers: 1, Progress: func(Progress) { cancel() }})
	if !errors.Is(err, context.Canceled) || errors.Is(err, ErrFailed) {
		t.Errorf("error %v", err)
	}
}

// TestAuditCheckpoint: the head that is given is audited, not the one that the log serves.
func TestAuditCheckpoint(t *testing.T) {
	l := newTestLog(t, 300)
	old, err := l.Get(t.Context(), "checkpoint", MaxNoteBytes)
	if err != nil {
		t.Fatal(err)
	}
	l.grow(700)
	file := filepath.Join(t.TempDir(), "state")
	given := func(cfg *AuditConfig) { cfg.Checkpoint = old }
	if r, err := audit(t, l, stateIn(file), given); err != nil || r.Size != 300 || r.Entries != 300 {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := audit(t, l, stateIn(file)); err != nil || r.Size != 700 || r.Entries != 400 {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := audit(t, l, stateIn(file), given); !errors.Is(err, ErrFailed) || r.History.Status != HistoryOlder {
		t.Errorf("%+v, %v", r, err)
	}
}
