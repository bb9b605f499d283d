package gossip_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/monitor/gossip"
	"github.com/prooftrail/prooftrail/verifier/monitor/gossip/gossiptest"
)

const origin = "example.com/audit"

// answering makes a client of a server that answers everything with f.
func answering(t *testing.T, f http.HandlerFunc, change func(*gossip.Config)) *gossip.Client {
	t.Helper()
	srv := httptest.NewServer(f)
	t.Cleanup(srv.Close)
	cfg := gossip.Config{URL: srv.URL + "/below/"}
	if change != nil {
		change(&cfg)
	}
	c, err := gossip.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// calls are all that a client can ask. Each must end with an error for an answer that isn't one.
func calls(ctx context.Context, c *gossip.Client) map[string]error {
	errs := map[string]error{}
	_, errs["heads"] = c.Heads(ctx, origin)
	_, errs["post head"] = c.PostHead(ctx, []byte("note"))
	_, errs["list"] = c.ListEvidence(ctx)
	_, errs["evidence"] = c.Evidence(ctx, strings.Repeat("0", 64))
	_, errs["post evidence"] = c.PostEvidence(ctx, []byte("file"))
	return errs
}

// TestCalls: what is sent is what docs/spec/gossip.md has, and what comes back is read.
func TestCalls(t *testing.T) {
	k := gossiptest.NewKey(t, origin)
	honest, fork := gossiptest.NewTree(9, 9), gossiptest.NewTree(12, 3)
	m := gossiptest.NewMonitor(t, k.Policy, honest, k.Head(t, honest, 9))
	c, ctx := m.Client(t), t.Context()
	if a, err := c.PostHead(ctx, k.Head(t, honest, 5)); err != nil || a.Verdict != gossip.Agrees || a.Size != 5 || a.Origin != origin {
		t.Errorf("%+v, %v", a, err)
	}
	if a, err := c.PostHead(ctx, k.Head(t, fork, 12)); err != nil || a.Verdict != gossip.Unknown {
		t.Errorf("%+v, %v", a, err)
	}
	a, err := c.PostHead(ctx, k.Head(t, fork, 4))
	if err != nil || a.Verdict != gossip.Contradicts || len(a.Evidence) != 1 {
		t.Fatalf("%+v, %v", a, err)
	}
	file, err := c.Evidence(ctx, a.Evidence[0])
	if err != nil || gossip.EvidenceID(file) != a.Evidence[0] {
		t.Errorf("%q, %v", file, err)
	}
	if l, err := c.ListEvidence(ctx); err != nil || len(l) != 1 || l[0].ID != a.Evidence[0] {
		t.Errorf("%+v, %v", l, err)
	}
	if id, err := c.PostEvidence(ctx, file); err != nil || id != a.Evidence[0] {
		t.Errorf("%s, %v", id, err)
	}
	h, err := c.Heads(ctx, origin)
	if err != nil || h.Checked != string(k.Head(t, honest, 9)) || len(h.Open) != 1 {
		t.Errorf("%+v, %v", h, err)
	}
	var status *gossip.StatusError
	if _, err := c.PostEvidence(ctx, []byte("nothing")); !errors.As(err, &status) || status.Code != 422 || !strings.Contains(status.Text, "line 1") {
		t.Errorf("%v", err)
	}
	if _, err := c.Heads(ctx, "example.com/other"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if _, err := c.Evidence(ctx, strings.Repeat("0", 64)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	asked := len(m.Asked())
	for _, id := range []string{"", "..", strings.Repeat("A", 64), strings.Repeat("0", 63), "0" + strings.Repeat("é", 32)} {
		if _, err := c.Evidence(ctx, id); !errors.Is(err, gossip.ErrAnswer) {
			t.Errorf("%q: %v", id, err)
		}
	}
	if len(m.Asked()) != asked {
		t.Error("an id that can't be one was asked for")
	}
}

// TestRequests: path, header and body of each call.
func TestRequests(t *testing.T) {
	var got []string
	c := answering(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = append(got, fmt.Sprintf("%s %s %s %s %q", r.Method, r.URL.Path, r.Header.Get("User-Agent"), r.Header.Get("Accept-Encoding"), body))
		if r.Header.Get("Authorization") != "" || r.Header.Get("Cookie") != "" {
			t.Error("something secret is sent")
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	}, func(c *gossip.Config) { c.UserAgent = "test" })
	calls(t.Context(), c)
	_, _ = c.Checkpoint(t.Context(), origin, 2)
	want := []string{
		`GET /below/gossip/v1/logs/` + gossip.LogID(origin) + `/heads test identity ""`,
		`POST /below/gossip/v1/heads test identity "note"`,
		`GET /below/gossip/v1/evidence test identity ""`,
		`GET /below/gossip/v1/evidence/` + strings.Repeat("0", 64) + ` test identity ""`,
		`POST /below/gossip/v1/evidence test identity "file"`,
		`GET /below/distributor/v0/logs/` + gossip.LogID(origin) + `/checkpoint.2 test identity ""`,
	}
	for i := range want {
		if i >= len(got) || got[i] != want[i] {
			t.Errorf("%q, expected %q", got, want)
			break
		}
	}
}

// TestHostileAnswers: whatever comes, a call ends with an error, and soon.
func TestHostileAnswers(t *testing.T) {
	endless := func(first string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Write([]byte(first))
			for r.Context().Err() == nil {
				if _, err := w.Write(bytes.Repeat([]byte(" "), 1<<16)); err != nil {
					return
				}
			}
		}
	}
	says := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(body)) }
	}
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	z.Write(make([]byte, 1<<20))
	z.Close()
	bomb.Write(bytes.Repeat(bomb.Bytes(), 1000)) // a gigabyte: files may be put behind each other
	open, listed := `"`+strings.Repeat(`","`, gossip.MaxOpen)+`"`, `{}`+strings.Repeat(`,{}`, gossip.MaxListed)
	for name, f := range map[string]http.HandlerFunc{
		"endless":       endless(`{"origin":"`),
		"endless space": endless(``),
		"gzip bomb": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			w.Write(bomb.Bytes())
		},
		"redirect": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
		"redirect for ever": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path, http.StatusPermanentRedirect)
		},
		"no JSON":       says(`<html>`),
		"null":          says(`{"origin":null,"verdict":null,"evidence":[{}]} x`),
		"wrong types":   says(`{"origin":1,"size":"x","open":{},"verdict":[],"evidence":"x","id":{}}`),
		"negative":      says(`{"origin":"a","size":-1,"verdict":"agrees","evidence":[{"first_size":-1}],"open":[1]}`),
		"two values":    says(`{}{}`),
		"deep":          says(strings.Repeat("[", 1<<19)),
		"other origin":  says(`{"origin":"example.com/other","open":[],"verdict":"maybe","id":"00"} `),
		"too many open": says(`{"origin":"` + origin + `","open":[` + open + `],"verdict":"agree","evidence":[` + listed + `]}`),
		"not modified":  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) },
		"no content":    func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
		"cut short": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			w.Write([]byte(`{"origin":"` + origin + `"`))
		},
	} {
		t.Run(name, func(t *testing.T) {
			elsewhere := false
			c := answering(t, func(w http.ResponseWriter, r *http.Request) {
				elsewhere = elsewhere || r.URL.Path == "/elsewhere"
				f(w, r)
			}, nil)
			for call, err := range calls(t.Context(), c) {
				// An empty list of evidence is one.
				if err == nil && !(call == "list" && name == "other origin") {
					t.Errorf("%s: no error", call)
				}
				if errors.Is(err, verifier.ErrFailed) {
					t.Errorf("%s: it accuses: %v", call, err)
				}
			}
			if elsewhere {
				t.Error("a redirect was followed")
			}
		})
	}
}

