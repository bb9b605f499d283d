package kubernetes

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/personality/ingest"
	"github.com/prooftrail/prooftrail/verifier/client/mask"
	"github.com/prooftrail/prooftrail/verifier/event"
)

func request(body string) *ingest.Request {
	return &ingest.Request{Body: []byte(body), Source: "k8s://test", Received: time.Date(2026, 11, 27, 10, 0, 0, 0, time.UTC),
		ID: func(parts ...string) string {
			mac := hmac.New(sha256.New, []byte("key"))
			fmt.Fprintf(mac, "%q", parts)
			return hex.EncodeToString(mac.Sum(nil))
		}}
}

// translate expects items of a body.
func translate(t testing.TB, body string) []ingest.Item {
	t.Helper()
	items, err := New().Translate(request(body))
	if err != nil {
		t.Fatalf("%v: %.300s", err, body)
	}
	return items
}

// one expects one event, which the log takes.
func one(t testing.TB, body string) event.Fields {
	t.Helper()
	items := translate(t, body)
	if len(items) != 1 || items[0].Err != nil || items[0].Skip {
		t.Fatalf("items %+v of %.300s", items, body)
	}
	return fields(t, items[0])
}

func fields(t testing.TB, it ingest.Item) event.Fields {
	t.Helper()
	m, err := mask.New(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	ingest.Mask(m, &it.Event)
	f, err := it.Event.Fields()
	if err != nil {
		t.Fatalf("%v: %+v", err, it.Event)
	}
	return f
}

// audited is an audit event as the API server makes it, with members replaced or added.
func audited(t testing.TB, change map[string]any) string {
	t.Helper()
	a := map[string]any{
		"kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Request", "auditID": "0d1f3c9a-1111-4222-8333-444455556666", "stage": "ResponseComplete",
		"requestURI": "/apis/batch/v1/namespaces/billing/cronjobs/invoices?fieldManager=kubectl", "verb": "patch",
		"user":      map[string]any{"username": "ann@example.com", "uid": "u-1", "groups": []string{"ops", "system:authenticated"}, "extra": map[string]any{"authentication.kubernetes.io/credential-id": []string{"X509SHA256=ab"}}},
		"sourceIPs": []string{"198.51.100.99", "203.0.113.7"}, "userAgent": "kubectl/v1.37.2",
		"objectRef":      map[string]any{"resource": "cronjobs", "namespace": "billing", "name": "invoices", "apiGroup": "batch", "apiVersion": "v1"},
		"responseStatus": map[string]any{"metadata": map[string]any{}, "code": 200},
		"requestObject":  map[string]any{"spec": map[string]any{"suspend": true}}, "requestReceivedTimestamp": "2026-11-27T09:59:58.123456Z",
		"stageTimestamp": "2026-11-27T09:59:58.223456Z", "annotations": map[string]any{"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": "RBAC: allowed"},
	}
	for name, value := range change {
		if value == nil {
			delete(a, name)
		} else {
			a[name] = value
		}
	}
	b, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func ref(resource, group, namespace, name, sub string) map[string]any {
	return map[string]any{"resource": resource, "apiGroup": group, "namespace": namespace, "name": name, "subresource": sub, "apiVersion": "v1"}
}

func TestWhole(t *testing.T) {
	f := one(t, audited(t, nil))
	for pointer, want := range map[string]string{
		"/action": "job.disable", "/outcome": "success", "/source": "k8s://test", "/time": "2026-11-27T09:59:58.123456Z",
		"/actor/type": "user", "/actor/id": "ann@example.com", "/actor/credential_id": "X509SHA256=ab",
		"/origin/ip": "203.0.113.7", "/origin/user_agent": "kubectl/v1.37.2", "/origin/request_id": "0d1f3c9a-1111-4222-8333-444455556666",
		"/target/0/type": "cronjobs", "/target/0/id": "billing/invoices", "/target/0/name": "invoices", "/job/id": "billing/invoices", "/job/name": "invoices",
		"/labels/namespace": "billing", "/details/groups": "ops system:authenticated", "/details/level": "Request", "/details/decision": "allow", "/details/verb": "patch",
	} {
		if got := f.Text(pointer); got != want {
			t.Errorf("%s is %q, want %q", pointer, got, want)
		}
	}
	if v, _ := f.Get("/origin/forwarded"); string(v) != `["198.51.100.99"]` {
		t.Errorf("forwarded is %s", v)
	}
	if v, _ := f.Get("/change/patch"); string(v) != `[{"op":"replace","path":"/spec/suspend","value":true}]` {
		t.Errorf("patch is %s", v)
	}
	if id := f.Text("/id"); !strings.HasPrefix(id, "0d1f3c9a-1111-4222-8333-444455556666.") || len(id) != 36+1+32 {
		t.Errorf("id is %s", id)
	}
}

// TestActions has a line for each thing that is told apart.
func TestActions(t *testing.T) {
	meta := func(m map[string]any, more map[string]any) map[string]any {
		o := map[string]any{"metadata": m}
		for k, v := range more {
			o[k] = v
		}
		return o
	}
	owned := map[string]any{"name": "invoices-29400000", "ownerReferences": []any{map[string]any{"kind": "CronJob", "name": "invoices", "controller": true}},
		"annotations": map[string]any{"batch.kubernetes.io/cronjob-scheduled-timestamp": "2026-11-27T11:00:00+01:00"}}
	controller := map[string]any{"username": "system:serviceaccount:kube-system:cronjob-controller"}
	jobController := map[string]any{"username": "system:serviceaccount:kube-system:job-controller"}
	cron, secret := ref("cronjobs", "batch", "billing", "invoices", ""), ref("secrets", "", "billing", "db", "")
	binding := ref("clusterrolebindings", "rbac.authorization.k8s.io", "", "admins", "")
	status := ref("jobs", "batch", "billing", "invoices-29400000", "status")
	condition := func(kind, reason string) map[string]any {
		return meta(owned, map[string]any{"status": map[string]any{"conditions": []any{map[string]any{"type": "SuccessCriteriaMet", "status": "True"}, map[string]any{"type": kind, "status": "True", "reason": reason}}}})
	}
	for _, c := range []struct {
		name   string
		change map[string]any
		want   map[string]string // text by pointer
	}{
		{"create", map[string]any{"verb": "create", "objectRef": cron, "requestObject": meta(nil, map[string]any{"spec": map[string]any{"schedule": "0 3 * * *", "timeZone": "Europe/Berlin", "suspend": false}})},
			map[string]string{"/action": "job.create", "/job/schedule": "0 3 * * *", "/job/tz": "Europe/Berlin"}},
		{"update", map[string]any{"verb": "update", "objectRef": cron, "requestObject": meta(nil, map[string]any{"spec": map[string]any{"schedule": "@daily"}})},
			map[string]string{"/action": "job.update", "/job/schedule": "@daily"}},
		{"update, not recorded", map[string]any{"verb": "update", "objectRef": cron, "requestObject": nil}, map[string]string{"/action": "job.update"}},
		{"patch of more", map[string]any{"requestObject": map[string]any{"spec": map[string]any{"suspend": true, "schedule": "@daily"}}}, map[string]string{"/action": "job.update", "/job/schedule": "@daily"}},
		{"enable", map[string]any{"requestObject": map[string]any{"spec": map[string]any{"suspend": false}}}, map[string]string{"/action": "job.enable"}},
		{"JSON patch", map[string]any{"requestObject": []any{map[string]any{"op": "replace", "path": "/spec/suspend", "value": true}}}, map[string]string{"/action": "job.disable"}},
		{"JSON patch of more", map[string]any{"requestObject": []any{map[string]any{"op": "add", "path": "/spec/schedule", "value": "@weekly"}, map[string]any{"op": "remove", "path": "/spec/timeZone"}}},
			map[string]string{"/action": "job.update", "/job/schedule": "@weekly"}},
		{"delete", map[string]any{"verb": "delete", "requestObject": nil}, map[string]string{"/action": "job.delete"}},
		{"delete all", map[string]any{"verb": "deletecollection", "objectRef": ref("cronjobs", "batch", "billing", "", ""), "requestObject": nil}, map[string]string{"/action": "job.delete", "/job/id": "billing/*", "/target/0/id": "billing/*"}},
		{"scheduled", map[string]any{"verb": "create", "user": controller, "objectRef": ref("jobs", "batch", "billing", "", ""), "requestObject": meta(owned, nil)},
			map[string]string{"/action": "run.start", "/job/id": "billing/invoices", "/job/run_id": "billing/invoices-29400000", "/job/trigger": "schedule", "/job/scheduled_for": "2026-11-27T10:00:00Z", "/actor/type": "schedule"}},
		{"scheduled, by its name", map[string]any{"verb": "create", "user": controller, "objectRef": ref("jobs", "batch", "billing", "invoices-29400000", ""), "requestObject": nil},
			map[string]string{"/action": "run.start", "/job/id": "billing/invoices", "/job/trigger": "schedule", "/job/scheduled_for": "2025-11-24T16:00:00Z"}},
		{"by hand", map[string]any{"verb": "create", "objectRef": ref("jobs", "batch", "billing", "again", ""), "requestObject": meta(map[string]any{"name": "again", "ownerReferences": owned["ownerReferences"]}, nil)},
			map[string]string{"/action": "run.start", "/job/id": "billing/invoices", "/job/trigger": "manual", "/job/run_id": "billing/again", "/actor/type": "user"}},
		{"a name alone says nothing of a user's", map[string]any{"verb": "create", "objectRef": ref("jobs", "batch", "billing", "invoices-29400000", ""), "requestObject": nil}, map[string]string{"/action": "job.create", "/job/id": "billing/invoices-29400000"}},
		{"made up name", map[string]any{"verb": "create", "objectRef": ref("jobs", "batch", "billing", "", ""), "requestObject": meta(map[string]any{"generateName": "import-"}, nil)}, map[string]string{"/action": "job.create", "/target/0/id": "billing/import-*"}},
		{"finished", map[string]any{"verb": "update", "user": jobController, "objectRef": status, "requestObject": condition("Complete", "")},
			map[string]string{"/action": "run.finish", "/outcome": "success", "/job/id": "billing/invoices", "/job/run_id": "billing/invoices-29400000"}},
		{"failed", map[string]any{"verb": "update", "user": jobController, "objectRef": status, "requestObject": condition("Failed", "BackoffLimitExceeded")},
			map[string]string{"/action": "run.finish", "/outcome": "failure", "/reason/code": "BackoffLimitExceeded"}},
		{"read a secret", map[string]any{"verb": "get", "objectRef": secret, "requestObject": nil}, map[string]string{"/action": "credential.read", "/target/0/id": "billing/db"}},
		{"list secrets", map[string]any{"verb": "list", "objectRef": ref("secrets", "", "", "", ""), "requestObject": nil}, map[string]string{"/action": "credential.read", "/target/0/id": "*"}},
		{"create a secret", map[string]any{"verb": "create", "objectRef": secret}, map[string]string{"/action": "credential.create"}},
		{"change a secret", map[string]any{"verb": "patch", "objectRef": secret}, map[string]string{"/action": "credential.rotate"}},
		{"delete a secret", map[string]any{"verb": "delete", "objectRef": secret}, map[string]string{"/action": "credential.delete"}},
		{"a token", map[string]any{"verb": "create", "objectRef": ref("serviceaccounts", "", "billing", "runner", "token")}, map[string]string{"/action": "credential.create", "/target/0/type": "serviceaccounts:token"}},
		{"grant", map[string]any{"verb": "create", "objectRef": binding, "requestObject": meta(nil, map[string]any{"roleRef": map[string]any{"name": "cluster-admin"}, "subjects": []any{map[string]any{"kind": "User", "name": "bob"}}})},
			map[string]string{"/action": "access.grant", "/target/0/id": "admins"}},
		{"revoke", map[string]any{"verb": "delete", "objectRef": binding, "requestObject": nil}, map[string]string{"/action": "access.revoke"}},
		{"configuration", map[string]any{"verb": "update", "objectRef": ref("configmaps", "", "billing", "limits", "")}, map[string]string{"/action": "config.update"}},
		{"anything else", map[string]any{"verb": "create", "objectRef": ref("pods", "", "billing", "p", "exec"), "responseStatus": map[string]any{"code": 101}, "stage": "ResponseStarted"},
			map[string]string{"/action": "kubernetes.create", "/target/0/type": "pods:exec", "/details/stage": "ResponseStarted", "/outcome": "success"}},
		{"no resource", map[string]any{"verb": "get", "objectRef": nil, "requestURI": "/metrics?token=hunter2"}, map[string]string{"/action": "kubernetes.get", "/target/0/type": "path", "/target/0/id": "/metrics"}},
		{"denied", map[string]any{"responseStatus": map[string]any{"code": 403, "message": "no"}, "annotations": map[string]any{"authorization.k8s.io/decision": "forbid"}, "requestObject": nil},
			map[string]string{"/action": "job.update", "/outcome": "denied", "/reason/code": "403", "/reason/text": "no"}},
		{"forbidden by decision", map[string]any{"responseStatus": nil, "annotations": map[string]any{"authorization.k8s.io/decision": "forbid"}}, map[string]string{"/outcome": "denied", "/reason/code": "403"}},
		{"not authenticated", map[string]any{"user": map[string]any{}, "responseStatus": map[string]any{"code": 401}}, map[string]string{"/outcome": "denied", "/reason/code": "401", "/actor/type": "anonymous", "/actor/id": "unknown"}},
		{"invalid", map[string]any{"responseStatus": map[string]any{"code": 422, "reason": "Invalid"}}, map[string]string{"/outcome": "failure", "/reason/code": "422"}},
		{"panic", map[string]any{"stage": "Panic", "responseStatus": map[string]any{"code": 500}}, map[string]string{"/outcome": "failure", "/reason/code": "panic"}},
		{"no status", map[string]any{"responseStatus": nil}, map[string]string{"/outcome": "unknown", "/reason/code": "no_status"}},
		{"impersonated", map[string]any{"impersonatedUser": map[string]any{"username": "root"}}, map[string]string{"/actor/id": "ann@example.com", "/actor/on_behalf_of": "root"}},
		{"anonymous", map[string]any{"user": map[string]any{"username": "system:anonymous"}}, map[string]string{"/actor/type": "anonymous"}},
		{"a node", map[string]any{"user": map[string]any{"username": "system:node:n1"}}, map[string]string{"/actor/type": "service"}},
		{"one address", map[string]any{"sourceIPs": []string{"::1"}}, map[string]string{"/origin/ip": "::1"}},
		{"no address", map[string]any{"sourceIPs": []string{"somewhere"}}, map[string]string{"/origin/ip": ""}},
		{"null times", map[string]any{"requestReceivedTimestamp": json.RawMessage("null"), "stageTimestamp": json.RawMessage("null")}, map[string]string{"/time": "2026-11-27T10:00:00Z"}},
		{"the later time", map[string]any{"requestReceivedTimestamp": nil}, map[string]string{"/time": "2026-11-27T09:59:58.223456Z"}},
		{"a time that can't be", map[string]any{"requestReceivedTimestamp": "0001-01-01T00:00:00Z", "stageTimestamp": nil}, map[string]string{"/time": "2026-11-27T10:00:00Z"}},
	} {
		f := one(t, audited(t, c.change))
		for pointer, want := range c.want {
			if got := f.Text(pointer); got != want {
				t.Errorf("%s: %s is %q, want %q", c.name, pointer, got, want)
			}
		}
	}
}

// TestSkipped: these aren't events.
func TestSkipped(t *testing.T) {
	for name, change := range map[string]map[string]any{
		"first stage":    {"stage": "RequestReceived"},
		"watch":          {"stage": "ResponseStarted", "verb": "watch"},
		"own accounting": {"verb": "update", "user": map[string]any{"username": "system:serviceaccount:kube-system:cronjob-controller"}, "objectRef": ref("cronjobs", "batch", "a", "b", "status")},
	} {
		if items := translate(t, audited(t, change)); len(items) != 1 || !items[0].Skip {
			t.Errorf("%s: %+v", name, items)
		}
	}
	f := one(t, audited(t, map[string]any{"verb": "update", "objectRef": ref("cronjobs", "batch", "a", "b", "status")}))
	if f.Text("/action") != "kubernetes.update" {
		t.Errorf("a user's update of a status is %s", f.Text("/action"))
	}
}

// TestNoContentOfSecrets: nothing of a secret's object, or of a config map's, is in the event, at whatever level the policy has it.
func TestNoContentOfSecrets(t *testing.T) {
	object := map[string]any{"data": map[string]any{"k": "hunter2"}, "stringData": map[string]any{"hunter2": "x"}, "spec": "hunter2"}
	for _, resource := range []string{"secrets", "configmaps"} {
		for _, verb := range []string{"create", "update", "patch", "delete", "get"} {
			f := one(t, audited(t, map[string]any{"verb": verb, "level": "RequestResponse", "objectRef": ref(resource, "", "a", "b", ""), "requestObject": object, "responseObject": object}))
			if strings.Contains(string(f.JSON()), "hunter2") {
				t.Errorf("%s %s: %s", verb, resource, f.JSON())
			}
		}
	}
	// The environment and the arguments of a job are masked by their names.
	f := one(t, audited(t, map[string]any{"verb": "update", "requestObject": json.RawMessage(`{"spec":{"jobTemplate":{"spec":{"template":{"spec":{"containers":[{"name":"c",
		"env":[{"name":"DB_PASSWORD","value":"hunter2"},{"name":"MONTH","value":"11"},{"name":"KEY","valueFrom":{"secretKeyRef":{"name":"db","key":"k"}}}],
		"args":["--password","hunter2","--verbose"],"command":["sh","-c","mysql --password=hunter2 x"]}]}}}}}}`)}))
	text := string(f.JSON())
	if strings.Contains(text, "hunter2") || !strings.Contains(text, `"MONTH":"11"`) || !strings.Contains(text, `"--verbose"`) || !strings.Contains(text, "secretKeyRef") {
		t.Errorf("got %s", text)
	}
}

// TestUnreadable: what can't be read is an item with a reason that names the member, and none of its content.
func TestUnreadable(t *testing.T) {
	for _, c := range []struct{ body, says string }{
		{"not JSON hunter2", "no JSON at byte"},
		{`{"kind":"EventList"}`, "apiVersion: expected audit.k8s.io/v1"},
		{`{"kind":"EventList","apiVersion":"audit.k8s.io/v1beta1","items":[]}`, "apiVersion"},
		{`{"kind":"Pod","apiVersion":"audit.k8s.io/v1"}`, "kind: expected EventList"},
		{`{"apiVersion":"audit.k8s.io/v1"}`, "kind: expected EventList"},
		{`[]`, "expected an object"}, {`5`, "expected an object"}, {`{"items":5}`, "items: expected an array"}, {`{"items":null`, "no JSON"},
		{`{"kind":"EventList","apiVersion":"audit.k8s.io/v1"} x`, "expected nothing behind"}, {`{"kind":5}`, "expected string, not number"},
		{`{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[5]}`, "expected struct, not number"},
		{audited(t, map[string]any{"stage": "hunter2"}), "stage: expected"},
		{audited(t, map[string]any{"auditID": ""}), "auditID: expected"},
		{audited(t, map[string]any{"verb": nil}), "verb: expected"},
		{audited(t, map[string]any{"sourceIPs": []any{"a", nil}}), "expected lists of texts"}, {audited(t, map[string]any{"sourceIPs": "hunter2"}), "expected lists of texts"},
		{audited(t, map[string]any{"user": "hunter2"}), "user: expected struct, not string"},
		{audited(t, map[string]any{"stageTimestamp": "hunter2"}), "a timestamp: expected"},
		{audited(t, map[string]any{"stageTimestamp": 5}), "a timestamp: expected"},
		{strings.Repeat("[", 1<<20), "expected an object"}, {`{"items":[` + strings.Repeat("[", 1<<20), "no JSON at byte"},
	} {
		items := translate(t, c.body)
		if len(items) != 1 || items[0].Err == nil || !strings.Contains(items[0].Err.Error(), c.says) || strings.Contains(items[0].Err.Error(), "hunter2") {
			t.Errorf("%.100s: %+v", c.body, items[0].Err)
		}
	}
	if _, err := New().Translate(request("")); err == nil {
		t.Error("an empty body was taken")
	}
	mixed := translate(t, `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[`+audited(t, nil)+`,{"auditID":5},`+audited(t, map[string]any{"stage": "RequestReceived"})+`]}`)
	if len(mixed) != 3 || mixed[0].Err != nil || mixed[1].Err == nil || !mixed[2].Skip {
		t.Errorf("a list with a bad one: %+v", mixed)
	}
}

// hostile are audit events in which a client of the API server has put what it likes, wherever it can.
func hostile(t testing.TB) []string {
	t.Helper()
	long, deep := strings.Repeat("<\u0000é", 100_000), `"x"`
	for range 500 {
		deep = `{"a":[` + deep + `]}`
	}
	wide := `{"spec":{` + strings.TrimSuffix(strings.Repeat(`"k":1,`, 3), ",")
	for i := range 5000 {
		wide += fmt.Sprintf(`,"k%d":null`, i)
	}
	wide += "}}"
	return []string{
		audited(t, map[string]any{"auditID": long, "userAgent": long, "sourceIPs": []string{long, long, "1.2.3.4"}, "requestURI": "/" + long}),
		audited(t, map[string]any{"auditID": "../..\u0007", "objectRef": nil, "requestURI": "", "verb": "GET\u0000"}),
		audited(t, map[string]any{"sourceIPs": strings.Split(strings.Repeat("x,", 1000), ",")}),
		audited(t, map[string]any{"objectRef": ref(long, long, long, long, long), "verb": "create"}),
		audited(t, map[string]any{"objectRef": map[string]any{}, "verb": long}),
		audited(t, map[string]any{"user": map[string]any{"username": long, "groups": []string{long}, "extra": map[string]any{"authentication.kubernetes.io/credential-id": []string{long}}}, "impersonatedUser": map[string]any{"username": long}}),
		audited(t, map[string]any{"requestObject": json.RawMessage(deep)}),
		audited(t, map[string]any{"requestObject": json.RawMessage(`{"spec":` + deep + `}`), "verb": "create"}),
		audited(t, map[string]any{"requestObject": json.RawMessage(wide)}),
		audited(t, map[string]any{"requestObject": json.RawMessage(`{"spec":{"a":1.5,"b":-0,"c":1e999,"d":null,"e":[null,{}],"f":{},"g":99999999999999999999,"":1,"~/":2,"schedule":7}}`)}),
		audited(t, map[string]any{"requestObject": json.RawMessage(`[{"op":"evil","path":"x"},{"op":"add","path":"/a~"},{"op":"replace","path":"/spec/suspend","value":"yes"},{"op":"move","path":"/a","from":"b"},{"op":"remove","path":"/x"}]`)}),
		audited(t, map[string]any{"requestObject": json.RawMessage(`["x"]`)}),
		audited(t, map[string]any{"requestObject": json.RawMessage(`"` + strings.Repeat("x", 1<<20) + `"`)}),
		audited(t, map[string]any{"requestObject": json.RawMessage(`{"spec":{"x":"` + strings.Repeat("x", 1<<20) + `"}}`)}),
		audited(t, map[string]any{"requestObject": json.RawMessage(`{"metadata":{"ownerReferences":[{"kind":"CronJob","name":"` + strings.Repeat("n", 5000) + `"}],"annotations":{"batch.kubernetes.io/cronjob-scheduled-timestamp":"9999999"}}}`),
			"verb": "create", "objectRef": ref("jobs", "batch", "a", "", "")}),
		audited(t, map[string]any{"responseStatus": map[string]any{"code": 1 << 40, "message": long, "reason": long}, "annotations": map[string]any{"authorization.k8s.io/reason": long, "authorization.k8s.io/decision": long}}),
		audited(t, map[string]any{"responseStatus": map[string]any{"code": -5}}),
		// What masking makes longer.
		audited(t, map[string]any{"userAgent": strings.Repeat("token=a ", 512), "auditID": strings.Repeat("token=a ", 64), "verb": "create", "user": map[string]any{"username": strings.Repeat("token=a ", 64), "groups": []string{strings.Repeat("token=a ", 64)}},
			"sourceIPs": []string{strings.Repeat("token=a ", 64), "::1"}, "objectRef": ref("cronjobs", "batch", strings.Repeat("token=a ", 32), strings.Repeat("token=a ", 64), ""),
			"requestObject":  map[string]any{"spec": map[string]any{"schedule": strings.Repeat("token=a ", 512), "timeZone": strings.Repeat("token=a ", 16), "args": strings.Repeat("pwd=a ", 13_000)}},
			"responseStatus": map[string]any{"code": 201}}),
		audited(t, map[string]any{"requestReceivedTimestamp": "9999-12-31T23:59:59.999999999-23:00"}),
	}
}

// TestHostile: nothing that a client of the API server can choose keeps an event out of the log.
func TestHostile(t *testing.T) {
	for _, body := range hostile(t) {
		f := one(t, body)
		if f.Text("/action") == "" {
			t.Errorf("%.100s: no action", body)
		}
	}
	f := one(t, hostile(t)[0])
	if cut := f.Text("/details/cut"); !strings.Contains(cut, "origin.user_agent") || !strings.Contains(cut, "origin.request_id") {
		t.Errorf("what was cut is %q", cut)
	}
}

// TestSameAuditID: a client that gives its requests the audit id of another one's hides nothing.
func TestSameAuditID(t *testing.T) {
	a, b := one(t, audited(t, nil)), one(t, audited(t, map[string]any{"verb": "delete"}))
	if a.Text("/id") == b.Text("/id") || a.Text("/origin/request_id") != b.Text("/origin/request_id") {
		t.Errorf("ids %s and %s", a.Text("/id"), b.Text("/id"))
	}
}

// peakOf is the most memory that was in use while f ran, beyond what was before.
func peakOf(f func()) uint64 {
	defer debug.SetGCPercent(debug.SetGCPercent(10)) // what is garbage isn't in use
	runtime.GC()
	used := func() uint64 {
		s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		metrics.Read(s)
		return s[0].Value.Uint64()
	}
	before, peak := used(), uint64(0)
	done := make(chan struct{})
	go func() {
		f()
		close(done)
	}()
	every := time.NewTicker(time.Millisecond)
	defer every.Stop()
	for {
		peak = max(peak, used())
		select {
		case <-every.C:
		case <-done:
			peak = max(peak, used())
			return peak - min(peak, before)
		}
	}
}

// TestMemory: what is made of a body is within a few times its length, whatever shape it has.
func TestMemory(t *testing.T) {
	const size = 16 << 20
	fill := func(head, unit, tail string) string {
		return head + strings.TrimSuffix(strings.Repeat(unit, (size-len(head)-len(tail))/len(unit)), ",") + tail
	}
	of := func(member, unit, end string) string {
		whole := audited(t, map[string]any{member: nil})
		return fill(strings.TrimSuffix(whole, "}")+`,"`+member+`":`+end[:1], unit, end[1:]+"}")
	}
	for name, body := range map[string]string{
		"items": fill(`{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[`, "{},", "]}"), "items of items": fill(`{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[[`, "[],", "]]}"),
		"deep": fill(`{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[`, "[", "]}"), "names": fill(`{`, `"a":[],`, `}`),
		"object": of("requestObject", `{"a":{}},`, "[]"), "patch": of("requestObject", `{},`, "[]"),
		"addresses": of("sourceIPs", `"",`, "[]"), "annotations": of("annotations", `"a":"",`, "{}"), "not JSON": strings.Repeat("x", size),
	} {
		var items []ingest.Item
		var err error
		r := request(body)
		if peak := peakOf(func() { items, err = New().Translate(r) }); peak > 12*size {
			t.Errorf("%s: %d MiB were in use for a body of %d MiB", name, peak>>20, size>>20)
		}
		if len(items) > ingest.MaxItems || err != nil && !errors.Is(err, ingest.ErrTooManyItems) {
			t.Errorf("%s: %d items, %v", name, len(items), err)
		}
	}
}

// checkItems holds what Translate made of a body against what it promises.
func checkItems(t *testing.T, body []byte) {
	t.Helper()
	r := request(string(body))
	items, err := New().Translate(r)
	if (err != nil) != (len(body) == 0) {
		t.Fatalf("error %v of %d bytes", err, len(body))
	}
	for _, it := range items {
		if it.Err != nil && it.Skip {
			t.Fatalf("both skipped and wrong: %+v", it)
		}
		again := request(string(it.Raw))
		second, err := New().Translate(again)
		if err != nil || len(second) != 1 || (second[0].Err == nil) != (it.Err == nil) || second[0].Skip != it.Skip {
			t.Fatalf("replayed: %+v, %v; at first %+v", second, err, it)
		}
		if it.Err != nil || it.Skip {
			continue
		}
		first, replayed := fields(t, it), fields(t, second[0])
		if string(first.JSON()) != string(replayed.JSON()) {
			t.Fatalf("replayed it is another event:\n%s\n%s", first.JSON(), replayed.JSON())
		}
	}
}

// FuzzTranslate: whatever comes is an item, and what is made of it is an event that the log takes, the same each time.
func FuzzTranslate(f *testing.F) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		f.Fatalf("no testdata: %v", err)
	}
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
		l, err := split(body)
		if err != nil {
			f.Fatal(err)
		}
		for _, item := range l.Items {
			f.Add([]byte(item))
		}
	}
	for _, body := range hostile(f) {
		if len(body) < 64<<10 {
			f.Add([]byte(body))
		}
	}
	f.Fuzz(checkItems)
}

// TestTestdata: what API servers have sent.
func TestTestdata(t *testing.T) {
	body, err := os.ReadFile("testdata/eventlist.json")
	if err != nil {
		t.Fatal(err)
	}
	checkItems(t, body)
	var actions []string
	for _, it := range translate(t, string(body)) {
		switch {
		case it.Err != nil:
			t.Errorf("%v", it.Err)
		case it.Skip:
			actions = append(actions, "-")
		default:
			actions = append(actions, it.Event.Action+" "+it.Event.Outcome)
		}
	}
	const want = "job.create success,run.start success,-,run.finish success,job.disable success,credential.read denied,access.grant success,kubernetes.create success"
	if got := strings.Join(actions, ","); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
