package otlp_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/prooftrail/prooftrail/personality/ingest"
	"github.com/prooftrail/prooftrail/personality/ingest/foreign"
	"github.com/prooftrail/prooftrail/personality/ingest/otlp"
	"github.com/prooftrail/prooftrail/verifier/event"
)

const (
	protobufType = "application/x-protobuf"
	jsonType     = "application/json"
)

var received = time.Date(2026, 11, 27, 10, 0, 0, 0, time.UTC)

func request(contentType string, body []byte) *ingest.Request {
	return &ingest.Request{Header: http.Header{"Content-Type": {contentType}}, Query: url.Values{}, Body: body, Received: received,
		ID: func(parts ...string) string {
			sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
			return hex.EncodeToString(sum[:16])
		}}
}

func translate(t *testing.T, r *ingest.Request) []ingest.Item {
	t.Helper()
	items, err := otlp.Adapter{}.Translate(r)
	if err != nil {
		t.Fatal(err)
	}
	return items
}

// one is the event of a record that the log takes.
func one(t *testing.T, item ingest.Item) event.Event {
	t.Helper()
	if item.Err != nil || item.Skip {
		t.Fatalf("err %v, skip %v", item.Err, item.Skip)
	}
	if _, err := item.Event.Fields(); err != nil {
		t.Fatalf("the log refuses it: %v\n%+v", err, item.Event)
	}
	return item.Event
}

// export is what a scheduler's SDK sends in JSON.
const export = `{"resourceLogs":[{
  "resource":{"attributes":[
    {"key":"service.name","value":{"stringValue":"cron d"}},
    {"key":"service.namespace","value":{"stringValue":"ops"}},
    {"key":"service.instance.id","value":{"stringValue":"7f"}},
    {"key":"host.name","value":{"stringValue":"node1"}}]},
  "scopeLogs":[{"scope":{"name":"cron","version":"1.2"},"logRecords":[
    {"timeUnixNano":"1795773600000000005","severityNumber":9,"severityText":"Information","eventName":"job.delete",
     "traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"EEE19B7EC3C1B174",
     "body":{"kvlistValue":{"values":[{"key":"a","value":{"arrayValue":{"values":[{"intValue":"9007199254740993"},{"doubleValue":0.5},{},{"boolValue":true},{"bytesValue":"aGk="}]}}}]}},
     "attributes":[
      {"key":"prooftrail.id","value":{"stringValue":"01J"}},
      {"key":"prooftrail.outcome","value":{"stringValue":"success"}},
      {"key":"prooftrail.seq","value":{"intValue":"7"}},
      {"key":"prooftrail.job.id","value":{"stringValue":"j1"}},
      {"key":"prooftrail.job.name","value":{"stringValue":"nightly"}},
      {"key":"prooftrail.job.exit_code","value":{"intValue":3}},
      {"key":"prooftrail.job.scheduled_for","value":{"stringValue":"2026-11-27T09:00:00Z"}},
      {"key":"enduser.id","value":{"stringValue":"u1"}},
      {"key":"session.id","value":{"stringValue":"s1"}},
      {"key":"client.address","value":{"stringValue":"192.0.2.7"}},
      {"key":"client.port","value":{"intValue":"4711"}},
      {"key":"user_agent.original","value":{"stringValue":"curl/8"}},
      {"key":"http.route","value":{"stringValue":"/jobs/{id}"}}]},
    {"observedTimeUnixNano":"1795773600000000000","severityNumber":17,"eventName":"scheduler stopped","body":{"stringValue":"gone"}},
    {"body":{"stringValue":"just a line"}},
    {"eventName":"x.y","attributes":[{"key":"prooftrail.jobid","value":{"stringValue":"j1"}}]}
  ]}]}]}`

