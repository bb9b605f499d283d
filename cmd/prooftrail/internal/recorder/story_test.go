package recorder

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// step is one request to a scheduler, its answer, and what is to be recorded of it.
type step struct {
	request string // method and target
	body    string
	header  string // "Name: value" in lines
	status  int    // of the answer; 0 is 200
	answer  string
	answerH string // a header of the answer, "Name: value"

	// What is recorded; none without an action.
	action, outcome string
	target, actor   string
	patch           string // a part of it
	run             string
	reason          string
	not             string // what isn't anywhere in the event
}

// story runs steps against ready rules. resources are what GETs are answered with, by path and query, and may change with steps: a
// step's request in them is what it is answered with after the step.
func story(t *testing.T, name string, resources map[string]string, steps []step) {
	t.Helper()
	var now step
	s := newStand(t, ready(t, name), func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		target := r.URL.RequestURI()
		if now.request != r.Method+" "+target { // the recorder asks for a resource
			if text, ok := resources[target]; ok && r.Method == http.MethodGet {
				fmt.Fprint(w, text)
				return
			}
			http.NotFound(w, r)
			return
		}
		if after, ok := resources[now.request]; ok {
			path := strings.TrimPrefix(now.request, r.Method+" ")
			key, text, _ := strings.Cut(after, " ")
			if key == "" {
				key = path
			}
			resources[key] = text
		}
		if name, value, ok := strings.Cut(now.answerH, ": "); ok {
			w.Header().Set(name, value)
		}
		if now.status != 0 {
			w.WriteHeader(now.status)
		}
		fmt.Fprint(w, now.answer)
	}, nil)
	n := 0
	for _, now = range steps {
		method, target, _ := strings.Cut(now.request, " ")
		var headers []string
		if now.header != "" {
			headers = strings.Split(now.header, "\n")
		}
		status, answer, _ := s.do(method, target, now.body, headers...)
		if want := max(now.status, 200); status != want || (answer != now.answer && method != "HEAD") {
			t.Errorf("%s: answered %d %q", now.request, status, answer)
		}
		if now.action == "" {
			continue
		}
		n++
		all := s.queue.next(n)
		if len(all) > n {
			t.Fatalf("%s: %d events, expected %d: %+v", now.request, len(all), n, all[n])
		}
		now.check(t, all[n-1])
	}
	s.proxy.Close()
	s.queue.none(n)
}

func (st step) check(t *testing.T, e kept) {
	t.Helper()
	if st.outcome == "" {
		st.outcome = "success"
	}
	if e.Action != st.action || e.Outcome != st.outcome {
		t.Errorf("%s: %s %s %+v, expected %s %s", st.request, e.Action, e.Outcome, e.Reason, st.action, st.outcome)
	}
	if got := e.Target[0].Type + " " + e.Target[0].ID; got != st.target && st.target != "" {
		t.Errorf("%s: target %s, expected %s", st.request, got, st.target)
	}
	if st.actor != "" && e.Actor.ID != st.actor {
		t.Errorf("%s: actor %s, expected %s", st.request, e.Actor.ID, st.actor)
	}
	if got := patchText(t, e); !strings.Contains(got, st.patch) {
		t.Errorf("%s: patch %s, expected %s in it", st.request, got, st.patch)
	}
	if st.run != "" && (e.Job == nil || e.Job.RunID != st.run) {
		t.Errorf("%s: job %+v, expected the run %s", st.request, e.Job, st.run)
	}
	if st.reason != "" && (e.Reason == nil || e.Reason.Code != st.reason) {
		t.Errorf("%s: reason %+v, expected %s", st.request, e.Reason, st.reason)
	}
	f, err := e.Fields()
	if err != nil {
		t.Fatalf("%s: %v", st.request, err)
	}
	if text := string(f.JSON()); st.not != "" && strings.Contains(text, st.not) {
		t.Errorf("%s: %q is in %s", st.request, st.not, text)
	}
}

