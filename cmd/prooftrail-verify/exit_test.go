package main

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/event"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

const example = "../../verifier/testdata/example"

// serveExample serves a copy of the example's log/, and tenant lines for its openings. It
// returns the URL and the copy.
func serveExample(t *testing.T, log string) (url, dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(example, log))); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/logs/audit/", http.StripPrefix("/logs/audit/", http.FileServer(http.Dir(dir))))
	mux.HandleFunc("/v1/logs/audit/openings", func(w http.ResponseWriter, r *http.Request) {
		lines := `{"index":0,"opening":null,"reason":"tenant"}
{"index":1,"opening":null,"reason":"tenant"}
{"index":2,"opening":null,"reason":"tenant"}
`
		_, _ = w.Write([]byte(lines[strings.Index(lines, `{"index":`+r.FormValue("start")):]))
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return srv.URL + "/logs/audit", dir
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestExitStatus: the numbers are what scripts rely on, so they stand here as numbers. Each
// command is run as it is, and with --json: that changes no status.
func TestExitStatus(t *testing.T) {
	policy, receipt := filepath.Join(example, "policy.txt"), filepath.Join(example, "run-000001.tlog-proof")
	witness := filepath.Join(example, "policy-witness.txt")
	text, err := os.ReadFile(receipt)
	if err != nil {
		t.Fatal(err)
	}
	forged := write(t, "forged", strings.Replace(string(text), "index 1\n", "index 2\n", 1))
	fork3 := filepath.Join(example, "fork.evidence")
	if text, err = os.ReadFile(fork3); err != nil {
		t.Fatal(err)
	}
	spoilt := write(t, "spoilt", strings.Replace(string(text), "audit\n3\n", "audit\n2\n", 1))
	good, _ := serveExample(t, "log")
	fork, _ := serveExample(t, "fork")
	broken, dir := serveExample(t, "log")
	if err := os.Remove(filepath.Join(dir, "tile/entries/000.p/3")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	down := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		cancel() // nobody waits for the retries
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	t.Cleanup(down.Close)
	seen, taller := filepath.Join(t.TempDir(), "seen"), filepath.Join(t.TempDir(), "taller")
	token := write(t, "token", "pt_1_secret\n")
	for _, tt := range []struct {
		name string
		want int
		args string
	}{
		{"receipt verified", 0, "receipt " + receipt + " --policy " + policy},
		{"receipt forged", 1, "receipt " + forged + " --policy " + policy},
		{"receipt unreadable", 1, "receipt " + policy + " --policy " + policy},
		{"receipt provisional", 2, "receipt " + receipt + " --policy " + witness},
		{"receipt provisional, allowed", 0, "receipt " + receipt + " --allow-provisional --policy " + witness},
		{"receipt missing", 2, "receipt missing --policy " + policy},
		{"entry verified", 0, "entry --index 1 --log " + good + " --policy " + policy},
		{"entry gone", 1, "entry --index 1 --log " + broken + " --policy " + policy},
		{"entry not there", 2, "entry --index 3 --log " + good + " --policy " + policy},
		{"entry not shown", 2, "entry --index 1 --log " + good + " --token-file " + token + " --policy " + policy},
		{"audit verified", 0, "audit --log " + good + " --policy " + policy},
		{"audit, state begun", 0, "audit --log " + good + " --policy " + policy + " --state " + seen},
		{"audit of a fork", 1, "audit --log " + fork + " --policy " + policy + " --state " + seen},
		{"audit of the fork alone", 0, "audit --log " + fork + " --policy " + policy + " --state " + taller},
		{"audit of an older head", 1, "audit --log " + good + " --policy " + policy + " --state " + taller},
		{"audit failed", 1, "audit --log " + broken + " --policy " + policy},
		{"audit failed and provisional", 1, "audit --log " + broken + " --policy " + witness},
		{"audit provisional", 2, "audit --log " + good + " --policy " + witness},
		{"audit provisional, allowed", 0, "audit --log " + good + " --allow-provisional --policy " + witness},
		{"audit, nothing shown", 2, "audit --log " + good + " --token-file " + token + " --policy " + policy},
		{"audit, no log there", 2, "audit --log " + good + "/nowhere --policy " + policy},
		{"audit, no network", 2, "audit --log " + down.URL + "/logs/audit --policy " + policy},
		{"evidence convicts", 0, "evidence " + fork3 + " --policy " + policy},
		{"evidence convicts, no quorum", 0, "evidence " + fork3 + " --policy " + witness},
		{"evidence changed", 1, "evidence " + spoilt + " --policy " + policy},
		{"evidence malformed", 1, "evidence " + receipt + " --policy " + policy},
		{"evidence missing", 2, "evidence missing --policy " + policy},
		{"evidence, bad policy", 2, "evidence " + fork3 + " --policy " + receipt},
		{"evidence, usage", 2, "evidence " + fork3},
		{"usage", 2, "audit --frobnicate"},
		{"no command", 2, "frobnicate"},
		{"help", 0, "help audit"},
	} {
		for _, with := range []string{"", " --json"} {
			under := t.Context()
			if strings.Contains(tt.name, "network") {
				under = ctx
			}
			var stdout, stderr strings.Builder
			if got := Run(under, strings.Fields(tt.args+with), strings.NewReader(""), &stdout, &stderr); got != tt.want {
				t.Errorf("%s%s: status %d, expected %d\n%s%s", tt.name, with, got, tt.want, &stdout, &stderr)
			}
		}
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

// TestExitStatusFullDisk: what was found weighs more than whether it could be printed.
func TestExitStatusFullDisk(t *testing.T) {
	policy, receipt := filepath.Join(example, "policy.txt"), filepath.Join(example, "run-000001.tlog-proof")
	for args, want := range map[string]int{
		"receipt " + receipt: 2, "receipt " + policy: 1, "evidence " + filepath.Join(example, "fork.evidence"): 2, "evidence " + policy: 1,
	} {
		var stderr strings.Builder
		got := Run(t.Context(), append(strings.Fields(args), "--policy", policy, "--json"), strings.NewReader(""), fullDisk{}, &stderr)
		if got != want || !strings.Contains(stderr.String(), "no space left on device") {
			t.Errorf("%s: status %d, expected %d: %s", args, got, want, &stderr)
		}
	}
}

// oneEntryLog makes the receipt of a log's only entry and the log's policy. The event's text
// is the log's to choose.
func oneEntryLog(t *testing.T, text string) (receipt, policy string) {
	t.Helper()
	f, err := event.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if f, err = f.Stamp(event.Stamp{Tenant: "default", ReceivedAt: time.Unix(1769860800, 0), Principal: "token:1", PeerIP: "192.0.2.7", Adapter: "http"}); err != nil {
		t.Fatal(err)
	}
	c, err := seal.Commit(f, nil)
	if err != nil {
		t.Fatal(err)
	}
	sealed := c.At(time.Unix(1769860800, 0))
	skey, vkey, err := note.GenerateKey(nil, "example.com/audit")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	head, err := verifier.SignCheckpoint(verifier.Checkpoint{Origin: "example.com/audit", Size: 1, Root: sealed.LeafHash}, signer)
	if err != nil {
		t.Fatal(err)
	}
	r := verifier.Receipt{Checkpoint: head, Extra: sealed.Opening}
	return string(r.Bytes()), "log " + vkey + "\nquorum none\n"
}

// TestTerminal: what a terminal would obey, or be confused by, is printed as \uXXXX, in a
// verified event and in a reason.
func TestTerminal(t *testing.T) {
	receipt, policy := oneEntryLog(t, `{"schema":"prooftrail.event/1","id":"1","source":"cron://a/b","time":"2026-01-31T23:59:58Z",`+
		`"action":"job.delete","outcome":"success","actor":{"type":"user","id":"u"},"target":[{"type":"job","id":"j"}],"job":{"id":"j"},`+
		"\"details\":{\"a\":\"\u009b2J\",\"b\":\"\u202eevil\",\"c\":\"\\u001b[2J\"}}")
	for _, with := range [][]string{nil, {"--json"}} {
		var stdout, stderr strings.Builder
		args := append([]string{"receipt", write(t, "receipt", receipt), "--policy", write(t, "policy", policy)}, with...)
		if code := Run(t.Context(), args, strings.NewReader(""), &stdout, &stderr); code != 0 {
			t.Fatalf("%d: %s%s", code, &stdout, &stderr)
		}
		if strings.ContainsAny(stdout.String(), "\x1b\u009b\u202e") || !strings.Contains(stdout.String(), `\u009b2J`) || !strings.Contains(stdout.String(), `\u202eevil`) {
			t.Errorf("%q", stdout.String())
		}
	}
	v := verifier.Verdict{Parsed: true, Origin: "a\u202eb", Reason: "\x1b[2J\u009b"}
	for _, parsed := range []bool{true, false} {
		v.Parsed = parsed
		var stdout strings.Builder
		e := &env{stdout: &stdout}
		if err := e.printVerdict(v, false, false); !errors.Is(err, errSaidFailed) || strings.ContainsAny(stdout.String(), "\x1b\u009b\u202e") || !strings.Contains(stdout.String(), `\u001b[2J`) {
			t.Errorf("%q, %v", stdout.String(), err)
		}
	}
}

// TestReportTerminal: the same for reports of audits.
func TestReportTerminal(t *testing.T) {
	const bad = "\x1b[2J\u009b\u202e"
	r := &verifier.AuditReport{Origin: bad, Openings: &verifier.OpeningCounts{Redacted: 1}, FailureCount: 1,
		Failures: []verifier.Failure{{Reason: bad}}, Warnings: []verifier.Failure{{Reason: bad}}, WarningCount: 1,
		Redactions: []verifier.Redaction{{Index: 1, Withheld: []string{bad}, Erased: []verifier.Erasure{{Pointer: bad, By: 2}}, More: 3}},
		Witnesses:  verifier.Witnesses{Cosigned: []verifier.Cosignature{{Witness: bad}}},
		Evidence:   &verifier.Evidence{First: []byte(bad), Second: []byte(bad)}}
	for _, asJSON := range []bool{false, true} {
		var stdout strings.Builder
		e := &env{stdout: &stdout}
		if err := e.printReport(r, nil, asJSON, false); !errors.Is(err, errSaidFailed) || strings.ContainsAny(stdout.String(), bad[:1]+"\u009b\u202e") {
			t.Errorf("%q, %v", stdout.String(), err)
		}
	}
}

// TestTextFork: a conviction names both heads, who cosigned them and when, and obeys nothing.
func TestTextFork(t *testing.T) {
	at := time.Unix(1769860800, 0).UTC()
	w1, w2 := verifier.Cosignature{Witness: "w1", Time: at}, verifier.Cosignature{Witness: "w2\u202e", Time: at.Add(time.Second)}
	f := &verifier.Fork{
		Origin: "example.com/audit", Prefix: "prefix",
		First:        verifier.ForkHead{Size: 3, Root: "one", Cosigned: []verifier.Cosignature{w1, w2}},
		Second:       verifier.ForkHead{Size: 4, Root: "two", Cosigned: []verifier.Cosignature{w1}, Wrong: []string{"w2\u202e"}},
		CosignedBoth: []string{"w1"},
	}
	var stdout strings.Builder
	e := &env{stdout: &stdout}
	if err := e.printFork(f, nil, false); err != nil {
		t.Fatal(err)
	}
	want := `convicts: example.com/audit signed two histories
  first      size 3, root one, signed by the log
             cosigned by w1 at 2026-01-31T12:00:00Z, w2\u202e at 2026-01-31T12:00:01Z
  second     size 4, root two, signed by the log
             cosigned by w1 at 2026-01-31T12:00:00Z
             a wrong cosignature, which counts for nothing: w2\u202e
  fork       the tree of the second head has another root at size 3:
             prefix
  witnesses  cosigned both heads, so their word is worth nothing here: w1
`
	if stdout.String() != want {
		t.Errorf("%s", &stdout)
	}
}

func TestTextReport(t *testing.T) {
	verified := verifier.Witnesses{Status: verifier.Quorum, Cosigned: []verifier.Cosignature{{Witness: "w1", Time: time.Unix(1769860800, 0).UTC()}}}
	r := &verifier.AuditReport{Origin: "example.com/audit", Witnesses: verified, History: verifier.History{Status: verifier.HistoryNone}}
	var stdout strings.Builder
	e := &env{stdout: &stdout}
	if err := e.printReport(r, nil, false, false); err != nil {
		t.Fatal(err)
	}
	want := `verified: example.com/audit at size 0
  entries    the log is empty: there is nothing to check yet
  history    no --state: an old or a second history would not be noticed
  openings   not checked: no token was given
  witnesses  none needed by this policy, cosigned by w1 at 2026-01-31T12:00:00Z
`
	if stdout.String() != want {
		t.Errorf("%s", &stdout)
	}
	stdout.Reset()
	r.Size, r.Entries, r.Witnesses = 5, 5, verifier.Witnesses{Status: verifier.Quorum, Required: true, Cosigned: verified.Cosigned}
	r.History = verifier.History{Status: verifier.HistoryUnproven, Size: 3}
	r.Openings = &verifier.OpeningCounts{Verified: 2, Redacted: 2, Withheld: 1, Erased: 1, NotShown: 1}
	r.Redactions = []verifier.Redaction{{Index: 3, Withheld: []string{"/actor/id", "/labels/a"}, Erased: []verifier.Erasure{{Pointer: "/job/name", By: 4}}, More: 2}}
	if err := e.printReport(r, nil, false, false); err != nil {
		t.Fatal(err)
	}
	want = `verified: example.com/audit at size 5
  entries    5 entries checked
  history    not shown to extend the remembered head of size 3
  openings   2 verified, 2 verified-redacted, 0 FAILED
  not shown  1 of 5 contents were not shown to this token (the server says they are other tenants')
  redacted   1 with fields withheld, 1 with fields erased (nothing shows here why)
             entry 3: withheld /actor/id /labels/a; erased /job/name, by entry 4; and 2 more
             and 1 more
  witnesses  quorum, cosigned by w1 at 2026-01-31T12:00:00Z
`
	if stdout.String() != want {
		t.Errorf("%s", &stdout)
	}
}
