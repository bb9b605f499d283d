package verifier

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prooftrail/prooftrail/verifier/event"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

const (
	// MaxListedGaps is how many gaps a report lists of one source; it counts all.
	MaxListedGaps = 16
	// maxSourceBytes bounds what is kept of sources: whoever can submit can make some up.
	maxSourceBytes = 512 << 10
)

// SourceReport says what the entries show of one source: whether its numbers (seq) have gaps,
// whether it signs off with heartbeats (audit.heartbeat), and whether the log holds as many events as these count. An event that was never submitted can't be shown
// to be missing in any other way.
//
// It is about all entries whose openings were checked, by this audit and by those before it with the same state.
type SourceReport struct {
	Tenant string `json:"tenant"`
	Source string `json:"source"`

	Events   uint64 `json:"events"`    // that have a seq
	FirstSeq uint64 `json:"first_seq"` // the smallest
	LastSeq  uint64 `json:"last_seq"`  // the largest

	// Missing is how many numbers between these no entry has; Gaps are where the first of them are,
	// by number.
	Missing uint64   `json:"missing"`
	Gaps    []SeqGap `json:"gaps,omitempty"`
	// Dropped is how many of its events the source itself has said won't come (audit.dropped).
	Dropped uint64 `json:"dropped"`
	// Repeated is how many entries have a number that another one had before: the source began to count anew, or two
	// share its name.
	Repeated uint64 `json:"repeated"`

	// Heartbeat is its last one; nil if it never sent one.
	Heartbeat *Heartbeat `json:"heartbeat,omitempty"`
	// Short is how many of the events that the last heartbeat counts are not in the log, nor said to be lost
	// since, nor possibly from before FirstSeq, which may be in a log before this one. Surplus is how many the log holds
	// that it doesn't count: somebody else writes under its name, or the source has lost its count.
	Short   uint64 `json:"short"`
	Surplus uint64 `json:"surplus"`
	// Silences is how often no heartbeat came for more than twice as long as the source had said, by its own
	// clock, and Longest the longest of them in seconds.
	Silences uint64 `json:"silences"`
	Longest  uint64 `json:"longest_silence_s,omitempty"`
	// Silent: the next heartbeat is overdue, likewise, when the audit was made.
	Silent bool `json:"silent"`
}

// SeqGap is a run of numbers that no entry has, both ends included.
type SeqGap struct {
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
}

// Heartbeat is what a source has signed off with.
type Heartbeat struct {
	Index    uint64    `json:"index"`      // of the entry
	Time     time.Time `json:"time"`       // by the source's clock
	Logged   time.Time `json:"logged"`     // by the log's
	LastSeq  uint64    `json:"last_seq"`   // the last number used before it
	Count    uint64    `json:"count"`      // how many events that were
	Interval uint64    `json:"interval_s"` // in how many seconds the next one is due; 0 if it doesn't say

	// Held is how many events with numbers up to LastSeq the log holds; nil if that can't be told. LostSince is
	// how many of them the source has said since to be lost.
	Held      *uint64 `json:"held,omitempty"`
	LostSince uint64  `json:"lost_since,omitempty"`
}

// Unaccounted is how many events are missing beyond those that the source says it has dropped itself.
func (r *SourceReport) Unaccounted() uint64 { return r.Missing - min(r.Missing, r.Dropped) }

// Suspicious reports whether somebody should ask the source's owner.
func (r *SourceReport) Suspicious() bool {
	return r.Unaccounted() > 0 || r.Repeated > 0 || r.Short > 0 || r.Surplus > 0 || r.Silences > 0 || r.Silent
}

// sourceEvent is what a source's tally needs of an entry.
type sourceEvent struct {
	index          uint64
	tenant, source string
	seq            uint64
	account        *account // if it is one
}

// account is what a source says of itself, and when.
type account struct {
	event.Account
	time, logged time.Time
}

// sourceEvent reads it from an opening; ok is false if the entry has no number that is shown.
func (w *worker) sourceEvent(o *seal.Opening, index uint64) (e sourceEvent, ok bool) {
	seq := o.Text("/seq")
	if seq == "" {
		return e, false
	}
	n, err := strconv.ParseUint(seq, 10, 64)
	if err != nil {
		return e, false
	}
	e = sourceEvent{index: index, tenant: w.name(o.Text("/tenant")), source: w.name(o.Text("/source")), seq: n}
	if strings.HasPrefix(o.Text("/action"), "audit.") {
		if a, ok := event.ReadAccount(o.Event()); ok {
			e.account = &account{Account: a, logged: o.Time}
			e.account.time, _ = time.Parse(time.RFC3339Nano, o.Text("/time")) // it is of that form: the schema was checked
		}
	}
	return e, true
}

