package recorder

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/recorder/rules"
	"github.com/prooftrail/prooftrail/verifier/client"
	"github.com/prooftrail/prooftrail/verifier/event"
)

const jobRules = `
version: 1
scheduler: test
actor: [{header: X-Forwarded-User}, {session: "cookie:sid"}, {key: "header:X-Api-Key"}, {jwt: {in: "header:Authorization", claim: [sub]}}, {basic: true}]
rules:
  - name: update
    method: [PUT]
    path: /jobs/{job}
    action: job.update
    target: {type: job, id: "path:job"}
    change: {get: "{request}", secret: [/webhook]}
  - name: run
    method: [POST]
    path: /jobs/{job}/run
    action: run.start
    target: {type: job, id: "path:job"}
    job: {run_id: "response:/run", trigger: api}
  - name: login
    method: [POST]
    path: /login
    action: auth.login
    actor: "body:/user"
    target: {type: user, id: "body:/user"}
    learn: {session: "set-cookie:sid", user: "body:/user"}
  - name: logout
    path: /logout
    action: auth.logout
    target: {type: user, id: "text:self"}
    forget: "cookie:sid"
`

// scheduler is a small one: its jobs are what was PUT.
func scheduler() http.HandlerFunc {
	jobs := map[string]string{"a": `{"schedule":"@daily","password":"old-secret","webhook":"w1"}`}
	return func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, "/jobs/")
		switch {
		case r.URL.Path == "/logout":
		case r.URL.Path == "/login":
			http.SetCookie(w, &http.Cookie{Name: "sid", Value: "s3cr3t-cookie"})
		case r.Header.Get("Authorization") == "Bearer wrong":
			w.WriteHeader(http.StatusUnauthorized)
		case r.Method == http.MethodPut:
			b, _ := io.ReadAll(r.Body)
			jobs[name] = string(b)
		case strings.HasSuffix(r.URL.Path, "/run"):
			fmt.Fprint(w, `{"run":"r-7"}`)
		case r.Method == http.MethodGet && jobs[name] != "":
			fmt.Fprint(w, jobs[name])
		case r.Method == http.MethodGet:
			w.WriteHeader(http.StatusNotFound)
		}
	}
}

// TestChange: what changed shows with before and after, that a secret changed too, and no secret does.
func TestChange(t *testing.T) {
	s := newStand(t, parsedRules(t, jobRules), scheduler(), nil)
	if status, _, _ := s.do("PUT", "/jobs/a", `{"schedule":"@hourly","password":"new-secret","webhook":"w2","retries":null}`, "X-Api-Key: k-123"); status != 200 {
		t.Fatal(status)
	}
	e := s.queue.next(1)[0]
	if e.Action != "job.update" || e.Outcome != "success" || e.Job.ID != "a" || e.Target[0].ID != "a" || e.mode != client.BestEffort {
		t.Errorf("%+v", e.Event)
	}
	want := `[{"op":"test","path":"/password","value":"[masked]"},{"op":"replace","path":"/password","value":"[masked]"},` +
		`{"op":"add","path":"/retries","value":"[null]"},` +
		`{"op":"test","path":"/schedule","value":"@daily"},{"op":"replace","path":"/schedule","value":"@hourly"},` +
		`{"op":"test","path":"/webhook","value":"[masked]"},{"op":"replace","path":"/webhook","value":"[masked]"}]`
	if got := patchText(t, e); got != want {
		t.Errorf("patch\n%s, expected\n%s", got, want)
	}
	if len(e.Change.BeforeSHA256) != 64 || len(e.Change.AfterSHA256) != 64 || e.Change.BeforeSHA256 == e.Change.AfterSHA256 {
		t.Errorf("%+v", e.Change)
	}
	if e.Actor.Type != "service" || !strings.HasPrefix(e.Actor.ID, "credential:") || strings.Contains(e.Actor.ID, "k-123") {
		t.Errorf("%+v", e.Actor)
	}
	if e.Origin.IP != "127.0.0.1" || e.Origin.RequestID == "" || e.Details["method"] != "PUT" || e.Details["status"] != 200 {
		t.Errorf("%+v %+v", e.Origin, e.Details)
	}
}

