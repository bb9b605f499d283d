package mask_test

import (
	"testing"

	"github.com/prooftrail/prooftrail/verifier/client/mask"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// BenchmarkEvent measures what masking adds to each event that is enqueued: one without a secret, one with some, and one
// of 64 KiB.
func BenchmarkEvent(b *testing.B) {
	plain := valid()
	plain.Action, plain.Job = "run.finish", &event.Job{ID: "j-42", Name: "nightly invoices", Schedule: "0 2 * * *", TZ: "Europe/Zurich",
		RunID: "0198c0de-7a10-7cc0-8b5e-3f2a91d04c11", Node: "worker-3"}
	plain.Origin = &event.Origin{IP: "192.0.2.7", UserAgent: "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", Host: "cron.example.com"}
	plain.Labels = map[string]string{"team": "billing", "env": "production"}
	plain.Details = map[string]any{"command": []string{"/usr/local/bin/invoices", "--month", "2026-01"}, "attempt": 1, "queue": map[string]any{"name": "default", "depth": 17}}
	secret := plain
	secret.Details = map[string]any{"command": "PGPASSWORD=hunter2 pg_dump -h db billing", "env": map[string]any{"DB_PASSWORD": "hunter2"},
		"url": "https://api.example.com/x?token=0123456789abcdef", "argv": []string{"mysql", "-phunter2", "billing"}}
	large := plain
	lines := make([]any, 512)
	for i := range lines {
		lines[i] = "2026-01-31T02:00:00Z INFO invoice 4711 sent to customer 42, next page of the report is due at the month's end; 17 left; all is well"
	}
	large.Details = map[string]any{"lines": lines}
	for name, e := range map[string]event.Event{"plain": plain, "secrets": secret, "64KiB": large} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				mask.Default().Event(e)
			}
		})
	}
}
