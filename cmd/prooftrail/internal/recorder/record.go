package recorder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/textproto"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/recorder/rules"
	"github.com/prooftrail/prooftrail/verifier/client"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// recordAttempt puts the attempt into the log.
func (x *exchange) recordAttempt() error {
	e, _ := x.event(result{"attempt", &event.Reason{Code: "attempt", Text: "recorded before the request went on"}})
	ctx, cancel := context.WithTimeout(x.r.Context(), x.p.cfg.RequiredWait)
	defer cancel()
	got, err := x.p.enqueue(ctx, x, e, client.Required)
	x.p.cfg.Metrics.count(client.Required, err)
	if err != nil {
		return err
	}
	x.attempt = got.ID
	return nil
}

// enqueue enqueues an event. One that isn't valid, because of something that a stranger has written, is replaced by
// what is left of it.
func (p *Recorder) enqueue(ctx context.Context, x *exchange, e event.Event, mode client.Mode) (client.Enqueued, error) {
	got, err := p.cfg.Queue.Enqueue(ctx, e, mode)
	if errors.Is(err, client.ErrRefused) && !errors.Is(err, client.ErrNotLogged) {
		p.cfg.Metrics.repaired.Inc()
		p.cfg.Logger.WarnContext(ctx, "an event isn't valid, and is cut", "rule", x.decision.Match.Rule.Name, "error", err)
		return p.cfg.Queue.Enqueue(ctx, x.least(e, err), mode)
	}
	return got, err
}

// end records what came of the request, unless that was done, and gives the memory back.
func (x *exchange) end() {
	if x.recordLater != nil {
		x.recordLater.Stop()
	}
	x.record()
	for _, c := range []*capture{x.body, x.answer} {
		if c != nil {
			c.release()
		}
	}
	x.p.copies.give(x.peeked)
}

// record records what came of the request, once.
func (x *exchange) record() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.recorded || x.decision.Mode == rules.Ignore {
		return
	}
	x.recorded = true
	if mode := x.decision.Mode; x.decision.Unsure && x.refused == "" {
		if err := x.decide(); err != nil {
			x.ambiguous = true // the path was read before, so it can be read
		}
		x.decision.Mode = max(mode, x.decision.Mode)
	}
	r := x.result()
	x.look(r)
	x.p.making <- struct{}{}
	e := x.finalEvent(r)
	<-x.p.making
	_, err := x.p.enqueue(context.WithoutCancel(x.r.Context()), x, e, client.BestEffort)
	x.p.cfg.Metrics.count(client.BestEffort, err)
	if err != nil {
		x.p.cfg.Logger.Warn("what came of a request isn't recorded", "rule", x.decision.Match.Rule.Name, "error", err)
	}
}

func (x *exchange) finalEvent(r result) event.Event {
	x.learn(r)
	e, _ := x.event(r)
	if x.session != "" {
		e.Actor.SessionID = x.session
	}
	if x.forgotten != "" {
		x.p.sessions.forget(x.forgotten)
	}
	x.addChange(&e)
	if x.answer != nil {
		if _, all := x.answer.copied(); !all && !x.answer.over() {
			e.Details["answer"] = "not at its end when this was recorded"
		}
		e.Details["answer_bytes"] = x.answer.size()
	}
	if x.body != nil {
		e.Details["request_bytes"] = x.body.size()
	}
	return e
}

// learn remembers whose session a login has made, or forgets one.
func (x *exchange) learn(r result) {
	rule, src := x.decision.Match.Rule, scope{x, x.decision.Match}
	if r.outcome != "success" {
		return
	}
	if l := rule.Learn; l != nil {
		x.learnSession(l, src)
	}
	if id := rule.Forget.First(src); id != "" {
		x.forgotten = x.p.sessionID(id)
	}
}

