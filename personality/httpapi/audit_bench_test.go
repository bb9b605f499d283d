package httpapi

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/prooftrail/prooftrail/verifier"
)

// auditedEvent is an event of some 850 bytes as a cron service sends it. With what the
// server adds it has 33 fields.
func auditedEvent(n int) string {
	return fmt.Sprintf(`{"schema":"prooftrail.event/1","id":"1ad3b84e-9764-7d92-a721-%012d","source":"cron://bench/3","seq":"%d",`+
		`"time":"2026-01-31T22:45:36.308Z","action":"run.start","outcome":"success",`+
		`"actor":{"type":"schedule","id":"schedule/job-202338","name":"nightly and hourly production schedule","on_behalf_of":"u-1018"},`+
		`"target":[{"type":"job","id":"job-202338","name":"rotate access logs"}],`+
		`"job":{"id":"job-202338","name":"rotate access logs","schedule":"*/5 * * * *","tz":"Europe/Zurich",`+
		`"command_sha256":"9f2c1a7be03d55816f0d8e5ab7a1c4477f6a8e01d3b92c5407e1f2a3b4c5d6e7","run_id":"0eae94a0-8b62-71fd-9f48-%012d",`+
		`"scheduled_for":"2026-01-31T22:45:36Z","trigger":"schedule","node":"worker-07.eu-central-1.example.com"},`+
		`"labels":{"env":"production","region":"eu-central-1","team":"data-platform"},"details":{"attempt":1,"queue":"default","slots":4}}`, n, n, n)
}

const auditedEvents = 20_000

func auditedLog(b *testing.B) *harness {
	b.Helper()
	h := withReal(b, func(c *Config) { c.EventsPerSecond = -1 })
	for n := 0; n < auditedEvents; {
		var batch []string
		for range 400 {
			batch = append(batch, auditedEvent(n))
			n++
		}
		h.post("submit", "/v1/events", ndjsonType, strings.Join(batch, "\n"), 200)
	}
	return h
}

// BenchmarkAudit is a whole audit over a loopback connection, server and verifier on the
// same cores.
func BenchmarkAudit(b *testing.B) {
	h := auditedLog(b)
	for name, token := range map[string]string{"tiles": "", "openings": "all"} {
		b.Run(name, func(b *testing.B) {
			log, err := verifier.NewHTTPLog(verifier.HTTPConfig{URL: "http://" + h.addr + "/logs/audit", Token: h.secret(token)})
			if err != nil {
				b.Fatal(err)
			}
			cfg := verifier.AuditConfig{Source: log, Policy: h.real.policy}
			if token != "" {
				cfg.Openings = log
			}
			b.ReportAllocs()
			for b.Loop() {
				if r, err := verifier.Audit(b.Context(), cfg); err != nil || r.Entries < auditedEvents {
					b.Fatal(r, err)
				}
			}
			b.ReportMetric(auditedEvents*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}

// BenchmarkOpenings is the server's part of it: to a token of all tenants, and to one of
// a single tenant, for which each opening is parsed.
func BenchmarkOpenings(b *testing.B) {
	h := auditedLog(b)
	for _, token := range []string{"all", "read"} {
		b.Run(token, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, "http://"+h.addr+"/v1/logs/audit/openings?start=0&count=10000", nil)
				if err != nil {
					b.Fatal(err)
				}
				req.Header.Set("Authorization", "Bearer "+h.secret(token))
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					b.Fatal(err)
				}
				n, err := io.Copy(io.Discard, resp.Body)
				if err != nil || n < 10_000*2_000 || resp.StatusCode != http.StatusOK {
					b.Fatal(n, resp.Status, err)
				}
				if err := resp.Body.Close(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(10_000*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}