// TestDkron: the routes and answers of dkron/api.go and dkron/job.go.
func TestDkron(t *testing.T) {
	const job = `{"id":"nightly","name":"nightly","displayname":"","timezone":"Europe/Berlin","schedule":"%s","owner":"","success_count":%d,"error_count":0,` +
		`"last_success":null,"last_error":null,"disabled":%t,"tags":{"role":"billing:1"},"metadata":null,"retries":2,"parent_job":"","processors":{},"concurrency":"forbid",` +
		`"executor":"shell","executor_config":{"command":"invoices","env":"DB_PASSWORD=hunter2x"},"status":"success","next":"2026-02-01T02:00:00Z","ephemeral":false}`
	daily, hourly := fmt.Sprintf(job, "@daily", 7, false), fmt.Sprintf(job, "@hourly", 8, false)
	off := fmt.Sprintf(job, "@hourly", 8, true)
	story(t, "ready:dkron", map[string]string{
		"POST /v1/jobs":                "/v1/jobs/nightly " + daily,
		"PUT /v1/jobs/nightly":         " " + hourly,
		"POST /v1/jobs/nightly/toggle": "/v1/jobs/nightly " + off,
	}, []step{
		{request: "POST /v1/jobs", body: daily, status: 201, answer: daily, action: "job.create", target: "job nightly", actor: "anonymous",
			patch: `"schedule":"@daily"`, not: "hunter2x"},
		{request: "PUT /v1/jobs/nightly", body: hourly, status: 201, answer: hourly, action: "job.update", target: "job nightly",
			patch: `[{"op":"test","path":"/schedule","value":"@daily"},{"op":"replace","path":"/schedule","value":"@hourly"}]`, not: "success_count"},
		{request: "POST /v1/jobs/nightly/toggle", answer: off, action: "job.disable", target: "job nightly", patch: `{"op":"replace","path":"/disabled","value":true}`},
		{request: "POST /v1/jobs/nightly/run", status: 202, answer: off, action: "run.start", target: "job nightly"},
		{request: "POST /v1/jobs/nightly", status: 202, answer: off, action: "run.start", target: "job nightly"},
		{request: "POST /v1/jobs/none/run", status: 404, answer: "job not found", action: "run.start", outcome: "failure", reason: "http_404"},
		{request: "DELETE /v1/jobs/nightly", answer: off, action: "job.delete", target: "job nightly", patch: `{"op":"remove","path":""}`, not: "hunter2x"},
		{request: "DELETE /v1/jobs/nightly/executions", action: "run.delete", target: "job nightly"},
		{request: "POST /v1/pause", action: "scheduler.pause"},
		{request: "POST /v1/unpause", action: "scheduler.resume"},
		{request: "POST /v1/leave", answer: "[]", answerH: "X-Whom: node1", action: "scheduler.leave", target: "node node1"},
		{request: "GET /v1/leave", action: "scheduler.leave"},
		{request: "POST /v1/restore", body: "--x\r\n", header: "Content-Type: multipart/form-data; boundary=x", action: "job.import"},
		{request: "POST /v1/something-new", body: `{"a":1}`, action: "api.write", target: "api /v1/something-new"},
		// What the page polls.
		{request: "GET /v1/jobs?_end=10&_order=ASC"}, {request: "GET /v1/jobs/nightly"}, {request: "GET /v1/jobs/nightly/executions"}, {request: "GET /v1/busy"},
		{request: "GET /v1/members"}, {request: "GET /v1/leader"}, {request: "GET /ui/"}, {request: "HEAD /v1/jobs"}, {request: "GET /health"}, {request: "OPTIONS /v1/jobs"},
	})
}

