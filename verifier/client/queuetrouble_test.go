package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/verifier/client/spool"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// TestQueueCloseRequired: whoever waits for a required event while the queue is closed is told at once, also
// if the event was still on its way to the disk.
func TestQueueCloseRequired(t *testing.T) {
	f := newFakeLog(t)
	f.answer = func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(503); return true }
	for range 40 {
		q := f.queue(queueDir(t), nil)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if _, err := q.Enqueue(ctx, queueEvent(""), Required); !errors.Is(err, ErrNotLogged) || !errors.Is(err, spool.ErrClosed) {
					t.Errorf("required: %v", err)
				}
			})
		}
		q.Close()
		wg.Wait()
		cancel()
		if t.Failed() {
			return
		}
	}
}

// TestQueueSendAfter: a queue that is told that the log is down keeps it alone until somebody needs it.
func TestQueueSendAfter(t *testing.T) {
	f := newFakeLog(t)
	q := f.queue(queueDir(t), func(_ *Config, qc *QueueConfig) { qc.SendAfter = time.Hour })
	enqueue(t, q, 1, 5)
	if st := q.Stats(); st.Waiting != 5 || st.Failures != 0 {
		t.Errorf("%+v", st)
	}
	if got, err := q.Enqueue(t.Context(), queueEvent("e6"), Required); err != nil || !got.Result.Verified() {
		t.Fatalf("required: %+v, %v", got, err)
	}
	f.expectLogged(6)
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.asked) != 1 {
		t.Errorf("asked %q, expected all at once", f.asked)
	}
}

// TestQueueTooLarge: where something before the log takes small requests only, they become small, and grow again later. An event
// that is too large by itself is told, and so is who waits.
func TestQueueTooLarge(t *testing.T) {
	f := newFakeLog(t)
	most := 2 // events that a request may have
	var sizes []int
	f.answer = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPost {
			return false
		}
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		r.Body = io.NopCloser(bytes.NewReader(b))
		n := bytes.Count(b, []byte("\n"))
		sizes = append(sizes, n) // f.mu is held
		if n > most {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
		}
		return n > most
	}
	alarms := make(chan error, 100)
	dir := queueDir(t)
	q := f.queue(dir, func(c *Config, qc *QueueConfig) {
		c.HTTPClient = &http.Client{Transport: unreachable{}}
	})
	enqueue(t, q, 1, 12)
	q.Close()
	q = f.queue(dir, func(_ *Config, qc *QueueConfig) { qc.Alarm = func(err error) { alarms <- err } })
	flush(t, q)
	f.expectLogged(12)
	f.mu.Lock()
	if slices.Max(sizes) != 12 || len(sizes) > 20 {
		t.Errorf("requests of %v events", sizes)
	}
	most, sizes = 0, nil
	f.mu.Unlock()
	if _, err := q.Enqueue(t.Context(), queueEvent("e13"), Required); !errors.Is(err, ErrNotLogged) || !errors.Is(err, errTooLarge) {
		t.Errorf("required: %v", err)
	}
	if err := <-alarms; !errors.Is(err, errTooLarge) || !strings.Contains(err.Error(), "seq 13") {
		t.Errorf("alarm: %v", err)
	}
	f.set(func() { most = 100 })
	flush(t, q)
	f.expectLogged(13)
}

// TestQueueSource: whose a spool is, is known from its first moment on, as a whole.
func TestQueueSource(t *testing.T) {
	f := newFakeLog(t)
	dir := queueDir(t)
	q := f.queue(dir, nil)
	q.Close()
	file := filepath.Join(dir, "source")
	if b, err := os.ReadFile(file); err != nil || string(b) != queueSource+"\n" {
		t.Errorf("%q, %v", b, err)
	}
	if err := os.Truncate(file, 0); err != nil { // a disk that was full
		t.Fatal(err)
	}
	f.queue(dir, nil).Close()
	if _, err := f.client(nil).OpenQueue(QueueConfig{Dir: dir, Source: "cron://other/"}); err == nil {
		t.Error("opened as another's")
	}
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
	if err := os.WriteFile(filepath.Join(dir, "refused.ndjson"), []byte(`{"seq":1,"er`), 0o600); err != nil { // cut by a crash
		t.Fatal(err)
	}
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
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	for i, line := range lines[1:] {
		var aside struct {
			Seq          int
			Error, Event string
		}
		if err := json.Unmarshal([]byte(line), &aside); err != nil || aside.Seq != 3+4*i || !strings.Contains(aside.Event, `"id":"e3"`) || aside.Error == "" {
			t.Errorf("%q, %v", line, err)
		}
	}
	if len(lines) != 3 {
		t.Errorf("%q", lines)
	}
	if st := q.Stats(); st.Refused != 2 || st.Unreported != 0 {
		t.Errorf("%+v", st)
	}
}
