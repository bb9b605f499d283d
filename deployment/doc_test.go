// Package deployment_test checks what deployment/ ships, with the parts that would run:
//
//   - The alarms and the dashboard: Prometheus loads them, scrapes a server of this
//     repository, and every query yields series.
//   - compose: its servers are started as processes with the arguments, the
//     configuration files and the proxy that compose.yaml gives them, on a real MariaDB.
//   - Kubernetes: likewise with what kustomize renders, over TLS; what only an API server
//     or an image could tell is compared as far as it can be.
//   - systemd: systemd-analyze verifies each unit and counts what it leaves open.
//   - The Dockerfile: its build line makes a static program that runs.
//
// What needs modules that the programs don't is in check/, a module of its own: schemas, Pod
// Security, compose-go, the Dockerfile's parser. These tests call its program render.
//
// No container is started: here nothing can. Tests fail where a tool is missing, and
// say what to install.
package deployment_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/prooftrail/prooftrail/deployment/porttest"
	"github.com/prooftrail/prooftrail/personality/mysqldb/mariadbtest"
)

// patience bounds whatever a test waits for.
const patience = 90 * time.Second

var programDir string

func TestMain(m *testing.M) {
	var err error
	if programDir, err = os.MkdirTemp("", "deployment"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := mariadbtest.Run(m)
	_ = os.RemoveAll(programDir)
	os.Exit(code)
}

// build builds one of this repository's programs.
func build(name string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		out, err := exec.Command("go", "build", "-o", programDir, "../cmd/"+name).CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("build %s: %w\n%s", name, err, out)
		}
		return filepath.Join(programDir, name), nil
	})
}

var buildProgram, buildMonitor = build("prooftrail"), build("prooftrail-monitor")

// program is this repository's prooftrail, built.
func program(t *testing.T) string {
	t.Helper()
	p, err := buildProgram()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// monitorProgram is this repository's prooftrail-monitor, built.
func monitorProgram(t *testing.T) string {
	t.Helper()
	p, err := buildMonitor()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// tool is a program that tests need and Debian has.
func tool(t *testing.T, name, pkg string) string {
	t.Helper()
	p, err := exec.LookPath(name)
	if err != nil {
		p = filepath.Join("/usr/sbin", name)
		if _, err := os.Stat(p); err != nil {
			t.Fatalf("%s is missing: apt-get install %s", name, pkg)
		}
	}
	return p
}

// command runs a program to its end and returns what it printed.
func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// A process is a program that runs until the test ends.
type process struct {
	cmd *exec.Cmd

	mu   sync.Mutex
	said bytes.Buffer
	done chan struct{} // closed when it has ended
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said.Write(b)
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said.String()
}

// start starts a program, and ends it with the test.
func start(t *testing.T, name string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(name, args...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p, p
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = p.cmd.Wait(); close(p.done) }()
	t.Cleanup(p.end)
	return p
}

// end ends the process, in order if it can.
func (p *process) end() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// kill ends the process at once.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// mustRun fails if the process has ended.
func (p *process) mustRun(t *testing.T) {
	t.Helper()
	select {
	case <-p.done:
		t.Fatalf("%s ended:\n%s", strings.Join(p.cmd.Args, " "), p.output())
	default:
	}
}

// serve starts prooftrail serve and waits until it listens.
func serve(t *testing.T, args ...string) (p *process, url string) {
	t.Helper()
	p = start(t, program(t), append([]string{"serve"}, args...)...)
	eventually(t, "the server listens", func() error {
		p.mustRun(t)
		lines := bufio.NewScanner(strings.NewReader(p.output()))
		for lines.Scan() {
			if _, after, ok := strings.Cut(lines.Text(), " on http"); ok && strings.HasPrefix(lines.Text(), "serving ") {
				url = "http" + after
				return nil
			}
		}
		return fmt.Errorf("it said:\n%s", p.output())
	})
	return p, url
}

// eventually waits until something holds.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	for began := time.Now(); ; <-time.After(50 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Since(began) > patience {
			t.Fatalf("%s: not after %s: %v", what, patience, err)
		}
	}
}

var web = &http.Client{Timeout: 20 * time.Second}

// fetch gets a page, whatever its status.
func fetch(t *testing.T, c *http.Client, url string) (status int, body string, err error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	return do(c, r)
}

func do(c *http.Client, r *http.Request) (status int, body string, err error) {
	res, err := c.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 4<<20))
	return res.StatusCode, string(b), err
}

// submit posts one event with the token of a file.
func submit(t *testing.T, c *http.Client, url, tokenFile, id string) (status int, body string, err error) {
	t.Helper()
	token := strings.TrimSpace(readFile(t, tokenFile))
	event := fmt.Sprintf(`{"schema": "prooftrail.event/1", "id": %q, "source": "cron://deployment.example/test",
		"time": "2026-01-31T23:59:58Z", "action": "run.start", "outcome": "attempt", "reason": {"code": "due", "text": "its time has come"},
		"actor": {"type": "schedule", "id": "nightly"}, "target": [{"type": "job", "id": "j-1", "name": "nightly"}],
		"job": {"id": "j-1", "run_id": "r-1"}}`, id)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/v1/events", strings.NewReader(event))
	if err != nil {
		return 0, "", err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+token)
	return do(c, r)
}

// dial reports whether somebody listens at an address.
func dial(address string) error {
	c, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return err
	}
	return c.Close()
}

func freeAddress(t *testing.T) string {
	t.Helper()
	address, err := porttest.Address()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func readYAML(t *testing.T, path string, to any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(readFile(t, path)), to); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func readJSON(t *testing.T, path string, to any) {
	t.Helper()
	if err := json.Unmarshal([]byte(readFile(t, path)), to); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	p, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
