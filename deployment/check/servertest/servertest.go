// Package servertest runs the programs for tests: each has a log of its own, a real server of it, and reads back
// what has come into it.
package servertest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// bin has the programs.
var bin string

// Main builds the programs, runs the tests of a package two levels below deployment/, and returns the exit code for TestMain.
func Main(m *testing.M) int {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "servertest:", err)
		return 1
	}
	return code
}

func run(m *testing.M) (int, error) {
	var err error
	if bin, err = os.MkdirTemp("", "servertest"); err != nil {
		return 0, err
	}
	build := exec.Command("go", "build", "-buildvcs=false", "-o", bin+"/", "./cmd/prooftrail", "./cmd/prooftrail-verify")
	build.Dir = "../../.."
	code := 0
	if out, buildErr := build.CombinedOutput(); buildErr != nil {
		err = fmt.Errorf("build: %w\n%s", buildErr, out)
	} else {
		code = m.Run()
	}
	if removeErr := os.RemoveAll(bin); err == nil {
		err = removeErr
	}
	return code, err
}

// Server is a log of the test's own, and the process that serves it.
type Server struct {
	Dir    string       // with the log in log/
	URL    string       // where it was served last
	Client *http.Client // that trusts the server

	t      *testing.T
	flags  []string
	cmd    *exec.Cmd // nil: it doesn't run
	stderr bytes.Buffer
}

// New makes a log. Its server will have these flags too.
func New(t *testing.T, flags ...string) *Server {
	t.Helper()
	s := &Server{t: t, Dir: t.TempDir(), Client: http.DefaultClient, flags: flags}
	s.Run("prooftrail", "init", "--data", "log", "--origin", "example.com/audit")
	return s
}

// Path is a file below Dir.
func (s *Server) Path(name string) string { return filepath.Join(s.Dir, name) }

// Start starts the server, where it was before if it was, and waits until it listens. When the test ends it is to end in order.
func (s *Server) Start() {
	s.t.Helper()
	address := "127.0.0.1:0"
	if _, before, ok := strings.Cut(s.URL, "://"); ok {
		address = before
	}
	cmd := exec.Command(filepath.Join(bin, "prooftrail"), append([]string{"serve", "--data", "log", "--listen", address}, s.flags...)...)
	cmd.Dir, cmd.Stderr = s.Dir, &s.stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.cmd = cmd
	s.t.Cleanup(func() {
		if s.cmd != cmd {
			return
		}
		_ = cmd.Process.Signal(os.Interrupt) // it may have ended
		if err := cmd.Wait(); err != nil {
			s.t.Errorf("the server: %v", err)
		}
		if s.t.Failed() {
			s.t.Logf("the server said\n%s", s.stderr.String())
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	at := strings.LastIndex(line, "http")
	if err != nil || at < 0 {
		s.t.Fatalf("the server said %q: %v", line, err)
	}
	s.URL = strings.TrimSpace(line[at:])
}

// Kill ends the server as kill -9 does.
func (s *Server) Kill() {
	_ = s.cmd.Process.Kill() // it may have ended
	_ = s.cmd.Wait()         // it was killed
	s.cmd = nil
}

// Run runs a program in Dir to its end, and returns its standard output.
func (s *Server) Run(name string, args ...string) string {
	s.t.Helper()
	cmd := exec.Command(filepath.Join(bin, name), args...)
	cmd.Dir = s.Dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("%s %q: %v\n%s%s", name, args, err, out, stderr.String())
	}
	return string(out)
}

// TokenFile has the token of a role that init made.
func (s *Server) TokenFile(role string) string { return s.Path("log/tokens/" + role + ".token") }

// Token is that token.
func (s *Server) Token(role string) string {
	s.t.Helper()
	b, err := os.ReadFile(s.TokenFile(role))
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// Do sends a request with a role's token.
func (s *Server) Do(role string, r *http.Request) (status int, body []byte) {
	s.t.Helper()
	r.Header.Set("Authorization", "Bearer "+s.Token(role))
	resp, err := s.Client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err = io.ReadAll(resp.Body); err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, body
}

// Get reads what there is for a role.
func (s *Server) Get(role, path string) []byte {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.URL+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	status, b := s.Do(role, r)
	if status != http.StatusOK {
		s.t.Fatalf("GET %s: %d %s", path, status, b)
	}
	return b
}

// Entry is an event of the log: values by pointer.
type Entry map[string]any

// Entries are all events that an adapter made, read in bulk.
func (s *Server) Entries(adapter string) (all []Entry) {
	s.t.Helper()
	for next, size := 0, 0; ; { // size: at first; each read makes one entry more
		var ready struct {
			Stored    int `json:"tree_size"`
			Published int `json:"published_size"`
		}
		if err := json.Unmarshal(s.Get("read", "/readyz"), &ready); err != nil {
			s.t.Fatal(err)
		}
		if size == 0 {
			size = ready.Stored
		}
		if next >= size {
			return all
		}
		if next == ready.Published { // a delivery is answered when it is durable; it is published soon after
			<-time.After(20 * time.Millisecond)
			continue
		}
		for line := range bytes.Lines(s.Get("read", fmt.Sprintf("/v1/logs/audit/openings?count=%d&start=%d", min(10_000, ready.Published-next), next))) {
			next++
			if e := s.entry(line); e["/ingest/adapter"] == adapter {
				all = append(all, e)
			}
		}
	}
}

// entry is that of a line of openings.
func (s *Server) entry(line []byte) Entry {
	s.t.Helper()
	var l struct {
		Opening struct {
			Fields []struct {
				P string
				V any
			}
		}
	}
	if err := json.Unmarshal(line, &l); err != nil {
		s.t.Fatal(err)
	}
	e := Entry{}
	for _, f := range l.Opening.Fields {
		e[f.P] = f.V
	}
	return e
}

// Want compares some of an event's values.
func (e Entry) Want(t *testing.T, want map[string]any) {
	t.Helper()
	for pointer, v := range want {
		got, err := json.Marshal(e[pointer])
		if err != nil {
			t.Fatal(err)
		}
		expected, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, expected) {
			t.Errorf("%s is %s, want %s", pointer, got, expected)
		}
	}
}

// Audit has an auditor's program, with these flags too, check all of the log.
func (s *Server) Audit(flags ...string) {
	s.t.Helper()
	args := []string{"audit", "--log", s.URL + "/logs/audit", "--policy", "log/policy.txt", "--token-file", s.TokenFile("read")}
	if out := s.Run("prooftrail-verify", append(args, flags...)...); !strings.Contains(out, "verified:") {
		s.t.Errorf("the audit says %s", out)
	}
}
