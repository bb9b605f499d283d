package alarm_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prooftrail/prooftrail/verifier/monitor/alarm"
)

// fake is a sink that is stricter than a real one: it fails the test if it is called twice at
// once, with too much, or with something that it already knows and that isn't due.
type fake struct {
	t      *testing.T
	name   string
	manner alarm.Manner

	busy  sync.Mutex // held during Deliver
	mu    sync.Mutex // guards the rest
	got   []alarm.Notice
	bad   map[string]bool // what it refused the last time
	fault func(n alarm.Notice) (apply bool, err error)
}

func (f *fake) Name() string         { return f.name }
func (f *fake) Manner() alarm.Manner { return f.manner }

func (f *fake) Deliver(ctx context.Context, batch []alarm.Notice) (err error) {
	if !f.busy.TryLock() {
		f.t.Error("called twice at once")
	}
	defer f.busy.Unlock()
	if len(batch) == 0 || len(batch) > max(1, f.manner.Batch) {
		f.t.Errorf("%d notices", len(batch))
	}
	f.mu.Lock()
	fault := f.fault
	for _, n := range batch {
		if f.bad[is(n)] && len(batch) > 1 {
			f.t.Errorf("%s was refused before, and comes with others", n.Name)
		}
	}
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.bad == nil {
			f.bad = map[string]bool{}
		}
		for _, n := range batch {
			f.bad[is(n)] = err != nil
		}
	}()
	for _, n := range batch {
		apply, err := true, error(nil)
		if fault != nil {
			apply, err = fault(n)
		}
		if apply {
			f.mu.Lock()
			f.got = append(f.got, n)
			f.mu.Unlock()
		}
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

func is(n alarm.Notice) string { return n.ID() + string(n.Status) + string(n.Severity) }

func (f *fake) setFault(fault func(n alarm.Notice) (bool, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

// take returns what came since it was last called: "reason name severity" each.
func (f *fake) take() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []string
	for _, n := range f.got {
		s := fmt.Sprintf("%s %s %s", n.Reason, n.Name, n.Severity)
		if n.Peer != "" {
			s += " " + n.Peer
		}
		if n.Ack != nil {
			s += " ack " + n.Ack.By
		}
		if (n.Status == alarm.Resolved) != (n.Reason == alarm.Ended) || (n.Status == alarm.Resolved) == n.ResolvedAt.IsZero() {
			f.t.Errorf("status %s, reason %s, resolved at %s", n.Status, n.Reason, n.ResolvedAt)
		}
		all = append(all, s)
	}
	f.got = nil
	return all
}

func (f *fake) expect(want ...string) {
	f.t.Helper()
	synctest.Wait()
	if got := f.take(); !slices.Equal(got, want) {
		f.t.Errorf("%s was told\n\t%q, expected\n\t%q", f.name, got, want)
	}
}

func testLog(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func newBoard(t *testing.T, cfg alarm.Config) *alarm.Board {
	t.Helper()
	cfg.Log = testLog(t)
	b, err := alarm.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// run runs a board until stop is called, or the test ends.
func run(t *testing.T, b *alarm.Board) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// pass lets time pass, in a bubble of synctest.
func pass(d time.Duration) { <-time.After(d) }

var fork = alarm.Alarm{Name: "fork", Log: "example.com/audit", Severity: alarm.Critical, Summary: "two histories"}

// TestLife follows alarms from their beginning to their end, with repetitions and
// acknowledgements, minute by minute.
func TestLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		page, am := &fake{t: t, name: "page"}, &fake{t: t, name: "am", manner: alarm.Manner{Batch: 64, Repeat: 20 * time.Minute, Acknowledged: true}}
		b := newBoard(t, alarm.Config{Sinks: []alarm.Sink{page, am}, StateFile: filepath.Join(t.TempDir(), "alarms")})
		run(t, b)
		stale := alarm.Alarm{Name: "stale-head", Log: "example.com/audit", Severity: alarm.Warning, Summary: "head is 5 minutes old"}

		b.Raise(stale)
		page.expect("new stale-head warning")
		am.expect("new stale-head warning")
		stale.Summary = "head is 6 minutes old"
		b.Raise(stale)
		page.expect() // the summary alone is no news
		if got := b.Active(); len(got) != 1 || got[0].Summary != stale.Summary {
			t.Errorf("active: %v", got)
		}
		pass(59 * time.Minute)
		page.expect()
		am.expect("repeat stale-head warning", "repeat stale-head warning")
		pass(time.Minute)
		page.expect("repeat stale-head warning")
		am.expect("repeat stale-head warning")

		if err := b.Acknowledge(stale.ID(), "alice", "on it"); err != nil {
			t.Fatal(err)
		}
		pass(3 * time.Hour)
		page.expect()
		if got := am.take(); len(got) != 9 || got[8] != "repeat stale-head warning ack alice" {
			t.Errorf("am: %q", got)
		}

		stale.Severity = alarm.Critical // rings again, though acknowledged
		b.Raise(stale)
		page.expect("worse stale-head critical")
		pass(time.Hour)
		page.expect("repeat stale-head critical")
		stale.Severity = alarm.Warning // no news until it is repeated
		b.Raise(stale)
		page.expect()
		stale.Severity = alarm.Critical
		b.Raise(stale)
		page.expect()
		am.take()

		if err := b.Acknowledge(stale.ID(), "bob", ""); err != nil {
			t.Fatal(err)
		}
		pass(2 * time.Hour)
		page.expect()
		b.Clear(stale.Name, stale.Log, "")
		page.expect("gone stale-head critical ack bob")
		if got := am.take(); got[len(got)-1] != "gone stale-head critical ack bob" {
			t.Errorf("am: %q", got)
		}
		pass(3 * time.Hour)
		page.expect()
		am.expect()
		if got := b.Active(); got != nil {
			t.Errorf("active: %v", got)
		}
		if err := b.Acknowledge(stale.ID(), "bob", ""); !errors.Is(err, alarm.ErrUnknown) {
			t.Errorf("acknowledge what is gone: %v", err)
		}
		b.Clear("never", "was", "there")

		b.Raise(stale) // it is another one now: not acknowledged
		page.expect("new stale-head critical")
		b.Clear(stale.Name, stale.Log, "")
		page.expect("gone stale-head critical")
	})
}

// TestAway: a sink that was away for a day is told once how things are; the other one isn't
// delayed, and tells that it is away.
func TestAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, away := &fake{t: t, name: "here"}, &fake{t: t, name: "away"}
		var attempts atomic.Uint64
		away.setFault(func(alarm.Notice) (bool, error) { attempts.Add(1); return false, errors.New("refused\x1b[2J") })
		b := newBoard(t, alarm.Config{Sinks: []alarm.Sink{here, away}})
		run(t, b)
		silent := alarm.Alarm{Name: "peer-silent", Peer: "m2", Severity: alarm.Info}
		b.Raise(fork)
		here.expect("new fork critical")
		for range 10 {
			b.Raise(silent)
			synctest.Wait()
			pass(time.Millisecond)
			b.Clear(silent.Name, "", silent.Peer)
			synctest.Wait()
			pass(time.Millisecond)
		}
		if got := here.take(); len(got) != 20 {
			t.Errorf("here was told %q", got)
		}
		pass(50 * time.Minute)
		here.expect("new alarm-sink-failing warning away")
		if n := attempts.Load(); n < 50 || n > 150 {
			t.Errorf("%d attempts in 50 minutes", n)
		}
		h := b.Health()[1]
		if h.Pending != 3 || h.Failed != attempts.Load() || h.InARow != int(h.Failed) || h.Sent != 0 || strings.Contains(h.LastError, "\x1b") || !strings.Contains(h.LastError, "refused") {
			t.Errorf("health %+v", h)
		}
		pass(23 * time.Hour)
		here.take()
		away.setFault(nil)
		pass(2 * time.Minute)
		here.expect("gone alarm-sink-failing warning away")
		got := away.take()
		slices.Sort(got)
		if want := []string{"gone alarm-sink-failing warning away", "gone peer-silent info m2", "new alarm-sink-failing warning away", "new fork critical"}; !slices.Equal(got, want) {
			t.Errorf("away was told %q", got)
		}
		if h := b.Health()[1]; h.Pending != 0 || h.Sent != 4 || h.InARow != 0 || !h.NextAttempt.IsZero() {
			t.Errorf("health %+v", h)
		}
	})
}

