package recorder

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/recorder/doc"
	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/recorder/rules"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// exchange is one request and its answer.
type exchange struct {
	p        *Recorder
	r        *http.Request
	began    time.Time
	id       string // ties the events together
	target   string // path and query as the scheduler gets them
	path     string
	origin   event.Origin
	trusted  bool        // the connection is a trusted proxy's
	header   http.Header // what the scheduler gets of it
	query    []rules.Param
	decision rules.Decision
	attempt  string // id of the event of the attempt, if it is in the log

	body, answer *capture // nil: there is none, or none is made
	sent         atomic.Bool
	peeked       int64 // of the memory for copies

	mu          sync.Mutex // of what follows: an answer that goes on for long is recorded meanwhile
	status      int        // 0: there is no answer
	answerH     http.Header
	refused     string
	bodyDoc     *parsed
	answerDoc   *parsed
	before      resource
	after       resource
	ambiguous   bool // something that the event is made of could be read in two ways
	recorded    bool
	session     string // that the answer has made, as an HMAC
	forgotten   string
	recordLater *time.Timer
}

// parsed is a body that was looked at.
type parsed struct {
	doc   *doc.Doc
	state rules.State
}

// scope looks things up for one match.
type scope struct {
	x *exchange
	m rules.Match
}

// Lookup implements rules.Source.
func (s scope) Lookup(sel rules.Selector) (found []string, state rules.State) {
	found, state = s.find(sel)
	if sel.Secret {
		for i, f := range found {
			found[i] = s.x.p.hmac("value", f)
		}
	}
	return found, state
}

func (s scope) find(sel rules.Selector) ([]string, rules.State) {
	x := s.x
	switch sel.In {
	case rules.InPath:
		return nonEmpty(s.m.Captures[sel.Name]), rules.Known
	case rules.InText:
		return []string{sel.Name}, rules.Known
	case rules.InMethod:
		return []string{s.m.Method}, rules.Known
	case rules.InRequest:
		return []string{x.target}, rules.Known
	case rules.InQuery:
		return x.fromQuery(sel.Name), rules.Known
	case rules.InHeader:
		return x.oneOf(x.header[sel.Name]), rules.Known
	case rules.InCookie:
		return x.oneOf(cookies(x.header, sel.Name)), rules.Known
	case rules.InBody:
		return x.fromBody(sel.Pointer)
	case rules.InBefore:
		return x.before.pick(sel.Pointer)
	case rules.InAfter:
		return x.after.pick(sel.Pointer)
	}
	return s.findAnswer(sel)
}

// findAnswer looks at the answer.
func (s scope) findAnswer(sel rules.Selector) ([]string, rules.State) {
	x := s.x
	if x.status == 0 {
		return nil, rules.Unknown
	}
	switch sel.In {
	case rules.InStatus:
		return []string{strconv.Itoa(x.status)}, rules.Known
	case rules.InResponseHeader:
		return x.answerH[sel.Name], rules.Known
	case rules.InSetCookie:
		var found []string
		for _, c := range (&http.Response{Header: x.answerH}).Cookies() {
			if c.Name == sel.Name {
				found = append(found, nonEmpty(c.Value)...)
			}
		}
		return found, rules.Known
	}
	x.parseAnswer()
	return x.pick(x.answerDoc, sel.Pointer)
}

func nonEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// oneOf notes that there is more than one value.
func (x *exchange) oneOf(values []string) []string {
	for _, v := range values {
		if v != values[0] {
			x.ambiguous = true
		}
	}
	if len(values) > 32 {
		return values[:32]
	}
	return values
}

func (x *exchange) fromQuery(name string) []string {
	var found []string
	for _, p := range x.query {
		if p.Name == name && p.Value != "" {
			found = append(found, p.Value)
		}
	}
	return x.oneOf(found)
}

// fromBody notes that the query has the same parameter with another value: servers that put both together differ on which counts.
func (x *exchange) fromBody(at doc.Pointer) ([]string, rules.State) {
	x.parseBody()
	found, state := x.pick(x.bodyDoc, at)
	if len(at) == 1 && len(found) > 0 {
		for _, p := range x.query {
			x.ambiguous = x.ambiguous || p.Name == at[0] && p.Value != found[0]
		}
	}
	return found, state
}

func cookies(h http.Header, name string) []string {
	var found []string
	for _, c := range (&http.Request{Header: h}).Cookies() {
		if c.Name == name && c.Value != "" {
			found = append(found, c.Value)
		}
	}
	return found
}

func (x *exchange) pick(p *parsed, at doc.Pointer) ([]string, rules.State) {
	if p.state != rules.Known || p.doc == nil {
		return nil, p.state
	}
	x.ambiguous = x.ambiguous || p.doc.Doubled
	return texts(at.Find(p.doc.Value)), rules.Known
}

// maxText bounds a text that a selector finds.
const maxText = 16 << 10

func texts(values []any) []string {
	var found []string
	for _, v := range values {
		if t := doc.Text(v); t != "" {
			found = append(found, clip(t, maxText))
		}
	}
	return found
}

// parseBody looks at the request's body, as soon as it is there.
func (x *exchange) parseBody() {
	if x.bodyDoc == nil || x.bodyDoc.state == rules.Unknown {
		x.bodyDoc = x.p.parse(x.body, x.header)
	}
}

func (x *exchange) parseAnswer() {
	if x.answerDoc == nil || x.answerDoc.state == rules.Unknown {
		x.answerDoc = x.p.parse(x.answer, x.answerH)
	}
}

// parse reads a copy, if all of it is there.
func (p *Recorder) parse(c *capture, h http.Header) *parsed {
	if c == nil {
		return &parsed{}
	}
	data, all := c.copied()
	switch {
	case !all && c.over():
		return &parsed{state: rules.Unread}
	case !all:
		return &parsed{state: rules.Unknown}
	case len(data) == 0:
		return &parsed{}
	}
	d, err := doc.Parse(data, h.Get("Content-Encoding"), h.Get("Content-Type"), p.cfg.MaxCopy)
	if err != nil {
		return &parsed{state: rules.Unread}
	}
	return &parsed{doc: d}
}

// over reports whether there was more than was copied.
func (c *capture) over() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cut
}

// jwtClaim takes a claim out of a JSON web token whose signature nobody here has checked.
func jwtClaim(token string, claims []string) string {
	token = strings.TrimSpace(token)
	if scheme, rest, ok := strings.Cut(token, " "); ok && strings.EqualFold(scheme, "bearer") {
		token = strings.TrimSpace(rest)
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 || len(parts[1]) > maxText {
		return ""
	}
	raw, err := decodeBase64(parts[1])
	if err != nil {
		return ""
	}
	var payload map[string]any
	if json.Unmarshal(raw, &payload) != nil {
		return ""
	}
	for _, c := range claims {
		switch v := payload[c].(type) {
		case string:
			if v != "" {
				return v
			}
		case float64:
			return strconv.FormatFloat(v, 'f', -1, 64)
		}
	}
	return ""
}
