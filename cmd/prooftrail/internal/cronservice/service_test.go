package cronservice

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/verifier/event"
)

// recorder checks that each event is one that the log takes, and keeps it. It
// answers with err.
type recorder struct {
	t      *testing.T
	silent bool // never answers

	mu     sync.Mutex
	err    error
	events []event.Event
}

func (r *recorder) Record(e event.Event) <-chan error {
	if _, err := e.Fields(); err != nil {
		r.t.Errorf("%s is no event: %v", e.Action, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if want := fmt.Sprint(len(r.events) + 1); e.Seq != want {
		r.t.Errorf("event number %s, expected %s", e.Seq, want)
	}
	r.events = append(r.events, e)
	done := make(chan error, 1)
	if !r.silent {
		done <- r.err
	}
	return done
}

func (r *recorder) last() event.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.events[len(r.events)-1]
}

type harness struct {
	*Service
	t    *testing.T
	rec  *recorder
	sess string
}

func newHarness(t *testing.T) *harness {
	rec := &recorder{t: t}
	s, err := New(rec, "cron://test/1", "node", "ada", "secret")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
	})
	return &harness{Service: s, t: t, rec: rec}
}

// call makes a request and checks the status and the event that it left: its
// action, outcome and actor's type, or "" for none.
func (h *harness) call(method, path, body string, status int, left string) map[string]any {
	h.t.Helper()
	h.rec.mu.Lock()
	before := len(h.rec.events)
	h.rec.mu.Unlock()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+h.sess)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != status {
		h.t.Errorf("%s %s: %d %s, expected %d", method, path, w.Code, w.Body, status)
	}
	h.rec.mu.Lock()
	defer h.rec.mu.Unlock()
	got := ""
	for _, e := range h.rec.events[before:] {
		if e.Origin == nil {
			continue // of a run
		}
		got += e.Action + " " + e.Outcome + " " + e.Actor.Type
		if e.Origin.IP != "192.0.2.1" || e.Origin.RequestID == "" {
			h.t.Errorf("%s comes from %+v", e.Action, e.Origin)
		}
	}
	if got != left {
		h.t.Errorf("%s %s left the event %q, expected %q", method, path, got, left)
	}
	var out map[string]any
	_ = json.Unmarshal(w.Body.Bytes(), &out) // lists are looked at elsewhere
	return out
}

func (h *harness) login(user, password string) {
	h.t.Helper()
	out := h.call("POST", "/login", fmt.Sprintf(`{"user":%q,"password":%q}`, user, password), 200, "auth.login success user")
	h.sess, _ = out["session"].(string)
}

// Every call leaves its event, whoever makes it and however it ends.
func TestCallsAndTheirEvents(t *testing.T) {
	h := newHarness(t)
	h.call("POST", "/login", `{"user":"ada","password":"wrong"}`, 401, "auth.login failure anonymous")
	if e := h.rec.last(); e.Actor.ID != "ada" || e.Reason.Code != "bad-credentials" {
		t.Errorf("failed login: %+v", e)
	}
	h.call("POST", "/login", `{"user":"nobody","password":"x"}`, 401, "auth.login failure anonymous")
	h.call("POST", "/jobs", `{"name":"j","schedule":"0 0 1 1 *","command":"backup"}`, 401, "job.create denied anonymous")
	h.login("ada", "secret")
	h.call("POST", "/users", `{"name":"bob","password":"b","role":"operator"}`, 200, "user.create success user")
	h.call("POST", "/users", `{"name":"bob","password":"b","role":"operator"}`, 409, "user.create failure user")
	h.call("POST", "/users", `{"name":"eve","password":"b","role":"root"}`, 400, "user.create failure user")
	h.call("POST", "/credentials", `{"name":"db","secret":"s3cr3t"}`, 200, "credential.create success user")
	if out := h.call("GET", "/credentials/db", "", 200, "credential.read success user"); out["secret"] != "s3cr3t" {
		t.Errorf("secret %v", out)
	}
	h.call("GET", "/credentials/none", "", 404, "credential.read failure user")
	h.call("POST", "/jobs", `{"name":"j","schedule":"never","command":"backup"}`, 400, "job.create failure user")
	h.call("POST", "/jobs", `{"name":"j","schedule":"0 0 0 1 1 *","command":"rm"}`, 400, "job.create failure user")
	h.call("POST", "/jobs", `{"nam":"j"}`, 400, "")
	h.call("POST", "/jobs", `{"name":"`+strings.Repeat("x", 101)+`","schedule":"0 0 0 1 1 *","command":"rm"}`, 400, "")
	job := h.call("POST", "/jobs", `{"name":"j","schedule":"0 0 0 1 1 *","command":"backup"}`, 200, "job.create success user")
	id, _ := job["id"].(string)
	h.call("PUT", "/jobs/"+id, `{"schedule":"0 0 0 2 1 *"}`, 200, "job.update success user")
	if c := h.rec.last().Change; c.BeforeSHA256 == c.AfterSHA256 || c.Patch[0].Value != "0 0 0 2 1 *" {
		t.Errorf("change %+v", c)
	}
	h.call("PUT", "/jobs/"+id, `{"schedule":"x"}`, 400, "job.update failure user")
	h.call("PUT", "/jobs/none", `{"schedule":"0 0 0 2 1 *"}`, 404, "job.update failure user")
	h.login("bob", "b")
	h.call("GET", "/credentials/db", "", 403, "credential.read denied user")
	h.call("POST", "/users", `{"name":"eve","password":"b","role":"admin"}`, 403, "user.create denied user")
	h.call("POST", "/credentials", `{"name":"db2","secret":"s"}`, 403, "credential.create denied user")
	h.call("GET", "/jobs", "", 200, "")
	h.call("DELETE", "/jobs/"+id, "", 200, "job.delete success user")
	h.call("DELETE", "/jobs/"+id, "", 404, "job.delete failure user")
	h.call("POST", "/logout", "", 200, "auth.logout success user")
	h.call("GET", "/jobs", "", 401, "")
	for _, e := range h.rec.events {
		if b, err := json.Marshal(e); err != nil || strings.Contains(string(b), "s3cr3t") || strings.Contains(string(b), h.sess) {
			t.Errorf("%s holds a secret: %s, %v", e.Action, b, err)
		}
	}
}

