package verifier

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prooftrail/prooftrail/verifier/event"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

func tenantLine(i int) string {
	return fmt.Sprintf(`{"index":%d,"opening":null,"reason":"tenant"}`+"\n", i)
}

// TestAuditNotShown: a server that says "not yours" is asked again by the next audit.
func TestAuditNotShown(t *testing.T) {
	for _, hidden := range [][]int{{0, 1, 2, 3, 4}, {2}, {4}} {
		file := filepath.Join(t.TempDir(), "state")
		l := sharedLog(t, 5)
		for _, i := range hidden {
			l.lines[uint64(i)] = tenantLine(i)
		}
		r, err := audit(t, l, stateIn(file))
		if err != nil || r.Openings.NotShown != uint64(len(hidden)) || r.NothingShown() != (len(hidden) == 5) {
			t.Fatalf("hidden %v: %+v, %v", hidden, r.Openings, err)
		}
		clear(l.lines)
		at := hidden[len(hidden)-1]
		l.openings[at] = bytes.Replace(l.openings[at], []byte("nightly"), []byte("weeekly"), 1)
		if r, err = audit(t, l, stateIn(file)); !errors.Is(err, ErrFailed) || r.Failures[0].Index != uint64(at) {
			t.Errorf("hidden %v: shown at last, and forged: %v", hidden, err)
		}
	}
}

// TestAuditNotShownMark: the openings' mark stops before the first entry that isn't shown,
// and keeps what an earlier audit was shown.
func TestAuditNotShownMark(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state")
	l := sharedLog(t, auditSize)
	l.lines[300], l.lines[650] = tenantLine(300), tenantLine(650)
	for range 2 {
		if _, err := audit(t, l, stateIn(file), func(cfg *AuditConfig) { cfg.SaveEvery = 1 }); err != nil {
			t.Fatal(err)
		}
		if r, err := audit(t, l, stateIn(file)); err != nil || r.OpeningsFrom != 256 || r.Openings.NotShown != 2 || r.NothingShown() {
			t.Fatalf("from %d, %+v, %v", r.OpeningsFrom, r.Openings, err)
		}
	}
	clear(l.lines) // another token
	if r, err := audit(t, l, stateIn(file)); err != nil || r.Openings.Verified != auditSize-256 {
		t.Fatalf("%+v, %v", r.Openings, err)
	}
	l.lines[3] = tenantLine(3) // and the first one again, from the start
	if _, err := audit(t, l, stateIn(file), func(cfg *AuditConfig) { cfg.FromStart = true }); err != nil {
		t.Fatal(err)
	}
	if r, err := audit(t, l, stateIn(file)); err != nil || r.OpeningsFrom != auditSize || r.NothingShown() {
		t.Errorf("from %d, %v: lost what was shown", r.OpeningsFrom, err)
	}
	l.grow(auditSize + 1) // by another tenant's entry, such as the record of this audit
	l.lines[auditSize] = tenantLine(auditSize)
	if r, err := audit(t, l, stateIn(file)); err != nil || r.Openings.Asked() != 1 || r.Openings.NotShown != 1 || r.NothingShown() {
		t.Errorf("%+v, %v: nothing shown, though earlier audits were", r.Openings, err)
	}
	if r, err := audit(t, sharedLog(t, 0)); err != nil || r.NothingShown() {
		t.Errorf("%v: nothing shown of an empty log", err)
	}
}

func erase(t *testing.T, opening []byte, by uint64, pointers ...string) []byte {
	t.Helper()
	o, err := seal.ParseOpening(opening)
	if err != nil {
		t.Fatal(err)
	}
	if o, err = o.Erase(by, pointers...); err != nil {
		t.Fatal(err)
	}
	return o.Bytes()
}