// name keeps one copy of each name, as there are few of them and many events.
func (w *worker) name(s string) string {
	if same, ok := w.names[s]; ok {
		return same
	}
	if w.names == nil || len(w.names) >= 1024 {
		w.names = map[string]string{}
	}
	w.names[s] = s
	return s
}

type sourceKey struct{ tenant, source string }

// sources is the tally of all sources.
type sources struct {
	by    map[sourceKey]*SourceReport
	bytes int
	more  uint64 // events of sources that there was no room for
}

func newSources() *sources { return &sources{by: map[sourceKey]*SourceReport{}} }

func (s *sources) clone() *sources {
	c := &sources{by: maps.Clone(s.by), bytes: s.bytes, more: s.more}
	for key, r := range c.by {
		own := *r
		own.Gaps = slices.Clone(r.Gaps)
		c.by[key] = &own
	}
	return c
}

// add takes the next event.
func (s *sources) add(e *sourceEvent) {
	key := sourceKey{e.tenant, e.source}
	r := s.by[key]
	if r == nil {
		size := 1024 + 2*(len(e.tenant)+len(e.source)) // with its gaps, as JSON
		if s.bytes+size > maxSourceBytes {
			s.more++
			return
		}
		s.bytes += size
		r = &SourceReport{Tenant: e.tenant, Source: e.source}
		s.by[key] = r
	}
	r.number(e.seq)
	switch a := e.account; {
	case a == nil:
	case a.Action == event.ActionDropped:
		r.Dropped += a.Dropped
		if h := r.Heartbeat; h != nil && a.FirstDropped <= h.LastSeq {
			own := *h
			own.LostSince += a.Dropped
			r.Heartbeat = &own
		}
	default:
		r.beat(Heartbeat{Index: e.index, Time: a.time, Logged: a.logged, LastSeq: a.LastSeq, Count: a.Count, Interval: a.Interval,
			Held: r.held(a.LastSeq)})
	}
}

// number takes note of the number of an event. They may come out of order: two servers that write one
// log may exchange what lies close together.
func (r *SourceReport) number(seq uint64) {
	r.Events++
	switch {
	case r.Events == 1:
		r.FirstSeq, r.LastSeq = seq, seq
	case seq > r.LastSeq:
		r.miss(r.LastSeq+1, seq-1)
		r.LastSeq = seq
	case seq < r.FirstSeq:
		r.miss(seq+1, r.FirstSeq-1)
		r.FirstSeq = seq
		r.late(seq)
	default:
		if r.fill(seq) {
			r.late(seq)
		} else {
			r.Repeated++
		}
	}
}

// late counts an event that came after a heartbeat with a larger number.
func (r *SourceReport) late(seq uint64) {
	if h := r.Heartbeat; h != nil && h.Held != nil && seq <= h.LastSeq {
		own, held := *h, *h.Held+1
		own.Held = &held
		r.Heartbeat = &own
	}
}

// held is how many events there are with numbers up to last; nil if the gaps that aren't listed may be on either side of
// it.
func (r *SourceReport) held(last uint64) *uint64 {
	var n, listed, end uint64
	if last >= r.FirstSeq {
		n = min(last, r.LastSeq) - r.FirstSeq + 1
	}
	for _, g := range r.Gaps {
		listed, end = listed+g.Last-g.First+1, g.Last
		if g.First <= last {
			n -= min(g.Last, last) - g.First + 1
		}
	}
	if more := r.Missing - listed; more > 0 && last > end {
		if r.LastSeq-1 > last {
			return nil
		}
		n -= more // nothing is missing behind the last one
	}
	return &n
}

// compare says how what the last heartbeat counts differs from what the log holds.
func (r *SourceReport) compare() (short, surplus uint64) {
	h := r.Heartbeat
	if h == nil || h.Held == nil {
		return 0, 0
	}
	zeroth := uint64(0) // numbers begin at 1, but for a source that has an event 0: its count is at most LastSeq
	if r.FirstSeq == 0 {
		zeroth = 1
	}
	if held := *h.Held - min(*h.Held, zeroth); held > h.Count {
		return 0, held - h.Count
	}
	known := *h.Held
	for _, n := range []uint64{r.FirstSeq - min(r.FirstSeq, 1), h.LostSince} {
		known += min(n, ^uint64(0)-known)
	}
	return h.Count - min(h.Count, known), 0
}

