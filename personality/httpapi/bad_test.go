package httpapi

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prooftrail/prooftrail/personality"
)

// badRequest is a request that must be refused, without a trace in the log.
type badRequest struct {
	name   string
	call   call
	status int
	slug   string
	names  string // the pointer or parameter that the problem names; "-" is none
}

func post(body string) call {
	return call{method: "POST", path: "/v1/events", token: "submit", body: body}
}

func lines(body string) call {
	c := post(body)
	c.contentType = ndjsonType
	return c
}

func get(path string) call { return call{method: "GET", path: path, token: "read"} }

func typed(contentType string) call {
	c := post(sample("a", "x"))
	c.contentType = contentType
	return c
}

func with(c call, change func(*call)) call {
	change(&c)
	return c
}

func token(body string) call {
	return call{method: "POST", path: "/v1/tokens", token: "admin", body: body}
}

func replaced(old, new string) call { return post(strings.Replace(sample("a", "x"), old, new, 1)) }

func badEvents() []badRequest {
	deep := strings.Repeat("[", 30) + strings.Repeat("]", 30)
	return []badRequest{
		{"empty object", post(`{}`), 422, "invalid-event", "/schema"},
		{"only spaces", post(`   `), 422, "invalid-event", ""},
		{"truncated", post(sample("a", "x")[:100]), 422, "invalid-event", ""},
		{"an array", post(`[` + sample("a", "x") + `]`), 422, "invalid-event", ""},
		{"a string", post(`"event"`), 422, "invalid-event", ""},
		{"null", post(`null`), 422, "invalid-event", ""},
		{"two events", post(sample("a", "x") + sample("b", "x")), 422, "invalid-event", ""},
		{"lines as JSON", post(sample("a", "x") + "\n" + sample("b", "x")), 422, "invalid-event", ""},
		{"bad UTF-8", replaced(`"x"`, "\"\xff\""), 422, "invalid-event", "/reason/text"},
		{"lone surrogate", replaced(`"x"`, `"\ud800"`), 422, "invalid-event", "/reason/text"},
		{"raw control character", replaced(`"x"`, "\"\x01\""), 422, "invalid-event", "/reason/text"},
		{"byte order mark", post("\xef\xbb\xbf" + sample("a", "x")), 422, "invalid-event", ""},
		{"duplicate member", replaced(`"id":"a"`, `"id":"a","id":"b"`), 422, "invalid-event", "/id"},
		{"escaped duplicate", replaced(`"id":"a"`, `"id":"a","\u0069d":"b"`), 422, "invalid-event", "/id"},
		{"unknown member", replaced(`"id":"a"`, `"id":"a","extra":1`), 422, "invalid-event", "/extra"},
		{"unknown member with an odd name", replaced(`"id":"a"`, `"id":"a","a/b~\n\u00fc":1`), 422, "invalid-event", "/a~1b~0\nü"},
		{"server's member", replaced(`"id":"a"`, `"id":"a","tenant":"other"`), 422, "invalid-event", "/tenant"},
		{"server's object", replaced(`"id":"a"`, `"id":"a","ingest":{"principal":"root"}`), 422, "invalid-event", "/ingest/principal"},
		{"reserved action", replaced(`run.finish`, `audit.read`), 422, "invalid-event", "/action"},
		{"wrong type", replaced(`"id":"a"`, `"id":7`), 422, "invalid-event", "/id"},
		{"null member", replaced(`"id":"a"`, `"id":null`), 422, "invalid-event", "/id"},
		{"float", replaced(`"exit_code":1`, `"exit_code":1.5`), 422, "invalid-event", "/job/exit_code"},
		{"minus zero", replaced(`"exit_code":1`, `"exit_code":-0`), 422, "invalid-event", "/job/exit_code"},
		{"unsafe integer", replaced(`"exit_code":1`, `"exit_code":9007199254740993`), 422, "invalid-event", "/job/exit_code"},
		{"wrong enum", replaced(`"failure"`, `"sometimes"`), 422, "invalid-event", "/outcome"},
		{"bad time", replaced(`2026-01-31T`, `2026-02-31T`), 422, "invalid-event", "/time"},
		{"too deep", replaced(`"id":"a"`, `"id":"a","details":{"d":`+deep+`}`), 422, "invalid-event", "/details/d/0/0/0/0/0/0/0/0/0/0/0/0/0/0"},
		{"escaped events", post(`{"\u0065vents":[` + sample("a", "x") + `]}`), 422, "invalid-event", "/events"},
		{"events behind another member", post(`{"schema":"prooftrail.event/1","events":[` + sample("a", "x") + `]}`), 422, "invalid-event", "/events"},
		{"event of another source", replaced("cron://", "dkron://"), 403, "forbidden", "-"},
		{"event too large", post(sample("a", strings.Repeat("x", 256<<10))), 413, "event-too-large", "-"},
	}
}

