package httpapi

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/personality"
	"github.com/prooftrail/prooftrail/personality/ingest"
	"github.com/prooftrail/prooftrail/personality/ingest/mapping"
	"github.com/prooftrail/prooftrail/personality/ingest/webhook"
	"github.com/prooftrail/prooftrail/verifier/client"
)

const doorSecret = "0123456789abcdef"

// fakeDoor takes what says "open" in X-Proof.
type fakeDoor struct{}

func (fakeDoor) Path() string   { return "fake" }
func (fakeDoor) Name() string   { return "webhook:fake" }
func (fakeDoor) Tenant() string { return "default" }
func (fakeDoor) Source() string { return "cron://door" }

func (fakeDoor) Check(h http.Header, _ []byte, _ time.Time) (string, error) {
	if h.Get("X-Proof") != "open" {
		return "", errors.New("the door stays shut")
	}
	return ingest.SenderHMAC, nil
}

// withDoors serves a real log with a door of each style, named after it, and the mapping for CronJobPro.
func withDoors(t *testing.T, api func(*Config)) *harness {
	t.Helper()
	text, _ := mapping.ReadyFile("ready:cronjobpro")
	m, err := mapping.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	var doors []Door
	var adapters []ingest.Adapter
	for _, style := range []webhook.Style{webhook.StyleTimestamped, webhook.StyleGitHub, webhook.StyleBearer, webhook.StyleBasic} {
		cfg := webhook.Config{Name: string(style), Tenant: "default", Source: "cron://door/" + string(style), Style: style, Secrets: [][]byte{[]byte(doorSecret)}, Mapping: m}
		if style == webhook.StyleTimestamped {
			cfg.Header = "X-CronJobPro-Signature"
		}
		if style == webhook.StyleBasic {
			cfg.Secrets = [][]byte{[]byte("rundeck:" + doorSecret)}
		}
		d, err := webhook.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		doors, adapters = append(doors, d), append(adapters, d)
	}
	r := newRealLogWith(t, func(c *personality.Config) { c.Adapters = adapters })
	h := serve(t, Of(r.svc), func(c *Config) {
		c.Doors = doors
		if api != nil {
			api(c)
		}
	})
	h.real = r
	return h
}

func hexMAC(key, text string) string {
	m := hmac.New(sha256.New, []byte(key))
	m.Write([]byte(text))
	return hex.EncodeToString(m.Sum(nil))
}

// proof is the header that proves a body at the door of a style.
func proof(style, key, body string) map[string]string {
	switch style {
	case "timestamped":
		at := strconv.FormatInt(time.Now().Unix(), 10)
		return map[string]string{"X-CronJobPro-Signature": "t=" + at + ",v1=" + hexMAC(key, at+"."+body)}
	case "github":
		return map[string]string{"X-Hub-Signature-256": "sha256=" + hexMAC(key, body)}
	case "bearer":
		return map[string]string{"Authorization": "Bearer " + key}
	}
	return map[string]string{"Authorization": "Basic " + base64.StdEncoding.EncodeToString([]byte("rundeck:"+key))}
}

func (h *harness) knock(style, key, body string) *reply {
	h.t.Helper()
	return h.do(call{method: "POST", path: "/v1/ingest/webhook/" + style + "?source=cron://forged", body: body, header: proof(style, key, body)})
}

const alert = `{"event":"failure","job":{"id":"j1","name":"Nightly"},"status":"failed","timestamp":"2026-11-27T09:00:00Z"}`

// TestDoors: what is proven comes into the log under the door's tenant and source, with a label that says how it was proven;
// played back it adds nothing; and what isn't proven is refused.
func TestDoors(t *testing.T) {
	h := withDoors(t, nil)
	for style, sender := range map[string]string{"timestamped": "hmac", "github": "hmac", "bearer": "bearer", "basic": "basic"} {
		h.knock(style, "another secret..", alert).want(t, 401)
		a := h.knock(style, doorSecret, alert)
		a.want(t, 200)
		items := a.items(t)
		if statuses(items) != "accepted" {
			t.Fatalf("%s: %s", style, a.body)
		}
		f := h.opened(items[0].Index)
		sum := sha256.Sum256([]byte(alert))
		for pointer, want := range map[string]string{
			"/ingest/adapter": "webhook:" + style, "/labels/ingest.sender": sender, "/source": "cron://door/" + style, "/tenant": "default",
			"/action": "run.finish", "/outcome": "failure", "/job/id": "j1", "/ingest/principal": "door/webhook:" + style,
			"/ingest/raw_sha256": hex.EncodeToString(sum[:]), "/time": "2026-11-27T09:00:00Z",
		} {
			if got := f.Text(pointer); got != want {
				t.Errorf("%s: %s is %q, want %q", style, pointer, got, want)
			}
		}
		if again := h.knock(style, doorSecret, alert).items(t); statuses(again) != "duplicate" || again[0].Index != items[0].Index {
			t.Errorf("%s: played back: %+v", style, again)
		}
	}
}