// What can't be logged isn't done.
func TestNothingUnlogged(t *testing.T) {
	h := newHarness(t)
	h.login("ada", "secret")
	h.call("POST", "/credentials", `{"name":"db","secret":"s3cr3t"}`, 200, "credential.create success user")
	kept := h.call("POST", "/jobs", `{"name":"kept","schedule":"0 0 0 1 1 *","command":"backup"}`, 200, "job.create success user")
	id, _ := kept["id"].(string)
	h.rec.mu.Lock()
	h.rec.err = errors.New("the log is down")
	h.rec.mu.Unlock()
	if out := h.call("GET", "/credentials/db", "", 503, "credential.read success user"); out["secret"] != nil {
		t.Errorf("secret shown: %v", out)
	}
	h.call("POST", "/jobs", `{"name":"j","schedule":"0 0 0 1 1 *","command":"backup"}`, 503, "job.create success user")
	h.call("PUT", "/jobs/"+id, `{"schedule":"0 0 0 2 1 *"}`, 503, "job.update success user")
	h.call("DELETE", "/jobs/"+id, "", 503, "job.delete success user")
	h.call("POST", "/users", `{"name":"bob","password":"b","role":"operator"}`, 503, "user.create success user")
	h.call("POST", "/credentials", `{"name":"new","secret":"s"}`, 503, "credential.create success user")
	if len(h.users) != 1 || len(h.credentials) != 1 || len(h.jobs) != 1 || h.jobs[id].Schedule != "0 0 0 1 1 *" || len(h.sched.Jobs()) != 1 {
		t.Errorf("%d users, %d credentials, jobs %+v", len(h.users), len(h.credentials), h.jobs)
	}
}

// A run leaves its events, and doesn't wait for the log.
func TestRuns(t *testing.T) {
	h := newHarness(t)
	h.rec.silent = true
	h.credentials["db"] = &credential{id: "c-1", name: "db", secret: "s3cr3t"}
	for _, c := range []struct {
		job    job
		events string
	}{
		{job{ID: "j", Name: "j", Command: "backup"}, "run.start success,run.finish success"},
		{job{ID: "j", Name: "j", Command: "report", Credential: "db"}, "run.start success,credential.read success,run.finish success"},
		{job{ID: "j", Name: "j", Command: "report", Credential: "gone"}, "run.start success,credential.read failure,run.finish failure"},
	} {
		before := len(h.rec.events)
		h.run(t.Context(), c.job)
		var got []string
		for _, e := range h.rec.events[before:] {
			got = append(got, e.Action+" "+e.Outcome)
			if e.Job.RunID != h.rec.events[before].Job.RunID || e.Actor.Type != "schedule" {
				t.Errorf("%s: %+v by %+v", e.Action, e.Job, e.Actor)
			}
		}
		if strings.Join(got, ",") != c.events {
			t.Errorf("%+v left %v, expected %s", c.job, got, c.events)
		}
		if last := h.rec.last().Job; last.ExitCode == nil || last.DurationMS == nil {
			t.Errorf("finished as %+v", last)
		}
	}
}

// gocron fires what was made over HTTP.
func TestFires(t *testing.T) {
	h := newHarness(t)
	h.login("ada", "secret")
	h.call("POST", "/jobs", `{"name":"each","schedule":"* * * * * *","command":"flaky"}`, http.StatusOK, "job.create success user")
	deadline := time.After(10 * time.Second)
	for h.rec.last().Action != "run.finish" {
		select {
		case <-deadline:
			t.Fatal("the job doesn't run")
		case <-time.After(time.Millisecond):
		}
	}
}