// TestAuditErasures: an erasure that nothing can have recorded isn't believed, and what is
// hidden is listed.
func TestAuditErasures(t *testing.T) {
	l := sharedLog(t, 300)
	l.openings[3] = erase(t, l.openings[3], 299, "/actor/id", "/labels/team")
	o, err := seal.ParseOpening(l.openings[4])
	if err != nil {
		t.Fatal(err)
	}
	if o, err = o.Withhold("/target/0/name"); err != nil {
		t.Fatal(err)
	}
	l.openings[4] = erase(t, o.Bytes(), 5, "/actor/id")
	for _, by := range []uint64{300, 7, 0, event.MaxInteger} {
		c := l.clone()
		c.openings[7] = erase(t, c.openings[7], by, "/actor/id")
		r, err := audit(t, c)
		if !errors.Is(err, ErrFailed) || r.FailureCount != 1 || r.Failures[0].Index != 7 || r.Openings.Failed != 1 {
			t.Errorf("erased by %d: %v", by, err)
		}
	}
	r, err := audit(t, l)
	want := OpeningCounts{Verified: 298, Redacted: 2, Withheld: 1, Erased: 2}
	if err != nil || *r.Openings != want || len(r.Redactions) != 2 {
		t.Fatalf("%+v, %v", r.Openings, err)
	}
	first, second := r.Redactions[0], r.Redactions[1]
	if first.Index != 3 || len(first.Withheld) != 0 || len(first.Erased) != 2 || first.Erased[1] != (Erasure{"/labels/team", 299}) {
		t.Errorf("%+v", first)
	}
	if second.Index != 4 || len(second.Withheld) != 1 || len(second.Erased) != 1 || second.Erased[0] != (Erasure{"/actor/id", 5}) {
		t.Errorf("%+v", second)
	}
}

// TestAuditErasedMeanwhile: an erasure that was recorded after the audit had read the head is
// no failure.
func TestAuditErasedMeanwhile(t *testing.T) {
	l := sharedLog(t, 5)
	grown := l.clone()
	grown.grow(7)
	l.openings[2] = erase(t, l.openings[2], 6, "/actor/id")
	src := &newHead{testLog: l, next: grown.files["checkpoint"]}
	r, err := audit(t, l, func(cfg *AuditConfig) { cfg.Source = src })
	if err != nil || r.Size != 5 || r.Openings.Erased != 1 {
		t.Errorf("%+v, %v", r.Openings, err)
	}
}

// newHead serves another checkpoint from the second time on.
type newHead struct {
	*testLog
	next []byte
}

func (s *newHead) Get(ctx context.Context, path string, limit int64) ([]byte, error) {
	b, err := s.testLog.Get(ctx, path, limit)
	if path == "checkpoint" {
		s.put(path, s.next)
	}
	return b, err
}

func TestAuditManyRedactions(t *testing.T) {
	l := sharedLog(t, auditSize)
	for i := range l.openings {
		l.openings[i] = erase(t, l.openings[i], auditSize+5, "/actor", "/target/0/name", "/job", "/labels")
	}
	grown := l.clone()
	grown.grow(auditSize + 10)
	l.put("checkpoint", grown.files["checkpoint"])
	for path, b := range grown.files {
		l.put(path, b)
	}
	l.leaves, l.openings = grown.leaves, grown.openings
	r, err := audit(t, l)
	if err != nil || r.Openings.Erased != auditSize || len(r.Redactions) != MaxListedRedactions || r.Redactions[19].Index != 19 {
		t.Fatalf("%+v, %d listed, %v", r.Openings, len(r.Redactions), err)
	}
}

// TestAuditTilesGone takes each tile away, with its bundle, for an audit that goes on from
// each kind of mark: nothing else is accused, and nothing falls over.
func TestAuditTilesGone(t *testing.T) {
	const size = 1100
	whole := sharedLog(t, size)
	for gone := range 5 {
		for _, opened := range []uint64{0, 1, 255, 256, 300, 511, 600, 1023, 1024, 1099, 1100} {
			l := whole.clone()
			tile := tileAt(0, uint64(gone), size)
			delete(l.files, tile.Path())
			delete(l.files, EntriesPath(tile.N, tile.Width))
			a := &auditor{cfg: AuditConfig{Source: l, Policy: l.policy, Openings: l, Workers: 1}, tiles: Tiles(l)}
			a.head, _, _ = l.policy.Verify(l.files["checkpoint"])
			u := &unit{start: 0, end: size}
			if err := (&worker{auditor: a}).check(t.Context(), u, opened); err != nil {
				t.Fatal(err)
			}
			first, width := tile.N*TileWidth, uint64(tile.Width)
			unchecked := uint64(0)
			if past := first + width; past > opened {
				unchecked = past - max(first, opened)
			}
			want := OpeningCounts{Verified: size - opened - unchecked, NotChecked: unchecked}
			if u.nfail != 2 || u.failures[0].Index != first || u.counts != want {
				t.Errorf("tile %d gone, from %d: %v, %+v, expected %+v", gone, opened, u.failures, u.counts, want)
			}
			if unchecked > 0 && (len(u.warnings) != 1 || u.warnings[0].Index != max(first, opened) || u.warnings[0].Count != unchecked) {
				t.Errorf("tile %d gone, from %d: warnings %v", gone, opened, u.warnings)
			}
		}
	}
}