// TestSomeAreRefused: alarms that a sink never takes don't keep the others from it, and
// that it doesn't take them is itself an alarm.
func TestSomeAreRefused(t *testing.T) {
	for _, tt := range []struct{ batch, poison int }{{1, 1}, {64, 1}, {1, 100}, {64, 100}} {
		synctest.Test(t, func(t *testing.T) {
			s := &fake{t: t, name: "s", manner: alarm.Manner{Batch: tt.batch, Repeat: 1000 * time.Hour}}
			s.setFault(func(n alarm.Notice) (bool, error) {
				if n.Name == "poison" && n.Status == alarm.Firing {
					return false, errors.New("no")
				}
				return true, nil
			})
			b := newBoard(t, alarm.Config{Sinks: []alarm.Sink{s}})
			for i := range tt.poison {
				b.Raise(alarm.Alarm{Name: "poison", Peer: strconv.Itoa(i), Severity: alarm.Critical})
			}
			for i := range 200 {
				b.Raise(alarm.Alarm{Name: "good", Peer: strconv.Itoa(i), Severity: alarm.Info})
			}
			run(t, b)
			pass(time.Hour)
			told := map[string]bool{}
			for _, g := range s.take() {
				told[g] = true
			}
			for i := range 200 {
				if !told["new good info "+strconv.Itoa(i)] {
					t.Errorf("wasn't told of %d", i)
				}
			}
			if !told["new alarm-sink-failing warning s"] {
				t.Error("wasn't told of the failures")
			}
			if h := b.Health()[0]; h.Pending != tt.poison || h.Failed < 20 {
				t.Errorf("health %+v", h)
			}
			for i := range tt.poison {
				b.Clear("poison", "", strconv.Itoa(i))
			}
			pass(maxWait)
			got := s.take()
			if !slices.Contains(got, "gone poison critical 0") || !slices.Contains(got, "gone alarm-sink-failing warning s") {
				t.Errorf("told %q", got)
			}
		})
	}
}