// TestDoorQuarantine: what comes through a door and can't be an event waits, and is replayed through the same mapping.
func TestDoorQuarantine(t *testing.T) {
	h := withDoors(t, nil)
	for body, status := range map[string]string{
		`{"event":"failure"}`: "quarantined", "not JSON": "quarantined", `{"event":"success","job":{"id":"j"},"timestamp":"soon"}`: "quarantined",
	} {
		items := h.knock("github", doorSecret, body).items(t)
		if statuses(items) != status {
			t.Fatalf("%s: %+v", body, items)
		}
		q := decode[client.Quarantined](t, h.get("admin", "/v1/quarantine/"+items[0].Quarantine).body)
		if q.Raw != body || q.Adapter != "webhook:github" || q.Sender != "hmac" || q.Principal != "door/webhook:github" {
			t.Errorf("%s: %+v", body, q)
		}
		again := h.do(call{method: "POST", path: "/v1/quarantine/" + q.ID + "/replay", token: "admin"}).items(t)
		if statuses(again) != status || again[0].Quarantine != q.ID || again[0].Reason != items[0].Reason {
			t.Errorf("%s replayed: %+v, at first %+v", body, again, items)
		}
	}
}

func TestDoorRefuses(t *testing.T) {
	h := withDoors(t, nil)
	body := strings.Repeat("x", MaxDoorBytes+1)
	for _, c := range []struct {
		name   string
		call   call
		status int
		says   string
	}{
		{"no such door", call{path: "/v1/ingest/webhook/none", body: alert, header: proof("github", doorSecret, alert)}, 404, "no such door"},
		{"no proof", call{path: "/v1/ingest/webhook/github", body: alert}, 401, "has no signature of the form"},
		{"of another body", call{path: "/v1/ingest/webhook/github", body: alert, header: proof("github", doorSecret, alert+" ")}, 401, "isn't one with the door's secret"},
		{"a token", call{path: "/v1/ingest/webhook/github", body: alert, token: "submit"}, 401, "has no signature of the form"},
		{"coded", call{path: "/v1/ingest/webhook/github", body: zipped(t, []byte(alert)), header: map[string]string{"Content-Encoding": "gzip"}}, 415, "no content coding"},
		{"too long", call{path: "/v1/ingest/webhook/github", body: body, header: proof("github", doorSecret, body)}, 413, "1048576"},
		{"an adapter by its door's secret", call{path: "/v1/ingest/webhook:bearer", body: alert, header: proof("bearer", doorSecret, alert)}, 401, "a valid token is needed"},
	} {
		c.call.method = "POST"
		if a := h.do(c.call); a.status != c.status || !strings.Contains(string(a.body), c.says) {
			t.Errorf("%s: status %d, want %d with %q: %s", c.name, a.status, c.status, c.says, a.body)
		}
	}
	if n := h.server.api.bodyMemory.Load(); n != 0 {
		t.Errorf("%d bytes of bodies are counted and no request is under way", n)
	}
}

// TestDoorFailuresAreLimited: an address that fails too often is answered before its body is read, at every door, until time has
// passed; those that prove what they bring are limited by the token's rate alone.
func TestDoorFailuresAreLimited(t *testing.T) {
	h := withDoors(t, func(c *Config) { c.AuthFailuresPerMinute = 3 })
	for range 20 {
		h.knock("bearer", doorSecret, alert).want(t, 200)
	}
	for range 2 {
		h.knock("github", "another secret..", alert).want(t, 401)
	}
	h.do(call{method: "POST", path: "/v1/ingest/webhook/none", body: alert}).want(t, 404)
	for _, style := range []string{"github", "bearer", "none"} {
		a := h.knock(style, "another secret..", alert)
		a.want(t, 429)
		if a.header.Get("Retry-After") == "" {
			t.Error("429 without Retry-After")
		}
	}
	h.knock("github", doorSecret, alert).want(t, 429) // a proof isn't looked at any more
}

func TestDoorsAreChecked(t *testing.T) {
	text, _ := mapping.ReadyFile("ready:dkron")
	m, err := mapping.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	open := func(name, tenant string) Door {
		d, err := webhook.New(webhook.Config{Name: name, Tenant: tenant, Source: "cron://a", Style: webhook.StyleBearer, Secrets: [][]byte{[]byte(doorSecret)}, Mapping: m})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	for _, c := range []struct {
		doors []Door
		want  string
	}{
		{[]Door{open("a", "default"), open("a", "other")}, "httpapi: there are two doors a"},
		{[]Door{open("a", personality.OwnTenant)}, "httpapi: door a: no door is the tenant's prooftrail"},
	} {
		if _, err := New(Config{Log: newFakeLog(t), Doors: c.doors}); err == nil || err.Error() != c.want {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
}