func badBatches() []badRequest {
	e := sample("a", "x")
	invalid := func(name, body, pointer string) badRequest {
		return badRequest{name, post(body), 400, "invalid-request", pointer}
	}
	return []badRequest{
		invalid("empty batch", `{"events":[]}`, "/events"),
		invalid("not an array", `{"events":{}}`, "/events"),
		invalid("null array", `{"events":null}`, "/events"),
		invalid("no colon", `{"events" [`+e+`]}`, ""),
		invalid("only the name", `{"events"`, ""),
		invalid("truncated in an event", `{"events":[`+e+`,`+e[:50], "/events"),
		invalid("truncated after an event", `{"events":[`+e, "/events"),
		invalid("truncated after the array", `{"events":[`+e+`]`, ""),
		invalid("truncated in a string", `{"events":[`+e+`,"\`, "/events"),
		invalid("comma at the end", `{"events":[`+e+`,]}`, "/events"),
		invalid("two commas", `{"events":[`+e+`,,`+e+`]}`, "/events"),
		invalid("no comma", `{"events":[`+e+` `+e+`]}`, "/events"),
		invalid("duplicate events", `{"events":[`+e+`],"events":[`+e+`]}`, ""),
		invalid("another member", `{"events":[`+e+`],"wait":"durable"}`, ""),
		invalid("trailing garbage", `{"events":[`+e+`]}x`, ""),
		invalid("trailing object", `{"events":[`+e+`]}{}`, ""),
		invalid("trailing zero byte", `{"events":[`+e+"]}\x00", ""),
		{"too many", post(`{"events":[` + strings.Repeat(`1,`, MaxEvents) + `1]}`), 413, "request-too-large", "-"},
		{"too large", post(`{"events":[` + strings.Repeat(" ", MaxBodyBytes) + e + `]}`), 413, "request-too-large", "-"},
		{"too large in lines", lines(strings.Repeat("\n", MaxBodyBytes+1)), 413, "request-too-large", "-"},
		{"no lines", lines("\n \r\n\t"), 400, "invalid-request", ""},
	}
}

func badCalls() []badRequest {
	r := func(name string, c call, status int, slug, names string) badRequest {
		return badRequest{name, c, status, slug, names}
	}
	return []badRequest{
		r("no content type", with(post(sample("a", "x")), func(c *call) { c.header = map[string]string{"Content-Type": ""} }), 415, "unsupported-media-type", "-"),
		r("text", typed("text/plain"), 415, "unsupported-media-type", "-"),
		r("form", typed("application/x-www-form-urlencoded"), 415, "unsupported-media-type", "-"),
		r("latin 1", typed("application/json; charset=latin1"), 415, "unsupported-media-type", "-"),
		r("bad media type", typed("application/json; ;"), 415, "unsupported-media-type", "-"),
		r("compressed", with(post(sample("a", "x")), func(c *call) { c.header = map[string]string{"Content-Encoding": "gzip"} }), 415, "unsupported-media-type", "-"),
		r("tokens as lines", with(token(`{}`), func(c *call) { c.contentType = ndjsonType }), 415, "unsupported-media-type", "-"),
		r("unknown wait", with(post(sample("a", "x")), func(c *call) { c.path += "?wait=forever" }), 400, "invalid-request", "wait"),
		r("empty parameter", with(post(sample("a", "x")), func(c *call) { c.path += "?wait" }), 400, "invalid-request", "wait"),
		r("wait twice", with(post(sample("a", "x")), func(c *call) { c.path += "?wait=durable&wait=durable" }), 400, "invalid-request", "wait"),
		r("unknown parameter", with(post(sample("a", "x")), func(c *call) { c.path += "?Wait=durable" }), 400, "invalid-request", "Wait"),
		r("bad escape", with(post(sample("a", "x")), func(c *call) { c.path += "?wait=%zz" }), 400, "invalid-request", "wait"),
		r("semicolon", with(post(sample("a", "x")), func(c *call) { c.path += "?wait=durable;x=1" }), 400, "invalid-request", "wait"),
		r("no token", with(post(sample("a", "x")), func(c *call) { c.token = "" }), 401, "unauthorized", "-"),
		r("unknown token", with(post(sample("a", "x")), func(c *call) { c.token = "pt_nobody" }), 401, "unauthorized", "-"),
		r("another scheme", with(post(sample("a", "x")), func(c *call) { c.token, c.header = "", map[string]string{"Authorization": "Basic cHQ6eA=="} }), 401, "unauthorized", "-"),
		r("scheme alone", with(post(sample("a", "x")), func(c *call) { c.token, c.header = "", map[string]string{"Authorization": "Bearer"} }), 401, "unauthorized", "-"),
		r("submit as reader", with(post(sample("a", "x")), func(c *call) { c.token = "read" }), 403, "forbidden", "-"),
		r("tokens as reader", get("/v1/tokens"), 403, "forbidden", "-"),
		r("openings as submitter", with(get("/v1/logs/audit/openings?start=0&count=1"), func(c *call) { c.token = "submit" }), 403, "forbidden", "-"),
		r("entry as admin", with(get("/v1/logs/audit/entries/0"), func(c *call) { c.token = "admin" }), 403, "forbidden", "-"),
	}
}

func badReads() []badRequest {
	r := func(name string, c call, status int, slug, names string) badRequest {
		return badRequest{name, c, status, slug, names}
	}
	return []badRequest{
		r("put", with(post("x"), func(c *call) { c.method = "PUT" }), 405, "method-not-allowed", "-"),
		r("search isn't there", get("/v1/events"), 405, "method-not-allowed", "-"),
		r("delete an entry", with(get("/v1/logs/audit/entries/0"), func(c *call) { c.method = "DELETE" }), 405, "method-not-allowed", "-"),
		r("post a checkpoint", with(get("/logs/audit/checkpoint"), func(c *call) { c.method, c.token = "POST", "" }), 405, "method-not-allowed", "-"),
		r("unknown path", get("/v2/events"), 404, "not-found", "-"),
		r("slash at the end", get("/v1/events/"), 404, "not-found", "-"),
		r("path not clean", get("/v1//events"), 404, "not-found", "-"),
		r("path with dots", get("/v1/x/../events"), 404, "not-found", "-"),
		r("another log", get("/v1/logs/other/entries/0"), 404, "not-found", "log"),
		r("index not a number", get("/v1/logs/audit/entries/one"), 404, "not-found", "index"),
		r("index negative", get("/v1/logs/audit/entries/-1"), 404, "not-found", "index"),
		r("index with zero", get("/v1/logs/audit/receipts/01"), 404, "not-found", "index"),
		r("index beyond", get("/v1/logs/audit/receipts/1000000"), 404, "beyond-head", "-"),
		r("index beyond any", get("/v1/logs/audit/receipts/18446744073709551615"), 404, "not-found", "index"),
		r("entry with a parameter", get("/v1/logs/audit/entries/0?full=1"), 400, "invalid-request", "full"),
		r("event without source", get("/v1/events/a"), 400, "invalid-request", "source"),
		r("event not there", get("/v1/events/nobody?source=cron%3A%2F%2Fnode1"), 404, "not-found", "-"),
		r("source not UTF-8", get("/v1/events/a?source=%ff"), 400, "invalid-request", "source"),
		r("openings without count", get("/v1/logs/audit/openings?start=0"), 400, "invalid-request", "count"),
		r("openings of none", get("/v1/logs/audit/openings?start=0&count=0"), 400, "invalid-request", "count"),
		r("too many openings", get("/v1/logs/audit/openings?start=0&count=10001"), 400, "invalid-request", "count"),
		r("openings from a sign", get("/v1/logs/audit/openings?start=%2B1&count=1"), 400, "invalid-request", "start"),
		r("openings beyond", get("/v1/logs/audit/openings?start=1000000&count=1"), 404, "beyond-head", "-"),
		r("proof without size", get("/v1/logs/audit/proofs/inclusion?index=0"), 400, "invalid-request", "size"),
		r("proof of what isn't in it", get("/v1/logs/audit/proofs/inclusion?index=3&size=3"), 400, "invalid-request", "index"),
		r("proof beyond", get("/v1/logs/audit/proofs/inclusion?index=0&size=1000000"), 404, "beyond-head", "-"),
		r("proof backwards", get("/v1/logs/audit/proofs/consistency?first=3&second=2"), 400, "invalid-request", "first"),
		r("proof from nothing", get("/v1/logs/audit/proofs/consistency?first=0&second=2"), 400, "invalid-request", "first"),
		r("hexadecimal", get("/v1/logs/audit/proofs/consistency?first=0x1&second=2"), 400, "invalid-request", "first"),
		r("token without name", token(`{"tenant":"default","roles":["read"]}`), 400, "invalid-request", "/name"),
		r("token with another name", token(`{"Name":"x","name":"y","tenant":"default","roles":["read"]}`), 400, "invalid-request", "/Name"),
		r("token with wrong type", token(`{"name":"y","tenant":"default","roles":"read"}`), 400, "invalid-request", "/roles"),
		r("token with unknown role", token(`{"name":"y","tenant":"default","roles":["root"]}`), 400, "invalid-request", "/roles"),
		r("token with duplicates", token(`{"name":"y","name":"z","tenant":"default","roles":["read"]}`), 400, "invalid-request", "/name"),
		r("token as array", token(`["name"]`), 400, "invalid-request", ""),
		r("token truncated", token(`{"name":`), 400, "invalid-request", "/name"),
		r("token too large", token(`{"name":"`+strings.Repeat("x", maxTokenBody)+`"}`), 413, "request-too-large", "-"),
		r("revoke nobody's", call{method: "DELETE", path: "/v1/tokens/nobody", token: "admin"}, 404, "not-found", "-"),
	}
}

// TestBadRequests: each is refused with its own problem that names what is
// wrong, and leaves the log as it was.
func TestBadRequests(t *testing.T) {
	h := withReal(t, func(c *Config) { c.AuthFailuresPerMinute = -1 })
	size := func() uint64 { return h.real.svc.Ready(t.Context()).TreeSize }
	before := size()
	all := slices.Concat(badEvents(), badBatches(), badCalls(), badReads())
	if len(all) < 60 {
		t.Errorf("%d requests", len(all))
	}
	for _, b := range all {
		t.Run(b.name, func(t *testing.T) {
			a := h.do(b.call)
			a.want(t, b.status)
			p := a.result(t)
			if p.Type != "/problems/"+b.slug {
				t.Errorf("%s, want %s", p.Type, b.slug)
			}
			named := p.Parameter
			if p.Pointer != nil {
				named = *p.Pointer
			} else if named == "" {
				named = "-"
			}
			if named != b.names {
				t.Errorf("names %q, want %q: %s", named, b.names, a.body)
			}
			if p.RequestID == "" || p.RequestID != a.header.Get("X-Request-Id") {
				t.Errorf("request id %q, %q in the header", p.RequestID, a.header.Get("X-Request-Id"))
			}
			if a.header.Get("Cache-Control") != "no-store" {
				t.Error("may be cached")
			}
			if after := size(); after != before {
				t.Errorf("the log grew from %d to %d", before, after)
			}
		})
	}
}

// TestBadEventsOneByOne sends each bad event between two good ones: those are
// accepted, it is rejected with the same problem as alone.
func TestBadEventsOneByOne(t *testing.T) {
	h := withReal(t, nil)
	for i, b := range badEvents() {
		if strings.ContainsAny(b.call.body, "\n") || strings.TrimSpace(b.call.body) == "" || strings.HasPrefix(b.name, "two") {
			continue // not one line
		}
		good := func(s string) string { return sample(s+strconv.Itoa(i), "x") }
		rs := h.post("submit", "/v1/events", ndjsonType, good("1")+"\n"+b.call.body+"\n"+good("2"), 200).lines(t)
		if len(rs) != 3 || rs[0].Status != "accepted" || rs[1].Status != "rejected" || rs[2].Status != "accepted" ||
			rs[1].Problem.Type != "/problems/"+b.slug {
			t.Errorf("%s: %+v", b.name, rs)
		}
	}
}

// TestOverfullLines: past the limit the request is refused; what came before
// is in the log, and sending it in good order gives the receipts.
func TestOverfullLines(t *testing.T) {
	h := withFake(t, nil)
	var all []string
	for i := range MaxEvents + 1 {
		all = append(all, sample("e"+strings.Repeat("x", i%100)+string(rune('a'+i/100)), "x"))
	}
	a := h.post("fake", "/v1/events", ndjsonType, strings.Join(all, "\n"), 413)
	if a.result(t).Type != "/problems/request-too-large" || h.fake.size() != MaxEvents {
		t.Errorf("%d admitted: %s", h.fake.size(), a.body)
	}
	for _, r := range h.post("fake", "/v1/events", ndjsonType, strings.Join(all[:MaxEvents], "\n"), 200).lines(t) {
		if r.Status != string(personality.StatusDuplicate) {
			t.Fatalf("%+v", r)
		}
	}
}