// maxWait is the longest that a sink is left alone after a failure.
const maxWait = time.Minute + time.Second

// TestSentIsKept: what a sink was told is in the state file soon, not only in the end.
func TestSentIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "alarms")
		s := &fake{t: t, name: "s"}
		slow := make(chan struct{})
		s.setFault(func(alarm.Notice) (bool, error) { <-slow; return true, nil })
		b := newBoard(t, alarm.Config{Sinks: []alarm.Sink{s}, StateFile: file})
		run(t, b)
		b.Raise(fork)
		pass(time.Minute)
		close(slow)
		pass(2 * time.Second)
		s.expect("new fork critical")
		killed, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file+"2", killed, 0o600); err != nil {
			t.Fatal(err)
		}
		s2 := &fake{t: t, name: "s"}
		run(t, newBoard(t, alarm.Config{Sinks: []alarm.Sink{s2}, StateFile: file + "2"}))
		pass(time.Minute)
		s2.expect()
	})
}

// TestNewestState: while a sink is slow, what is worse overtakes, and what is gone is told as gone.
func TestNewestState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{t: t, name: "s"}
		turn := make(chan struct{})
		s.setFault(func(alarm.Notice) (bool, error) { <-turn; return true, nil })
		b := newBoard(t, alarm.Config{Sinks: []alarm.Sink{s}})
		for i := range 10 {
			b.Raise(alarm.Alarm{Name: "a", Peer: strconv.Itoa(i), Severity: alarm.Info})
		}
		run(t, b)
		synctest.Wait() // it is being told of the first one
		b.Raise(fork)
		for i := range 9 {
			b.Clear("a", "", strconv.Itoa(i))
		}
		b.Raise(alarm.Alarm{Name: "a", Peer: "9", Severity: alarm.Warning})
		for range 12 {
			turn <- struct{}{}
			synctest.Wait()
		}
		got := s.take()
		if len(got) != 12 || got[0] != "new a info 0" || got[1] != "new fork critical" || got[2] != "new a warning 9" || got[11] != "gone a info 8" {
			t.Errorf("told %q", got)
		}
		if h := b.Health()[0]; h.Pending != 0 {
			t.Errorf("health %+v", h)
		}
	})
}

