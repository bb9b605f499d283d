package cloudevents_test

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/personality/ingest"
	"github.com/prooftrail/prooftrail/personality/ingest/cloudevents"
	"github.com/prooftrail/prooftrail/verifier/event"
)

var received = time.Date(2026, 11, 27, 10, 0, 0, 0, time.UTC)

// request is one whose ids are hashes of their parts.
func request(contentType, body string, header ...string) *ingest.Request {
	h := http.Header{}
	if contentType != "" {
		h.Set("Content-Type", contentType)
	}
	for i := 0; i < len(header); i += 2 {
		h.Add(header[i], header[i+1])
	}
	return &ingest.Request{Header: h, Body: []byte(body), Received: received, ID: func(parts ...string) string {
		sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
		return hex.EncodeToString(sum[:16])
	}}
}

func translate(t *testing.T, r *ingest.Request) []ingest.Item {
	t.Helper()
	items, err := cloudevents.Adapter{}.Translate(r)
	if err != nil {
		t.Fatal(err)
	}
	return items
}

// one translates a request with one CloudEvent, whose event has to be one that the log takes.
func one(t *testing.T, r *ingest.Request) event.Event {
	t.Helper()
	items := translate(t, r)
	if len(items) != 1 || items[0].Err != nil {
		t.Fatalf("%d items, %v", len(items), items)
	}
	if _, err := items[0].Event.Fields(); err != nil {
		t.Fatalf("the log refuses it: %v\n%+v", err, items[0].Event)
	}
	return items[0].Event
}

const structured = "application/cloudevents+json; charset=UTF-8"

const pullRequest = `{
    "specversion" : "1.0",
    "type" : "com.github.pull_request.opened",
    "source" : "https://github.com/cloudevents/spec/pull",
    "subject" : "123",
    "id" : "A234-1234-1234",
    "time" : "2018-04-05T17:31:00Z",
    "comexampleextension1" : "value",
    "comexampleothervalue" : 5,
    "unsetextension" : null,
    "authtype": "user", "authid": "octocat",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "datacontenttype" : "application/json",
    "data" : {"title": "fix", "score": 0.5, "merged": null}
}`

