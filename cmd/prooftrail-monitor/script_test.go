package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/prooftrail/prooftrail/deployment/porttest"
	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/monitor/alarm"
	"github.com/prooftrail/prooftrail/verifier/monitor/gossip"
	"github.com/prooftrail/prooftrail/verifier/monitor/witness"
)

// TestMain lets the test binary stand in for prooftrail-monitor in scripts.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"prooftrail-monitor": func() { os.Exit(Run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) },
	})
}

// The scripts drive the real programs: a log's server, the monitor, and an auditor's verifier.
func TestScripts(t *testing.T) {
	bin := t.TempDir()
	for _, program := range []string{"prooftrail", "prooftrail-verify"} {
		build := exec.Command("go", "build", "-o", filepath.Join(bin, program), "../"+program)
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", program, err, out)
		}
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", bin+string(os.PathListSeparator)+e.Getenv("PATH"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"freeaddr": freeAddr, "answers": answers, "mode": mode, "exitcode": exitCode, "tlscert": tlsCert, "setvar": setVar, "endall": endAll,
			"fill": fill, "fetch": fetchFile, "cosign": cosign, "posthead": postHead, "webhook": webhook, "hasline": hasLine,
		},
	})
}

// freeaddr VAR... sets each VAR to a loopback address that nobody listens on.
func freeAddr(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		address, err := porttest.Address()
		ts.Check(err)
		ts.Setenv(name, address)
	}
}

// web trusts any certificate: scripts ask only what is answered.
var web = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}

func get(ctx context.Context, url string) (status string, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", nil, err
	}
	resp, err := web.Do(req)
	if err != nil {
		return "", nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return fmt.Sprint(resp.StatusCode), body, err
}

// answers URL STATUS [REGEXP] waits until a GET of URL is answered with STATUS, and a body that
// REGEXP matches.
func answers(ts *testscript.TestScript, _ bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	want := regexp.MustCompile("")
	if len(args) > 2 {
		want = regexp.MustCompile(args[2])
	}
	for {
		status, body, err := get(ctx, args[0])
		if err == nil && status == args[1] && want.Match(body) {
			return
		}
		select {
		case <-ctx.Done():
			ts.Fatalf("%s isn't answered with %s %s but with %s %s %v", args[0], args[1], want, status, body, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// fetch URL FILE writes what is answered with 200 to a file.
func fetchFile(ts *testscript.TestScript, _ bool, args []string) {
	status, body, err := get(context.Background(), args[0])
	ts.Check(err)
	if status != "200" {
		ts.Fatalf("%s: %s %s", args[0], status, body)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), body, 0o600))
}

// endall NAME sends SIGTERM to all programs in the background, or the named one: the script's kill knows
// only SIGINT and SIGKILL.
func endAll(ts *testscript.TestScript, _ bool, _ []string) {
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

// setvar VAR FILE REGEXP sets VAR to what the group of REGEXP matches in FILE, or in the last stdout.
func setVar(ts *testscript.TestScript, _ bool, args []string) {
	m := regexp.MustCompile(args[2]).FindStringSubmatch(ts.ReadFile(args[1]))
	if m == nil {
		ts.Fatalf("no %s in %s", args[2], ts.ReadFile(args[1]))
	}
	ts.Setenv(args[0], m[1])
}

// fill FILE... puts the environment's values into files, for $NAME.
func fill(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		text := os.Expand(ts.ReadFile(name), ts.Getenv)
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(text), 0o600))
	}
}

// hasline FILE REGEXP waits until a file has a matching line.
func hasLine(ts *testscript.TestScript, neg bool, args []string) {
	want := regexp.MustCompile("(?m)" + args[1])
	for deadline := time.Now().Add(30 * time.Second); ; {
		b, err := os.ReadFile(ts.MkAbs(args[0]))
		if found := err == nil && want.Match(b); found != neg {
			return
		}
		if neg || time.Now().After(deadline) {
			ts.Fatalf("%s: %v, matching %s: %v\n%s", args[0], err, want, !neg, b)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// exitcode N PROGRAM ARG... runs a program and checks its exit code; the output goes to the files
// stdout.txt and stderr.txt.
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

// cosign WITNESS LOG STATUS [OUT] asks a witness for a cosignature of the head that a log serves, as a
// log does: with the old size that the witness names, and the proof. OUT gets the head with the
// cosignatures.
func cosign(ts *testscript.TestScript, _ bool, args []string) {
	ctx := context.Background()
	_, note, err := get(ctx, args[1]+"/checkpoint")
	ts.Check(err)
	head, err := verifier.ParseCheckpoint(textOf(note))
	ts.Check(err)
	log, err := verifier.NewHTTPLog(verifier.HTTPConfig{URL: args[1]})
	ts.Check(err)
	old := uint64(0)
	status, body := "", []byte{}
	for range 2 {
		var proof []verifier.Hash
		if old > 0 && old <= head.Size {
			proof, err = verifier.ProveConsistency(ctx, verifier.Tiles(log), old, head.Size)
			ts.Check(err)
		}
		resp, err := web.Post(args[0]+"/add-checkpoint", "text/plain", bytes.NewReader(witness.Request{OldSize: min(old, head.Size), Proof: proof, Note: note}.Bytes()))
		ts.Check(err)
		body, err = io.ReadAll(resp.Body)
		resp.Body.Close()
		ts.Check(err)
		status = fmt.Sprint(resp.StatusCode)
		if status != "409" {
			break
		}
		old, err = strconv.ParseUint(strings.TrimSpace(string(body)), 10, 64)
		ts.Check(err)
	}
	if status != args[2] {
		ts.Fatalf("%s: %s", status, body)
	}
	if len(args) > 3 {
		ts.Check(os.WriteFile(ts.MkAbs(args[3]), append(note, body...), 0o600))
	}
}

// posthead MONITOR FILE VERDICT posts a signed note to a monitor until it makes that of it.
func postHead(ts *testscript.TestScript, _ bool, args []string) {
	c, err := gossip.New(gossip.Config{URL: args[0]})
	ts.Check(err)
	note := []byte(ts.ReadFile(args[1]))
	for deadline := time.Now().Add(20 * time.Second); ; {
		a, err := c.PostHead(context.Background(), note)
		if err == nil && string(a.Verdict) == args[2] {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%+v %v", a, err)
		}
		<-time.After(200 * time.Millisecond)
	}
}

// webhook VAR SECRET FILE starts a receiver of alarms, sets VAR to its URL, and appends each notice that
// is signed with what SECRET has to FILE: status, reason, name, log.
func webhook(ts *testscript.TestScript, _ bool, args []string) {
	secret := []byte(strings.TrimSpace(ts.ReadFile(args[1])))
	file := ts.MkAbs(args[2])
	var mu sync.Mutex
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = alarm.CheckSignature(r.Header.Get(alarm.SignatureHeader), body, secret, time.Now(), time.Minute)
		}
		var n map[string]any
		if err == nil {
			err = json.Unmarshal(body, &n)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err == nil {
			fmt.Fprintf(f, "%v %v %v %v monitor=%v\n", n["status"], n["reason"], n["name"], n["log"], n["monitor"])
			f.Close()
		}
	}))
	ts.Defer(srv.Close)
	ts.Setenv(args[0], srv.URL)
}
