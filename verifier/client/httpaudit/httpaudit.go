// Package httpaudit logs who asks a net/http server for what, and whether they get it.
//
//	m := httpaudit.New(q, httpaudit.Config{Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
//	mux.Handle("POST /login", m.Handler(httpaudit.Route{Login: true}, login))
//	mux.Handle("DELETE /jobs/{id}", m.Handler(httpaudit.Route{Mode: client.Required}, deleteJob))
//	mux.Handle("/", m.Handler(httpaudit.Route{}, everythingElse))
//
// # What is logged
//
// One http.request a request, when it has been answered, on this machine's disk before the handler returns to the server: the
// outcome is success below status 400, denied for 401 and 403, else failure, with the status as the reason (http_403) and
// method, path, status, bytes sent and duration in details. Neither bodies nor headers are read or logged beyond those named
// below; nor is the query. With Route.Login it is auth.login, and what isn't success is failure.
//
// With client.Required there are two, with one request_id: an http.request with the outcome attempt, in the log before the handler is
// called, and then the one above. If the first can't be logged the request is answered with 503, and the handler isn't called.
//
// # Who, and from where
//
// The actor is who SetActor says, called by whatever authenticates behind this middleware, or Config.Actor, where that is in
// front of it, or anonymous. The handlers' context says the same (client.CallerOf).
//
// The address is that of the connection. If that is a trusted proxy, it is the one to the right in Config.Header, and so on to the left
// as long as that is a trusted proxy too: what stands further left was written by who knows whom. origin.forwarded has
// all of it. A proxy that doesn't set the header, but passes it on, must not be trusted.
package httpaudit

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prooftrail/prooftrail/verifier/client"
	"github.com/prooftrail/prooftrail/verifier/client/internal/fit"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// Config says how a server is logged. Its zero value is fine for one without proxies.
type Config struct {
	// Actor, if not nil, says who asks, where that is known before the handler is called.
	Actor func(*http.Request) (event.Actor, bool)
	// Trusted are the addresses of one's own proxies.
	Trusted []netip.Prefix
	// Header is the one that they set: X-Forwarded-For, the default, or Forwarded (RFC 7239).
	Header string
	// RequestID is the header with the request's id, such as a proxy sets. One is made if it isn't there. Default X-Request-Id.
	RequestID string
	// Logger gets the events that couldn't be enqueued. Default: nobody.
	Logger *slog.Logger
}

// Route says how the requests of a route are logged. Its zero value logs all of them in best effort.
type Route struct {
	// Mode is client.BestEffort, the default, or client.Required.
	Mode client.Mode
	// Action is the events' action. Default http.request.
	Action string
	// Login makes the action auth.login.
	Login bool
	// Edit, if not nil, may change an event before it is logged: its target, say, which is the mux's pattern, or method and path, or
	// its job, which actions that begin with job. and run. need.
	Edit func(*http.Request, *event.Event)
	// Keep, if not nil, says which requests are logged at all, seeing the answer's status. It isn't asked with client.Required.
	Keep func(r *http.Request, status int) bool
}

// Middleware logs a server's requests. It is safe for concurrent use.
type Middleware struct {
	q   client.Enqueuer
	cfg Config
}

// New returns what logs requests to a queue.
func New(q client.Enqueuer, cfg Config) *Middleware {
	if cfg.Header == "" {
		cfg.Header = "X-Forwarded-For"
	}
	if cfg.RequestID == "" {
		cfg.RequestID = "X-Request-Id"
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Middleware{q, cfg}
}

// holder is where SetActor leaves the actor for the middleware.
type holder struct {
	mu    sync.Mutex
	actor event.Actor
}

type holderKey struct{}

// SetActor says who asks, to the middleware of the request that the context is of, and returns a context that says it to others
// (client.CallerOf). A name that isn't proven, as in a failed login, is fine; one that is too long is cut, and one that is empty is
// unknown.
func SetActor(ctx context.Context, actor event.Actor) context.Context {
	if h, ok := ctx.Value(holderKey{}).(*holder); ok {
		h.mu.Lock()
		h.actor = actor
		h.mu.Unlock()
	}
	c, _ := client.CallerOf(ctx)
	c.Actor = actor
	return client.WithCaller(ctx, c)
}

// Handler logs the requests that the handler gets.
func (m *Middleware) Handler(route Route, next http.Handler) http.Handler {
	if route.Action == "" {
		route.Action = "http.request"
	}
	if route.Login {
		route.Action = "auth.login"
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := &exchange{m: m, route: route, began: time.Now(), w: recorder{ResponseWriter: w}, holder: holder{actor: event.Actor{Type: "anonymous", ID: "anonymous"}}}
		if m.cfg.Actor != nil {
			if a, ok := m.cfg.Actor(r); ok {
				x.holder.actor = a
			}
		}
		x.origin = m.origin(r)
		ctx := context.WithValue(r.Context(), holderKey{}, &x.holder)
		x.r = r.WithContext(client.WithCaller(ctx, client.Caller{Actor: x.holder.actor, Origin: x.origin}))
		if route.Mode == client.Required && !x.attempt() {
			return
		}
		defer x.end()
		next.ServeHTTP(x.w.keeping(), x.r)
		x.returned = true
	})
}

