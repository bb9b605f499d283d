package kubernetes

import (
	"encoding/json"
	"testing"
)

// TestUsersTricks has what a user of the API server may send to have something else told of it than it did.
func TestUsersTricks(t *testing.T) {
	raw := func(s string) json.RawMessage { return json.RawMessage(s) }
	cronjob, secret := ref("cronjobs", "batch", "billing", "invoices", ""), ref("secrets", "", "billing", "db", "")
	const uri = "/apis/batch/v1/namespaces/billing/cronjobs/invoices?dryRun=All"
	made := map[string]any{"code": 201}
	for _, c := range []struct {
		desc   string
		change map[string]any
		want   string
	}{
		{"a dry run of a patch", map[string]any{"requestURI": uri}, "kubernetes.patch"},
		{"a dry run of a create", map[string]any{"requestURI": uri, "verb": "create", "responseStatus": made}, "kubernetes.create"},
		{"a dry run in another case is none", map[string]any{"requestURI": "/x?dryrun=All"}, "job.disable"},
		{"a deletion as a dry run", map[string]any{"requestURI": uri, "verb": "delete", "requestObject": nil}, "kubernetes.delete"},
		{"a deletion whose body says so", map[string]any{"verb": "delete", "requestObject": raw(`{"kind":"DeleteOptions","dryRun":["All"]}`)}, "kubernetes.delete"},
		{"a deletion whose body counts", map[string]any{"requestURI": uri, "verb": "delete", "requestObject": raw(`{"kind":"DeleteOptions"}`)}, "job.delete"},
		{"a deletion whose body was cut", map[string]any{"requestURI": uri, "verb": "delete", "requestObject": nil, "annotations": map[string]any{"audit.k8s.io/truncated": "true"}}, "job.delete"},
		{"a deletion whose body isn't told", map[string]any{"requestURI": uri, "verb": "delete", "requestObject": nil, "level": "Metadata", "objectRef": secret}, "credential.delete"},
		{"a name in another case", map[string]any{"requestObject": raw(`{"spec":{"Suspend":true}}`)}, "job.update"},
		{"a patch that tests alone", map[string]any{"requestObject": raw(`[{"op":"test","path":"/spec/suspend","value":true}]`)}, "job.update"},
		{"a path in another case", map[string]any{"requestObject": raw(`[{"op":"replace","path":"/spec/suspend","Path":"/metadata/labels/a","value":true}]`)}, "job.disable"},
		{"a secret that is applied is made", map[string]any{"objectRef": secret, "responseStatus": made}, "credential.create"},
		{"a job that is applied is made", map[string]any{"objectRef": cronjob, "responseStatus": made}, "job.create"},
		{"a job that is applied is a run", map[string]any{"objectRef": ref("jobs", "batch", "billing", "j", ""), "responseStatus": made,
			"requestObject": raw(`{"metadata":{"ownerReferences":[{"apiVersion":"batch/v1","kind":"CronJob","name":"invoices"}]}}`)}, "run.start"},
		{"an owner of another group", map[string]any{"objectRef": ref("jobs", "batch", "billing", "j", ""), "verb": "create",
			"requestObject": raw(`{"metadata":{"ownerReferences":[{"apiVersion":"example.com/v1","kind":"CronJob","name":"invoices"}]}}`)}, "job.create"},
		{"a status in another case", map[string]any{"objectRef": ref("jobs", "batch", "billing", "j", "status"),
			"requestObject": raw(`{"Status":{"conditions":[{"type":"Complete","status":"True"}]}}`)}, "kubernetes.patch"},
		{"a dry run of an end", map[string]any{"requestURI": uri, "objectRef": ref("jobs", "batch", "billing", "j", "status"),
			"requestObject": raw(`{"status":{"conditions":[{"type":"Complete","status":"True"}]}}`)}, "kubernetes.patch"},
		{"secrets that are watched", map[string]any{"stage": "ResponseStarted", "verb": "watch", "objectRef": secret, "requestObject": nil}, "credential.read"},
	} {
		body := audited(t, c.change)
		items := translate(t, body)
		if len(items) != 1 || items[0].Err != nil || items[0].Skip {
			t.Errorf("%s: items %+v", c.desc, items)
			continue
		}
		f := fields(t, items[0])
		if got := f.Text("/action"); got != c.want {
			t.Errorf("%s: %s, want %s", c.desc, got, c.want)
		}
		if _, changed := f.Get("/change/patch"); changed && c.want == "kubernetes.patch" {
			t.Errorf("%s: it changed something", c.desc)
		}
	}
	f := one(t, audited(t, map[string]any{"requestObject": json.RawMessage(`[{"op":"replace","path":"/spec/schedule","Path":"/metadata/labels/a","value":"* * * * *"}]`)}))
	if v, _ := f.Get("/change/patch"); string(v) != `[{"op":"replace","path":"/spec/schedule","value":"* * * * *"}]` {
		t.Errorf("the change is told as %s", v)
	}
}
