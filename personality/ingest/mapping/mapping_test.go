package mapping_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"text/template"
	"time"

	"github.com/prooftrail/prooftrail/personality/ingest"
	"github.com/prooftrail/prooftrail/personality/ingest/mapping"
	"github.com/prooftrail/prooftrail/verifier/event"
)

var received = time.Date(2026, 11, 27, 10, 30, 0, 0, time.UTC)

func request(body string) *ingest.Request {
	return &ingest.Request{Header: http.Header{"Content-Type": {"application/json"}}, Query: url.Values{}, Source: "urn:door", Body: []byte(body), Received: received,
		ID: func(parts ...string) string {
			sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
			return hex.EncodeToString(sum[:16])
		}}
}

func parse(t *testing.T, text string) *mapping.Mapping {
	t.Helper()
	m, err := mapping.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func ready(t *testing.T, name string) *mapping.Mapping {
	t.Helper()
	text, ok := mapping.ReadyFile(name)
	if !ok {
		t.Fatalf("there is no %s", name)
	}
	return parse(t, string(text))
}

// one is the event of a body with one, which the log takes, and without the id, which is an HMAC.
func one(t *testing.T, m *mapping.Mapping, body string) event.Event {
	t.Helper()
	items, err := m.Translate(request(body))
	if err != nil || len(items) != 1 || items[0].Err != nil {
		t.Fatalf("%v, %+v", err, items)
	}
	if _, err := items[0].Event.Fields(); err != nil {
		t.Fatalf("the log refuses it: %v", err)
	}
	return items[0].Event
}

func sample(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func check(t *testing.T, got, want event.Event) {
	t.Helper()
	got.ID, want.Schema, want.Source = "", event.Schema, "urn:door"
	if !reflect.DeepEqual(got, want) {
		a, _ := json.Marshal(got)
		b, _ := json.Marshal(want)
		t.Errorf("got  %s\nwant %s", a, b)
	}
}

func TestReadyNames(t *testing.T) {
	if got := mapping.Ready(); !reflect.DeepEqual(got, []string{"ready:cronjobpro", "ready:dkron", "ready:rundeck"}) {
		t.Errorf("ready: %v", got)
	}
	for _, name := range []string{"dkron", "ready:other", "ready:../doc"} {
		if _, ok := mapping.ReadyFile(name); ok {
			t.Errorf("there is a %s", name)
		}
	}
}

// number is an integer as an event read from JSON has it in its details.
func number(n int) *int64 {
	i := int64(n)
	return &i
}

func TestRundeck(t *testing.T) {
	m := ready(t, "ready:rundeck")
	const id = "58a0ef70-9457-4e44-b053-94b886adeba2"
	check(t, one(t, m, sample(t, "rundeck.json")), event.Event{
		Time: time.Date(2026, 11, 27, 10, 0, 12, 345e6, time.UTC), Action: "run.finish", Outcome: "failure", Reason: &event.Reason{Code: "failed"},
		Actor: event.Actor{Type: "user", ID: "admin"}, Target: []event.Target{{Type: "job", ID: id, Name: "backup/nightly"}, {Type: "project", ID: "ops"}},
		Job: &event.Job{ID: id, Name: "nightly", RunID: "24873", Trigger: "schedule", DurationMS: number(12345)},
		Details: map[string]any{"trigger": "failure", "status": "failed", "arguments": "-db main", "failed_nodes": []any{"db1"}, "successful_nodes": []any{},
			"url": "https://rundeck.example/project/ops/execution/show/24873"},
	})
	check(t, one(t, m, sample(t, "rundeck-plugin.json")), event.Event{
		Time: time.Date(2026, 11, 27, 10, 0, 0, 644e6, time.UTC), Action: "run.start", Outcome: "success",
		Actor: event.Actor{Type: "user", ID: "admin"}, Target: []event.Target{{Type: "job", ID: id, Name: "/testjob"}, {Type: "project", ID: "test"}},
		Job:     &event.Job{ID: id, Name: "testjob", RunID: "7", Schedule: "0 0 2 ? * * *", Trigger: "manual"},
		Details: map[string]any{"trigger": "start", "status": "running", "url": "http://rundeck.example:4440/project/test/execution/follow/7"},
	})
	late := strings.Replace(sample(t, "rundeck.json"), `"failure"`, `"avgduration"`, 1)
	if items, err := m.Translate(request(late)); err != nil || !items[0].Skip {
		t.Errorf("a job that takes long: %v, %+v", err, items)
	}
}

func TestCronJobPro(t *testing.T) {
	m := ready(t, "ready:cronjobpro")
	check(t, one(t, m, sample(t, "cronjobpro-help.json")), event.Event{
		Time: time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC), Action: "run.finish", Outcome: "failure", Reason: &event.Reason{Code: "failed"},
		Actor: event.Actor{Type: "schedule", ID: "job_123"}, Target: []event.Target{{Type: "job", ID: "job_123", Name: "Nightly sync"}},
		Job: &event.Job{ID: "job_123", Name: "Nightly sync"}, Details: map[string]any{"event": "failure", "consecutive_failures": float64(3)},
	})
	check(t, one(t, m, sample(t, "cronjobpro-docs.json")), event.Event{
		Time: time.Date(2026, 11, 27, 9, 0, 0, 5e8, time.UTC), Action: "run.finish", Outcome: "success",
		Actor: event.Actor{Type: "schedule", ID: "job_124"}, Target: []event.Target{{Type: "job", ID: "job_124", Name: "Health Check"}},
		Job: &event.Job{ID: "job_124", Name: "Health Check", RunID: "ex_9", DurationMS: number(234)},
		Details: map[string]any{"event": "recovery", "url": "https://api.example.com/health", "execution": map[string]any{
			"id": "ex_9", "status": "success", "statusCode": float64(200), "durationMs": float64(234), "finishedAt": "2026-11-27T09:00:00.5Z"}},
	})
	for body, want := range map[string]string{
		`{"event":"job.disabled","job":{"id":"j"}}`:    "job.disable success",
		`{"event":"circuit-breaker","job":{"id":"j"}}`: "job.disable success",
		`{"event":"Quota Alert","job":{"id":"j"}}`:     "cronjobpro.quota_alert unknown",
	} {
		if e := one(t, m, body); e.Action+" "+e.Outcome != want || !e.Time.Equal(received) {
			t.Errorf("%s: %+v", body, e)
		}
	}
}

// TestDkron executes the templates of the manual with the data that Dkron has for them.
func TestDkron(t *testing.T) {
	data := struct {
		Report, JobName, ReportingNode string
		StartTime, FinishedAt          time.Time
		Success, NodeName, Output      string
	}{"", "backup", "dkron1", time.Date(2026, 11, 27, 10, 0, 0, 5e8, time.UTC), time.Date(2026, 11, 27, 10, 0, 3, 0, time.FixedZone("", 3600)).Add(time.Hour), "false", "worker7", `"}`}
	manual, err := os.ReadFile("../../../docs/operate/webhooks.md")
	if err != nil {
		t.Fatal(err)
	}
	payloads := map[string]string{}
	for line := range strings.Lines(string(manual)) {
		for _, name := range []string{"webhook-payload", "pre-webhook-payload"} {
			if text, ok := strings.CutPrefix(strings.TrimSpace(line), name+": '"); ok {
				payloads[name] = strings.TrimSuffix(text, "'")
			}
		}
	}
	render := func(name string) string {
		var b strings.Builder
		if err := template.Must(template.New("report").Parse(payloads[name])).Execute(&b, data); err != nil || b.Len() == 0 {
			t.Fatalf("%s: %v", name, err)
		}
		return b.String()
	}
	m := ready(t, "ready:dkron")
	job := event.Job{ID: "backup", Name: "backup", Node: "worker7", RunID: "worker7 2026-11-27T10:00:00.5Z"}
	want := event.Event{
		Time: data.StartTime, Action: "run.start", Outcome: "success", Actor: event.Actor{Type: "service", ID: "dkron1"},
		Target: []event.Target{{Type: "job", ID: "backup", Name: "backup"}}, Job: &job,
	}
	check(t, one(t, m, render("pre-webhook-payload")), want)
	got := one(t, m, render("webhook-payload"))
	if !got.Time.Equal(data.FinishedAt) {
		t.Errorf("time %v, want %v", got.Time, data.FinishedAt)
	}
	finished := job
	finished.DurationMS = number(2500)
	want.Time, want.Action, want.Outcome, want.Reason, want.Job = got.Time, "run.finish", "failure", &event.Reason{Code: "failed"}, &finished
	check(t, got, want)
	data.Success = "true"
	if e := one(t, m, render("webhook-payload")); e.Outcome != "success" || e.Reason != nil {
		t.Errorf("a success: %+v", e)
	}
}

const head = "mapping: prooftrail.mapping/1\n"

// minimal is a mapping whose event has these members beside those that are needed.
func minimal(more string) string {
	return head + "event:\n  action: '\"a.b\"'\n  outcome: '\"success\"'\n  actor: {type: '\"service\"', id: '\"x\"'}\n  target: [{type: '\"t\"', id: 'item.id'}]\n" + more
}

func TestEach(t *testing.T) {
	m := parse(t, strings.Replace(minimal("  id: item.id + query.run + headers['x-run']\n  details: {all: 'size(body.runs)', v: body.v}\n"), head,
		head+"each: body.runs\nwhen: item.id != 'skip'\nheaders: [X-Run]\n", 1))
	r := request(`{"v":0.5,"runs":[{"id":"a"},{"id":"skip"},{"x":1},{"id":"b"}]}`)
	r.Query.Set("run", "-q-")
	r.Header.Set("X-Run", "h")
	r.Header.Set("Authorization", "Bearer secret")
	items, err := m.Translate(r)
	if err != nil || len(items) != 4 {
		t.Fatalf("%v, %+v", err, items)
	}
	if items[0].Event.ID != "a-q-h" || items[3].Event.ID != "b-q-h" || !items[1].Skip || items[2].Err == nil ||
		items[2].Err.Error() != "when: expected an item that has what the expression reads (a member that may not be there is read as .?name)" {
		t.Errorf("items %+v", items)
	}
	for _, it := range items {
		again := *r
		again.Body, again.Header = it.Raw, it.Header
		alone, err := m.Translate(&again)
		if err != nil || len(alone) != 1 || !reflect.DeepEqual(alone[0].Event, it.Event) || alone[0].Skip != it.Skip || (alone[0].Err == nil) != (it.Err == nil) {
			t.Errorf("%s alone: %v, %+v", it.Raw, err, alone)
		}
		if want := (http.Header{"Content-Type": {"application/json"}, "X-Run": {"h"}}); !reflect.DeepEqual(it.Header, want) {
			t.Errorf("header %v", it.Header)
		}
	}
	if items[0].Event.Details["all"] != float64(1) || items[0].Event.Details["v"] != "0.5" || !items[0].Untimed {
		t.Errorf("details %v, untimed %v", items[0].Event.Details, items[0].Untimed)
	}
	for _, body := range []string{`{}`, `{"runs":{}}`, `[]`, `{"runs":[` + strings.Repeat("1,", 500) + `1]}`} {
		if items, err := m.Translate(request(body)); err != nil || len(items) != 1 || items[0].Err == nil || items[0].Err.Error() != "/runs: expected an array of at most 500 elements" ||
			string(items[0].Raw) != body {
			t.Errorf("%.30s: %v, %v", body, err, items)
		}
	}
	top := parse(t, strings.Replace(minimal(""), head, head+"each: body\n", 1))
	if items, err := top.Translate(request(`[{"id":"a"},{"id":"b"}]`)); err != nil || len(items) != 2 || items[1].Event.Target[0].ID != "b" {
		t.Errorf("an array: %v, %+v", err, items)
	}
	big := `{"v":"` + strings.Repeat("x", 900_000) + `","runs":[` + strings.Repeat(`{"id":"a"},`, 100) + `{}]}`
	if items, err := m.Translate(request(big)); err != nil || items[0].Err == nil || items[0].Err.Error() != "(whole): expected at most 33554432 bytes, each element counted with what is around it" {
		t.Errorf("many elements in much: %v, %v", err, items)
	}
}

func TestFunctions(t *testing.T) {
	m := parse(t, minimal(`  details:
    lower: lower("ÄB")
    clip: clip("ééé", 5)
    token: token("a b")
    token2: token("!")
    action: action("x", "Job Done")
    split: 'split("a/b/c", "/")'
    sha256: sha256("")
    json: 'json({"a": [1, 2.5, true, null], "b": received})'
    millis: millis(item.ms)
    millis2: millis(1795773600000.0)
    seconds: timestamp(1795773600)
    bytes: 'b"\xff"'
    duration: duration("90s")
    nothing: item.?nothing
    "null": "null"
    null2: item.?gone
    empty: '""'
    float: 2.0
    uint: 7u
    two: '{"x": optional.none(), "y": [optional.of(1)]}'
    has: has(item.gone)
    match: match("run 17", "^run [0-9]+$")
`))
	got := one(t, m, `{"id":"i","ms":1795773600001,"gone":null}`).Details
	want := map[string]any{"lower": "äb", "clip": "é…", "token": "a_b", "token2": "unnamed", "action": "x.job_done", "split": []any{"a", "b", "c"},
		"sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "json": `{"a":[1,"2.5",true,null],"b":"2026-11-27T10:30:00Z"}`,
		"millis": "2026-11-27T10:00:00.001Z", "millis2": "2026-11-27T10:00:00Z", "seconds": "2026-11-27T10:00:00Z", "bytes": "/w==",
		"duration": "1m30s", "float": float64(2), "uint": float64(7), "two": map[string]any{"y": []any{float64(1)}}, "has": false, "match": true}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "mapping: expected prooftrail.mapping/1"},
		{"mapping: x/2", "mapping: expected prooftrail.mapping/1"},
		{head + "evnt: {}", "mapping: yaml: unmarshal errors:\n  line 2: field evnt not found in type mapping.file"},
		{head + "---\n" + head, "mapping: expected one YAML document"},
		{head, "event.action: expected an expression: every event has one"},
		{head + "each: item.x", "each: expected the path of an array, such as body.items"},
		{head + "each: body.", "each: expected the path of an array, such as body.items"},
		{head + "headers: [X, Authorization]", "headers.1: expected the name of a header that holds no credential"},
		{head + "headers: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17]", "headers: expected at most 16"},
		{head + "when: '1 + 1'", "when: expected an expression that is true or false, not int"},
		{head + "when: body.", "when: expected an expression of CEL; character 6: Syntax error: no viable alternative at input '.'"},
		{minimal("  job: {id: other}\n"), "event.job.id: expected an expression of CEL; character 1: undeclared reference to 'other'"},
		{minimal("  job: {id: 'body.map(a, body.map(b, body.map(c, c)))'}\n"), "event.job.id: expected an expression of CEL; character 33: comprehension exceeds nesting limit"},
		{minimal("  job: {id: 'body.x.matches(\"[\")'}\n"), "event.job.id: expected an expression of CEL; character 15: undeclared reference to 'matches' (did you mean 'match'?)"},
		{minimal("  job: {id: '" + strings.Repeat("1+", 4096) + "1'}\n"), "event.job.id: expected an expression of CEL; character 0: expression code point size exceeds limit: size: 8193, limit 4096"},
		{minimal("  job: {names: body.x}\n"), "event.job.names: expected no such member: a mapping sets the members of docs/spec/event.md but schema, source, tenant, received_at, ingest"},
		{minimal("  job: body.job\n"), "event.job: expected an object of command_sha256, duration_ms, exit_code, id, name, node, run_id, schedule, scheduled_for, trigger, tz"},
		{minimal("  source: body.x\n"), "event.source: expected no such member: a mapping sets the members of docs/spec/event.md but schema, source, tenant, received_at, ingest"},
		{minimal("  time: [body.x]\n"), "event.time: expected an expression, as a text"},
		{minimal("  details: body\n"), "event.details: expected names with an expression each"},
		{minimal("  details: {a: {b: body}}\n"), "event.details.a: expected no such member: a mapping sets the members of docs/spec/event.md but schema, source, tenant, received_at, ingest"},
		{strings.Replace(minimal(""), "[{type", "{type", 1), "mapping: yaml"},
		{strings.Replace(minimal(""), "target: [{type: '\"t\"', id: 'item.id'}]", "target: body.x", 1), "event.target: expected a list of targets, each with type, id and name"},
		{strings.Replace(minimal(""), "target: [{type: '\"t\"', id: 'item.id'}]", "target: []", 1), "event.target: expected 1 to 32 targets"},
		{strings.Replace(minimal(""), "target: [{type: '\"t\"', id: 'item.id'}]", "target: [body.x]", 1), "event.target.0: expected an object of id, name, type"},
		{head + "#" + strings.Repeat("x", mapping.MaxFileBytes), "mapping: expected at most 65536 bytes"},
	} {
		_, err := mapping.Parse([]byte(c.text))
		if err == nil || err.Error() != c.want && (c.want != "mapping: yaml" || !strings.HasPrefix(err.Error(), c.want)) {
			t.Errorf("%.200s\n got %v\nwant %s", c.text, err, c.want)
		}
	}
}

