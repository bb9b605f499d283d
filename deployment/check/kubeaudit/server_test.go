package kubeaudit

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// server is a log of the test's own, and the process that serves it over TLS.
type server struct {
	t       *testing.T
	dir     string // with the log, certificate and tokens
	address string
	cmd     *exec.Cmd
	stderr  bytes.Buffer
	client  *http.Client
}

// bin has the programs.
var bin string

func TestMain(m *testing.M) {
	var err error
	if bin, err = os.MkdirTemp("", "kubeaudit"); err != nil {
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

// newServer makes a log, and a token for the API server.
func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{t: t, dir: t.TempDir()}
	s.certificate()
	s.run("prooftrail", "init", "--data", "log", "--origin", "example.com/audit")
	s.run("prooftrail", "token", "add", "--data", "log", "--name", "prod-apiserver", "--source", "k8s://prod", "--out", "prod.token")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.address = l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *server) path(name string) string { return filepath.Join(s.dir, name) }

// run runs a program to its end.
func (s *server) run(name string, args ...string) string {
	s.t.Helper()
	cmd := exec.Command(filepath.Join(bin, name), args...)
	cmd.Dir = s.dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("%s %q: %v\n%s%s", name, args, err, out, stderr.String())
	}
	return string(out)
}

// certificate makes a certificate for this machine, which is its own authority.
func (s *server) certificate() {
	s.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "log"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		s.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		s.t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	for name, content := range map[string][]byte{"log-ca.pem": certPEM, "key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})} {
		if err := os.WriteFile(s.path(name), content, 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certPEM)
	s.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}}
}

// start starts the server and waits until it listens.
func (s *server) start() {
	s.t.Helper()
	s.cmd = exec.Command(filepath.Join(bin, "prooftrail"), "serve", "--data", "log", "--listen", s.address, "--tls-cert", "log-ca.pem", "--tls-key", "key.pem")
	s.cmd.Dir, s.cmd.Stderr = s.dir, &s.stderr
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(s.kill)
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		s.t.Fatalf("the server said %q: %v\n%s", line, err, s.stderr.String())
	}
}

// kill ends the server as kill -9 does.
func (s *server) kill() {
	_ = s.cmd.Process.Kill() // it may have ended
	_ = s.cmd.Wait()
}

// kubeconfig is the file of deployment/kubernetes/audit with this server in it.
func (s *server) kubeconfig() string {
	s.t.Helper()
	text, err := os.ReadFile(files + "webhook.kubeconfig")
	if err != nil {
		s.t.Fatal(err)
	}
	out := string(text)
	for from, to := range map[string]string{
		"https://log.example.com/": "https://" + s.address + "/", "/etc/kubernetes/audit/log-ca.pem": s.path("log-ca.pem"), "/etc/kubernetes/audit/prod.token": s.path("prod.token"),
	} {
		if strings.Count(out, from) != 1 {
			s.t.Fatalf("webhook.kubeconfig has %q %d times", from, strings.Count(out, from))
		}
		out = strings.ReplaceAll(out, from, to)
	}
	if err := os.WriteFile(s.path("webhook.kubeconfig"), []byte(out), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return s.path("webhook.kubeconfig")
}

func (s *server) token(role string) string { return s.path("log/tokens/" + role + ".token") }

// get reads with the read token.
func (s *server) get(path string) []byte {
	s.t.Helper()
	secret, err := os.ReadFile(s.token("read"))
	if err != nil {
		s.t.Fatal(err)
	}
	r, err := http.NewRequest(http.MethodGet, "https://"+s.address+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(secret)))
	resp, err := s.client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatalf("%s: %s, %v\n%s", path, resp.Status, err, b)
	}
	return b
}

// entry is an event of the log: values by pointer.
type entry map[string]any

// entries are all events that the adapter made, read in bulk.
func (s *server) entries() (all []entry) {
	s.t.Helper()
	for next, size := 0, 0; ; { // size: at first; each read makes one entry more
		var ready struct {
			Stored    int `json:"tree_size"`
			Published int `json:"published_size"`
		}
		if err := json.Unmarshal(s.get("/readyz"), &ready); err != nil {
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
		for line := range bytes.Lines(s.get(fmt.Sprintf("/v1/logs/audit/openings?count=%d&start=%d", min(10_000, ready.Published-next), next))) {
			next++
			all = appendEntry(s.t, all, line)
		}
	}
}

// appendEntry adds the event of a line of openings, if the adapter made it.
func appendEntry(t *testing.T, all []entry, line []byte) []entry {
	t.Helper()
	var l struct {
		Opening struct {
			Fields []struct {
				P string
				V any
			}
		}
	}
	if err := json.Unmarshal(line, &l); err != nil {
		t.Fatal(err)
	}
	e := entry{}
	for _, f := range l.Opening.Fields {
		e[f.P] = f.V
	}
	if e["/ingest/adapter"] != "kubernetes" {
		return all
	}
	return append(all, e)
}

// audit has an auditor's program check all of the log.
func (s *server) audit() {
	s.t.Helper()
	out := s.run("prooftrail-verify", "audit", "--log", "https://"+s.address+"/logs/audit", "--ca", "log-ca.pem", "--policy", "log/policy.txt", "--token-file", s.token("read"))
	if !strings.Contains(out, "verified:") {
		s.t.Errorf("the audit says %s", out)
	}
}
