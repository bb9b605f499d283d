package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/monitor"
	"github.com/prooftrail/prooftrail/verifier/monitor/alarm"
	"github.com/prooftrail/prooftrail/verifier/monitor/witness"
)

// Names in the data directory.
const (
	bookFile    = "book"
	storeFile   = "witness.store"
	alarmsFile  = "alarms.json"
	evidenceDir = "evidence"
	mirrorDir   = "mirror"
)

// settings is a configuration that was checked, with the files that it names read.
type settings struct {
	Config
	logger    *slog.Logger
	transport http.RoundTripper // nil: the defaults
	logs      []monitor.LogConfig
	peers     []monitor.PeerConfig
	cosigners []*witness.Cosigner // none: no witness
	cosigned  []*verifier.LogKey
	sinks     []alarm.Sink
}

// in is a name in the data directory.
func (s *settings) in(name string) string { return filepath.Join(s.Data, name) }

// settings checks everything that can be checked without opening the data, and returns all that
// is wrong, or what to run with.
func (f *file) settings(stderr io.Writer) (*settings, error) {
	s := &settings{Config: f.cfg}
	s.Data = f.resolve(s.Data)
	s.logger = f.logger(stderr)
	f.checkData(s)
	f.checkServers(s)
	f.checkLimits(s)
	f.transport(s)
	for i := range s.Logs {
		f.log(s, i)
	}
	if len(s.Logs) == 0 {
		f.wrongf("logs", "expected one at least")
	}
	for i := range s.Peers {
		f.peer(s, i)
	}
	f.witness(s)
	f.alarms(s)
	return s, f.err()
}

func (f *file) logger(w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.cfg.Log.Level)); err != nil {
		f.wrongf("log.level", "%q: expected debug, info, warn or error", f.cfg.Log.Level)
	}
	opts := &slog.HandlerOptions{Level: level}
	switch f.cfg.Log.Format {
	case "json":
		return slog.New(slog.NewJSONHandler(w, opts))
	case "text":
	default:
		f.wrongf("log.format", "%q: expected text or json", f.cfg.Log.Format)
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

// checkData refuses a directory that init hasn't made: a monitor that begins again without its
// book has forgotten what it could accuse with.
func (f *file) checkData(s *settings) {
	if s.Name == "" {
		f.wrongf("name", "expected a name, such as monitor.example.org")
	}
	if s.Data == "" {
		f.wrongf("data", "expected the directory that `prooftrail-monitor init` made")
		return
	}
	info, err := os.Stat(s.Data)
	switch {
	case err != nil:
		f.wrongf("data", "%w", err)
		return
	case !info.IsDir():
		f.wrongf("data", "%s isn't a directory", s.Data)
		return
	case info.Mode().Perm()&0o077 != 0:
		f.wrongf("data", "%s has mode %04o, so that others can use it: expected 0700", s.Data, info.Mode().Perm())
	}
	for _, name := range []string{bookFile, evidenceDir} {
		if _, err := os.Stat(s.in(name)); err != nil {
			f.wrongf("data", "%w (`prooftrail-monitor init` makes it; one that was lost is told from one that never was by you alone)", err)
		}
	}
}

func (f *file) checkServers(s *settings) {
	s.TLS.Cert, s.TLS.Key = f.resolve(s.TLS.Cert), f.resolve(s.TLS.Key)
	if (s.TLS.Cert == "") != (s.TLS.Key == "") {
		f.wrongf("tls", "expected both cert and key, or neither")
	} else if s.TLS.Key != "" {
		if err := checkPrivate(s.TLS.Key); err != nil {
			f.wrongf("tls.key", "%w", err)
		} else if _, err := tls.LoadX509KeyPair(s.TLS.Cert, s.TLS.Key); err != nil {
			f.wrongf("tls.cert", "%w", err)
		}
	}
	if len(s.Listen) == 0 {
		f.wrongf("listen", "expected one address at least")
	}
	plain := s.TLS.Cert == "" && !s.Insecure && len(s.TrustedProxies) == 0
	for _, addr := range s.Listen {
		if loopback, err := isLoopback(addr); err != nil {
			f.wrongf("listen", "%w", err)
		} else if plain && !loopback {
			f.wrongf("listen", "%s isn't a loopback address: expected tls, trusted_proxies, or insecure: true", addr)
		}
	}
	if s.Admin != "" {
		if loopback, err := isLoopback(s.Admin); err != nil || !loopback {
			f.wrongf("admin", "expected a loopback address and port, such as 127.0.0.1:8091, got %q", s.Admin)
		}
	}
	if s.Metrics != "" {
		if _, err := isLoopback(s.Metrics); err != nil {
			f.wrongf("metrics", "%w", err)
		}
	}
}

// isLoopback tells whether an address to listen on can be reached from this machine alone.
func isLoopback(addr string) (bool, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || port == "" {
		return false, fmt.Errorf("%q: expected address and port, such as 127.0.0.1:8090", addr)
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback(), nil
}

func (f *file) checkLimits(s *settings) {
	for _, limit := range []struct {
		path     string
		ok       bool
		expected string
	}{
		{"interval", s.Interval >= 100*time.Millisecond && s.Interval <= time.Hour, "100ms to 1h"},
		{"limits.rate", s.Limits.Rate > 0 && !math.IsInf(s.Limits.Rate, 0), "more than 0"},
		{"limits.max_connections", s.Limits.MaxConnections > 0, "more than 0"},
		{"limits.body_timeout", s.Limits.BodyTimeout > 0, "more than 0s"},
		{"limits.ready_lag", s.Limits.ReadyLag > s.Interval, "more than interval"},
		{"alarms.repeat", s.Alarms.Repeat > 0, "more than 0s"},
		{"shutdown_timeout", s.ShutdownTimeout > 0, "more than 0s"},
	} {
		if !limit.ok {
			f.wrongf(limit.path, "expected %s", limit.expected)
		}
	}
}

// transport trusts the authorities of the file alone, if there is one.
func (f *file) transport(s *settings) {
	if s.CA == "" {
		return
	}
	pem, err := os.ReadFile(f.resolve(s.CA))
	if err != nil {
		f.wrongf("ca", "%w", err)
		return
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		f.wrongf("ca", "no certificate in %s", s.CA)
		return
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	t.MaxIdleConnsPerHost = 16
	s.transport = t
}

// checkPrivate refuses a secret that others can read.
func checkPrivate(name string) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s has mode %04o: others may read it; expected 0600", name, info.Mode().Perm())
	}
	return nil
}

// maxSecretBytes bounds a file with a secret.
const maxSecretBytes = 64 << 10

// secret reads a file with one secret, "" if none is named. No error shows what is in it.
func (f *file) secret(path, name string) string {
	if name == "" {
		return ""
	}
	name = f.resolve(name)
	if err := checkPrivate(name); err != nil {
		f.wrongf(path, "%w", err)
		return ""
	}
	r, err := os.Open(name)
	if err != nil {
		f.wrongf(path, "%w", err)
		return ""
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, maxSecretBytes))
	secret := strings.TrimSpace(string(b))
	switch {
	case err != nil:
		f.wrongf(path, "%w", err)
	case secret == "":
		f.wrongf(path, "%s is empty", name)
	case strings.ContainsAny(secret, "\r\n"):
		f.wrongf(path, "%s has more than one line", name)
	}
	return secret
}

// missing reports whether a file isn't there.
func missing(name string) bool {
	_, err := os.Stat(name)
	return errors.Is(err, fs.ErrNotExist)
}
