package verifier

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/verifier/event"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

// say appends an event of a source to a log, or one of its accounts.
func (l *testLog) say(source, seq, more string) {
	l.t.Helper()
	what := `"action":"auth.login","outcome":"success"`
	if more != "" {
		what = more
	}
	at := testStart.Add(time.Duration(len(l.leaves)) * time.Second)
	f, err := event.Parse(fmt.Appendf(nil, `{"schema":"prooftrail.event/1","id":"e-%d","source":%q,%s"time":%q,%s,"actor":{"type":"service","id":"cron"},"target":[{"type":"source","id":%q}]}`,
		len(l.leaves), source, seq, at.Format(time.RFC3339), what, source))
	if err == nil {
		f, err = f.Stamp(event.Stamp{Tenant: "default", ReceivedAt: at})
	}
	if err != nil {
		l.t.Fatal(err)
	}
	c, err := seal.Commit(f, nil)
	if err != nil {
		l.t.Fatal(err)
	}
	s := c.At(at)
	l.leaves, l.openings = append(l.leaves, s.Leaf), append(l.openings, s.Opening)
}

func (l *testLog) number(source string, seqs ...uint64) {
	for _, n := range seqs {
		l.say(source, fmt.Sprintf(`"seq":"%d",`, n), "")
	}
}

func (l *testLog) beat(source string, seq, count, interval uint64) {
	l.say(source, fmt.Sprintf(`"seq":"%d",`, seq), fmt.Sprintf(
		`"action":"audit.heartbeat","outcome":"success","details":{"last_seq":"%d","count":"%d","interval_s":"%d"}`, seq-1, count, interval))
}

func (l *testLog) drop(source string, seq, first, last, count uint64) {
	l.say(source, fmt.Sprintf(`"seq":"%d",`, seq), fmt.Sprintf(
		`"action":"audit.dropped","outcome":"failure","reason":{"code":"dropped"},"details":{"first_seq":"%d","last_seq":"%d","count":"%d"}`, first, last, count))
}

func upTo(from, to uint64) (all []uint64) {
	for n := from; n <= to; n++ {
		all = append(all, n)
	}
	return all
}

