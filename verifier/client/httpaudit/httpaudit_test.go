package httpaudit_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/verifier/client"
	"github.com/prooftrail/prooftrail/verifier/client/httpaudit"
	"github.com/prooftrail/prooftrail/verifier/client/internal/enqueuetest"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// serve serves a handler behind the middleware.
func serve(t *testing.T, cfg httpaudit.Config, route httpaudit.Route, h http.HandlerFunc) (*httptest.Server, *enqueuetest.Recorder) {
	t.Helper()
	r := enqueuetest.New(t)
	mux := http.NewServeMux()
	mux.Handle("/jobs/{id}", httpaudit.New(r, cfg).Handler(route, h))
	s := httptest.NewUnstartedServer(mux)
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // of panics
	s.Start()
	t.Cleanup(s.Close)
	return s, r
}

// get asks for a job.
func get(t *testing.T, s *httptest.Server, header map[string]string) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/jobs/j-42?token=hunter2", nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range header {
		req.Header.Set(name, v)
	}
	resp, err := s.Client().Do(req)
	if err == nil {
		t.Cleanup(func() { resp.Body.Close() })
	}
	return resp, err
}

func TestOutcomes(t *testing.T) {
	for status, want := range map[int]string{200: "success", 204: "success", 302: "success", 401: "denied", 403: "denied", 404: "failure", 500: "failure"} {
		for _, login := range []bool{false, true} {
			s, r := serve(t, httpaudit.Config{}, httpaudit.Route{Login: login}, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusEarlyHints)
				w.WriteHeader(status)
			})
			if _, err := get(t, s, nil); err != nil {
				t.Fatal(err)
			}
			action, outcome := "http.request", want
			if login {
				action = "auth.login"
				if want == "denied" {
					outcome = "failure"
				}
			}
			e := r.Wait(action, 1)[0]
			if e.Outcome != outcome || (e.Reason != nil) != (outcome != "success") || e.Reason != nil && e.Reason.Code != fmt.Sprint("http_", status) || e.Details["status"] != status {
				t.Errorf("%d, login %v: %+v", status, login, e)
			}
			if strings.Contains(fmt.Sprint(e), "hunter2") {
				t.Errorf("the query is logged: %+v", e)
			}
			if e.Actor.Type != "anonymous" || e.Target[0].ID != "/jobs/{id}" || e.Details["path"] != "/jobs/j-42" || e.Details["method"] != "GET" {
				t.Errorf("%+v", e)
			}
		}
	}
}

// TestActor: in front of the middleware or behind it, and what handlers see of it.
func TestActor(t *testing.T) {
	front := func(r *http.Request) (event.Actor, bool) {
		return event.Actor{Type: "user", ID: "front"}, r.Header.Get("X") == ""
	}
	seen := make(chan string, 2)
	s, r := serve(t, httpaudit.Config{Actor: front}, httpaudit.Route{}, func(_ http.ResponseWriter, r *http.Request) {
		before, _ := client.CallerOf(r.Context())
		ctx := r.Context()
		if r.Header.Get("X") != "" {
			ctx = httpaudit.SetActor(ctx, event.Actor{Type: "user", ID: "behind"})
		}
		after, _ := client.CallerOf(ctx)
		seen <- before.Actor.ID + " " + after.Actor.ID + " " + after.Origin.IP
	})
	if _, err := get(t, s, map[string]string{"Authorization": "Bearer hunter2"}); err != nil {
		t.Fatal(err)
	}
	if _, err := get(t, s, map[string]string{"X": "1"}); err != nil {
		t.Fatal(err)
	}
	if a, b := <-seen, <-seen; a != "front front 127.0.0.1" || b != "anonymous behind 127.0.0.1" {
		t.Errorf("%q, %q", a, b)
	}
	e := r.Wait("http.request", 2)
	if e[0].Actor.ID != "front" || e[0].Actor.AuthMethod != "bearer" || e[1].Actor.ID != "behind" {
		t.Errorf("%+v", e)
	}
}

// TestRequired: nothing happens unless it is logged before.
func TestRequired(t *testing.T) {
	called := make(chan struct{}, 10)
	s, r := serve(t, httpaudit.Config{}, httpaudit.Route{Mode: client.Required}, func(http.ResponseWriter, *http.Request) { called <- struct{}{} })
	if _, err := get(t, s, map[string]string{"X-Request-Id": "r-1"}); err != nil {
		t.Fatal(err)
	}
	both := r.Wait("http.request", 2)
	_, modes := r.Events()
	if both[0].Outcome != "attempt" || both[1].Outcome != "success" || both[1].Origin.RequestID != "r-1" || both[0].Origin.RequestID != "r-1" || modes[0] != client.Required || modes[1] != client.BestEffort {
		t.Errorf("%+v %v", both, modes)
	}
	<-called
	r.Fault(func(e event.Event) error {
		if e.Outcome == "attempt" {
			return client.ErrNotLogged
		}
		return nil
	})
	resp, err := get(t, s, nil)
	if err != nil || resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Fatal(resp, err)
	}
	if e := r.Wait("http.request", 3)[2]; e.Outcome != "denied" || e.Reason.Code != "not_logged" || e.Details["status"] != 503 {
		t.Errorf("%+v", e)
	}
	if len(called) > 0 {
		t.Error("the handler was called")
	}
}

