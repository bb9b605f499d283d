package deployment_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A cluster is what cluster.sh starts.
type cluster struct {
	dir    string
	roots  *x509.CertPool
	client *http.Client // believes the cluster's authority
}

// clusterStatus is what cluster.sh status --json prints.
type clusterStatus struct {
	URL       string `json:"url"`
	CA        string `json:"ca"`
	Policy    string `json:"policy"`
	Tokens    string `json:"tokens"`
	Processes []struct {
		Name  string `json:"name"`
		State string `json:"state"`
		Addr  string `json:"addr"`
		Log   string `json:"log"`
		Pid   int    `json:"pid"`
	} `json:"processes"`
}

var clusterNames = []string{"mariadb", "etcd", "server-1", "server-2", "signer-1", "signer-2", "serve-1", "serve-2", "proxy"}

// newCluster starts a cluster that ends with the test.
func newCluster(t *testing.T) *cluster {
	t.Helper()
	for name, pkg := range map[string]string{"mariadb": "mariadb-client-core", "etcd": "etcd-server", "haproxy": "haproxy", "openssl": "openssl", "curl": "curl"} {
		tool(t, name, pkg)
	}
	for _, p := range []string{"trillian_log_server", "trillian_log_signer"} {
		trillianServer(t, p) // built here it would take the test's time
	}
	c := &cluster{dir: filepath.Join(t.TempDir(), "a cluster")} // with a blank in its name
	t.Cleanup(func() {
		if t.Failed() {
			c.showLogs(t)
		}
		_, _ = c.script("down", "--purge")
	})
	c.run(t, "up")
	c.roots = x509.NewCertPool()
	if !c.roots.AppendCertsFromPEM([]byte(readFile(t, filepath.Join(c.dir, "tls", "ca.crt")))) {
		t.Fatal("the cluster has no authority")
	}
	c.client = &http.Client{Timeout: web.Timeout, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: c.roots, MinVersion: tls.VersionTLS12}}}
	return c
}

// script runs cluster.sh and returns what it printed.
func (c *cluster) script(act string, args ...string) (string, error) {
	cmd := exec.Command("bash", append([]string{"cluster.sh", act, c.dir}, args...)...)
	program, err := buildProgram()
	if err != nil {
		return "", err
	}
	cmd.Env = append(os.Environ(), "PROOFTRAIL="+program)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (c *cluster) run(t *testing.T, act string, args ...string) {
	t.Helper()
	began := time.Now()
	out, err := c.script(act, args...)
	t.Logf("cluster.sh %s %v took %s", act, args, time.Since(began).Round(time.Millisecond))
	if err != nil {
		t.Fatalf("cluster.sh %s %v: %v\n%s", act, args, err, out)
	}
}

// status is the cluster's, and whether all of it is ready.
func (c *cluster) status(t *testing.T) (s clusterStatus, ready bool) {
	t.Helper()
	out, err := c.script("status", "--json")
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		t.Fatalf("cluster.sh status: %v\n%s", err, out)
	}
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		t.Fatalf("cluster.sh status --json: %v\n%s", err, out)
	}
	var names []string
	for _, p := range s.Processes {
		names = append(names, p.Name)
	}
	if got := strings.Join(names, " "); got != strings.Join(clusterNames, " ") {
		t.Fatalf("cluster.sh status shows %s", got)
	}
	return s, err == nil
}

// mustBeReady returns the processes' numbers.
func (c *cluster) mustBeReady(t *testing.T) map[string]int {
	t.Helper()
	s, ready := c.status(t)
	pids := map[string]int{}
	for _, p := range s.Processes {
		if p.State != "ready" {
			t.Errorf("%s is %s", p.Name, p.State)
		}
		pids[p.Name] = p.Pid
		if got := c.file(t, p.Name, "pid"); got != strconv.Itoa(p.Pid) {
			t.Errorf("%s: the process is %d, its file has %s", p.Name, p.Pid, got)
		}
		if got := c.file(t, p.Name, "addr"); got != p.Addr {
			t.Errorf("%s: the address is %s, its file has %s", p.Name, p.Addr, got)
		}
	}
	if !ready || t.Failed() {
		t.Fatalf("the cluster isn't ready: %+v", s)
	}
	return pids
}

// file is a line that is kept of a process.
func (c *cluster) file(t *testing.T, name, file string) string {
	t.Helper()
	return strings.TrimSpace(readFile(t, filepath.Join(c.dir, name, file)))
}

func (c *cluster) showLogs(t *testing.T) {
	t.Helper()
	for _, n := range clusterNames {
		b, _ := os.ReadFile(filepath.Join(c.dir, n, "log"))
		t.Logf("%s said:\n%s", n, b[max(0, len(b)-2000):])
	}
}

