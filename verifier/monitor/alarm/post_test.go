package alarm_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/verifier/monitor/alarm"
)

var since = time.Date(2026, 1, 31, 23, 59, 58, 5e6, time.UTC)

func firing() alarm.Notice {
	a := alarm.Alarm{Name: "fork", Log: "example.com/audit", Peer: "m2", Severity: alarm.Critical, Summary: "two histories <at> size 42",
		Details: map[string]string{"size": "42", "a": "b"}, Since: since}
	return alarm.Notice{Alarm: a, Status: alarm.Firing, Reason: alarm.Began, At: since.Add(time.Minute)}
}

// receiver is a real HTTP server that keeps what it gets.
type receiver struct {
	*httptest.Server
	mu      sync.Mutex
	bodies  []string
	headers []http.Header
	paths   []string
}

func receive(t *testing.T, answer http.HandlerFunc) *receiver {
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		b, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		r.mu.Lock()
		r.bodies, r.headers, r.paths = append(r.bodies, string(b)), append(r.headers, req.Header), append(r.paths, req.Method+" "+req.URL.RequestURI())
		r.mu.Unlock()
		if answer != nil {
			answer(w, req)
		}
	}))
	t.Cleanup(r.Close)
	return r
}

var secret = []byte("0123456789abcdef")

