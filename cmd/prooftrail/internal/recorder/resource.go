package recorder

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"

	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/recorder/doc"
	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/recorder/rules"
)

// resource is what a change is of, at one moment.
type resource struct {
	state   resourceState
	value   any
	problem string // why it isn't known
}

type resourceState int

const (
	notAsked resourceState = iota
	absent                 // the scheduler says that it isn't there
	found
	unknown // it couldn't be read
)

// sure reports whether it is known what the resource was.
func (r *resource) sure() bool { return r.state == found || r.state == absent }

func (r *resource) pick(at doc.Pointer) ([]string, rules.State) {
	switch r.state {
	case notAsked:
		return nil, rules.Unknown
	case unknown:
		return nil, rules.Unread
	case absent:
		return nil, rules.Known
	}
	return texts(at.Find(r.value)), rules.Known
}

// notForGET are headers of a change that its GET must not have.
var notForGET = []string{
	"Content-Length", "Content-Type", "Content-Encoding", "Content-Md5", "Content-Range", "Digest", "Content-Digest", "Transfer-Encoding", "Trailer",
	"Expect", "Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range", "Accept-Encoding", "Connection", "Upgrade",
	"Te", "Keep-Alive", "Proxy-Connection",
}

// get asks the scheduler for the resource, with the credentials of whoever changes it.
func (x *exchange) get(change *rules.Change) resource {
	src := scope{x, x.decision.Match}
	target, ok := change.Get.Expand(src)
	if methods, err := rules.Methods("GET", nil, x.query); !ok || err != nil || len(methods) > 1 {
		return resource{state: unknown, problem: "the request doesn't say which"}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.r.Context()), x.p.cfg.ResourceTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, x.p.cfg.Upstream.String(), nil)
	if err != nil {
		return resource{state: unknown, problem: "no request can be made of it"}
	}
	path, query, _ := strings.Cut(target, "?")
	if err := setPath(req.URL, path); err != nil {
		return resource{state: unknown, problem: "no path can be made of it"}
	}
	req.URL.RawQuery = withParams(query, change.With, src)
	req.Header, req.Host = x.header.Clone(), x.r.Host
	for _, name := range notForGET {
		delete(req.Header, textproto.CanonicalMIMEHeaderKey(name))
	}
	for name := range req.Header {
		if rules.Overrides(name) { // or it may be the change itself
			delete(req.Header, name)
		}
	}
	req.Header.Set("Accept", "application/json")
	resp, err := x.p.transport.RoundTrip(req)
	if err != nil {
		return resource{state: unknown, problem: "no answer"}
	}
	defer resp.Body.Close()
	return x.p.readResource(resp, change)
}

// withParams adds credentials that aren't in headers.
func withParams(query string, with map[string]rules.Value, src scope) string {
	for _, name := range sortedKeys(with) {
		if found, _ := with[name].Find(src); len(found) > 0 {
			if query != "" {
				query += "&"
			}
			query += url.QueryEscape(name) + "=" + url.QueryEscape(found[0])
		}
	}
	return query
}

func (p *Recorder) readResource(resp *http.Response, change *rules.Change) resource {
	switch {
	case resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusGone:
		return resource{state: absent}
	case resp.StatusCode != http.StatusOK:
		return resource{state: unknown, problem: fmt.Sprintf("status %d", resp.StatusCode)}
	}
	if !p.copies.take(int64(p.cfg.MaxCopy)) {
		return resource{state: unknown, problem: "no memory for it"}
	}
	defer p.copies.give(int64(p.cfg.MaxCopy))
	data, err := io.ReadAll(io.LimitReader(resp.Body, int64(p.cfg.MaxCopy)+1))
	if err != nil || len(data) > p.cfg.MaxCopy {
		return resource{state: unknown, problem: "too large, or broken off"}
	}
	d, err := doc.Parse(data, resp.Header.Get("Content-Encoding"), resp.Header.Get("Content-Type"), p.cfg.MaxCopy)
	if err != nil {
		return resource{state: unknown, problem: "not JSON"}
	}
	return at(d.Value, change.At)
}

// at is what a pointer names in an answer. Nothing there: the resource isn't.
func at(v any, pointer string) resource {
	if pointer == "/" {
		pointer = ""
	}
	p, err := doc.ParsePointer(pointer)
	if err != nil {
		return resource{state: unknown, problem: "no pointer"} // the rules were checked
	}
	got := p.Find(v)
	if len(got) != 1 || got[0] == nil {
		return resource{state: absent}
	}
	return resource{state: found, value: got[0]}
}

// findAfter finds the resource after a change: in the answer, or by asking for it.
func (x *exchange) findAfter(change *rules.Change) resource {
	if change.After == "" {
		return x.get(change)
	}
	x.parseAnswer()
	if x.answerDoc.state != rules.Known || x.answerDoc.doc == nil {
		return resource{state: unknown, problem: "the answer couldn't be read"}
	}
	return at(x.answerDoc.doc.Value, change.After)
}

// without leaves out what the rules ignore.
func (r resource) without(pointers []doc.Pointer) any {
	v := r.value
	for _, p := range pointers {
		v = p.Remove(v)
	}
	return v
}