// TestSlowAnswers: a server that says nothing, or a byte now and then, is left after the timeout.
func TestSlowAnswers(t *testing.T) {
	for name, drip := range map[string]bool{"silent": false, "a byte now and then": true} {
		t.Run(name, func(t *testing.T) {
			c := answering(t, func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				for r.Context().Err() == nil {
					if drip {
						w.Write([]byte(" "))
						_ = http.NewResponseController(w).Flush()
					}
					<-time.After(5 * time.Millisecond)
				}
			}, func(c *gossip.Config) { c.Timeout = 50 * time.Millisecond })
			for call, err := range calls(t.Context(), c) {
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%s: %v", call, err)
				}
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			for call, err := range calls(ctx, c) {
				if !errors.Is(err, context.Canceled) {
					t.Errorf("%s: %v", call, err)
				}
			}
		})
	}
}

// TestOtherFiles: a file counts only under its own name.
func TestOtherFiles(t *testing.T) {
	file := []byte("prooftrail.evidence/1\n")
	c := answering(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			_ = json.NewEncoder(w).Encode(gossip.Taken{ID: gossip.EvidenceID([]byte("another"))})
			return
		}
		w.Write(file)
	}, nil)
	if b, err := c.Evidence(t.Context(), gossip.EvidenceID(file)); err != nil || !bytes.Equal(b, file) {
		t.Errorf("%q, %v", b, err)
	}
	if b, err := c.Evidence(t.Context(), gossip.EvidenceID([]byte("another"))); !errors.Is(err, gossip.ErrAnswer) || b != nil {
		t.Errorf("%q, %v", b, err)
	}
	if id, err := c.PostEvidence(t.Context(), file); !errors.Is(err, gossip.ErrAnswer) || id != "" {
		t.Errorf("%q, %v", id, err)
	}
}

