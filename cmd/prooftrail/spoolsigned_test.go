package main

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/prooftrail/prooftrail/verifier"
)

// TestSpoolKillSigned is TestSpoolKill with a source that signs, of a log that takes from it only what is signed: each event is
// in the log once, and each signature is good.
func TestSpoolKillSigned(t *testing.T) {
	r := newSpoolRun(t)
	run := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("prooftrail", args...).Output()
		if err != nil {
			t.Fatalf("%q: %v", args, err)
		}
		return strings.TrimSpace(string(out))
	}
	vkey := run("source-key", "new", "--name", "spool.example.com", r.spool+".key")
	run("source-key", "add", "--source", spoolSource, "--vkey", vkey, "--data", r.dir)
	server, total := r.kills(t)
	keys, err := verifier.ParseSourceKeys(fmt.Appendf(nil, "%s %s\n", spoolSource, vkey))
	if err != nil {
		t.Fatal(err)
	}
	log, err := verifier.NewHTTPLog(verifier.HTTPConfig{URL: server.url + "/logs/audit", Token: r.tokens["read"]})
	if err != nil {
		t.Fatal(err)
	}
	report, err := verifier.Audit(t.Context(), verifier.AuditConfig{Source: log, Openings: log, Policy: r.policy, SourceKeys: keys})
	if err != nil {
		t.Fatalf("audit: %v\n%+v", err, report)
	}
	i := slices.IndexFunc(report.Signatures, func(s verifier.SignatureReport) bool { return s.Source == spoolSource })
	if i < 0 || report.Signatures[i].Good != uint64(total) || total == 0 {
		t.Errorf("%d events: %+v", total, report.Signatures)
	}
}
