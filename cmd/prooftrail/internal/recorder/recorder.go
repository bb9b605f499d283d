// Package recorder is a reverse proxy in front of a scheduler's REST API that records who did what: it makes events
// of requests and their answers, as package rules says.
//
// # The life of a request
//
//  1. It is matched in each way that it can be read; what isn't to be recorded goes straight on.
//  2. Where its rule is required, its body is read as far as a copy is made, the resource is asked for, and the attempt is
//     put into the log: outcome attempt. Only when its receipt holds does the request go on. If that fails, the answer is 503,
//     and the scheduler never sees it.
//  3. In best effort the body is copied as it goes by, and looked at later; only a rule that asks for the resource before a change
//     and finds in the body which one it is has to wait for it.
//  4. The answer goes by likewise. At its end, or after some seconds of one that goes on, the event of what came of it is put into
//     the spool: success, failure, denied, or unknown.
//
// # Crashes
//
//   - Killed before the attempt is in the log: the scheduler has seen nothing. The attempt may be in the spool, and
//     get into the log later: it says what was asked for.
//   - Killed between the attempt and the result: the log has the attempt, and what came of it isn't known.
//   - Killed before the event of a best-effort request is in the spool: it is lost. An event in the spool isn't.
package recorder

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"runtime"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/recorder/doc"
	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/recorder/patch"
	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/recorder/rules"
	"github.com/prooftrail/prooftrail/verifier/client"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// Queue takes events, as client.Queue does.
type Queue interface {
	Enqueue(ctx context.Context, e event.Event, mode client.Mode) (client.Enqueued, error)
}

// Config is what a recorder is told.
type Config struct {
	// Upstream is the scheduler: scheme, host and port, nothing else.
	Upstream *url.URL
	// UpstreamTLS is how it is connected to, nil for the usual.
	UpstreamTLS *tls.Config
	Rules       *rules.Set
	// Mode is that of rules that have none: best effort or required.
	Mode   rules.Mode
	Queue  Queue
	Masker patch.Masker
	// Key is what HMACs of sessions and credentials are made with. With another one they are other ones.
	Key []byte
	// TrustedProxies are the networks whose X-Forwarded-For and headers with names are believed.
	TrustedProxies []netip.Prefix
	// Forward adds the client to X-Forwarded-For, and sets X-Forwarded-Host and -Proto. Without it they go on as they came.
	Forward bool
	// MaxCopy is how much of a body is looked at, in bytes, also after decompression.
	MaxCopy int
	// CopyMemory is for all copies together, in bytes. Past it bodies aren't looked at.
	CopyMemory int64
	// MaxSessions is of how many sessions is remembered whose they are.
	MaxSessions int
	// Patience is how long a client may take for a part of its body, or of the answer.
	Patience time.Duration
	// AnswerTimeout is how long the scheduler may take until its answer begins.
	AnswerTimeout time.Duration
	// RequiredWait is how long a required attempt may take to get into the log.
	RequiredWait time.Duration
	// ResourceTimeout is how long it may take to show a resource.
	ResourceTimeout time.Duration
	// RecordAfter is how long after its beginning an answer that goes on is recorded.
	RecordAfter time.Duration
	Metrics     *Metrics
	Logger      *slog.Logger
}

// Recorder is the proxy: an http.Handler.
type Recorder struct {
	cfg       Config
	proxy     *httputil.ReverseProxy
	transport *http.Transport
	copies    *budget
	sessions  *sessions
	// credentials are where requests have them, as the rules say: no event shows what is there.
	credentials struct {
		query []string
		body  []doc.Pointer
	}
	making chan struct{} // holds one for each event that is being made of copies
}

const dialTimeout = 10 * time.Second

// New makes a recorder.
func New(cfg Config) (*Recorder, error) {
	switch u := cfg.Upstream; {
	case u == nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "":
		return nil, errors.New("recorder: upstream: expected a URL with http or https and a host")
	case (u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return nil, errors.New("recorder: upstream: expected nothing behind the host: paths go on as they came")
	case cfg.Mode != rules.BestEffort && cfg.Mode != rules.Required:
		return nil, errors.New("recorder: mode: expected best-effort or required")
	case len(cfg.Key) < 16:
		return nil, errors.New("recorder: key: expected 16 bytes at least")
	}
	p := &Recorder{cfg: cfg, copies: newBudget(cfg.CopyMemory), sessions: newSessions(cfg.MaxSessions), making: make(chan struct{}, 2*runtime.GOMAXPROCS(0))}
	p.findCredentials()
	dialer := &net.Dialer{Timeout: dialTimeout}
	p.transport = &http.Transport{
		DialContext: dialer.DialContext, TLSClientConfig: cfg.UpstreamTLS, TLSHandshakeTimeout: dialTimeout, DisableCompression: true,
		MaxIdleConnsPerHost: 256, IdleConnTimeout: time.Minute, ResponseHeaderTimeout: cfg.AnswerTimeout, ExpectContinueTimeout: time.Second,
		MaxResponseHeaderBytes: 1 << 20, ForceAttemptHTTP2: false,
	}
	p.proxy = &httputil.ReverseProxy{
		Rewrite: p.rewrite, Transport: p.transport, FlushInterval: -1, ModifyResponse: p.answered, ErrorHandler: p.unanswered,
		ErrorLog: slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug), BufferPool: newBuffers(),
	}
	return p, nil
}