// TestAuditStops: what was checked is what the report says was checked.
func TestAuditStops(t *testing.T) {
	for _, mark := range []int{0, 300} {
		for gone, want := range []uint64{0, 256, 512} {
			file := filepath.Join(t.TempDir(), "state")
			l := sharedLog(t, max(mark, 1))
			if _, err := audit(t, l, stateIn(file)); err != nil {
				t.Fatal(err)
			}
			l.grow(512)
			if _, err := audit(t, l, stateIn(file), noToken); err != nil {
				t.Fatal(err)
			}
			l.grow(auditSize)
			tile := tileAt(0, uint64(gone), auditSize)
			delete(l.files, tile.Path())
			delete(l.files, EntriesPath(tile.N, tile.Width))
			r, err := audit(t, l, stateIn(file))
			if gone == 0 && mark == 300 {
				if err != nil { // checked before, and nothing reads it
					t.Fatal(err)
				}
				continue
			}
			if !errors.Is(err, ErrFailed) || r.StoppedAt == nil || *r.StoppedAt != want || r.From+r.Entries != want {
				t.Errorf("mark %d, tile %d gone: from %d, %d entries, stopped at %v, %v", mark, gone, r.From, r.Entries, r.StoppedAt, err)
			}
			for _, f := range r.Failures {
				if f.Index != want {
					t.Errorf("mark %d, tile %d gone: accuses %s", mark, gone, f)
				}
			}
		}
	}
}

// floods answers for each entry with a line whose reason has a size.
type floods struct{ size int }

func (f floods) Openings(_ context.Context, start, count uint64) (io.ReadCloser, error) {
	pad := strings.Repeat(`\u0001`, f.size/6)
	r, w := io.Pipe()
	go func() {
		for i := start; i < start+count; i++ {
			if _, err := fmt.Fprintf(w, `{"index":%d,"opening":null,"reason":"%s"}`+"\n", i, pad); err != nil {
				return
			}
		}
		w.Close()
	}()
	return r, nil
}

// TestAuditFlood: no server fills a report with its own words.
func TestAuditFlood(t *testing.T) {
	l := sharedLog(t, 300)
	for _, size := range []int{600, MaxOpeningLine - 100, MaxOpeningLine + 100} {
		r, err := audit(t, l, func(cfg *AuditConfig) { cfg.Openings = floods{size} })
		n := len(err.Error())
		for _, f := range r.Failures {
			n += len(f.Reason)
		}
		if !errors.Is(err, ErrFailed) || r.FailureCount != 300 || n > 100*MaxListed {
			t.Errorf("reasons of %d bytes: %d failures, %d bytes of report", size, r.FailureCount, n)
		}
	}
	if _, _, err := FetchReceipt(t.Context(), l, floods{600}, l.policy, 1); !errors.Is(err, ErrFailed) || len(err.Error()) > 200 {
		t.Errorf("one entry: %v", err)
	}
	if got := clip(strings.Repeat("é", 1000)); len(got) > 410 || strings.ContainsRune(got, '\uFFFD') {
		t.Errorf("clipped to %q", got)
	}
}

func TestParseOpeningLineReasons(t *testing.T) {
	for _, good := range []string{ReasonTenant, ReasonMissing} {
		line := AppendOpeningLine(nil, OpeningLine{Index: 7, Reason: good})
		if l, err := ParseOpeningLine(line[:len(line)-1]); err != nil || l.Reason != good || l.Opening != nil {
			t.Errorf("%s: %+v, %v", line, l, err)
		}
	}
	for _, bad := range []string{`null`, `null,"reason":"lunch"`, `null,"reason":""`, `null,"reason": "tenant"`, `null,"reason":"\u0074enant"`, `null,"reason":"tenant","x":1`, `null,"reason":null`} {
		if l, err := ParseOpeningLine([]byte(`{"index":7,"opening":` + bad + `}`)); err == nil {
			t.Errorf("%s: %+v", bad, l)
		}
	}
}

// TestAuditYearZero: a time that means "none" to package time is no way around the order.
func TestAuditYearZero(t *testing.T) {
	for _, at := range []string{"0001-01-01T00:00:00Z", "0000-01-01T00:00:00Z", "1969-12-31T23:59:59Z"} {
		for _, i := range []int{0, 256} {
			l := sharedLog(t, 300)
			l.leaves[i] = append(append(bytes.Clone(l.leaves[i][:timeAt]), at...), leafTail...)
			l.publish()
			r, err := audit(t, l, noToken)
			if !errors.Is(err, ErrFailed) || r.FailureCount != 1 || r.Failures[0].Index != uint64(i) {
				t.Errorf("%s at %d: %v", at, i, err)
			}
		}
	}
	l := sharedLog(t, 300)
	l.leaves[256] = append(append(bytes.Clone(l.leaves[256][:timeAt]), "1970-01-01T00:00:00Z"...), leafTail...)
	l.publish()
	if r, err := audit(t, l, noToken); err != nil || r.WarningCount != 1 || r.Warnings[0].Index != 256 {
		t.Errorf("1970: %+v, %v", r.Warnings, err)
	}
}

