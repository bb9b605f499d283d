package verifier

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// serve starts a server for h and a client for it.
func serve(t testing.TB, h http.Handler, change ...func(*HTTPConfig)) *HTTPLog {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	cfg := HTTPConfig{URL: srv.URL + "/logs/audit", Token: "pt_1_secret", Backoff: time.Millisecond, Attempts: 4}
	for _, f := range change {
		f(&cfg)
	}
	l, err := NewHTTPLog(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestHTTPAudit(t *testing.T) {
	l := sharedLog(t, auditSize)
	h := serve(t, l)
	r, err := Audit(context.Background(), AuditConfig{Source: h, Policy: l.policy, Openings: h})
	if err != nil || r.Openings.Verified != auditSize {
		t.Fatalf("%v", err)
	}
}

// TestHTTPAuditFaults has every third answer go wrong, each time in another way; an answer
// that is cut in the middle too.
func TestHTTPAuditFaults(t *testing.T) {
	l := sharedLog(t, auditSize)
	var n atomic.Int64
	var failed sync.Map // how often requests for a URL did: one may meet all the faults, and four are too many
	l.fault = func(w http.ResponseWriter, r *http.Request) bool {
		count, _ := failed.LoadOrStore(r.URL.String(), new(atomic.Int64))
		turn := n.Add(1) % 12
		if turn%3 == 0 && count.(*atomic.Int64).Add(1) > 3 {
			return false
		}
		switch turn {
		case 0:
			w.WriteHeader(http.StatusServiceUnavailable)
		case 3:
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusTooManyRequests)
		case 6:
			panic(http.ErrAbortHandler)
		case 9: // half the answer, then the connection goes
			rec := httptest.NewRecorder()
			l2 := l.clone()
			l2.ServeHTTP(rec, r)
			w.Header().Set("Content-Length", "100000")
			w.Write(rec.Body.Bytes()[:rec.Body.Len()/2])
			panic(http.ErrAbortHandler)
		default:
			return false
		}
		return true
	}
	h := serve(t, l)
	r, err := Audit(context.Background(), AuditConfig{Source: h, Policy: l.policy, Openings: h})
	if err != nil || r.Openings.Verified != auditSize {
		t.Fatalf("%v", err)
	}
}

func TestHTTPServerDies(t *testing.T) {
	l := sharedLog(t, auditSize)
	var n atomic.Int64
	l.fault = func(w http.ResponseWriter, _ *http.Request) bool {
		if n.Add(1) < 4 {
			return false
		}
		w.WriteHeader(http.StatusInternalServerError)
		return true
	}
	h := serve(t, l)
	_, err := Audit(context.Background(), AuditConfig{Source: h, Policy: l.policy, Openings: h})
	if err == nil || errors.Is(err, ErrFailed) || !strings.Contains(err.Error(), "after 4 attempts: status 500") {
		t.Errorf("error %v", err)
	}
}

func TestHTTPOpeningsRefused(t *testing.T) {
	l := sharedLog(t, 300)
	h := serve(t, l, func(cfg *HTTPConfig) { cfg.Token = "pt_1_wrong" })
	_, err := Audit(context.Background(), AuditConfig{Source: h, Policy: l.policy, Openings: h})
	if err == nil || errors.Is(err, ErrFailed) || !strings.Contains(err.Error(), "status 403") {
		t.Errorf("error %v", err)
	}
}

// TestHTTPOpeningsStall: a server that answers without lines isn't asked for ever.
func TestHTTPOpeningsStall(t *testing.T) {
	for _, body := range []string{"", `{"index":0,"op`} {
		l := sharedLog(t, 300)
		l.fault = func(w http.ResponseWriter, r *http.Request) bool {
			if strings.HasPrefix(r.URL.Path, "/v1/") {
				io.WriteString(w, body)
				return true
			}
			return false
		}
		h := serve(t, l)
		_, err := Audit(context.Background(), AuditConfig{Source: h, Policy: l.policy, Openings: h})
		if err == nil || errors.Is(err, ErrFailed) {
			t.Errorf("error %v", err)
		}
	}
}

func TestHTTPGzip(t *testing.T) {
	h := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		z.Write(make([]byte, 10000))
		z.Close()
	}))
	if b, err := h.Get(context.Background(), "tile/0/000", 10000); err != nil || len(b) != 10000 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if _, err := h.Get(context.Background(), "tile/0/000", 9999); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a gzip bomb: %v", err)
	}
}

func TestHTTPRedirect(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("followed to another host") }))
	defer other.Close()
	h := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/logs/audit/checkpoint":
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		case "/elsewhere":
			io.WriteString(w, "here")
		default:
			http.Redirect(w, r, other.URL, http.StatusFound)
		}
	}))
	if b, err := h.Get(context.Background(), "checkpoint", 100); err != nil || string(b) != "here" {
		t.Errorf("on the same host: %q, %v", b, err)
	}
	if _, err := h.Get(context.Background(), "tile/0/000", 100); !errors.Is(err, errRedirect) || strings.Contains(err.Error(), "attempts") {
		t.Errorf("to another host: %v", err)
	}
	for to, want := range map[string]error{
		"https://example.com/x": nil, "http://example.com/x": errRedirect, "https://example.com:8443/x": errRedirect, "https://www.example.com/x": errRedirect,
	} {
		request := func(u string) *http.Request { return httptest.NewRequest(http.MethodGet, u, http.NoBody) }
		if err := sameHost(request(to), []*http.Request{request("https://example.com/logs/audit")}); !errors.Is(err, want) {
			t.Errorf("from https://example.com to %s: %v", to, err)
		}
	}
}