// TestSessions: a login tells whose a session is, until the logout; the cookie is nowhere.
func TestSessions(t *testing.T) {
	s := newStand(t, parsedRules(t, jobRules), scheduler(), nil)
	for i, r := range []struct{ method, target, body string }{
		{"POST", "/login", `{"user":"ada","password":"x"}`}, {"POST", "/jobs/a/run", ""}, {"GET", "/logout", ""}, {"POST", "/jobs/a/run", ""},
	} {
		cookie := "Cookie: sid=s3cr3t-cookie"
		if r.target == "/login" {
			cookie = ""
		}
		s.do(r.method, r.target, r.body, cookie)
		s.queue.next(i + 1)
	}
	all := s.queue.next(4)
	if e := all[0]; e.Action != "auth.login" || e.Actor.ID != "ada" || e.Actor.SessionID == "" {
		t.Errorf("%+v", e.Actor)
	}
	if e := all[1]; e.Actor.ID != "ada" || e.Actor.SessionID != all[0].Actor.SessionID || e.Actor.AuthMethod != "session" || e.Job.RunID != "r-7" {
		t.Errorf("%+v %+v", e.Actor, e.Job)
	}
	if e := all[2]; e.Action != "auth.logout" || e.Actor.ID != "ada" {
		t.Errorf("%+v", e.Actor)
	}
	if e := all[3]; e.Actor.ID != "session:"+all[0].Actor.SessionID {
		t.Errorf("%+v", e.Actor)
	}
	for _, e := range all {
		if f, err := e.Fields(); err != nil || strings.Contains(string(f.JSON()), "s3cr3t") {
			t.Errorf("%v %s", err, f.JSON())
		}
	}
}

// TestSessionsAreBounded: the one that was used longest ago is forgotten.
func TestSessionsAreBounded(t *testing.T) {
	s := newSessions(2)
	s.learn("a", "ada")
	s.learn("b", "bob")
	s.user("a")
	s.learn("c", "cy")
	if s.user("a") != "ada" || s.user("b") != "" || s.user("c") != "cy" || len(s.byID) != 2 || s.order.Len() != 2 {
		t.Errorf("%v", s.byID)
	}
}

// TestClaims: a name that nobody has proven is called claimed, and one in a token isn't believed when the
// scheduler refuses it. A header with a name counts from a trusted proxy alone, and so does one that this proxy takes away.
func TestClaims(t *testing.T) {
	token := "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEifQ.x"
	s := newStand(t, parsedRules(t, jobRules), func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("no") != "" {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}, nil)
	for i, c := range []struct{ target, header, actor, basis string }{
		{"/jobs/a/run", "Authorization: " + token, "ada", "accepted"},
		{"/jobs/a/run?no=1", "Authorization: " + token, "credential:", "claimed"},
		{"/jobs/a/run", "Authorization: Basic Ym9iOng=", "bob", "accepted"},
		{"/jobs/a/run?no=1", "Authorization: Basic Ym9iOng=", "bob", "claimed"},
		{"/jobs/a/run", "X-Forwarded-User: root", "anonymous", ""},
		{"/jobs/a/run", "X-Other: 1", "anonymous", ""},
	} {
		s.do("POST", c.target, "", c.header)
		e := s.queue.next(i + 1)[i]
		basis, _ := e.Details["actor"].(string)
		if !strings.HasPrefix(e.Actor.ID, c.actor) || basis != c.basis {
			t.Errorf("%s %s: %+v %v", c.target, c.header, e.Actor, e.Details)
		}
	}
	s.queue.clear()
	s.do("POST", "/jobs/a/run", "", "X-Api-Key: somebody-elses", "Connection: X-Api-Key")
	if e := s.queue.next(1)[0]; e.Actor.CredentialID != "" {
		t.Errorf("a header that the scheduler never got counts: %+v", e.Actor)
	}
}

