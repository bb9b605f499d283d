package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/client"
)

// Exit codes, the same for every command; what they mean in particular is in
// each one's help.
const (
	exitOK      = 0 // all that was asked for was done, and all that was checked held
	exitRefused = 1 // something was refused, or doesn't hold
	exitFailed  = 2 // it could not be done, or not be checked
)

// env is what a command has of the outside world.
type env struct {
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
}

// say writes a line for people to standard error.
func (e *env) say(format string, args ...any) { fmt.Fprintf(e.stderr, format+"\n", args...) }

// command is one subcommand.
type command struct {
	name  string
	short string // one line for the list
	run   func(context.Context, *env, []string) error
}

var commands = []command{
	{"demo", "watch a cron service's events being logged, proven, audited, and a forgery being caught", runDemo},
	{"init", "make a log: key, data directory, tokens, policy", runInit},
	{"serve", "run the log's server", runServe},
	{"submit", "send events and check the receipts", runSubmit},
	{"get", "read one event, checked", runGet},
	{"receipt", "fetch the receipt of an entry", runReceipt},
	{"checkpoint", "fetch the log's signed head", runCheckpoint},
	{"token", "add, list and revoke access tokens", runToken},
	{"anchor", "make the anchor of a further server of a log in a database", runAnchor},
	{"migrate", "move a log to another storage", runMigrate},
	{"schema", "bring a database's tables to this version", runSchema},
	{"bench", "measure a server with realistic events", runBench},
}

const usage = `prooftrail: an audit log for schedulers that nobody can rewrite without being caught

Usage: prooftrail COMMAND [flags]

Commands:
%s
'prooftrail COMMAND --help' explains a command, with an example and exit codes.
To see what it is for, run:  prooftrail demo
To verify receipts and logs without trusting this program, use prooftrail-verify.

Exit codes, of every command: 0 done, and what was checked holds; 1 refused, or FAILED
to verify; 2 it could not be done, or not be checked.
`

func usageText() string {
	var list strings.Builder
	for _, c := range commands {
		fmt.Fprintf(&list, "  %-11s %s\n", c.name, c.short)
	}
	return fmt.Sprintf(usage, list.String())
}

// exitError ends a command with a code other than code would give. Its text, if
// any, has yet to be shown.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// refusedf makes an error that ends in exitRefused.
func refusedf(format string, args ...any) error {
	return &exitError{exitRefused, fmt.Errorf(format, args...)}
}

// Run runs one command line, without the program's name, and returns the exit
// code.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	e := &env{stdin, stdout, stderr}
	if len(args) == 0 {
		fmt.Fprint(stderr, usageText())
		return exitFailed
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		if len(args) > 1 {
			return Run(ctx, []string{args[1], "--help"}, stdin, stdout, stderr)
		}
		fmt.Fprint(stdout, usageText())
		return exitOK
	case "version", "-version", "--version":
		fmt.Fprintf(stdout, "prooftrail %s\n", version())
		return exitOK
	}
	for _, c := range commands {
		if c.name == args[0] {
			return e.code(c.name, c.run(ctx, e, args[1:]))
		}
	}
	e.say("prooftrail: no command %q; 'prooftrail help' lists them", args[0])
	return exitFailed
}

// code shows the error and gives the exit code for it. Whatever was checked and
// doesn't hold is exitRefused, in every command, and says FAILED.
func (e *env) code(name string, err error) int {
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	code, text := exitFailed, err.Error()
	var exit *exitError
	switch {
	case errors.Is(err, verifier.ErrFailed):
		code, text = exitRefused, "FAILED: "+text
	case errors.As(err, &exit):
		code = exit.code
	}
	if text != "" {
		e.say("prooftrail %s: %s", name, text)
	}
	e.sayEvidence(err)
	return code
}

// sayEvidence shows, as an evidence file, the signed heads with which a log contradicts
// itself.
func (e *env) sayEvidence(err error) {
	var evidence *client.EvidenceError
	if !errors.As(err, &evidence) {
		return
	}
	e.say("keep what follows in a file; 'prooftrail-verify evidence FILE --policy P' says what it proves:")
	e.say("%s", bytes.TrimSuffix(evidence.Evidence().Text(), []byte("\n")))
}
