package deployment_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prooftrail/prooftrail/personality/mysqldb/mariadbtest"
)

var buildRender = sync.OnceValues(func() (string, error) {
	path := filepath.Join(programDir, "render")
	build := exec.Command("go", "build", "-o", path, "./render")
	build.Dir = "check"
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build check/render: %w\n%s", err, out)
	}
	return path, nil
})

// render is what kustomize or compose makes of files.
func render(t *testing.T, to any, args ...string) {
	t.Helper()
	program, err := buildRender()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "PROOFTRAIL_UID=65532", "PROOFTRAIL_GID=65532")
	cmd.Stderr = t.Output()
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, to)
	}
	if err != nil {
		t.Fatalf("render %v: %v", args, err)
	}
}

// project is what of a compose project the tests start.
type project struct {
	Services map[string]struct {
		Image       string            `json:"image"`
		Command     []string          `json:"command"`
		Entrypoint  []string          `json:"entrypoint"`
		Environment map[string]string `json:"environment"`
	} `json:"services"`
}

func compose(t *testing.T, files ...string) (p project) {
	t.Helper()
	args := []string{"compose"}
	for _, f := range files {
		args = append(args, "compose/"+f)
	}
	render(t, &p, args...)
	return p
}

// startMariaDB starts it with compose's arguments, and with what its image makes of compose's
// environment.
func (p *project) startMariaDB(t *testing.T, dir string) *mariadbtest.Server {
	t.Helper()
	mariadb := p.Services["mariadb"]
	db := mariadbtest.Start(t, mariadb.Command...)
	secret := func(name string) string {
		return readFile(t, strings.Replace(mariadb.Environment[name], "/run/secrets", filepath.Join(dir, "secrets"), 1))
	}
	database, user := mariadb.Environment["MARIADB_DATABASE"], mariadb.Environment["MARIADB_USER"]
	db.Exec(t, fmt.Sprintf("CREATE OR REPLACE USER root@'127.0.0.1' IDENTIFIED BY '%s'", secret("MARIADB_ROOT_PASSWORD_FILE")),
		"GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION",
		"CREATE DATABASE "+database,
		fmt.Sprintf("CREATE OR REPLACE USER '%s'@'%%' IDENTIFIED BY '%s'", user, secret("MARIADB_PASSWORD_FILE")),
		fmt.Sprintf("GRANT ALL ON %s.* TO '%s'@'%%'", database, user))
	return db
}

// prepared is compose's folder as prepare.sh leaves it, elsewhere.
func prepared(t *testing.T) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "compose")
	if err := os.CopyFS(dir, os.DirFS("compose")); err != nil {
		t.Fatal(err)
	}
	tool(t, "openssl", "openssl")
	command(t, "bash", filepath.Join(dir, "prepare.sh"), "localhost")
	return dir
}

// TestPrepare: what prepare.sh makes is for nobody but its owner, isn't twice the same, and stays
// when it runs again.
func TestPrepare(t *testing.T) {
	dir := prepared(t)
	before := map[string]string{}
	for _, pattern := range []string{".env", "secrets/*", "state", "state/*", "secrets"} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("prepare.sh made no %s (%v)", pattern, err)
		}
		for _, f := range found {
			info, err := os.Stat(f)
			if err != nil {
				t.Fatal(err)
			}
			// A certificate isn't secret, and Prometheus has a user of its own.
			if others := info.Mode().Perm() & 0o077; others != 0 && (filepath.Ext(f) != ".crt" || others != 0o044) {
				t.Errorf("%s has mode %04o", f, info.Mode().Perm())
			}
			if !info.IsDir() {
				before[f] = readFile(t, f)
			}
		}
	}
	values := map[string]string{}
	for f, text := range before {
		if other, ok := values[text]; ok {
			t.Errorf("%s and %s hold the same", f, other)
		}
		values[text] = f
	}
	command(t, "bash", filepath.Join(dir, "prepare.sh"), "localhost")
	for f, text := range before {
		if readFile(t, f) != text {
			t.Errorf("%s was made anew", f)
		}
	}
}

// stack is compose's services as processes.
type stack struct {
	project
	dir    string // the folder, prepared
	db     *mariadbtest.Server
	client *http.Client // through the proxy, with its certificate
	proxy  string
	fill   *strings.Replacer // from what is in containers to what is here
}

// newStack starts MariaDB with compose's arguments, with what its image makes of
// compose's environment, and the log as init makes it.
func newStack(t *testing.T) *stack {
	t.Helper()
	s := &stack{project: compose(t, "compose.yaml"), dir: prepared(t)}
	s.db = s.startMariaDB(t, s.dir)
	s.proxy = freeAddress(t)
	s.fill = strings.NewReplacer("mariadb:3306", s.db.Addr(), "/run/secrets/proxy_pem", filepath.Join(s.dir, "secrets", "proxy.pem"),
		"/run/secrets", filepath.Join(s.dir, "secrets"), "/var/lib/prooftrail", filepath.Join(s.dir, "state"),
		"0.0.0.0:8080", "127.0.0.1:0", "172.30.80.2/32", "127.0.0.1/32", "bind :8443", "bind "+s.proxy)
	init := s.Services["init"].Entrypoint
	command(t, program(t), append(s.filled(init[1:]), "--origin=compose.example/audit")...)
	return s
}

