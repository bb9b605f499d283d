package httpaudit_test

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/prooftrail/prooftrail/verifier/client"
	"github.com/prooftrail/prooftrail/verifier/client/httpaudit"
	"github.com/prooftrail/prooftrail/verifier/client/internal/enqueuetest"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// TestHiding: a client that leaves a quotation mark open doesn't hide what the proxy adds behind it.
func TestHiding(t *testing.T) {
	for line, header := range map[string]string{
		`", 203.0.113.9`:                             "X-Forwarded-For",
		`"a\, 203.0.113.9`:                           "X-Forwarded-For",
		`for="198.51.100.1, for=203.0.113.9`:         "Forwarded",
		`for=", for="203.0.113.9:80"`:                "Forwarded",
		`for="a\, for=203.0.113.9;proto=https`:       "Forwarded",
		`for=x;by=", for=203.0.113.9;by="[fd00::1]"`: "Forwarded",
	} {
		r := enqueuetest.New(t)
		cfg := httpaudit.Config{Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Header: header}
		h := httpaudit.New(r, cfg).Handler(httpaudit.Route{}, http.NotFoundHandler())
		req := httptest.NewRequest(http.MethodGet, "/x", nil)
		req.RemoteAddr = "10.0.0.1:1"
		req.Header.Set(header, line)
		h.ServeHTTP(httptest.NewRecorder(), req)
		if o := r.Wait("http.request", 1)[0].Origin; o.IP != "203.0.113.9" {
			t.Errorf("%s: %+v", line, o)
		}
	}
}

// TestBareAddress: some routers put an address without a port there.
func TestBareAddress(t *testing.T) {
	for peer, want := range map[string]string{"203.0.113.9": "203.0.113.9", "2001:db8::7": "2001:db8::7", "[2001:db8::7]": "2001:db8::7", "fe80::1%eth0": "fe80::1", "@": ""} {
		r := enqueuetest.New(t)
		req := httptest.NewRequest(http.MethodGet, "/x", nil)
		req.RemoteAddr = peer
		httpaudit.New(r, httpaudit.Config{}).Handler(httpaudit.Route{}, http.NotFoundHandler()).ServeHTTP(httptest.NewRecorder(), req)
		if o := r.Wait("http.request", 1)[0].Origin; o.IP != want || o.Port != 0 {
			t.Errorf("%s: %+v", peer, o)
		}
	}
}

// TestLoginNames: whatever name is tried, the failed login is logged (the recorder fails the test for an invalid event).
func TestLoginNames(t *testing.T) {
	for _, name := range []string{"", strings.Repeat("ä", 5000), "a\x00\xff"} {
		r := enqueuetest.New(t)
		h := httpaudit.New(r, httpaudit.Config{}).Handler(httpaudit.Route{Login: true}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			httpaudit.SetActor(r.Context(), event.Actor{Type: "user", ID: name, Name: name, AuthMethod: strings.Repeat("x", 200)})
			w.WriteHeader(http.StatusUnauthorized)
		}))
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/login", nil))
		if e := r.Wait("auth.login", 1)[0]; e.Outcome != "failure" || e.Actor.ID == "" {
			t.Errorf("%+v", e)
		}
	}
}

// gone is a writer whose client is gone.
type gone struct{ *httptest.ResponseRecorder }

var errGone = errors.New("gone")

func (gone) FlushError() error { return errGone }

// pusher is a writer of HTTP/2.
type pusher struct{ *httptest.ResponseRecorder }

func (pusher) Push(string, *http.PushOptions) error { return errGone }

// TestFlushError: a handler that streams is told that the client is gone; and pushing goes on.
func TestFlushError(t *testing.T) {
	m := httpaudit.New(enqueuetest.New(t), httpaudit.Config{})
	m.Handler(httpaudit.Route{}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := http.NewResponseController(w).Flush(); !errors.Is(err, errGone) {
			t.Errorf("flushed: %v", err)
		}
	})).ServeHTTP(gone{httptest.NewRecorder()}, httptest.NewRequest(http.MethodGet, "/", nil))
	m.Handler(httpaudit.Route{}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		p, ok := w.(http.Pusher)
		if !ok || !errors.Is(p.Push("/x", nil), errGone) {
			t.Error("can't push")
		}
	})).ServeHTTP(pusher{httptest.NewRecorder()}, httptest.NewRequest(http.MethodGet, "/", nil))
}

// TestEditOrigin: what an event is changed to isn't what the handler's context says.
func TestEditOrigin(t *testing.T) {
	r := enqueuetest.New(t)
	h := httpaudit.New(r, httpaudit.Config{}).Handler(httpaudit.Route{Mode: client.Required, Edit: func(_ *http.Request, e *event.Event) { e.Origin.IP = "198.51.100.1" }},
		http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if c, ok := client.CallerOf(r.Context()); !ok || c.Origin.IP != "192.0.2.1" {
				t.Errorf("%+v", c.Origin)
			}
		}))
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
	if o := r.Wait("http.request", 2)[1].Origin; o.IP != "198.51.100.1" {
		t.Errorf("%+v", o)
	}
}

// TestLoggerSaysNoAction: a line that says what isn't logged mustn't become an event where slogaudit reads the log.
func TestLoggerSaysNoAction(t *testing.T) {
	var b bytes.Buffer
	r := enqueuetest.New(t)
	r.Fault(func(event.Event) error { return io.ErrShortWrite })
	m := httpaudit.New(r, httpaudit.Config{Logger: slog.New(slog.NewJSONHandler(&b, nil))})
	m.Handler(httpaudit.Route{}, http.NotFoundHandler()).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
	if got := b.String(); !strings.Contains(got, `"event_action":"http.request"`) || strings.Contains(got, `"action"`) || strings.Contains(got, `"outcome"`) {
		t.Error(got)
	}
}
