package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/cmd/internal/cli"
	"github.com/prooftrail/prooftrail/verifier"
)

// liar is a proxy before the log that changes answers.
func liar(t *testing.T, change func(path string, body []byte) []byte) func(string) string {
	return func(target string) string {
		u, err := url.Parse(target)
		if err != nil {
			t.Fatal(err)
		}
		proxy := httputil.NewSingleHostReverseProxy(u)
		proxy.ModifyResponse = func(r *http.Response) error {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return err
			}
			body = change(r.Request.URL.Path, body)
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
			r.Header.Del("Content-Length")
			return r.Body.Close()
		}
		srv := httptest.NewServer(proxy)
		t.Cleanup(srv.Close)
		return srv.URL
	}
}

// What doesn't hold while the cron service runs is exit code 1, and the log is
// audited all the same: the last line says what was found.
func TestDemoIsLiedTo(t *testing.T) {
	var submitted atomic.Int64
	for _, tt := range []struct {
		name   string
		change func(path string, body []byte) []byte
		last   string
		err    string
	}{
		{"one receipt", func(path string, body []byte) []byte {
			if path == "/v1/events" && submitted.Add(1) == 5 {
				body = bytes.Replace(body, []byte(`index `), []byte(`index 1`), 1)
			}
			return body
		}, `^verified (\d+) of \d+ receipts; audit verified at size \d+; tampered copy FAILED at entry \d+; second history convicted by both monitors$`, "event .*: receipt: "},
		{"every receipt", func(path string, body []byte) []byte {
			if path == "/v1/events" {
				body = bytes.Replace(body, []byte(`index `), []byte(`index 1`), 1)
			}
			return body
		}, `^verified 0 of \d+ receipts; audit verified at size \d+; tampered copy FAILED at entry \d+; second history convicted by both monitors$`, "event .*: receipt: "},
		{"the heads", func(path string, body []byte) []byte {
			if strings.Contains(path, "/tile/0/") && len(body) > 0 {
				body[0] ^= 1
			}
			return body
		}, `^verified (\d+) of (\d+) receipts; audit verified at size \d+; tampered copy FAILED at entry \d+; second history convicted by both monitors$`, "the receipts' heads: the log contradicts itself"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("TMPDIR", t.TempDir())
			var out, errs bytes.Buffer
			e := &cli.Env{Stdout: &out, Stderr: &errs}
			d := demo{env: e, duration: 1500 * time.Millisecond, listen: "127.0.0.1:0", between: liar(t, tt.change)}
			if code := program.Ended(e, "demo", d.runInDir(t.Context())); code != 1 {
				t.Errorf("exit code %d, expected 1", code)
			}
			lines := strings.Split(strings.TrimRight(out.String(), "\n"), "\n")
			if last := lines[len(lines)-1]; !regexp.MustCompile(tt.last).MatchString(last) {
				t.Errorf("last line %q, expected %s", last, tt.last)
			}
			if !regexp.MustCompile("^prooftrail demo: FAILED: " + tt.err).MatchString(errs.String()) {
				t.Errorf("standard error:\n%s", &errs)
			}
			if t.Failed() {
				t.Logf("standard output:\n%s\nstandard error:\n%s", &out, &errs)
			}
			nothingIn(t, os.TempDir())
		})
	}
}

func nothingIn(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range left {
		t.Errorf("left behind: %s", f.Name())
	}
}

// A signal at any time leaves no signing key behind.
func TestDemoIsInterrupted(t *testing.T) {
	for _, at := range []string{"made the log", "TIME ", "signed heads that came", "audit of the log", "makes a second history", "one monitor is shown"} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			cmd := exec.CommandContext(t.Context(), "prooftrail", "demo", "--duration", "300ms")
			cmd.Env = append(os.Environ(), "TMPDIR="+dir)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			sent := false
			for lines := bufio.NewScanner(out); lines.Scan(); {
				if strings.Contains(lines.Text(), at) {
					sent = true
					if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
						t.Error(err)
					}
				}
			}
			_ = cmd.Wait() // the state tells
			if !sent || cmd.ProcessState.ExitCode() < 0 {
				t.Errorf("signal sent: %v; ended by %v", sent, cmd.ProcessState)
			}
			nothingIn(t, dir)
		})
	}
}

func TestFindings(t *testing.T) {
	at := func(n uint64) *uint64 { return &n }
	good := findings{receipts: receipts{7, 7}, size: 12, forged: 5, found: at(5), convicted: true}
	if !good.held() || good.line() != "verified 7 of 7 receipts; audit verified at size 12; tampered copy FAILED at entry 5; second history convicted by both monitors" {
		t.Errorf("%v: %s", good.held(), good.line())
	}
	for name, spoil := range map[string]func(*findings){
		"a receipt":     func(f *findings) { f.receipts.verified-- },
		"the audit":     func(f *findings) { f.audit = verifier.ErrFailed },
		"not caught":    func(f *findings) { f.found = nil },
		"not convicted": func(f *findings) { f.convicted = false },
		"another entry": func(f *findings) { f.found = at(6) },
	} {
		f := good
		spoil(&f)
		if f.held() {
			t.Errorf("%s: %s", name, f.line())
		}
	}
}

// An audit that saw no content, or not all of it, hasn't verified the events.
func TestDemoAuditMustOpenAll(t *testing.T) {
	for _, tt := range []struct {
		openings *verifier.OpeningCounts
		ok       bool
	}{
		{nil, false},
		{&verifier.OpeningCounts{Verified: 2, NotShown: 9}, false},
		{&verifier.OpeningCounts{Verified: 3}, true},
		{&verifier.OpeningCounts{Verified: 9}, true},
	} {
		err := checkOpened(&verifier.AuditReport{Openings: tt.openings}, 3)
		if (err == nil) != tt.ok || err != nil && !errors.Is(err, verifier.ErrFailed) {
			t.Errorf("%+v: %v", tt.openings, err)
		}
	}
}