// exchange is one request and its answer.
type exchange struct {
	m        *Middleware
	route    Route
	r        *http.Request
	w        recorder
	began    time.Time
	origin   *event.Origin
	holder   holder
	returned bool // the handler has
}

// attempt logs what is about to happen, and answers if that can't be logged.
func (x *exchange) attempt() bool {
	e := x.event("attempt", "before")
	if x.log(e, client.Required) == nil {
		return true
	}
	x.w.Header().Set("Retry-After", "5")
	http.Error(&x.w, "this request has to be logged, and can't be now", http.StatusServiceUnavailable)
	e = x.event("denied", "not_logged")
	e.Reason.Text = "not done: the attempt was not known to be in the log"
	_ = x.log(e, client.BestEffort) // it was said
	return false
}

// end logs what became of it, also if the handler panics.
func (x *exchange) end() {
	if x.returned {
		if x.w.status == 0 {
			x.w.status = http.StatusOK
		}
		if x.route.Keep == nil || x.route.Mode == client.Required || x.route.Keep(x.r, x.w.status) {
			_ = x.log(x.outcome(), client.BestEffort) // it was said
		}
		return
	}
	v := recover()
	_ = x.log(x.event("failure", "panic"), client.BestEffort) // it was said
	if v != nil {
		panic(v)
	}
}

// outcome makes the event that says what was answered.
func (x *exchange) outcome() event.Event {
	code := "http_" + strconv.Itoa(x.w.status)
	switch {
	case x.w.status < 400:
		return x.event("success", "")
	case !x.route.Login && (x.w.status == http.StatusUnauthorized || x.w.status == http.StatusForbidden):
		return x.event("denied", code)
	}
	return x.event("failure", code)
}

// event makes an event about the request.
func (x *exchange) event(outcome, code string) event.Event {
	x.holder.mu.Lock()
	actor := x.holder.actor
	x.holder.mu.Unlock()
	if actor.AuthMethod == "" {
		actor.AuthMethod = authScheme(x.r)
	}
	origin := *x.origin // Edit may change it, and others read it by then
	e := event.Event{Time: time.Now(), Action: x.route.Action, Outcome: outcome, Actor: fitting(actor), Origin: &origin,
		Details: map[string]any{"method": fit.Text(x.r.Method, 32), "path": fit.Text(x.r.URL.Path, 4096)}}
	if outcome != "attempt" {
		e.Details["status"], e.Details["bytes"], e.Details["duration_ms"] = x.w.status, x.w.bytes, time.Since(x.began).Milliseconds()
	}
	if code != "" {
		e.Reason = &event.Reason{Code: code}
	}
	id := x.r.Pattern
	if id == "" {
		id = x.r.Method + " " + x.r.URL.Path
	}
	e.Target = []event.Target{{Type: "route", ID: fit.Text(id, 512)}}
	if x.route.Edit != nil {
		x.route.Edit(x.r, &e)
	}
	return e
}

// authScheme is the scheme of Authorization, if it is a known one: what else stands there may be the secret.
func authScheme(r *http.Request) string {
	scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	scheme = strings.ToLower(scheme)
	if slices.Contains([]string{"basic", "bearer", "digest", "dpop", "hoba", "mutual", "negotiate", "ntlm", "scram-sha-256"}, scheme) {
		return scheme
	}
	return ""
}

func (x *exchange) log(e event.Event, mode client.Mode) error {
	ctx := context.WithoutCancel(x.r.Context()) // whoever asked may be gone
	_, err := x.m.q.Enqueue(ctx, e, mode)
	if err != nil {
		x.m.cfg.Logger.ErrorContext(ctx, "an event isn't logged", "event_action", e.Action, "event_outcome", e.Outcome, "error", err)
	}
	return err
}

// fitting makes an actor one that an event can hold: who tries names that are empty or too long mustn't get by unlogged.
func fitting(a event.Actor) event.Actor {
	if a.Type == "" {
		a.Type = "user"
	}
	for _, s := range []*string{&a.ID, &a.Name, &a.SessionID, &a.CredentialID, &a.OnBehalfOf} {
		*s = fit.Text(*s, 512)
	}
	a.AuthMethod = fit.Text(a.AuthMethod, 128)
	if a.ID == "" {
		a.ID = "unknown"
	}
	return a
}

// newID is a request's id, if nobody has given it one.
func newID() string { return rand.Text() }