// TestEndAtOnce: with nothing left to send, Run doesn't wait.
func TestEndAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{t: t, name: "s"}
		b := newBoard(t, alarm.Config{Sinks: []alarm.Sink{s}})
		stop := run(t, b)
		b.Raise(fork)
		s.expect("new fork critical")
		began := time.Now()
		stop()
		if took := time.Since(began); took > 0 {
			t.Errorf("took %s", took)
		}
	})
}

// TestRetryAfter: what a receiver asks for is heeded.
func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{t: t, name: "s"}
		began, calls := time.Now(), []time.Duration{}
		s.setFault(func(alarm.Notice) (bool, error) {
			if calls = append(calls, time.Since(began)); len(calls) == 1 {
				return false, fmt.Errorf("busy: %w", &alarm.RetryError{Err: errors.New("later"), After: 4 * time.Minute})
			}
			return true, errors.New("the answer got lost") // failed, but was applied
		})
		b := newBoard(t, alarm.Config{Sinks: []alarm.Sink{s}})
		b.Raise(fork)
		run(t, b)
		pass(4*time.Minute - time.Second)
		s.expect()
		pass(2 * time.Second)
		s.expect("new fork critical")
		s.setFault(nil)
		pass(10 * time.Second)
		s.expect("new fork critical")
		if len(calls) < 2 || calls[1] < 4*time.Minute {
			t.Errorf("called at %v", calls)
		}
	})
}

// TestClockSetBack: no alarm waits for a clock to come round again.
func TestClockSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var offset time.Duration
		now := func() time.Time { mu.Lock(); defer mu.Unlock(); return time.Now().Add(offset) }
		s := &fake{t: t, name: "s"}
		b := newBoard(t, alarm.Config{Sinks: []alarm.Sink{s}, Now: now})
		run(t, b)
		b.Raise(fork)
		s.expect("new fork critical")
		mu.Lock()
		offset = -1000 * time.Hour
		mu.Unlock()
		pass(2 * time.Minute)
		s.expect("repeat fork critical")
		pass(58 * time.Minute)
		s.expect()
		pass(2 * time.Minute)
		s.expect("repeat fork critical")
	})
}

// TestDrain: what was raised before the end goes out, what has to be repeated doesn't, and
// Run ends in time whatever a sink does.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good, bad := &fake{t: t, name: "good"}, &fake{t: t, name: "bad"}
		b := newBoard(t, alarm.Config{Sinks: []alarm.Sink{good, bad}, Drain: 3 * time.Second})
		bad.setFault(func(alarm.Notice) (bool, error) { return false, errors.New("no") })
		stop := run(t, b)
		synctest.Wait()
		for i := range 100 {
			b.Raise(alarm.Alarm{Name: "last-words", Peer: strconv.Itoa(i)})
		}
		began := time.Now()
		stop()
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("took %s", took)
		}
		if got := good.take(); len(got) != 100 {
			t.Errorf("told %d", len(got))
		}
		bad.setFault(nil)
		stop = run(t, b) // once more
		pass(time.Minute)
		stop()
		if got := bad.take(); len(got) != 100 {
			t.Errorf("told %d", len(got))
		}
	})
}

