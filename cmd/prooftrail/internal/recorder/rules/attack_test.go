package rules_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/recorder/rules"
)

// nothing is a source that has read nothing: the body isn't there yet.
type nothing struct{ m rules.Match }

func (n nothing) Lookup(s rules.Selector) ([]string, rules.State) {
	if s.In == rules.InPath && n.m.Captures[s.Name] != "" {
		return []string{n.m.Captures[s.Name]}, rules.Known
	}
	if s.In == rules.InBody {
		return nil, rules.Unread
	}
	return nil, rules.Known
}

func decide(t testing.TB, set *rules.Set, method, target string, headers ...string) (rules.Decision, error) {
	t.Helper()
	path, query, _ := strings.Cut(target, "?")
	h := http.Header{}
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		h.Add(name, value)
	}
	var readings [][]string
	paths, err := rules.Paths(path, h)
	if err != nil {
		return rules.Decision{}, err
	}
	for _, p := range paths {
		more, err := rules.Readings(p)
		if err != nil {
			return rules.Decision{}, err
		}
		readings = append(readings, more...)
	}
	params, _ := rules.Query(query)
	methods, err := rules.Methods(method, h, params)
	if err != nil {
		return rules.Decision{}, err
	}
	return set.Decide(&rules.Request{
		Methods: methods, Readings: readings,
		Source: func(m rules.Match) rules.Source { return nothing{m} },
	}, rules.BestEffort), nil
}

// guarded are rules in which only running a job counts, and as much as can be: what isn't seen to be that is
// ignored.
const guarded = `
version: 1
default: {safe: ignore, unsafe: ignore}
rules:
  - name: run
    method: [POST]
    path: /v1/jobs/{job}/run
    action: run.start
    mode: required
    target: {type: job, id: "path:job"}
  - name: delete
    method: [DELETE]
    path: /v1/jobs/{job}
    action: job.delete
    mode: required
    target: {type: job, id: "path:job"}
`

// TestAttacks: whoever writes a request so that a scheduler may take it for the running or deleting of a job, and
// the recorder for something else, is recorded all the same.
func TestAttacks(t *testing.T) {
	set := parse(t, guarded)
	for _, a := range []struct {
		what, method, target, header string
	}{
		{"as it is meant", "POST", "/v1/jobs/a/run", ""},
		{"a slash at the end", "POST", "/v1/jobs/a/run/", ""},
		{"another case", "POST", "/V1/Jobs/a/RUN", ""},
		{"an encoded letter", "POST", "/v1/jobs/a/r%75n", ""},
		{"all encoded", "POST", "/%76%31/%6a%6f%62%73/a/%72%75%6e", ""},
		{"an encoded slash", "POST", "/v1/jobs/a%2Frun", ""},
		{"an encoded slash in front", "POST", "/v1%2fjobs/a/run", ""},
		{"encoded twice", "POST", "/v1/jobs/a%252Frun", ""},
		{"a letter encoded twice", "POST", "/v1/jobs/a/r%2575n", ""},
		{"three times", "POST", "/v1/jobs/a%25252Frun", ""},
		{"two slashes", "POST", "/v1//jobs/a/run", ""},
		{"two slashes in front", "POST", "//v1/jobs/a/run", ""},
		{"many at the end", "POST", "/v1/jobs/a/run//", ""},
		{"a dot", "POST", "/v1/./jobs/a/run", ""},
		{"a dot at the end", "POST", "/v1/jobs/a/run/.", ""},
		{"two dots", "POST", "/v1/x/../jobs/a/run", ""},
		{"two dots at the end", "POST", "/v1/jobs/a/run/x/..", ""},
		{"above the top", "POST", "/../v1/jobs/a/run", ""},
		{"encoded dots", "POST", "/v1/x/%2e%2e/jobs/a/run", ""},
		{"dots encoded twice", "POST", "/v1/x/%252e%252e/jobs/a/run", ""},
		{"dots and an encoded slash", "POST", "/v1/x%2f..%2fjobs/a/run", ""},
		{"dots, decoded, dots again", "POST", "/v1/a%2Fb/../c%2F..%2Fjobs/a/run", ""},
		{"parameters", "POST", "/v1;x=1/jobs/a/run", ""},
		{"parameters at the end", "POST", "/v1/jobs/a/run;jsessionid=1", ""},
		{"encoded parameters", "POST", "/v1/jobs/a/run%3Bx", ""},
		{"dots with parameters", "POST", "/v1/x/..;/jobs/a/run", ""},
		{"empty with parameters", "POST", "/v1/;x/jobs/a/run", ""},
		{"backslashes", "POST", "/v1%5Cjobs%5Ca%5Crun", ""},
		{"dots and a backslash", "POST", "/v1/x%5C..%5Cjobs/a/run", ""},
		{"an encoded question mark", "POST", "/v1/jobs/a/run%3Fx", ""},
		{"twice encoded", "POST", "/v1/jobs/a/run%253Fx", ""},
		{"an encoded number sign", "POST", "/v1/jobs/a/run%23x", ""},
		{"an encoded NUL", "POST", "/v1/jobs/a/run%00x", ""},
		{"a newline", "POST", "/v1/jobs/a%0A/run", ""},
		{"a method in lower case", "post", "/v1/jobs/a/run", ""},
		{"a method in a header", "GET", "/v1/jobs/a/run", "X-HTTP-Method-Override: POST"},
		{"in lower case", "GET", "/v1/jobs/a/run", "X-HTTP-Method-Override: post"},
		{"in another header", "GET", "/v1/jobs/a/run", "X-HTTP-Method: POST"},
		{"in a third", "GET", "/v1/jobs/a/run", "X-Method-Override: POST"},
		{"in the query", "GET", "/v1/jobs/a/run?_method=POST", ""},
		{"in a query with semicolons", "GET", "/v1/jobs/a/run?x;_method=post", ""},
		{"another method from a header", "POST", "/v1/jobs/a", "X-HTTP-Method-Override: DELETE"},
		{"with underscores", "GET", "/v1/jobs/a/run", "X_HTTP_METHOD_OVERRIDE: POST"},
		{"a path in a header", "POST", "/harmless", "X-Original-URL: /v1/jobs/a/run"},
		{"in another header, whole", "POST", "/harmless", "X-Rewrite-URL: http://x/v1/jobs/a/run?y=1"},
		{"odd in a header", "POST", "/harmless", "X-Original-URL: /v1//jobs/a%2frun"},
		{"a dot behind it", "POST", "/v1/jobs/a/run.", ""},
		{"a space behind it", "POST", "/v1/jobs/a/run%20", ""},
		{"dots and spaces", "POST", "/v1./jobs%20/a/run.%20.", ""},
		{"an overlong slash", "POST", "/v1/jobs/a%c0%afrun", ""},
		{"overlong dots", "POST", "/v1/x/%c0%ae%c0%ae/jobs/a/run", ""},
		{"both", "GET", "/v1/x/..;/jobs%2Fa", "X-HTTP-Method-Override: DELETE"},
	} {
		var headers []string
		if a.header != "" {
			headers = []string{a.header}
		}
		d, err := decide(t, set, a.method, a.target, headers...)
		if err == nil && d.Mode != rules.Required {
			t.Errorf("%s: %s %s %s is %s by %s", a.what, a.method, a.target, a.header, d.Mode, d.Match.Rule.Name)
		}
		plain := a.what == "as it is meant" || a.what == "a newline" || a.what == "a slash at the end" || a.what == "another case" || a.what == "an encoded letter" || a.what == "all encoded"
		if d.Ambiguous == plain {
			t.Errorf("%s: ambiguous is %v", a.what, d.Ambiguous)
		}
	}
}