func TestWebhook(t *testing.T) {
	r := receive(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	w, err := alarm.NewWebhook(alarm.WebhookConfig{HTTPConfig: alarm.HTTPConfig{URL: r.URL + "/hook?x=1", Token: "t0ken"}, Monitor: "m1", Secret: secret})
	if err != nil {
		t.Fatal(err)
	}
	n := firing()
	if err := w.Deliver(t.Context(), []alarm.Notice{n}); err != nil {
		t.Fatal(err)
	}
	n.Status, n.Reason, n.ResolvedAt = alarm.Resolved, alarm.Ended, since.Add(time.Hour)
	n.Ack = &alarm.Ack{By: "alice", Note: "known", At: since.Add(time.Minute)}
	n.Peer, n.Details = "", nil
	if err := w.Deliver(t.Context(), []alarm.Notice{n}); err != nil {
		t.Fatal(err)
	}
	if r.paths[0] != "POST /hook?x=1" || r.headers[0].Get("Authorization") != "Bearer t0ken" || r.headers[0].Get("Content-Type") != "application/json" {
		t.Errorf("%s, %v", r.paths[0], r.headers[0])
	}
	for i, want := range []string{
		`{"v":"prooftrail.alarm/1","monitor":"m1","id":"` + firing().ID() + `","status":"firing","reason":"new","name":"fork","log":"example.com/audit","peer":"m2",` +
			`"severity":"critical","summary":"two histories <at> size 42","details":{"a":"b","size":"42"},"since":"2026-01-31T23:59:58.005Z","sent_at":"2026-02-01T00:00:58.005Z"}`,
		`{"v":"prooftrail.alarm/1","monitor":"m1","id":"` + n.ID() + `","status":"resolved","reason":"gone","name":"fork","log":"example.com/audit",` +
			`"severity":"critical","summary":"two histories <at> size 42","since":"2026-01-31T23:59:58.005Z","resolved_at":"2026-02-01T00:59:58.005Z","sent_at":"2026-02-01T00:00:58.005Z",` +
			`"ack":{"by":"alice","note":"known","at":"2026-02-01T00:00:58.005Z"}}`,
	} {
		if r.bodies[i] != want {
			t.Errorf("got\n%s\nexpected\n%s", r.bodies[i], want)
		}
		sig := r.headers[i].Get(alarm.SignatureHeader)
		if err := alarm.CheckSignature(sig, []byte(r.bodies[i]), secret, n.At.Add(time.Minute), 2*time.Minute); err != nil {
			t.Error(err)
		}
	}
}

func TestSignature(t *testing.T) {
	body := []byte(`{"v":"prooftrail.alarm/1"}`)
	at := time.Unix(1770000000, 0)
	sig := alarm.Sign(body, secret, at)
	// printf '1770000000.{"v":"prooftrail.alarm/1"}' | openssl dgst -sha256 -hmac 0123456789abcdef
	if want := "t=1770000000,v1=ddcd95e841da45f4ca352f7934fe0e0937e96a7cf59a557f47d068d6c85464ef"; sig != want {
		t.Errorf("%s, expected %s", sig, want)
	}
	for name, tt := range map[string]struct {
		sig  string
		body []byte
		key  []byte
		now  time.Time
	}{
		"body":    {sig, []byte("{}"), secret, at},
		"secret":  {sig, body, []byte("0123456789abcdeg"), at},
		"old":     {sig, body, secret, at.Add(301 * time.Second)},
		"early":   {sig, body, secret, at.Add(-301 * time.Second)},
		"time":    {strings.Replace(sig, "t=177", "t=178", 1), body, secret, at},
		"zero":    {strings.Replace(sig, "t=", "t=0", 1), body, secret, at},
		"upper":   {strings.ToUpper(sig), body, secret, at},
		"empty":   {"", body, secret, at},
		"more":    {sig + ",v1=00", body, secret, at},
		"newline": {sig + "\n", body, secret, at},
	} {
		if err := alarm.CheckSignature(tt.sig, tt.body, tt.key, tt.now, 5*time.Minute); !errors.Is(err, alarm.ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for i := range sig {
		b := []byte(sig)
		b[i] ^= 1
		if err := alarm.CheckSignature(string(b), body, secret, at, 5*time.Minute); err == nil {
			t.Errorf("byte %d changed, accepted", i)
		}
	}
	if err := alarm.CheckSignature(sig, body, secret, at.Add(5*time.Minute), 5*time.Minute); err != nil {
		t.Error(err)
	}
}

func TestAlertmanagerAlerts(t *testing.T) {
	r := receive(t, nil)
	s, err := alarm.NewAlertmanager(alarm.AlertmanagerConfig{HTTPConfig: alarm.HTTPConfig{URL: r.URL + "/am/"}, Monitor: "m1", GeneratorURL: "https://m1.example/alarms",
		Labels: map[string]string{"team": "audit", "severity": "x"}, Resend: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	worse, gone := firing(), firing()
	worse.Told, worse.Ack = alarm.Warning, &alarm.Ack{By: "alice", At: since}
	gone.Status, gone.Reason, gone.Peer, gone.At = alarm.Resolved, alarm.Ended, "", since.Add(-time.Hour) // its clock was set back
	if err := s.Deliver(t.Context(), []alarm.Notice{worse, gone}); err != nil {
		t.Fatal(err)
	}
	if r.paths[0] != "POST /am/api/v2/alerts" {
		t.Error(r.paths[0])
	}
	type alert struct {
		StartsAt, EndsAt    time.Time
		Labels, Annotations map[string]string
		GeneratorURL        string
	}
	var got []alert
	if err := json.Unmarshal([]byte(r.bodies[0]), &got); err != nil || len(got) != 3 {
		t.Fatalf("%s, %v", r.bodies[0], err)
	}
	for i, want := range []struct {
		severity, peer string
		ends           time.Time
		labels         int
	}{{"critical", "m2", since.Add(3 * time.Minute), 6}, {"warning", "m2", since.Add(time.Minute), 6}, {"critical", "", since, 5}} {
		g := got[i]
		if !g.StartsAt.Equal(since) || !g.EndsAt.Equal(want.ends) || g.Labels["severity"] != want.severity || g.Labels["peer"] != want.peer || len(g.Labels) != want.labels ||
			g.Labels["alertname"] != "fork" || g.Labels["log"] != "example.com/audit" || g.Labels["monitor"] != "m1" || g.Labels["team"] != "audit" || g.GeneratorURL != "https://m1.example/alarms" {
			t.Errorf("%d: %+v", i, g)
		}
	}
	if a := got[0].Annotations; a["summary"] != worse.Summary || a["id"] != worse.ID() || a["details"] != "a: b\nsize: 42" || a["acknowledged"] != "by alice at 2026-01-31T23:59:58Z" {
		t.Errorf("%v", a)
	}
}

// TestHostileReceivers: whatever a receiver does, a call ends in time with an error that shows
// no credential, or it was taken.
func TestHostileReceivers(t *testing.T) {
	hang := make(chan struct{})
	other := receive(t, nil)
	for name, tt := range map[string]struct {
		answer http.HandlerFunc
		want   string // in the error
	}{
		"hangs": {func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-hang:
			case <-r.Context().Done():
			}
		}, "no answer within 300ms"},
		"drips": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, "x"); err != nil {
					return
				}
				w.(http.Flusher).Flush()
				<-time.After(10 * time.Millisecond)
			}
		}, "status 500: its answer broke off"},
		"endless": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		}, "status 502"},
		"escapes": {func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "\x1b]0;owned\x07 \u202e no", http.StatusBadRequest)
		}, "]0;owned\ufffd \ufffd no"},
		"echoes": {func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, r.Header.Get("Authorization")+" "+r.URL.String()+" "+string(secret), http.StatusForbidden)
		}, "status 403: Bearer [hidden]"},
		"echoes, cut": {func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, strings.Repeat("x", 183)+r.Header.Get("Authorization"), http.StatusForbidden)
		}, "status 403: xxx"},
		"echoes badly": {garbage(t, "s3cret-token s3cret-query\r\n\r\n"), "malformed"},
		"redirects away": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL+"/c4ptured", http.StatusTemporaryRedirect)
		}, "status 307"},
		"redirects to a GET": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/c4ptured", http.StatusFound) }, "status 302"},
		"large header": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 200<<10))
		}, "post to"},
		"aborts":      {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
		"not HTTP":    {garbage(t, "SSH-2.0-OpenSSH_9.2\r\n\r\n"), "post to"},
		"only a part": {garbage(t, "HTTP/1.1 503 x\r\nContent-Length: 100\r\n\r\nhalf"), "status 503: its answer broke off"},
		"later": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "90")
			w.WriteHeader(http.StatusTooManyRequests)
		}, "status 429"},
	} {
		t.Run(name, func(t *testing.T) {
			r := receive(t, tt.answer)
			cfg := alarm.HTTPConfig{URL: r.URL + "/s3cret-path?key=s3cret-query", Token: "s3cret-token", Timeout: 300 * time.Millisecond}
			w, err := alarm.NewWebhook(alarm.WebhookConfig{HTTPConfig: cfg, Secret: secret})
			if err != nil {
				t.Fatal(err)
			}
			err = w.Deliver(t.Context(), []alarm.Notice{firing()})
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "post to "+r.URL) {
				t.Fatalf("%v, expected %q", err, tt.want)
			}
			if s := err.Error(); strings.Contains(s, "s3cret") || strings.Contains(s, string(secret)) || strings.ContainsAny(s, "\x1b\x07\u202e") || len(s) > 400 {
				t.Errorf("the error is %q", s)
			}
			if retry := (*alarm.RetryError)(nil); errors.As(err, &retry) != (name == "later") || retry != nil && retry.After != 90*time.Second {
				t.Errorf("retry: %v", retry)
			}
		})
	}
	close(hang)
	if len(other.paths) > 0 {
		t.Errorf("followed to another host: %q", other.paths)
	}
}