func (p *Recorder) findCredentials() {
	for _, a := range p.cfg.Rules.Actor {
		all := append(append(rules.Value{}, a.Session...), a.Key...)
		if a.JWT != nil {
			all = append(all, a.JWT.In...)
		}
		for _, s := range all {
			switch s.In {
			case rules.InQuery:
				p.credentials.query = append(p.credentials.query, s.Name)
			case rules.InBody:
				p.credentials.body = append(p.credentials.body, s.Pointer)
			}
		}
	}
}

// Close closes the connections to the scheduler that are idle.
func (p *Recorder) Close() { p.transport.CloseIdleConnections() }

type exchangeKey struct{}

func exchangeOf(r *http.Request) *exchange {
	x, _ := r.Context().Value(exchangeKey{}).(*exchange)
	return x
}

// ServeHTTP implements http.Handler.
func (p *Recorder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x, err := p.begin(r)
	if err != nil {
		p.cfg.Metrics.refused.WithLabelValues("malformed").Inc()
		http.Error(w, "the request can't be passed on: "+err.Error(), http.StatusBadRequest)
		return
	}
	p.cfg.Metrics.requests.WithLabelValues(x.decision.Mode.String()).Inc()
	patient := &patientWriter{ResponseWriter: w, control: http.NewResponseController(w), patience: p.cfg.Patience}
	defer patient.end()
	x.watch(patient.control)
	w = patient
	if x.body != nil || x.decision.Mode != rules.Ignore {
		defer x.end()
		if status, text := x.admit(); status != 0 {
			p.cfg.Metrics.refused.WithLabelValues(x.refused).Inc()
			w.Header().Set("Retry-After", "5")
			http.Error(w, text, status)
			return
		}
	}
	trace := &httptrace.ClientTrace{WroteHeaders: func() { x.sent.Store(true) }}
	x.r = x.r.WithContext(httptrace.WithClientTrace(x.r.Context(), trace))
	p.proxy.ServeHTTP(w, x.r)
}

// begin matches a request.
func (p *Recorder) begin(r *http.Request) (*exchange, error) {
	path, err := sentPath(r)
	if err != nil || r.Method == http.MethodConnect {
		return nil, errTarget
	}
	x := &exchange{p: p, began: time.Now(), path: path, target: path, header: endToEnd(r.Header)}
	if r.URL.RawQuery != "" {
		x.target += "?" + r.URL.RawQuery
	}
	params, ok := rules.Query(r.URL.RawQuery)
	x.query, x.ambiguous = params, !ok
	x.origin, x.trusted = p.origin(r)
	x.r = r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x))
	if r.Body != nil && r.Body != http.NoBody {
		x.body = &capture{limit: p.cfg.MaxCopy, budget: p.copies}
	}
	if err := x.decide(); err != nil {
		return nil, err
	}
	if x.decision.Mode == rules.Ignore && !x.isForm() {
		x.body = nil
		return x, nil
	}
	x.id = newID()
	return x, nil
}

// isForm reports whether the body may name another method: some servers take _method from forms.
func (x *exchange) isForm() bool {
	return x.body != nil && doc.IsForm(x.header.Get("Content-Type"))
}

// methodParams are the parameters that may name another method, of the query and of a form that has been read.
func (x *exchange) methodParams() []rules.Param {
	if !x.isForm() {
		return x.query
	}
	x.parseBody()
	if x.bodyDoc.state != rules.Known || x.bodyDoc.doc == nil {
		return x.query
	}
	all := slices.Clone(x.query)
	for _, v := range texts(doc.Pointer{"_method"}.Find(x.bodyDoc.doc.Value)) {
		all = append(all, rules.Param{Name: "_method", Value: v})
	}
	return all
}

func newID() string {
	id, err := uuid.NewV7()
	if err != nil { // it never does
		return "unknown"
	}
	return id.String()
}

