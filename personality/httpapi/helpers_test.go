package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/personality"
	"github.com/prooftrail/prooftrail/verifier"
)

// harness is a running server with its client. All calls go through do, which
// holds each answer against the document.
type harness struct {
	t      testing.TB
	server *Server
	addr   string
	client *http.Client

	mu   sync.Mutex
	seen map[string]bool // "METHOD template status" of each answer

	fake *fakeLog // one of these two is set
	real *realLog
}

// realLog is a service of its own in a directory of the test's.
type realLog struct {
	cfg    personality.Config
	svc    *personality.Service
	policy *verifier.Policy
	tokens map[string]string // secrets by name: submit, read, admin, other (submits and reads as another tenant), all
}

type logWriter struct{ t testing.TB }

func (w logWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

func testLogger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(logWriter{t}, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// withFake serves a fakeLog.
func withFake(t testing.TB, change func(*Config)) *harness {
	t.Helper()
	f := newFakeLog(t)
	h := serve(t, f, func(c *Config) {
		c.Doors = []Door{fakeDoor{}}
		if change != nil {
			change(c)
		}
	})
	h.fake = f
	return h
}

// withReal serves a real log.
func withReal(t testing.TB, change func(*Config)) *harness {
	t.Helper()
	r := newRealLog(t)
	h := serve(t, Of(r.svc), change)
	h.real = r
	return h
}

func newRealLog(t testing.TB) *realLog { return newRealLogWith(t, func(*personality.Config) {}) }

func newRealLogWith(t testing.TB, change func(*personality.Config)) *realLog {
	t.Helper()
	ctx := context.Background()
	cfg := personality.Config{Dir: filepath.Join(t.TempDir(), "data")}
	change(&cfg)
	made, err := personality.Create(ctx, personality.CreateConfig{Config: cfg, Origin: "example.com/audit"})
	if err != nil {
		t.Fatal(err)
	}
	r := &realLog{cfg: cfg, tokens: map[string]string{}}
	if r.svc, err = personality.Open(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.svc.Close(ctx); err != nil {
			t.Errorf("close log: %v", err)
		}
	})
	if r.policy, err = verifier.ParsePolicy([]byte("log " + made.VKey + "\nquorum none\n")); err != nil {
		t.Fatal(err)
	}
	for name, req := range map[string]personality.TokenRequest{
		"submit":     {Tenant: "default", Roles: []personality.Role{"submit"}, Sources: []string{"cron://"}},
		"read":       {Tenant: "default", Roles: []personality.Role{"read"}},
		"admin":      {Tenant: "*", Roles: []personality.Role{"admin"}},
		"other":      {Tenant: "other", Roles: []personality.Role{"submit", "read"}, Sources: []string{"cron://"}},
		"otheradmin": {Tenant: "other", Roles: []personality.Role{"admin"}},
		"all":        {Tenant: "*", Roles: []personality.Role{"read"}},
	} {
		req.Name = name
		if _, r.tokens[name], err = r.svc.AddToken(ctx, personality.OperatorCaller(), req); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func serve(t testing.TB, log Log, change func(*Config)) *harness {
	t.Helper()
	cfg := Config{Log: log, Logger: testLogger(t)}
	if change != nil {
		change(&cfg)
	}
	s, err := NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	h := &harness{t: t, server: s, addr: l.Addr().String(), seen: map[string]bool{},
		client: &http.Client{Transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64}}}
	t.Cleanup(func() {
		h.client.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Errorf("close server: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return h
}

// call is a request to make.
type call struct {
	method, path string
	token        string // a name of realLog.tokens, or the secret itself; "" is none
	body         string
	contentType  string // default application/json with a body
	header       map[string]string
}

// with is the call, changed.
func with(c call, change func(*call)) call {
	change(&c)
	return c
}

type reply struct {
	status int
	header http.Header
	body   []byte
}

func (h *harness) secret(token string) string {
	if h.real != nil && h.real.tokens[token] != "" {
		return h.real.tokens[token]
	}
	if token == "fake" {
		return fakeSecret
	}
	return token
}

func (h *harness) request(c call) *http.Request {
	h.t.Helper()
	var body io.Reader
	if c.body != "" {
		body = strings.NewReader(c.body)
	}
	r, err := http.NewRequest(c.method, "http://"+h.addr+c.path, body)
	if err != nil {
		h.t.Fatal(err)
	}
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+h.secret(c.token))
	}
	if c.body != "" || c.contentType != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if c.contentType != "" {
		r.Header.Set("Content-Type", c.contentType)
	}
	for k, v := range c.header {
		r.Header.Set(k, v)
	}
	return r
}

// do makes the request and holds the answer against the document.
func (h *harness) do(c call) *reply {
	h.t.Helper()
	a, err := h.try(c)
	if err != nil {
		h.t.Fatal(err)
	}
	return a
}

func (h *harness) try(c call) (*reply, error) {
	h.t.Helper()
	resp, err := h.client.Do(h.request(c))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	a := &reply{status: resp.StatusCode, header: resp.Header}
	if a.body, err = io.ReadAll(resp.Body); err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	template := theDocument().pathOf(strings.Split(c.path, "?")[0])
	h.mu.Lock()
	h.seen[fmt.Sprintf("%s %s %d", c.method, template, a.status)] = true
	h.mu.Unlock()
	if err := theDocument().check(c.method, c.path, a.status, a.header, a.body); err != nil {
		h.t.Errorf("against the document: %v", err)
	}
	return a, nil
}

// post submits, and expects a status.
func (h *harness) post(token, path, contentType, body string, status int) *reply {
	h.t.Helper()
	a := h.do(call{method: "POST", path: path, token: token, contentType: contentType, body: body})
	a.want(h.t, status)
	return a
}

// get expects 200.
func (h *harness) get(token, path string) *reply {
	h.t.Helper()
	a := h.do(call{method: "GET", path: path, token: token})
	a.want(h.t, 200)
	return a
}

func (a *reply) want(t testing.TB, status int) {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d: %.500s", a.status, status, a.body)
	}
}

// result is the JSON of a submitted event or of a problem.
type result struct {
	Status        any // a word, or a problem's number
	Index         uint64
	LeafHash      string `json:"leaf_hash"`
	Receipt       string
	Type          string
	Pointer       *string
	Parameter     string
	Code          string
	Detail        string
	RequestID     string  `json:"request_id"`
	ConflictIndex *uint64 `json:"conflict_index"`
	Problem       *result
}

func (a *reply) result(t testing.TB) result {
	t.Helper()
	return decode[result](t, a.body)
}

func (a *reply) lines(t testing.TB) []result {
	t.Helper()
	var rs []result
	for l := range bytes.Lines(a.body) {
		rs = append(rs, decode[result](t, l))
	}
	return rs
}

func (a *reply) results(t testing.TB) []result {
	t.Helper()
	return decode[struct{ Results []result }](t, a.body).Results
}

func decode[T any](t testing.TB, b []byte) (v T) {
	t.Helper()
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatalf("%v: %.300s", err, b)
	}
	return v
}

// sample is a valid event on one line; note makes its content differ.
func sample(id, note string) string {
	return `{"schema":"prooftrail.event/1","id":"` + id + `","source":"cron://node1","time":"2026-01-31T23:59:59Z","action":"run.finish",` +
		`"outcome":"failure","reason":{"code":"exit_1","text":"` + note + `"},"actor":{"type":"schedule","id":"s1"},` +
		`"target":[{"type":"job","id":"j1"}],"job":{"id":"j1","run_id":"r1","exit_code":1}}`
}

// verify checks a receipt with the verifier.
func (r *realLog) verify(t testing.TB, receipt string, index uint64) verifier.Verdict {
	t.Helper()
	v, err := verifier.VerifyReceipt([]byte(receipt), r.policy)
	if err != nil {
		t.Fatalf("receipt: %v", err)
	}
	if v.Index != index {
		t.Fatalf("receipt of entry %d, want %d", v.Index, index)
	}
	return v
}
