package kubeaudit

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/deployment/check/servertest"
)

func TestMain(m *testing.M) { os.Exit(servertest.Main(m)) }

// server is one over TLS, with a token for the API server.
type server struct {
	*servertest.Server
	t *testing.T
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{servertest.New(t, "--tls-cert", "log-ca.pem", "--tls-key", "key.pem"), t}
	s.certificate()
	s.Run("prooftrail", "token", "add", "--data", "log", "--name", "prod-apiserver", "--source", "k8s://prod", "--out", "prod.token")
	s.Start()
	return s
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
		if err := os.WriteFile(s.Path(name), content, 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certPEM)
	s.Client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}}
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
		"https://log.example.com/": s.URL + "/", "/etc/kubernetes/audit/log-ca.pem": s.Path("log-ca.pem"), "/etc/kubernetes/audit/prod.token": s.Path("prod.token"),
	} {
		if strings.Count(out, from) != 1 {
			s.t.Fatalf("webhook.kubeconfig has %q %d times", from, strings.Count(out, from))
		}
		out = strings.ReplaceAll(out, from, to)
	}
	if err := os.WriteFile(s.Path("webhook.kubeconfig"), []byte(out), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return s.Path("webhook.kubeconfig")
}