func TestSources(t *testing.T) {
	const a = "cron://a/"
	cases := map[string]struct {
		say        func(l *testLog)
		want       SourceReport
		suspicious bool
	}{
		"no gaps":     {func(l *testLog) { l.number(a, upTo(1, 300)...) }, SourceReport{Events: 300, FirstSeq: 1, LastSeq: 300}, false},
		"one":         {func(l *testLog) { l.number(a, 7) }, SourceReport{Events: 1, FirstSeq: 7, LastSeq: 7}, false},
		"from 0":      {func(l *testLog) { l.number(a, 0, 1) }, SourceReport{Events: 2, FirstSeq: 0, LastSeq: 1}, false},
		"a gap":       {func(l *testLog) { l.number(a, 1, 2, 5) }, SourceReport{Events: 3, FirstSeq: 1, LastSeq: 5, Missing: 2, Gaps: []SeqGap{{3, 4}}}, true},
		"filled":      {func(l *testLog) { l.number(a, 1, 4, 3, 2, 5) }, SourceReport{Events: 5, FirstSeq: 1, LastSeq: 5}, false},
		"split":       {func(l *testLog) { l.number(a, 1, 7, 4) }, SourceReport{Events: 3, FirstSeq: 1, LastSeq: 7, Missing: 4, Gaps: []SeqGap{{2, 3}, {5, 6}}}, true},
		"before":      {func(l *testLog) { l.number(a, 5, 3, 4) }, SourceReport{Events: 3, FirstSeq: 3, LastSeq: 5}, false},
		"twice":       {func(l *testLog) { l.number(a, 1, 2, 3, 2) }, SourceReport{Events: 4, FirstSeq: 1, LastSeq: 3, Repeated: 1}, true},
		"first twice": {func(l *testLog) { l.number(a, 1, 1) }, SourceReport{Events: 2, FirstSeq: 1, LastSeq: 1, Repeated: 1}, true},
		"dropped": {func(l *testLog) { l.number(a, 1, 5); l.drop(a, 6, 2, 4, 3) },
			SourceReport{Events: 3, FirstSeq: 1, LastSeq: 6, Missing: 3, Dropped: 3, Gaps: []SeqGap{{2, 4}}}, false},
		"dropped, and another gap": {func(l *testLog) { l.number(a, 1, 6); l.drop(a, 7, 2, 4, 3) },
			SourceReport{Events: 3, FirstSeq: 1, LastSeq: 7, Missing: 4, Dropped: 3, Gaps: []SeqGap{{2, 5}}}, true},
		"heartbeats": {func(l *testLog) { l.number(a, 1); l.beat(a, 2, 1, 2); l.number(a, 3); l.beat(a, 4, 3, 2) },
			SourceReport{Events: 4, FirstSeq: 1, LastSeq: 4, Heartbeat: &Heartbeat{Index: 3, LastSeq: 3, Count: 3, Interval: 2}}, false},
		"a silence": {func(l *testLog) { l.beat(a, 1, 0, 2); l.number(a, upTo(2, 5)...); l.beat(a, 6, 5, 2) },
			SourceReport{Events: 6, FirstSeq: 1, LastSeq: 6, Silences: 1, Longest: 5, Heartbeat: &Heartbeat{Index: 5, LastSeq: 5, Count: 5, Interval: 2}}, true},
		"silent now": {func(l *testLog) { l.beat(a, 1, 0, 2); l.number("cron://b/", upTo(1, 5)...) },
			SourceReport{Events: 1, FirstSeq: 1, LastSeq: 1, Silent: true, Heartbeat: &Heartbeat{Index: 0, Count: 0, Interval: 2}}, true},
		"counted": {func(l *testLog) { l.number(a, upTo(1, 20)...); l.beat(a, 21, 20, 2) },
			SourceReport{Events: 21, FirstSeq: 1, LastSeq: 21, Heartbeat: &Heartbeat{Index: 20, LastSeq: 20, Count: 20, Interval: 2}}, false},
		// What the source lost was reported, but twice, and as much is missing besides: only the count tells.
		"dropped once, counted twice": {func(l *testLog) {
			l.number(a, 1, 2, 7)
			l.drop(a, 8, 3, 4, 2)
			l.drop(a, 9, 3, 4, 2)
			l.beat(a, 10, 7, 2)
		},
			SourceReport{Events: 6, FirstSeq: 1, LastSeq: 10, Missing: 4, Dropped: 4, Gaps: []SeqGap{{3, 6}}, Short: 2,
				Heartbeat: &Heartbeat{Index: 5, LastSeq: 9, Count: 7, Interval: 2, Held: held(5)}}, true},
		"lost after it was counted": {func(l *testLog) { l.number(a, 1, 3); l.beat(a, 4, 3, 2); l.drop(a, 5, 2, 2, 1) },
			SourceReport{Events: 4, FirstSeq: 1, LastSeq: 5, Missing: 1, Dropped: 1, Gaps: []SeqGap{{2, 2}},
				Heartbeat: &Heartbeat{Index: 2, LastSeq: 3, Count: 3, Interval: 2, Held: held(2), LostSince: 1}}, false},
		"lost after it was counted, and another": {func(l *testLog) { l.number(a, 1, 4); l.beat(a, 5, 4, 2); l.drop(a, 6, 2, 2, 1) },
			SourceReport{Events: 4, FirstSeq: 1, LastSeq: 6, Missing: 2, Dropped: 1, Gaps: []SeqGap{{2, 3}}, Short: 1,
				Heartbeat: &Heartbeat{Index: 2, LastSeq: 4, Count: 4, Interval: 2, Held: held(2), LostSince: 1}}, true},
		"late": {func(l *testLog) { l.number(a, 1, 2); l.beat(a, 5, 4, 2); l.number(a, 4, 3) },
			SourceReport{Events: 5, FirstSeq: 1, LastSeq: 5, Heartbeat: &Heartbeat{Index: 2, LastSeq: 4, Count: 4, Interval: 2}}, false},
		"a heartbeat that is late": {func(l *testLog) { l.number(a, 1, 2, 5, 4); l.beat(a, 3, 2, 4) },
			SourceReport{Events: 5, FirstSeq: 1, LastSeq: 5, Heartbeat: &Heartbeat{Index: 4, LastSeq: 2, Count: 2, Interval: 4}}, false},
		"more than it says": {func(l *testLog) { l.number(a, 1, 2, 3); l.beat(a, 4, 2, 2) },
			SourceReport{Events: 4, FirstSeq: 1, LastSeq: 4, Surplus: 1, Heartbeat: &Heartbeat{Index: 3, LastSeq: 3, Count: 2, Interval: 2, Held: held(3)}}, true},
		"from 0, counted": {func(l *testLog) { l.number(a, 0, 1, 2); l.beat(a, 3, 2, 2) },
			SourceReport{Events: 4, FirstSeq: 0, LastSeq: 3, Heartbeat: &Heartbeat{Index: 3, LastSeq: 2, Count: 2, Interval: 2, Held: held(3)}}, false},
		"begun in another log": {func(l *testLog) { l.number(a, upTo(101, 109)...); l.beat(a, 110, 109, 2) },
			SourceReport{Events: 10, FirstSeq: 101, LastSeq: 110, Heartbeat: &Heartbeat{Index: 9, LastSeq: 109, Count: 109, Interval: 2, Held: held(9)}}, false},
		"begun in another log, and a gap": {func(l *testLog) { l.number(a, upTo(101, 108)...); l.beat(a, 110, 109, 2) },
			SourceReport{Events: 9, FirstSeq: 101, LastSeq: 110, Missing: 1, Gaps: []SeqGap{{109, 109}}, Short: 1,
				Heartbeat: &Heartbeat{Index: 8, LastSeq: 109, Count: 109, Interval: 2, Held: held(8)}}, true},
		"many gaps": {func(l *testLog) {
			for n := range uint64(20) {
				l.number(a, 2*n+1)
			}
			l.beat(a, 40, 39, 2)
		}, SourceReport{Events: 21, FirstSeq: 1, LastSeq: 40, Missing: 19, Gaps: oddGaps(MaxListedGaps), Short: 19,
			Heartbeat: &Heartbeat{Index: 20, LastSeq: 39, Count: 39, Interval: 2, Held: held(20)}}, true},
		"not numbered": {func(l *testLog) { l.say(a, "", ""); l.number(a, 1); l.say(a, "", "") }, SourceReport{Events: 1, FirstSeq: 1, LastSeq: 1}, false},
	}
	for _, name := range slices.Sorted(maps.Keys(cases)) {
		c := cases[name]
		t.Run(name, func(t *testing.T) {
			l := newTestLog(t, 0)
			c.say(l)
			l.publish()
			r, err := audit(t, l)
			if err != nil || len(r.Sources) == 0 {
				t.Fatalf("%+v, %v", r, err)
			}
			got := r.Sources[0]
			if got.Heartbeat != nil && c.want.Heartbeat != nil {
				at := testStart.Add(time.Duration(got.Heartbeat.Index) * time.Second)
				c.want.Heartbeat.Time, c.want.Heartbeat.Logged = at, at
				if c.want.Heartbeat.Held == nil {
					c.want.Heartbeat.Held = held(c.want.Heartbeat.Count)
				}
			}
			c.want.Tenant, c.want.Source = "default", a
			if text, want := show(got), show(c.want); text != want {
				t.Errorf("got %s\nwant %s", text, want)
			}
			if got.Suspicious() != c.suspicious {
				t.Errorf("suspicious: %v", got.Suspicious())
			}
		})
	}
}

