package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/prooftrail/prooftrail/verifier"
)

// readFile reads a whole file, "-" is standard input, and refuses more than limit bytes.
func (e *env) readFile(name string, limit int64) ([]byte, error) {
	r := e.stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		r = f
	}
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s: more than %d bytes", name, limit)
	}
	return b, nil
}

// readPolicy reads the policy file, which every command needs.
func (e *env) readPolicy(name string) (*verifier.Policy, error) {
	if name == "" {
		return nil, &usageError{fmt.Errorf("--policy FILE is needed: it says whose log and which witnesses to trust")}
	}
	b, err := e.readFile(name, verifier.MaxPolicyBytes)
	if err != nil {
		return nil, err
	}
	p, err := verifier.ParsePolicy(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return p, nil
}

// readToken reads a token file, one line; "" if none is named.
func (e *env) readToken(name string) (string, error) {
	if name == "" {
		return "", nil
	}
	b, err := e.readFile(name, 4096)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(b))
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("%s: expected one token on one line", name)
	}
	return token, nil
}

// transport believes the certificate authorities of a PEM file; nil, which is the
// system's, if none is named.
func (e *env) transport(file string) (http.RoundTripper, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := e.readFile(file, 1<<20)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: no certificate in it", file)
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 32 // two, else, for all that an audit asks for at once
	t.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	return t, nil
}
