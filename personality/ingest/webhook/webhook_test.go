package webhook_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/personality/ingest"
	"github.com/prooftrail/prooftrail/personality/ingest/mapping"
	"github.com/prooftrail/prooftrail/personality/ingest/webhook"
)

var now = time.Unix(1795773600, 0)

const (
	secret = "0123456789abcdef"
	older  = "fedcba9876543210"
	body   = `{"event":"failure","job":{"id":"j"}}`
)

func config(t testing.TB, style webhook.Style) webhook.Config {
	t.Helper()
	text, ok := mapping.ReadyFile("ready:cronjobpro")
	if !ok {
		t.Fatal("there is no ready:cronjobpro")
	}
	m, err := mapping.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	cfg := webhook.Config{Name: "cron-1", Tenant: "acme", Source: "https://cronjobpro.com/acme", Style: style,
		Secrets: [][]byte{[]byte(secret), []byte(older)}, Mapping: m}
	if style == webhook.StyleTimestamped {
		cfg.Header = "X-CronJobPro-Signature"
	}
	if style == webhook.StyleBasic {
		cfg.Secrets = [][]byte{[]byte("u:" + secret), []byte("u:" + older)}
	}
	return cfg
}

func open(t testing.TB, style webhook.Style) *webhook.Door {
	t.Helper()
	d, err := webhook.New(config(t, style))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func mac(key, text string) string {
	h := hmac.New(sha256.New, []byte(key))
	h.Write([]byte(text))
	return hex.EncodeToString(h.Sum(nil))
}

// stamped is the header of a delivery that was signed so long ago.
func stamped(key, body string, ago time.Duration) string {
	t := strconv.FormatInt(now.Add(-ago).Unix(), 10)
	return "t=" + t + ",v1=" + mac(key, t+"."+body)
}

func TestProofs(t *testing.T) {
	good := mac(secret, body)
	basic := func(s string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(s)) }
	const (
		noSignature = "the delivery has no signature of the form that the door wants"
		isOld       = "the time of the signature is more than five minutes off"
		bad         = "the signature isn't one with the door's secret"
		noSecret    = "the delivery doesn't show the door's secret"
	)
	for _, c := range []struct {
		style  webhook.Style
		values []string
		want   string
	}{
		{webhook.StyleTimestamped, []string{stamped(secret, body, 0)}, ""},
		{webhook.StyleTimestamped, []string{stamped(older, body, 5*time.Minute)}, ""},
		{webhook.StyleTimestamped, []string{stamped(secret, body, -5*time.Minute)}, ""},
		{webhook.StyleTimestamped, []string{stamped("another secret..", body, 0) + ",v1=" + mac(secret, "1795773600."+body) + ", v0=x"}, ""},
		{webhook.StyleTimestamped, []string{stamped(secret, body, 5*time.Minute+time.Second)}, isOld},
		{webhook.StyleTimestamped, []string{stamped(secret, body, -5*time.Minute-time.Second)}, isOld},
		{webhook.StyleTimestamped, []string{stamped("another secret..", body, 0)}, bad},
		{webhook.StyleTimestamped, []string{stamped(secret, body+" ", 0)}, bad},
		{webhook.StyleTimestamped, []string{strings.Replace(stamped(secret, body, 0), "t=1795773600", "t=1795773601", 1)}, bad},
		{webhook.StyleTimestamped, []string{"t=01795773600,v1=" + mac(secret, "1795773600."+body)}, bad},
		{webhook.StyleTimestamped, []string{stamped(secret, body, 0), stamped(secret, body, 0)}, noSignature},
		{webhook.StyleTimestamped, []string{"t=1795773600," + stamped(secret, body, 0)}, noSignature},
		{webhook.StyleTimestamped, []string{"t=1795773600"}, noSignature},
		{webhook.StyleTimestamped, []string{"v1=" + good}, noSignature},
		{webhook.StyleTimestamped, []string{"t=1795773600,v1=" + good[:62]}, noSignature},
		{webhook.StyleTimestamped, []string{"t=1795773600,v1=zz"}, noSignature},
		{webhook.StyleTimestamped, []string{"t=9999999999999,v1=" + good}, noSignature},
		{webhook.StyleTimestamped, []string{stamped(secret, body, 0) + strings.Repeat(",v1="+good, 20)}, noSignature},
		{webhook.StyleTimestamped, nil, noSignature},

		{webhook.StyleGitHub, []string{"sha256=" + good}, ""},
		{webhook.StyleGitHub, []string{"sha256=" + mac(older, body)}, ""},
		{webhook.StyleGitHub, []string{"sha256=" + mac(secret, body+" ")}, bad},
		{webhook.StyleGitHub, []string{"sha1=" + good}, noSignature},
		{webhook.StyleGitHub, []string{good}, noSignature},
		{webhook.StyleGitHub, []string{"sha256="}, noSignature},
		{webhook.StyleGitHub, []string{"sha256=" + good, "sha256=" + good}, noSignature},
		{webhook.StyleGitHub, nil, noSignature},

		{webhook.StyleBearer, []string{"Bearer " + secret}, ""},
		{webhook.StyleBearer, []string{"bearer  " + older}, ""},
		{webhook.StyleBearer, []string{"Bearer " + secret + "x"}, noSecret},
		{webhook.StyleBearer, []string{"Bearer"}, noSecret},
		{webhook.StyleBearer, []string{secret}, noSecret},
		{webhook.StyleBearer, []string{"Bearer " + secret, "Bearer " + secret}, noSecret},
		{webhook.StyleBearer, nil, noSecret},

		{webhook.StyleBasic, []string{basic("u:" + secret)}, ""},
		{webhook.StyleBasic, []string{basic("u:" + older)}, ""},
		{webhook.StyleBasic, []string{basic("v:" + secret)}, noSecret},
		{webhook.StyleBasic, []string{"Basic u:" + secret}, noSecret},
		{webhook.StyleBasic, []string{"Bearer u:" + secret}, noSecret},
	} {
		h := http.Header{}
		name := map[webhook.Style]string{webhook.StyleTimestamped: "X-Cronjobpro-Signature", webhook.StyleGitHub: "X-Hub-Signature-256"}[c.style]
		if name == "" {
			name = "Authorization"
		}
		for _, v := range c.values {
			h.Add(name, v)
		}
		sender, err := open(t, c.style).Check(h, []byte(body), now)
		if got := text(err); got != c.want {
			t.Errorf("%s %q: %q, want %q", c.style, c.values, got, c.want)
		}
		want := map[webhook.Style]string{webhook.StyleTimestamped: ingest.SenderHMAC, webhook.StyleGitHub: ingest.SenderHMAC, webhook.StyleBearer: "bearer", webhook.StyleBasic: "basic"}
		if sender != want[c.style] {
			t.Errorf("%s: the sender is %s", c.style, sender)
		}
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestDoor(t *testing.T) {
	d := open(t, webhook.StyleGitHub)
	if d.Path() != "cron-1" || d.Name() != "webhook:cron-1" || d.Tenant() != "acme" || d.Source() != "https://cronjobpro.com/acme" {
		t.Errorf("door %s %s %s %s", d.Path(), d.Name(), d.Tenant(), d.Source())
	}
	r := &ingest.Request{Header: http.Header{}, Body: []byte(body), Source: "urn:other", Received: now, ID: func(...string) string { return "id" }}
	items, err := d.Translate(r)
	if err != nil || len(items) != 1 || items[0].Err != nil || items[0].Event.Source != d.Source() || r.Source != "urn:other" {
		t.Errorf("%v, %+v", err, items)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, c := range []struct {
		change func(*webhook.Config)
		want   string
	}{
		{func(c *webhook.Config) { c.Name = "Cron" }, "name: expected 1 to 48 lower-case letters, digits and hyphens, no hyphen first"},
		{func(c *webhook.Config) { c.Name = strings.Repeat("a", 49) }, "name: expected 1 to 48 lower-case letters, digits and hyphens, no hyphen first"},
		{func(c *webhook.Config) { c.Tenant = "a b" }, "tenant: expected 1 to 128 letters, digits, _, . and -"},
		{func(c *webhook.Config) { c.Source = "x" }, "source: expected a URI with a scheme in lower case, not prooftrail"},
		{func(c *webhook.Config) { c.Source = "prooftrail:x" }, "source: expected a URI with a scheme in lower case, not prooftrail"},
		{func(c *webhook.Config) { c.Style = "none" }, "signature.style: expected timestamped, github, bearer or basic"},
		{func(c *webhook.Config) { c.Style = webhook.StyleTimestamped }, "signature.header: expected the name of the header with the signature, for timestamped and github only"},
		{func(c *webhook.Config) { c.Style, c.Header = webhook.StyleBearer, "X" }, "signature.header: expected the name of the header with the signature, for timestamped and github only"},
		{func(c *webhook.Config) { c.Secrets = nil }, "secret_files: expected one or two"},
		{func(c *webhook.Config) { c.Secrets = append(c.Secrets, c.Secrets[0]) }, "secret_files: expected one or two"},
		{func(c *webhook.Config) { c.Secrets[1] = []byte("short") }, "secret_files.1: expected a secret of 16 bytes or more"},
		{func(c *webhook.Config) { c.Style = webhook.StyleBasic }, "secret_files.0: expected user:password"},
		{func(c *webhook.Config) { c.Mapping = nil }, "mapping: expected a file, or one of ready:cronjobpro, ready:dkron, ready:rundeck"},
	} {
		cfg := config(t, webhook.StyleGitHub)
		c.change(&cfg)
		if _, err := webhook.New(cfg); text(err) != c.want {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
}

// FuzzCheck: nothing passes but what was signed.
func FuzzCheck(f *testing.F) {
	f.Add(stamped(secret, body, 0), []byte(body))
	f.Add("t=1795773600,v1=00", []byte(body))
	f.Add("sha256="+mac(secret, body), []byte(body))
	f.Add("Bearer "+secret, []byte{})
	doors := []*webhook.Door{open(f, webhook.StyleTimestamped), open(f, webhook.StyleGitHub)}
	f.Fuzz(func(t *testing.T, value string, signed []byte) {
		for _, d := range doors {
			h := http.Header{"X-Cronjobpro-Signature": {value}, "X-Hub-Signature-256": {value}}
			if _, err := d.Check(h, signed, now); err == nil && !strings.Contains(value, mac(secret, string(signed))) &&
				!strings.Contains(value, mac(secret, "1795773600."+string(signed))) {
				t.Fatalf("%q passes for %q", value, signed)
			}
		}
	})
}