// log has an event logged, through the proxy.
func (c *cluster) log(t *testing.T, id string) {
	t.Helper()
	url := "https://" + c.file(t, "proxy", "addr")
	eventually(t, id+" is signed", func() error {
		status, body, err := submit(t, c.client, url, filepath.Join(c.dir, "log", "tokens", "submit.token"), id)
		if err == nil && status/100 != 2 || status == http.StatusAccepted {
			err = errors.New(strconv.Itoa(status) + " " + body)
		}
		return err
	})
}

// audit audits the whole log, through the proxy, against what the last audit saw.
func (c *cluster) audit(t *testing.T, verify string) string {
	t.Helper()
	s, _ := c.status(t)
	return command(t, verify, "audit", "--log", s.URL+"/logs/audit", "--ca", s.CA, "--policy", s.Policy, "--token-file", filepath.Join(s.Tokens, "read.token"),
		"--state", filepath.Join(c.dir, "..", "auditor.state"))
}

// signer is the one that is elected.
func (c *cluster) signer(t *testing.T) (name string) {
	t.Helper()
	eventually(t, "a signer is elected", func() error {
		for _, n := range []string{"signer-1", "signer-2"} {
			_, body, err := fetch(t, web, "http://"+c.file(t, n, "addr")+"/metrics")
			if err != nil {
				return err
			}
			for line := range strings.Lines(body) {
				if strings.HasPrefix(line, "is_master{") && strings.HasSuffix(strings.TrimSpace(line), " 1") {
					name = n
					return nil
				}
			}
		}
		return errors.New("neither is")
	})
	return name
}

// alive: there is such a process, and it isn't only left to be asked for.
func alive(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !strings.Contains(string(b[strings.LastIndex(string(b), ")"):]), ") Z ")
}

// noSecrets fails if a password is on a command line, or can be read by others.
func (c *cluster) noSecrets(t *testing.T, pids map[string]int) {
	t.Helper()
	var secrets []string
	err := filepath.WalkDir(c.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		if info, err := d.Info(); err != nil || info.Mode()&0o077 != 0 && !strings.HasPrefix(path, filepath.Join(c.dir, "mariadb", "data")) {
			t.Errorf("%s can be read by others, or not at all: %v", path, err)
		}
		if ext := filepath.Ext(path); ext == ".password" || ext == ".token" {
			secrets = append(secrets, strings.TrimSpace(readFile(t, path)))
		}
		return nil
	})
	if err != nil || len(secrets) != 5 {
		t.Errorf("%d secrets, expected two passwords and three tokens; %v", len(secrets), err)
	}
	for name, pid := range pids {
		line := readFile(t, "/proc/"+strconv.Itoa(pid)+"/cmdline")
		for _, s := range secrets {
			if strings.Contains(line, s) {
				t.Errorf("%s has a secret on its command line", name)
			}
		}
	}
}

// TestCluster: cluster.sh starts all of it, starts again what was killed, in the middle of the
// work of a log, and ends all of it. What was answered stays, once.
func TestCluster(t *testing.T) {
	verify := filepath.Join(programDir, "prooftrail-verify")
	command(t, "go", "build", "-o", verify, "../cmd/prooftrail-verify")
	c := newCluster(t)
	began := c.mustBeReady(t)
	c.noSecrets(t, began)
	for _, name := range []string{"server-1", "server-2"} {
		conn, err := tls.Dial("tcp", c.file(t, name, "addr"), &tls.Config{RootCAs: c.roots, MinVersion: tls.VersionTLS12})
		if err != nil {
			t.Fatalf("%s by TLS: %v", name, err)
		}
		_ = conn.Close()
	}
	c.log(t, "event-1")

	signer := c.signer(t)
	for _, name := range []string{"serve-1", signer} {
		if err := syscall.Kill(began[name], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, name+" is gone", func() error {
			if alive(began[name]) {
				return errors.New("it is there")
			}
			return nil
		})
	}
	if _, ready := c.status(t); ready {
		t.Error("two processes were killed, and the cluster is ready")
	}
	again := time.Now()
	c.run(t, "up", signer) // alone: without a signer a server that starts waits
	c.run(t, "up")
	if took := time.Since(again); took > 40*time.Second {
		t.Errorf("up took %s: the killed signer's lease, of 60 s, was waited for", took)
	}
	now := c.mustBeReady(t)
	changed := 0
	for name := range began {
		if began[name] != now[name] {
			changed++
		}
	}
	if changed != 2 {
		t.Errorf("two processes were killed, and up started %d: %v, %v", changed, began, now)
	}
	c.log(t, "event-2")
	c.audit(t, verify)

	c.run(t, "down")
	for name, pid := range now {
		if alive(pid) {
			t.Errorf("down left %s", name)
		}
	}
	c.run(t, "down") // nothing is left to do
	c.run(t, "up")
	c.log(t, "event-3")
	c.log(t, "event-1") // is there already
	c.audit(t, verify)
	c.run(t, "down", "--purge")
	if _, err := os.Stat(c.dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("down --purge left %s: %v", c.dir, err)
	}
}
