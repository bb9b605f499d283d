package deployment_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	warn "github.com/prooftrail/prooftrail/verifier/monitor/alarm" // deployment has alarms too: Prometheus's
)

// page is what Alertmanager tells its receivers: of the webhook's body what is looked at.
type page struct {
	Alerts []struct {
		Status       string            `json:"status"`
		Labels       map[string]string `json:"labels"`
		Annotations  map[string]string `json:"annotations"`
		GeneratorURL string            `json:"generatorURL"`
	} `json:"alerts"`
}

// pager is a receiver of Alertmanager's.
type pager struct {
	mu   sync.Mutex
	said []string // "status alertname severity log peer", once each time that it changes
}

func (p *pager) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	var got page
	if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range got.Alerts {
		p.said = append(p.said, strings.Join([]string{a.Status, a.Labels["alertname"], a.Labels["severity"], a.Labels["log"], a.Labels["peer"]}, " "))
	}
}

func (p *pager) heard(want string) func() error {
	return func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		if !slices.Contains(p.said, want) {
			return fmt.Errorf("heard %q, not %q", p.said, want)
		}
		return nil
	}
}

// startAlertmanager starts one that pages at once, and returns its URL.
func startAlertmanager(t *testing.T, to string) string {
	t.Helper()
	dir, address := t.TempDir(), freeAddress(t)
	writeFile(t, filepath.Join(dir, "am.yml"), `
route:
  receiver: pager
  group_by: ['...']
  group_wait: 100ms
  group_interval: 200ms
  repeat_interval: 1h
receivers:
- name: pager
  webhook_configs:
  - url: `+to+`
    send_resolved: true
`)
	p := start(t, tool(t, "prometheus-alertmanager", "prometheus-alertmanager"), "--config.file="+filepath.Join(dir, "am.yml"),
		"--storage.path="+filepath.Join(dir, "data"), "--web.listen-address="+address, "--cluster.listen-address=")
	eventually(t, "Alertmanager is ready", func() error {
		p.mustRun(t)
		status, _, err := fetch(t, web, "http://"+address+"/-/ready")
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("status %d", status)
		}
		return err
	})
	return "http://" + address
}

// amAlert is an alert as Alertmanager's API shows it.
type amAlert struct {
	Labels       map[string]string
	Annotations  map[string]string
	StartsAt     time.Time
	EndsAt       time.Time
	GeneratorURL string
}

// amAlerts asks an Alertmanager what is there.
func amAlerts(t *testing.T, at string) (all []amAlert, err error) {
	t.Helper()
	status, body, err := fetch(t, web, at+"/api/v2/alerts")
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("status %d: %s", status, body)
	}
	if err == nil {
		err = json.Unmarshal([]byte(body), &all)
	}
	return all, err
}