// TestOverflow: the worst are held, and that others aren't is an alarm.
func TestOverflow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{t: t, name: "s"}
		b := newBoard(t, alarm.Config{Sinks: []alarm.Sink{s}, Max: 10, Grace: 10 * time.Minute, StateFile: filepath.Join(t.TempDir(), "alarms")})
		run(t, b)
		raise := func() {
			for i := range 20 {
				b.Raise(alarm.Alarm{Name: "peer-silent", Peer: strconv.Itoa(i), Severity: alarm.Warning})
			}
			for i := range 3 {
				b.Raise(alarm.Alarm{Name: "fork", Log: strconv.Itoa(i), Severity: alarm.Critical})
			}
		}
		for range 5 {
			raise()
			pass(time.Minute)
		}
		names := map[string]int{}
		for _, a := range b.Active() {
			names[a.Name]++
		}
		if names["fork"] != 3 || names["peer-silent"] != 7 || names[alarm.Overflow] != 1 {
			t.Errorf("active %v", names)
		}
		if got := s.take(); !slices.Contains(got, "new alarm-overflow critical") {
			t.Errorf("told %q", got)
		}
		for i := range 20 {
			b.Clear("peer-silent", "", strconv.Itoa(i))
		}
		pass(12 * time.Minute)
		if got := s.take(); !slices.Contains(got, "gone alarm-overflow critical") {
			t.Errorf("told %q", got)
		}
		if got := b.Active(); len(got) != 3 {
			t.Errorf("active: %v", got)
		}
	})
}

// TestGoneIsBounded: of a sink that takes nothing not everything that came and went is kept.
func TestGoneIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{t: t, name: "s"}
		s.setFault(func(alarm.Notice) (bool, error) { return false, errors.New("no") })
		b := newBoard(t, alarm.Config{Sinks: []alarm.Sink{s}, Max: 10})
		run(t, b)
		for i := range 100 {
			b.Raise(alarm.Alarm{Name: "flaps", Peer: strconv.Itoa(i)})
			pass(time.Second)
			b.Clear("flaps", "", strconv.Itoa(i))
		}
		if h := b.Health()[0]; h.Pending > 12 || h.Dropped != 90 {
			t.Errorf("health %+v", h)
		}
	})
}

// TestRestart: alarms, acknowledgements and what was sent survive, and what nobody raises
// again is gone after the grace period.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "alarms")
		a, c := &fake{t: t, name: "a"}, &fake{t: t, name: "c"}
		c.setFault(func(alarm.Notice) (bool, error) { return false, errors.New("no") })
		cfg := alarm.Config{Sinks: []alarm.Sink{a, c}, StateFile: file, Grace: 5 * time.Minute}
		b := newBoard(t, cfg)
		stop := run(t, b)
		lost := alarm.Alarm{Name: "quorum-lost", Log: "x", Severity: alarm.Warning, Details: map[string]string{"have": "1"}}
		gone := alarm.Alarm{Name: "stale-head", Log: "y", Severity: alarm.Warning}
		for _, al := range []alarm.Alarm{fork, lost, gone} {
			b.Raise(al)
		}
		a.expect("new fork critical", "new quorum-lost warning", "new stale-head warning")
		b.Clear(gone.Name, gone.Log, "")
		a.expect("gone stale-head warning")
		if err := b.Acknowledge(fork.ID(), "alice", "known"); err != nil {
			t.Fatal(err)
		}
		pass(10 * time.Minute)
		stop()
		before := b.Active()
		if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
			t.Errorf("state file: %v, %v", info, err)
		}

		a.take()
		c.setFault(nil)
		pass(2 * time.Hour)
		b = newBoard(t, cfg)
		if got := b.Active(); !reflect.DeepEqual(got, before) || got[0].Ack == nil {
			t.Errorf("active:\n%v\nwere:\n%v", got, before)
		}
		run(t, b)
		a.expect("gone alarm-sink-failing warning c")
		pass(2 * time.Minute) // c wasn't told of anything yet: not even that one was acknowledged
		got := c.take()
		slices.Sort(got)
		if want := []string{"gone alarm-sink-failing warning c", "gone stale-head warning", "new fork critical ack alice", "new quorum-lost warning"}; !slices.Equal(got, want) {
			t.Errorf("c was told %q", got)
		}
		b.Raise(fork)
		pass(4 * time.Minute)
		a.expect("gone quorum-lost warning")
		pass(2 * time.Hour)
		a.expect() // still acknowledged
		if got := b.Active(); len(got) != 1 || got[0].Name != "fork" || !got[0].Since.Equal(before[0].Since) {
			t.Errorf("active: %v", got)
		}
	})
}

