package main

import (
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/prooftrail/prooftrail/cmd/internal/cli"
	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/client"
)

var program = cli.Program{Name: "prooftrail", Usage: usage, Commands: commands, Fail: fail}

var commands = []cli.Command{
	{Name: "demo", Short: "watch a cron service's events being logged, proven, audited, and a forgery being caught", Run: runDemo},
	{Name: "init", Short: "make a log: key, data directory, tokens, policy", Run: runInit},
	{Name: "serve", Short: "run the log's server", Run: runServe},
	{Name: "submit", Short: "send events and check the receipts", Run: runSubmit},
	{Name: "exec", Short: "run a command and log that it ran: for crontab lines", Run: runExec},
	{Name: "syslog", Short: "log what Debian's cron, crontab, PAM and sudo say in syslog", Run: runSyslog},
	{Name: "proxy", Short: "record who does what, as a proxy in front of a scheduler's API", Run: runProxy},
	{Name: "get", Short: "read one event, checked", Run: runGet},
	{Name: "receipt", Short: "fetch the receipt of an entry", Run: runReceipt},
	{Name: "checkpoint", Short: "fetch the log's signed head", Run: runCheckpoint},
	{Name: "token", Short: "add, list and revoke access tokens", Run: runToken},
	{Name: "quarantine", Short: "list, show, replay and drop what other systems sent and the log couldn't take", Run: runQuarantine},
	{Name: "mapping", Short: "try the mapping of a webhook on a sample", Run: runMapping},
	{Name: "source-key", Short: "make, add, list and revoke the keys of sources that sign", Run: runSourceKey},
	{Name: "anchor", Short: "make the anchor of a further server of a log in a database", Run: runAnchor},
	{Name: "migrate", Short: "move a log to another storage", Run: runMigrate},
	{Name: "schema", Short: "bring a database's tables to this version", Run: runSchema},
	{Name: "bench", Short: "measure a server with realistic events", Run: runBench},
}

const usage = `prooftrail: an audit log for schedulers that nobody can rewrite without being caught

Usage: prooftrail COMMAND [flags]

Commands:
%s
'prooftrail COMMAND --help' explains a command, with an example and exit codes.
To see what it is for, run:  prooftrail demo
To verify receipts and logs without trusting this program, use prooftrail-verify.

Exit codes, of every command: 0 done, and what was checked holds; 1 refused, or FAILED
to verify; 2 it could not be done, or not be checked. exec has the one of the command that
it runs.
`

// Run runs one command line, without the program's name, and returns the exit
// code.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return program.Run(ctx, args, stdin, stdout, stderr)
}

// fail shows the error and gives the exit code for it. Whatever was checked and
// doesn't hold is cli.ExitRefused, in every command, and says FAILED.
func fail(e *cli.Env, command string, err error) int {
	code, text := cli.ExitCode(err), err.Error()
	if errors.Is(err, verifier.ErrFailed) {
		text = "FAILED: " + text
		if code == cli.ExitFailed { // exec has a code of its own
			code = cli.ExitRefused
		}
	}
	if text != "" {
		e.Say("prooftrail %s: %s", command, text)
	}
	sayEvidence(e, err)
	return code
}

// refusal gives errors that say no, rather than that it failed, their exit code.
func refusal(err error) error {
	for _, no := range []error{client.ErrRefused, client.ErrConflict, client.ErrUnauthorized, client.ErrForbidden, client.ErrNotFound} {
		if errors.Is(err, no) {
			return cli.Refused(err)
		}
	}
	return err
}

// sayEvidence shows, as an evidence file, the signed heads with which a log contradicts
// itself.
func sayEvidence(e *cli.Env, err error) {
	var evidence *client.EvidenceError
	if !errors.As(err, &evidence) {
		return
	}
	e.Say("keep what follows in a file; 'prooftrail-verify evidence FILE --policy P' says what it proves:")
	e.Say("%s", bytes.TrimSuffix(evidence.Evidence().Text(), []byte("\n")))
}
