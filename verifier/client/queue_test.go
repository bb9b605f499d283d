package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/client/mask"
	"github.com/prooftrail/prooftrail/verifier/client/spool"
	"github.com/prooftrail/prooftrail/verifier/event"
)

const queueSource = "cron://queue/"

// queue opens a queue without heartbeats that hardly pauses.
func (f *fakeLog) queue(dir string, change func(*Config, *QueueConfig)) *Queue {
	f.t.Helper()
	cfg := QueueConfig{Dir: dir, Source: queueSource, Heartbeat: -1, MinBackoff: time.Millisecond, MaxBackoff: 4 * time.Millisecond,
		DiskWait: time.Minute, RequiredWait: time.Minute, Logger: slog.New(slog.NewTextHandler(f.t.Output(), nil))}
	c := f.client(func(c *Config) {
		if change != nil {
			change(c, &cfg)
		}
	})
	q, err := c.OpenQueue(cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { q.Close() })
	return q
}

func queueDir(t *testing.T) string { return filepath.Join(t.TempDir(), "spool") }

func queueEvent(id string) event.Event {
	return event.Event{ID: id, Action: "auth.login", Outcome: "success", Actor: event.Actor{Type: "user", ID: "ada"},
		Target: []event.Target{{Type: "service", ID: "cron"}}}
}

func enqueue(t *testing.T, q *Queue, from, to int) {
	t.Helper()
	for i := from; i <= to; i++ {
		if _, err := q.Enqueue(t.Context(), queueEvent(fmt.Sprint("e", i)), BestEffort); err != nil {
			t.Fatal(err)
		}
	}
}

func flush(t *testing.T, q *Queue) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := q.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

// logged returns ids and seqs of the queue's entries, in the log's order.
func (f *fakeLog) logged() (ids, seqs []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.entries {
		if e.sent.Text("/source") == queueSource {
			ids, seqs = append(ids, e.sent.Text("/id")), append(seqs, e.sent.Text("/seq"))
		}
	}
	return ids, seqs
}

// set changes a hook of the log.
func (f *fakeLog) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func names(prefix string, from, to int) (all []string) {
	for i := from; i <= to; i++ {
		all = append(all, prefix+strconv.Itoa(i))
	}
	return all
}

// expectLogged wants the events e1 to en in the log, each once, in order, numbered without a gap.
func (f *fakeLog) expectLogged(n int) {
	f.t.Helper()
	ids, seqs := f.logged()
	if !slices.Equal(ids, names("e", 1, n)) || !slices.Equal(seqs, names("", 1, n)) {
		f.t.Errorf("logged %q with seqs %q, want e1 to e%d", ids, seqs, n)
	}
}

