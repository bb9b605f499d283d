package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/prooftrail/prooftrail/cmd/internal/cli"
	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/client"
)

// list is a flag that may be given several times.
type list []string

func (l *list) String() string     { return strings.Join(*l, ",") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

// serverFlags are the flags of every command that talks to a server.
type serverFlags struct {
	server, tokenFile, policy, log, ca string
	insecure                           bool
	timeout                            time.Duration
}

func (s *serverFlags) add(fs *cli.Flags) {
	fs.StringVar(&s.server, "server", "", "the server's `URL`, such as https://log.example.com; plain http only to this machine")
	fs.StringVar(&s.tokenFile, "token-file", "", "`file` with the access token, as init writes it")
	fs.StringVar(&s.policy, "policy", "", "`file` with the policy (policy.txt of init) that answers are checked against")
	fs.StringVar(&s.log, "log", "audit", "the log's short `name`")
	fs.StringVar(&s.ca, "ca", "", "PEM `file` of the certificate authorities to trust instead of the system's")
	fs.BoolVar(&s.insecure, "insecure", false, "allow plain http to another machine: the token can then be read on the way")
	fs.DurationVar(&s.timeout, "timeout", 30*time.Second, "`time` for one request")
}

// config makes the client's configuration. The policy is read when there is one.
func (s *serverFlags) config(e *cli.Env) (client.Config, error) {
	cfg := client.Config{
		URL: s.server, Log: s.log, Timeout: s.timeout, Insecure: s.insecure, UserAgent: "prooftrail",
	}
	if s.server == "" {
		return cfg, errors.New("--server is needed; see --help")
	}
	if s.timeout <= 0 {
		return cfg, fmt.Errorf("--timeout %s: expected more than 0", s.timeout)
	}
	var err error
	if s.tokenFile != "" {
		if cfg.Token, err = readToken(e, s.tokenFile); err != nil {
			return cfg, err
		}
	}
	if s.policy != "" {
		if cfg.Policy, err = readPolicy(s.policy); err != nil {
			return cfg, err
		}
	}
	if s.ca != "" {
		roots, err := readRoots(s.ca)
		if err != nil {
			return cfg, err
		}
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
		cfg.HTTPClient = &http.Client{Transport: t}
	}
	return cfg, nil
}

// client makes the client.
func (s *serverFlags) client(e *cli.Env) (*client.Client, error) {
	cfg, err := s.config(e)
	if err != nil {
		return nil, err
	}
	return client.New(cfg)
}

// signFlags are the flags of commands that may sign the events that they send.
type signFlags struct{ signKey string }

func (s *signFlags) add(fs *cli.Flags) {
	fs.StringVar(&s.signKey, "sign-key", "", "`file` with the source's key, made by source-key new, that signs the events")
}

// into has the client sign, if there is a key.
func (s *signFlags) into(cfg *client.Config) (err error) {
	if s.signKey != "" {
		cfg.Signer, err = client.ReadSourceSigner(s.signKey)
	}
	return err
}

// readRoots reads the certificate authorities to trust, and no others.
func readRoots(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("certificate authorities: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("certificate authorities: no certificate in %s", file)
	}
	return pool, nil
}

func readPolicy(file string) (*verifier.Policy, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	p, err := verifier.ParsePolicy(b)
	if err != nil {
		return nil, fmt.Errorf("policy %s: %w", file, err)
	}
	return p, nil
}

// readToken reads a token file, and says so if others may read it too.
func readToken(e *cli.Env, file string) (string, error) {
	info, err := os.Stat(file)
	if err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	if info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		e.Say("warning: %s can be read by others (mode %04o); chmod 600 it", file, info.Mode().Perm())
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	token := strings.TrimSpace(string(b))
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("token: %s doesn't hold one token", file)
	}
	return token, nil
}

// sayUnchecked tells that nothing of what comes is checked, when that is so.
func (s *serverFlags) sayUnchecked(e *cli.Env) {
	if s.policy == "" {
		e.Say("not checked: without --policy the server's word is all there is")
	}
}

// orDone prefers the context's end to an error that it caused. What accuses was
// not caused by it.
func orDone(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil && !errors.Is(err, verifier.ErrFailed) {
		return errors.New("interrupted")
	}
	return err
}
