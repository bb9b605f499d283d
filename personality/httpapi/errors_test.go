package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/personality"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// operations is one good request for each route, and which calls of Log it makes.
var operations = []struct {
	call   call
	status int
	makes  []string
}{
	{call{method: "POST", path: "/v1/events", token: "fake", body: sample("a", "x")}, 201, []string{"Admit", "Wait"}},
	{call{method: "GET", path: "/v1/events/a%2Fb?source=cron://x", token: "fake"}, 200, []string{"EventByID"}},
	{call{method: "GET", path: "/v1/logs/audit/entries/0", token: "fake"}, 200, []string{"Entry"}},
	{call{method: "GET", path: "/v1/logs/audit/receipts/0", token: "fake"}, 200, []string{"Receipt"}},
	{call{method: "GET", path: "/v1/logs/audit/openings?start=0&count=5", token: "fake"}, 200, []string{"Openings"}},
	{call{method: "GET", path: "/v1/logs/audit/proofs/inclusion?index=0&size=1"}, 200, []string{"ProveInclusion"}},
	{call{method: "GET", path: "/v1/logs/audit/proofs/consistency?first=1&second=1"}, 200, []string{"ProveConsistency"}},
	{call{method: "POST", path: "/v1/ingest/fake?source=cron://x", token: "fake", body: "x", contentType: "text/plain"}, 200, []string{"Ingest"}},
	{call{method: "POST", path: "/v1/ingest/webhook/fake", body: "x", header: map[string]string{"X-Proof": "open"}}, 200, []string{"Ingest"}},
	{call{method: "GET", path: "/v1/quarantine", token: "fake"}, 200, []string{"QuarantineList"}},
	{call{method: "GET", path: "/v1/quarantine/x", token: "fake"}, 200, []string{"QuarantineShow"}},
	{call{method: "POST", path: "/v1/quarantine/x/replay", token: "fake"}, 200, []string{"QuarantineReplay"}},
	{call{method: "DELETE", path: "/v1/quarantine/x", token: "fake"}, 204, []string{"QuarantineDrop"}},
	{call{method: "GET", path: "/v1/tokens", token: "fake"}, 200, []string{"Tokens"}},
	{call{method: "POST", path: "/v1/tokens", token: "fake", body: `{"name":"x"}`}, 201, []string{"AddToken"}},
	{call{method: "DELETE", path: "/v1/tokens/abc", token: "fake"}, 204, []string{"RevokeToken"}},
	{call{method: "GET", path: "/v1/source-keys", token: "fake"}, 200, []string{"SourceKeys"}},
	{call{method: "POST", path: "/v1/source-keys", token: "fake", body: `{"vkey":"x"}`}, 201, []string{"AddSourceKey"}},
	{call{method: "DELETE", path: "/v1/source-keys/abc?release=true", token: "fake"}, 204, []string{"RevokeSourceKey"}},
	{call{method: "GET", path: "/logs/audit/checkpoint"}, 200, []string{"Checkpoint"}},
	{call{method: "GET", path: "/logs/audit/tile/entries/000.p/1"}, 200, []string{"EntryBundle"}},
	{call{method: "GET", path: "/logs/audit/tile/0/x001/234"}, 200, []string{"Tile"}},
	{call{method: "GET", path: "/healthz"}, 200, nil},
	{call{method: "GET", path: "/readyz"}, 200, []string{"Ready"}},
	{call{method: "GET", path: "/metrics"}, 200, nil},
	{call{method: "GET", path: "/openapi.json"}, 200, nil},
	{call{method: "GET", path: "/problems/conflict"}, 200, nil},
}

const internalSecret = "secret-of-the-storage"

// faults are the errors that a Log may return, and their answers. Each carries
// text that no client may see.
var faults = []struct {
	err    error
	status int
	slug   string
}{
	{personality.ErrForbidden, 403, "forbidden"},
	{personality.ErrNotFound, 404, "not-found"},
	{personality.ErrBeyondHead, 404, "beyond-head"},
	{personality.ErrBusy, 503, "busy"},
	{personality.ErrFull, 503, "disk-full"},
	{personality.ErrQuarantineFull, 503, "quarantine-full"},
	{personality.ErrUnwitnessed, 503, "unwitnessed"},
	{personality.ErrClosing, 503, "closing"},
	{personality.ErrUnavailable, 503, "unavailable"},
	{&personality.Fault{Reason: internalSecret, Err: errors.New("x")}, 503, "refusing"},
	{fmt.Errorf("%w: %w", personality.ErrBusy, context.DeadlineExceeded), 503, "busy"},
	{context.DeadlineExceeded, 503, "unavailable"},
	{errors.New("unexpected"), 500, "internal"},
}