// TestBestEffort: an event that isn't taken changes nothing.
func TestBestEffort(t *testing.T) {
	s, r := serve(t, httpaudit.Config{}, httpaudit.Route{}, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "fine") })
	r.Fault(func(event.Event) error { return errors.New("no room") })
	resp, err := get(t, s, nil)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "fine" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestKeepAndEdit(t *testing.T) {
	s, r := serve(t, httpaudit.Config{}, httpaudit.Route{
		Action: "job.read", Keep: func(_ *http.Request, status int) bool { return status >= 400 },
		Edit: func(r *http.Request, e *event.Event) { e.Job = &event.Job{ID: r.PathValue("id")} },
	}, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X") != "" {
			w.WriteHeader(403)
		}
	})
	for _, header := range []map[string]string{nil, {"X": "1"}} {
		if _, err := get(t, s, header); err != nil {
			t.Fatal(err)
		}
	}
	r.Wait("job.read", 1)
	events, _ := r.Events()
	if len(events) != 1 || events[0].Outcome != "denied" || events[0].Job.ID != "j-42" {
		t.Errorf("%+v", events)
	}
}

// TestPanic: it is logged, and the connection ends as it would without.
func TestPanic(t *testing.T) {
	s, r := serve(t, httpaudit.Config{}, httpaudit.Route{}, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	if _, err := get(t, s, nil); err == nil {
		t.Error("an answer")
	}
	if e := r.Wait("http.request", 1)[0]; e.Outcome != "failure" || e.Reason.Code != "panic" {
		t.Errorf("%+v", e)
	}
}

// TestWriter: flushing, handing over and copying go on, by type and by http.ResponseController.
func TestWriter(t *testing.T) {
	s, r := serve(t, httpaudit.Config{}, httpaudit.Route{}, func(w http.ResponseWriter, r *http.Request) {
		switch r.Header.Get("X") {
		case "flush":
			_, _ = io.WriteString(w, "a")
			w.(http.Flusher).Flush()
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
			if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Error(err)
			}
			if n, err := io.Copy(w, strings.NewReader("bcd")); n != 3 || err != nil {
				t.Error(n, err)
			}
		case "hijack":
			conn, rw, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: close\r\n\r\n")
			_ = rw.Flush()
			_ = conn.Close()
		}
	})
	resp, err := get(t, s, map[string]string{"X": "flush"})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "abcd" {
		t.Errorf("%q, %v", b, err)
	}
	if e := r.Wait("http.request", 1)[0]; e.Details["bytes"] != int64(4) || e.Details["status"] != 200 {
		t.Errorf("%+v", e.Details)
	}
	if resp, err := get(t, s, map[string]string{"X": "hijack"}); err != nil || resp.StatusCode != 101 {
		t.Fatal(resp, err)
	}
	if e := r.Wait("http.request", 2)[1]; e.Details["status"] != 101 || e.Outcome != "success" {
		t.Errorf("%+v", e.Details)
	}
	plain := httpaudit.New(r, httpaudit.Config{}).Handler(httpaudit.Route{}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if _, ok := w.(http.Hijacker); ok {
			t.Error("can't be handed over")
		}
	}))
	plain.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
	plain.ServeHTTP(onlyWriter{httptest.NewRecorder()}, httptest.NewRequest(http.MethodGet, "/", nil))
}

// onlyWriter can do nothing beside.
type onlyWriter struct{ http.ResponseWriter }

// unread is a body that nobody may read.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) { u.t.Error("the body was read"); return 0, io.EOF }
func (unread) Close() error               { return nil }