// decide finds the rule, with what is known by now.
func (x *exchange) decide() error {
	var readings [][]string
	paths, err := rules.Paths(x.path, x.header)
	if err != nil {
		return err
	}
	methods, err := rules.Methods(x.r.Method, x.header, x.methodParams())
	if err != nil {
		return err
	}
	for _, path := range paths {
		more, err := rules.Readings(path)
		if err != nil {
			return err
		}
		readings = append(readings, more...)
	}
	x.decision = x.p.cfg.Rules.Decide(&rules.Request{
		Methods: methods, Readings: readings,
		Source: func(m rules.Match) rules.Source { return scope{x, m} },
	}, x.p.cfg.Mode)
	return nil
}

// watch gives the client a time for each part of its body, copies it, and hands trailers on.
func (x *exchange) watch(control *http.ResponseController) {
	if x.r.Body == nil || x.r.Body == http.NoBody {
		return
	}
	x.r.Body = &tee{
		ReadCloser: x.r.Body, copy: x.body,
		before: func() { _ = control.SetReadDeadline(time.Now().Add(x.p.cfg.Patience)) },
		after: func(err error) {
			// HTTP/2 resets a stream whose time is over, also when it is the scheduler that reads slowly. In HTTP/1 the next Read sets
			// it anew, and the server needs it for what is left of a body when the answer is written.
			if errors.Is(err, io.EOF) || x.r.ProtoMajor > 1 && err == nil {
				_ = control.SetReadDeadline(time.Time{})
			}
		},
	}
}

// admit does what has to be done before the request goes on. A status says that it doesn't.
func (x *exchange) admit() (status int, text string) {
	required := x.decision.Mode == rules.Required
	if required && x.decision.Ambiguous {
		return x.refuse("ambiguous")
	}
	if x.body != nil && (required || x.decision.Unsure || x.isForm() || x.decision.Match.Rule.Change != nil) {
		if err := x.readBody(); err != nil {
			return x.refuse("body_broken")
		}
		if err := x.decide(); err != nil {
			return x.refuse("ambiguous")
		}
		required = x.decision.Mode == rules.Required
	}
	if reason := x.unclear(); required && reason != "" {
		return x.refuse(reason)
	}
	if x.decision.Mode == rules.Ignore { // its body says so
		return 0, ""
	}
	switch c := x.decision.Match.Rule.Change; {
	case c == nil:
	case c.Get.String() == "": // it is being made
		x.before = resource{state: absent}
	default:
		x.before = x.get(c)
	}
	if !required {
		return 0, ""
	}
	if err := x.recordAttempt(); err != nil {
		x.p.cfg.Logger.WarnContext(x.r.Context(), "a required request is refused", "rule", x.decision.Match.Rule.Name, "error", err)
		return x.refuse("not_logged")
	}
	return 0, ""
}

// refusals are what a client is told.
var refusals = map[string]struct {
	status int
	text   string
}{
	"ambiguous":   {http.StatusBadRequest, "the request can be read in more than one way"},
	"unread":      {http.StatusBadRequest, "what the request is for stands in its body, which can't be read: too large, or in a form that isn't known here"},
	"body_broken": {http.StatusBadRequest, "the request's body could not be read"},
	"not_logged":  {http.StatusServiceUnavailable, "this can't be recorded now, so it isn't done"},
}

func (x *exchange) refuse(reason string) (status int, text string) {
	x.refused = reason
	return refusals[reason].status, refusals[reason].text
}

// unclear says why nobody could tell from the record of a request what it was for: a record of that is worth little. A request
// whose rule doesn't look at the body is clear whatever the body is.
func (x *exchange) unclear() (reason string) {
	rule := x.decision.Match.Rule
	if x.decision.Ambiguous {
		return "ambiguous"
	}
	if x.body != nil && !rule.Generic() && x.p.cfg.Rules.Looks(rule, rules.InBody) {
		if x.parseBody(); x.bodyDoc.state != rules.Known {
			return "unread"
		}
		x.ambiguous = x.ambiguous || x.bodyDoc.doc != nil && x.bodyDoc.doc.Doubled
	}
	if x.targets(rule, scope{x, x.decision.Match}); x.ambiguous {
		return "ambiguous"
	}
	return ""
}

// readBody reads as much of the body as is copied, and there is memory for. What was read goes on before the rest of it.
func (x *exchange) readBody() error {
	rest := x.r.Body
	var read []byte
	buf := make([]byte, grow)
	for len(read) < x.p.cfg.MaxCopy && !x.body.over() {
		if int64(len(read)+grow) > x.peeked {
			if !x.p.copies.take(grow) {
				break
			}
			x.peeked += grow
		}
		n, err := rest.Read(buf)
		read = append(read, buf[:n]...)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read the body: %w", err)
		}
	}
	x.r.Body = &again{io.MultiReader(bytes.NewReader(read), rest), rest}
	return nil
}

// again is a body of which a part has been read.
type again struct {
	io.Reader
	io.Closer
}
