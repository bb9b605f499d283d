package recorder

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/recorder/rules"
)

const allRules = "version: 1\ndefault: {safe: best-effort, unsafe: best-effort}"

// TestFlush: what the scheduler has flushed reaches the client while the answer goes on.
func TestFlush(t *testing.T) {
	next := make(chan struct{})
	s := newStand(t, parsedRules(t, allRules), func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/sized" {
			w.Header().Set("Content-Length", "15")
		} else {
			w.Header().Set("Content-Type", "text/event-stream")
		}
		for range 3 {
			fmt.Fprint(w, "data\n")
			w.(http.Flusher).Flush()
			<-next
		}
	}, nil)
	for i, path := range []string{"/events", "/sized"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.proxy.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		in := bufio.NewReader(resp.Body)
		for range 3 {
			if line, err := in.ReadString('\n'); err != nil || line != "data\n" {
				t.Fatalf("%s: %q %v", path, line, err)
			}
			next <- struct{}{}
		}
		resp.Body.Close()
		if e := s.queue.next(i + 1)[i]; e.Outcome != "success" {
			t.Errorf("%+v", e)
		}
	}
}

// TestLongAnswerIsRecorded: one that goes on is recorded while it does.
func TestLongAnswerIsRecorded(t *testing.T) {
	next := make(chan struct{})
	s := newStand(t, parsedRules(t, allRules), func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "data\n")
		w.(http.Flusher).Flush()
		<-next
	}, func(c *Config) { c.RecordAfter = time.Millisecond })
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.proxy.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if e := s.queue.next(1)[0]; e.Details["answer"] == nil || e.Outcome != "success" {
		t.Errorf("%+v", e)
	}
	close(next)
	resp.Body.Close()
	s.proxy.Close()
	s.queue.none(1)
}

// TestWebsocket: what is upgraded is a tunnel, both ways, and recorded when it begins.
func TestWebsocket(t *testing.T) {
	s := newStand(t, parsedRules(t, allRules), func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "websocket" {
			t.Errorf("%v", r.Header)
		}
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_ = rw.Flush()
		line, err := rw.ReadString('\n')
		if err != nil {
			t.Error(err)
		}
		fmt.Fprint(c, "echo "+line)
	}, nil)
	c, err := net.Dial("tcp", strings.TrimPrefix(s.proxy.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	in := bufio.NewReader(c)
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%+v %v", resp, err)
	}
	if e := s.queue.next(1)[0]; e.Details["status"] != 101 {
		t.Errorf("%+v", e)
	}
	fmt.Fprint(c, "hello\n")
	if line, err := in.ReadString('\n'); err != nil || line != "echo hello\n" {
		t.Errorf("%q %v", line, err)
	}
}

