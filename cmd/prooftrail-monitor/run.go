package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
)

// Exit codes, the same for every command; what they mean in particular is in each one's help.
const (
	exitOK      = 0 // done, and nothing is wrong
	exitRefused = 1 // something was refused, or is wrong
	exitFailed  = 2 // it could not be done
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
	{"init", "make a monitor: directory, book, keys of the witness, monitor.yaml", runInit},
	{"check", "say what is wrong with a configuration", runCheck},
	{"run", "follow the logs, gossip, cosign, warn", runRun},
	{"status", "ask a running monitor what it knows", runStatus},
	{"ack", "acknowledge an alarm, so that it isn't repeated", runAck},
	{"evidence", "list the evidence that is held, or copy a file of it out", runEvidence},
}

const usage = `prooftrail-monitor: follows logs from outside, and holds the proof when one lies

Usage: prooftrail-monitor COMMAND [flags]

Commands:
%s
'prooftrail-monitor COMMAND --help' explains a command, with an example and exit codes.
'prooftrail-monitor version' says which version this is.

Exit codes, of every command: 0 done, and nothing is wrong; 1 refused, or something is
wrong; 2 it could not be done.
`

func usageText() string {
	var list strings.Builder
	for _, c := range commands {
		fmt.Fprintf(&list, "  %-9s %s\n", c.name, c.short)
	}
	return fmt.Sprintf(usage, list.String())
}

// exitError ends a command with a code other than exitFailed. Its text, if any, has yet to be
// shown.
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

// Run runs one command line, without the program's name, and returns the exit code.
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
		fmt.Fprintf(stdout, "prooftrail-monitor %s\n", version())
		return exitOK
	}
	for _, c := range commands {
		if c.name == args[0] {
			return e.code(c.name, c.run(ctx, e, args[1:]))
		}
	}
	e.say("prooftrail-monitor: no command %q; 'prooftrail-monitor help' lists them", args[0])
	return exitFailed
}

// code shows the error, each line of it, and gives the exit code for it.
func (e *env) code(name string, err error) int {
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	code := exitFailed
	if exit := new(exitError); errors.As(err, &exit) {
		code = exit.code
	}
	for line := range strings.Lines(err.Error()) {
		e.say("prooftrail-monitor %s: %s", name, printable(strings.TrimSuffix(line, "\n")))
	}
	return code
}
