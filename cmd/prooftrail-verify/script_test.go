package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/mod/sumdb/note"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/monitor/gossip/gossiptest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"prooftrail-verify": main})
}

// TestScripts drives the real program. Each script finds in its directory the files of
// verifier/testdata/example: policy.txt, run-000001.tlog-proof, log/. Vectors of evidence are
// NAME.evidence, and other.txt is the policy of another log.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			return errors.Join(os.CopyFS(env.WorkDir, os.DirFS("../../verifier/testdata/example")),
				copyEvidence(env.WorkDir), otherPolicy(filepath.Join(env.WorkDir, "other.txt")))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"monitor": monitor,
			"replace": replace,
			"serve":   serve,
		},
	})
}

// copyEvidence makes a file NAME.evidence of each vector that holds one as text.
func copyEvidence(dir string) error {
	files, err := filepath.Glob("../../verifier/testdata/vectors/checkpoint/evidence/*.txt")
	if err != nil || len(files) == 0 {
		return fmt.Errorf("no vectors of evidence: %w", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		_, block, ok := strings.Cut(string(text), "\n-- evidence lines --\n")
		block, _, _ = strings.Cut(block, "-- policy")
		if !ok {
			continue // in hexadecimal
		}
		name := strings.TrimSuffix(filepath.Base(file), ".txt") + ".evidence"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(block), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func otherPolicy(file string) error {
	_, vkey, err := note.GenerateKey(nil, "example.com/other")
	if err != nil {
		return err
	}
	return os.WriteFile(file, []byte("log "+vkey+"\nquorum none\n"), 0o600)
}

// replace FILE OLD NEW changes the first OLD in a file; there must be one.
func replace(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: replace FILE OLD NEW")
	}
	data := ts.ReadFile(args[0])
	if !strings.Contains(data, args[1]) {
		ts.Fatalf("no %q in %s", args[1], args[0])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.Replace(data, args[1], args[2], 1)), 0o600))
}

// serve DIR serves a directory as a log, and sets $URL to it. If DIR.openings exists, it
// is what the log answers for openings to the token in token.txt.
func serve(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: serve DIR")
	}
	dir := ts.MkAbs(args[0])
	mux := http.NewServeMux()
	mux.Handle("/logs/audit/", http.StripPrefix("/logs/audit/", http.FileServer(http.Dir(dir))))
	mux.HandleFunc("/v1/logs/audit/openings", func(w http.ResponseWriter, r *http.Request) {
		lines, err := os.ReadFile(dir + ".openings")
		if err != nil || r.Header.Get("Authorization") != "Bearer pt_1_secret" {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		all := strings.SplitAfter(string(lines), "\n")
		for i, line := range all[:len(all)-1] {
			if strings.HasPrefix(line, `{"index":`+r.FormValue("start")+",") {
				w.Write([]byte(strings.Join(all[i:], "")))
				return
			}
		}
	})
	srv := httptest.NewServer(mux)
	ts.Defer(srv.Close)
	ts.Setenv("URL", srv.URL+"/logs/audit")
}

// monitor NAME DIR begins a monitor that follows the log in a directory and has checked all of it, and sets
// $NAME to its URL; monitor NAME has checked nothing yet, and follows the one in log.
func monitor(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 || len(args) > 2 {
		ts.Fatalf("usage: monitor NAME [DIR]")
	}
	policy, err := verifier.ParsePolicy([]byte(ts.ReadFile("policy.txt")))
	ts.Check(err)
	dir, checked := ts.MkAbs("log"), []byte(nil)
	if len(args) == 2 {
		dir, checked = ts.MkAbs(args[1]), []byte(ts.ReadFile(args[1]+"/checkpoint"))
	}
	m := gossiptest.ServeMonitor(policy, verifier.Tiles(verifier.DirSource(os.DirFS(dir))), checked, ts.Defer)
	ts.Setenv(args[0], m.URL)
}

func TestRunUsage(t *testing.T) {
	for _, tt := range []struct {
		args []string
		code int
		out  string // in stdout or stderr
	}{
		{nil, exitUnable, "Usage:"},
		{[]string{"--help"}, exitVerified, "Usage:"},
		{[]string{"help"}, exitVerified, "Usage:"},
		{[]string{"help", "audit"}, exitVerified, "--state"},
		{[]string{"receipt", "-h"}, exitVerified, "Examples:"},
		{[]string{"entry", "--help"}, exitVerified, "--index"},
		{[]string{"frobnicate"}, exitUnable, "unknown command frobnicate"},
		{[]string{"\x1b[31m"}, exitUnable, `unknown command \u001b[31m`},
		{[]string{"receipt"}, exitUnable, "expected one receipt file, got 0"},
		{[]string{"receipt", "a", "b"}, exitUnable, "expected one receipt file, got 2"},
		{[]string{"receipt", "a", "--nope"}, exitUnable, "flag provided but not defined"},
		{[]string{"receipt", "--", "--nope"}, exitUnable, "--policy FILE is needed"},
		{[]string{"receipt", "a", "--policy", filepath.Join(t.TempDir(), "none")}, exitUnable, "no such file"},
		{[]string{"evidence"}, exitUnable, "expected one evidence file, got 0"},
		{[]string{"evidence", "a"}, exitUnable, "--policy FILE is needed"},
		{[]string{"evidence", "--help"}, exitVerified, "Example:"},
		{[]string{"entry", "a"}, exitUnable, "unexpected argument"},
		{[]string{"entry", "--index", "-1"}, exitUnable, "--index N is needed"},
		{[]string{"audit", "x"}, exitUnable, "unexpected argument"},
		{[]string{"audit", "--policy", example + "/policy.txt", "--log", "https://x/logs/a", "--monitor", "http://m.example"}, exitUnable, "expected https"},
		{[]string{"audit", "--policy", "script_test.go", "--log", "https://x/"}, exitUnable, "parse policy"},
	} {
		var stdout, stderr strings.Builder
		code := Run(context.Background(), tt.args, strings.NewReader(""), &stdout, &stderr)
		if code != tt.code || !strings.Contains(stdout.String()+stderr.String(), tt.out) {
			t.Errorf("%q: status %d, expected %d, output %q %q", tt.args, code, tt.code, stdout.String(), stderr.String())
		}
		if code == exitVerified && stderr.Len() > 0 || code != exitVerified && stdout.Len() > 0 {
			t.Errorf("%q: output on the wrong stream", tt.args)
		}
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain é 漢 😀":   "plain é 漢 😀",
		"\x1b[2J\r\n\t": `\u001b[2J\u000d\u000a\u0009`,
		"a\u202eb":      `a\u202eb`,
		"\u009b31m":     `\u009b31m`,
		"\xff\xfe":      `\xff\xfe`,
		"\U000e0041":    `\udb40\udc41`,
		"\u00a0":        `\u00a0`,
	} {
		if got := printable(in); got != want {
			t.Errorf("%q: %s, expected %s", in, got, want)
		}
	}
}
