package main

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/prooftrail/prooftrail/deployment/porttest"
	"github.com/prooftrail/prooftrail/personality/mysqldb/mariadbtest"
	"github.com/prooftrail/prooftrail/personality/witnesses/witnesstest"
)

// TestMain lets the test binary stand in for prooftrail: in scripts, and for
// tests that need a process of its own.
func TestMain(m *testing.M) {
	testscript.Main(withDatabase{m}, map[string]func(){
		"prooftrail": func() { os.Exit(Run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) },
		"scheduler":  func() { os.Exit(scheduler(os.Args[1:])) }, // of TestSpoolKill
	})
}

// withDatabase runs the tests, and ends the MariaDB server that they have started.
type withDatabase struct{ *testing.M }

func (w withDatabase) Run() int { return mariadbtest.Run(w.M) }

// The scripts drive the real programs, prooftrail-verify as an auditor has it.
func TestScripts(t *testing.T) {
	bin := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(bin, "prooftrail-verify"), "../prooftrail-verify")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build prooftrail-verify: %v\n%s", err, out)
	}
	witnesses := &witnessScripts{t: t, ws: map[string]*witnesstest.Witness{}}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", bin+string(os.PathListSeparator)+e.Getenv("PATH"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"freeaddr": freeAddr, "ready": ready, "mode": mode, "setfile": setFile, "exitcode": exitCode, "sigterm": sigterm,
			"answers": answers, "tlscert": tlsCert, "tamper": tamper, "database": database(t),
			"witnesses": witnesses.begin, "down": witnesses.down, "up": witnesses.up, "fetch": fetch, "post": post,
		},
	})
}

// freeaddr VAR sets VAR to a loopback address that nobody listens on.
func freeAddr(ts *testscript.TestScript, _ bool, args []string) {
	address, err := porttest.Address()
	ts.Check(err)
	ts.Setenv(args[0], address)
}

// database VAR makes a database, sets VAR to its DSN, and writes the password to the file
// mysql.password.
func database(t *testing.T) func(ts *testscript.TestScript, _ bool, args []string) {
	return func(ts *testscript.TestScript, _ bool, args []string) {
		s := mariadbtest.Shared(t)
		ts.Setenv(args[0], s.DSN(s.Database(t)))
		ts.Check(os.WriteFile(ts.MkAbs("mysql.password"), []byte(mariadbtest.Password+"\n"), 0o600))
	}
}

// ready ADDR waits until the server at ADDR is ready.
func ready(ts *testscript.TestScript, neg bool, args []string) {
	answers(ts, neg, []string{"http://" + args[0] + "/readyz", "200"})
}

// answers URL STATUS waits until a GET of URL is answered with STATUS.
func answers(ts *testscript.TestScript, _ bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	ts.Check(waitStatus(ctx, args[0], args[1]))
}

// poller trusts any certificate: it asks only whether there is an answer.
var poller = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}

// waitStatus polls a URL until the answer has the status. The only pause is one
// between two polls.
func waitStatus(ctx context.Context, url, status string) error {
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := poller.Do(req)
		if err == nil {
			_ = resp.Body.Close()
			if fmt.Sprint(resp.StatusCode) == status {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s isn't answered with %s: %w", url, status, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// sigterm sends SIGTERM to all programs in the background: the script's kill
// knows only SIGINT and SIGKILL.
func sigterm(ts *testscript.TestScript, _ bool, _ []string) {
	for _, cmd := range ts.BackgroundCmds() {
		if err := cmd.Process.Signal(syscall.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
			ts.Check(err)
		}
	}
}

// mode FILE PERM checks a file's permissions.
func mode(ts *testscript.TestScript, _ bool, args []string) {
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[1] {
		ts.Fatalf("%s has mode %s, expected %s", args[0], got, args[1])
	}
}

// setfile VAR FILE sets VAR to what a file holds.
func setFile(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile(args[1])))
}

// exitcode N PROGRAM ARG... runs a program and checks its exit code; the output
// goes to the files stdout.txt and stderr.txt.
func exitCode(ts *testscript.TestScript, _ bool, args []string) {
	path, err := exec.LookPath(args[1])
	if err != nil {
		path, err = lookIn(ts.Getenv("PATH"), args[1])
	}
	ts.Check(err)
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

// tlscert CERT KEY makes a certificate for 127.0.0.1 that is its own authority.
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

func lookIn(path, program string) (string, error) {
	for _, dir := range filepath.SplitList(path) {
		if full := filepath.Join(dir, program); isFile(full) {
			return full, nil
		}
	}
	return "", exec.ErrNotFound
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