func TestQueue(t *testing.T) {
	f := newFakeLog(t)
	dir := queueDir(t)
	var logged []Logged
	var observed QueueStats
	q := f.queue(dir, func(_ *Config, qc *QueueConfig) {
		qc.Receipt = func(l Logged) { logged = append(logged, l) }
		qc.Observe = func(s QueueStats) { observed = s }
	})
	enqueue(t, q, 1, 20)
	flush(t, q)
	got, err := q.Enqueue(t.Context(), queueEvent("e21"), Required)
	if err != nil || got.Seq != 21 || got.ID != "e21" || !got.Result.Verified() || got.Result.Index != 20 {
		t.Fatalf("%+v, %v", got, err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	f.expectLogged(21)
	for i, l := range logged {
		if l.Seq != uint64(i)+1 || l.ID != fmt.Sprint("e", i+1) || !l.Result.Verified() {
			t.Errorf("receipt %d: %+v", i, l)
		}
	}
	if len(logged) != 21 || observed.Logged != 21 || observed.Waiting != 0 || observed.LoggedSeq != 21 || observed.LastLogged.IsZero() {
		t.Errorf("%d receipts, %+v", len(logged), observed)
	}
	q = f.queue(dir, nil) // the numbers go on
	enqueue(t, q, 22, 25)
	flush(t, q)
	f.expectLogged(25)
}

// The ids are fixed, the source and what the queue sets aren't the caller's, and what isn't valid takes no number.
func TestEnqueueRefused(t *testing.T) {
	f := newFakeLog(t)
	dir := queueDir(t)
	q := f.queue(dir, nil)
	for name, spoil := range map[string]func(*event.Event){
		"seq":       func(e *event.Event) { e.Seq = "7" },
		"source":    func(e *event.Event) { e.Source = "cron://other/" },
		"action":    func(e *event.Event) { e.Action = "audit.heartbeat" },
		"not valid": func(e *event.Event) { e.Outcome = "great" },
		"details":   func(e *event.Event) { e.Details = map[string]any{"a": 0.5} },
		"too long":  func(e *event.Event) { e.Details = map[string]any{"a": strings.Repeat("x", event.MaxBytes)} },
	} {
		e := queueEvent("bad")
		spoil(&e)
		for _, mode := range []Mode{BestEffort, Required} {
			if _, err := q.Enqueue(t.Context(), e, mode); !errors.Is(err, ErrRefused) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if _, err := q.Enqueue(t.Context(), queueEvent("e"), 0); err == nil {
		t.Error("no mode")
	}
	e := queueEvent("")
	got, err := q.Enqueue(t.Context(), e, Required)
	if err != nil || got.Seq != 1 || len(got.ID) != 36 || got.ID[14] != '7' {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := f.client(nil).OpenQueue(QueueConfig{Dir: dir, Source: queueSource}); !errors.Is(err, spool.ErrLocked) {
		t.Errorf("a second queue: %v", err)
	}
	q.Close()
	for name, qc := range map[string]QueueConfig{
		"another source": {Dir: dir, Source: "cron://other/"},
		"no source":      {Dir: dir},
		"ours":           {Dir: dir, Source: "prooftrail://x/"},
	} {
		if _, err := f.client(nil).OpenQueue(qc); err == nil {
			t.Errorf("opened with %s", name)
		}
	}
	if _, err := f.client(func(c *Config) { c.Policy = nil }).OpenQueue(QueueConfig{Dir: dir, Source: queueSource}); err == nil {
		t.Error("opened without a policy")
	}
	if _, err := f.client(func(c *Config) { c.Wait = Durable }).OpenQueue(QueueConfig{Dir: dir, Source: queueSource}); err == nil {
		t.Error("opened without receipts")
	}
}

// TestQueueLogDown: best effort goes on, required doesn't; afterwards all of it is logged once, in order,
// also what was required.
func TestQueueLogDown(t *testing.T) {
	for name, answer := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"no answer": func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) },
		"503":       func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(503); return true },
		"500":       func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(500); return true },
		"a page":    func(w http.ResponseWriter, _ *http.Request) bool { fmt.Fprint(w, "<html>"); return true },
		"404":       func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(404); return true },
		"413":       func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(413); return true },
		"429 in results": func(w http.ResponseWriter, r *http.Request) bool {
			var b bytes.Buffer
			_, _ = b.ReadFrom(r.Body)
			for range bytes.Count(b.Bytes(), []byte("\n")) {
				fmt.Fprintln(w, `{"status":"rejected","problem":{"title":"too many","status":429}}`)
			}
			return true
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeLog(t)
			dir := queueDir(t)
			f.answer = answer
			q := f.queue(dir, func(_ *Config, qc *QueueConfig) { qc.RequiredWait = 50 * time.Millisecond })
			enqueue(t, q, 1, 5)
			if _, err := q.Enqueue(t.Context(), queueEvent("e6"), Required); !errors.Is(err, ErrNotLogged) || !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("required: %v", err)
			}
			enqueue(t, q, 7, 9)
			if st := q.Stats(); st.Waiting != 9 || st.Failures == 0 || st.LastError == nil || st.FailingSince.IsZero() || st.Accused {
				t.Errorf("%+v", st)
			}
			q.Close()
			q = f.queue(dir, nil)
			enqueue(t, q, 10, 12)
			f.set(func() { f.answer = nil })
			flush(t, q)
			f.expectLogged(12)
			if st := q.Stats(); !st.FailingSince.IsZero() || st.Logged != 12 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// TestQueueLogSlow: a log that doesn't answer doesn't keep best effort waiting.
func TestQueueLogSlow(t *testing.T) {
	f := newFakeLog(t)
	release := make(chan struct{})
	var once sync.Once
	f.answer = func(_ http.ResponseWriter, r *http.Request) bool {
		select {
		case <-release:
		case <-r.Context().Done():
		}
		return false
	}
	defer once.Do(func() { close(release) })
	q := f.queue(queueDir(t), nil)
	enqueue(t, q, 1, 50)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := q.Enqueue(ctx, queueEvent("e51"), Required); !errors.Is(err, ErrNotLogged) {
		t.Errorf("required: %v", err)
	}
	once.Do(func() { close(release) })
	flush(t, q)
	f.expectLogged(51)
}

