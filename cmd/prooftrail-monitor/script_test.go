package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/prooftrail/prooftrail/cmd/internal/scripttest"
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
	scripttest.Run(t, []string{"prooftrail", "prooftrail-verify"}, map[string]scripttest.Command{
		"setvar": setVar, "fill": fill, "fetch": fetchFile, "cosign": cosign, "posthead": postHead, "webhook": webhook, "hasline": hasLine,
	})
}

// fetch URL FILE writes what is answered with 200 to a file.
func fetchFile(ts *testscript.TestScript, _ bool, args []string) {
	status, body, err := scripttest.Get(context.Background(), args[0])
	ts.Check(err)
	if status != "200" {
		ts.Fatalf("%s: %s %s", args[0], status, body)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), body, 0o600))
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

// cosign WITNESS LOG STATUS [OUT] asks a witness for a cosignature of the head that a log serves, as a
// log does: with the old size that the witness names, and the proof. OUT gets the head with the
// cosignatures.
func cosign(ts *testscript.TestScript, _ bool, args []string) {
	ctx := context.Background()
	_, note, err := scripttest.Get(ctx, args[1]+"/checkpoint")
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
		resp, err := scripttest.Web.Post(args[0]+"/add-checkpoint", "text/plain", bytes.NewReader(witness.Request{OldSize: min(old, head.Size), Proof: proof, Note: note}.Bytes()))
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
