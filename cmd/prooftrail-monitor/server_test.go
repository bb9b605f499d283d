package main

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/verifier/monitor"
	"github.com/prooftrail/prooftrail/verifier/monitor/alarm"
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

// TestGrace: an alarm that lasts isn't taken for gone after a restart, before its patience is over.
func TestGrace(t *testing.T) {
	s := openServer(t)
	s.settings.peers = append(s.settings.peers, monitor.PeerConfig{Silent: 3 * time.Hour})
	if g := s.settings.grace(); g < 3*time.Hour || g > 4*time.Hour {
		t.Error(g)
	}
}