// TestOrigin: the address, by headers and by what is trusted.
func TestOrigin(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for name, c := range map[string]struct {
		peer, header string
		lines        []string
		ip           string
		port         int
		forwarded    string
	}{
		"no proxy":              {"192.0.2.1:1234", "", nil, "192.0.2.1", 1234, "[]"},
		"a header of anybody's": {"192.0.2.1:1234", "", []string{"203.0.113.9"}, "192.0.2.1", 1234, "[203.0.113.9]"},
		"one proxy":             {"10.0.0.1:1234", "", []string{"203.0.113.9"}, "203.0.113.9", 0, "[203.0.113.9]"},
		"a lie to the left":     {"10.0.0.1:1234", "", []string{"198.51.100.1, 203.0.113.9"}, "203.0.113.9", 0, "[198.51.100.1 203.0.113.9]"},
		"a lie that is a proxy": {"10.0.0.1:1234", "", []string{"10.9.9.9, 203.0.113.9,10.0.0.2"}, "203.0.113.9", 0, "[10.9.9.9 203.0.113.9 10.0.0.2]"},
		"two lines":             {"10.0.0.1:1234", "", []string{"198.51.100.1", "203.0.113.9, 10.0.0.3"}, "203.0.113.9", 0, "[198.51.100.1 203.0.113.9 10.0.0.3]"},
		"proxies alone":         {"10.0.0.1:1234", "", []string{"10.0.0.2"}, "10.0.0.2", 0, "[10.0.0.2]"},
		"nonsense":              {"10.0.0.1:1234", "", []string{"203.0.113.9, unknown"}, "10.0.0.1", 1234, "[203.0.113.9 unknown]"},
		"with ports":            {"10.0.0.1:1234", "", []string{"203.0.113.9:55, [fd00::2]:66"}, "203.0.113.9", 0, "[203.0.113.9:55 [fd00::2]:66]"},
		"IPv6":                  {"[fd00::1]:1234", "", []string{"2001:db8::7"}, "2001:db8::7", 0, "[2001:db8::7]"},
		"IPv4 in IPv6":          {"[::ffff:10.0.0.1]:1234", "", []string{"::ffff:203.0.113.9"}, "203.0.113.9", 0, "[::ffff:203.0.113.9]"},
		"a socket":              {"@", "", []string{"203.0.113.9"}, "", 0, "[203.0.113.9]"},
		"Forwarded":             {"10.0.0.1:1", "Forwarded", []string{`for=198.51.100.1, For="[2001:db8::7]:80";proto=https;by=10.0.0.2, for=10.0.0.3`}, "2001:db8::7", 0, "[198.51.100.1 [2001:db8::7]:80 10.0.0.3]"},
		"Forwarded without for": {"10.0.0.1:1", "Forwarded", []string{`for=203.0.113.9, proto=https`}, "10.0.0.1", 1, "[203.0.113.9 unknown]"},
		"Forwarded in quotes":   {"10.0.0.1:1", "Forwarded", []string{`for="_a,b;c\"", for=203.0.113.9`}, "203.0.113.9", 0, `[_a,b;c\ 203.0.113.9]`},
		"the other header":      {"10.0.0.1:1", "Forwarded", nil, "10.0.0.1", 1, "[]"},
	} {
		t.Run(name, func(t *testing.T) {
			r := enqueuetest.New(t)
			h := httpaudit.New(r, httpaudit.Config{Trusted: proxies, Header: c.header}).Handler(httpaudit.Route{}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			req := httptest.NewRequest(http.MethodPost, "/x", unread{t})
			req.RemoteAddr = c.peer
			header := "X-Forwarded-For"
			if c.header != "" {
				header = c.header
			}
			for _, line := range c.lines {
				req.Header.Add(header, line)
			}
			if name == "the other header" {
				req.Header.Set("X-Forwarded-For", "203.0.113.9")
			}
			h.ServeHTTP(httptest.NewRecorder(), req)
			o := r.Wait("http.request", 1)[0].Origin
			if o.IP != c.ip || o.Port != c.port || fmt.Sprint(o.Forwarded) != c.forwarded || o.RequestID == "" {
				t.Errorf("%+v", o)
			}
		})
	}
}

func TestTrace(t *testing.T) {
	for header, want := range map[string]string{
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01":       "4bf92f3577b34da6a3ce929d0e0e4736",
		"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-later": "4bf92f3577b34da6a3ce929d0e0e4736",
		"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01":       "",
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01":       "",
		"nonsense": "",
		"":         "",
	} {
		r := enqueuetest.New(t)
		h := httpaudit.New(r, httpaudit.Config{}).Handler(httpaudit.Route{}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		req := httptest.NewRequest(http.MethodGet, "/x", nil)
		req.Header.Set("traceparent", header)
		h.ServeHTTP(httptest.NewRecorder(), req)
		if e := r.Wait("http.request", 1)[0]; e.Origin.TraceID != want || e.Target[0].ID != "GET /x" {
			t.Errorf("%q: %+v", header, e.Origin)
		}
	}
}

// FuzzOrigin: whatever the headers say, the event is valid (the recorder checks that), and of nobody who isn't trusted is anything believed.
func FuzzOrigin(f *testing.F) {
	f.Add("192.0.2.1:1", "203.0.113.9, 10.0.0.1", `for="[::1]:8";by=x`, "agent", "r-1")
	f.Add("10.0.0.1:1", ",,", `for=`, "", "")
	f.Fuzz(func(t *testing.T, peer, xff, forwarded, agent, id string) {
		for _, header := range []string{"X-Forwarded-For", "Forwarded"} {
			r := enqueuetest.New(t)
			h := httpaudit.New(r, httpaudit.Config{Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Header: header}).Handler(httpaudit.Route{},
				http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			req := httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/x", nil)
			req.RemoteAddr = peer
			req.Header = http.Header{"X-Forwarded-For": {xff}, "Forwarded": {forwarded}, "User-Agent": {agent}, "X-Request-Id": {id}}
			h.ServeHTTP(httptest.NewRecorder(), req)
			o := r.Wait("http.request", 1)[0].Origin
			addr, err := netip.ParseAddrPort(peer)
			if err == nil && !strings.HasPrefix(addr.Addr().Unmap().String(), "10.") && o.IP != addr.Addr().Unmap().WithZone("").String() {
				t.Errorf("%q: %+v", peer, o)
			}
		}
	})
}