func held(n uint64) *uint64 { return &n }

// oddGaps are the gaps between odd numbers.
func oddGaps(n uint64) (gaps []SeqGap) {
	for i := range n {
		gaps = append(gaps, SeqGap{2*i + 2, 2*i + 2})
	}
	return gaps
}

// TestHeld: whatever numbers come in whatever order, what a heartbeat is told to be held is what there is, or nothing is said.
func TestHeld(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	told := 0
	for range 3000 {
		var r SourceReport
		there := map[uint64]bool{}
		for range 1 + rng.IntN(60) {
			n := 1 + rng.Uint64N(80)
			there[n] = true
			r.number(n)
		}
		last := rng.Uint64N(82)
		var want uint64
		for n := range there {
			if n <= last {
				want++
			}
		}
		got := r.held(last)
		if r.Repeated > 0 && r.Missing > 0 { // beyond the listed gaps a repetition may pass for what was missing
			continue
		}
		if got == nil {
			continue
		}
		if told++; *got != want {
			t.Fatalf("%d are held up to %d, want %d: %+v", *got, last, want, r)
		}
	}
	if told < 300 {
		t.Errorf("only %d times something was told", told)
	}
}

// TestHeartbeatAhead: one heartbeat of a clock that was ahead doesn't hide those that follow.
func TestHeartbeatAhead(t *testing.T) {
	var r SourceReport
	for n := range uint64(5) {
		at := testStart.Add(time.Duration(n) * time.Second)
		h := Heartbeat{Index: n, Time: at, Logged: at, LastSeq: n, Count: n, Interval: 1}
		if n == 1 {
			h.Time = at.AddDate(10, 0, 0)
		}
		r.number(n + 1)
		r.beat(h)
	}
	if r.Heartbeat.Index != 4 || r.Silences != 1 {
		t.Errorf("%+v, last %+v", r, r.Heartbeat)
	}
}