// possible says which of the errors which call may return at all, by the
// documentation of package personality.
func possible(makes string, err error) bool {
	public := strings.HasPrefix(makes, "Prove") || makes == "Tile" || makes == "EntryBundle" || makes == "Checkpoint"
	admits := makes == "Admit"
	switch {
	case errors.Is(err, personality.ErrForbidden):
		return !public && makes != "Wait"
	case errors.Is(err, personality.ErrNotFound), errors.Is(err, personality.ErrBeyondHead):
		return !admits && makes != "Wait" && makes != "Tokens" && makes != "AddToken" && makes != "QuarantineList" && makes != "SourceKeys" && makes != "AddSourceKey"
	case errors.Is(err, personality.ErrQuarantineFull):
		return makes == "Ingest" || makes == "QuarantineReplay"
	case errors.Is(err, personality.ErrBusy), errors.Is(err, personality.ErrClosing):
		return admits
	}
	return true
}

// TestFaults puts each error behind each call of each operation.
func TestFaults(t *testing.T) {
	h := withFake(t, nil)
	for _, op := range operations {
		for _, makes := range append([]string{"Authenticate"}, op.makes...) {
			for _, f := range faults {
				if makes == "Ready" || !possible(makes, f.err) || makes == "Authenticate" && (op.call.token == "" || f.status < 500) {
					continue
				}
				h.fake.fault = func(call string) (bool, error) {
					if call == makes {
						return false, fmt.Errorf("%s: %w", internalSecret, f.err)
					}
					return true, nil
				}
				a := h.do(op.call)
				if a.status != f.status || a.result(t).Type != "/problems/"+f.slug || strings.Contains(string(a.body), internalSecret) {
					t.Errorf("%s %s: %s: %v: %d %s", op.call.method, op.call.path, makes, f.err, a.status, a.body)
				}
				if retry := a.header.Get("Retry-After"); (f.status == 503 && f.slug != "refusing") != (retry != "") {
					t.Errorf("%s: Retry-After %q", f.slug, retry)
				}
			}
		}
	}
}