// TestItemRefused: what is wrong with an item names the member, and repeats nothing of the item.
func TestItemRefused(t *testing.T) {
	for _, c := range []struct{ more, body, want string }{
		{"  job: {id: item.job.id}\n", `{"id":"i"}`, "event.job.id: expected an item that has what the expression reads (a member that may not be there is read as .?name)"},
		{"  job: {id: int(item.id)}\n", `{"id":"secret"}`, "event.job.id: expected an expression that doesn't fail on this item"},
		{"  job: {id: item.id}\n", `{"id":{"a":1}}`, "event.job.id: expected a text"},
		{"  job: {id: '\"j\"', exit_code: item.id}\n", `{"id":"secret"}`, "event.job.exit_code: expected an integer"},
		{"  job: {id: '\"j\"', exit_code: item.n}\n", `{"id":"i","n":1.5}`, "event.job.exit_code: expected an integer"},
		{"  time: item.n\n", `{"id":"i","n":5}`, "event.time: expected a time: a timestamp, or a text of RFC 3339"},
		{"  time: millis(item.n)\n", `{"id":"i","n":5}`, "event.time: expected an expression that doesn't fail on this item"},
		{"  time: item.id\n", `{"id":"soon"}`, "/time: format: expected a time of RFC 3339 from 1970 to 9999, T and Z in upper case, at most 9 digits of a second"},
		{"  change: {patch: 'item.id'}\n", `{"id":"i"}`, "/change/patch: type: expected an array of operations of JSON Patch, RFC 6902"},
		{"  labels: {a: type(item)}\n", `{"id":"i"}`, "event.labels.a: expected a value of JSON, and no more than an event can hold"},
		{"", `{"id":""}`, "/target: missing: expected 1 to 32 targets"},
	} {
		items, err := parse(t, minimal(c.more)).Translate(request(c.body))
		if err != nil || len(items) != 1 || items[0].Err == nil || items[0].Err.Error() != c.want {
			t.Errorf("%s on %s\n got %v, %+v\nwant %s", c.more, c.body, err, items, c.want)
		}
	}
	var e *mapping.EvalError
	items, err := parse(t, minimal("  job: {id: int(item.id)}\n")).Translate(request(`{"id":"secret"}`))
	if err != nil || !errors.As(items[0].Err, &e) || !strings.Contains(e.Cause.Error(), "conversion") {
		t.Errorf("the cause: %v, %+v", err, items)
	}
	if items, err := parse(t, minimal("")).Translate(request(` {"id":1,"id":2}`)); err != nil || len(items) != 1 || string(items[0].Raw) != `{"id":1,"id":2}` ||
		items[0].Err == nil || items[0].Err.Error() != "/id: expected each name once in an object" {
		t.Errorf("a body that can't be read: %v, %v", err, items)
	}
	if _, err := parse(t, minimal("")).Translate(request(`"` + strings.Repeat("x", 1<<20) + `"`)); err == nil || err.Error() != "(whole): expected at most 1048576 bytes" {
		t.Errorf("a body that is too large: %v", err)
	}
}