// dropping hides tiles of level 0 and 1 from the first readers.
type dropping struct {
	*testLog
	n atomic.Int64 // how many reads
}

func drop(l *testLog, reads int) *dropping {
	d := &dropping{testLog: l}
	d.n.Store(int64(reads))
	return d
}

func (d *dropping) Get(ctx context.Context, path string, limit int64) ([]byte, error) {
	if strings.HasPrefix(path, "tile/0/") || strings.HasPrefix(path, "tile/1/") {
		if d.n.Add(-1) >= 0 {
			return nil, fmt.Errorf("get %s: %w", path, fs.ErrNotExist)
		}
	}
	return d.testLog.Get(ctx, path, limit)
}

// TestAuditForkHidden: the tiles that would show a fork at once are gone for a while. The
// entries show it all the same, and the state holds on to the old head.
func TestAuditForkHidden(t *testing.T) {
	for _, sizes := range [][2]int{{5, 7}, {600, 1100}} {
		for reads := range 12 {
			file := filepath.Join(t.TempDir(), "state")
			l := sharedLog(t, sizes[0])
			if _, err := audit(t, l, stateIn(file)); err != nil {
				t.Fatal(err)
			}
			before, _ := os.ReadFile(file)
			fork := forked(t, l, sizes[0]-2)
			clear(fork.files)
			fork.grow(sizes[1])
			r, err := audit(t, fork, stateIn(file), func(cfg *AuditConfig) {
				cfg.Source, cfg.SaveEvery, cfg.Workers = drop(fork, reads), 1, 8
			})
			if !errors.Is(err, ErrFailed) || r.Evidence == nil || r.History.Status != HistoryContradicts {
				t.Errorf("%v, %d dropped: %v, %+v", sizes, reads, err, r)
			}
			if after, _ := os.ReadFile(file); !bytes.Equal(after, before) {
				t.Errorf("%v, %d dropped: the state moved", sizes, reads)
			}
		}
	}
}

// TestAuditHistory: a report says what the head was compared with.
func TestAuditHistory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state")
	l := sharedLog(t, 300)
	for _, tt := range []struct {
		state string
		size  int
		want  History
	}{
		{"", 300, History{Status: HistoryNone}},
		{file, 300, History{Status: HistoryFirst}},
		{file, 300, History{HistoryExtends, 300}},
		{file, 600, History{HistoryExtends, 300}},
	} {
		l.grow(tt.size)
		if r, err := audit(t, l, stateIn(tt.state)); err != nil || r.History != tt.want {
			t.Errorf("%q at %d: %+v, %v", tt.state, tt.size, r.History, err)
		}
	}
	l.grow(1200)
	r, err := audit(t, l, stateIn(file), func(cfg *AuditConfig) { cfg.Source = drop(l, 4) })
	if err != nil && !errors.Is(err, ErrFailed) || err == nil && r.History != (History{HistoryExtends, 600}) {
		t.Errorf("%+v, %v", r.History, err)
	}
	l.edit("checkpoint", len(l.files["checkpoint"])-10)
	if r, err = audit(t, l, stateIn(file)); !errors.Is(err, ErrFailed) || r.History.Status != HistoryUnproven {
		t.Errorf("%+v, %v", r.History, err)
	}
}

// TestAuditStateNowhere: that the state can't be kept is found out before anything is read.
func TestAuditStateNowhere(t *testing.T) {
	l := sharedLog(t, 300)
	_, err := audit(t, l, stateIn(filepath.Join(t.TempDir(), "no", "state")))
	if err == nil || errors.Is(err, ErrFailed) || len(l.reads) > 0 {
		t.Errorf("%v, after reading %v", err, l.reads)
	}
}

func TestFetchReceiptEmpty(t *testing.T) {
	l := sharedLog(t, 0)
	if _, _, err := FetchReceipt(t.Context(), l, nil, l.policy, 0); err == nil || err.Error() != "entry 0: the log is empty, by its checkpoint" {
		t.Errorf("%v", err)
	}
}