func show(r SourceReport) string {
	h := "none"
	if r.Heartbeat != nil {
		own, n := *r.Heartbeat, "?"
		if own.Held != nil {
			n = fmt.Sprint(*own.Held)
		}
		own.Held = nil
		h = fmt.Sprintf("%+v, held %s", own, n)
	}
	r.Heartbeat = nil
	return fmt.Sprintf("%+v, heartbeat %s", r, h)
}

// Sources are counted on over audits with one state, wherever the one before ended, and what a later audit says is what one
// audit of the whole log says.
func TestSourcesState(t *testing.T) {
	const a = "cron://a/"
	whole := newTestLog(t, 0)
	file := filepath.Join(t.TempDir(), "audit.state")
	for seq := uint64(1); seq <= 40; seq++ {
		n := len(whole.leaves)
		switch {
		case seq%7 == 3:
			continue
		case seq%10 == 0:
			whole.beat(a, seq, seq-1-seq/7, 3)
		default:
			whole.number(a, seq)
		}
		for range 30 { // across tiles
			whole.say("cron://b/", "", "")
		}
		if hidden := seq == 17; hidden { // kept back once, so that it is asked for again
			whole.lines[uint64(n)] = fmt.Sprintf(`{"index":%d,"opening":null,"reason":"tenant"}`, n)
		} else {
			clear(whole.lines)
		}
		whole.publish()
		if _, err := audit(t, whole, stateIn(file)); err != nil {
			t.Fatal(err)
		}
	}
	r, err := audit(t, whole, stateIn(file))
	if err != nil || r.Entries != 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	now := func(cfg *AuditConfig) { cfg.Now = testStart }
	r, err = audit(t, whole, stateIn(file), now)
	if err != nil {
		t.Fatal(err)
	}
	once, err := audit(t, whole, now)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := show(r.Sources[0]), show(once.Sources[0]); got != want {
		t.Errorf("step by step %s\nat once %s", got, want)
	}
	if s := once.Sources[0]; s.Missing != 6 || len(s.Gaps) != 6 || s.Events != 34 || s.Silences == 0 {
		t.Errorf("%+v", s)
	}
}

// TestSourcesBounded: whoever submits can't fill the auditor's memory, nor make a state that can't be read again.
func TestSourcesBounded(t *testing.T) {
	s := newSources()
	for i := range 100_000 {
		s.add(&sourceEvent{tenant: "default", source: fmt.Sprintf("cron://%0500d", i), seq: 1})
	}
	if s.more == 0 || len(s.by)+int(s.more) != 100_000 {
		t.Fatalf("%d sources, %d more", len(s.by), s.more)
	}
	for _, r := range s.by {
		for n := range uint64(100) {
			r.number(1<<63 + 2*n)
		}
		if r.Missing != 1<<63-2+99 || len(r.Gaps) != MaxListedGaps {
			t.Fatalf("%+v", r)
		}
		r.Heartbeat = &Heartbeat{Index: 1 << 62, Time: testStart, Logged: testStart, LastSeq: 1 << 62, Count: 1 << 62, Interval: 1 << 62, Held: held(1 << 62), LostSince: 1 << 62}
	}
	m := &mark{tree: new(CompactRange), sources: s}
	b, err := (&auditState{checked: m, opened: m}).bytes()
	if err != nil || len(b) > maxStateBytes {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	again, err := parseState(b)
	if err != nil || len(again.opened.sources.by) != len(s.by) || again.opened.sources.more != s.more {
		t.Error(err)
	}
}
