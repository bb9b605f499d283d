package senders

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
)

// made is a CloudEvent as a program makes it with the SDK.
func made(t *testing.T, id string, data any) cloudevents.Event {
	t.Helper()
	e := cloudevents.NewEvent()
	e.SetID(id)
	e.SetType("com.example.job.deleted")
	e.SetSource("cron://node1/crond")
	e.SetSubject(`nightly "ä"`)
	e.SetTime(time.Date(2026, 11, 27, 10, 0, 0, 0, time.UTC))
	e.SetExtension("authtype", "user")
	e.SetExtension("authid", "ann")
	e.SetExtension("prooftrailoutcome", "success")
	if err := e.SetData(cloudevents.ApplicationJSON, data); err != nil {
		t.Fatal(err)
	}
	return e
}

func TestCloudEvents(t *testing.T) {
	s := newServer(t)
	client, err := cloudevents.NewClientHTTP(cloudevents.WithTarget(s.URL+"/v1/ingest/cloudevents"), cehttp.WithHeader("Authorization", "Bearer "+s.Token("submit")))
	if err != nil {
		t.Fatal(err)
	}
	binary, structured := cloudevents.WithEncodingBinary(t.Context()), cloudevents.WithEncodingStructured(t.Context())
	data := map[string]any{"reason": "retired", "runs": 3, "ratio": 0.5}
	if res := client.Send(structured, made(t, "structured", data)); cloudevents.IsUndelivered(res) || !cloudevents.IsACK(res) {
		t.Fatalf("structured: %v", res)
	}
	for range 2 { // the second is a duplicate
		if res := client.Send(binary, made(t, "binary", data)); !cloudevents.IsACK(res) {
			t.Fatalf("binary: %v", res)
		}
	}
	own := made(t, "own", json.RawMessage(`{"schema":"prooftrail.event/1","id":"own","source":"cron://node1/crond","time":"2026-11-27T09:00:00Z","action":"job.delete",
		"outcome":"success","actor":{"type":"user","id":"u1"},"target":[{"type":"job","id":"j"}],"job":{"id":"j"}}`))
	own.SetType("com.prooftrail.event.v1")
	if res := client.Send(binary, own); !cloudevents.IsACK(res) {
		t.Fatalf("an event of ours: %v", res)
	}
	batch, err := cehttp.NewHTTPRequestFromEvents(t.Context(), s.URL+"/v1/ingest/cloudevents", []cloudevents.Event{made(t, "in a batch", data), made(t, "structured", data)})
	if err != nil {
		t.Fatal(err)
	}
	if status, b := s.Do("submit", batch); status != http.StatusOK || strings.Count(string(b), `"accepted"`) != 1 || strings.Count(string(b), `"duplicate"`) != 1 {
		t.Errorf("a batch: %d %s", status, b)
	}
	entries := s.Entries("cloudevents")
	s.Audit()
	if len(entries) != 4 {
		t.Fatalf("%d events", len(entries))
	}
	for i, id := range []string{"structured", "binary", "own", "in a batch"} {
		want := map[string]any{
			"/id": id, "/source": "cron://node1/crond", "/action": "com.example.job.deleted", "/outcome": "success", "/time": "2026-11-27T10:00:00Z",
			"/actor/type": "user", "/actor/id": "ann", "/target/0/id": `nightly "ä"`, "/labels/ingest.sender": "token",
			"/details/data": map[string]any{"reason": "retired", "runs": 3, "ratio": "0.5"},
		}
		if id == "own" {
			want = map[string]any{"/id": id, "/action": "job.delete", "/actor/id": "u1", "/job/id": "j", "/details/data": nil, "/time": "2026-11-27T09:00:00Z"}
		}
		entries[i].Want(t, want)
	}
	text, err := json.Marshal(made(t, "structured", data))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(text)
	entries[0].Want(t, map[string]any{"/ingest/raw_sha256": hex.EncodeToString(sum[:])})
	if q := quarantined(t, s); len(q) != 0 {
		t.Errorf("in the quarantine: %q", q)
	}
}

// TestCloudEventsQuarantine: what isn't a sound CloudEvent waits, and doesn't come into the log in one reader's meaning.
func TestCloudEventsQuarantine(t *testing.T) {
	s := newServer(t)
	for body, want := range map[string]string{
		`{"specversion":"1.0","type":"a.b","source":"cron://a","id":"1","id":"2"}`:              "/id: expected each name once in an object",
		`{"specversion":"1.0","type":"a.b","source":"cron://a"}`:                                "/id: expected a string that isn't empty",
		`{"specversion":"1.0","type":"a.b","source":"cron://a","id":"1","data_base64":5}`:       "/data_base64: expected a string, and no data beside it",
		`{"specversion":"1.0","type":"a.b","source":"cron://a","id":"1","":0,"subject":"lost"}`: "/: expected a name of 1 to 128 lower-case letters and digits",
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/v1/ingest/cloudevents", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/cloudevents+json")
		if status, b := s.Do("submit", r); status != http.StatusOK || !strings.Contains(string(b), `"quarantined"`) {
			t.Errorf("%s: %d %s", body, status, b)
		}
		if q := quarantined(t, s); !slices.Contains(q, "cloudevents "+want) {
			t.Errorf("%s: in the quarantine: %q", body, q)
		}
	}
	if entries := s.Entries("cloudevents"); len(entries) != 0 {
		t.Errorf("in the log: %v", entries)
	}
	s.Audit()
}

// TestSDKIsNoReader shows why the server doesn't read with the SDK. Where one of these fails, the SDK has become better, and
// docs/decisions/0026-mappings.md should say so.
func TestSDKIsNoReader(t *testing.T) {
	read := func(text string) (e cloudevents.Event, panicked any, err error) {
		defer func() { panicked = recover() }()
		err = json.NewDecoder(bytes.NewReader([]byte(text))).Decode(&e)
		return e, nil, err
	}
	if e, _, err := read(`{"specversion":"1.0","type":"a.b","source":"urn:a","id":"1","id":"2"}`); err != nil || e.ID() != "2" {
		t.Errorf("an id twice: %v, %v", e, err)
	}
	if e, _, err := read(`{"specversion":"1.0","type":"a.b","source":"urn:a","id":"1","":0,"subject":"lost"}`); err != nil || e.Subject() != "" {
		t.Errorf("a member without a name: %v, %v", e, err)
	}
	if _, panicked, _ := read(`{"data_base64":5,"specversion":"1.0","type":"a.b","source":"urn:a","id":"1"}`); panicked == nil {
		t.Error("data_base64 that is a number: no panic")
	}
}