// miss notes a gap, if it is one.
func (r *SourceReport) miss(first, last uint64) {
	if first > last {
		return
	}
	r.Missing += last - first + 1
	r.Gaps = append(r.Gaps, SeqGap{first, last})
	slices.SortFunc(r.Gaps, func(a, b SeqGap) int {
		if a.First < b.First {
			return -1
		}
		return 1
	})
	r.Gaps = r.Gaps[:min(len(r.Gaps), MaxListedGaps)]
}

// fill takes a number out of the gaps, and reports whether it was missing. One that is in none of them is a repetition,
// unless it may be in a gap that isn't listed.
func (r *SourceReport) fill(seq uint64) bool {
	var listed uint64
	for i, g := range r.Gaps {
		listed += g.Last - g.First + 1
		if seq < g.First || seq > g.Last {
			continue
		}
		r.Missing--
		r.Gaps = slices.Delete(r.Gaps, i, i+1)
		before, behind := r.Missing, SeqGap{seq + 1, g.Last}
		if g.First < seq {
			r.miss(g.First, seq-1)
		}
		if behind.First <= behind.Last {
			r.miss(behind.First, behind.Last)
		}
		r.Missing = before // what is left of it was counted
		return true
	}
	last := uint64(0)
	if n := len(r.Gaps); n > 0 {
		last = r.Gaps[n-1].Last
	}
	if r.Missing > listed && seq > last {
		r.Missing--
		return true
	}
	return false
}

// beat takes a heartbeat.
func (r *SourceReport) beat(h Heartbeat) {
	if last := r.Heartbeat; last != nil {
		if d := h.Time.Sub(last.Time); overdue(last.Interval, d) {
			r.Silences++
			r.Longest = max(r.Longest, uint64(d/time.Second))
		}
	}
	if r.Heartbeat == nil || h.LastSeq > r.Heartbeat.LastSeq || h.Time.After(r.Heartbeat.Time) { // a clock may have been ahead
		r.Heartbeat = &h
	}
}

// overdue reports whether d is more than twice the interval in seconds.
func overdue(interval uint64, d time.Duration) bool {
	return interval > 0 && d > 0 && uint64(d/time.Second)/2 >= interval && uint64(d) > interval*2*uint64(time.Second)
}

// report lists the sources, those that are suspicious first.
func (s *sources) report(now time.Time) (list []SourceReport) {
	for _, r := range s.by {
		own := *r
		own.Gaps = slices.Clone(r.Gaps)
		own.Short, own.Surplus = r.compare()
		own.Silent = r.Heartbeat != nil && overdue(r.Heartbeat.Interval, now.Sub(r.Heartbeat.Logged))
		list = append(list, own)
	}
	slices.SortFunc(list, func(a, b SourceReport) int {
		if a.Suspicious() != b.Suspicious() {
			if a.Suspicious() {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Tenant+"\x00"+a.Source, b.Tenant+"\x00"+b.Source)
	})
	return list
}

// sourcesJSON is the tally in a state file.
type sourcesJSON struct {
	Sources []SourceReport `json:"sources"`
	More    uint64         `json:"more"`
}

func (s *sources) json() *sourcesJSON {
	if s == nil || len(s.by) == 0 {
		return nil
	}
	j := &sourcesJSON{More: s.more}
	for _, key := range slices.SortedFunc(maps.Keys(s.by), func(a, b sourceKey) int {
		return strings.Compare(a.tenant+"\x00"+a.source, b.tenant+"\x00"+b.source)
	}) {
		j.Sources = append(j.Sources, *s.by[key])
	}
	return j
}

// sources reads the tally of a state file; there is none in one of an earlier version.
func (j *sourcesJSON) sources() (*sources, error) {
	s := newSources()
	if j == nil {
		return s, nil
	}
	s.more = j.More
	for i := range j.Sources {
		r := j.Sources[i]
		key := sourceKey{r.Tenant, r.Source}
		if s.by[key] != nil || r.Events == 0 || r.FirstSeq > r.LastSeq || len(r.Gaps) > MaxListedGaps {
			return nil, fmt.Errorf("source %d: it contradicts itself, or comes twice", i)
		}
		var listed uint64
		last := r.FirstSeq
		for _, g := range r.Gaps {
			if g.First <= last || g.First > g.Last || g.Last >= r.LastSeq {
				return nil, errors.New("a gap outside its source's numbers")
			}
			listed += g.Last - g.First + 1
			last = g.Last
		}
		if listed > r.Missing {
			return nil, errors.New("more gaps than are missing")
		}
		s.by[key] = &r
		s.bytes += 1024 + 2*(len(r.Tenant)+len(r.Source))
	}
	return s, nil
}