func TestJSON(t *testing.T) {
	items := translate(t, request(jsonType, []byte(export)))
	if len(items) != 4 {
		t.Fatalf("%d items", len(items))
	}
	code := int64(3)
	want := event.Event{
		ID: "01J", Source: "otel:ops/cron%20d/7f", Seq: "7", Time: time.Unix(0, 1795773600000000005).UTC(),
		Action: "job.delete", Outcome: "success", Actor: event.Actor{Type: "user", ID: "u1", SessionID: "s1"},
		Origin: &event.Origin{IP: "192.0.2.7", Port: 4711, UserAgent: "curl/8", Host: "node1", TraceID: "5b8efff798038103d269b633813fc60c"},
		Target: []event.Target{{Type: "job", ID: "j1", Name: "nightly"}},
		Job:    &event.Job{ID: "j1", Name: "nightly", ExitCode: &code, ScheduledFor: time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC)},
		Details: map[string]any{
			"body":       map[string]any{"a": []any{"9007199254740993", "0.5", true, "aGk="}},
			"severity":   "Information",
			"scope":      "cron 1.2",
			"attributes": map[string]any{"http.route": "/jobs/{id}"},
			"resource": map[string]any{"service.name": "cron d", "service.namespace": "ops", "service.instance.id": "7f",
				"host.name": "node1"},
		},
	}
	if got := one(t, items[0]); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	stopped := one(t, items[1])
	if stopped.Action != "otel.scheduler_stopped" || stopped.Outcome != "failure" || stopped.Reason.Code != "error" ||
		stopped.Actor != (event.Actor{Type: "service", ID: "cron d"}) || stopped.Target[0] != (event.Target{Type: "service", ID: "cron d"}) ||
		!stopped.Time.Equal(time.Unix(1795773600, 0)) || len(stopped.ID) != 32 {
		t.Errorf("got %+v", stopped)
	}
	for i, want := range map[int]string{
		2: "attributes.prooftrail.action: expected an action, or an event name that says what was done: the record has neither",
		3: "attributes.prooftrail.jobid: expected a text under one of the names that the adapter knows",
	} {
		if items[i].Err == nil || items[i].Err.Error() != want {
			t.Errorf("item %d: %v", i, items[i].Err)
		}
	}
	if !items[2].Untimed || items[1].Untimed {
		t.Errorf("untimed: %v, %v", items[2].Untimed, items[1].Untimed)
	}
}

// TestEncodings: both encodings make the same events, but for ids that are made of the bytes; and an item
// alone makes what it made in its request.
func TestEncodings(t *testing.T) {
	fromJSON := plogotlp.NewExportRequest()
	if err := fromJSON.UnmarshalJSON([]byte(export)); err != nil {
		t.Fatal(err)
	}
	binary, err := fromJSON.MarshalProto()
	if err != nil {
		t.Fatal(err)
	}
	a, b := translate(t, request(jsonType, []byte(export))), translate(t, request(protobufType, binary))
	for i := range a {
		a[i].Event.ID, b[i].Event.ID = "", ""
		if !reflect.DeepEqual(a[i].Event, b[i].Event) || (a[i].Err == nil) != (b[i].Err == nil) {
			t.Errorf("item %d: %+v, %v\nin protobuf %+v, %v", i, a[i].Event, a[i].Err, b[i].Event, b[i].Err)
		}
	}
	for _, r := range []*ingest.Request{request(jsonType, []byte(export)), request(protobufType, binary)} {
		for i, it := range translate(t, r) {
			again := request("", it.Raw)
			again.Header = it.Header
			alone := translate(t, again)
			if len(alone) != 1 || !reflect.DeepEqual(alone[0].Event, it.Event) || !bytes.Equal(alone[0].Raw, it.Raw) {
				t.Errorf("item %d alone: %+v, want %+v", i, alone, it)
			}
		}
	}
}

func TestUnmapped(t *testing.T) {
	r := request(jsonType, []byte(export))
	r.Query.Set("unmapped", "skip")
	if items := translate(t, r); !items[2].Skip || items[2].Err != nil || items[3].Skip {
		t.Errorf("items %+v", items)
	}
	r.Query.Set("unmapped", "drop")
	if _, err := (otlp.Adapter{}).Translate(r); err == nil || err.Error() != "unmapped: expected quarantine or skip" {
		t.Errorf("unmapped=drop: %v", err)
	}
}

