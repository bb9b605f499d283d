package main

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/prooftrail/prooftrail/cmd/internal/scripttest"
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
	witnesses := &witnessScripts{t: t, ws: map[string]*witnesstest.Witness{}}
	scripttest.Run(t, []string{"prooftrail-verify"}, map[string]scripttest.Command{
		"ready": ready, "setfile": setFile, "tamper": tamper, "database": database(t),
		"witnesses": witnesses.begin, "down": witnesses.down, "up": witnesses.up, "fetch": fetch, "post": post,
		"openings": openings, "pairs": pairs,
	})
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
func ready(ts *testscript.TestScript, _ bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	ts.Check(waitStatus(ctx, "http://"+args[0]+"/readyz", "200"))
}

// waitStatus polls a URL until the answer has the status.
func waitStatus(ctx context.Context, url, status string) error {
	return scripttest.Wait(ctx, url, status, "")
}

// setfile VAR FILE sets VAR to what a file holds.
func setFile(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile(args[1])))
}