// TestAlertmanager takes alarms of a board through a real Alertmanager, from their beginning to
// their end: it pages when one begins, when it gets worse and when it is gone, and not before.
func TestAlertmanager(t *testing.T) {
	heard := &pager{}
	to := httptest.NewServer(heard)
	t.Cleanup(to.Close)
	at := startAlertmanager(t, to.URL)
	s, err := warn.NewAlertmanager(warn.AlertmanagerConfig{HTTPConfig: warn.HTTPConfig{URL: at}, Monitor: "m1", GeneratorURL: "https://m1.example/alarms",
		Labels: map[string]string{"team": "audit"}, Resend: 500 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	b, err := warn.New(warn.Config{Sinks: []warn.Sink{s}, Drain: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()

	stale := warn.Alarm{Name: "stale-head", Log: "example.com/audit", Severity: warn.Warning, Summary: "head is 5 minutes old", Details: map[string]string{"size": "42"}}
	silent := warn.Alarm{Name: "peer-silent", Peer: "m2", Severity: warn.Info, Summary: "\x1b[2J\u202e" + strings.Repeat("€", 1000)}
	b.Raise(stale)
	b.Raise(silent)
	eventually(t, "paged", heard.heard("firing stale-head warning example.com/audit "))
	eventually(t, "paged", heard.heard("firing peer-silent info  m2"))

	began := b.Active()[0].Since
	if err := b.Acknowledge(stale.ID(), "alice", "on it"); err != nil {
		t.Fatal(err)
	}
	// Acknowledged ones are sent on: four times longer than an alert lasts that isn't.
	var until time.Time
	eventually(t, "it is sent on", func() error {
		all, err := amAlerts(t, at)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(all, func(a amAlert) bool { return a.Labels["alertname"] == "stale-head" })
		if i < 0 {
			t.Fatalf("it is gone, there is %v", all)
		}
		a := all[i]
		if a.Labels["monitor"] != "m1" || a.Labels["team"] != "audit" || a.Annotations["summary"] != stale.Summary || a.Annotations["details"] != "size: 42" ||
			a.Annotations["id"] != stale.ID() || !a.StartsAt.Equal(began) || a.GeneratorURL != "https://m1.example/alarms" {
			t.Fatalf("alert %+v", a)
		}
		if until.IsZero() {
			until = a.EndsAt.Add(6 * time.Second)
		}
		if !strings.HasPrefix(a.Annotations["acknowledged"], "by alice at ") || a.EndsAt.Before(until) {
			return fmt.Errorf("ends at %s, %v", a.EndsAt, a.Annotations)
		}
		return nil
	})

	stale.Severity = warn.Critical
	b.Raise(stale)
	eventually(t, "paged for the worse", heard.heard("firing stale-head critical example.com/audit "))
	eventually(t, "the milder one is gone", heard.heard("resolved stale-head warning example.com/audit "))
	if heard.heard("resolved peer-silent info  m2")() == nil || heard.heard("resolved stale-head critical example.com/audit ")() == nil {
		t.Error("paged that something is gone that is there")
	}
	b.Clear(stale.Name, stale.Log, "")
	eventually(t, "it is gone", heard.heard("resolved stale-head critical example.com/audit "))

	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	// The monitor is gone, and with it, a while later, its alerts.
	eventually(t, "the alert expires", heard.heard("resolved peer-silent info  m2"))
	if h := b.Health()[0]; h.Failed > 0 || h.Pending > 0 {
		t.Errorf("health %+v", h)
	}
}

// TestAlertmanagerTakesAll: the largest batch of the largest alarms, and ends of alarms that it
// never heard of.
func TestAlertmanagerTakesAll(t *testing.T) {
	to := httptest.NewServer(&pager{})
	t.Cleanup(to.Close)
	at := startAlertmanager(t, to.URL)
	s, err := warn.NewAlertmanager(warn.AlertmanagerConfig{HTTPConfig: warn.HTTPConfig{URL: at}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := warn.New(warn.Config{Sinks: []warn.Sink{s}, Drain: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	details := map[string]string{}
	for i := range 20 {
		details["a \"key\" "+strconv.Itoa(i)] = strings.Repeat("\\\"<&>\u2028\U0001f512\xff\x00", 100)
	}
	const alarms = 200
	for i := range alarms {
		name := strings.Repeat("Ünkebab ", 10) + strconv.Itoa(i)
		b.Raise(warn.Alarm{Name: name, Log: strings.Repeat("lög\n", 200) + strconv.Itoa(i), Peer: "\xff{}=\",", Severity: warn.Warning, Summary: details["a \"key\" 1"], Details: details})
	}
	for i := range 10 {
		b.Raise(warn.Alarm{Name: "came-and-went", Peer: strconv.Itoa(i)})
		b.Clear("came-and-went", "", strconv.Itoa(i))
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := b.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if h := b.Health()[0]; h.Failed > 0 || h.Pending > 0 || h.Sent != alarms+10 {
		t.Errorf("health %+v", h)
	}
	all, err := amAlerts(t, at)
	if err != nil || len(all) != alarms {
		t.Errorf("%d alerts, %v", len(all), err)
	}
}