// TestCronicle: the calls of lib/api/ and of pixl-server-user, and their answers: 200 with a code.
func TestCronicle(t *testing.T) {
	const session = "X-Session-ID: 6f1ed002ab5595859014ebf0951522d9f7b4"
	const key = "X-API-Key: b57d7ffa3c1d4e5f8a9b0c1d2e3f4a5b"
	const get = "/api/app/get_event/v1?id=ek1"
	event := func(enabled int, timing string) string {
		return fmt.Sprintf(`{"code":0,"event":{"id":"ek1","title":"Invoices","enabled":%d,"category":"general","target":"allgrp","plugin":"shellplug",`+
			`"timing":%s,"timezone":"Europe/Berlin","params":{"script":"#!/bin/sh\ncurl -u me:hunter2x https://x"},"modified":1450311413}}`, enabled, timing)
	}
	story(t, "ready:cronicle", map[string]string{
		"POST /api/app/create_event/v1": get + " " + event(1, `{"hours":[2]}`),
		get + "&x":                      "",
		"POST /api/app/update_event/v1": get + " " + event(0, `{"hours":[2]}`),
	}, []step{
		{request: "POST /api/user/login", body: `{"username":"ada","password":"hunter2x"}`, answer: `{"code":"login","description":"Username or password incorrect."}`,
			action: "auth.login", outcome: "denied", actor: "ada", reason: "login", not: "hunter2x"},
		{request: "POST /api/user/login", body: `{"username":"ada","password":"hunter2x"}`,
			answer: `{"code":0,"username":"ada","user":{"username":"ada","active":1},"session_id":"6f1ed002ab5595859014ebf0951522d9f7b4"}`,
			action: "auth.login", target: "user ada", actor: "ada", not: "6f1ed002ab"},
		{request: "POST /api/app/create_event/v1", body: `{"title":"Invoices","enabled":1,"category":"general","target":"allgrp","plugin":"shellplug","timing":{"hours":[2]}}`,
			header: session, answer: `{"code":0,"id":"ek1"}`, action: "job.create", target: "job ek1", actor: "ada", patch: `"title":"Invoices"`},
		{request: "POST /api/app/update_event/v1", body: `{"id":"ek1","enabled":0}`, header: session, answer: `{"code":0}`, action: "job.disable", target: "job ek1", actor: "ada",
			patch: `[{"op":"test","path":"/enabled","value":1},{"op":"replace","path":"/enabled","value":0}]`},
		{request: "POST /api/app/update_event/v1", body: `{"id":"ek1","title":"X"}`, answer: `{"code":"session","description":"No Session ID or API Key could be found"}`,
			action: "job.update", outcome: "denied", actor: "anonymous", reason: "session"},
		{request: "GET /api/app/run_event/v1?id=ek1&api_key=b57d7ffa3c1d4e5f8a9b0c1d2e3f4a5b", answer: `{"code":0,"ids":["jk2"]}`, action: "run.start", target: "job ek1", run: "jk2", not: "b57d7ffa"},
		{request: "POST /api/app/run_event/v1", body: `{"title":"Invoices"}`, header: key, answer: `{"code":"api","description":"API Key ('x') does not have the required privileges to perform this action (run_events)."}`,
			action: "run.start", outcome: "denied", target: "job Invoices", reason: "api", not: "b57d7ffa"},
		{request: "POST /api/app/run_event/v1", body: `{"id":"no"}`, header: session, answer: `{"code":"event","description":"Failed to locate event: no"}`,
			action: "run.start", outcome: "failure", reason: "event"},
		{request: "POST /api/app/abort_job/v1", body: `{"id":"jk2"}`, header: session, answer: `{"code":0}`, action: "run.abort", target: "run jk2"},
		{request: "POST /api/app/create_api_key/v1", body: `{"title":"ci","key":"0123456789abcdef0123","active":"1","privileges":{"run_events":1}}`, header: session,
			answer: `{"code":0,"id":"k1","key":"0123456789abcdef0123"}`, action: "credential.create", target: "credential k1", not: "0123456789abcdef"},
		{request: "POST /api/app/delete_api_key/v1", body: `{"id":"k1"}`, header: session, answer: `{"code":0}`, action: "credential.delete", target: "credential k1"},
		{request: "POST /api/app/update_master_state/v1", body: `{"enabled":0}`, header: session, answer: `{"code":0}`, action: "scheduler.pause", actor: "ada"},
		{request: "POST /api/user/admin_create", body: `{"username":"bob","password":"hunter2x","email":"b@x","full_name":"B","privileges":{"admin":1}}`, header: session,
			answer: `{"code":0}`, action: "user.create", target: "user bob", patch: `"admin":1`, not: "hunter2x"},
		{request: "POST /api/app/delete_event/v1", body: `{"id":"ek1"}`, header: session, answer: `{"code":0}`, action: "job.delete", target: "job ek1", patch: `{"op":"remove","path":""}`, not: "hunter2x"},
		{request: "GET /x/api/app/run_event/v1?id=ek1", answer: `{"code":0,"ids":["jk3"]}`, action: "run.start", target: "job ek1"},
		{request: "POST /api/user/logout", body: `{"session_id":"6f1ed002ab5595859014ebf0951522d9f7b4"}`, answer: `{"code":0}`, action: "auth.logout", actor: "ada", not: "6f1ed002ab"},
		{request: "POST /api/app/delete_event/v1", body: "<xml/>", header: session, answer: `{"code":1}`, action: "job.delete", outcome: "failure", target: "job unknown"},
		// What the page polls, with POST too.
		{request: "POST /api/app/get_schedule/v1", body: `{"offset":0}`, answer: `{"code":0,"rows":[]}`}, {request: "POST /api/app/get_history/v1", body: `{}`, answer: `{"code":0}`},
		{request: "GET /api/app/get_job_status/v1?id=jk2", answer: `{"code":0}`}, {request: "GET /api/app/config?callback=x"}, {request: "GET /api/app/status", answer: `{}`},
		{request: "POST /socket.io/?EIO=4&transport=polling", body: "40"}, {request: "GET /js/app.js"},
	})
}

