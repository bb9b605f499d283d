package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

const runEvent = `{"schema":"prooftrail.event/1","id":"run-000001","source":"cron://node-1","seq":"1",
"time":"2026-01-31T12:00:00Z","action":"run.finish","outcome":"success",
"actor":{"type":"schedule","id":"nightly"},"target":[{"type":"job","id":"backup-1","name":"Backup"}],
"job":{"id":"backup-1","schedule":"*/5 * * * *","exit_code":0,"duration_ms":1200},"labels":{"team":"infra"}}`

// TestReceiptOfEvent: a receipt is that of an event only if it shows all of it. What it
// withholds could be anything, so it neither verifies the event nor accuses anybody.
func TestReceiptOfEvent(t *testing.T) {
	const example = "../../verifier/testdata/example/"
	full, err := os.ReadFile(example + "run-000001.tlog-proof")
	if err != nil {
		t.Fatal(err)
	}
	everything := []string{"/schema", "/tenant", "/source", "/id", "/seq", "/time", "/action", "/outcome", "/received_at", "/actor", "/target", "/job", "/labels"}
	evil := strings.Replace(runEvent, `"nightly"`, `"eve"`, 1)
	longer := strings.Replace(runEvent, `"team"`, `"more":"x","team"`, 1)
	for _, tt := range []struct {
		name    string
		receipt []byte
		event   string
		code    int
		out     string
	}{
		{"all shown", full, runEvent, 0, "verified: entry 1"},
		{"all shown, another event", full, evil, 1, "/actor/id differs"},
		{"all shown, another field", full, longer, 1, "/labels/more is only in the event given"},
		{"the server's withheld", redacted(t, full, 0, "/tenant"), runEvent, 0, "verified: entry 1"},
		{"one withheld", redacted(t, full, 0, "/actor/id"), runEvent, 2, "only partly compared with it; withheld: /actor/id"},
		{"one withheld, another event there", redacted(t, full, 0, "/actor/id"), evil, 2, "withheld: /actor/id"},
		{"one withheld, another event elsewhere", redacted(t, full, 0, "/labels"), evil, 1, "/actor/id differs"},
		{"all withheld", redacted(t, full, 0, everything...), runEvent, 2, "only partly compared"},
		{"all withheld, another event", redacted(t, full, 0, everything...), evil, 2, "only partly compared"},
		{"all withheld, another field", redacted(t, full, 0, everything...), longer, 1, "/labels/more is only in the event given"},
		{"erased", redacted(t, full, 2, "/labels"), runEvent, 2, "erased: /labels/team"},
		{"erased, another event elsewhere", redacted(t, full, 2, "/labels"), evil, 1, "/actor/id differs"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			file, receipt := filepath.Join(dir, "event.json"), filepath.Join(dir, "r.tlog-proof")
			for path, b := range map[string][]byte{file: []byte(tt.event), receipt: tt.receipt} {
				if err := os.WriteFile(path, b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var out strings.Builder
			args := []string{"receipt", receipt, "--policy", example + "policy.txt", "--event", file}
			if code := Run(context.Background(), args, strings.NewReader(""), &out, &out); code != tt.code || !strings.Contains(out.String(), tt.out) {
				t.Errorf("exit status %d, expected %d\n%s", code, tt.code, out.String())
			}
		})
	}
}

// redacted withholds fields of a receipt's opening, or says that entry by erased them.
func redacted(t *testing.T, receipt []byte, by uint64, pointers ...string) []byte {
	t.Helper()
	r, err := verifier.ParseReceipt(receipt)
	if err != nil {
		t.Fatal(err)
	}
	o, err := seal.ParseOpening(r.Extra)
	if err != nil {
		t.Fatal(err)
	}
	if by > 0 {
		o, err = o.Erase(by, pointers...)
	} else {
		o, err = o.Withhold(pointers...)
	}
	if err != nil {
		t.Fatal(err)
	}
	r.Extra = o.Bytes()
	return r.Bytes()
}
