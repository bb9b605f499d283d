// Package scripttest runs the scripts that drive the programs in their tests, and has the commands that
// the scripts of several programs share.
package scripttest

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/prooftrail/prooftrail/deployment/porttest"
)

// Command is a command of scripts.
type Command = func(ts *testscript.TestScript, neg bool, args []string)

// Run runs the scripts of testdata/script. Beside the program under test, which TestMain names, they find
// those of others, which are built from the directories beside this one. Their commands are own and:
//
//	answers URL STATUS [REGEXP]     waits until a GET is answered with STATUS, and a body that REGEXP matches
//	exitcode N PROGRAM ARG...       checks a program's exit code; its output is in stdout.txt and stderr.txt
//	freeaddr VAR...                 sets each VAR to a loopback address that nobody listens on
//	mode FILE PERM                  checks a file's permissions
//	sigterm                         sends SIGTERM to all programs in the background; kill can't
//	tlscert CERT KEY                makes a certificate for 127.0.0.1 that is its own authority
func Run(t *testing.T, others []string, own map[string]Command) {
	bin := t.TempDir()
	for _, program := range others {
		build := exec.Command("go", "build", "-o", filepath.Join(bin, program), "../"+program)
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", program, err, out)
		}
	}
	commands := map[string]Command{
		"answers": answers, "exitcode": exitCode, "freeaddr": freeAddr, "mode": mode, "sigterm": sigterm, "tlscert": tlsCert,
	}
	maps.Copy(commands, own)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", bin+string(os.PathListSeparator)+e.Getenv("PATH"))
			return nil
		},
		Cmds: commands,
	})
}

// Web trusts any certificate: scripts ask only what is answered.
var Web = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}

// Get returns what a URL is answered with.
func Get(ctx context.Context, url string) (status string, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", nil, err
	}
	resp, err := Web.Do(req)
	if err != nil {
		return "", nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return fmt.Sprint(resp.StatusCode), body, err
}

// Wait polls a URL until the answer has the status, and a body that the expression matches. The only
// pause is one between two polls.
func Wait(ctx context.Context, url, status, body string) error {
	want, err := regexp.Compile(body)
	if err != nil {
		return err
	}
	for {
		gotStatus, gotBody, err := Get(ctx, url)
		if err == nil && gotStatus == status && want.Match(gotBody) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s isn't answered with %s %s but with %s %s %w", url, status, body, gotStatus, gotBody, errors.Join(err, ctx.Err()))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func answers(ts *testscript.TestScript, _ bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	ts.Check(Wait(ctx, args[0], args[1], strings.Join(args[2:], "")))
}

func exitCode(ts *testscript.TestScript, _ bool, args []string) {
	path := args[1]
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		if info, err := os.Stat(filepath.Join(dir, args[1])); err == nil && info.Mode().IsRegular() {
			path = filepath.Join(dir, args[1])
			break
		}
	}
	cmd := exec.Command(path, args[2:]...)
	cmd.Dir = ts.MkAbs(".")
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run() // the code says it
	ts.Check(os.WriteFile(ts.MkAbs("stdout.txt"), []byte(stdout.String()), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs("stderr.txt"), []byte(stderr.String()), 0o600))
	if got := fmt.Sprint(cmd.ProcessState.ExitCode()); got != args[0] {
		ts.Fatalf("exit code %s, expected %s\n%s%s", got, args[0], stdout.String(), stderr.String())
	}
}

func freeAddr(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		address, err := porttest.Address()
		ts.Check(err)
		ts.Setenv(name, address)
	}
}

func mode(ts *testscript.TestScript, _ bool, args []string) {
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[1] {
		ts.Fatalf("%s has mode %s, expected %s", args[0], got, args[1])
	}
}

func sigterm(ts *testscript.TestScript, _ bool, _ []string) {
	for _, cmd := range ts.BackgroundCmds() {
		if err := cmd.Process.Signal(syscall.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
			ts.Check(err)
		}
	}
}

func tlsCert(ts *testscript.TestScript, _ bool, args []string) {
	public, private, err := ed25519.GenerateKey(nil)
	ts.Check(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(nil, template, template, public, private)
	ts.Check(err)
	key, err := x509.MarshalPKCS8PrivateKey(private)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600))
}