// TestRequired: the attempt is in the log before the scheduler sees the request, and when it can't be, it never does.
func TestRequired(t *testing.T) {
	var s *stand
	seen := 0
	s = newStand(t, parsedRules(t, jobRules), func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			return
		}
		seen++
		s.queue.none(1)
		fmt.Fprint(w, `{"run":"r-7"}`)
	}, func(c *Config) { c.Mode = rules.Required })
	if status, _, _ := s.do("POST", "/jobs/a/run", `{"x":1}`); status != 200 {
		t.Fatal(status)
	}
	all := s.queue.next(2)
	attempt, end := all[0], all[1]
	if attempt.mode != client.Required || attempt.Outcome != "attempt" || attempt.Reason.Code != "attempt" || attempt.Action != "run.start" {
		t.Errorf("%+v", attempt)
	}
	if end.mode != client.BestEffort || end.Outcome != "success" || end.Origin.RequestID != attempt.Origin.RequestID || end.Details["attempt"] != attempt.ID || end.Job.RunID != "r-7" {
		t.Errorf("%+v", end)
	}
	s.queue.clear()
	s.queue.fault = func(_ event.Event, mode client.Mode) error {
		if mode == client.Required {
			return fmt.Errorf("down: %w", client.ErrNotLogged)
		}
		return nil
	}
	status, _, h := s.do("POST", "/jobs/a/run", `{"x":1}`)
	if e := s.queue.next(1)[0]; status != 503 || h.Get("Retry-After") == "" || seen != 1 || e.Outcome != "denied" || e.Reason.Code != "not_logged" {
		t.Errorf("%d, seen %d, %+v", status, seen, e)
	}
	if status, _, _ := s.do("GET", "/jobs/a", ""); status != 200 {
		t.Errorf("a read is answered %d", status)
	}
	s.queue.clear()
	if status, _, _ := s.do("POST", "/jobs/x;y/../a/run", ""); status != 400 || seen != 1 {
		t.Errorf("an ambiguous request is answered %d, seen %d", status, seen)
	}
	if e := s.queue.next(1)[0]; e.Outcome != "denied" || e.Reason.Code != "ambiguous" || e.Details["ambiguous"] != true {
		t.Errorf("%+v", e)
	}
}

// TestBestEffort: what can't be recorded is counted, and goes on.
func TestBestEffort(t *testing.T) {
	s := newStand(t, parsedRules(t, jobRules), scheduler(), nil)
	s.queue.fault = func(event.Event, client.Mode) error { return fmt.Errorf("full: %w", client.ErrDropped) }
	if status, answer, _ := s.do("POST", "/jobs/a/run", ""); status != 200 || answer != `{"run":"r-7"}` {
		t.Errorf("%d %s", status, answer)
	}
	s.proxy.Close() // the handler has ended
	if got := counter(t, s.recorder.cfg.Metrics.lost); got != 1 {
		t.Errorf("%v were lost", got)
	}
}

// TestInvalidEventIsCut: an event that the schema refuses is replaced by what is left of it.
func TestInvalidEventIsCut(t *testing.T) {
	s := newStand(t, parsedRules(t, jobRules), scheduler(), nil)
	first := true
	s.queue.fault = func(event.Event, client.Mode) error {
		if first {
			first = false
			return errors.Join(client.ErrRefused, &event.Error{Pointer: "/job/id", Code: "size"})
		}
		return nil
	}
	s.do("POST", "/jobs/a/run", "")
	if e := s.queue.next(1)[0]; e.Action != "api.write" || e.Details["action"] != "run.start" || e.Details["refused"] != "/job/id size" {
		t.Errorf("%+v", e)
	}
}