// TestQueueLies: whatever a log answers that doesn't hold, the events stay in the spool, a person is told, and
// what is required fails at once; when the log tells the truth, each is logged once, in order.
func TestQueueLies(t *testing.T) {
	lies := map[string]func(f *fakeLog, i int, r *verifier.Receipt){
		"receipt of another event": func(f *fakeLog, _ int, r *verifier.Receipt) {
			r.Index, r.Extra, r.Proof = 1, f.entries[1].sealed.Opening, f.inclusion(1, 0, len(f.entries))
		},
		"wrong proof": func(f *fakeLog, _ int, r *verifier.Receipt) { r.Proof[0][3] ^= 1 },
		"forked head": func(f *fakeLog, _ int, r *verifier.Receipt) {
			r.Checkpoint = f.sign(len(f.entries), verifier.Hash{1})
		},
	}
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			f := newFakeLog(t)
			for i := range 3 {
				f.add(rawEvent(fmt.Sprint("other", i)))
			}
			f.spoil = func(i int, r *verifier.Receipt) {
				if i >= 5 { // e3 and what follows
					lie(f, i, r)
				}
			}
			dir := queueDir(t)
			alarms := make(chan error, 100)
			q := f.queue(dir, func(_ *Config, qc *QueueConfig) { qc.Alarm = func(err error) { alarms <- err } })
			enqueue(t, q, 1, 6)
			if err := <-alarms; !errors.Is(err, verifier.ErrFailed) {
				t.Errorf("alarm: %v", err)
			}
			_, err := q.Enqueue(t.Context(), queueEvent("e7"), Required)
			if !errors.Is(err, ErrNotLogged) || !errors.Is(err, verifier.ErrFailed) {
				t.Errorf("required: %v", err)
			}
			if st := q.Stats(); st.LoggedSeq > 2 || st.Waiting < 5 || !st.Accused {
				t.Errorf("%+v", st)
			}
			q.Close()
			f.set(func() { f.spoil = nil })
			q = f.queue(dir, nil)
			flush(t, q)
			f.expectLogged(7)
		})
	}
}

// TestQueueFork: two signed heads convict the log, and nothing leaves the spool any more.
func TestQueueFork(t *testing.T) {
	f := newFakeLog(t)
	alarms := make(chan error, 100)
	q := f.queue(queueDir(t), func(_ *Config, qc *QueueConfig) { qc.Alarm = func(err error) { alarms <- err } })
	enqueue(t, q, 1, 3)
	flush(t, q)
	f.set(func() { f.entries, f.ids = f.entries[:2], map[string]int{} }) // another history, as large
	enqueue(t, q, 4, 4)
	var evidence *EvidenceError
	if err := <-alarms; !errors.As(err, &evidence) {
		t.Fatal(err)
	}
	if _, err := q.Enqueue(t.Context(), queueEvent("e5"), Required); !errors.As(err, &evidence) {
		t.Error(err)
	}
	if st := q.Stats(); st.LoggedSeq != 3 || !st.Accused {
		t.Errorf("%+v", st)
	}
}

// TestQueueToken: a token that isn't accepted loses nothing.
func TestQueueToken(t *testing.T) {
	f := newFakeLog(t)
	dir := queueDir(t)
	alarms := make(chan error, 100)
	q := f.queue(dir, func(c *Config, qc *QueueConfig) {
		c.Token = "pt_revoked"
		qc.Alarm = func(err error) { alarms <- err }
	})
	enqueue(t, q, 1, 3)
	if err := <-alarms; !errors.Is(err, ErrUnauthorized) {
		t.Error(err)
	}
	if _, err := q.Enqueue(t.Context(), queueEvent("e4"), Required); !errors.Is(err, ErrUnauthorized) || !errors.Is(err, ErrNotLogged) {
		t.Error(err)
	}
	q.Close()
	q = f.queue(dir, nil)
	flush(t, q)
	f.expectLogged(4)
}