func (s *stack) filled(args []string) (filled []string) {
	for _, a := range args {
		filled = append(filled, s.fill.Replace(a))
	}
	return filled
}

// server starts one of the two, with the configuration that compose mounts.
func (s *stack) server(t *testing.T, name string) (*process, string) {
	t.Helper()
	config := filepath.Join(t.TempDir(), "prooftrail.yaml")
	writeFile(t, config, s.fill.Replace(readFile(t, filepath.Join(s.dir, "prooftrail.yaml"))))
	args := s.Services[name].Command
	if !slices.Equal(args, []string{"serve", "--config=/etc/prooftrail/prooftrail.yaml"}) {
		t.Fatalf("%s is started with %v", name, args)
	}
	return serve(t, "--config="+config)
}

// startProxy starts HAProxy with compose's configuration before the two servers.
func (s *stack) startProxy(t *testing.T, urls [2]string) {
	t.Helper()
	text := s.fill.Replace(readFile(t, filepath.Join(s.dir, "haproxy.cfg")))
	for i, u := range urls {
		text = strings.ReplaceAll(text, fmt.Sprintf("prooftrail-%d:8080", i+1), strings.TrimPrefix(u, "http://"))
	}
	file := filepath.Join(s.dir, "haproxy.here.cfg")
	writeFile(t, file, text)
	haproxy := tool(t, "haproxy", "haproxy")
	command(t, haproxy, "-c", "-f", file)
	start(t, haproxy, "-W", "-db", "-f", file)

	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(readFile(t, filepath.Join(s.dir, "secrets", "proxy.crt")))) {
		t.Fatal("prepare.sh made no certificate")
	}
	s.client = &http.Client{Timeout: web.Timeout, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}}
}

func (s *stack) url(t *testing.T) string {
	t.Helper()
	_, port, err := net.SplitHostPort(s.proxy)
	if err != nil {
		t.Fatal(err)
	}
	return "https://127.0.0.1:" + port
}

// status waits until the proxy answers a path so.
func (s *stack) status(t *testing.T, path string, want int) {
	t.Helper()
	eventually(t, fmt.Sprintf("GET %s is answered %d", path, want), func() error {
		status, body, err := fetch(t, s.client, s.url(t)+path)
		if err == nil && status != want {
			err = fmt.Errorf("%d %.200s", status, body)
		}
		return err
	})
}

// TestComposeRuns starts compose's servers and proxy on a real MariaDB as processes, takes each
// server away in turn, and then the database.
func TestComposeRuns(t *testing.T) {
	s := newStack(t)
	var urls [2]string
	var servers [2]*process
	for i := range servers {
		servers[i], urls[i] = s.server(t, fmt.Sprintf("prooftrail-%d", i+1))
	}
	s.startProxy(t, urls)
	s.status(t, "/readyz", http.StatusOK)
	s.status(t, "/metrics", http.StatusNotFound)
	s.status(t, "/logs/audit/checkpoint", http.StatusOK)

	token := filepath.Join(s.dir, "state", "log", "tokens", "submit.token")
	logged := 0
	log := func() {
		t.Helper()
		logged++
		eventually(t, "an event is taken", func() error {
			status, body, err := submit(t, s.client, s.url(t), token, fmt.Sprintf("event-%d", logged))
			if err == nil && status/100 != 2 {
				err = fmt.Errorf("%d %s", status, body)
			}
			return err
		})
	}
	log()
	s.db.Pause(t)
	s.status(t, "/readyz", http.StatusServiceUnavailable) // the proxy's own: nobody is ready
	s.db.Resume(t)
	s.status(t, "/readyz", http.StatusOK)
	log()
	servers[0].kill()
	log()
	servers[0], urls[0] = s.server(t, "prooftrail-1")
	servers[1].end()
	if code := servers[1].cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("SIGTERM ended a server with %d:\n%s", code, servers[1].output())
	}

	// What was answered is in the log, once.
	for i := range logged {
		status, body, err := submit(t, web, urls[0], token, fmt.Sprintf("event-%d", i+1))
		if err != nil || status != http.StatusOK || !strings.Contains(body, `"duplicate"`) {
			t.Errorf("event-%d again: %d %s %v", i+1, status, body, err)
		}
	}
}

// trillianStack is compose's services with Trillian's own servers, as processes.
type trillianStack struct {
	project
	dir  string
	at   map[string]string // addresses, by compose's
	fill *strings.Replacer // from what is in containers to what is here
}