// TestRundeck: the calls of UrlMappings.groovy and docs/api.
func TestRundeck(t *testing.T) {
	const token = "X-Rundeck-Auth-Token: LbMEGCPjNHdXVVZbXhC5GAbJaKrTSbA2"
	const job = `[{"id":"8b411ea6","name":"invoices","group":"billing","scheduleEnabled":true,"executionEnabled":true,"schedule":{"crontab":"0 0 2 ? * * *"}}]`
	const form = "Content-Type: application/x-www-form-urlencoded\nCookie: JSESSIONID=node01abcdefghij.node0"
	story(t, "ready:rundeck", map[string]string{"/api/44/job/8b411ea6": job, "/api/44/project/p/config": `{"a":"1","project.ssh-password":"hunter2x"}`,
		"PUT /api/44/project/p/config": ` {"a":"2","project.ssh-password":"hunter3x"}`}, []step{
		{request: "POST /j_security_check", body: "j_username=ada&j_password=hunter2x", header: form, status: 302, answerH: "Location: http://rundeck/user/error", action: "auth.login", outcome: "denied", actor: "ada", not: "hunter2x"},
		{request: "POST /j_security_check", body: "j_username=ada&j_password=hunter2x", header: form, status: 302, answerH: "Set-Cookie: JSESSIONID=node0klmnopqrst.node0; Path=/; HttpOnly", action: "auth.login", actor: "ada", not: "node0klm"},
		{request: "POST /project/p/job/upload", body: "--x", header: "Content-Type: multipart/form-data\nCookie: JSESSIONID=node0klmnopqrst.node0", action: "job.import", actor: "ada", target: "project p", not: "node0klm"},
		{request: "POST /api/44/job/8b411ea6/run", body: `{"options":{"password":"hunter2x"}}`, header: token, answer: `{"id":117,"status":"running","job":{"id":"8b411ea6","name":"invoices"}}`, action: "run.start", target: "job 8b411ea6", run: "117", not: "hunter2x"},
		{request: "GET /api/14/job/8b411ea6/run?authtoken=LbMEGCPjNHdXVVZbXhC5GAbJaKrTSbA2", answer: `{"id":118}`, action: "run.start", run: "118", not: "LbMEGCPj"},
		{request: "POST /rundeck/api/44/job/8b411ea6/execution/disable", header: token, answer: `{"success":true}`, action: "job.disable", target: "job 8b411ea6"},
		{request: "POST /api/44/job/8b411ea6/schedule/enable", header: token, answer: `{"success":true}`, action: "job.enable"},
		{request: "POST /api/44/jobs/schedule/disable", body: `{"ids":["8b411ea6","9c"]}`, header: token, answer: `{"requestCount":2}`, action: "job.disable", target: "job 8b411ea6"},
		{request: "DELETE /api/44/job/8b411ea6", header: token, status: 204, action: "job.delete", patch: `"crontab":"0 0 2 ? * * *"`},
		{request: "POST /api/44/project/p/jobs/import", body: "- name: x", header: token + "\nContent-Type: application/yaml", answer: `{"succeeded":[{"index":1,"id":"3b8","name":"x"}],"failed":[],"skipped":[]}`, action: "job.import", target: "job 3b8"},
		{request: "POST /api/44/project/p/jobs/import", body: "- name: x", header: token + "\nContent-Type: application/yaml", answer: `{"succeeded":[],"failed":[{"index":1,"error":"bad"}],"skipped":[]}`, action: "job.import", outcome: "failure"},
		{request: "POST /api/44/project/p/run/command", body: `{"exec":"mysql -phunter2x","filter":"tags: db"}`, header: token, answer: `{"message":"ok","execution":{"id":119}}`, action: "run.start", run: "119", not: "hunter2x"},
		{request: "POST /api/44/storage/keys/db/key1.pem", body: "PRIVATE-hunter2x", header: token + "\nContent-Type: application/octet-stream", status: 201, action: "credential.create", target: "credential db/key1.pem", not: "hunter2x"},
		{request: "PUT /api/44/storage/keys/db/key1.pem", body: "PRIVATE-hunter2x", header: token + "\nContent-Type: application/octet-stream", action: "credential.rotate", not: "hunter2x"},
		{request: "GET /api/44/storage/keys/db/key1.pem", header: token, action: "credential.read", target: "credential db/key1.pem"},
		{request: "DELETE /api/44/storage/keys/db/key1.pem", header: token, status: 204, action: "credential.delete"},
		{request: "POST /api/44/tokens/bob", body: `{"roles":["admin"],"duration":"1d"}`, header: token, status: 201, answer: `{"id":"VjkbX2zUAwnXjDIbRYFp","token":"secretTOKENvalue","user":"bob"}`, action: "credential.create", not: "secretTOKEN"},
		{request: "DELETE /api/44/token/VjkbX2zUAwnXjDIbRYFp", header: token, status: 204, action: "credential.delete", not: "VjkbX2zU"},
		{request: "POST /api/44/webhook/hooksecret123", body: `{"a":1}`, answer: `{}`, action: "webhook.receive", not: "hooksecret"},
		{request: "PUT /api/44/project/p/config", body: `{"a":"2"}`, header: token, answer: `{"a":"2"}`, action: "config.update", target: "project p", patch: `{"op":"replace","path":"/a","value":"2"}`, not: "hunter"},
		{request: "POST /api/44/projects", body: `{"name":"q"}`, header: token, status: 201, answer: `{"name":"q"}`, action: "config.create", target: "project q"},
		{request: "POST /api/44/system/acl/x.aclpolicy", body: `{"contents":"by: group: ops"}`, header: token, status: 201, action: "access.grant", target: "acl x.aclpolicy"},
		{request: "POST /api/44/system/executions/disable", header: token, answer: `{"executionMode":"passive"}`, action: "scheduler.pause"},
		{request: "GET /api/44/execution/117/abort", header: token, answer: `{"abort":{"status":"pending"}}`, action: "run.abort", target: "run 117"},
		{request: "DELETE /api/44/project/p", header: token, status: 403, answer: `{"error":true,"errorCode":"api.error.item.unauthorized","message":"Not authorized"}`, action: "config.delete", outcome: "denied", reason: "api.error.item.unauthorized"},
		{request: "GET /user/logout", header: "Cookie: JSESSIONID=node0klmnopqrst.node0", status: 302, action: "auth.logout", actor: "ada"},
		{request: "GET /api/44/system/info", header: token}, {request: "GET /api/44/project/p/executions?max=20", header: token}, {request: "GET /api/44/execution/117/state", header: token},
		{request: "GET /api/44/job/8b411ea6", header: token}, {request: "GET /project/p/jobs", header: token}, {request: "GET /api/44/execution/117/output?offset=10", header: token}, {request: "GET /menu/home"},
	})
}