// TestUnchanged: path, query, headers, trailers and body come as they were sent, and the answer too.
func TestUnchanged(t *testing.T) {
	var got *http.Request
	var uri string
	var body []byte
	s := newStand(t, parsedRules(t, allRules), func(w http.ResponseWriter, r *http.Request) {
		got, uri = r, r.RequestURI
		body, _ = io.ReadAll(r.Body)
		w.Header().Set("Trailer", "X-Sum")
		w.Header().Add("X-Two", "1")
		w.Header().Add("X-Two", "2")
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprint(w, "short and stout")
		w.Header().Set("X-Sum", "42")
	}, nil)
	const target = "/a%2Fb/%7e/c;d=1//x?b=2&a=1;c=%zz&b"
	c, err := net.Dial("tcp", strings.TrimPrefix(s.proxy.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "POST "+target+" HTTP/1.1\r\nHost: scheduler.example:99\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nForwarded: for=1.2.3.4\r\n"+
		"X-Empty:\r\nX-Gone: 1\r\nConnection: X-Gone\r\nAccept-Encoding: br\r\nTransfer-Encoding: chunked\r\nTrailer: X-Check\r\n\r\n5\r\nhello\r\n0\r\nX-Check: 7\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: "POST"})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(resp.Body)
	if err != nil || string(answer) != "short and stout" || resp.StatusCode != http.StatusTeapot || resp.Trailer.Get("X-Sum") != "42" || len(resp.Header["X-Two"]) != 2 {
		t.Errorf("%q %v %+v", answer, err, resp)
	}
	if uri != target || got.Host != "scheduler.example:99" || string(body) != "hello" || got.Trailer.Get("X-Check") != "7" {
		t.Errorf("%s %s %q %v", uri, got.Host, body, got.Trailer)
	}
	want := http.Header{"X-Forwarded-For": {"1.2.3.4"}, "X-Forwarded-Proto": {"https"}, "Forwarded": {"for=1.2.3.4"}, "X-Empty": {""}, "Accept-Encoding": {"br"}}
	for name, v := range want {
		if len(got.Header[name]) != 1 || got.Header[name][0] != v[0] {
			t.Errorf("%s is %q", name, got.Header[name])
		}
	}
	for name := range got.Header {
		if want[name] == nil {
			t.Errorf("%s was added: %q", name, got.Header[name])
		}
	}
	if e := s.queue.next(1)[0]; e.Outcome != "failure" || e.Details["path"] != "/a%2Fb/%7e/c;d=1//x" {
		t.Errorf("%+v", e.Details)
	}
}

// TestLargeBodies: bodies of any length go through, up and down, and only a copy of their beginning is kept.
func TestLargeBodies(t *testing.T) {
	const size = 32 << 20
	s := newStand(t, parsedRules(t, "version: 1\nrules: [{name: put, path: /put, mode: required, action: config.update, target: {type: config, id: \"text:x\"}}]"), func(w http.ResponseWriter, r *http.Request) {
		sum := sha256.New()
		n, err := io.Copy(sum, r.Body)
		w.Header().Set("X-Sum", fmt.Sprint(n, hex.EncodeToString(sum.Sum(nil)), err))
		_, _ = io.CopyN(w, zeros{}, size)
	}, nil)
	sum := sha256.New()
	_, _ = io.CopyN(sum, zeros{}, size)
	for i, path := range []string{"/put", "/post"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.proxy.URL+path, io.LimitReader(zeros{}, size))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, resp.Body)
		if err != nil || n != size || resp.Header.Get("X-Sum") != fmt.Sprint(size, hex.EncodeToString(sum.Sum(nil)), error(nil)) {
			t.Errorf("%s: %d %v %s", path, n, err, resp.Header.Get("X-Sum"))
		}
		resp.Body.Close()
		all := s.queue.next(2 + i)
		if e := all[len(all)-1]; e.Details["answer_bytes"] != int64(size) || e.Details["request_bytes"] != int64(size) {
			t.Errorf("%+v", e.Details)
		}
	}
	s.proxy.Close()
	if left := s.recorder.copies.left.Load(); left != s.recorder.cfg.CopyMemory {
		t.Errorf("%d bytes of memory were not given back", s.recorder.cfg.CopyMemory-left)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// TestContinue: a client that waits for 100 Continue gets it, also where the body is looked at first.
func TestContinue(t *testing.T) {
	for _, mode := range []rules.Mode{rules.BestEffort, rules.Required} {
		s := newStand(t, parsedRules(t, "version: 1"), func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s", b)
		}, func(c *Config) { c.Mode = mode })
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.proxy.URL, strings.NewReader("hello"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Expect", "100-continue")
		resp, err := (&http.Transport{ExpectContinueTimeout: time.Minute}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "hello" {
			t.Errorf("%v: %q %v", mode, b, err)
		}
		resp.Body.Close()
	}
}

// TestHTTP2: clients may speak HTTP/2.
func TestHTTP2(t *testing.T) {
	s := newStand(t, parsedRules(t, jobRules), scheduler(), nil)
	server := httptest.NewUnstartedServer(s.recorder)
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	resp, err := server.Client().Post(server.URL+"/jobs/a/run", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || resp.ProtoMajor != 2 || string(b) != `{"run":"r-7"}` {
		t.Errorf("%s %q %v", resp.Proto, b, err)
	}
	if e := s.queue.next(1)[0]; e.Action != "run.start" {
		t.Errorf("%+v", e)
	}
}

// TestUpstreamFaults: what is known of a request says what its event says.
func TestUpstreamFaults(t *testing.T) {
	s := newStand(t, parsedRules(t, strings.Replace(jobRules, "job: {run_id", "outcomes: [{if: {\"response:/ok\": 1}, then: success}]\n    job: {run_id", 1)), func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		if r.URL.Path == "/jobs/cut/run" {
			fmt.Fprint(rw, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
			_ = rw.Flush()
		}
	}, nil)
	if status, _, _ := s.do("POST", "/jobs/none/run", ""); status != 502 {
		t.Errorf("%d", status)
	}
	if e := s.queue.next(1)[0]; e.Outcome != "unknown" || e.Reason.Code != "no_answer" {
		t.Errorf("%s %+v", e.Outcome, e.Reason)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.proxy.URL+"/jobs/cut/run", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err == nil {
		_, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the client sees %v", err)
	}
	if e := s.queue.next(2)[1]; e.Outcome != "unknown" || e.Reason.Code != "unreadable_answer" || e.Details["answer"] == nil {
		t.Errorf("%s %+v %v", e.Outcome, e.Reason, e.Details)
	}
	s.upstream.Close()
	if status, _, _ := s.do("POST", "/jobs/none/run", ""); status != 502 {
		t.Errorf("%d", status)
	}
	if e := s.queue.next(3)[2]; e.Outcome != "failure" || e.Reason.Code != "upstream_unreachable" {
		t.Errorf("%s %+v", e.Outcome, e.Reason)
	}
}

// TestSlowUpstream: a scheduler that doesn't answer in time.
func TestSlowUpstream(t *testing.T) {
	done := make(chan struct{})
	s := newStand(t, parsedRules(t, jobRules), func(http.ResponseWriter, *http.Request) { <-done }, func(c *Config) { c.AnswerTimeout = 20 * time.Millisecond })
	status, _, _ := s.do("POST", "/jobs/a/run", "")
	close(done)
	if e := s.queue.next(1)[0]; status != 504 || e.Outcome != "unknown" || e.Reason.Code != "no_answer" {
		t.Errorf("%d %+v", status, e)
	}
}

// TestClientLeaves: a client that leaves before the answer leaves an event.
func TestClientLeaves(t *testing.T) {
	came, done := make(chan struct{}), make(chan struct{})
	s := newStand(t, parsedRules(t, jobRules), func(http.ResponseWriter, *http.Request) { close(came); <-done }, nil)
	defer close(done)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-came; cancel() }()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.proxy.URL+"/jobs/a/run", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := http.DefaultTransport.RoundTrip(req); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if e := s.queue.next(1)[0]; e.Outcome != "unknown" || e.Reason.Code != "client_gone" {
		t.Errorf("%+v", e)
	}
}

// TestSlowBody: a client that stops in the middle of a body that is waited for is let go.
func TestSlowBody(t *testing.T) {
	s := newStand(t, parsedRules(t, jobRules), func(http.ResponseWriter, *http.Request) { t.Error("the scheduler saw it") }, func(c *Config) {
		c.Mode, c.Patience = rules.Required, 20*time.Millisecond
	})
	c, err := net.Dial("tcp", strings.TrimPrefix(s.proxy.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "POST /jobs/a/run HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
	if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != 400 {
		t.Errorf("%+v %v", resp, err)
	}
	if e := s.queue.next(1)[0]; e.Outcome != "denied" || e.Reason.Code != "body_broken" {
		t.Errorf("%+v", e)
	}
}

// TestHostileBodies: what can't be read is recorded by its path, and goes on as it is.
func TestHostileBodies(t *testing.T) {
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	_, _ = io.CopyN(z, zeros{}, 64<<20)
	_ = z.Close()
	var packed bytes.Buffer
	z = gzip.NewWriter(&packed)
	_, _ = z.Write([]byte(`{"user":"ada"}`))
	_ = z.Close()
	s := newStand(t, parsedRules(t, jobRules), func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		sum := sha256.Sum256(b)
		fmt.Fprint(w, hex.EncodeToString(sum[:]))
	}, nil)
	for i, c := range []struct{ what, body, encoding, id string }{
		{"deep", `{"user":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + "}", "", "unknown"},
		{"many values", `[` + strings.Repeat("1,", 25000) + "1]", "", "unknown"},
		{"too large", `{"user":"` + strings.Repeat("x", 100<<10) + `"}`, "", "unknown"},
		{"a bomb", bomb.String(), "gzip", "unknown"},
		{"compressed", packed.String(), "gzip", "ada"},
		{"not what it says", `{"user":"ada"}`, "gzip", "unknown"},
		{"an unknown coding", `{"user":"ada"}`, "br", "unknown"},
		{"not JSON", `{"user":`, "", "unknown"},
		{"two values", `{"user":"ada"}{"user":"bob"}`, "", "unknown"},
		{"a name twice", `{"user":"ada","user":"bob"}`, "", "bob"},
		{"another type", `{"user":{"a":1}}`, "", `{"a":1}`},
		{"empty", `{"user":""}`, "", "unknown"},
		{"long", `{"user":"` + strings.Repeat("x", 1000) + `"}`, "", strings.Repeat("x", 512)},
		{"not UTF-8", "{\"user\":\"\xff\xfe\"}", "", "\ufffd\ufffd"},
		{"control characters", `{"user":"a\u0000\nb"}`, "", "a\x00\nb"},
	} {
		_, answer, _ := s.do("POST", "/login", c.body, "Content-Encoding: "+c.encoding)
		sum := sha256.Sum256([]byte(c.body))
		if answer != hex.EncodeToString(sum[:]) {
			t.Errorf("%s: the body was changed", c.what)
		}
		e := s.queue.next(i + 1)[i]
		if e.Action != "auth.login" || e.Target[0].ID != c.id {
			t.Errorf("%s: %s %.60q, expected %.60q", c.what, e.Action, e.Target[0].ID, c.id)
		}
		if twice := c.what == "a name twice"; (e.Details["ambiguous"] == true) != twice {
			t.Errorf("%s: %v", c.what, e.Details)
		}
	}
}

// TestNoMemoryForCopies: without memory bodies go through and aren't looked at; but for a required rule that has to.
func TestNoMemoryForCopies(t *testing.T) {
	for _, mode := range []rules.Mode{rules.BestEffort, rules.Required} {
		s := newStand(t, parsedRules(t, jobRules), func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }, func(c *Config) {
			c.CopyMemory, c.Mode = 0, mode
		})
		want := map[rules.Mode]int{rules.BestEffort: 200, rules.Required: 400}[mode]
		if status, answer, _ := s.do("POST", "/login", `{"user":"ada"}`); status != want || status == 200 && answer != `{"user":"ada"}` {
			t.Errorf("%d %s", status, answer)
		}
		if e := s.queue.next(1)[0]; e.Target[0].ID != "unknown" || mode == rules.Required && e.Reason.Code != "unread" {
			t.Errorf("%+v", e)
		}
	}
}

// TestMalformed: what has no path isn't passed on.
func TestMalformed(t *testing.T) {
	s := newStand(t, parsedRules(t, allRules), func(http.ResponseWriter, *http.Request) { t.Error("the scheduler saw it") }, nil)
	for _, line := range []string{"CONNECT x:1 HTTP/1.1", "GET * HTTP/1.1", "GET /" + strings.Repeat("%2F..", 400) + " HTTP/1.1", "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2"} {
		c, err := net.Dial("tcp", strings.TrimPrefix(s.proxy.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "%s\r\nHost: x\r\n\r\n", line)
		if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != 400 {
			t.Errorf("%.40s: %+v %v", line, resp, err)
		}
		c.Close()
	}
}

// TestConfig: an upstream with a path would be another one than the rules are written for.
func TestConfig(t *testing.T) {
	for _, text := range []string{"http://x/path", "http://x?y=1", "ftp://x", "http://", "http://a@x"} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		cfg := config(t, "http://x", parsedRules(t, allRules), nil)
		if cfg.Upstream = u; !fails(cfg) {
			t.Errorf("took %s", text)
		}
	}
	cfg := config(t, "http://x", parsedRules(t, allRules), nil)
	if cfg.Key = nil; !fails(cfg) {
		t.Error("took no key")
	}
}

func fails(cfg Config) bool {
	_, err := New(cfg)
	return err != nil
}
