package monitor_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/internal/logtest"
	"github.com/prooftrail/prooftrail/verifier/monitor"
	"github.com/prooftrail/prooftrail/verifier/monitor/alarm"
	"github.com/prooftrail/prooftrail/verifier/monitor/gossip"
	"github.com/prooftrail/prooftrail/verifier/monitor/store"
)

const testOrigin = "example.com/audit"

// interval of the monitors in tests.
const interval = 50 * time.Millisecond

// alarms remembers what rings.
type alarms struct {
	mu   sync.Mutex
	now  map[string]alarm.Alarm // by name
	ever map[string]alarm.Alarm
}

func newAlarms() *alarms {
	return &alarms{now: map[string]alarm.Alarm{}, ever: map[string]alarm.Alarm{}}
}

func (a *alarms) Raise(x alarm.Alarm) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.now[x.Name], a.ever[x.Name] = x, x
}

func (a *alarms) Clear(name, _, _ string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.now, name)
}

// names returns which alarms ring now.
func (a *alarms) names() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var ns []string
	for n := range a.now {
		ns = append(ns, n)
	}
	slices.Sort(ns)
	return ns
}

func (a *alarms) rings(name string) bool { return slices.Contains(a.names(), name) }

// forget forgets what has rung until now.
func (a *alarms) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.now)
	clear(a.ever)
}

// ringed reports whether an alarm has ever rung.
func (a *alarms) ringed(name string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, ok := a.ever[name]
	return ok
}

// rig is a running monitor with a server around it.
type rig struct {
	*monitor.Monitor
	t      testing.TB
	dir    string
	alarms *alarms
	url    string
	stop   func()
}

// serve serves a log and returns its prefix.
func serve(t testing.TB, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL + "/logs/audit"
}

// start runs a monitor in a directory, which may be that of an earlier one. Peers may name it
// before it runs: its server is given.
func start(t testing.TB, dir string, change func(*monitor.Config), logs ...monitor.LogConfig) *rig {
	t.Helper()
	r := prepare(t, dir, change, logs...)
	r.run(r.t)
	return r
}

// prepare makes a monitor that doesn't run yet, and its server.
func prepare(t testing.TB, dir string, change func(*monitor.Config), logs ...monitor.LogConfig) *rig {
	t.Helper()
	r := &rig{t: t, dir: dir, alarms: newAlarms()}
	if err := os.MkdirAll(filepath.Join(dir, "evidence"), 0o700); err != nil {
		t.Fatal(err)
	}
	book, err := store.OpenBook(filepath.Join(dir, "book"), 0)
	if err != nil {
		t.Fatal(err)
	}
	cfg := monitor.Config{Logs: logs, Book: book, EvidenceDir: filepath.Join(dir, "evidence"), Alarms: r.alarms,
		Interval: interval, Rate: 1e6, Now: func() time.Time { return time.Now() }}
	if change != nil {
		change(&cfg)
	}
	if r.Monitor, err = monitor.New(t.Context(), cfg); err != nil {
		book.Close()
		t.Fatal(err)
	}
	s := httptest.NewServer(r.Handler())
	r.url = s.URL
	over := sync.OnceFunc(func() {
		s.Close()
		if err := book.Close(); err != nil {
			t.Error(err)
		}
	})
	r.stop = over
	t.Cleanup(over)
	return r
}