// TestBounded: neither what an expression costs nor what it yields is without end, whatever the item.
func TestBounded(t *testing.T) {
	list := "[" + strings.Repeat("1000000,", 99_999) + "1]"
	text := `"` + strings.Repeat("a", 900_000) + `"`
	for _, c := range []struct{ expression, body, want string }{
		{"item.l.map(a, item.l.map(b, a + b))", `{"id":"i","l":` + list + `}`, "expected an expression that is done sooner with this item"},
		{"item.l.exists(a, item.l.exists(b, a + b < 0))", `{"id":"i","l":` + list + `}`, "expected an expression that is done sooner with this item"},
		{"[1,2,3,4,5,6,7,8,9,10].map(x, item.t + item.t + item.t + item.t)", `{"id":"i","t":` + text + `}`, "expected an expression that is done sooner with this item"},
		{"item.l", `{"id":"i","l":` + list + `}`, "expected a value of JSON, and no more than an event can hold"},
		{"json(item.l)", `{"id":"i","l":` + list + `}`, "expected an expression that doesn't fail on this item"},
		{"match(item.t, '(a+)+$')", `{"id":"i","t":` + text + `}`, "expected an expression that doesn't fail on this item"},
		{"match(clip(item.t, 4000), '(a+)+…$')", `{"id":"i","t":` + text + `}`, ""},
		{"match(item.id, '((a{100}){100}){100}')", `{"id":"i"}`, "expected an expression that doesn't fail on this item"},
		{"match(item.id, item.p)", `{"id":"i","p":"("}`, "expected an expression that doesn't fail on this item"},
		{"item.l.map(a, a in item.l)", `{"id":"i","l":` + list + `}`, "expected an expression that is done sooner with this item"},
		{"item.l.map(a, item.l == item.l)", `{"id":"i","l":` + list + `}`, "expected an expression that is done sooner with this item"},
		{"[1,2,3,4].map(a, [1,2,3,4,5,6,7].map(b, match(clip(item.t, 4000), '(a?){300}a{300}b')))", `{"id":"i","t":` + text + `}`, "expected an expression that is done sooner with this item"},
		{"[" + strings.Repeat("item.t+", 40) + "item.t]", `{"id":"i","t":` + text + `}`, "expected an expression that is done sooner with this item"},
	} {
		begun := time.Now()
		items, err := parse(t, minimal("  details: {x: '"+strings.ReplaceAll(c.expression, "'", "''")+"'}\n")).Translate(request(c.body))
		if err != nil || len(items) != 1 {
			t.Fatalf("%s: %v", c.expression, err)
		}
		switch got := items[0].Err; {
		case c.want == "" && got == nil:
		case got == nil || !strings.HasSuffix(got.Error(), c.want) || c.want == "":
			t.Errorf("%s: %v, want %s", c.expression, got, c.want)
		}
		if took := time.Since(begun); took > time.Minute {
			t.Errorf("%s took %v", c.expression, took)
		}
	}
}

