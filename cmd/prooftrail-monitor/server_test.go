package main

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/monitor"
	"github.com/prooftrail/prooftrail/verifier/monitor/alarm"
	"github.com/prooftrail/prooftrail/verifier/monitor/store"
	"github.com/prooftrail/prooftrail/verifier/monitor/witness"
)

// openServer is a server that follows a log that isn't there, and doesn't run.
func openServer(t *testing.T, more ...string) *server {
	t.Helper()
	dir, lines := goodConfig(t)
	name := filepath.Join(dir, "m.yaml")
	lines = append(append(lines, "listen: [127.0.0.1:0]", "admin: 127.0.0.1:0"), more...)
	if err := os.WriteFile(name, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := loadConfig(name)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := f.settings(t.Output())
	if err != nil {
		t.Fatal(err)
	}
	s, err := newServer(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.closeFiles(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func call(h http.Handler, method, target, body string, header map[string]string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	for k, v := range header {
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// TestAdmin: a foreign page in a browser on this machine can neither acknowledge nor read.
func TestAdmin(t *testing.T) {
	s := openServer(t)
	s.board.Raise(alarm.Alarm{Name: "fork", Log: "example.com/audit", Severity: alarm.Critical, Summary: "x"})
	id := s.board.Active()[0].ID()
	h := s.admin()
	ack := "http://127.0.0.1:8091/v1/alarms/" + id + "/ack"
	for _, tt := range []struct {
		method, target, body string
		header               map[string]string
		status               int
	}{
		{"GET", "http://127.0.0.1:8091/", "", nil, 200},
		{"GET", "http://localhost/metrics", "", nil, 200},
		{"GET", "http://[::1]:8091/v1/status", "", nil, 200},
		{"GET", "http://evil.example/v1/status", "", nil, http.StatusMisdirectedRequest},
		{"GET", "http://127.0.0.1.evil.example:8091/", "", nil, http.StatusMisdirectedRequest},
		{"POST", ack, `{"by":"eve"}`, map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		{"POST", ack, `{"by":"eve"}`, map[string]string{"Origin": "https://evil.example"}, 403},
		{"POST", ack, `{"by":""}`, nil, 400},
		{"POST", ack, `{"by":"ada","more":1}`, nil, 400},
		{"POST", ack, `{"by":"ada"}{}`, nil, 400},
		{"POST", ack, `{"by":"` + strings.Repeat("a", maxAckBytes) + `"}`, nil, 400},
		{"GET", ack, "", nil, 405},
		{"POST", "http://127.0.0.1/v1/alarms/none/ack", `{"by":"ada"}`, nil, 404},
		{"POST", ack, `{"by":"ada","note":"n"}`, nil, 200},
	} {
		if w := call(h, tt.method, tt.target, tt.body, tt.header); w.Code != tt.status {
			t.Errorf("%s %s %s %v: %d %s", tt.method, tt.target, tt.body, tt.header, w.Code, w.Body)
		}
	}
	if a := s.board.Active()[0]; a.Ack == nil || a.Ack.By != "ada" {
		t.Errorf("%+v", a)
	}
}

// TestPublic: what there is, and that all of it is limited.
func TestPublic(t *testing.T) {
	s := openServer(t, "limits:", "  rate: 1", "metrics: 127.0.0.1:0")
	h := s.public()
	unready := call(h, "GET", "/readyz", "", nil)
	if unready.Code != 503 || !strings.Contains(unready.Body.String(), "example.com/audit hasn't been looked at yet\n") {
		t.Errorf("%d %s", unready.Code, unready.Body)
	}
	for _, tt := range []struct {
		method, target string
		status         int
	}{
		{"GET", "/healthz", 200}, {"GET", "/nothing", 404}, {"GET", "/metrics", 404}, {"POST", "/healthz", 405}, {"POST", "/", 405},
		{"GET", "/" + strings.Repeat("a", 64) + "/checkpoint", 404}, {"GET", "/add-checkpoint", 405}, {"GET", "/gossip/v1/evidence", 200}, {"GET", "/", 429},
		{"POST", "/add-checkpoint", 429}, {"GET", "/distributor/v0/logs", 429}, {"GET", "/healthz", 200},
	} {
		if w := call(h, tt.method, tt.target, "", nil); w.Code != tt.status {
			t.Errorf("%s %s: %d %s", tt.method, tt.target, w.Code, w.Body)
		}
	}
	only := s.onlyMetrics()
	if w := call(only, "GET", "/metrics", "", nil); w.Code != 200 || !strings.Contains(w.Body.String(), `prooftrail_monitor_http_requests_total{class="4xx",route="add-checkpoint"} 2`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := call(only, "GET", "/v1/status", "", nil); w.Code != 404 {
		t.Errorf("%d", w.Code)
	}
}

// TestProxies: only a trusted proxy's word for the client's address is taken.
func TestProxies(t *testing.T) {
	var got string
	h := behind([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.RemoteAddr }))
	for _, tt := range []struct{ remote, forwarded, want string }{
		{"192.0.2.1:5", "198.51.100.9", "192.0.2.1:5"},
		{"10.0.0.1:5", "198.51.100.9", "198.51.100.9:0"},
		{"10.0.0.1:5", "203.0.113.1, 198.51.100.9, 10.0.0.7", "198.51.100.9:0"},
		{"10.0.0.1:5", "203.0.113.1, nonsense", "10.0.0.1:0"},
		{"10.0.0.1:5", "", "10.0.0.1:0"},
		{"[::ffff:10.0.0.1]:5", "2001:db8::1", "[2001:db8::1]:0"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = tt.remote
		if tt.forwarded != "" {
			r.Header.Set("X-Forwarded-For", tt.forwarded)
		}
		h.ServeHTTP(httptest.NewRecorder(), r)
		if got != tt.want {
			t.Errorf("%s, %s: %s, expected %s", tt.remote, tt.forwarded, got, tt.want)
		}
	}
}

// TestWitnessFailing: a witness whose store is gone rings, and is quiet once it can cosign.
func TestWitnessFailing(t *testing.T) {
	s := openServer(t)
	status := http.StatusInternalServerError
	h := s.countCosigning(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
	rings := func() bool { return len(s.board.Active()) == 1 && s.board.Active()[0].Name == witnessFailing }
	call(h, "POST", "/add-checkpoint", "", nil)
	if !rings() {
		t.Error("no alarm")
	}
	status = http.StatusConflict
	call(h, "POST", "/add-checkpoint", "", nil)
	if !rings() {
		t.Error("a refusal ended the alarm")
	}
	status = http.StatusOK
	call(h, "POST", "/add-checkpoint", "", nil)
	if rings() {
		t.Error("it goes on")
	}
}

// TestReadiness: it is about work: looks, and a book that can be written.
func TestReadiness(t *testing.T) {
	s := openServer(t)
	why := func() string { return strings.Join(s.ready.reasons(s.monitor.Status()), "\n") }
	if w := why(); !strings.Contains(w, "the book hasn't been written lately") || !strings.Contains(w, "hasn't been looked at yet") {
		t.Errorf("before anything: %s", w)
	}
	s.ready.once(t.Context())
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = s.monitor.Run(ctx) })
	for deadline := time.Now().Add(20 * time.Second); why() != ""; { // the log isn't there: that is an alarm
		if time.Now().After(deadline) {
			t.Fatal(why())
		}
		<-time.After(5 * time.Millisecond)
	}
	stop()
	running.Wait()
	s.ready.lag = time.Nanosecond
	if w := why(); !strings.Contains(w, "example.com/audit hasn't been looked at since ") {
		t.Errorf("long after: %s", w)
	}
	if err := s.book.Close(); err != nil {
		t.Fatal(err)
	}
	s.ready.once(t.Context())
	if w := why(); !strings.Contains(w, "the book can't be written") {
		t.Errorf("without a book: %s", w)
	}
	s.ready.drain()
	if w := why(); !strings.Contains(w, "it is shutting down") {
		t.Errorf("at the end: %s", w)
	}
}

// TestConnections: who holds connections open keeps nobody out.
func TestConnections(t *testing.T) {
	s := openServer(t, "limits:", "  max_connections: 3")
	if err := s.serve(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.stopServing(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	addr := strings.TrimPrefix(s.urls[0], "http://")
	for range 10 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write([]byte("GET /healthz HTTP/1.1\r\nX-Slow: ")); err != nil {
			t.Fatal(err)
		}
	}
	resp, err := http.Get(s.urls[0] + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || testutil.ToFloat64(s.metrics.shed) < 7 {
		t.Errorf("%d, %v closed", resp.StatusCode, testutil.ToFloat64(s.metrics.shed))
	}
	big, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.urls[0]+"/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	big.Header.Set("X-Big", strings.Repeat("x", 2*maxHeaderBytes))
	resp, err = http.DefaultClient.Do(big)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a header without end: %d", resp.StatusCode)
	}
}

// TestAgent: a witness whose key is in an ssh-agent cosigns; without the agent it fails, and rings.
func TestAgent(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	keys := agent.NewKeyring()
	if err := keys.Add(agent.AddedKey{PrivateKey: private}); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "agent")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _ = agent.ServeAgent(keys, c); c.Close() }()
		}
	}()
	pub, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	dir, signer := logOfOurOwn(t)
	if err := store.Create(filepath.Join(dir, "m", storeFile)); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "m.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	config := string(text) + fmt.Sprintf("witness:\n  agent:\n    name: w.example/agent\n    socket: %s\n    public_key: %q\n", socket, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(pub))))
	f, err := parseConfig(filepath.Join(dir, "m.yaml"), []byte(config))
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := f.settings(t.Output())
	if err != nil {
		t.Fatal(err)
	}
	s, err := newServer(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.closeFiles(); err != nil {
			t.Error(err)
		}
	}()
	head, err := verifier.SignCheckpoint(verifier.Checkpoint{Origin: "example.com/audit", Size: 1, Root: verifier.Hash{1}}, signer)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(old uint64) *httptest.ResponseRecorder {
		return call(s.public(), "POST", "/add-checkpoint", string(witness.Request{OldSize: old, Note: head}.Bytes()), nil)
	}
	if w := ask(0); w.Code != 200 || !strings.HasPrefix(w.Body.String(), "— w.example/agent ") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if err := keys.RemoveAll(); err != nil {
		t.Fatal(err)
	}
	if w := ask(1); w.Code != 500 || len(s.board.Active()) != 1 || s.board.Active()[0].Name != witnessFailing {
		t.Errorf("%d %s %+v", w.Code, w.Body, s.board.Active())
	}
	f, err = parseConfig(filepath.Join(dir, "m.yaml"), []byte(config))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.settings(t.Output()); err == nil || !strings.Contains(err.Error(), "witness.agent: ") {
		t.Errorf("%v", err)
	}
}

// TestGrace: an alarm that lasts isn't taken for gone after a restart, before its patience is over.
func TestGrace(t *testing.T) {
	s := openServer(t)
	s.settings.peers = append(s.settings.peers, monitor.PeerConfig{Silent: 3 * time.Hour})
	if g := s.settings.grace(); g < 3*time.Hour || g > 4*time.Hour {
		t.Error(g)
	}
}