// TestDamagedState: the file is kept, a critical alarm says so, also after another restart, and
// acknowledging it ends it.
func TestDamagedState(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"empty":   func([]byte) []byte { return nil },
		"cut":     func(b []byte) []byte { return b[:len(b)/2] },
		"flipped": func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"more":    func(b []byte) []byte { return append(b, b...) },
		"other":   func([]byte) []byte { return []byte("hello\n") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				file := filepath.Join(dir, "alarms")
				s := &fake{t: t, name: "s"}
				cfg := alarm.Config{Sinks: []alarm.Sink{s}, StateFile: file, Grace: time.Minute}
				b := newBoard(t, cfg)
				b.Raise(fork)
				stop := run(t, b)
				s.expect("new fork critical")
				stop()
				good, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				bad := damage(slices.Clone(good))
				if err := os.WriteFile(file, bad, 0o600); err != nil {
					t.Fatal(err)
				}
				for i := range 2 {
					b = newBoard(t, cfg)
					stop = run(t, b)
					synctest.Wait()
					if got := s.take(); i == 0 && !slices.Equal(got, []string{"new alarm-state-damaged critical"}) {
						t.Errorf("told %q", got)
					}
					pass(2 * time.Minute)
					stop()
				}
				kept, err := filepath.Glob(file + ".damaged-*")
				if err != nil || len(kept) != 1 {
					t.Fatalf("kept %q, %v", kept, err)
				}
				if b, err := os.ReadFile(kept[0]); err != nil || string(b) != string(bad) {
					t.Errorf("kept something else: %v", err)
				}
				active := b.Active()
				if len(active) != 1 || active[0].Name != alarm.StateDamaged || active[0].Details["kept"] != kept[0] {
					t.Fatalf("active: %v", active)
				}
				run(t, b)
				if err := b.Acknowledge(active[0].ID(), "alice", ""); err != nil {
					t.Error(err)
				}
				s.expect("gone alarm-state-damaged critical ack alice")
			})
		})
	}
}

// TestUnwritableState: it is an alarm, and Acknowledge says that it isn't on the disk.
func TestUnwritableState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "d")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		s := &fake{t: t, name: "s"}
		b := newBoard(t, alarm.Config{Sinks: []alarm.Sink{s}, StateFile: filepath.Join(dir, "alarms")})
		if err := os.Rename(dir, dir+"2"); err != nil {
			t.Fatal(err)
		}
		run(t, b)
		b.Raise(fork)
		pass(time.Minute)
		s.expect("new fork critical", "new alarm-state-unwritable warning")
		if err := b.Acknowledge(fork.ID(), "alice", ""); err == nil || errors.Is(err, alarm.ErrUnknown) {
			t.Errorf("acknowledge: %v", err)
		}
		if err := os.Rename(dir+"2", dir); err != nil {
			t.Fatal(err)
		}
		pass(time.Minute)
		s.expect("gone alarm-state-unwritable warning")
	})
	if _, err := alarm.New(alarm.Config{StateFile: t.TempDir()}); err == nil {
		t.Error("a directory passed for a state file")
	}
	if _, err := alarm.New(alarm.Config{StateFile: filepath.Join(t.TempDir(), "none", "alarms")}); err == nil {
		t.Error("a directory that isn't there passed")
	}
}