func TestHTTPSilence(t *testing.T) {
	release := make(chan struct{})
	h := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "half") {
			io.WriteString(w, "half")
			w.(http.Flusher).Flush()
		}
		<-release
	}), func(cfg *HTTPConfig) { cfg.Timeout, cfg.Attempts = 20*time.Millisecond, 2 })
	defer close(release)
	for _, path := range []string{"checkpoint", "half"} {
		if _, err := h.Get(context.Background(), path, 100); !errors.Is(err, errSilent) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// trickle is a server whose answers come in pieces, one each so often.
type trickle struct {
	every time.Duration
	piece int
	left  int
	stall time.Duration // before the last piece
}

func (tr trickle) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Request: r, Body: &trickleBody{trickle: tr, ctx: r.Context()}}, nil
}

type trickleBody struct {
	trickle
	ctx  context.Context
	here int // of the piece that has come
}

func (b *trickleBody) Read(p []byte) (int, error) {
	if b.left == 0 && b.here == 0 {
		return 0, io.EOF
	}
	if b.here == 0 {
		wait := b.every
		if b.left <= b.piece {
			wait += b.stall
		}
		select {
		case <-time.After(wait):
		case <-b.ctx.Done():
			return 0, b.ctx.Err()
		}
		b.here = min(b.piece, b.left)
		b.left -= b.here
	}
	n := min(len(p), b.here)
	b.here -= n
	return n, nil
}

func (b *trickleBody) Close() error { return nil }

// TestHTTPTrickle: a server that is slow is waited for; one that drips isn't, though it is
// never silent. The clock is that of the bubble.
func TestHTTPTrickle(t *testing.T) {
	for name, tt := range map[string]struct {
		trickle
		err  error
		most time.Duration
	}{
		"fast, stuck":  {trickle{time.Millisecond, 512 << 10, 1 << 20, time.Hour}, errSilent, 31 * time.Second},
		"drips":        {trickle{10 * time.Second, 1, 1 << 20, 0}, errSilent, 40 * time.Second},
		"too slow":     {trickle{29 * time.Second, 8 << 10, 1 << 20, 0}, errSilent, time.Minute},
		"slow":         {trickle{20 * time.Second, 100 << 10, 1 << 20, 0}, nil, 5 * time.Minute},
		"then silent":  {trickle{31 * time.Second, 1 << 20, 1 << 20, 0}, errSilent, 30 * time.Second},
		"as it should": {trickle{time.Millisecond, 32 << 10, 1 << 20, 0}, nil, time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			h, err := NewHTTPLog(HTTPConfig{URL: "http://127.0.0.1/logs/audit", Transport: tt.trickle, Attempts: 1})
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			body, err := h.Openings(t.Context(), 0, 1)
			if err != nil {
				t.Fatal(err)
			}
			_, err = io.Copy(io.Discard, body)
			body.Close()
			if took := time.Since(start); !errors.Is(err, tt.err) || took > tt.most {
				t.Errorf("%s: openings: after %v: %v", name, took, err)
			}
			start = time.Now()
			if _, err = h.Get(t.Context(), "tile/0/000", 1<<20); !errors.Is(err, tt.err) {
				t.Errorf("%s: file: after %v: %v", name, time.Since(start), err)
			}
		})
	}
}

func TestHTTPMissing(t *testing.T) {
	var n atomic.Int64
	h := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) == 2 && strings.HasSuffix(r.URL.Path, "late") {
			return
		}
		http.NotFound(w, r)
	}))
	if _, err := h.Get(context.Background(), "late", 100); err != nil {
		t.Errorf("there the second time: %v", err)
	}
	n.Store(10)
	if _, err := h.Get(context.Background(), "never", 100); !errors.Is(err, fs.ErrNotExist) || n.Load() != 12 {
		t.Errorf("never there: %v", err)
	}
}

// TestHTTPToken: the token goes to the API and nowhere else.
func TestHTTPToken(t *testing.T) {
	h := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got := r.Header.Get("Authorization")
		if api := strings.HasPrefix(r.URL.Path, "/v1/logs/audit/openings"); api != (got == "Bearer pt_1_secret") {
			t.Errorf("%s: %q", r.URL.Path, got)
		}
	}))
	if _, err := h.Get(context.Background(), "checkpoint", 100); err != nil {
		t.Error(err)
	}
	if body, err := h.Openings(context.Background(), 0, 1); err == nil {
		body.Close()
	}
}

func TestHTTPConfig(t *testing.T) {
	for _, good := range []string{"https://example.com/logs/audit", "https://example.com/logs/audit/", "http://127.0.0.1:8080/logs/a",
		"http://[::1]:8080/logs/a", "http://localhost/logs/a", "https://example.com/deep/logs/audit", "https://tiles.example.com/"} {
		if _, err := NewHTTPLog(HTTPConfig{URL: good}); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"", "example.com", "http://a.localhost/logs/a", "http://localhost.example.com/logs/a", "/logs/audit", "ftp://example.com/logs/audit", "http://example.com/logs/audit",
		"http://127.0.0.1.example.com/logs/a", "https://user:pass@example.com/logs/a", "https://example.com/logs/a?x=1", "https://example.com/#a", "https://%zz/"} {
		if _, err := NewHTTPLog(HTTPConfig{URL: bad}); err == nil {
			t.Errorf("took %s", bad)
		}
	}
	l, err := NewHTTPLog(HTTPConfig{URL: "http://example.com/a/logs/audit/", AllowHTTP: true})
	if err != nil || l.api != "http://example.com/a" || l.name != "audit" {
		t.Errorf("%+v, %v", l, err)
	}
	l, _ = NewHTTPLog(HTTPConfig{URL: "https://tiles.example.com/"})
	if _, err := l.Openings(context.Background(), 0, 1); err == nil {
		t.Error("found an API where there is none")
	}
}