// garbage answers with bytes of its own.
func garbage(t *testing.T, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, text)
	}
}

func TestPostErrors(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	w, err := alarm.NewWebhook(alarm.WebhookConfig{HTTPConfig: alarm.HTTPConfig{URL: "http://" + l.Addr().String() + "/s3cret"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Deliver(t.Context(), []alarm.Notice{firing()}); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("nobody listens: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Deliver(ctx, []alarm.Notice{firing()}); err == nil {
		t.Error("delivered after the end")
	}
}

func TestURLs(t *testing.T) {
	for u, ok := range map[string]bool{
		"https://a.example/x?y=z": true, "http://127.0.0.1:9/x": true, "http://localhost/": true, "http://[::1]:9": true,
		"http://a.example/": false, "ftp://127.0.0.1/": false, "": false, "https://": false, "s3cret": false, "https://u:s3cret@a.example/": false,
		"https://a.example/#s3cret": false, "https://s3cret%zz/": false, "https:s3cret": false, "http://127.0.0.1.example/s3cret": false, "https://a.example:s3cret/": false,
	} {
		_, err := alarm.NewWebhook(alarm.WebhookConfig{HTTPConfig: alarm.HTTPConfig{URL: u}})
		if (err == nil) != ok || err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", u, err)
		}
	}
	if _, err := alarm.NewWebhook(alarm.WebhookConfig{HTTPConfig: alarm.HTTPConfig{URL: "http://a.example/", AllowHTTP: true}}); err != nil {
		t.Error(err)
	}
	if _, err := alarm.NewWebhook(alarm.WebhookConfig{HTTPConfig: alarm.HTTPConfig{URL: "https://a.example/"}, Secret: []byte("s3cret")}); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("short secret: %v", err)
	}
	if _, err := alarm.NewWebhook(alarm.WebhookConfig{HTTPConfig: alarm.HTTPConfig{URL: "https://a.example/", Token: "s3cret\n"}}); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("token: %v", err)
	}
	for name, cfg := range map[string]alarm.AlertmanagerConfig{
		"query":     {HTTPConfig: alarm.HTTPConfig{URL: "https://a.example/?s3cret"}},
		"label":     {HTTPConfig: alarm.HTTPConfig{URL: "https://a.example/"}, Labels: map[string]string{"a-b": "c"}},
		"generator": {HTTPConfig: alarm.HTTPConfig{URL: "https://a.example/"}, GeneratorURL: "x"},
	} {
		if _, err := alarm.NewAlertmanager(cfg); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestBoardOverHTTP: a board, a webhook that is down in between, and one that hangs.
func TestBoardOverHTTP(t *testing.T) {
	got := make(chan string, 1000)
	var fails sync.Map // path to how often it still fails
	fails.Store("/hook", 2)
	r := receive(t, func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/hangs" {
			<-req.Context().Done()
			return
		}
		if n, _ := fails.Load(req.URL.Path); n.(int) > 0 {
			fails.Store(req.URL.Path, n.(int)-1)
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		got <- req.URL.Path
	})
	var sinks []alarm.Sink
	for _, name := range []string{"hook", "hangs"} {
		u, err := url.JoinPath(r.URL, name)
		if err != nil {
			t.Fatal(err)
		}
		s, err := alarm.NewWebhook(alarm.WebhookConfig{Name: name, HTTPConfig: alarm.HTTPConfig{URL: u}})
		if err != nil {
			t.Fatal(err)
		}
		sinks = append(sinks, s)
	}
	b := newBoard(t, alarm.Config{Sinks: sinks, Drain: 100 * time.Millisecond})
	stop := run(t, b)
	for i := range 5 {
		b.Raise(alarm.Alarm{Name: "a", Peer: strconv.Itoa(i)})
	}
	for range 5 {
		<-got
	}
	stop()
	h := b.Health()
	if h[0].Sent != 5 || h[0].Failed != 2 || h[0].Pending != 0 || h[1].Sent != 0 || h[1].Pending != 5 {
		t.Errorf("health %+v", h)
	}
}