// record is a request with one record.
func record(t testing.TB, set func(resource pcommon.Map, r plog.LogRecord)) []byte {
	t.Helper()
	l := plog.NewLogs()
	rl := l.ResourceLogs().AppendEmpty()
	set(rl.Resource().Attributes(), rl.ScopeLogs().AppendEmpty().LogRecords().AppendEmpty())
	b, err := plogotlp.NewExportRequestFromLogs(l).MarshalProto()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSource(t *testing.T) {
	make := func(own, resource, service string) []byte {
		return record(t, func(res pcommon.Map, r plog.LogRecord) {
			r.SetEventName("a.b")
			for name, v := range map[string]string{"prooftrail.source": resource, "service.name": service} {
				if v != "" {
					res.PutStr(name, v)
				}
			}
			if own != "" {
				r.Attributes().PutStr("prooftrail.source", own)
			}
		})
	}
	for _, c := range []struct{ own, resource, service, request, want string }{
		{"urn:own", "urn:resource", "s", "urn:request", "urn:own"},
		{"", "urn:resource", "s", "urn:request", "urn:resource"},
		{"", "", "s", "urn:request", "urn:request"},
		{"", "", "s", "", "otel:s"},
	} {
		r := request(protobufType, make(c.own, c.resource, c.service))
		r.Source = c.request
		if got := one(t, translate(t, r)[0]).Source; got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
	items := translate(t, request(protobufType, make("", "", "")))
	if items[0].Err == nil || items[0].Err.Error() != "resource.attributes.service.name: expected the name of a service, or the parameter source" {
		t.Errorf("without any: %v", items[0].Err)
	}
}

func TestRefuses(t *testing.T) {
	for _, c := range []struct {
		want string
		set  func(res pcommon.Map, r plog.LogRecord)
	}{
		{"attributes.k: expected UTF-8", func(_ pcommon.Map, r plog.LogRecord) { r.Attributes().PutStr("k", "\xff") }},
		{"attributes.\ufffd: expected each key once, in UTF-8", func(_ pcommon.Map, r plog.LogRecord) { r.Attributes().PutStr("\xff", "") }},
		{"body.0.k: expected UTF-8", func(_ pcommon.Map, r plog.LogRecord) {
			r.SetEventName("a.b")
			r.Body().SetEmptySlice().AppendEmpty().SetEmptyMap().PutStr("k", "\xff")
		}},
		{"resource.attributes.k: expected UTF-8", func(res pcommon.Map, _ plog.LogRecord) { res.PutStr("k", "\xff") }},
		{"attributes.prooftrail.job.exit_code: expected an integer", func(_ pcommon.Map, r plog.LogRecord) {
			r.SetEventName("a.b")
			r.Attributes().PutStr("prooftrail.job.exit_code", "one")
		}},
		{"attributes.prooftrail.job.scheduled_for: expected a time of RFC 3339", func(_ pcommon.Map, r plog.LogRecord) {
			r.SetEventName("a.b")
			r.Attributes().PutStr("prooftrail.job.scheduled_for", "soon")
			r.Attributes().PutStr("prooftrail.job.id", "j")
		}},
		{"attributes.prooftrail.job.id: expected the job's id", func(_ pcommon.Map, r plog.LogRecord) {
			r.SetEventName("a.b")
			r.Attributes().PutStr("prooftrail.job.name", "j")
		}},
	} {
		items := translate(t, request(protobufType, record(t, func(res pcommon.Map, r plog.LogRecord) {
			res.PutStr("service.name", "s")
			c.set(res, r)
		})))
		if len(items) != 1 || items[0].Err == nil || items[0].Err.Error() != c.want {
			t.Errorf("%v, want %s", items, c.want)
		}
	}
	twice := `{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"eventName":"a.b","attributes":[{"key":"k","value":{"intValue":1}},{"key":"k"}]}]}]}]}`
	if items := translate(t, request(jsonType, []byte(twice))); items[0].Err == nil || items[0].Err.Error() != "attributes.k: expected each key once, in UTF-8" {
		t.Errorf("a key twice: %v", items[0].Err)
	}
}

// TestRefusesWhole: among them what would become much in memory.
func TestRefusesWhole(t *testing.T) {
	field := func(n protowire.Number, inner []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, n, protowire.BytesType), inner)
	}
	empty := func(n int) []byte { return field(1, field(2, bytes.Repeat(field(2, nil), n))) }
	records := func(n int) []byte { return field(1, field(2, bytes.Repeat(field(2, field(3, []byte("INFO"))), n))) }
	deep := []byte{}
	for range foreign.MaxDepth {
		deep = field(5, field(1, deep))
	}
	big := plog.NewLogs()
	rl := big.ResourceLogs().AppendEmpty()
	rl.Resource().Attributes().PutStr("k", strings.Repeat("x", 1<<20))
	for range 33 {
		rl.ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
	}
	bigBody, err := plogotlp.NewExportRequestFromLogs(big).MarshalProto()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		kind string
		body []byte
		want string
	}{
		{"text/plain", nil, "Content-Type: expected application/x-protobuf or application/json"},
		{jsonType, []byte(`{"resourceLogs":[{"":1,"scopeLogs":[]}]}`), "/resourceLogs/0/: expected a member's name that isn't empty"},
		{jsonType, []byte(`{"resourceLogs":[],"resourceLogs":[]}`), "/resourceLogs: expected each name once in an object"},
		{jsonType, []byte(`{"resourceLogs":5}`), `(whole): expected an ExportLogsServiceRequest in JSON, such as {"resourceLogs":[…]}`},
		{jsonType, []byte(`{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"traceId":"zz"}]}]}]}`), `(whole): expected an ExportLogsServiceRequest in JSON, such as {"resourceLogs":[…]}`},
		{protobufType, []byte("\xff"), "(whole): expected an ExportLogsServiceRequest in protobuf"},
		{protobufType, []byte{0x0a, 5, 0}, "(whole): expected an ExportLogsServiceRequest in protobuf"},
		{protobufType, empty(ingest.MaxItems), "(whole): expected fewer attributes and records in one request"},
		{protobufType, records(1_000_000), "(whole): expected fewer attributes and records in one request"},
		{protobufType, records(ingest.MaxItems + 1), "it has more than 10000 items"},
		{protobufType, field(1, field(2, field(2, field(5, deep)))), "(whole): expected messages nested at most 64 deep"},
		{protobufType, bigBody, "(whole): expected at most 33554432 bytes, each record counted with its resource; send fewer in one request"},
	} {
		if _, err := (otlp.Adapter{}).Translate(request(c.kind, c.body)); err == nil || err.Error() != c.want {
			t.Errorf("%s %.60q: %v\nwant %s", c.kind, c.body, err, c.want)
		}
	}
	if items := translate(t, request(protobufType, records(ingest.MaxItems))); len(items) != ingest.MaxItems {
		t.Errorf("%d items", len(items))
	}
	if items := translate(t, request(protobufType, nil)); len(items) != 0 {
		t.Errorf("of nothing: %v", items)
	}
}

