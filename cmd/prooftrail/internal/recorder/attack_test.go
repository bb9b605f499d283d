package recorder

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/recorder/rules"
)

const bodyRules = `
version: 1
actor: [{header: X-User}, {session: ["header:Authorization", "cookie:sid"]}, {basic: true}]
default: {unsafe: ignore}
rules:
  - {name: update, method: [POST], path: "/update", action: job.update, target: {type: job, id: ["body:/id", "query:id"]}}
  - {name: delete, method: [DELETE], path: "/jobs/{job}", mode: required, action: job.delete, target: {type: job, id: "path:job"}}
  - name: login
    path: /login
    mode: best-effort
    action: auth.login
    actor: "body:/user"
    target: {type: user, id: "body:/user"}
    learn: {session: ["set-cookie:sid", "cookie:sid"], user: "body:/user"}
`

// TestHiddenTargets: a body in which a scheduler may find another job than the recorder, or the recorder none at all, is called
// ambiguous or unread, and refused where the rule is required.
func TestHiddenTargets(t *testing.T) {
	const form = "Content-Type: application/x-www-form-urlencoded"
	for _, c := range []struct{ what, target, body, header, reason string }{
		{"plain", "/update", `{"id":"a"}`, "", ""},
		{"the same twice", "/update?id=a", `{"id":"a"}`, "", ""},
		{"another case alone", "/update", `{"ID":"a"}`, "", ""},
		{"a form", "/update", "id=a", form, ""},
		{"JSON called a form", "/update", `{"id":"a"}`, form, ""},
		{"a name twice", "/update", `{"id":"x","id":"a"}`, "", "ambiguous"},
		{"a name in another case", "/update", `{"id":"a","Id":"victim"}`, "", "ambiguous"},
		{"a name with the sign of Kelvin", "/update", "{\"id\":\"a\",\"k\":1,\"\u212a\":2}", "", "ambiguous"},
		{"another in the query", "/update?id=victim", `{"id":"a"}`, "", "ambiguous"},
		{"a form in JSON", "/update", `{"id":"a","x":"&id=victim&"}`, form, "ambiguous"},
		{"padded", "/update", `{"id":"a"` + strings.Repeat(" ", 64<<10) + "}", "", "unread"},
		{"another coding", "/update", "{\x00\"\x00i\x00d\x00", "", "unread"},
	} {
		for _, mode := range []rules.Mode{rules.BestEffort, rules.Required} {
			s := newStand(t, parsedRules(t, bodyRules), func(http.ResponseWriter, *http.Request) {}, func(cfg *Config) { cfg.Mode = mode })
			want := 200
			if mode == rules.Required && c.reason != "" {
				want = 400
			}
			if status, _, _ := s.do("POST", c.target, c.body, c.header); status != want {
				t.Errorf("%s, %s: %d", c.what, mode, status)
			}
			e := s.queue.next(1)[0]
			if c.reason == "" && (e.Target[0].ID != "a" || e.Details["ambiguous"] != nil || e.Details["unread"] != nil) || c.reason != "" && e.Details[c.reason] != true {
				t.Errorf("%s, %s: %s %v", c.what, mode, e.Target[0].ID, e.Details)
			}
		}
	}
}

// TestMethodInForm: some servers take the method from a form, whatever rule the request would have without it.
func TestMethodInForm(t *testing.T) {
	s := newStand(t, parsedRules(t, bodyRules), func(http.ResponseWriter, *http.Request) { t.Error("the scheduler saw it") }, nil)
	if status, _, _ := s.do("POST", "/jobs/a", "_method=delete", "Content-Type: application/x-www-form-urlencoded"); status != 400 {
		t.Errorf("%d", status)
	}
	if e := s.queue.next(1)[0]; e.Action != "job.delete" || e.Reason.Code != "ambiguous" {
		t.Errorf("%+v", e)
	}
}

