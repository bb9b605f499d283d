package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/event"
	"github.com/prooftrail/prooftrail/verifier/monitor/gossip"
	"github.com/prooftrail/prooftrail/verifier/monitor/gossip/gossiptest"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

// testHistory is a log of a few entries, all of whose heads can be signed.
type testHistory struct {
	key    gossiptest.Key
	tree   gossiptest.Tree
	policy string // file
	url    string // of the log at its full size
}

// newHistory serves a log of n entries. Those from index fork on are another history's.
func newHistory(t *testing.T, key gossiptest.Key, n, fork int) testHistory {
	t.Helper()
	dir := t.TempDir()
	h := testHistory{key: key, policy: write(t, "policy", "log "+key.Policy.Log().String()+"\nquorum none\n")}
	var bundle []byte
	for i := range n {
		leaf := sealed(t, fmt.Sprint(i, i >= fork))
		h.tree = append(h.tree, leaf.LeafHash)
		var err error
		if bundle, err = verifier.AppendEntry(bundle, leaf.Leaf); err != nil {
			t.Fatal(err)
		}
	}
	for path, b := range map[string][]byte{
		"checkpoint":                 key.Head(t, h.tree, n),
		verifier.EntriesPath(0, n):   bundle,
		verifier.TilePath(0, 0, n):   verifier.EncodeTile(h.tree),
		verifier.TilePath(0, 0, n-1): verifier.EncodeTile(h.tree[:n-1]),
	} {
		file := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	srv := httptest.NewServer(http.StripPrefix("/logs/audit/", http.FileServer(http.Dir(dir))))
	t.Cleanup(srv.Close)
	h.url = srv.URL + "/logs/audit"
	return h
}

func sealed(t *testing.T, id string) seal.Sealed {
	t.Helper()
	at := time.Unix(1769860800, 0)
	f, err := event.Parse([]byte(`{"schema":"prooftrail.event/1","id":"` + id + `","source":"cron://a/b","time":"2026-01-31T23:59:58Z",` +
		`"action":"job.delete","outcome":"success","actor":{"type":"user","id":"u"},"target":[{"type":"job","id":"j"}],"job":{"id":"j"}}`))
	if err != nil {
		t.Fatal(err)
	}
	if f, err = f.Stamp(event.Stamp{Tenant: "default", ReceivedAt: at, Principal: "token:1", PeerIP: "192.0.2.7", Adapter: "http"}); err != nil {
		t.Fatal(err)
	}
	salts := seal.ChosenSalts{} // so that histories have the same beginning
	for i, field := range f {
		salts[field.Pointer] = [16]byte{byte(i)}
	}
	c, err := seal.Commit(f, salts)
	if err != nil {
		t.Fatal(err)
	}
	return c.At(at)
}

// TestMonitors: the exit status and the words for what an audit can find with a monitor.
func TestMonitors(t *testing.T) {
	key := gossiptest.NewKey(t, "example.com/audit")
	log, fork, stranger := newHistory(t, key, 7, 7), newHistory(t, key, 9, 3), newHistory(t, gossiptest.NewKey(t, "example.com/audit"), 9, 3)
	larger := append(log.tree[:7:7], fork.tree[7:]...)
	witness := write(t, "witness", "log "+key.Policy.Log().String()+
		"\nwitness w1 witness.example/w1+f5802c19+BEgHWll+choVbi4Hmd5cwMUyTcbn6vHN1GJQho7FMhXd\nquorum w1\n")
	follows := func(tree gossiptest.Tree, k gossiptest.Key, n int) *gossiptest.Monitor {
		return gossiptest.NewMonitor(t, k.Policy, tree, k.Head(t, tree, n))
	}
	holds := func(open [][]byte, evidence ...[]byte) *gossiptest.Monitor {
		m := follows(log.tree, key, 7)
		m.Set(key.Head(t, log.tree, 7), open, evidence...)
		return m
	}
	answers := func(status int, body string) *gossiptest.Monitor {
		m := follows(log.tree, key, 7)
		m.Instead(func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
			return true
		})
		return m
	}
	lie := follows(log.tree, key, 7)
	lie.Set(stranger.key.Head(t, stranger.tree, 9), nil)
	for _, tt := range []struct {
		name   string
		m      *gossiptest.Monitor
		status int
		want   string // in the text
		args   string
	}{
		{"as large", follows(log.tree, key, 7), 0, " agrees: it has checked this log up to size 7", ""},
		{"larger", follows(larger, key, 7), 0, " agrees: it has checked this log up to size 7", ""},
		{"behind", follows(log.tree, key, 4), 0, " behind: it has checked this log up to size 4", ""},
		{"other history", follows(fork.tree, key, 9), 1, " contradicts: ", ""},
		{"other history, smaller", follows(fork.tree, key, 4), 1, " contradicts: ", ""},
		{"other history, as large", follows(fork.tree, key, 7), 1, " contradicts: ", ""},
		{"same up to there", follows(fork.tree, key, 3), 0, " behind: ", ""},
		{"holds a head of another history", holds([][]byte{key.Head(t, fork.tree, 5)}), 1, " contradicts: ", ""},
		{"holds a larger head", holds([][]byte{key.Head(t, fork.tree, 9)}), 2, "its head of size 9 and ours of size 7: no proof can be had from the log", ""},
		{"forged head", lie, 2, "unproven: one of its heads counts for nothing", ""},
		{"forged open heads", holds([][]byte{stranger.key.Head(t, stranger.tree, 9), []byte("x")}), 0, " agrees: ", ""},
		{"evidence of nothing", holds(nil, (&verifier.Evidence{First: key.Head(t, log.tree, 3), Second: key.Head(t, log.tree, 7)}).Text()), 2, "unproven: its evidence counts for nothing", ""},
		{"evidence of a stranger", holds(nil, (&verifier.Evidence{First: stranger.key.Head(t, log.tree, 7), Second: stranger.key.Head(t, stranger.tree, 7)}).Text()), 2, "unproven: its evidence counts for nothing", ""},
		{"follows another log", answers(404, "no"), 2, "unproven: it doesn't follow this log", ""},
		{"unavailable", answers(503, "later\x1b[2J"), 2, `unreachable: could not hand in our head: POST /gossip/v1/heads: status 503: later\u001b[2J`, ""},
		{"no JSON", answers(200, "<html>"), 2, "unproven: could not hand in our head", ""},
		{"provisional, agrees", follows(log.tree, key, 7), 2, "provisional: example.com/audit", "--policy " + witness},
		{"provisional and allowed, agrees", follows(log.tree, key, 7), 0, "provisional: example.com/audit", "--allow-provisional --policy " + witness},
		{"provisional and allowed, not compared", answers(503, ""), 2, "not compared: example.com/audit", "--allow-provisional --policy " + witness},
		{"provisional, contradicts", follows(fork.tree, key, 9), 1, "FAILED: example.com/audit", "--policy " + witness},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, with := range []string{"", " --json"} {
				file := filepath.Join(t.TempDir(), "evidence")
				args := strings.Fields("audit --log " + log.url + " --policy " + log.policy + " --evidence " + file + " --monitor " + tt.m.URL + " " + tt.args + with)
				var stdout, stderr strings.Builder
				if got := Run(t.Context(), args, strings.NewReader(""), &stdout, &stderr); got != tt.status {
					t.Errorf("status %d, expected %d\n%s%s", got, tt.status, &stdout, &stderr)
				}
				if with == "" && !strings.Contains(stdout.String(), tt.want) || strings.Contains(stdout.String(), "\x1b") {
					t.Errorf("%s", &stdout)
				}
				text, err := os.ReadFile(file)
				if (err == nil) != (tt.status == 1) {
					t.Errorf("evidence %q, %v", text, err)
				}
				if err == nil {
					e, err := verifier.ParseEvidence(text)
					if err != nil {
						t.Fatal(err)
					}
					if _, err := e.Check(key.Policy); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
}

// TestMonitorOfUnsignedLog: a head that isn't the log's is given to nobody, and FAILED stays FAILED.
func TestMonitorOfUnsignedLog(t *testing.T) {
	key := gossiptest.NewKey(t, "example.com/audit")
	log, other := newHistory(t, key, 3, 3), newHistory(t, gossiptest.NewKey(t, "example.com/audit"), 3, 3)
	m := gossiptest.NewMonitor(t, key.Policy, log.tree, key.Head(t, log.tree, 3))
	var stdout, stderr strings.Builder
	args := strings.Fields("audit --log " + other.url + " --policy " + log.policy + " --monitor " + m.URL)
	if got := Run(t.Context(), args, strings.NewReader(""), &stdout, &stderr); got != 1 || !strings.Contains(stdout.String(), " unproven: ") || len(m.Asked()) != 0 {
		t.Errorf("status %d, asked %q\n%s%s", got, m.Asked(), &stdout, &stderr)
	}
}

// TestMonitorText: what a monitor says reaches no terminal as it is.
func TestMonitorText(t *testing.T) {
	const bad = "\x1b[2J\u009b\u202e"
	size := uint64(7)
	r := &verifier.AuditReport{Origin: "o", Witnesses: verifier.Witnesses{Status: verifier.Quorum}}
	compared := []gossip.Comparison{{Monitor: bad, Status: gossip.StatusUnproven, Reason: bad}, {Monitor: bad, Status: gossip.StatusAgrees, Checked: &size, Reason: bad}}
	for _, asJSON := range []bool{false, true} {
		var stdout strings.Builder
		e := &env{stdout: &stdout}
		if err := e.printReport(r, compared, asJSON, false); err == nil || strings.ContainsAny(stdout.String(), "\x1b\u009b\u202e") {
			t.Errorf("%q, %v", stdout.String(), err)
		}
		if !asJSON && !strings.Contains(stdout.String(), "; it hasn't taken the audited head\n") {
			t.Errorf("%s", &stdout)
		}
	}
}
