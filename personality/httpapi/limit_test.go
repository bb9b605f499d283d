package httpapi

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestRateLimit: events count, not requests.
func TestRateLimit(t *testing.T) {
	h := withFake(t, func(c *Config) { c.EventsPerSecond, c.BurstEvents = 1e-6, MaxEvents })
	var events []string
	for i := range MaxEvents {
		events = append(events, sample(strconv.Itoa(i), "x"))
	}
	batch := func(n int) string { return `{"events":[` + strings.Join(events[:n], ",") + `]}` }
	h.post("fake", "/v1/events", jsonType, batch(MaxEvents-2), 200)
	a := h.post("fake", "/v1/events", jsonType, batch(3), 429)
	if n, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || n < 1 {
		t.Errorf("Retry-After %q", a.header.Get("Retry-After"))
	}
	size := h.fake.size()
	rs := h.post("fake", "/v1/events", ndjsonType, strings.Join(events[:3], "\n"), 200).lines(t)
	// The batch before has cost one: it was counted before its body was read.
	if rs[0].Status != "duplicate" || rs[1].Problem == nil || rs[1].Problem.Type != "/problems/rate-limited" {
		t.Errorf("%+v", rs)
	}
	h.post("fake", "/v1/events", ndjsonType, strings.Join(events[:3], "\n"), 429)
	h.do(call{method: "GET", path: "/v1/logs/audit/entries/0", token: "fake"}).want(t, 429)
	if h.fake.size() != size {
		t.Error("events beyond the rate were admitted")
	}
	h.get("", "/logs/audit/checkpoint") // public calls have no token's rate
}

// TestRateLimitOfRefused: what turns out to be no event has cost as much as one.
func TestRateLimitOfRefused(t *testing.T) {
	h := withFake(t, func(c *Config) { c.EventsPerSecond, c.BurstEvents = 1e-6, MaxEvents })
	for range MaxEvents {
		h.post("fake", "/v1/events", jsonType, `{"events":[`, 400)
	}
	h.post("fake", "/v1/events", jsonType, `{"events":[`, 429)
}

// TestLinesAreCounted: what the lines of a request hold until it is answered is
// counted against BodyMemory, and given back.
func TestLinesAreCounted(t *testing.T) {
	h := withFake(t, func(c *Config) { c.BodyMemory = 16 << 20 })
	line := sample("big", strings.Repeat("x", 200_000))
	var lines []string
	for i := range 40 { // 8 MB, three times that with their openings
		lines = append(lines, strings.Replace(line, `"big"`, strconv.Quote(strconv.Itoa(i)), 1))
	}
	for range 2 {
		rs := h.post("fake", "/v1/events", ndjsonType, strings.Join(lines, "\n"), 200).lines(t)
		busy := 0
		for _, r := range rs {
			if r.Problem != nil && r.Problem.Type == "/problems/busy" {
				busy++
			}
		}
		if len(rs) != len(lines) || busy < 10 || busy > 20 {
			t.Errorf("%d of %d lines refused as busy", busy, len(rs))
		}
	}
}

func TestAuthFailureLimit(t *testing.T) {
	h := withFake(t, func(c *Config) { c.AuthFailuresPerMinute = 3 })
	for i, want := range []int{401, 401, 401, 429, 429} {
		a := h.do(call{method: "GET", path: "/v1/tokens", token: "pt_wrong"})
		if a.status != want {
			t.Errorf("%d: %d", i, a.status)
		}
		if got := a.header.Get("WWW-Authenticate"); want == 401 && !strings.Contains(got, "invalid_token") {
			t.Errorf("challenge %q", got)
		}
	}
	h.get("fake", "/v1/tokens") // a valid one passes
	none := withFake(t, nil).do(call{method: "GET", path: "/v1/tokens"})
	if got := none.header.Get("WWW-Authenticate"); got != `Bearer realm="prooftrail"` {
		t.Errorf("challenge %q", got)
	}
}