// TestTwoNames: with a second credential the scheduler may have accepted that one: what is only written in the first isn't called accepted.
func TestTwoNames(t *testing.T) {
	const basic = "Authorization: Basic Ym9iOng=" // bob
	s := newStand(t, parsedRules(t, bodyRules), func(http.ResponseWriter, *http.Request) {}, func(cfg *Config) {
		cfg.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	s.recorder.sessions.learn(s.recorder.sessionID("m"), "mallory")
	for i, c := range []struct{ one, two, actor, basis string }{
		{basic, "", "bob", "accepted"}, {basic, "Cookie: sid=m", "mallory", "claimed"}, {basic, "Cookie: sid=other", "bob", "claimed"}, {"", "Cookie: sid=m", "mallory", "accepted"},
		{"X-User: ada", "Cookie: sid=m", "ada", "proxy"},
	} {
		s.do("POST", "/update", `{"id":"a"}`, c.one, c.two)
		if e := s.queue.next(i + 1)[i]; e.Actor.ID != c.actor || e.Details["actor"] != c.basis {
			t.Errorf("%s %s: %s %v", c.one, c.two, e.Actor.ID, e.Details["actor"])
		}
	}
}

// TestNameBesideAName: of a client's own header with a name, to which a trusted proxy has added another, nothing is taken.
func TestNameBesideAName(t *testing.T) {
	s := newStand(t, parsedRules(t, bodyRules), func(http.ResponseWriter, *http.Request) {}, func(cfg *Config) {
		cfg.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.proxy.URL+"/update", strings.NewReader(`{"id":"a"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header["X-User"] = []string{"root", "mallory"}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if e := s.queue.next(1)[0]; e.Actor.ID != "anonymous" || e.Details["ambiguous"] != true {
		t.Errorf("%+v %v", e.Actor, e.Details)
	}
}

// TestCredentialInAnotherCase: a parameter that holds one is masked in whatever case it is written.
func TestCredentialInAnotherCase(t *testing.T) {
	s := newStand(t, parsedRules(t, `{version: 1, actor: [{session: "query:sid"}]}`), func(http.ResponseWriter, *http.Request) {}, nil)
	s.do("POST", "/x?SID=s3cr3t", "")
	if q := fmt.Sprint(s.queue.next(1)[0].Details["query"]); strings.Contains(q, "s3cr3t") {
		t.Error(q)
	}
}

// TestPoisonedLogin: who is in already may ask to be somebody else; a scheduler that answers that as it answers a login doesn't make it so.
func TestPoisonedLogin(t *testing.T) {
	for _, c := range []struct{ what, target, cookie, set, body, actor string }{
		{"a new session", "/login", "", "sid=m", `{"user":"ada"}`, "ada"},
		{"the one that it came in", "/login", "Cookie: sid=m", "", `{"user":"victim"}`, "session:"},
		{"that one set again", "/login", "Cookie: sid=m", "sid=m", `{"user":"victim"}`, "session:"},
		{"two names", "/login?user=mallory", "", "sid=m", `{"user":"victim"}`, "session:"},
	} {
		s := newStand(t, parsedRules(t, bodyRules), func(w http.ResponseWriter, _ *http.Request) {
			if c.set != "" {
				w.Header().Set("Set-Cookie", c.set)
			}
		}, nil)
		s.do("POST", c.target, c.body, c.cookie)
		s.queue.next(1)
		s.do("POST", "/update", `{"id":"a"}`, "Cookie: sid=m")
		if e := s.queue.next(2)[1]; !strings.HasPrefix(e.Actor.ID, c.actor) {
			t.Errorf("%s: %s", c.what, e.Actor.ID)
		}
	}
}

// TestOnlyWebsockets: no other protocol is begun, through which requests would go by unseen.
func TestOnlyWebsockets(t *testing.T) {
	s := newStand(t, parsedRules(t, allRules), func(_ http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" || r.Header.Get("Connection") != "" {
			t.Errorf("%v", r.Header)
		}
	}, nil)
	s.do("GET", "/", "", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__")
	s.queue.next(1)
}

// TestNotSentAgain: a request that may do something isn't sent a second time when the connection breaks.
func TestNotSentAgain(t *testing.T) {
	var seen atomic.Int32
	s := newStand(t, parsedRules(t, allRules), func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/warm" {
			return
		}
		seen.Add(1)
		if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
			c.Close()
		}
	}, nil)
	for i, method := range []string{"GET", "HEAD", "OPTIONS", "POST"} {
		seen.Store(0)
		s.do("GET", "/warm", "")
		if status, _, _ := s.do(method, "/run", "", "Idempotency-Key: 1"); status != 502 || seen.Load() != 1 {
			t.Errorf("%s: %d, seen %d times", method, status, seen.Load())
		}
		s.queue.next(2 * (i + 1))
	}
}

// TestSmallPieces: a body takes of the memory for copies what it is long, in however many pieces it comes.
func TestSmallPieces(t *testing.T) {
	s := newStand(t, parsedRules(t, jobRules), func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }, func(c *Config) {
		c.Mode, c.CopyMemory, c.MaxCopy = rules.Required, 16<<10, 4<<10
	})
	c, err := net.Dial("tcp", strings.TrimPrefix(s.proxy.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	body := `{"user":"ada","password":"xxxxxxxxxxxxxx"}`
	fmt.Fprint(c, "POST /login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
	for i := range body {
		fmt.Fprintf(c, "1\r\n%s\r\n", body[i:i+1])
	}
	fmt.Fprint(c, "0\r\n\r\n")
	if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != 200 {
		t.Errorf("%+v %v", resp, err)
	}
	if e := s.queue.next(1)[0]; e.Target[0].ID != "ada" {
		t.Errorf("%+v", e.Target)
	}
}

// TestSilentStream: a stream on which nothing is said for longer than a client may take to read goes on, also in HTTP/2.
func TestSilentStream(t *testing.T) {
	next := make(chan struct{})
	s := newStand(t, parsedRules(t, allRules), func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "one\n")
		_ = http.NewResponseController(w).Flush()
		<-next
		fmt.Fprint(w, "two\n")
	}, func(c *Config) { c.Patience = 30 * time.Millisecond })
	server := httptest.NewUnstartedServer(s.recorder)
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	resp, err := server.Client().Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	in := bufio.NewReader(resp.Body)
	if line, err := in.ReadString('\n'); err != nil || line != "one\n" {
		t.Errorf("%q %v", line, err)
	}
	<-time.After(100 * time.Millisecond) // longer than the client may take
	close(next)
	if line, err := in.ReadString('\n'); err != nil || line != "two\n" || resp.ProtoMajor != 2 {
		t.Errorf("%q %v", line, err)
	}
}

// TestLookingIsNotSending: that the resource was asked for doesn't say that the change was sent.
func TestLookingIsNotSending(t *testing.T) {
	s := newStand(t, parsedRules(t, jobRules), func(http.ResponseWriter, *http.Request) {}, nil)
	var asked bool
	inner := s.recorder.transport.DialContext
	s.recorder.transport.DisableKeepAlives = true
	s.recorder.transport.DialContext = dialOnce(inner, &asked)
	s.do("PUT", "/jobs/a", `{"a":1}`)
	if e := s.queue.next(1)[0]; !asked || e.Outcome != "failure" || e.Reason.Code != "upstream_unreachable" {
		t.Errorf("%v %s %+v", asked, e.Outcome, e.Reason)
	}
}

// TestLookingElsewhere: a name in a body doesn't lead the question for a resource to another path.
func TestLookingElsewhere(t *testing.T) {
	s := newStand(t, ready(t, "ready:dkron"), func(_ http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			t.Errorf("asked for %s", r.RequestURI)
		}
	}, nil)
	for i, name := range []string{"../leave", "x/run", `..\\leave`, "%2e%2e", "x?y", ".."} {
		s.do("POST", "/v1/jobs", `{"name":"`+name+`"}`)
		if e := s.queue.next(i + 1)[i]; e.Details["before"] == nil {
			t.Errorf("%s: %+v", name, e.Details)
		}
	}
}
