package recorder

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/recorder/rules"
	"github.com/prooftrail/prooftrail/verifier/client"
	"github.com/prooftrail/prooftrail/verifier/client/mask"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// kept is an event with the mode that it was enqueued in.
type kept struct {
	event.Event
	mode client.Mode
}

// fakeQueue is stricter than a client.Queue: it takes only what is valid, masked or not, and has one hook for faults.
type fakeQueue struct {
	t *testing.T

	mu     sync.Mutex
	events []kept
	more   chan struct{} // one for each event
	fault  func(event.Event, client.Mode) error
}

func newFakeQueue(t *testing.T) *fakeQueue { return &fakeQueue{t: t, more: make(chan struct{}, 10000)} }

func (q *fakeQueue) Enqueue(ctx context.Context, e event.Event, mode client.Mode) (client.Enqueued, error) {
	if e.ID == "" {
		e.ID = newID()
	}
	e.Source = "test://scheduler"
	if _, err := e.Fields(); err != nil {
		return client.Enqueued{}, errors.Join(client.ErrRefused, err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.fault != nil {
		if err := q.fault(e, mode); err != nil {
			return client.Enqueued{}, err
		}
	}
	q.events = append(q.events, kept{mask.Default().Event(e), mode})
	q.more <- struct{}{}
	return client.Enqueued{ID: e.ID}, nil
}

// next waits until there are n events, and returns all.
func (q *fakeQueue) next(n int) []kept {
	q.t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		q.mu.Lock()
		all := append([]kept(nil), q.events...)
		q.mu.Unlock()
		if len(all) >= n {
			return all
		}
		select {
		case <-q.more:
		case <-timeout:
			q.t.Fatalf("%d events, expected %d", len(all), n)
		}
	}
}

// none checks that there are exactly n events.
func (q *fakeQueue) none(n int) {
	q.t.Helper()
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.events) != n {
		q.t.Errorf("%d events, expected %d: %+v", len(q.events), n, q.events)
	}
}

func (q *fakeQueue) clear() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.events = nil
}

// stand is a recorder between a test and a scheduler.
type stand struct {
	t        *testing.T
	queue    *fakeQueue
	recorder *Recorder
	proxy    *httptest.Server
	upstream *httptest.Server
}

func ready(t testing.TB, name string) *rules.Set {
	t.Helper()
	s, err := rules.Ready(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func parsedRules(t testing.TB, text string) *rules.Set {
	t.Helper()
	s, err := rules.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func config(t testing.TB, upstream string, set *rules.Set, q Queue) Config {
	t.Helper()
	u, err := url.Parse(upstream)
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		Upstream: u, Rules: set, Mode: rules.BestEffort, Queue: q, Masker: mask.Default(), Key: bytes.Repeat([]byte{7}, 32),
		MaxCopy: 64 << 10, CopyMemory: 16 << 20, MaxSessions: 100, Patience: 20 * time.Second, AnswerTimeout: 20 * time.Second,
		ResourceTimeout: 5 * time.Second, RecordAfter: time.Minute, RequiredWait: 5 * time.Second,
		Metrics: NewMetrics(prometheus.NewRegistry()), Logger: slog.New(slog.DiscardHandler),
	}
}

// newStand puts a recorder before a handler. change may change what it is told.
func newStand(t *testing.T, set *rules.Set, scheduler http.HandlerFunc, change func(*Config)) *stand {
	t.Helper()
	s := &stand{t: t, queue: newFakeQueue(t), upstream: httptest.NewServer(scheduler)}
	t.Cleanup(s.upstream.Close)
	cfg := config(t, s.upstream.URL, set, s.queue)
	cfg.TrustedProxies = []netip.Prefix{}
	if change != nil {
		change(&cfg)
	}
	var err error
	if s.recorder, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.recorder.Close)
	s.proxy = httptest.NewServer(s.recorder)
	t.Cleanup(s.proxy.Close)
	return s
}

// do sends a request through the proxy, its headers as "Name: value".
func (s *stand) do(method, target, body string, headers ...string) (status int, answer string, h http.Header) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.proxy.URL, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	path, query, _ := strings.Cut(target, "?")
	if err := setPath(req.URL, path); err != nil {
		s.t.Fatalf("%s: %v", target, err)
	}
	req.URL.RawQuery = query
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	} else {
		req.Body, req.ContentLength = nil, 0
	}
	for _, h := range headers {
		if h == "" {
			continue
		}
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

// patchText is a patch as JSON.
func patchText(t *testing.T, e kept) string {
	t.Helper()
	if e.Change == nil {
		return ""
	}
	b, err := json.Marshal(e.Change.Patch)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func counter(t *testing.T, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

type dial = func(ctx context.Context, network, address string) (net.Conn, error)

// dialOnce connects the first time alone.
func dialOnce(d dial, done *bool) dial {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if *done {
			return nil, errors.New("no more connections")
		}
		*done = true
		return d(ctx, network, address)
	}
}