// TestQueueRefused: what the log refuses for good is kept aside, doesn't stop the others, and is accounted for.
func TestQueueRefused(t *testing.T) {
	f := newFakeLog(t)
	other := bytes.Replace(rawEvent("e3"), []byte("cron://test/"), []byte(queueSource), 1)
	f.add(other)
	f.answer = func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(503); return true }
	dir := queueDir(t)
	alarms := make(chan error, 100)
	q := f.queue(dir, func(_ *Config, qc *QueueConfig) { qc.Alarm = func(err error) { alarms <- err } })
	enqueue(t, q, 1, 5)
	f.set(func() { f.answer = nil })
	if err := <-alarms; !errors.Is(err, ErrConflict) {
		t.Error(err)
	}
	waitSeq(t, q, 6) // the report
	if _, err := q.Enqueue(t.Context(), queueEvent("e3"), Required); !errors.Is(err, ErrConflict) || !errors.Is(err, ErrNotLogged) {
		t.Error(err)
	}
	waitSeq(t, q, 8)
	_, seqs := f.logged()
	if want := []string{"", "1", "2", "4", "5", "6", "8"}; !slices.Equal(seqs, want) {
		t.Errorf("seqs %q, want %q", seqs, want)
	}
	var reports []string
	for _, e := range f.entries {
		if a, ok := event.ReadAccount(e.sent); ok {
			reports = append(reports, fmt.Sprintf("%s %d: %d of %d-%d", a.Action, a.Seq, a.Dropped, a.FirstDropped, a.LastDropped))
		}
	}
	if want := []string{"audit.dropped 6: 1 of 3-3", "audit.dropped 8: 1 of 7-7"}; !slices.Equal(reports, want) {
		t.Errorf("%q, want %q", reports, want)
	}
	b, err := os.ReadFile(filepath.Join(dir, "refused.ndjson"))
	if err != nil || bytes.Count(b, []byte("\n")) != 2 || !bytes.Contains(b, []byte("e3")) {
		t.Errorf("%q, %v", b, err)
	}
	if st := q.Stats(); st.Refused != 2 || st.Unreported != 0 {
		t.Errorf("%+v", st)
	}
}

// waitSeq waits until the seq is logged.
func waitSeq(t *testing.T, q *Queue, seq uint64) {
	t.Helper()
	for {
		q.mu.Lock()
		settled, left := q.settled, q.left
		q.mu.Unlock()
		if left >= seq {
			return
		}
		select {
		case <-settled:
		case <-t.Context().Done():
			t.Fatal("the test ended")
		}
	}
}

// TestQueueFull: best effort drops the newest and goes on, required stops; both are accounted for.
func TestQueueFull(t *testing.T) {
	f := newFakeLog(t)
	f.answer = func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(503); return true }
	dir := queueDir(t)
	few := func(_ *Config, qc *QueueConfig) { qc.MaxEvents = 8 }
	q := f.queue(dir, few)
	enqueue(t, q, 1, 8)
	for range 3 {
		if _, err := q.Enqueue(t.Context(), queueEvent("lost"), BestEffort); !errors.Is(err, ErrDropped) || !errors.Is(err, spool.ErrFull) {
			t.Error(err)
		}
		if _, err := q.Enqueue(t.Context(), queueEvent("stopped"), Required); !errors.Is(err, ErrNotLogged) || !errors.Is(err, spool.ErrFull) {
			t.Error(err)
		}
	}
	if st := q.Stats(); st.Dropped != 3 || st.Unreported != 3 {
		t.Errorf("%+v", st)
	}
	q.Close()
	f.set(func() { f.answer = nil })
	q = f.queue(dir, few)
	waitSeq(t, q, 12)
	_, seqs := f.logged()
	if want := append(names("", 1, 8), "12"); !slices.Equal(seqs, want) {
		t.Errorf("seqs %q", seqs)
	}
	a, ok := event.ReadAccount(f.entries[8].sent)
	if !ok || a.Dropped != 3 || a.FirstDropped != 9 || a.LastDropped != 11 {
		t.Errorf("%+v", a)
	}
}