// TestInternalErrorsAreLogged: the log has what the client is not told.
func TestInternalErrorsAreLogged(t *testing.T) {
	var mu sync.Mutex
	var text strings.Builder
	h := withFake(t, func(c *Config) {
		c.Logger = slog.New(slog.NewTextHandler(lockedWriter{&mu, &text}, nil))
	})
	h.fake.fault = func(call string) (bool, error) {
		if call == "Entry" {
			return false, errors.New(internalSecret)
		}
		return true, nil
	}
	a := h.do(call{method: "GET", path: "/v1/logs/audit/entries/7", token: "fake"})
	id := a.result(t).RequestID
	mu.Lock()
	defer mu.Unlock()
	if !strings.Contains(text.String(), internalSecret) || !strings.Contains(text.String(), "request_id="+id) {
		t.Errorf("request %s: %s", id, text.String())
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	w  *strings.Builder
}

func (l lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// TestPanic: a panic is one request's internal error.
func TestPanic(t *testing.T) {
	h := withFake(t, nil)
	h.fake.fault = func(call string) (bool, error) {
		if call == "Entry" {
			panic(internalSecret)
		}
		return true, nil
	}
	a := h.do(call{method: "GET", path: "/v1/logs/audit/entries/0", token: "fake"})
	if a.want(t, 500); strings.Contains(string(a.body), internalSecret) {
		t.Errorf("%s", a.body)
	}
	h.get("fake", "/v1/logs/audit/receipts/0")
}

// TestEveryDocumentedStatus reaches every answer that the document has: what
// can't be reached is not documented.
func TestEveryDocumentedStatus(t *testing.T) {
	h := withFake(t, func(c *Config) { c.EventsPerSecond, c.BurstEvents = 1e-6, MaxEvents })
	refill := func() { h.server.api.tokens = newLimiters(1e-6, MaxEvents) }
	reach := func(c call, fault error, calls ...string) {
		refill()
		h.fake.fault = func(call string) (bool, error) {
			for _, want := range calls {
				if call == want {
					return false, fault
				}
			}
			return true, nil
		}
		h.do(c)
	}
	for _, op := range operations {
		reach(op.call, nil)
		for _, f := range faults {
			if len(op.makes) > 0 && possible(op.makes[0], f.err) && op.makes[0] != "Ready" {
				reach(op.call, f.err, op.makes[0])
			}
		}
		if op.call.token == "" {
			if strings.Contains(op.call.path, "/audit/") {
				reach(with(op.call, func(c *call) { c.path = strings.Replace(c.path, "/audit/", "/other/", 1) }), nil)
			}
			if strings.Contains(op.call.path, "?") {
				reach(with(op.call, func(c *call) { c.path += "&x=1" }), nil)
			}
			continue
		}
		reach(with(op.call, func(c *call) { c.token = "" }), nil)
		reach(with(op.call, func(c *call) { c.path += "?&x=1" }), nil)
		refill()
		h.server.api.tokens.get("fake").AllowN(time.Now(), MaxEvents)
		h.do(op.call)
	}
	reachTheRest(reach)

	elsewhere := map[string]bool{ // needs a slow client or a broken registry
		"POST /v1/events 408": true, "POST /v1/tokens 408": true, "POST /v1/source-keys 408": true, "POST /v1/ingest/{adapter} 408": true,
		"POST /v1/ingest/webhook/{door} 408": true, "GET /metrics 500": true,
	}
	for path, item := range theDocument().root["paths"].(map[string]any) {
		for method, op := range item.(map[string]any) {
			if method == "parameters" {
				continue
			}
			for status := range op.(map[string]any)["responses"].(map[string]any) {
				name := strings.ToUpper(method) + " " + path + " " + status
				if !h.seen[name] && !elsewhere[name] {
					t.Errorf("%s is documented and was not reached", name)
				}
			}
		}
	}
}

// reachTheRest reaches the answers that only one call has.
func reachTheRest(reach func(c call, fault error, calls ...string)) {
	events := operations[0].call
	var tokens, keys, ingests, door call
	for _, op := range operations {
		switch {
		case op.call.method == "POST" && op.call.path == "/v1/tokens":
			tokens = op.call
		case op.call.method == "POST" && op.call.path == "/v1/source-keys":
			keys = op.call
		case strings.HasPrefix(op.call.path, "/v1/ingest/webhook/"):
			door = op.call
		case strings.HasPrefix(op.call.path, "/v1/ingest/"):
			ingests = op.call
		}
	}
	reach(events, nil) // 200: a duplicate
	reach(with(events, func(c *call) { c.body = sample("a", "other") }), nil)
	reach(with(events, func(c *call) { c.body, c.path = sample("d", "x"), c.path+"?wait=durable" }), nil)
	reach(with(events, func(c *call) { c.body = "{}" }), nil)
	for _, c := range []call{events, tokens, keys} {
		reach(with(c, func(c *call) { c.body = strings.Repeat(" ", MaxBodyBytes+1) }), nil)
		reach(with(c, func(c *call) { c.contentType = "text/plain" }), nil)
	}
	reach(with(ingests, func(c *call) { c.body = strings.Repeat(" ", MaxIngestBytes+1) }), nil)
	reach(with(ingests, func(c *call) { c.path += "&source=cron://y" }), nil)
	reach(with(ingests, func(c *call) { c.header = map[string]string{"Content-Encoding": "br"} }), nil)
	reach(with(door, func(c *call) { c.body = strings.Repeat(" ", MaxDoorBytes+1) }), nil)
	reach(with(door, func(c *call) { c.path += "?source=a:b&source=c:d" }), nil)
	reach(with(door, func(c *call) { c.header = map[string]string{"Content-Encoding": "gzip"} }), nil)
	for range 100 { // until it is 429
		reach(with(door, func(c *call) { c.header = nil }), nil)
	}
	reach(call{method: "GET", path: "/readyz"}, personality.ErrRefusing, "Ready")
	reach(call{method: "GET", path: "/readyz"}, errors.New("boom"), "Ready")
	reach(call{method: "GET", path: "/problems/nothing"}, nil)
	reach(events, &event.Error{Pointer: "/x", Code: "type", Expected: "y"}, "Admit")
	for _, err := range []error{personality.ErrUnsigned, personality.ErrUnknownSourceKey} {
		reach(with(events, func(c *call) { c.body = sample("s", "x") }), err, "Admit")
	}
}

// TestPanicInTheMiddle: an answer that can't be finished is cut off, so that it
// can't pass for a whole one.
func TestPanicInTheMiddle(t *testing.T) {
	h := withFake(t, nil)
	h.server.api.routes[4].serve = func(a *API, x *exchange) error {
		s := newStream(x, valueNDJSON)
		s.buf.b = append(s.buf.b, "half an answer\n"...)
		s.flush(1)
		panic(internalSecret)
	}
	if _, err := h.try(operations[4].call); err == nil {
		t.Error("the answer looks complete")
	}
	h.get("fake", "/v1/logs/audit/receipts/0")
}
