package ingest_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/personality/ingest"
	"github.com/prooftrail/prooftrail/verifier/client/mask"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// TestMask: secrets go from every place for texts, by their names and by their looks, and what says which event it is stays.
func TestMask(t *testing.T) {
	const secret = "hunter2hunter2"
	e := event.Event{
		ID: "password=x", Source: "cron://token=x", Time: time.Unix(1e9, 0).UTC(), Action: "job.update", Outcome: "failure",
		Reason: &event.Reason{Code: "1", Text: "token: " + secret}, Actor: event.Actor{Type: "user", ID: "u", Name: "Bearer " + secret},
		Origin: &event.Origin{UserAgent: "x/1 api_key=" + secret}, Target: []event.Target{{Type: "job", ID: "j", Name: "https://u:" + secret + "@h/"}},
		Job: &event.Job{ID: "j", Name: "run password=" + secret},
		Change: &event.Change{Patch: []event.Operation{{Op: "add", Path: "/env/DB_PASSWORD", Value: secret}, {Op: "add", Path: "/args", Value: []any{"--token", secret}},
			{Op: "add", Path: "/deep", Value: map[string]any{"list": []any{map[string]any{"secret": secret}, 5, []any{"password=" + secret}}}}, {Op: "remove", Path: "/password"}}},
		Labels:  map[string]string{"api-key": secret, "month": "11"},
		Details: map[string]any{"session": secret, "list": []string{"a", "pwd=" + secret}, "map": map[string]string{"passwd": secret, "keep": "this"}, "n": 5},
	}
	m, err := mask.New(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	ingest.Mask(m, &e)
	got, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"schema":"prooftrail.event/1","id":"password=x","source":"cron://token=x","time":"2001-09-09T01:46:40Z","action":"job.update","outcome":"failure",` +
		`"reason":{"code":"1","text":"token: [masked]"},"actor":{"type":"user","id":"u","name":"Bearer [masked]"},"origin":{"user_agent":"x/1 api_key=[masked]"},` +
		`"target":[{"type":"job","id":"j","name":"https://u:[masked]@h/"}],"job":{"id":"j","name":"run password=[masked]"},` +
		`"change":{"patch":[{"op":"add","path":"/env/DB_PASSWORD","value":"[masked]"},{"op":"add","path":"/args","value":["--token","[masked]"]},` +
		`{"op":"add","path":"/deep","value":{"list":[{"secret":"[masked]"},5,["password=[masked]"]]}},{"op":"remove","path":"/password"}]},` +
		`"labels":{"api-key":"[masked]","month":"11"},"details":{"list":["a","pwd=[masked]"],"map":{"keep":"this","passwd":"[masked]"},"n":5,"session":"[masked]"}}`
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestAnswers is the answer in our own form.
func TestAnswers(t *testing.T) {
	a, err := ingest.Answers([]ingest.Result{{Status: ingest.Accepted}, {Status: ingest.Skipped, Index: 7}, {Status: ingest.Conflict, Index: 7, Quarantine: "q", Reason: "r"}})
	const want = `{"results":[{"status":"accepted","index":0},{"status":"skipped"},{"status":"conflict","index":7,"quarantine":"q","reason":"r"}]}`
	if err != nil || string(a.Body) != want || a.Status != 200 {
		t.Errorf("got %d %s, %v", a.Status, a.Body, err)
	}
	if a, err := ingest.Answers(nil); err != nil || string(a.Body) != `{"results":[]}` {
		t.Errorf("of nothing: %s, %v", a.Body, err)
	}
}