func TestAnswer(t *testing.T) {
	all := []ingest.Result{{Status: ingest.Accepted}, {Status: ingest.Duplicate}, {Status: ingest.Skipped}}
	some := append(all, ingest.Result{Status: ingest.Quarantined, Reason: "attributes.k: expected UTF-8"}, ingest.Result{Status: ingest.Conflict},
		ingest.Result{Status: ingest.Rejected})
	for _, kind := range []string{jsonType, protobufType} {
		for rejected, results := range map[int64][]ingest.Result{0: all, 3: some} {
			a := otlp.Adapter{}.Answer(request(kind, nil), results)
			response := plogotlp.NewExportResponse()
			unmarshal := response.UnmarshalProto
			if kind == jsonType {
				unmarshal = response.UnmarshalJSON
			}
			if err := unmarshal(a.Body); err != nil || a.Status != 200 || a.ContentType != kind {
				t.Errorf("%+v: %v", a, err)
			}
			ps := response.PartialSuccess()
			if ps.RejectedLogRecords() != rejected || rejected > 0 &&
				ps.ErrorMessage() != "kept in the quarantine; the first of them quarantined: attributes.k: expected UTF-8" {
				t.Errorf("rejected %d: %s", ps.RejectedLogRecords(), ps.ErrorMessage())
			}
		}
	}
}

// FuzzTranslate: no body makes the adapter panic, and each item alone makes what it made in its request.
func FuzzTranslate(f *testing.F) {
	f.Add(true, []byte(export))
	f.Add(true, []byte(`{"resourceLogs":[{"resource":null,"scopeLogs":[{"logRecords":[{"attributes":[{"key":"prooftrail.action","value":{}}]}]}]}]}`))
	fromJSON := plogotlp.NewExportRequest()
	if err := fromJSON.UnmarshalJSON([]byte(export)); err != nil {
		f.Fatal(err)
	}
	binary, err := fromJSON.MarshalProto()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(false, binary)
	f.Fuzz(func(t *testing.T, inJSON bool, body []byte) {
		kind := protobufType
		if inJSON {
			kind = jsonType
		}
		items, err := otlp.Adapter{}.Translate(request(kind, body))
		if err != nil {
			return
		}
		for _, it := range items {
			alone, err := otlp.Adapter{}.Translate(request(kind, it.Raw))
			if err != nil || len(alone) != 1 || (alone[0].Err == nil) != (it.Err == nil) {
				t.Fatalf("%q alone: %v, %+v, want %+v", it.Raw, err, alone, it)
			}
			if it.Err == nil && !reflect.DeepEqual(alone[0].Event, it.Event) {
				t.Fatalf("%q alone: %+v, want %+v", it.Raw, alone[0].Event, it.Event)
			}
		}
	})
}