// TestStatusErrors: what a monitor refuses with is told in one bounded line.
func TestStatusErrors(t *testing.T) {
	for text, want := range map[string]string{
		"one line\nanother\n":                  "one line",
		"":                                     "",
		"\xff\xfe":                             "?",
		strings.Repeat("x", 1<<20):             strings.Repeat("x", 300),
		"  spaces \r\n<html>":                  "spaces",
		strings.Repeat("é", 1000):              strings.Repeat("é", 150),
		"x" + strings.Repeat("é", 1000) + "\n": "x" + strings.Repeat("é", 149) + "?",
	} {
		for retry, after := range map[string]time.Duration{"": 0, "7": 7 * time.Second, "-1": 0, "x": 0, "9999999": time.Hour} {
			c := answering(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", retry)
				w.WriteHeader(http.StatusTooManyRequests)
				w.Write([]byte(text))
			}, nil)
			_, err := c.Heads(t.Context(), origin)
			var status *gossip.StatusError
			if !errors.As(err, &status) || status.Code != 429 || status.Text != want || status.RetryAfter != after || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%.20q, %q: %+v, %v", text, retry, status, err)
			}
		}
	}
}

func TestURLs(t *testing.T) {
	for raw, ok := range map[string]bool{
		"https://m.example": true, "https://m.example/a/": true, "http://127.0.0.1:80": true, "http://[::1]/": true, "http://localhost": true,
		"http://m.example": false, "ftp://m.example": false, "m.example": false, "": false, "https://": false, "https://u:p@m.example": false,
		"https://m.example/?q": false, "https://m.example/#f": false, "https://m.example/?": false, "https:m.example": false, "http://127.0.0.1.example": false,
	} {
		if c, err := gossip.New(gossip.Config{URL: raw}); (err == nil) != ok || ok && strings.HasSuffix(c.URL(), "/") {
			t.Errorf("%q: %v", raw, err)
		}
	}
	if _, err := gossip.New(gossip.Config{URL: "http://m.example", AllowHTTP: true}); err != nil {
		t.Error(err)
	}
}
