package ocsf_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/personality/ingest"
	"github.com/prooftrail/prooftrail/personality/ingest/ocsf"
	"github.com/prooftrail/prooftrail/verifier/event"
)

func request(contentType string, body []byte) *ingest.Request {
	h := http.Header{}
	if contentType != "" {
		h.Set("Content-Type", contentType)
	}
	return &ingest.Request{Header: h, Body: body, Received: time.Now(), ID: func(parts ...string) string {
		sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
		return hex.EncodeToString(sum[:16])
	}}
}

func translate(t *testing.T, r *ingest.Request) []ingest.Item {
	t.Helper()
	items, err := ocsf.Adapter{}.Translate(r)
	if err != nil {
		t.Fatal(err)
	}
	return items
}

// samples are one event of each class or two, as the products write them whose samples are in the examples of the OCSF project:
// with null, fractions, "-" for an address, words for numbers.
func samples(t testing.TB) []byte {
	b, err := os.ReadFile("testdata/samples.json")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSamples(t *testing.T) {
	at := time.UnixMilli(1795773600000).UTC()
	want := []event.Event{
		{
			ID: "01JDK7Q6W9", Source: "ocsf:Example/Cron%20Watch", Time: at.Add(123 * time.Millisecond), Action: "job.update", Outcome: "success",
			Actor:  event.Actor{Type: "user", ID: "0", Name: "root", SessionID: "c2"},
			Target: []event.Target{{Type: "job", ID: "cron:root:backup", Name: "backup"}},
			Job:    &event.Job{ID: "cron:root:backup", Name: "backup", Node: "db1.example"},
			Change: &event.Change{
				Patch: []event.Operation{{Op: "replace", Path: "/cmd_line", Value: "/usr/local/bin/backup --incremental"}, {Op: "remove", Path: "/run_state_id"},
					{Op: "add", Path: "/job_actions", Value: []any{map[string]any{"name": "run"}}}},
			},
			Labels: map[string]string{"ocsf.class_uid": "1006", "severity": "Informational"},
		},
		{
			Source: "ocsf:Cron%20Watch", Time: at, Action: "run.start", Outcome: "failure", Reason: &event.Reason{Code: "EXIT_2", Text: "disk full"},
			Actor: event.Actor{Type: "service", ID: "svc-backup", Name: "svc-backup"}, Target: []event.Target{{Type: "job", ID: "backup", Name: "backup"}},
			Job: &event.Job{ID: "backup", Name: "backup"}, Labels: map[string]string{"ocsf.class_uid": "1006"},
		},
		{
			ID: "a8da-1", Source: "ocsf:Okta/Okta%20System%20Log", Time: at, Action: "account.lock", Outcome: "failure",
			Reason: &event.Reason{Code: "Failure", Text: "Max sign in attempts exceeded"},
			Actor:  event.Actor{Type: "user", ID: "u-1", Name: "A", SessionID: "idx1"},
			Origin: &event.Origin{IP: "192.0.2.1", Port: 443, UserAgent: "Mozilla/5.0", RequestID: "req-1", Forwarded: []string{"198.51.100.1", "10.0.0.1"}},
			Target: []event.Target{{Type: "account", ID: "u-1", Name: "A"}}, Labels: map[string]string{"ocsf.class_uid": "3001"},
		},
		{
			ID: "auth-1", Source: "ocsf:Example/IdP", Time: at, Action: "auth.login", Outcome: "success",
			Actor:  event.Actor{Type: "user", ID: "u-2", Name: "B", CredentialID: "c9", AuthMethod: "SAML"},
			Origin: &event.Origin{Host: "laptop7"},
			Target: []event.Target{{Type: "account", ID: "u-2", Name: "B"}, {Type: "service", ID: "sched.example"}},
			Labels: map[string]string{"ocsf.class_uid": "3002"},
		},
		{
			ID: "ent-1", Source: "ocsf:Example/Scheduler", Time: at, Action: "entity.update", Outcome: "success",
			Actor: event.Actor{Type: "service", ID: "terraform"}, Target: []event.Target{{Type: "Schedule", ID: "e-1", Name: "nightly"}},
			Change: &event.Change{
				Patch: []event.Operation{{Op: "replace", Path: "/data", Value: map[string]any{"cron": "0 2 * * *"}}, {Op: "replace", Path: "/version", Value: "2"}},
			},
			Labels: map[string]string{"ocsf.class_uid": "3004"},
		},
		{
			Source: "ocsf:Example/Code", Time: at, Action: "api.git_push", Outcome: "denied", Reason: &event.Reason{Code: "403"},
			Actor:  event.Actor{Type: "service", ID: "k1", Name: "system:node:n1"},
			Origin: &event.Origin{IP: "192.0.2.9", RequestID: "f47c", TraceID: "5b8efff798038103d269b633813fc60c"},
			Target: []event.Target{{Type: "Git_Repo", ID: "acme/app", Name: "acme/app"}, {Type: "resource", ID: "383"}, {Type: "operation", ID: "git.push", Name: "git"}},
			Labels: map[string]string{"ocsf.class_uid": "6003"},
		},
	}
	items := translate(t, request("application/json", samples(t)))
	if len(items) != len(want) {
		t.Fatalf("%d items", len(items))
	}
	for i, it := range items {
		if it.Err != nil {
			t.Errorf("item %d: %v", i, it.Err)
			continue
		}
		if _, err := it.Event.Fields(); err != nil {
			t.Errorf("item %d: the log refuses it: %v", i, err)
		}
		if it.Event.Details["class_uid"] == nil || it.Event.Details["observables"] != nil {
			t.Errorf("item %d: details %v", i, it.Event.Details)
		}
		if want[i].ID == "" && len(it.Event.ID) == 32 { // an HMAC
			it.Event.ID = ""
		}
		it.Event.Details = nil
		if !reflect.DeepEqual(it.Event, want[i]) {
			t.Errorf("item %d\ngot  %+v\nwant %+v", i, text(it.Event), text(want[i]))
		}
	}
}

func text(e event.Event) string {
	b, err := json.Marshal(e)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// TestForms: an array, lines and one alone make the same events.
func TestForms(t *testing.T) {
	array := translate(t, request("application/json; charset=utf-8", samples(t)))
	var lines bytes.Buffer
	for _, it := range array {
		if err := json.Compact(&lines, it.Raw); err != nil {
			t.Fatal(err)
		}
		lines.WriteString("\r\n\n")
		alone := request("", it.Raw)
		alone.Header = it.Header
		if got := translate(t, alone); len(got) != 1 || !reflect.DeepEqual(got[0], it) {
			t.Errorf("alone: %+v\nwant %+v", got, it)
		}
	}
	got := translate(t, request("application/x-ndjson", lines.Bytes()))
	if len(got) != len(array) {
		t.Fatalf("%d lines", len(got))
	}
	for i := range got {
		if array[i].Event.ID != got[i].Event.ID && len(got[i].Event.ID) != 32 || array[i].Event.Action != got[i].Event.Action {
			t.Errorf("line %d: %+v", i, got[i])
		}
	}
	if _, err := (ocsf.Adapter{}).Translate(request("text/csv", nil)); err == nil || err.Error() != "Content-Type: expected application/json or application/x-ndjson" {
		t.Errorf("CSV: %v", err)
	}
}

func TestRefuses(t *testing.T) {
	const product = `"metadata":{"product":{"name":"p"}}`
	for _, c := range []struct{ body, want string }{
		{`{"class_uid":1006,"class_uid":3002}`, "/class_uid: expected each name once in an object"},
		{`{"class_uid":4001}`, "/class_uid: expected 1006, 3001, 3002, 3004 or 6003"},
		{`{}`, "/class_uid: expected 1006, 3001, 3002, 3004 or 6003"},
		{`{"class_uid":"1006"}`, "/class_uid: expected 1006, 3001, 3002, 3004 or 6003"},
		{`{"class_uid":1006}`, "/activity_id: expected an integer"},
		{`{"class_uid":1006,"activity_id":7}`, "/activity_id: expected 0, 99 or an activity of class 1006 in OCSF 1.8"},
		{`{"class_uid":1006,"activity_id":1}`, "/metadata/product/name: expected the name of the product, or the parameter source"},
		{`{"class_uid":1006,"activity_id":1,` + product + `}`, "/time: expected milliseconds since 1970, of a time from 2000 to 2199"},
		{`{"class_uid":1006,"activity_id":1,` + product + `,"time":1795773600}`, "/time: expected milliseconds since 1970, of a time from 2000 to 2199"},
		{`{"class_uid":1006,"activity_id":1,` + product + `,"time":1795773600000000}`, "/time: expected milliseconds since 1970, of a time from 2000 to 2199"},
		{`{"class_uid":1006,"activity_id":1,` + product + `,"time":1,"time_dt":"x"}`, "/time_dt: expected a time of RFC 3339 from 2000 to 2199, time not being in milliseconds"},
		{`{"class_uid":1006,"activity_id":1,` + product + `,"time":1795773600000}`, "/job: expected an object with a uid or a name"},
		{`{"class_uid":3001,"activity_id":1,` + product + `,"time":1795773600000,"user":{}}`, "/user: expected an object with a uid or a name"},
		{`{"class_uid":3002,"activity_id":1,` + product + `,"time":1795773600000}`, "/user: expected an object with a uid or a name"},
		{`{"class_uid":3004,"activity_id":1,` + product + `,"time":1795773600000,"entity":"x"}`, "/entity: expected an object with a uid or a name, or with an object of its type that has one"},
		{`{"class_uid":6003,"activity_id":1,` + product + `,"time":1795773600000}`, "/api/operation: expected the name of an operation"},
		{`"x"`, "(whole): expected a JSON object"},
	} {
		if items := translate(t, request("", []byte(c.body))); len(items) != 1 || items[0].Err == nil || items[0].Err.Error() != c.want {
			t.Errorf("%s: %v\nwant %s", c.body, items, c.want)
		}
	}
	// One bad element costs the others nothing.
	array := append([]byte(`[{"class_uid":1},`), samples(t)[1:]...)
	for i, it := range translate(t, request("", array)) {
		if (it.Err != nil) != (i == 0) {
			t.Errorf("element %d: %v", i, it.Err)
		}
	}
}

// TestUpdateWithoutAfter: an update whose state after it isn't told has what is known.
func TestUpdateWithoutAfter(t *testing.T) {
	const rest = `"activity_id":3,"metadata":{"product":{"name":"p"}},"time":1795773600000,"status_id":1`
	for body, want := range map[string]any{
		`{"class_uid":3004,` + rest + `,"entity":{"uid":"e","n":1.5}}`:                            map[string]any{"uid": "e", "n": "1.5"},
		`{"class_uid":3004,` + rest + `,"entity":{"uid":"e"},"entity_result":{"uid":"e"}}`:        map[string]any{"uid": "e"},
		`{"class_uid":6003,` + rest + `,"api":{"operation":"o"}}`:                                 map[string]any{"operation": "o"},
		`{"class_uid":3004,` + rest + `,"entity":{"uid":"e"},"entity_result":{},"actor":{"x":1}}`: nil, // a patch of members
	} {
		items := translate(t, request("", []byte(body)))
		if items[0].Err != nil {
			t.Fatalf("%s: %v", body, items[0].Err)
		}
		if _, err := items[0].Event.Fields(); err != nil {
			t.Errorf("%s: the log refuses it: %v", body, err)
		}
		patch := items[0].Event.Change.Patch
		if want == nil {
			if len(patch) != 1 || patch[0] != (event.Operation{Op: "remove", Path: "/uid"}) {
				t.Errorf("%s: %+v", body, patch)
			}
		} else if !reflect.DeepEqual(patch, []event.Operation{{Op: "replace", Value: want}}) {
			t.Errorf("%s: %+v", body, patch)
		}
	}
}

// FuzzTranslate: nothing makes the adapter panic, and each item alone makes what it made in its request.
func FuzzTranslate(f *testing.F) {
	f.Add(samples(f))
	f.Add([]byte(`{"class_uid":6003,"activity_id":3,"metadata":{"product":{"name":"p"}},"time":1795773600000,"api":{"operation":"x"},"resources":[1,{"uid":2}],"actor":[]}`))
	f.Add([]byte(`{"class_uid":1006,"activity_id":2,"metadata":{"product":{"name":"p"}},"time":1795773600000,"job":{"name":"a","":1},"updated_job":{"name":"a","x":2}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		items, err := ocsf.Adapter{}.Translate(request("application/json", body))
		if err != nil {
			return
		}
		for _, it := range items {
			r := request("", it.Raw)
			r.Header = it.Header
			alone, err := ocsf.Adapter{}.Translate(r)
			if it.Err == nil && (err != nil || len(alone) != 1 || !reflect.DeepEqual(alone[0].Event, it.Event)) {
				t.Fatalf("%s alone: %v, %+v, want %+v", it.Raw, err, alone, it)
			}
		}
	})
}