func (r *rig) run(t testing.TB) {
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() {
		defer close(over)
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	closeAll := r.stop
	r.stop = sync.OnceFunc(func() { cancel(); <-over; closeAll() })
	t.Cleanup(r.stop)
}

// wait waits until something is so: long, for many tests that read much run at a time, and share the processors with
// other packages'.
func wait(t testing.TB, what string, so func() bool) {
	t.Helper()
	deadline := time.After(2 * time.Minute)
	for !so() {
		select {
		case <-deadline:
			t.Fatalf("not in time: %s", what)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// checked waits until a monitor has read a size.
func (r *rig) checked(size int) {
	r.t.Helper()
	wait(r.t, "checked", func() bool {
		c := r.Status().Logs[0].Checked
		return c != nil && c.Size == uint64(size)
	})
}

func TestFollow(t *testing.T) {
	key := logtest.NewKey(t, testOrigin)
	h := logtest.New(t, key, "a", 0)
	log := monitor.LogConfig{Policy: key.Policy(t), URL: serve(t, h)}
	dir := t.TempDir()
	r := start(t, dir, nil, log)
	r.checked(0) // an empty log
	for _, n := range []int{1, 255, 300, 1000, 70000} {
		h.Grow(n)
		r.checked(h.Size())
	}
	s := r.Status().Logs[0]
	if s.Checked.Root != h.Head(h.Size()).Root || s.Heads.Agreed < 5 || s.Heads.Open != 0 || s.Heads.Forked != 0 || s.Read != uint64(h.Size()) {
		t.Errorf("%+v", s)
	}
	if n := r.alarms.names(); n != nil {
		t.Errorf("alarms %v", n)
	}
	r.stop()
	h.Grow(500)
	r = start(t, dir, nil, log)
	if c := r.Status().Logs[0].Checked; c == nil || c.Size != 71556 {
		t.Errorf("after a restart: %v", c)
	}
	r.checked(h.Size())
}

// TestSplitView: each monitor is shown a history of its own. Both have evidence that convicts.
func TestSplitView(t *testing.T) {
	for _, tt := range []struct {
		name   string
		common int
		a, b   int // sizes
	}{
		{name: "same size", common: 100, a: 200, b: 200},
		{name: "larger at the first", common: 100, a: 300, b: 200},
		{name: "larger at the second", common: 100, a: 200, b: 300},
		{name: "power of two", common: 100, a: 256, b: 300},
		{name: "nothing in common", common: 0, a: 20, b: 3000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			key := logtest.NewKey(t, testOrigin)
			a := logtest.New(t, key, "a", tt.common)
			b := a.Fork("b", tt.common)
			a.Grow(tt.a - tt.common)
			b.Grow(tt.b - tt.common)
			policy := key.Policy(t)
			one := start(t, t.TempDir(), nil, monitor.LogConfig{Policy: policy, URL: serve(t, a)})
			one.checked(tt.a)
			two := start(t, t.TempDir(), func(c *monitor.Config) {
				c.Peers = []monitor.PeerConfig{{Name: "one", URL: one.url}}
			}, monitor.LogConfig{Policy: policy, URL: serve(t, b)})
			for _, r := range []*rig{one, two} {
				wait(t, "evidence", func() bool { return len(r.Status().Evidence) > 0 })
				convicts(t, policy, r.Status().Evidence[0].File)
				wait(t, "alarm", func() bool { return r.alarms.rings("fork") })
			}
			if a, b := one.Status().Evidence[0].ID, two.Status().Evidence[0].ID; tt.a == tt.b && a != b {
				t.Errorf("two files about the same two heads: %s, %s", a, b)
			}
		})
	}
}

// convicts checks an evidence file as anybody would.
func convicts(t testing.TB, p *verifier.Policy, file string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	e, err := verifier.ParseEvidence(b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Check(p); err != nil {
		t.Error(err)
	}
}

// TestPost: whoever holds a head learns whether the monitor's view agrees.
func TestPost(t *testing.T) {
	key := logtest.NewKey(t, testOrigin)
	h := logtest.New(t, key, "a", 1000)
	fork := h.Fork("b", 500)
	fork.Grow(700)
	r := start(t, t.TempDir(), nil, monitor.LogConfig{Policy: key.Policy(t), URL: serve(t, h)})
	r.checked(1000)
	c, err := gossip.New(gossip.Config{URL: r.url})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		note []byte
		want gossip.Verdict
	}{
		{"same", h.Note(1000), gossip.Agrees},
		{"older", h.Note(256), gossip.Agrees},
		{"empty", h.Note(0), gossip.Agrees},
		{"common", fork.Note(500), gossip.Agrees},
		{"ahead", fork.Note(1200), gossip.Unknown},
		{"forked, same size", fork.Note(1000), gossip.Contradicts},
		{"forked, older", fork.Note(512), gossip.Contradicts},
		{"forked, older again", fork.Note(512), gossip.Contradicts},
	} {
		a, err := c.PostHead(t.Context(), tt.note)
		if err != nil || a.Verdict != tt.want || a.Checked != string(h.Note(1000)) || (tt.want == gossip.Contradicts) != (len(a.Evidence) > 0) || (tt.want == gossip.Unknown) != (a.Reason != "") {
			t.Errorf("%s: %+v, %v", tt.name, a, err)
		}
	}
	for _, id := range []string{r.Status().Evidence[0].ID} {
		file, err := c.Evidence(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.PostEvidence(t.Context(), file); err != nil {
			t.Error(err)
		}
	}
	for _, tt := range []struct {
		note []byte
		want int
	}{
		{logtest.New(t, logtest.NewKey(t, "example.com/other"), "a", 3).Note(3), http.StatusNotFound},
		{[]byte(testOrigin + "\n3\nAAAA\n"), http.StatusBadRequest},
		{append([]byte(testOrigin+"\n"), make([]byte, 600<<10)...), http.StatusRequestEntityTooLarge},
	} {
		_, err := c.PostHead(t.Context(), tt.note)
		var status *gossip.StatusError
		if !errors.As(err, &status) || status.Code != tt.want {
			t.Errorf("%.40q: %v, expected %d", tt.note, err, tt.want)
		}
	}
	h.Grow(1000) // past the size of the head ahead: now it is known what that was
	wait(t, "the head ahead is judged", func() bool { return r.Status().Logs[0].Heads.Open == 0 })
	if n := r.Status().Logs[0].Heads; n.Forked != 3 {
		t.Errorf("%+v", n)
	}
}