// TestOddPathsAreRefused: a path that can be read in too many ways isn't passed on.
func TestOddPathsAreRefused(t *testing.T) {
	for _, path := range []string{
		"/" + strings.Repeat("a%2F", 400), "/" + strings.Repeat("../", 600), "/" + strings.Repeat("a/", 600), "/%zz",
	} {
		if _, err := rules.Readings(path); err == nil {
			t.Errorf("%.20s… is read", path)
		}
	}
}

// TestCrowds: a method or a path that stands behind many others is seen all the same, or nothing goes on.
func TestCrowds(t *testing.T) {
	set := parse(t, guarded)
	var methods, paths []string
	for i := range 9 {
		methods = append(methods, fmt.Sprintf("X-HTTP-Method-Override: M%c", 'A'+i))
		paths = append(paths, fmt.Sprintf("X-Original-URL: /%d", i))
	}
	for what, d := range map[string]struct {
		method, target string
		headers        []string
	}{
		"methods in headers":          {"GET", "/v1/jobs/a", append(methods, "X-HTTP-Method-Override: DELETE")},
		"the query's method behind":   {"GET", "/v1/jobs/a?_method=DELETE", methods},
		"paths":                       {"DELETE", "/x", append(paths, "X-Original-URL: /v1/jobs/a")},
		"the query's behind its like": {"GET", "/v1/jobs/a?" + strings.Repeat("x&", 300) + "_method=DELETE", nil},
	} {
		got, err := decide(t, set, d.method, d.target, d.headers...)
		if err == nil && got.Mode != rules.Required {
			t.Errorf("%s: %s by %s", what, got.Mode, got.Match.Rule.Name)
		}
	}
}

// TestPlainPathsAreReadOnce: what is usual costs nothing, and isn't ambiguous.
func TestPlainPathsAreReadOnce(t *testing.T) {
	for _, path := range []string{"/", "/v1/jobs", "/v1/jobs/", "/v1/jobs/nightly%20invoices", "/v1/jobs/Z%C3%BCrich", "/v1/a@b:c,d=e!(f)", "/v1/a.b/.c"} {
		if got, err := rules.Readings(path); err != nil || len(got) != 1 {
			t.Errorf("%s is read as %q %v", path, got, err)
		}
	}
}

