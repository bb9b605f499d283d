package cronservice

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/prooftrail/prooftrail/verifier/event"
)

// call is one request and who makes it.
type call struct {
	r       *http.Request
	session *session // nil: not logged in
}

// failure is an error for the client.
type failure struct {
	status int
	code   string
	text   string
}

func (f *failure) Error() string { return f.text }

var (
	errBadLogin  = &failure{http.StatusUnauthorized, "bad-credentials", "the name or the password is wrong"}
	errNoSession = &failure{http.StatusUnauthorized, "no-session", "log in first"}
	errForbidden = &failure{http.StatusForbidden, "forbidden", "the role doesn't allow it"}
	errNotFound  = &failure{http.StatusNotFound, "not-found", "there is no such thing"}
	errExists    = &failure{http.StatusConflict, "exists", "there is one of that name"}
	errUnlogged  = &failure{http.StatusServiceUnavailable, "unlogged", "the audit log doesn't answer"}
)

func badRequest(text string) error { return &failure{http.StatusBadRequest, "bad-request", text} }

func (s *Service) routes() {
	for pattern, handle := range map[string]func(*call) (any, error){
		"POST /login":             s.login,
		"POST /logout":            s.logout,
		"POST /users":             s.createUser,
		"GET /jobs":               s.listJobs,
		"POST /jobs":              s.createJob,
		"PUT /jobs/{id}":          s.updateJob,
		"DELETE /jobs/{id}":       s.deleteJob,
		"POST /credentials":       s.createCredential,
		"GET /credentials/{name}": s.readCredential,
	} {
		s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			answer, err := handle(&call{r, s.sessionOf(r)})
			respond(w, answer, err)
		})
	}
}

// ServeHTTP serves the API.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	s.mux.ServeHTTP(w, r)
}

func (s *Service) sessionOf(r *http.Request) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
}

func respond(w http.ResponseWriter, answer any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		f := &failure{http.StatusInternalServerError, "internal", "internal error"}
		errors.As(err, &f)
		w.WriteHeader(f.status)
		answer = map[string]string{"code": f.code, "error": f.text}
	}
	_ = json.NewEncoder(w).Encode(answer) // the client may be gone
}

// read decodes the body.
func (c *call) read(into any) error {
	dec := json.NewDecoder(c.r.Body)
	dec.DisallowUnknownFields()
	if dec.Decode(into) != nil {
		return badRequest("the body isn't what is expected")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return badRequest("there is more than one object in the body")
	}
	return nil
}

// event begins an event about what the call does.
func (c *call) event(action string, target ...event.Target) event.Event {
	e := event.Event{Action: action, Outcome: "success", Target: target, Actor: event.Actor{Type: "anonymous", ID: "anonymous"}}
	if c.session != nil {
		u := c.session.user
		e.Actor = event.Actor{Type: "user", ID: u.id, Name: u.name, SessionID: c.session.id, AuthMethod: "password"}
	}
	e.Origin = &event.Origin{UserAgent: c.r.UserAgent(), Host: c.r.Host, RequestID: uuid.NewString()}
	if host, port, err := net.SplitHostPort(c.r.RemoteAddr); err == nil {
		e.Origin.IP = host
		e.Origin.Port, _ = strconv.Atoi(port)
	}
	return e
}

// allowed refuses calls without a session or the role.
func (c *call) allowed(roles ...Role) error {
	if c.session == nil {
		return errNoSession
	}
	for _, r := range roles {
		if c.session.user.role == r {
			return nil
		}
	}
	return errForbidden
}

// nothing is the undo of calls that change nothing.
func nothing() {}

// finish records the event with the outcome of err, waits for its receipt, and
// returns err. If the event can't be logged, what was done is undone.
func (s *Service) finish(c *call, e event.Event, err error, undo func()) error {
	did := err == nil
	var f *failure
	switch {
	case errors.As(err, &f):
		e.Outcome = "failure"
		if f == errForbidden || f == errNoSession {
			e.Outcome = "denied"
		}
		e.Reason = &event.Reason{Code: f.code, Text: f.text}
		e.Change = nil
	case err != nil:
		e.Outcome, e.Reason, e.Change = "failure", &event.Reason{Code: "internal"}, nil
	}
	select {
	case logged := <-s.record(e):
		if logged == nil {
			return err
		}
	case <-c.r.Context().Done():
	}
	if did {
		undo()
	}
	return errUnlogged
}

// named refuses names that don't fit into an event.
func named(names ...string) error {
	for _, n := range names {
		if n == "" || len(n) > 100 {
			return badRequest("expected a name of 1 to 100 bytes")
		}
	}
	return nil
}