func TestConfigErrors(t *testing.T) {
	for name, sinks := range map[string][]alarm.Sink{
		"same name": {&fake{name: "a"}, &fake{name: "a"}},
		"no name":   {&fake{}},
		"bad name":  {&fake{name: "a\nb"}},
		"too many":  make([]alarm.Sink, 9),
		"nil":       {nil},
	} {
		if _, err := alarm.New(alarm.Config{Sinks: sinks}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	b := newBoard(t, alarm.Config{})
	if err := b.Acknowledge("x", "", ""); err == nil {
		t.Error("acknowledged by nobody")
	}
	run(t, b)
	b.Raise(fork)
	b.Clear(fork.Name, fork.Log, "")
	if b.Active() != nil || b.Health() != nil {
		t.Error("a board without sinks")
	}
}

// TestTogether is for the race detector: everything at once, and in the end every sink knows
// what is so.
func TestTogether(t *testing.T) {
	quick := &fake{t: t, name: "quick", manner: alarm.Manner{Batch: 8}}
	odd := &fake{t: t, name: "odd"}
	i := 0
	odd.setFault(func(alarm.Notice) (bool, error) {
		if i++; i < 3 {
			return i%2 == 0, errors.New("no")
		}
		return true, nil
	})
	b := newBoard(t, alarm.Config{Sinks: []alarm.Sink{quick, odd, alarm.NewLogSink(slog.New(slog.DiscardHandler))}, StateFile: filepath.Join(t.TempDir(), "alarms"), Drain: time.Minute})
	stop := run(t, b)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 200 {
				a := alarm.Alarm{Name: "a", Peer: strconv.Itoa(i % 10), Severity: []alarm.Severity{alarm.Critical, alarm.Warning, alarm.Info}[i%3], Details: map[string]string{"i": strconv.Itoa(i)}}
				b.Raise(a)
				if i%4 == w%4 {
					b.Clear(a.Name, a.Log, a.Peer)
				}
				if i%50 == 0 {
					_ = b.Acknowledge(a.ID(), "w", "")
				}
				b.Active()
				b.Health()
			}
		})
	}
	wg.Wait()
	stop()
	want := map[string]alarm.Severity{}
	for _, a := range b.Active() {
		want[a.Peer] = a.Severity
	}
	for _, f := range []*fake{quick, odd} {
		knows := map[string]bool{}
		for _, n := range f.got {
			knows[n.Peer] = n.Status == alarm.Firing
		}
		for i := range 10 {
			if _, there := want[strconv.Itoa(i)]; knows[strconv.Itoa(i)] != there {
				t.Errorf("%s thinks of %d %t", f.name, i, knows[strconv.Itoa(i)])
			}
		}
	}
}

// stuckLog is a log that nobody reads.
type stuckLog struct{ until chan struct{} }

func (stuckLog) Enabled(context.Context, slog.Level) bool    { return true }
func (l stuckLog) Handle(context.Context, slog.Record) error { <-l.until; return nil }
func (l stuckLog) WithAttrs([]slog.Attr) slog.Handler        { return l }
func (l stuckLog) WithGroup(string) slog.Handler             { return l }

// TestNothingBlocks: with every sink and the log stuck, whoever watches goes on.
func TestNothingBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		until := make(chan struct{})
		hangs, fails, good := &fake{t: t, name: "hangs"}, &fake{t: t, name: "fails"}, &fake{t: t, name: "good"}
		hangs.setFault(func(alarm.Notice) (bool, error) { <-until; return true, nil })
		fails.setFault(func(alarm.Notice) (bool, error) { return false, errors.New("no") })
		stuck := slog.New(stuckLog{until})
		b, err := alarm.New(alarm.Config{Sinks: []alarm.Sink{hangs, fails, alarm.NewLogSink(stuck), good}, Log: stuck})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- b.Run(ctx) }()
		for i := range 10 {
			b.Raise(alarm.Alarm{Name: "a", Peer: strconv.Itoa(i)})
			good.expect("new a warning " + strconv.Itoa(i))
			if b.Clear("a", "", strconv.Itoa(i)); len(b.Active()) != 0 {
				t.Error("still there")
			}
			good.expect("gone a warning " + strconv.Itoa(i))
			b.Health()
		}
		close(until)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
