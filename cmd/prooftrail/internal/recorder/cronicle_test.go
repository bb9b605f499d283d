//go:build cronicle

package recorder

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
)

// TestRealCronicle runs the usual calls through the recorder to a Cronicle that is named in the environment, with its first
// user, admin, as its set-up makes it; TestCronicle has answers of one. It was run with 0.9.129:
//
//	PROOFTRAIL_CRONICLE=http://127.0.0.1:3012 go test -tags cronicle ./cmd/prooftrail/internal/recorder -run TestRealCronicle -v
func TestRealCronicle(t *testing.T) {
	upstream := os.Getenv("PROOFTRAIL_CRONICLE")
	if upstream == "" {
		t.Fatal("PROOFTRAIL_CRONICLE names no Cronicle: see the comment")
	}
	s := newStand(t, ready(t, "ready:cronicle"), func(http.ResponseWriter, *http.Request) {}, func(c *Config) {
		u, err := url.Parse(upstream)
		if err != nil {
			t.Fatal(err)
		}
		c.Upstream = u
	})
	n := 0
	call := func(method, target, body, header, action, outcome, targetID, actor string) map[string]any {
		t.Helper()
		status, answer, _ := s.do(method, target, body, header)
		if status != 200 {
			t.Fatalf("%s: %d %s", target, status, answer)
		}
		var got map[string]any
		if err := json.Unmarshal([]byte(answer), &got); err != nil {
			t.Fatalf("%s: %v in %s", target, err, answer)
		}
		if action == "" {
			s.queue.none(n)
			return got
		}
		n++
		e := s.queue.next(n)[n-1]
		if e.Action != action || e.Outcome != outcome || e.Target[0].ID != targetID && targetID != "" || e.Actor.ID != actor {
			t.Errorf("%s %s\n%s\n%s %s %+v of %s by %s, expected %s %s of %s by %s\n%s", target, body, answer, e.Action, e.Outcome, e.Reason, e.Target[0].ID, e.Actor.ID, action, outcome, targetID, actor, patchText(t, e))
		}
		t.Logf("%s: %s %s of %s by %s: %s", target, e.Action, e.Outcome, e.Target[0].ID, e.Actor.ID, patchText(t, e))
		return got
	}
	call("POST", "/api/user/login", `{"username":"admin","password":"wrong"}`, "", "auth.login", "denied", "admin", "admin")
	in := call("POST", "/api/user/login", `{"username":"admin","password":"admin"}`, "", "auth.login", "success", "admin", "admin")
	id, _ := in["session_id"].(string)
	session := "X-Session-ID: " + id
	made := call("POST", "/api/app/create_event/v1", `{"title":"Invoices","enabled":1,"category":"general","target":"allgrp","plugin":"shellplug","timing":{"hours":[2],"minutes":[0]},"params":{"script":"#!/bin/sh\necho PASSWORD=hunter2x"}}`,
		session, "job.create", "success", "", "admin")
	event, _ := made["id"].(string)
	call("POST", "/api/app/update_event/v1", `{"id":"`+event+`","timing":{"hours":[3],"minutes":[0]}}`, session, "job.update", "success", event, "admin")
	if got := patchText(t, s.queue.next(n)[n-1]); !strings.Contains(got, `{"op":"replace","path":"/timing/hours/0","value":3}`) || strings.Contains(got, "hunter2x") {
		t.Errorf("patch %s", got)
	}
	call("POST", "/api/app/update_event/v1", `{"id":"`+event+`","enabled":0}`, session, "job.disable", "success", event, "admin")
	call("POST", "/api/app/update_event/v1", `{"id":"`+event+`","enabled":1}`, session, "job.enable", "success", event, "admin")
	run := call("GET", "/anything/api/app/run_event/v1?id="+event+"&session_id="+id, "", "", "run.start", "success", event, "admin")
	if ids, _ := run["ids"].([]any); len(ids) != 1 || s.queue.next(n)[n-1].Job.RunID != ids[0] {
		t.Errorf("%v %+v", run, s.queue.next(n)[n-1].Job)
	}
	key := call("POST", "/api/app/create_api_key/v1", `{"title":"ci","key":"0123456789abcdef0123456789abcdef","active":"1","privileges":{"edit_events":1}}`, session, "credential.create", "success", "", "admin")
	keyID, _ := key["id"].(string)
	by := "credential:" + s.recorder.hmac("key", "0123456789abcdef0123456789abcdef")
	call("POST", "/api/app/update_event/v1", `{"id":"`+event+`","notes":"by a key","api_key":"0123456789abcdef0123456789abcdef"}`, "", "job.update", "success", event, by)
	call("POST", "/api/app/run_event/v1", `{"id":"`+event+`"}`, "X-API-Key: 0123456789abcdef0123456789abcdef", "run.start", "denied", event, by)
	call("POST", "/api/app/run_event/v1", `{"id":"`+event+`"}`, "", "run.start", "denied", event, "anonymous")
	call("POST", "/api/app/run_event/v1", `{"id":"none"}`, session, "run.start", "failure", "none", "admin")
	call("POST", "/api/app/delete_api_key/v1", `{"id":"`+keyID+`"}`, session, "credential.delete", "success", keyID, "admin")
	call("POST", "/api/app/get_schedule/v1", `{}`, session, "", "", "", "")
	call("GET", "/api/app/get_event/v1?id="+event, "", session, "", "", "", "")
	ids, _ := run["ids"].([]any)
	call("POST", "/api/app/delete_event/v1", `{"id":"`+event+`"}`, session, "job.delete", "failure", event, "admin") // it runs still
	if got := s.queue.next(n)[n-1].Reason; got.Code != "event" || !strings.Contains(got.Text, "running jobs") {
		t.Errorf("%+v", got)
	}
	call("POST", "/api/app/abort_job/v1", fmt.Sprintf(`{"id":"%v"}`, ids[0]), session, "run.abort", "success", fmt.Sprint(ids[0]), "admin")
	other := call("POST", "/api/app/create_event/v1", `{"title":"Second","enabled":0,"category":"general","target":"allgrp","plugin":"shellplug"}`, session, "job.create", "success", "", "admin")
	second := fmt.Sprint(other["id"])
	call("POST", "/api/app/delete_event/v1", `{"id":"`+second+`"}`, session, "job.delete", "success", second, "admin")
	call("POST", "/api/user/logout", `{"session_id":"`+id+`"}`, "", "auth.logout", "success", "self", "admin")
	for _, e := range s.queue.next(n) {
		if f, err := e.Fields(); err != nil || strings.Contains(string(f.JSON()), "hunter2x") || strings.Contains(string(f.JSON()), id) || strings.Contains(string(f.JSON()), "0123456789abcdef") {
			t.Errorf("%v %s", err, f.JSON())
		}
	}
}
