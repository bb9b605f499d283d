package senders

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
)

// bin has the programs.
var bin string

func TestMain(m *testing.M) {
	var err error
	if bin, err = os.MkdirTemp("", "senders"); err != nil {
		panic(err)
	}
	build := exec.Command("go", "build", "-buildvcs=false", "-o", bin+"/", "./cmd/prooftrail", "./cmd/prooftrail-verify")
	build.Dir = "../../.."
	if out, err := build.CombinedOutput(); err != nil {
		panic(fmt.Sprintf("build: %v\n%s", err, out))
	}
	code := m.Run()
	if err := os.RemoveAll(bin); err != nil {
		panic(err)
	}
	os.Exit(code)
}

// server is a log of the test's own, and the process that serves it.
type server struct {
	t   *testing.T
	dir string
	url string
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{t: t, dir: t.TempDir()}
	s.run("prooftrail", "init", "--data", "log", "--origin", "example.com/audit")
	cmd := exec.Command(filepath.Join(bin, "prooftrail"), "serve", "--data", "log", "--listen", "127.0.0.1:0")
	var stderr bytes.Buffer
	cmd.Dir, cmd.Stderr = s.dir, &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt) // it may have ended
		if err := cmd.Wait(); err != nil {
			t.Errorf("the server: %v\n%s", err, stderr.String())
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the server said %q: %v\n%s", line, err, stderr.String())
	}
	s.url = strings.TrimSpace(line[strings.LastIndex(line, "http://"):])
	return s
}

// run runs a program to its end.
func (s *server) run(name string, args ...string) string {
	s.t.Helper()
	cmd := exec.Command(filepath.Join(bin, name), args...)
	cmd.Dir = s.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// token is one of those that init made.
func (s *server) token(role string) string {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, "log/tokens", role+".token"))
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// do sends a request with a token.
func (s *server) do(role string, r *http.Request) (int, []byte) {
	s.t.Helper()
	r.Header.Set("Authorization", "Bearer "+s.token(role))
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, b
}

func (s *server) get(role, path string) []byte {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.url+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	status, b := s.do(role, r)
	if status != http.StatusOK {
		s.t.Fatalf("GET %s: %d %s", path, status, b)
	}
	return b
}

// entry is an event of the log: values by pointer.
type entry map[string]any

// entries are the events that an adapter made, checked by an auditor's program with all of the log.
func (s *server) entries(adapter string) (all []entry) {
	s.t.Helper()
	var ready struct {
		Stored    int `json:"tree_size"`
		Published int `json:"published_size"`
	}
	for ready.Stored == 0 || ready.Stored != ready.Published { // what is answered is durable, and published soon after
		if err := json.Unmarshal(s.get("read", "/readyz"), &ready); err != nil {
			s.t.Fatal(err)
		}
	}
	out := s.run("prooftrail-verify", "audit", "--log", s.url+"/logs/audit", "--policy", "log/policy.txt", "--token-file", "log/tokens/read.token")
	if !strings.Contains(out, "verified:") {
		s.t.Errorf("the audit says %s", out)
	}
	for line := range bytes.Lines(s.get("read", fmt.Sprintf("/v1/logs/audit/openings?start=0&count=%d", ready.Published))) {
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
		e := entry{}
		for _, f := range l.Opening.Fields {
			e[f.P] = f.V
		}
		if e["/ingest/adapter"] == adapter {
			all = append(all, e)
		}
	}
	return all
}

// want compares some of an event's values.
func (e entry) want(t *testing.T, want map[string]any) {
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

// quarantined are the reasons of what waits, by no particular order.
func (s *server) quarantined() (reasons []string) {
	s.t.Helper()
	var list struct {
		Items []struct{ Adapter, Reason string }
	}
	if err := json.Unmarshal(s.get("admin", "/v1/quarantine"), &list); err != nil {
		s.t.Fatal(err)
	}
	for _, q := range list.Items {
		reasons = append(reasons, q.Adapter+" "+q.Reason)
	}
	return reasons
}
