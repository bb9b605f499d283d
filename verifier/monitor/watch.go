package monitor

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/monitor/alarm"
)

// The alarms about a log. docs/operate/monitor.md says what each means and what to do.
const (
	alarmFork        = "fork"               // proven: there is evidence
	alarmUnproven    = "unproven-head"      // a signed head that can't be brought together with the others
	alarmBadEntries  = "bad-entries"        // what the log serves isn't what it signed
	alarmRefused     = "refused-head"       // what it serves as its head is none
	alarmNonsense    = "signed-nonsense"    // the log's key has signed something that is no head
	alarmBack        = "went-back"          // it serves an older head than before
	alarmStale       = "stale-head"         // others have a larger head
	alarmUnread      = "unread-entries"     // entries can't be read
	alarmUnreachable = "log-unreachable"    //
	alarmCosigned    = "stale-cosignatures" //
	alarmQuorum      = "quorum-lost"        //
	alarmStopped     = "growth-stopped"     //
	alarmExploded    = "growth-exploded"    //
	alarmClock       = "clock"              // times in the log or of witnesses lie ahead of this clock
	alarmFull        = "too-many-heads"     // more heads that don't agree than are kept
	alarmBook        = "cannot-store"       // this monitor's own disk
	alarmPeer        = "peer-silent"        //
)

// minPerHour is what no growth below is an explosion of.
const minPerHour, explosion = uint64(10000), uint64(20)

// clockSlack is how far times may lie ahead of this clock (invariant I6 of the service).
const clockSlack = time.Minute

// watch raises and clears what depends on time. It is called each interval, also while a look hangs.
func (m *Monitor) watch(ctx context.Context) {
	for _, f := range m.logs {
		f.count(ctx)
		f.watch()
	}
	for _, p := range m.peers {
		p.watch()
	}
}

// count looks how many heads are in the book, and how old the oldest open one is.
func (f *follower) count(ctx context.Context) {
	n, err := f.m.cfg.Book.Counts(ctx, f.origin)
	var open []Head
	if err == nil && n.Open > 0 {
		open, err = f.m.cfg.Book.Open(ctx, f.origin, 0, int(min(n.Open, 1<<16)))
	}
	f.noteRead(ctx, err)
	if err != nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	last := f.oldestOpen
	f.counts, f.oldestOpen = n, nil
	for i := range open {
		if f.oldestOpen == nil || open[i].Seen.Before(f.oldestOpen.Seen) {
			f.oldestOpen = &open[i]
		}
	}
	if o := f.oldestOpen; o != nil && (last == nil || o.Checkpoint != last.Checkpoint) {
		f.oldestSince = time.Now()
	}
	f.full = f.full && n.Open > 0
}

// condition is one thing that may be wrong with a log.
type condition struct {
	name     string
	wrong    bool
	patience time.Duration // how long it may last; below zero: never mind
	severity alarm.Severity
	summary  string
}

// watch looks at all that is known of the log now.
func (f *follower) watch() {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now() // monotonic: how long something lasts doesn't depend on the clock being set
	for _, c := range slices.Concat(f.aboutHeads(), f.aboutReading(), f.aboutTime()) {
		if !c.wrong || c.patience < 0 {
			delete(f.since, c.name)
			f.m.cfg.Alarms.Clear(c.name, f.origin, "")
			continue
		}
		since, ok := f.since[c.name]
		if !ok {
			since = now
			f.since[c.name] = now
		}
		if now.Sub(since) >= c.patience {
			f.raise(c.name, c.severity, c.summary, nil)
		}
	}
}

func (f *follower) raise(name string, s alarm.Severity, summary string, details map[string]string) {
	f.m.cfg.Alarms.Raise(alarm.Alarm{Name: name, Log: f.origin, Severity: s, Summary: clip(summary, 1000), Details: details})
}

// aboutHeads: which heads there are. Called with mu held, as the two that follow.
func (f *follower) aboutHeads() []condition {
	s := &f.served
	behind := s.head != nil && f.seen != nil && s.head.Size < f.seen.Size
	servedSize, seenSize := uint64(0), uint64(0)
	if s.head != nil {
		servedSize = s.head.Size
	}
	if f.seen != nil {
		seenSize = f.seen.Size
	}
	return []condition{
		{alarmUnreachable, s.err != nil && s.refused == nil, f.expect.Reachable, alarm.Warning, errText("no head can be got from the log", s.err)},
		{alarmRefused, s.refused != nil, 0, alarm.Critical, errText("what the log serves as its head is refused", s.refused)},
		{alarmBack, s.back, 0, alarm.Warning, fmt.Sprintf("the log serves a head of size %d, and has served one of size %d", servedSize, f.state.Served)},
		{alarmStale, behind, f.expect.Fresh, alarm.Warning, fmt.Sprintf("the log serves a head of size %d, and one of size %d is known", servedSize, seenSize)},
		f.unproven(seenSize),
		{alarmFull, f.full, 0, alarm.Critical, "the log has signed so many heads that don't agree that not all are kept"},
		{alarmBook, f.stores() != nil, 0, alarm.Critical, errText("this monitor can't write down what it sees", f.stores())},
	}
}

