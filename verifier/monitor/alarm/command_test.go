//go:build unix

package alarm_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/verifier/monitor/alarm"
)

// shell returns a sink that runs a script, in a directory of its own, and what it logs.
func shell(t *testing.T, script string, timeout time.Duration) (s alarm.Sink, dir string, log *bytes.Buffer) {
	t.Helper()
	dir, log = t.TempDir(), &bytes.Buffer{}
	s, err := alarm.NewCommand(alarm.CommandConfig{Argv: []string{"/bin/sh", "-c", script, "sh", "$(touch pwned)"}, Monitor: "m1", Dir: dir, Timeout: timeout,
		Env: []string{"CHANNEL=ops"}, Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	return s, dir, log
}

func TestCommand(t *testing.T) {
	t.Setenv("PROOFTRAIL_TEST_SECRET", "s3cret")
	s, dir, log := shell(t, `cat >in; env >env; printf '%s\n' "$@" >args; echo "said $CHANNEL"; printf '\033[2J' >&2`, time.Minute)
	n := firing()
	n.Summary = "$(touch pwned); `touch pwned`"
	if err := s.Deliver(t.Context(), []alarm.Notice{n}); err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	in, err := os.ReadFile(filepath.Join(dir, "in"))
	if err != nil || !bytes.HasSuffix(in, []byte("}\n")) || json.Unmarshal(in, &m) != nil || m["summary"] != n.Summary || m["monitor"] != "m1" || m["id"] != n.ID() {
		t.Errorf("stdin %s, %v", in, err)
	}
	env, err := os.ReadFile(filepath.Join(dir, "env"))
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(strings.TrimSpace(string(env)), "\n")
	for _, want := range []string{"ID=" + n.ID(), "STATUS=firing", "REASON=new", "NAME=fork", "SEVERITY=critical", "LOG=example.com/audit", "PEER=m2", "SUMMARY=" + n.Summary, "SINCE=2026-01-31T23:59:58Z"} {
		if !slices.Contains(got, "PROOFTRAIL_ALARM_"+want) {
			t.Errorf("no %s in %q", want, got)
		}
	}
	if strings.Contains(string(env), "s3cret") {
		t.Error("the monitor's environment was passed on")
	}
	if args, err := os.ReadFile(filepath.Join(dir, "args")); err != nil || string(args) != "$(touch pwned)\n" {
		t.Errorf("arguments %q, %v", args, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "pwned")); err == nil {
		t.Error("a shell read what it shouldn't")
	}
	if !strings.Contains(log.String(), "said ops") || strings.Contains(log.String(), "\x1b") {
		t.Errorf("logged %s", log)
	}
}

func TestCommandFails(t *testing.T) {
	for script, want := range map[string]string{
		"exit 7":          "run sh: exit status 7",
		"kill -9 $$":      "run sh: signal: killed",
		"exec sleep 1000": "run sh: killed after 300ms",
		"exec 0<&-; yes":  "run sh: killed after 300ms", // endless output
	} {
		s, _, log := shell(t, script, 300*time.Millisecond)
		if err := s.Deliver(t.Context(), []alarm.Notice{firing()}); err == nil || err.Error() != want {
			t.Errorf("%s: %v, expected %s", script, err, want)
		}
		if log.Len() > 10<<10 {
			t.Errorf("%s: logged %d bytes", script, log.Len())
		}
	}
	s, _, _ := shell(t, "true", time.Minute) // which doesn't read what it is given
	if err := s.Deliver(t.Context(), []alarm.Notice{firing()}); err != nil {
		t.Error(err)
	}
	s, _, _ = shell(t, "exec sleep 1000", time.Minute)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := s.Deliver(ctx, []alarm.Notice{firing()}); err == nil {
		t.Error("it wasn't ended")
	}
	for name, cfg := range map[string]alarm.CommandConfig{
		"no program":  {},
		"not there":   {Argv: []string{"/no/such/program"}},
		"not to run":  {Argv: []string{"/etc/passwd"}},
		"environment": {Argv: []string{"/bin/sh"}, Env: []string{"x"}},
	} {
		if _, err := alarm.NewCommand(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestCommandChildren: what a program has started is killed with it, at the timeout and when
// it ends itself but its child holds its output.
func TestCommandChildren(t *testing.T) {
	for name, tt := range map[string]struct {
		script string
		ok     bool
	}{
		"timeout":      {"sleep 1000 & echo $! >pid; wait", false},
		"left behind":  {"sleep 1000 & echo $! >pid", true},
		"ignores TERM": {"trap '' TERM HUP INT; sleep 1000 & echo $! >pid; while :; do wait; done", false},
	} {
		t.Run(name, func(t *testing.T) {
			timeout := 500 * time.Millisecond
			if tt.ok {
				timeout = time.Minute
			}
			s, dir, _ := shell(t, tt.script, timeout)
			if err := s.Deliver(t.Context(), []alarm.Notice{firing()}); (err == nil) != tt.ok {
				t.Errorf("error %v", err)
			}
			b, err := os.ReadFile(filepath.Join(dir, "pid"))
			if err != nil {
				t.Fatal(err)
			}
			pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
			if err != nil {
				t.Fatal(err)
			}
			for began := time.Now(); alive(pid); <-time.After(10 * time.Millisecond) {
				if time.Since(began) > 10*time.Second {
					t.Fatal("the child is alive")
				}
			}
		})
	}
}

// alive reports whether a process is there and isn't a zombie that nobody has waited for.
func alive(pid int) bool {
	if stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat"); err == nil {
		_, rest, _ := strings.Cut(string(stat), ") ")
		return !strings.HasPrefix(rest, "Z")
	}
	return syscall.Kill(pid, 0) == nil
}
