package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/client"
)

// flags is a command's flag set. Flags may stand before, between and after
// positional arguments.
type flags struct {
	*flag.FlagSet
	help string
	env  *env
}

// newFlags makes a flag set; help is what --help shows above the list of flags,
// its first line the usage.
func newFlags(e *env, name, help string) *flags {
	fs := &flags{flag.NewFlagSet(name, flag.ContinueOnError), help, e}
	fs.SetOutput(io.Discard)
	return fs
}

// parse returns the positional arguments, at most max.
func (fs *flags) parse(args []string, max int) (positional []string, err error) {
	for len(args) > 0 {
		if err := fs.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				fs.showHelp()
				return nil, flag.ErrHelp
			}
			return nil, fmt.Errorf("%w; see --help", err)
		}
		rest := fs.Args()
		if n := len(args) - len(rest); n > 0 && args[n-1] == "--" {
			positional = append(positional, rest...)
			break
		}
		if len(rest) == 0 {
			break
		}
		positional = append(positional, rest[0])
		args = rest[1:]
	}
	if len(positional) > max {
		return nil, fmt.Errorf("unexpected argument %q; see --help", positional[max])
	}
	return positional, nil
}

func (fs *flags) showHelp() {
	w := fs.env.stdout
	fmt.Fprintf(w, "%s\nFlags:\n", strings.TrimSpace(fs.help)+"\n")
	fs.VisitAll(func(f *flag.Flag) {
		kind, text := flag.UnquoteUsage(f)
		line := "  --" + f.Name
		if kind != "" {
			line += " " + kind
		}
		fmt.Fprintf(w, "%s\n        %s", line, strings.ReplaceAll(text, "\n", "\n        "))
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" && f.DefValue != "0s" {
			fmt.Fprintf(w, " (default %s)", f.DefValue)
		}
		fmt.Fprintln(w)
	})
}

// needed fails when one of the flags is empty.
func (fs *flags) needed(names ...string) error {
	for _, n := range names {
		if fs.Lookup(n).Value.String() == "" {
			return fmt.Errorf("--%s is needed; see --help", n)
		}
	}
	return nil
}

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

func (s *serverFlags) add(fs *flags) {
	fs.StringVar(&s.server, "server", "", "the server's `URL`, such as https://log.example.com; plain http only to this machine")
	fs.StringVar(&s.tokenFile, "token-file", "", "`file` with the access token, as init writes it")
	fs.StringVar(&s.policy, "policy", "", "`file` with the policy (policy.txt of init) that answers are checked against")
	fs.StringVar(&s.log, "log", "audit", "the log's short `name`")
	fs.StringVar(&s.ca, "ca", "", "PEM `file` of the certificate authorities to trust instead of the system's")
	fs.BoolVar(&s.insecure, "insecure", false, "allow plain http to another machine: the token can then be read on the way")
	fs.DurationVar(&s.timeout, "timeout", 30*time.Second, "`time` for one request")
}

// config makes the client's configuration. The policy is read when there is one.
func (s *serverFlags) config(e *env) (client.Config, error) {
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
func (s *serverFlags) client(e *env) (*client.Client, error) {
	cfg, err := s.config(e)
	if err != nil {
		return nil, err
	}
	return client.New(cfg)
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
func readToken(e *env, file string) (string, error) {
	info, err := os.Stat(file)
	if err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	if info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		e.say("warning: %s can be read by others (mode %04o); chmod 600 it", file, info.Mode().Perm())
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
func (s *serverFlags) sayUnchecked(e *env) {
	if s.policy == "" {
		e.say("not checked: without --policy the server's word is all there is")
	}
}

// noArgs runs f for commands that take flags only.
func (fs *flags) noArgs(args []string) error {
	_, err := fs.parse(args, 0)
	return err
}

// orDone prefers the context's end to an error that it caused. What accuses was
// not caused by it.
func orDone(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil && !errors.Is(err, verifier.ErrFailed) {
		return errors.New("interrupted")
	}
	return err
}