// unproven: a head of which nobody can say yet whether it contradicts the others. New ones come and
// are settled in the next look; the age of the oldest counts.
func (f *follower) unproven(seenSize uint64) condition {
	c := condition{name: alarmUnproven, severity: alarm.Critical, patience: f.expect.off(f.expect.Explained)}
	o := f.oldestOpen
	if o == nil {
		return c
	}
	// Not by Seen: a clock that is set back would silence it, and one that is set forward ring it.
	if time.Since(f.oldestSince) >= f.expect.Explained {
		c.wrong = true
		c.summary = fmt.Sprintf("a signed head of size %d, first seen at %s from %s, can't be brought together with the head of size %d (open heads: %d): a fork that isn't proven yet, or tiles that the log keeps back",
			o.Size, o.Seen.UTC().Format(time.RFC3339), o.From, seenSize, f.counts.Open)
	}
	return c
}

// aboutReading: whether the entries are what the head says.
func (f *follower) aboutReading() []condition {
	r := &f.reading
	unread := f.seen != nil && (f.checked == nil || f.checked.Size < f.seen.Size)
	size := uint64(0)
	if f.checked != nil {
		size = f.checked.Size
	}
	return []condition{
		{alarmBadEntries, r.err != nil && r.failed, 0, alarm.Critical, errText("what the log serves isn't what it has signed", r.err)},
		{alarmUnread, unread && !r.failed, f.expect.Fresh, alarm.Warning, errText(fmt.Sprintf("entries can't be read behind size %d", size), r.err)},
	}
}

// aboutTime: cosignatures, growth, clocks.
func (f *follower) aboutTime() []condition {
	now := f.m.cfg.Now()
	s := &f.served
	var newest time.Time
	for _, c := range s.witnesses.Cosigned {
		if c.Time.After(newest) {
			newest = c.Time
		}
	}
	witnessed := s.head != nil && len(f.policy.Witnesses()) > 0
	grown := f.state.Grown
	if grown.Before(f.m.started) {
		grown = f.m.started // nobody has looked before
	}
	n, mean, known := uint64(0), uint64(0), false
	if f.seen != nil {
		n, mean, known = f.state.thisHour(f.seen.Size, now)
	}
	most := uint64(max(f.expect.PerHour, 0))
	if most == 0 {
		most = max(explosion*mean, minPerHour)
		if !known {
			n = 0
		}
	}
	ahead := max(newest.Sub(now), f.lastLeaf.Sub(now))
	since := "no witness of the policy has cosigned the log's head"
	if !newest.IsZero() {
		since = "the newest cosignature of the log's head is of " + newest.Format(time.RFC3339)
	}
	return []condition{
		{alarmCosigned, witnessed && (newest.IsZero() || now.Sub(newest) > f.expect.Cosigned), f.expect.off(f.expect.Cosigned), alarm.Warning, since},
		{alarmQuorum, witnessed && s.witnesses.Status != verifier.Quorum, f.expect.Quorum, alarm.Warning, "the log's head doesn't have the quorum of cosignatures that the policy demands"},
		{alarmStopped, f.seen != nil && now.Sub(grown) > f.expect.Growth, f.expect.off(f.expect.Growth), alarm.Warning, "no entry has come since " + grown.UTC().Format(time.RFC3339)},
		{alarmExploded, n > most, f.expect.off(time.Duration(f.expect.PerHour)), alarm.Warning, fmt.Sprintf("%d entries have come in this hour, at most %d were expected", n, most)},
		{alarmClock, ahead > clockSlack, 0, alarm.Warning, fmt.Sprintf("a time in the log lies %s ahead of this monitor's clock", ahead.Round(time.Second))},
	}
}

// off is the patience of an alarm whose time is in its condition.
func (*Expect) off(d time.Duration) time.Duration { return min(d, 0) }

func errText(what string, err error) string {
	if err == nil {
		return what
	}
	return what + ": " + err.Error()
}

// raiseFork rings for evidence. It never stops by itself: a log that forked stays one that forked.
func (f *follower) raiseFork(es []*evidenceFile) {
	if len(es) == 0 {
		return
	}
	ids := make([]string, len(es))
	for i, e := range es {
		ids[i] = e.ID
	}
	e := es[0]
	f.raise(alarmFork, alarm.Critical, fmt.Sprintf("the log has signed two histories: heads of size %d and %d, and neither extends the other", e.FirstSize, e.SecondSize),
		map[string]string{"evidence": strings.Join(ids, " "), "first_size": strconv.FormatUint(e.FirstSize, 10), "second_size": strconv.FormatUint(e.SecondSize, 10)})
}

// raiseNonsense rings for something that the log's key has signed and that is no head.
func (f *follower) raiseNonsense(n *signedNonsense, from string) {
	f.raise(alarmNonsense, alarm.Critical, errText("the log's key has signed something that is no head of a log", n.error),
		map[string]string{"note": clip(string(n.note), 2000), "from": from})
}