// TestReadsAreIgnored: what is polled makes no event.
func TestReadsAreIgnored(t *testing.T) {
	s := newStand(t, parsedRules(t, jobRules), scheduler(), nil)
	for range 20 {
		s.do("GET", "/jobs/a", "")
		s.do("HEAD", "/jobs/a", "")
		s.do("OPTIONS", "/jobs", "")
	}
	s.do("DELETE", "/something", "")
	if e := s.queue.next(1); len(e) != 1 || e[0].Action != "api.write" || e[0].Target[0].ID != "/something" {
		t.Errorf("%+v", e)
	}
}

// TestOutcomes: what the status says.
func TestOutcomes(t *testing.T) {
	var status int
	s := newStand(t, parsedRules(t, jobRules), func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }, nil)
	for i, c := range []struct {
		status        int
		outcome, code string
	}{{204, "success", ""}, {302, "success", ""}, {401, "denied", "http_401"}, {403, "denied", "http_403"}, {404, "failure", "http_404"}, {500, "failure", "http_500"}} {
		status = c.status
		s.do("POST", "/jobs/a/run", "")
		e := s.queue.next(i + 1)[i]
		if e.Outcome != c.outcome || c.code != "" && e.Reason.Code != c.code {
			t.Errorf("%d: %s %+v", c.status, e.Outcome, e.Reason)
		}
	}
}

// TestLookingChangesNothing: the resource is asked for by a GET that is nothing but that, whatever the change says.
func TestLookingChangesNothing(t *testing.T) {
	var asked []http.Header
	s := newStand(t, parsedRules(t, jobRules), func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			asked = append(asked, r.Header)
			if n, err := io.Copy(io.Discard, r.Body); n != 0 || err != nil {
				t.Errorf("a body of %d bytes", n)
			}
		}
		fmt.Fprint(w, "{}")
	}, nil)
	s.do("PUT", "/jobs/a", `{"a":1}`, "X-Api-Key: mine", "X-HTTP-Method-Override: DELETE", "X_HTTP_Method: DELETE", "X-Original-URL: /x", "If-Match: 1", "Range: bytes=0-1")
	s.queue.next(1)
	if len(asked) != 2 {
		t.Fatalf("asked %d times", len(asked))
	}
	for _, h := range asked {
		for name := range h {
			if name != "X-Api-Key" && name != "Accept" && name != "User-Agent" && name != "Accept-Encoding" {
				t.Errorf("asked with %s", name)
			}
		}
		if h.Get("X-Api-Key") != "mine" {
			t.Errorf("asked with the credentials %q", h.Get("X-Api-Key"))
		}
	}
	asked = nil
	s.do("PUT", "/jobs/a?_method=DELETE", `{"a":1}`)
	if e := s.queue.next(2)[1]; len(asked) != 0 || e.Details["before"] == nil || e.Change == nil {
		t.Errorf("asked %d times: %+v", len(asked), e.Details)
	}
}

// TestBodyDecides: the body says which rule is meant, before the request goes on; one that can't be read counts as the
// strictest, which refuses it.
func TestBodyDecides(t *testing.T) {
	s := newStand(t, parsedRules(t, `
version: 1
rules:
  - {name: poll, path: /call, mode: ignore, if: {"body:/do": poll}}
  - {name: stop, path: /call, mode: required, if: {"body:/do": stop}, action: scheduler.pause, target: {type: scheduler, id: "text:x"}}
  - {name: other, path: /call, mode: best-effort, action: api.call, target: {type: api, id: "body:/do"}}
`), func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }, nil)
	for body, want := range map[string]string{
		`{"do":"poll"}`: "", `{"do":"stop"}`: "scheduler.pause attempt, scheduler.pause success", `{"do":"look"}`: "api.call success", `{"do":`: "api.call denied",
	} {
		s.queue.clear()
		if status, answer, _ := s.do("POST", "/call", body); (status != 200 || answer != body) && !strings.Contains(want, "denied") {
			t.Errorf("%s: %d %s", body, status, answer)
		}
		var got []string
		if want != "" {
			for _, e := range s.queue.next(strings.Count(want, ",") + 1) {
				got = append(got, e.Action+" "+e.Outcome)
			}
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("%s: %q, expected %s", body, got, want)
		}
	}
}