func TestLimiters(t *testing.T) {
	ls := newLimiters(10, 5)
	start := time.Unix(0, 0)
	if ls.get("a").take(start, 5) != 0 {
		t.Error("the burst isn't there")
	}
	if wait := ls.get("a").take(start, 2); wait != 200*time.Millisecond {
		t.Errorf("wait %v", wait)
	}
	if ls.get("a").take(start.Add(200*time.Millisecond), 2) != 0 {
		t.Error("not refilled")
	}
	for i := range 5 * maxLimiters {
		if ls.get(strconv.Itoa(i)); i%(maxLimiters/2) == 0 && ls.get("a").take(start, 5) == 0 {
			t.Fatal("a limiter in use was forgotten")
		}
	}
	if n := len(ls.now) + len(ls.old); n > 2*maxLimiters {
		t.Errorf("%d limiters", n)
	}
}

func TestSeconds(t *testing.T) {
	for d, want := range map[time.Duration]int{0: 1, 1: 1, time.Second: 1, time.Second + 1: 2, 1 << 62: 3600} {
		if got := seconds(d); got != want {
			t.Errorf("%v: %d", d, got)
		}
	}
}

func TestPeerIP(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, c := range []struct {
		remote    string
		forwarded []string
		trusted   []netip.Prefix
		want      string
	}{
		{"192.0.2.1:5", nil, nil, "192.0.2.1"},
		{"192.0.2.1:5", []string{"198.51.100.7"}, nil, "192.0.2.1"},
		{"192.0.2.1:5", []string{"198.51.100.7"}, trusted, "192.0.2.1"},
		{"10.0.0.1:5", []string{"198.51.100.7"}, nil, "10.0.0.1"},
		{"10.0.0.1:5", []string{"198.51.100.7"}, trusted, "198.51.100.7"},
		{"10.0.0.1:5", []string{"203.0.113.9, 198.51.100.7"}, trusted, "198.51.100.7"},
		{"10.0.0.1:5", []string{"203.0.113.9, 198.51.100.7, 10.2.2.2"}, trusted, "198.51.100.7"},
		{"10.0.0.1:5", []string{"203.0.113.9", "198.51.100.7", "10.2.2.2"}, trusted, "198.51.100.7"},
		{"10.0.0.1:5", []string{"198.51.100.7, garbage, 10.2.2.2"}, trusted, "10.2.2.2"},
		{"10.0.0.1:5", []string{"198.51.100.7, 10.2.2.2:80"}, trusted, "10.0.0.1"},
		{"10.0.0.1:5", []string{""}, trusted, "10.0.0.1"},
		{"10.0.0.1:5", []string{"10.3.3.3, 10.2.2.2"}, trusted, "10.3.3.3"},
		{"[fd00::1]:5", []string{"2001:db8::7"}, trusted, "2001:db8::7"},
		{"[::ffff:10.0.0.1]:5", []string{"::ffff:198.51.100.7"}, trusted, "198.51.100.7"},
		{"[fe80::1%eth0]:5", nil, nil, "fe80::1"},
		{"@", []string{"198.51.100.7"}, trusted, "invalid IP"},
	} {
		a := &API{cfg: Config{TrustedProxies: c.trusted}}
		r := &http.Request{RemoteAddr: c.remote, Header: http.Header{"X-Forwarded-For": c.forwarded}}
		if got := a.peerIP(r).String(); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
	if a, b := addressKey(netip.MustParseAddr("2001:db8::1")), addressKey(netip.MustParseAddr("2001:db8::ffff")); a != b {
		t.Errorf("%s and %s count apart", a, b)
	}
}

func TestRequestID(t *testing.T) {
	h := withFake(t, nil)
	for given, kept := range map[string]bool{"abc-DEF_1.2:3": true, "": false, "a b": false, "a\"b": false, strings.Repeat("x", 65): false} {
		a := h.do(call{method: "GET", path: "/healthz", header: map[string]string{"X-Request-Id": given}})
		if got := a.header.Get("X-Request-Id"); (got == given) != kept || got == "" {
			t.Errorf("%q: %q", given, got)
		}
	}
}

func TestMetricsAndAccessLog(t *testing.T) {
	var mu sync.Mutex
	var text strings.Builder
	reg := prometheus.NewRegistry()
	h := withFake(t, func(c *Config) {
		c.Registerer, c.Gatherer = reg, reg
		c.AccessLog = slog.New(slog.NewTextHandler(lockedWriter{&mu, &text}, nil))
	})
	h.post("fake", "/v1/events", jsonType, sample("a", "x"), 201)
	h.post("fake", "/v1/events", jsonType, `{"events":[{},`+sample("b", "x")+`]}`, 200)
	h.do(call{method: "GET", path: "/v1/events/a?source=cron%3A%2F%2Fvery-private", token: "pt_secret-secret"})
	h.do(call{method: "BREW", path: "/nowhere"})
	for m, want := range map[prometheus.Collector]float64{
		h.server.api.metrics.requests[0][2]:            2,
		h.server.api.metrics.requests[1][4]:            1,
		h.server.api.metrics.requests[len(routes)][4]:  1,
		h.server.api.metrics.refused[kindInvalidEvent]: 1,
		h.server.api.metrics.refused[kindUnauthorized]: 1,
		h.server.api.metrics.refused[kindNotFound]:     1,
	} {
		if got := testutil.ToFloat64(m); got != want {
			t.Errorf("%v: %v, want %v", m.(prometheus.Metric).Desc(), got, want)
		}
	}
	page := h.get("", "/metrics").body
	for _, want := range []string{`prooftrail_http_requests_total{class="2xx",route="POST /v1/events"} 2`, "prooftrail_http_in_flight 1"} {
		if !bytes.Contains(page, []byte(want)) {
			t.Errorf("no %s in\n%.2000s", want, page)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for _, bad := range []string{"secret", "private", sample("a", "x")} {
		if strings.Contains(text.String(), bad) {
			t.Errorf("the access log has %q", bad)
		}
	}
	if n := strings.Count(text.String(), "msg=request"); n < 4 || !strings.Contains(text.String(), `route="GET /v1/events/{id}"`) {
		t.Errorf("%s", text.String())
	}
	if _, err := New(Config{Log: h.fake, Registerer: reg}); err == nil {
		t.Error("metrics registered twice")
	}
}

func TestBadConfig(t *testing.T) {
	for i, change := range []func(*Config){
		func(c *Config) { c.Log = nil },
		func(c *Config) { c.BurstEvents = 1 },
		func(c *Config) { c.BodyMemory = 1 },
		func(c *Config) { c.MaxConnections = -1 },
		func(c *Config) { c.AnswerTimeout = -1 },
		func(c *Config) { c.TLSCert = "cert.pem" },
		func(c *Config) { c.TLSCert, c.TLSKey = "none", "none" },
	} {
		c := Config{Log: newFakeLog(t)}
		change(&c)
		if _, err := NewServer(c); err == nil {
			t.Errorf("case %d is taken", i)
		}
	}
}

// TestBodyMemory: bodies under way share a bounded memory, and give it back.
func TestBodyMemory(t *testing.T) {
	h := withFake(t, func(c *Config) { c.BodyMemory = 2 * MaxBodyBytes })
	large := `{"events":[` + strings.Repeat(" ", 5<<20) + sample("a", "x") + `]}`
	h.post("fake", "/v1/events", jsonType, large, 200)
	if n := h.server.api.bodyMemory.Load(); n != 0 {
		t.Errorf("%d bytes still counted", n)
	}
	h.server.api.bodyMemory.Store(2*MaxBodyBytes - 1<<20)
	if p := h.post("fake", "/v1/events", jsonType, large, 503).result(t); p.Type != "/problems/busy" {
		t.Errorf("%+v", p)
	}
	h.post("fake", "/v1/events", jsonType, sample("b", "x"), 201) // small ones aren't counted

	// Nor is a batch taken whose openings find no room.
	h.server.api.bodyMemory.Store(2*MaxBodyBytes - 128<<10)
	batch := `{"events":[` + strings.Repeat(sample("c", strings.Repeat("x", 1000))+",", 99) + sample("d", "x") + `]}`
	if p := h.post("fake", "/v1/events", jsonType, batch, 503).result(t); p.Type != "/problems/busy" {
		t.Errorf("%+v", p)
	}
	if n := h.server.api.bodyMemory.Load(); n != 2*MaxBodyBytes-128<<10 {
		t.Errorf("%d bytes counted", n)
	}
}