// TestBodyDecides: a rule whose tests look at a body that can't be read counts by its mode.
func TestBodyDecides(t *testing.T) {
	set := parse(t, `
version: 1
default: {unsafe: ignore}
rules:
  - name: disable
    path: /job
    if: {"body:/enabled": "false"}
    action: job.disable
    mode: required
    target: {type: job, id: "body:/id"}
  - name: other
    path: /job
    action: job.update
    target: {type: job, id: "body:/id"}
`)
	d, err := decide(t, set, "POST", "/job")
	if err != nil || d.Mode != rules.Required || !d.Unsure || d.Match.Rule.Name != "other" {
		t.Errorf("%v %v %v %s", err, d.Mode, d.Unsure, d.Match.Rule.Name)
	}
}

// TestCronicleAnywhere: Cronicle finds its calls anywhere in a path, by any method.
func TestCronicleAnywhere(t *testing.T) {
	set, err := rules.Ready("ready:cronicle")
	if err != nil {
		t.Fatal(err)
	}
	for target, want := range map[string]string{
		"/api/app/run_event/v1?id=e1":           "event-run",
		"/api/app/run_event":                    "event-run",
		"/x/y/api/app/run_event/v1":             "event-run",
		"/api/app/run_event.json":               "event-run",
		"/x%23/api/app/run_event":               "event-run",
		"/api/app/get_schedule/v1":              "reads",
		"/api/app/get_x/api/app/run_event/v1":   "event-run",
		"/api/app/run_event/api/app/get_x":      "event-run",
		"/api/app/ping":                         "reads-2",
		"/api/app/update_master_state/v1":       "scheduler-state",
		"/api/app/create_category/v1":           "config-create",
		"/api/user/admin_create":                "user-create",
		"/api/app/get_api_key/v1?id=k1":         "key-read",
		"/api/app/something_new":                "default.safe",
		"/js/app.js":                            "default.safe",
		"/api/app/delete_event/v1?callback=foo": "event-delete",
	} {
		d, err := decide(t, set, "GET", target)
		if err != nil || d.Match.Rule.Name != want {
			t.Errorf("%s is %s %v, expected %s", target, d.Match.Rule.Name, err, want)
		}
	}
}

func parse(t testing.TB, text string) *rules.Set {
	t.Helper()
	s, err := rules.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// FuzzPath: no path panics or takes long; what is read plainly is what RFC 3986 says; every path gets a rule.
func FuzzPath(f *testing.F) {
	for _, s := range []string{"/v1/jobs/a/run", "/a%2F..%2Fb", "/;x/..;/%252e%252e/", "//\\%00%3f"} {
		f.Add(s)
	}
	set := parse(f, guarded)
	f.Fuzz(func(t *testing.T, path string) {
		if !strings.HasPrefix(path, "/") || strings.Contains(path, "?") {
			return
		}
		readings, err := rules.Readings(path)
		if err != nil {
			return
		}
		if len(readings) == 1 && slices.ContainsFunc(readings[0], func(s string) bool { return s == "" || s == ".." || strings.ContainsAny(s, "/;\\") }) {
			t.Errorf("%q is plain: %q", path, readings)
		}
		if d, err := decide(t, set, "POST", path); err != nil || d.Match.Rule == nil {
			t.Errorf("%q: %+v %v", path, d, err)
		}
	})
}

// FuzzPattern: no pattern panics, and one that is taken matches what it was made of.
func FuzzPattern(f *testing.F) {
	for _, s := range []string{"/v1/{job}/run", "/{a...}/x/{b...}", "/x*y/z"} {
		f.Add(s, "/v1/a/run")
	}
	f.Fuzz(func(t *testing.T, pattern, path string) {
		p, err := rules.ParsePattern(pattern)
		if err != nil {
			return
		}
		if !strings.Contains(pattern, "{") && !strings.Contains(pattern, "*") {
			if _, ok := p.Match(strings.Split(strings.Trim(pattern, "/"), "/")); !ok && pattern != "/" && strings.ToLower(pattern) == pattern {
				t.Errorf("%q doesn't match itself", pattern)
			}
		}
		p.Match(strings.Split(path, "/"))
	})
}

// FuzzRules: no file panics, and one that is taken decides.
func FuzzRules(f *testing.F) {
	f.Add([]byte(guarded))
	for _, name := range rules.Names() {
		text, err := rules.Text(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		set, err := rules.Parse(data)
		if err != nil {
			return
		}
		if d, err := decide(t, set, "POST", "/v1/jobs/a/run"); err != nil || d.Match.Rule == nil {
			t.Errorf("no rule: %v", err)
		}
	})
}
