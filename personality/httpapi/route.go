package httpapi

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/prooftrail/prooftrail/personality"
)

// route is one call of the API.
type route struct {
	method  string // GET stands for HEAD too
	pattern string // a segment {name} matches one that isn't empty, a last {name...} all the rest
	public  bool   // no token needed, answers to any origin
	proven  bool   // no token needed: the handler checks another proof
	role    personality.Role
	serve   func(*API, *exchange) error

	segments []string
	id       int // its place in the table, for metrics
}

// routes is every call there is; openapi.json lists the same, and a test
// compares the two. The role is checked here only where the whole call needs
// it; which entries a caller may see is for the log to say.
var routes = []route{
	{method: "POST", pattern: "/v1/events", role: personality.RoleSubmit, serve: (*API).submit},
	{method: "GET", pattern: "/v1/events/{id}", serve: (*API).eventByID},
	{method: "GET", pattern: "/v1/logs/{log}/entries/{index}", serve: (*API).entry},
	{method: "GET", pattern: "/v1/logs/{log}/receipts/{index}", serve: (*API).receipt},
	{method: "GET", pattern: "/v1/logs/{log}/openings", serve: (*API).openings},
	{method: "GET", pattern: "/v1/logs/{log}/proofs/inclusion", public: true, serve: (*API).proveInclusion},
	{method: "GET", pattern: "/v1/logs/{log}/proofs/consistency", public: true, serve: (*API).proveConsistency},
	{method: "POST", pattern: "/v1/ingest/{adapter}", role: personality.RoleSubmit, serve: (*API).ingest},
	{method: "POST", pattern: "/v1/ingest/webhook/{door}", proven: true, serve: (*API).door},
	{method: "GET", pattern: "/v1/quarantine", role: personality.RoleAdmin, serve: (*API).listQuarantine},
	{method: "GET", pattern: "/v1/quarantine/{id}", role: personality.RoleAdmin, serve: (*API).showQuarantined},
	{method: "POST", pattern: "/v1/quarantine/{id}/replay", role: personality.RoleAdmin, serve: (*API).replayQuarantined},
	{method: "DELETE", pattern: "/v1/quarantine/{id}", role: personality.RoleAdmin, serve: (*API).dropQuarantined},
	{method: "GET", pattern: "/v1/tokens", role: personality.RoleAdmin, serve: (*API).listTokens},
	{method: "POST", pattern: "/v1/tokens", role: personality.RoleAdmin, serve: (*API).addToken},
	{method: "DELETE", pattern: "/v1/tokens/{id}", role: personality.RoleAdmin, serve: (*API).revokeToken},
	{method: "GET", pattern: "/v1/source-keys", role: personality.RoleAdmin, serve: (*API).listSourceKeys},
	{method: "POST", pattern: "/v1/source-keys", role: personality.RoleAdmin, serve: (*API).addSourceKey},
	{method: "DELETE", pattern: "/v1/source-keys/{id}", role: personality.RoleAdmin, serve: (*API).revokeSourceKey},
	{method: "GET", pattern: "/logs/{log}/checkpoint", public: true, serve: (*API).checkpoint},
	{method: "GET", pattern: "/logs/{log}/tile/entries/{index...}", public: true, serve: (*API).entryBundle},
	{method: "GET", pattern: "/logs/{log}/tile/{level}/{index...}", public: true, serve: (*API).tile},
	{method: "GET", pattern: "/healthz", public: true, serve: (*API).healthz},
	{method: "GET", pattern: "/readyz", public: true, serve: (*API).readyz},
	{method: "GET", pattern: "/metrics", public: true, serve: (*API).metricsPage},
	{method: "GET", pattern: "/openapi.json", public: true, serve: (*API).openAPI},
	{method: "GET", pattern: "/problems/{slug}", public: true, serve: (*API).problemPage},
}

// compileRoutes splits the patterns. The result is the API's own copy.
func compileRoutes() []route {
	rs := make([]route, len(routes))
	for i, r := range routes {
		r.id, r.segments = i, strings.Split(r.pattern[1:], "/")
		rs[i] = r
	}
	return rs
}

// match finds the route and its path parameters, as they were before
// percent-encoding. No path is cleaned or redirected: each thing has one path.
func (a *API) match(r *http.Request, args *[3]string) (*route, *problem) {
	if r.URL.Path == "/v1/events" && r.Method == http.MethodPost { // the hot one
		return &a.routes[0], nil
	}
	path, encoded := r.URL.Path, r.URL.RawPath != ""
	if encoded {
		path = r.URL.RawPath // so that an id may hold %2F
	}
	var allow []string
	for i := range a.routes {
		rt := &a.routes[i]
		if !rt.match(path, encoded, args) {
			continue
		}
		if rt.method == r.Method || rt.method == http.MethodGet && r.Method == http.MethodHead {
			return rt, nil
		}
		allow = append(allow, rt.method)
		if rt.method == http.MethodGet {
			allow = append(allow, http.MethodHead)
		}
	}
	if allow != nil {
		list := strings.Join(allow, ", ")
		return nil, &problem{kind: kindMethod, allow: list, detail: "this path takes " + list}
	}
	return nil, &problem{kind: kindNotFound, detail: "there is no such path"}
}

func (rt *route) match(path string, encoded bool, args *[3]string) bool {
	rest, ok := strings.CutPrefix(path, "/")
	if !ok {
		return false
	}
	n := 0
	for i, want := range rt.segments {
		var seg string
		more := false
		if strings.HasSuffix(want, "...}") {
			seg, rest = rest, ""
		} else {
			seg, rest, more = strings.Cut(rest, "/")
		}
		if last := i == len(rt.segments)-1; more == last {
			return false
		}
		if want[0] != '{' {
			if seg != want {
				return false
			}
			continue
		}
		if encoded {
			var err error
			if seg, err = url.PathUnescape(seg); err != nil {
				return false
			}
		}
		if seg == "" {
			return false
		}
		args[n] = seg
		n++
	}
	return true
}
