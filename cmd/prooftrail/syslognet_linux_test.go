package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/deployment/porttest"
)

// authority makes certificates.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.make(name, true)
	return a
}

// make makes a certificate, NAME.pem, and its key, NAME.key.
func (a *authority) make(name string, isCA bool) (*x509.Certificate, *ecdsa.PrivateKey) {
	t := a.t
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: isCA,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}}
	parent, signer := a.cert, a.key
	if isCA {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(a.file(file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err = x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c, key
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// client is a connection with a certificate of that name, or with none.
func (a *authority) client(address, name string) (net.Conn, error) {
	a.t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	cfg := &tls.Config{RootCAs: roots}
	if name != "" {
		pair, err := tls.LoadX509KeyPair(a.file(name+".pem"), a.file(name+".key"))
		if err != nil {
			a.t.Fatal(err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	c, err := tls.Dial("tcp", address, cfg)
	if err == nil {
		a.t.Cleanup(func() { c.Close() })
	}
	return c, err
}

// TestSyslogSenders: over each kind of socket a line has the label of what is known of its sender, and the same line from elsewhere
// is another's. What one sender has too much is counted, and told in the log.
func TestSyslogSenders(t *testing.T) {
	t.Parallel()
	s := newSyslogTest(t)
	server := s.start()
	ca := newAuthority(t, "ca")
	ca.make("server", false)
	ca.make("web1.example.com", false)
	strangers := newAuthority(t, "ca")
	strangers.make("web1.example.com", false)
	dir := t.TempDir()
	direct, relay, other := filepath.Join(dir, "direct"), filepath.Join(dir, "relay"), filepath.Join(dir, "other")
	forwarded, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: other, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { forwarded.Close() })
	s.begin("--listen", "unix:"+direct, "--listen", "relay:"+relay, "--listen", "udp:127.0.0.1:0", "--listen", "tcp:127.0.0.1:0", "--listen", "tls:127.0.0.1:0",
		"--tls-cert", ca.file("server.pem"), "--tls-key", ca.file("server.key"), "--tls-client-ca", ca.file("ca.pem"),
		"--forward", "unix:"+other, "--no-crontabs", "--report", "300ms", "--rate", "1", "--burst", "5")
	address := func(i int) string { _, a, _ := strings.Cut(s.sockets[i], ":"); return a }
	line := func(n int) string {
		return fmt.Sprintf("<86>%s web1 sshd[7%d]: pam_unix(sshd:session): session opened for user n%d(uid=0) by (uid=0)", time.Now().Format(time.Stamp), n, n)
	}
	tlsConn, err := ca.client(address(4), "web1.example.com")
	if err != nil {
		t.Fatal(err)
	}
	conns := []net.Conn{dialed(t, "unixgram", direct), dialed(t, "unixgram", relay), dialed(t, "udp", address(2)), dialed(t, "tcp", address(3)), tlsConn}
	said := make([]string, len(conns))
	for i, c := range conns {
		said[i] = line(i)
		text := said[i]
		if i >= 3 {
			text = strconv.Itoa(len(text)) + " " + text
		}
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
	}
	own := "claimed"
	if os.Getuid() == 0 {
		own = "root"
	}
	s.await("each sender",
		wanted{"/actor/id": "n0", "/labels/ingest.sender": "unix-credentials", "/labels/ingest.identity": own},
		wanted{"/actor/id": "n1", "/labels/ingest.sender": "unix-relay", "/labels/ingest.identity": "claimed"},
		wanted{"/actor/id": "n2", "/labels/ingest.sender": "network", "/labels/ingest.identity": "claimed", "/details/peer": "127.0.0.1", "/origin/host": "web1"},
		wanted{"/actor/id": "n3", "/labels/ingest.sender": "network", "/labels/ingest.identity": "claimed", "/origin/host": "web1"},
		wanted{"/actor/id": "n4", "/labels/ingest.sender": "tls", "/labels/ingest.identity": "claimed", "/labels/ingest.peer": "web1.example.com"})
	for _, bad := range []struct {
		by   *authority
		name string
	}{{ca, ""}, {strangers, "web1.example.com"}} {
		bad.by.cert = ca.cert // whom it trusts
		c, err := bad.by.client(address(4), bad.name)
		if err == nil { // TLS 1.3 tells with the first read
			_, err = c.Read(make([]byte, 1))
		}
		if err == nil {
			t.Errorf("%q is heard", bad.name)
		}
	}
	// Forwarded: as they came.
	buf := make([]byte, 1<<16)
	got := map[string]bool{}
	for range conns {
		if err := forwarded.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := forwarded.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		got[string(buf[:n])] = true
	}
	for _, text := range said {
		if !got[text] {
			t.Errorf("%q was not passed on as it came: %v", text, got)
		}
	}
	// One has too much to say.
	for n := range 40 {
		if _, err := io.WriteString(conns[3], line(100+n)+"\n"); err != nil {
			t.Fatal(err)
		}
	}
	lost := s.await("over its budget", wanted{"/action": "syslog.lost", "/details/over_budget": `\d+`, "/details/senders": `.*"127\.0\.0\.1".*`})
	t.Log(show(lost))
	s.end(syscall.SIGTERM)
	s.check(server, true)
}

// TestSyslogSocketActivation: the socket that systemd passes on.
func TestSyslogSocketActivation(t *testing.T) {
	t.Parallel()
	s := newSyslogTest(t)
	s.start()
	path := filepath.Join(t.TempDir(), "log")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	f, err := c.File()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec prooftrail syslog "$@"`, "sh", "--listen", "systemd:", "--server", s.url, "--token-file", filepath.Join(s.dir, "tokens", "submit.token"),
		"--policy", filepath.Join(s.dir, "policy.txt"), "--spool", s.base, "--source", syslogSource, "--no-crontabs")
	cmd.ExtraFiles, cmd.Stderr, cmd.SysProcAttr = []*os.File{f}, s.said, endsWithParent()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if _, err := io.WriteString(dialed(t, "unixgram", path), loginLine(1)); err != nil {
		t.Fatal(err)
	}
	s.await("over systemd's socket", wanted{"/actor/id": "n1", "/labels/ingest.sender": "unix-credentials"})
}

// TestSyslogFlags: a flag that is wrong is named.
func TestSyslogFlags(t *testing.T) {
	dir := t.TempDir()
	address, err := porttest.Address()
	if err != nil {
		t.Fatal(err)
	}
	k := newKillRun(t, filepath.Join(dir, "log"))
	usual := []string{"--server", "http://" + address, "--token-file", filepath.Join(k.dir, "tokens", "submit.token"), "--policy", filepath.Join(k.dir, "policy.txt"),
		"--spool", filepath.Join(dir, "spool"), "--source", syslogSource}
	for _, tt := range []struct {
		want string
		args []string
	}{
		{"--listen is needed", usual},
		{"--server is needed", []string{"--listen", "udp:127.0.0.1:0"}},
		{"--listen: \"ftp\"", append([]string{"--listen", "ftp"}, usual...)},
		{"--listen: udp:nowhere", append([]string{"--listen", "udp:nowhere"}, usual...)},
		{"--listen tls: it takes --tls-cert and --tls-key", append([]string{"--listen", "tls:127.0.0.1:0"}, usual...)},
		{"--tls-cert, --tls-key, --tls-client-ca: they are for", append([]string{"--listen", "udp:127.0.0.1:0", "--tls-cert", "x"}, usual...)},
		{"--tls-cert, --tls-key: ", append([]string{"--listen", "tls:127.0.0.1:0", "--tls-cert", "x", "--tls-key", "y"}, usual...)},
		{"--forward: \"tcp:x\"", append([]string{"--listen", "udp:127.0.0.1:0", "--forward", "tcp:x"}, usual...)},
		{"--when-full: expected drop or wait", append([]string{"--listen", "udp:127.0.0.1:0", "--when-full", "panic"}, usual...)},
		{"--spool-events: expected", append([]string{"--listen", "udp:127.0.0.1:0", "--spool-events", "1"}, usual...)},
		{"--spool-bytes: expected", append([]string{"--listen", "udp:127.0.0.1:0", "--spool-bytes", "1"}, usual...)},
		{"--cron-level: expected", append([]string{"--listen", "udp:127.0.0.1:0", "--cron-level", "16"}, usual...)},
		{"--rate: expected", append([]string{"--listen", "udp:127.0.0.1:0", "--rate", "-1"}, usual...)},
		{"--report: expected", append([]string{"--listen", "udp:127.0.0.1:0", "--report", "0s"}, usual...)},
		{"--zone: ", append([]string{"--listen", "udp:127.0.0.1:0", "--zone", "Moon/Base"}, usual...)},
		{"--metrics: ", append([]string{"--listen", "udp:127.0.0.1:0", "--metrics", "x"}, usual...)},
		{"--mask: ", append([]string{"--listen", "udp:127.0.0.1:0", "--mask", "("}, usual...)},
		{"--log-level: ", append([]string{"--listen", "udp:127.0.0.1:0", "--log-level", "loud"}, usual...)},
		{"--log-format: ", append([]string{"--listen", "udp:127.0.0.1:0", "--log-format", "xml"}, usual...)},
	} {
		var out, errs bytes.Buffer
		if code := Run(t.Context(), append([]string{"syslog"}, tt.args...), strings.NewReader(""), &out, &errs); code != 2 || !strings.Contains(errs.String(), tt.want) {
			t.Errorf("%q: exit code %d, %s", tt.want, code, errs.String())
		}
	}
}