// TestQueueDamaged: of a spool that is damaged in the middle the rest is sent, a person is told, and the log too.
func TestQueueDamaged(t *testing.T) {
	f := newFakeLog(t)
	dir := queueDir(t)
	q := f.queue(dir, func(c *Config, _ *QueueConfig) { c.HTTPClient = &http.Client{Transport: unreachable{}} })
	enqueue(t, q, 1, 20)
	q.Close()
	segments, err := filepath.Glob(filepath.Join(dir, "*.seg"))
	if err != nil || len(segments) != 1 {
		t.Fatal(segments, err)
	}
	b, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	b = bytes.Replace(b, []byte(`"id":"e11"`), []byte(`"id":"x11"`), 1)
	if err := os.WriteFile(segments[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	alarms := make(chan error, 100)
	q = f.queue(dir, func(_ *Config, qc *QueueConfig) { qc.Alarm = func(err error) { alarms <- err } })
	if err := <-alarms; !strings.Contains(err.Error(), "damaged") {
		t.Error(err)
	}
	waitSeq(t, q, 21)
	_, seqs := f.logged()
	if want := append(names("", 1, 10), names("", 12, 21)...); !slices.Equal(seqs, want) {
		t.Errorf("seqs %q", seqs)
	}
	if a, ok := event.ReadAccount(f.entries[19].sent); !ok || a.Dropped != 1 || a.FirstDropped != 11 {
		t.Errorf("%+v", a)
	}
}

// TestHeartbeat: at the start and then each interval the queue says up to where all is said.
func TestHeartbeat(t *testing.T) {
	f := newFakeLog(t)
	q := f.queue(queueDir(t), func(_ *Config, qc *QueueConfig) { qc.Heartbeat = 3 * time.Millisecond })
	waitSeq(t, q, 1)
	enqueue(t, q, 1, 3)
	waitSeq(t, q, q.Stats().LastSeq+2)
	q.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	beats := 0
	for i, e := range f.entries {
		if got := e.sent.Text("/seq"); got != strconv.Itoa(i+1) {
			t.Errorf("entry %d has seq %s", i, got)
		}
		if a, ok := event.ReadAccount(e.sent); ok {
			beats++
			if a.Action != event.ActionHeartbeat || a.LastSeq != uint64(i) || a.Count != uint64(i) {
				t.Errorf("%+v", a)
			}
		}
	}
	if beats < 2 || len(f.entries)-beats != 3 {
		t.Errorf("%d heartbeats among %d", beats, len(f.entries))
	}
}

// unreachable is a network in which there is no log, not even one that answers late.
type unreachable struct{}

func (unreachable) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("no route to host")
}

// TestQueueMasks: what looks like a secret is neither in the spool nor in the log, unless masking is switched off, and the
// caller's event is as it was.
func TestQueueMasks(t *testing.T) {
	more, err := mask.New([]string{"badge"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		mask *mask.Masker
		gone []string
		stay []string
	}{
		"default": {nil, []string{"hunter2", "s3cr3t"}, []string{"badge-77", "nightly"}},
		"more":    {more, []string{"hunter2", "s3cr3t", "badge-77"}, []string{"nightly"}},
		"off":     {mask.Off(), nil, []string{"hunter2", "s3cr3t", "badge-77", "nightly"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeLog(t)
			f.answer = func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(503); return true }
			dir := queueDir(t)
			q := f.queue(dir, func(_ *Config, qc *QueueConfig) { qc.Mask = c.mask })
			e := queueEvent("e1")
			e.Details = map[string]any{"env": map[string]any{"DB_PASSWORD": "hunter2"}, "my_badge": "badge-77", "command": []string{"mysql", "-ps3cr3t", "nightly"}}
			if _, err := q.Enqueue(t.Context(), e, BestEffort); err != nil {
				t.Fatal(err)
			}
			if e.Details["env"].(map[string]any)["DB_PASSWORD"] != "hunter2" {
				t.Error("the caller's event was changed")
			}
			files, err := filepath.Glob(filepath.Join(dir, "*"))
			if err != nil {
				t.Fatal(err)
			}
			var kept []byte
			for _, path := range files {
				b, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				kept = append(kept, b...)
			}
			f.set(func() { f.answer = nil })
			flush(t, q)
			where := map[string][]byte{"spool": kept, "log": f.entries[0].sent.JSON()}
			for place, b := range where {
				for _, s := range c.gone {
					if bytes.Contains(b, []byte(s)) {
						t.Errorf("%q is in the %s", s, place)
					}
				}
				for _, s := range c.stay {
					if !bytes.Contains(b, []byte(s)) {
						t.Errorf("%q isn't in the %s", s, place)
					}
				}
			}
		})
	}
}
