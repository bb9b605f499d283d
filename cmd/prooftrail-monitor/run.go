package main

import (
	"context"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/prooftrail/prooftrail/cmd/internal/cli"
)

var program = cli.Program{Name: "prooftrail-monitor", Usage: usage, Commands: commands, Fail: fail}

var commands = []cli.Command{
	{Name: "init", Short: "make a monitor: directory, book, keys of the witness, monitor.yaml", Run: runInit},
	{Name: "check", Short: "say what is wrong with a configuration", Run: runCheck},
	{Name: "run", Short: "follow the logs, gossip, cosign, warn", Run: runRun},
	{Name: "status", Short: "ask a running monitor what it knows", Run: runStatus},
	{Name: "ack", Short: "acknowledge an alarm, so that it isn't repeated", Run: runAck},
	{Name: "evidence", Short: "list the evidence that is held, or copy a file of it out", Run: runEvidence},
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

// Run runs one command line, without the program's name, and returns the exit code.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return program.Run(ctx, args, stdin, stdout, stderr)
}

// fail shows the error, each line of it, and gives the exit code for it.
func fail(e *cli.Env, command string, err error) int {
	for line := range strings.Lines(err.Error()) {
		e.Say("prooftrail-monitor %s: %s", command, printable(strings.TrimSuffix(line, "\n")))
	}
	return cli.ExitCode(err)
}

// printable replaces what would do something to a terminal: texts of logs and peers are shown.
func printable(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if r == ' ' || r != utf8.RuneError && unicode.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
	}
	return b.String()
}