func TestStructured(t *testing.T) {
	got := one(t, request(structured, pullRequest))
	want := event.Event{
		ID: "A234-1234-1234", Source: "https://github.com/cloudevents/spec/pull", Time: time.Date(2018, 4, 5, 17, 31, 0, 0, time.UTC),
		Action: "com.github.pull_request.opened", Outcome: "unknown", Reason: &event.Reason{Code: "unstated"},
		Actor:  event.Actor{Type: "user", ID: "octocat", AuthMethod: "user"},
		Origin: &event.Origin{TraceID: "0af7651916cd43dd8448eb211c80319c"},
		Target: []event.Target{{Type: "resource", ID: "123"}},
		Details: map[string]any{
			"cloudevent": map[string]any{
				"specversion": "1.0", "type": "com.github.pull_request.opened", "source": "https://github.com/cloudevents/spec/pull",
				"subject": "123", "id": "A234-1234-1234", "time": "2018-04-05T17:31:00Z", "comexampleextension1": "value",
				"comexampleothervalue": int64(5), "authtype": "user", "authid": "octocat",
				"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "datacontenttype": "application/json",
			},
			"data": map[string]any{"title": "fix", "score": "0.5"},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestBinary(t *testing.T) {
	r := request("text/plain", "plain ☺", "ce-specversion", "1.0", "ce-type", "run.finish", "ce-source", "urn:cron:a",
		"ce-id", "1", "ce-subject", "nightly%20%E2%82%AC%22", "ce-prooftrailoutcome", "failure", "ce-prooftrailreason", `"exit \"1\""`)
	got := one(t, r)
	if got.Action != "run.finish" || got.Job == nil || got.Job.ID != `nightly €"` || got.Outcome != "failure" || got.Reason.Code != "exit__1_" ||
		got.Time != received || got.Actor.ID != "urn:cron:a" || got.Details["data_base64"] != nil || got.Details["data_text"] != "plain ☺" {
		t.Errorf("got %+v", got)
	}
	// The item stands for itself: translated again, without the headers, it makes the same event.
	raw := translate(t, r)[0].Raw
	if items := translate(t, r); !items[0].Untimed || items[0].Header.Get("Content-Type") != "application/cloudevents+json" {
		t.Errorf("item %+v", items[0])
	}
	if again := one(t, request("application/cloudevents+json", string(raw))); !reflect.DeepEqual(again, got) {
		t.Errorf("from %s\ngot %+v\nwant %+v", raw, again, got)
	}
	// What isn't percent-encoded properly stands for itself.
	if got := one(t, request("", "", "ce-specversion", "1.0", "ce-type", "a.b", "ce-source", "urn:a", "ce-id", "100%")); got.ID != "100%" {
		t.Errorf("id %q", got.ID)
	}
}

func TestBatch(t *testing.T) {
	body := `[` + pullRequest + `,
		{"specversion":"1.0","type":"a.b","source":"urn:a"},
		{"specversion":"1.0","type":"a.b","source":"urn:a","id":"1","id":"2"},
		{"specversion":"1.0","type":"job.update","source":"urn:a","id":"3","subject":"j","data":{"x":1},"prooftrailoutcome":"success"}]`
	items := translate(t, request("application/cloudevents-batch+json", body))
	if len(items) != 4 {
		t.Fatalf("%d items", len(items))
	}
	for i, want := range []string{"", "/id: expected a string that isn't empty", "/id: expected each name once in an object", ""} {
		if got := items[i].Err; (got == nil) != (want == "") || got != nil && got.Error() != want {
			t.Errorf("item %d: %v, want %s", i, got, want)
		}
	}
	if string(items[0].Raw) != pullRequest {
		t.Errorf("raw %s", items[0].Raw)
	}
	if f, err := items[3].Event.Fields(); err != nil {
		t.Errorf("an update: %v", err)
	} else if v, _ := f.Get("/change/patch"); string(v) != `[{"op":"replace","path":"","value":{"data":{"x":1}}}]` {
		t.Errorf("change %s", v)
	}
	if items := translate(t, request("application/cloudevents-batch+json", "[]")); len(items) != 0 {
		t.Errorf("of an empty batch: %v", items)
	}
}

const native = `{"schema":"prooftrail.event/1","id":"01J","source":"cron://a","time":"2026-11-27T09:00:00.5Z","action":"job.delete",
	"outcome":"success","actor":{"type":"user","id":"u1"},"target":[{"type":"job","id":"j"}],"job":{"id":"j"},"details":{"n":9007199254740991}}`

func TestNative(t *testing.T) {
	wrap := func(id, source, data string) string {
		return `{"specversion":"1.0","type":"com.prooftrail.event.v1","id":"` + id + `","source":"` + source + `",` + data + `}`
	}
	direct, err := event.Parse([]byte(native))
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range []string{`"data":` + native, `"datacontenttype":"application/json","data":` + native} {
		e := one(t, request(structured, wrap("01J", "cron://a", data)))
		fields, err := e.Fields()
		if err != nil || !reflect.DeepEqual(fields, direct) {
			t.Errorf("%v: got %v, want %v", err, fields, direct)
		}
	}
	binary := request("application/json", native, "ce-specversion", "1.0", "ce-type", cloudevents.NativeType, "ce-id", "01J", "ce-source", "cron://a")
	if fields, err := one(t, binary).Fields(); err != nil || !reflect.DeepEqual(fields, direct) {
		t.Errorf("binary: %v, %v", fields, err)
	}
	for _, c := range []struct{ body, want string }{
		{wrap("other", "cron://a", `"data":`+native), "/id: expected the id of the event in data"},
		{wrap("01J", "cron://b", `"data":`+native), "/source: expected the source of the event in data"},
		{wrap("01J", "cron://a", `"data":{"id":"01J"}`), "/data/schema: expected one of: prooftrail.event/1"},
		{wrap("01J", "cron://a", `"data":`+strings.Replace(native, `"success"`, `"done"`, 1)), "/data/outcome: expected one of: success, failure, denied, attempt, unknown"},
		{wrap("01J", "cron://a", `"data":`+strings.Replace(native, `"id":"01J"`, `"id":"01J","tenant":"x"`, 1)), "/data/tenant: expected no member that the server sets"},
		{wrap("01J", "cron://a", `"datacontenttype":"text/plain","data":"x"`), "/datacontenttype: expected application/json, the type's data being an event"},
		{wrap("01J", "cron://a", `"data_base64":"e30="`), "/data_base64/schema: expected one of: prooftrail.event/1"},
		{wrap("01J", "cron://a", `"data_base64":"ew=="`), "/data_base64: expected a member's name in quotes at byte 1"},
	} {
		if items := translate(t, request(structured, c.body)); items[0].Err == nil || items[0].Err.Error() != c.want {
			t.Errorf("%s\n got %v\nwant %s", c.body, items[0].Err, c.want)
		}
	}
}

// TestSource: a source that is no URI of its own needs the request's, and then ids of one CloudEvents source don't meet
// those of another.
func TestSource(t *testing.T) {
	body := func(source string) string {
		return `{"specversion":"1.0","type":"a.b","id":"1","source":"` + source + `"}`
	}
	const want = "/source: expected a URI with a scheme in lower case, or the parameter source with one"
	for _, source := range []string{"/relative", "sensor", "prooftrail://log"} {
		if items := translate(t, request(structured, body(source))); items[0].Err == nil || items[0].Err.Error() != want {
			t.Errorf("%s: %v", source, items[0].Err)
		}
	}
	ids := map[string]bool{}
	for _, source := range []string{"/a", "/b"} {
		r := request(structured, body(source))
		r.Source = "urn:gateway"
		e := one(t, r)
		if e.Source != "urn:gateway" || e.ID == "1" {
			t.Errorf("%s: source %s, id %s", source, e.Source, e.ID)
		}
		ids[e.ID] = true
	}
	if len(ids) != 2 {
		t.Errorf("ids %v", ids)
	}
}

func TestRefuses(t *testing.T) {
	for _, c := range []struct{ body, want string }{
		{`{"specversion":"0.3","type":"a.b","id":"1","source":"urn:a"}`, `/specversion: expected "1.0"`},
		{`{"specversion":"1.0","type":"a.b","id":1,"source":"urn:a"}`, "/id: expected a string that isn't empty"},
		{`{"specversion":"1.0","type":"a.b","id":"1","source":"urn:a","subject":""}`, "/subject: expected a string that isn't empty"},
		{`{"specversion":"1.0","type":"a.b","id":"1","source":"urn:a","time":"yesterday"}`, "/time: expected a time of RFC 3339"},
		{`{"specversion":"1.0","type":"a.b","id":"1","source":"urn:a","Ext":"x"}`, "/Ext: expected a name of 1 to 128 lower-case letters and digits"},
		{`{"":"x","specversion":"1.0","type":"a.b","id":"1","source":"urn:a"}`, "/: expected a name of 1 to 128 lower-case letters and digits"},
		{`{"specversion":"1.0","type":"a.b","id":"1","source":"urn:a","ext":{"x":1}}`, "/ext: expected a string, true, false or an integer"},
		{`{"specversion":"1.0","type":"a.b","id":"1","source":"urn:a","data_base64":5}`, "/data_base64: expected a string, and no data beside it"},
		{`{"data_base64":5,"specversion":"1.0","type":"a.b","id":"1","source":"urn:a"}`, "/data_base64: expected a string, and no data beside it"},
		{`{"specversion":"1.0","type":"a.b","id":"1","source":"urn:a","data_base64":"","data":1}`, "/data_base64: expected a string, and no data beside it"},
		{`{"specversion":"1.0","type":"a.b","id":"1","source":"urn:a","data_base64":"?"}`, "/data_base64: expected base64 of RFC 4648 section 4"},
		{`{"specversion":"1.0","type":"run.start","id":"1","source":"urn:a"}`, "/subject: expected the id of the job that run.start is about"},
		{`{"specversion":"1.0","type":"...","id":"1","source":"urn:a"}`, "/type: expected a name with a letter or a digit, or an extension prooftrailaction"},
		{`{"specversion":"1.0","type":"a.b","id":"1","source":":"}`, "/source: expected a URI reference"},
		{`[]`, "(whole): expected a JSON object"},
		{`{"specversion":"1.0","type":"a.b","id":"1","source":"urn:a","data":"` + strings.Repeat("x", 1<<20) + `"}`, "(whole): expected at most 1048576 bytes"},
	} {
		if items := translate(t, request(structured, c.body)); items[0].Err == nil || items[0].Err.Error() != c.want {
			t.Errorf("%.200s\n got %v\nwant %s", c.body, items[0].Err, c.want)
		}
	}
}

func TestRefusesWhole(t *testing.T) {
	ce := []string{"ce-specversion", "1.0", "ce-type", "a.b", "ce-source", "urn:a", "ce-id", "1"}
	for _, c := range []struct {
		r    *ingest.Request
		want string
	}{
		{request("application/json", "{}"), "Content-Type: expected application/cloudevents+json, application/cloudevents-batch+json, or attributes in ce-… headers"},
		{request("application/cloudevents+xml", "<a/>"), "Content-Type: expected application/cloudevents+json or application/cloudevents-batch+json; other event formats aren't read"},
		{request("application/cloudevents+json; charset=utf-16", "{}"), "Content-Type: expected charset utf-8"},
		{request("a/b/c", "{}"), "Content-Type: expected a media type"},
		{request("application/cloudevents-batch+json", "{}"), "(whole): expected a JSON array"},
		{request("application/json", "{", ce...), "(whole): expected a member's name in quotes at byte 1"},
		{request("", "", append(ce, "ce-id", "2")...), "Ce-Id: expected one value"},
		{request("", "", append(ce, "ce-data", "2")...), "Ce-Data: expected data in the body and its type in Content-Type"},
		{request("", "", append(ce, "ce-x", "%ff")...), "Ce-X: expected UTF-8, percent-encoded"},
	} {
		if _, err := (cloudevents.Adapter{}).Translate(c.r); err == nil || err.Error() != c.want {
			t.Errorf("%s\n got %v\nwant %s", c.r.Body, err, c.want)
		}
	}
}

// FuzzTranslate: no request makes the adapter panic, and what it takes stands for itself: each item's Raw, with its Header
// alone, makes the same event.
func FuzzTranslate(f *testing.F) {
	f.Add(structured, []byte(pullRequest), "", "")
	f.Add("application/cloudevents-batch+json", []byte("["+pullRequest+",{}]"), "", "")
	f.Add("application/json", []byte(native), cloudevents.NativeType, "01J")
	f.Add("text/plain", []byte("x\xff"), "run.start", `"a\"%41"`)
	f.Fuzz(func(t *testing.T, contentType string, body []byte, kind, id string) {
		r := request(contentType, string(body))
		r.Source = "urn:fuzz"
		if kind != "" {
			r.Header = http.Header{"Ce-Specversion": {"1.0"}, "Ce-Type": {kind}, "Ce-Source": {"cron://a"}, "Ce-Id": {id}, "Content-Type": {contentType}}
		}
		items, err := cloudevents.Adapter{}.Translate(r)
		if err != nil {
			return
		}
		for _, item := range items {
			if item.Err != nil {
				continue
			}
			again := request("", string(item.Raw))
			again.Header = item.Header
			again.Source = r.Source
			replayed, err := cloudevents.Adapter{}.Translate(again)
			if err != nil || len(replayed) != 1 || !reflect.DeepEqual(replayed[0].Event, item.Event) {
				t.Fatalf("%s\nmade %+v\nthen %+v, %v", item.Raw, item.Event, replayed, err)
			}
		}
	})
}