// learnSession remembers whose a session is. Where the scheduler says it, that is so. Where only the request does, it is so for
// a session that this login has made: a scheduler may answer a login in a session that is somebody's already as if it had
// succeeded, whatever name is in it.
func (x *exchange) learnSession(l *rules.Learn, src scope) {
	ids, from := l.Session.Find(src)
	names, by := l.User.Find(src)
	if len(ids) == 0 {
		return
	}
	x.session = x.p.sessionID(ids[0])
	if len(names) == 0 || x.ambiguous {
		x.p.sessions.forget(x.session)
		return
	}
	user := clip(names[0], maxID)
	if !rules.Late(by) && x.p.sessions.user(x.session) != user && (!rules.Late(from) || x.inSession(user, src)) {
		x.p.sessions.forget(x.session)
		return
	}
	x.p.sessions.learn(x.session, user)
}

// inSession reports whether the request came in the session that its answer names, or in one that is somebody else's.
func (x *exchange) inSession(user string, src scope) bool {
	for _, a := range x.p.cfg.Rules.Actor {
		for _, sel := range a.Session {
			found, _ := src.Lookup(sel)
			for _, f := range found {
				id := x.p.sessionID(f)
				if known := x.p.sessions.user(id); id == x.session || known != "" && known != user {
					return true
				}
			}
		}
	}
	return false
}

// learnFirst learns from a login before the client gets the answer: its next request must find whose the session is.
func (x *exchange) learnFirst(resp *http.Response) {
	body := resp.Body
	read, err := io.ReadAll(io.LimitReader(body, int64(x.p.cfg.MaxCopy)))
	var rest io.Reader = body
	if err != nil {
		rest = failing{err}
	}
	resp.Body = &again{io.MultiReader(bytes.NewReader(read), rest), body}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.learn(x.result())
}

// failing is the rest of a body that broke off.
type failing struct{ err error }

// Read implements io.Reader.
func (f failing) Read([]byte) (int, error) { return 0, f.err }

// rewrite makes the request that the scheduler gets: the same, but for what RFC 9110 section 7.6.1 has a proxy remove.
func (p *Recorder) rewrite(pr *httputil.ProxyRequest) {
	out := pr.Out
	out.URL.Scheme, out.URL.Host, out.Host = p.cfg.Upstream.Scheme, p.cfg.Upstream.Host, pr.In.Host
	if x := exchangeOf(pr.In); x != nil {
		_ = setPath(out.URL, x.path) // it could be set when the request came
	}
	out.URL.RawQuery = pr.In.URL.RawQuery
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if v, ok := endToEnd(pr.In.Header)[name]; ok {
			out.Header[name] = v
		}
	}
	if p.cfg.Forward {
		pr.SetXForwarded()
	}
	if up := out.Header.Get("Upgrade"); up != "" && !strings.EqualFold(up, "websocket") {
		// In HTTP/2 over a tunnel, say, requests would go by that nobody here sees (RFC 9110 section 7.8: "A server MAY ignore a
		// received Upgrade header field").
		delete(out.Header, "Upgrade")
		delete(out.Header, "Connection")
	}
	onlyOnce(out)
	if len(out.Trailer) > 0 {
		out.Body = &trailing{out.Body, pr.In, out}
	}
}

// onlyOnce keeps net/http from sending a request again when a connection breaks before the answer: what is safe, or can be
// repeated, by its method or a header, may run a job all the same. One that has a body is never sent again.
func onlyOnce(out *http.Request) {
	for _, name := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		if v, ok := out.Header[name]; ok { // names have no case; net/http looks for the usual one
			delete(out.Header, name)
			out.Header[strings.ToLower(name)] = v
		}
	}
	if x := exchangeOf(out); x == nil || x.decision.Mode == rules.Ignore || out.Body != nil {
		return
	}
	switch out.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions: // net/http finds out that it is empty, and sends none
		out.Body = io.NopCloser(strings.NewReader(""))
	}
}