// TestAirflow: the calls of version 2 (api_connexion/openapi/v1.yaml) and 3 (core_api/routes/public).
func TestAirflow(t *testing.T) {
	const jwt = "eyJhbGciOiJIUzUxMiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"
	const dag = `{"dag_id":"invoices","dag_display_name":"Invoices","is_paused":%t,"timetable_summary":"0 2 * * *","last_parsed_time":"2026-01-31T10:%s:00Z"}`
	story(t, "ready:airflow", map[string]string{
		"/api/v2/dags/invoices":            fmt.Sprintf(dag, false, "00"),
		"PATCH /api/v2/dags/invoices":      " " + fmt.Sprintf(dag, true, "01"),
		"/api/v2/connections/db":           `{"connection_id":"db","host":"a","password":"***"}`,
		"PATCH /api/v2/connections/db":     ` {"connection_id":"db","host":"b","password":"***"}`,
		"/api/v2/variables/k":              `{"key":"k","value":"hunter1x"}`,
		"PATCH /api/v2/variables/k":        ` {"key":"k","value":"hunter2x"}`,
		"/api/v1/pools/default_pool":       `{"name":"default_pool","slots":128}`,
		"PATCH /api/v1/pools/default_pool": ` {"name":"default_pool","slots":12}`,
	}, []step{
		{request: "POST /auth/token", body: `{"username":"ada","password":"hunter2x"}`, status: 201, answer: `{"access_token":"` + jwt + `"}`, action: "auth.login", actor: "ada", target: "user ada", not: "hunter2x"},
		{request: "POST /auth/token", body: `{"username":"ada","password":"no"}`, status: 401, answer: `{"detail":"Invalid credentials"}`, action: "auth.login", outcome: "denied", actor: "ada"},
		{request: "PATCH /api/v2/dags/invoices", body: `{"is_paused":true}`, header: "Authorization: Bearer " + jwt, answer: fmt.Sprintf(dag, true, "01"), action: "job.disable", target: "job invoices", actor: "ada",
			patch: `[{"op":"test","path":"/is_paused","value":false},{"op":"replace","path":"/is_paused","value":true}]`, not: "c2lnbmF0"},
		{request: "POST /api/v2/dags/invoices/dagRuns", body: `{"logical_date":null,"conf":{"password":"hunter2x"}}`, header: "Authorization: Bearer " + jwt, answer: `{"dag_run_id":"manual__1","dag_id":"invoices","state":"queued"}`,
			action: "run.start", run: "manual__1", actor: "ada", not: "hunter2x"},
		{request: "POST /api/v1/dags/invoices/dagRuns", body: `{"dag_run_id":"r1"}`, header: "Authorization: Basic Ym9iOmh1bnRlcjJ4", status: 409, answer: `{"detail":"DAGRun already exists","status":409,"title":"Conflict"}`,
			action: "run.start", outcome: "failure", actor: "bob", reason: "http_409"},
		{request: "PATCH /api/v2/connections/db", body: `{"connection_id":"db","host":"b","password":"hunter2x","extra":"{\"k\":\"hunter2x\"}"}`, header: "Authorization: Bearer " + jwt, answer: "{}", action: "credential.rotate", target: "credential db",
			patch: `{"op":"replace","path":"/host","value":"b"}`, not: "hunter2x"},
		{request: "POST /api/v2/connections", body: `{"connection_id":"q","conn_type":"http","password":"hunter2x"}`, header: "Authorization: Bearer " + jwt, status: 201, answer: `{"connection_id":"q","conn_type":"http","password":"hunter2x"}`,
			action: "credential.create", target: "credential q", patch: `"conn_type":"http"`, not: "hunter2x"},
		{request: "GET /api/v2/connections/db", header: "Authorization: Bearer " + jwt, answer: `{"connection_id":"db","host":"b","password":"***"}`, action: "credential.read", target: "credential db", actor: "ada"},
		{request: "DELETE /api/v2/connections/db", header: "Authorization: Bearer " + jwt, status: 204, action: "credential.delete", patch: `"remove"`},
		{request: "PATCH /api/v2/variables/k", body: `{"key":"k","value":"hunter2x"}`, header: "Authorization: Bearer " + jwt, answer: `{}`, action: "config.update", target: "config k",
			patch: `{"op":"replace","path":"/value","value":"[masked]"}`, not: "hunter"},
		{request: "PATCH /api/v1/pools/default_pool", body: `{"slots":12}`, header: "Authorization: Basic Ym9iOmh1bnRlcjJ4", answer: `{}`, action: "config.update", target: "pool default_pool", patch: `{"op":"replace","path":"/slots","value":12}`},
		{request: "DELETE /api/v2/dags/invoices/dagRuns/manual__1", header: "Authorization: Bearer " + jwt, status: 204, action: "run.delete", run: "manual__1"},
		{request: "POST /api/v2/backfills", body: `{"dag_id":"invoices","from_date":"2026-01-01"}`, header: "Authorization: Bearer " + jwt, answer: `{"id":5}`, action: "run.start", target: "job invoices", run: "5"},
		{request: "POST /login/", body: "username=ada&password=hunter2x", header: "Content-Type: application/x-www-form-urlencoded", status: 302, answerH: "Location: /login/", action: "auth.login", outcome: "denied", actor: "ada", not: "hunter2x"},
		{request: "POST /login/", body: "username=ada&password=hunter2x", header: "Content-Type: application/x-www-form-urlencoded", status: 302, answerH: "Location: /home", action: "auth.login", actor: "ada"},
		{request: "POST /auth/fab/v1/users", body: `{"username":"eve","password":"hunter2x","roles":[{"name":"Admin"}]}`, header: "Authorization: Bearer " + jwt, answer: `{}`, action: "user.create", target: "user eve", patch: `"Admin"`, not: "hunter2x"},
		{request: "POST /users/delete/7", header: "Cookie: session=abcdefgh", action: "user.delete", target: "user 7", not: "abcdefgh"},
		{request: "PATCH /auth/fab/v1/roles/Viewer", body: `{"name":"Viewer","actions":[]}`, header: "Authorization: Bearer " + jwt, answer: `{}`, action: "access.grant", target: "role Viewer"},
		{request: "DELETE /api/v2/dags/invoices", header: "Authorization: Bearer " + jwt, status: 204, action: "job.delete", target: "job invoices"},
		{request: "GET /api/v2/dags?limit=50", header: "Authorization: Bearer " + jwt}, {request: "GET /ui/dags"}, {request: "GET /api/v2/monitor/health"}, {request: "POST /api/v2/dags/~/dagRuns/list", body: "{}", header: "Authorization: Bearer " + jwt},
		{request: "PUT /execution/task-instances/0197/heartbeat", body: `{"pid":1}`, status: 204},
	})
}

// TestREST: of an API that nobody has written rules for, what changes something.
func TestREST(t *testing.T) {
	story(t, "ready:rest", map[string]string{"/things/1": `{"a":1}`, "PUT /things/1": ` {"a":2}`}, []step{
		{request: "PUT /things/1", body: `{"a":2}`, action: "api.update", target: "api things/1", patch: `[{"op":"test","path":"/a","value":1},{"op":"replace","path":"/a","value":2}]`},
		{request: "POST /things", body: `{"name":"x","token":"hunter2x"}`, action: "api.write", target: "api /things", not: "hunter2x"},
		{request: "DELETE /things/1", status: 204, action: "api.delete", target: "api things/1", patch: `{"op":"remove","path":""}`},
		{request: "GET /things"}, {request: "HEAD /things"},
	})
}