// newTrillianStack starts MariaDB and etcd, and makes Trillian's database as compose's two services
// do: twice, for both are run before each command of the setup.
func newTrillianStack(t *testing.T) *trillianStack {
	t.Helper()
	s := &trillianStack{project: compose(t, "compose.yaml", "compose.trillian.yaml"), dir: prepared(t), at: map[string]string{}}
	db := s.startMariaDB(t, s.dir)
	tool(t, "mariadb", "mariadb-client-core")
	host, port, err := net.SplitHostPort(db.Addr())
	if err != nil {
		t.Fatal(err)
	}
	if d := s.Services["trillian-database"]; !slices.Equal(d.Entrypoint, []string{"bash", "/trillian/database.sh"}) {
		t.Fatalf("trillian-database runs %v", d.Entrypoint)
	}
	s.at["etcd:2379"], s.at["mariadb:3306"] = freeAddress(t), db.Addr()
	fill := []string{"http://0.0.0.0:2379", "http://" + s.at["etcd:2379"], "--data-dir=/etcd", "--data-dir=" + filepath.Join(s.dir, "etcd")}
	for _, name := range []string{"trillian-log-server-1:8090", "trillian-log-server-2:8090"} {
		s.at[name] = freeAddress(t)
	}
	for name, at := range s.at {
		fill = append(fill, name, at)
	}
	secrets := filepath.Join(s.dir, "secrets")
	s.fill = strings.NewReplacer(append(fill, "/run/secrets/trillian_crt", filepath.Join(secrets, "trillian.crt"), "/run/secrets/trillian_key",
		filepath.Join(secrets, "trillian.key"), "/run/secrets", secrets, "/var/lib/prooftrail", filepath.Join(s.dir, "state"),
		"0.0.0.0:8080", "127.0.0.1:0", "172.30.80.2/32", "127.0.0.1/32")...)
	flags := filepath.Join(secrets, "trillian_flags")
	writeFile(t, flags, s.fill.Replace(readFile(t, flags)))
	for range 2 {
		command(t, "env", "SECRETS="+secrets, "DATABASE_HOST="+host, "DATABASE_PORT="+port, "bash", filepath.Join(s.dir, "trillian-database.sh"))
		command(t, program(t), s.filled(s.Services["trillian-schema"].Command)...)
	}
	peer := "http://" + freeAddress(t)
	start(t, tool(t, "etcd", "etcd-server"), append(s.filled(s.Services["etcd"].Command)[1:], "--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer,
		"--initial-cluster=etcd="+peer)...)
	return s
}

func (s *trillianStack) filled(args []string) (filled []string) {
	for _, a := range args {
		filled = append(filled, s.fill.Replace(a))
	}
	return filled
}

// startTrillian starts one of Trillian's, at other addresses than in its container, and waits until
// its page of health, at base, is fine.
func (s *trillianStack) startTrillian(t *testing.T, name, base string, client *http.Client) {
	t.Helper()
	rpc, at := s.at[name+":8090"], freeAddress(t)
	if rpc == "" {
		rpc = freeAddress(t)
	}
	binary := "trillian_log_server"
	if strings.HasPrefix(name, "trillian-log-signer") {
		binary = "trillian_log_signer"
	}
	server := start(t, trillianServer(t, binary), append(s.filled(s.Services[name].Command), "--rpc_endpoint="+rpc, "--http_endpoint="+at)...)
	t.Cleanup(server.kill) // asked to end it would sleep for 10 seconds
	for _, path := range []string{"/healthz", "/metrics"} {
		eventually(t, name+" is healthy", func() error {
			server.mustRun(t)
			status, body, err := fetch(t, client, base+at+path)
			if err == nil && status != http.StatusOK {
				err = fmt.Errorf("%d %.200s", status, body)
			}
			return err
		})
	}
}

// TestTrillianRuns starts Trillian's own servers with compose's arguments on the database that compose
// makes: the log servers by TLS, with a certificate that is for the names that compose gives them, the
// signers through etcd. init makes the log, and a server with compose's configuration signs.
func TestTrillianRuns(t *testing.T) {
	s := newTrillianStack(t)
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(readFile(t, filepath.Join(s.dir, "secrets", "trillian.crt")))) {
		t.Fatal("prepare.sh made no certificate for Trillian")
	}
	for i := range 2 {
		name := fmt.Sprintf("trillian-log-server-%d", i+1)
		config := &tls.Config{RootCAs: roots, ServerName: name, MinVersion: tls.VersionTLS12}
		s.startTrillian(t, name, "https://", &http.Client{Timeout: web.Timeout, Transport: &http.Transport{TLSClientConfig: config}})
		s.startTrillian(t, fmt.Sprintf("trillian-log-signer-%d", i+1), "http://", web)
	}
	command(t, program(t), append(s.filled(s.Services["init"].Entrypoint[1:]), "--origin=compose.example/audit")...)
	config := filepath.Join(t.TempDir(), "prooftrail.yaml")
	writeFile(t, config, s.fill.Replace(readFile(t, filepath.Join(s.dir, "prooftrail.trillian.yaml"))))
	_, url := serve(t, "--config="+config)
	status, body, err := submit(t, web, url, filepath.Join(s.dir, "state", "log", "tokens", "submit.token"), "event-1")
	if err != nil || status/100 != 2 {
		t.Errorf("submit: %d %s %v", status, body, err)
	}
}