// trailing hands trailers on, which are known at the end of the body.
type trailing struct {
	body    io.ReadCloser
	in, out *http.Request
}

// Read implements io.Reader.
func (t *trailing) Read(b []byte) (int, error) {
	n, err := t.body.Read(b)
	if err != nil {
		for name := range t.out.Trailer {
			t.out.Trailer[name] = t.in.Trailer[name]
		}
	}
	return n, err
}

// Close implements io.Closer.
func (t *trailing) Close() error { return t.body.Close() }

// answered takes note of the scheduler's answer.
func (p *Recorder) answered(resp *http.Response) error {
	x := exchangeOf(resp.Request)
	if x == nil || x.decision.Mode == rules.Ignore {
		return nil
	}
	x.mu.Lock()
	x.status, x.answerH = resp.StatusCode, resp.Header
	if resp.StatusCode == http.StatusSwitchingProtocols {
		x.mu.Unlock()
		x.record()
		return nil
	}
	x.answer = &capture{limit: p.cfg.MaxCopy, budget: p.copies}
	x.mu.Unlock()
	resp.Body = &tee{ReadCloser: resp.Body, copy: x.answer}
	if x.decision.Match.Rule.Learn != nil {
		x.learnFirst(resp)
	}
	x.recordLater = time.AfterFunc(p.cfg.RecordAfter, x.record)
	return nil
}

// unanswered answers when the scheduler doesn't.
func (p *Recorder) unanswered(w http.ResponseWriter, r *http.Request, err error) {
	status, text := http.StatusBadGateway, "the scheduler can't be reached"
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		status, text = http.StatusGatewayTimeout, "the scheduler didn't answer in time"
	}
	p.cfg.Metrics.unanswered.Inc()
	p.cfg.Logger.DebugContext(r.Context(), "no answer", "error", err)
	http.Error(w, text, status)
}

var errTarget = errors.New("expected a path, and not CONNECT")

// sentPath is the path that the scheduler gets: the one of the request line, byte for byte but for bytes that no path may have,
// which are percent-encoded.
func sentPath(r *http.Request) (string, error) {
	path := r.RequestURI
	if path == "" { // a test's
		path = r.URL.EscapedPath()
	}
	path, _, _ = strings.Cut(path, "?")
	if scheme, rest, ok := strings.Cut(path, "://"); ok && !strings.Contains(scheme, "/") {
		_, after, _ := strings.Cut(rest, "/")
		path = "/" + after
	}
	if !strings.HasPrefix(path, "/") {
		return "", errTarget
	}
	var b strings.Builder
	for i := range len(path) {
		if c := path[i]; c > ' ' && c < 0x7f && !strings.ContainsRune("\"<>\\^`{}|#", rune(c)) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	path = b.String()
	return path, setPath(new(url.URL), path)
}

// setPath sets a path that is to be sent as it stands.
func setPath(u *url.URL, escaped string) error {
	path, err := url.PathUnescape(escaped)
	if err != nil {
		return errTarget
	}
	u.Path, u.RawPath = path, escaped
	if u.EscapedPath() != escaped {
		return errTarget
	}
	return nil
}

// endToEnd are the headers that go on: without those that the header Connection names (RFC 9110 section 7.6.1).
func endToEnd(h http.Header) http.Header {
	var out http.Header
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			name = textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name))
			if _, ok := h[name]; !ok || name == "Upgrade" {
				continue
			}
			if out == nil {
				out = h.Clone()
			}
			delete(out, name)
		}
	}
	if out == nil {
		return h
	}
	return out
}

// buffers are what bodies are copied through.
type buffers struct{ pool sync.Pool }

func newBuffers() *buffers {
	return &buffers{sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}}
}

// Get implements httputil.BufferPool.
func (b *buffers) Get() []byte { return *b.pool.Get().(*[]byte) }

// Put implements httputil.BufferPool.
func (b *buffers) Put(buf []byte) { b.pool.Put(&buf) }
