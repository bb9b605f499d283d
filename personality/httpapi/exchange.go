package httpapi

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prooftrail/prooftrail/personality"
)

// Header values that never change. net/http only reads them.
var (
	valueJSON      = []string{"application/json"}
	valueNDJSON    = []string{"application/x-ndjson"}
	valueProblem   = []string{"application/problem+json"}
	valueText      = []string{"text/plain; charset=utf-8"}
	valueOctets    = []string{"application/octet-stream"}
	valueNoStore   = []string{"no-store"}
	valueNoCache   = []string{"no-cache"}
	valueImmutable = []string{"public, max-age=31536000, immutable"}
	valueCacheHour = []string{"public, max-age=3600"}
	valueNoSniff   = []string{"nosniff"}
	valueAny       = []string{"*"}
	valueClose     = []string{"close"}
)

const maxRequestID = 64

// exchange is one request and its answer while it is being served. Exchanges
// are pooled: none may be kept beyond ServeHTTP.
type exchange struct {
	api   *API
	w     http.ResponseWriter
	r     *http.Request
	id    string // request id
	start time.Time
	args  [3]string // path parameters
	route *route    // nil: none
	peer  netip.Addr
	token *personality.Token // nil on public routes
	limit *limiter           // the token's; nil without a limit

	status  int // 0 until the answer has begun
	written int64
}

var exchanges = sync.Pool{New: func() any { return new(exchange) }}

// ServeHTTP serves one request.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := exchanges.Get().(*exchange)
	x.api, x.w, x.r, x.start = a, w, r, time.Now()
	x.id = requestID(r.Header)
	a.metrics.begin()
	defer x.end()
	h := w.Header()
	h["X-Request-Id"] = []string{x.id}
	h["X-Content-Type-Options"] = valueNoSniff
	if err := x.serve(); err != nil {
		x.fail(err)
	}
}

func (x *exchange) serve() error {
	a := x.api
	rt, missing := a.match(x.r, &x.args)
	if missing != nil {
		if isPublicPath(x.r.URL.Path) {
			x.w.Header()["Access-Control-Allow-Origin"] = valueAny
		}
		return missing
	}
	x.route = rt
	if rt.public {
		x.w.Header()["Access-Control-Allow-Origin"] = valueAny
		x.leaveBody()
		return rt.serve(a, x)
	}
	if rt.proven {
		return rt.serve(a, x)
	}
	if err := a.authenticate(x); err != nil {
		return err
	}
	if rt.role != "" && !x.token.Has(rt.role) {
		return &problem{kind: kindForbidden, detail: "this call needs the role " + string(rt.role)}
	}
	return rt.serve(a, x)
}

func isPublicPath(path string) bool { return strings.HasPrefix(path, "/logs/") }

// end accounts for the exchange and gives it back. A panic is answered and
// logged here; http.ErrAbortHandler and a panic after the answer began cut the
// connection, as net/http does.
func (x *exchange) end() {
	if v := recover(); v != nil {
		defer x.release()
		defer x.account()
		if v == http.ErrAbortHandler {
			panic(v)
		}
		x.api.cfg.Logger.ErrorContext(x.r.Context(), "panic", "request_id", x.id,
			"route", x.routeName(), "panic", v, "stack", string(debug.Stack()))
		if x.status != 0 {
			panic(http.ErrAbortHandler)
		}
		x.fail(&problem{kind: kindInternal, cause: context.Canceled}) // logged just now
		return
	}
	x.account()
	x.release()
}

func (x *exchange) release() {
	*x = exchange{}
	exchanges.Put(x)
}

func (x *exchange) account() {
	took := time.Since(x.start)
	x.api.metrics.end(x.route, x.status, took)
	log := x.api.cfg.AccessLog
	if log == nil {
		return
	}
	token := ""
	if x.token != nil {
		token = x.token.ID
	}
	log.LogAttrs(x.r.Context(), slog.LevelInfo, "request",
		slog.String("request_id", x.id), slog.String("method", cut(x.r.Method, 16)),
		slog.String("route", x.routeName()), slog.String("path", cut(x.r.URL.Path, 256)),
		slog.Int("status", x.status), slog.Int64("bytes", x.written), slog.Duration("took", took),
		slog.String("peer", x.peerIP().String()), slog.String("token", token))
}

func (x *exchange) routeName() string {
	if x.route == nil {
		return "none"
	}
	return x.route.method + " " + x.route.pattern
}

// send writes the whole answer. Header members other than the content type and
// length are set before.
func (x *exchange) send(status int, contentType []string, body []byte) {
	h := x.w.Header()
	h["Content-Type"] = contentType
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	x.status = status
	x.w.WriteHeader(status)
	n, _ := x.w.Write(body) // the client being gone is nobody's error
	x.written += int64(n)
}

// sendNothing answers with a status alone.
func (x *exchange) sendNothing(status int) {
	x.w.Header()["Cache-Control"] = valueNoStore
	x.status = status
	x.w.WriteHeader(status)
}

// extend gives the client another WriteTimeout to read.
func (x *exchange) extend() {
	// Not every ResponseWriter has deadlines (a test's recorder); none is needed there.
	_ = http.NewResponseController(x.w).SetWriteDeadline(time.Now().Add(x.api.cfg.WriteTimeout))
}

// bodyDone lifts the deadline for reading once the body is there. Without this
// net/http's own watch for a client that goes away would run into the deadline
// and cancel the request's context in the middle of a long answer.
func (x *exchange) bodyDone() {
	_ = http.NewResponseController(x.w).SetReadDeadline(time.Time{})
}

// leaveBody ends the connection with the answer if the request has a body: it is not
// worth reading, nor, from somebody without a credential, waiting for. Without the
// deadline net/http would wait for it after the answer.
func (x *exchange) leaveBody() {
	if x.r.ContentLength != 0 {
		x.w.Header()["Connection"] = valueClose
		_ = http.NewResponseController(x.w).SetReadDeadline(time.Now()) // as in extend
	}
}

// caller is who the log is told asks.
func (x *exchange) caller() personality.Caller {
	return personality.Caller{Token: x.token, PeerIP: x.peerIP(), RequestID: x.id, UserAgent: userAgent(x.r.Header)}
}

func userAgent(h http.Header) string {
	v := h["User-Agent"]
	if len(v) == 0 {
		return ""
	}
	return cut(v[0], 256)
}

// cut bounds a string from outside for logs and events: at most n bytes of
// valid UTF-8.
func cut(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "")
}

// requestID takes over the caller's request id if it is a harmless one, and
// otherwise makes one.
func requestID(h http.Header) string {
	if v := h["X-Request-Id"]; len(v) == 1 && len(v[0]) > 0 && len(v[0]) <= maxRequestID && isToken(v[0]) {
		return v[0]
	}
	const digits = "0123456789abcdefghijklmnopqrstuv"
	var b [13]byte
	n := rand.Uint64()
	for i := range b {
		b[i] = digits[n&31]
		n >>= 5
	}
	return string(b[:])
}

func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '-' || c == '_' || c == '.' || c == ':') {
			return false
		}
	}
	return true
}
