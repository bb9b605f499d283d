package kubeaudit

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	authnv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	auditinternal "k8s.io/apiserver/pkg/apis/audit"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/apiserver/pkg/audit"
	utilwebhook "k8s.io/apiserver/pkg/util/webhook"
	"k8s.io/apiserver/plugin/pkg/audit/buffered"
	"k8s.io/apiserver/plugin/pkg/audit/truncate"
	"k8s.io/apiserver/plugin/pkg/audit/webhook"

	"github.com/prooftrail/prooftrail/deployment/check/servertest"
)

// flag is the number that docs/ingest.md gives a flag of the API server.
func flag(t *testing.T, name string) int {
	t.Helper()
	page, err := os.ReadFile("../../../docs/ingest.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^--` + name + `=([0-9]+)$`).FindSubmatch(page)
	if m == nil {
		t.Fatalf("docs/ingest.md has no --%s", name)
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// plain is the webhook's client alone, as the API server has it in the mode blocking.
func plain(t *testing.T, s *server) audit.Backend {
	t.Helper()
	b, err := webhook.NewBackend(s.kubeconfig(), auditv1.SchemeGroupVersion, utilwebhook.DefaultRetryBackoffWithInitialDelay(300*time.Millisecond), nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// batched puts around it what k8s.io/apiserver/pkg/server/options does in the mode batch, in that order, with the flags of the page.
func batched(t *testing.T, s *server) audit.Backend {
	t.Helper()
	b := buffered.NewBackend(plain(t, s), buffered.BatchConfig{BufferSize: 10_000, MaxBatchSize: flag(t, "audit-webhook-batch-max-size"),
		MaxBatchWait: 100 * time.Millisecond, ThrottleEnable: true, ThrottleQPS: 10, ThrottleBurst: 15, AsyncDelegate: true})
	return truncate.NewBackend(b, truncate.Config{MaxBatchSize: 10 << 20, MaxEventSize: int64(flag(t, "audit-webhook-truncate-max-event-size"))}, auditv1.SchemeGroupVersion)
}

// event is one as the API server makes it.
func event(id string, change func(*auditinternal.Event)) *auditinternal.Event {
	e := &auditinternal.Event{
		Level: auditinternal.LevelRequest, AuditID: types.UID(id), Stage: auditinternal.StageResponseComplete,
		RequestURI: "/apis/batch/v1/namespaces/billing/cronjobs/invoices", Verb: "patch", User: authnv1.UserInfo{Username: "ann", Groups: []string{"ops"}},
		SourceIPs: []string{"203.0.113.9", "192.0.2.7"}, UserAgent: "kubectl",
		ObjectRef:      &auditinternal.ObjectReference{Resource: "cronjobs", Namespace: "billing", Name: "invoices", APIGroup: "batch", APIVersion: "v1"},
		ResponseStatus: &metav1.Status{Code: 200}, RequestReceivedTimestamp: metav1.NowMicro(), StageTimestamp: metav1.NowMicro(),
		RequestObject: &runtime.Unknown{Raw: []byte(`{"spec":{"suspend":true}}`), ContentType: runtime.ContentTypeJSON},
		Annotations:   map[string]string{"authorization.k8s.io/decision": "allow"},
	}
	if change != nil {
		change(e)
	}
	return e
}

// wantOnce finds each of the events with these audit ids in the log exactly once.
func (s *server) wantOnce(ids map[string]bool) map[string]servertest.Entry {
	s.t.Helper()
	found := map[string]servertest.Entry{}
	for _, e := range s.Entries("kubernetes") {
		id, _ := e["/origin/request_id"].(string)
		if _, twice := found[id]; twice {
			s.t.Errorf("%s is there twice", id)
		}
		found[id] = e
	}
	for id := range ids {
		if found[id] == nil {
			s.t.Errorf("%s isn't in the log", id)
		}
		delete(ids, id)
	}
	return found
}

// TestWebhook: what the API server's client sends is in the log, as docs/ingest.md says; a bad one is in the quarantine, and its batch
// isn't sent again.
func TestWebhook(t *testing.T) {
	s := newServer(t)
	b := plain(t, s)
	const n = 400 // the API server's own greatest batch
	ids, batch := map[string]bool{}, []*auditinternal.Event{}
	for i := range n {
		id := fmt.Sprintf("plain-%d", i)
		ids[id] = true
		batch = append(batch, event(id, nil))
	}
	batch[1].RequestReceivedTimestamp, batch[1].StageTimestamp = metav1.MicroTime{}, metav1.MicroTime{} // sent as null
	batch[2].Stage = "Nowhere"
	delete(ids, "plain-2")
	batch[3].Stage = auditinternal.StageRequestReceived
	delete(ids, "plain-3")
	batch[4].ResponseStatus, batch[4].Annotations = &metav1.Status{Code: 403, Message: "no"}, map[string]string{"authorization.k8s.io/decision": "forbid"}
	batch[5].ImpersonatedUser = &authnv1.UserInfo{Username: "bob"}
	for range 2 { // a client that didn't get the answer sends all of it again
		if !b.ProcessEvents(batch...) {
			t.Fatal("the webhook's client dropped the batch")
		}
	}
	found := s.wantOnce(ids)
	for id, want := range map[string]map[string]any{
		"plain-0": {"/action": "job.disable", "/source": "k8s://prod", "/outcome": "success", "/origin/ip": "192.0.2.7", "/labels/ingest.sender": "token", "/job/id": "billing/invoices"},
		"plain-4": {"/outcome": "denied", "/reason/text": "no"}, "plain-5": {"/actor/id": "ann", "/actor/on_behalf_of": "bob"},
	} {
		for pointer, value := range want {
			if got := found[id][pointer]; got != value {
				t.Errorf("%s: %s is %v, want %v", id, pointer, got, value)
			}
		}
	}
	var waiting []struct{ Status, Reason string }
	list := s.Run("prooftrail", "quarantine", "list", "--json", "--server", s.URL, "--ca", "log-ca.pem", "--token-file", s.TokenFile("admin"))
	if err := json.Unmarshal([]byte(list), &waiting); err != nil || len(waiting) != 1 || !strings.HasPrefix(waiting[0].Reason, "stage: ") {
		t.Errorf("in the quarantine: %s, %v", list, err)
	}
	s.Audit("--ca", "log-ca.pem")
}

// TestBuffered: a flood through the buffer and the truncation, with the server killed and started again in the middle, is in
// the log, each event once. Long objects are cut by the API server, and batches stay within what a delivery may have.
func TestBuffered(t *testing.T) {
	s := newServer(t)
	b := batched(t, s)
	stop := make(chan struct{})
	if err := b.Run(stop); err != nil {
		t.Fatal(err)
	}
	most := flag(t, "audit-webhook-truncate-max-event-size")
	object := func(n int) func(*auditinternal.Event) {
		return func(e *auditinternal.Event) {
			e.RequestObject.Raw = []byte(`{"spec":{"schedule":"` + strings.Repeat("x", n) + `"}}`)
		}
	}
	ids := map[string]bool{}
	send := func(id string, change func(*auditinternal.Event)) {
		ids[id] = true
		if !b.ProcessEvents(event(id, change)) {
			t.Fatalf("%s was dropped", id)
		}
	}
	send("too-long", object(2*most))
	for i := range 150 { // more than a batch of the longest that aren't cut
		send(fmt.Sprintf("long-%d", i), object(most-2000))
	}
	for i := range 1500 {
		send(fmt.Sprintf("flood-%d", i), nil)
		if i == 700 {
			s.Kill()
			s.Start()
		}
	}
	close(stop)
	b.Shutdown() // until all is sent
	found := s.wantOnce(ids)
	if e := found["too-long"]; e["/details/level"] != "Metadata" && e["/change/patch"] == nil {
		t.Errorf("the long one: %v", e)
	}
	s.Audit("--ca", "log-ca.pem")
}