// TestConcurrent: a mapping is used by many requests at a time.
func TestConcurrent(t *testing.T) {
	m := ready(t, "ready:rundeck")
	body := sample(t, "rundeck.json")
	want := one(t, m, body)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				items, err := m.Translate(request(body))
				if err != nil || len(items) != 1 || !reflect.DeepEqual(items[0].Event, want) {
					t.Errorf("%v, %+v", err, items)
				}
			}
		})
	}
	wg.Wait()
}

// FuzzTranslate: no body makes a ready mapping panic, and each item alone makes what it made in its request.
func FuzzTranslate(f *testing.F) {
	var all []*mapping.Mapping
	for _, name := range mapping.Ready() {
		text, _ := mapping.ReadyFile(name)
		m, err := mapping.Parse(text)
		if err != nil {
			f.Fatalf("%s: %v", name, err)
		}
		all = append(all, m)
	}
	each, err := mapping.Parse([]byte(strings.Replace(minimal("  details: {x: item, y: body}\n"), head, head+"each: body.a\n", 1)))
	if err != nil {
		f.Fatal(err)
	}
	all = append(all, each)
	for _, name := range []string{"rundeck.json", "rundeck-plugin.json", "cronjobpro-help.json", "cronjobpro-docs.json"} {
		b, err := os.ReadFile("testdata/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"a":[{"id":"x"},{"id":1.5,"":null},[]]}`))
	f.Add([]byte(`{"event":"finish","job":"j","node":"n","reporting_node":"r","success":true,"started_at":"2026-11-27T10:00:00Z","finished_at":"2026-11-27T10:00:01Z"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, m := range all {
			items, err := m.Translate(request(string(body)))
			if err != nil {
				continue
			}
			for _, it := range items {
				alone, err := m.Translate(request(string(it.Raw)))
				if err != nil || len(alone) != 1 || (alone[0].Err == nil) != (it.Err == nil) || it.Err == nil && !reflect.DeepEqual(alone[0].Event, it.Event) {
					t.Fatalf("%s alone: %v, %+v\nwant %+v", it.Raw, err, alone, it)
				}
			}
		}
	})
}

// FuzzParse: no mapping file makes the compiler panic, and one that is taken survives an item.
func FuzzParse(f *testing.F) {
	f.Add([]byte(minimal("  job: {id: item.id}\n")))
	f.Add([]byte(strings.Replace(minimal(""), head, head+"each: body.a\nwhen: item.?x.hasValue()\nheaders: [X]\n", 1)))
	for _, name := range mapping.Ready() {
		text, _ := mapping.ReadyFile(name)
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := mapping.Parse(text)
		if err != nil {
			return
		}
		if _, err := m.Translate(request(`{"id":"i","a":[1,{"x":2}]}`)); err != nil && err.Error() == "" {
			t.Fatal(fmt.Errorf("an error that says nothing: %w", err))
		}
	})
}

// TestElementsBesideMuch: what stands beside the array of each isn't converted again for every element.
func TestElementsBesideMuch(t *testing.T) {
	m, err := mapping.Parse([]byte("mapping: prooftrail.mapping/1\neach: body.runs\nevent:\n  action: '\"x.started\"'\n  outcome: '\"success\"'\n" +
		"  actor: {type: '\"service\"', id: item.id}\n  target: [{type: '\"job\"', id: 'body.runs[0].id'}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	body := `{"runs":[` + strings.Repeat(`{"id":"a"},`, 9) + `{"id":"b"}],"beside":[` + strings.Repeat(`{"a":0},`, 80_000) + `0]}`
	r := &ingest.Request{Header: http.Header{}, Query: url.Values{}, Body: []byte(body), Source: "urn:a", Received: time.Now(), ID: func(...string) string { return "id" }}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	items, err := m.Translate(r)
	runtime.ReadMemStats(&after)
	if err != nil || len(items) != 10 || items[0].Err != nil || items[9].Event.Target[0].ID != "b" {
		t.Fatalf("%d items, %v, %v", len(items), err, items[0].Err)
	}
	if got := after.TotalAlloc - before.TotalAlloc; got > 240<<20 {
		t.Errorf("%d MiB allocated", got>>20)
	}
}
