package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"github.com/prooftrail/prooftrail/verifier"
)

// Exit statuses.
const (
	exitVerified = 0
	exitFailed   = 1
	exitUnable   = 2 // usage, network, unreadable, provisional
)

// command is one subcommand.
type command struct {
	name  string
	args  string // synopsis after the name
	short string
	help  string // examples
	run   func(context.Context, *env, *flag.FlagSet, []string) error
}

// env is what a command may touch of the outside.
type env struct {
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
}

// usageError is a mistake on the command line.
type usageError struct{ error }

func commands() []command {
	return []command{receiptCommand, entryCommand, auditCommand, evidenceCommand}
}

// Run runs the program and returns its exit status: 0 verified, 1 FAILED, 2 could not
// check. It is what main does, and what tests call.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	e := &env{stdin, stdout, stderr}
	if len(args) == 0 || isHelp(args[0]) || args[0] == "help" {
		out, code := stdout, exitVerified
		if len(args) == 0 {
			out, code = stderr, exitUnable
		}
		if len(args) < 2 {
			printUsage(out)
			return code
		}
		args = []string{args[1], "--help"}
	}
	for _, c := range commands() {
		if c.name == args[0] {
			return e.runCommand(ctx, c, args[1:])
		}
	}
	fmt.Fprintf(stderr, "prooftrail-verify: unknown command %s\nRun 'prooftrail-verify --help'.\n", printable(args[0]))
	return exitUnable
}

func isHelp(arg string) bool { return arg == "-h" || arg == "-help" || arg == "--help" }

// runCommand runs c and turns its error into an exit status.
func (e *env) runCommand(ctx context.Context, c command, args []string) int {
	flags := flag.NewFlagSet(c.name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	err := c.run(ctx, e, flags, args)
	var usage *usageError
	switch {
	case err == nil:
		return exitVerified
	case errors.Is(err, flag.ErrHelp):
		printHelp(e.stdout, c, flags)
		return exitVerified
	case errors.Is(err, errSaid):
		return exitUnable
	case errors.Is(err, errSaidFailed):
		return exitFailed
	case errors.As(err, &usage):
		fmt.Fprintf(e.stderr, "prooftrail-verify %s: %s\nRun 'prooftrail-verify %s --help'.\n", c.name, printable(err.Error()), c.name)
		return exitUnable
	case errors.Is(err, verifier.ErrFailed):
		fmt.Fprintf(e.stderr, "prooftrail-verify %s: FAILED: %s\n", c.name, printable(err.Error()))
		return exitFailed
	}
	fmt.Fprintf(e.stderr, "prooftrail-verify %s: could not check: %s\n", c.name, printable(err.Error()))
	return exitUnable
}

var (
	// errSaid and errSaidFailed end a command whose output already says why.
	errSaid       = errors.New("could not check, as was said")
	errSaidFailed = errors.New("FAILED, as was said")
)

// parse reads flags that may stand before, between and after the positional arguments, and
// returns the latter. What follows "--" is positional.
func parse(flags *flag.FlagSet, args []string) ([]string, error) {
	var rest []string
	for {
		if err := flags.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, err
			}
			return nil, &usageError{err}
		}
		left := flags.Args()
		if n := len(args) - len(left); n > 0 && args[n-1] == "--" {
			return append(rest, left...), nil
		}
		if len(left) == 0 {
			return rest, nil
		}
		rest, args = append(rest, left[0]), left[1:]
	}
}

func printUsage(w io.Writer) {
	fmt.Fprint(w, `prooftrail-verify checks what a prooftrail audit log says. All it trusts is the
policy file: the log's public key and, perhaps, those of its witnesses.

Usage:

`)
	for _, c := range commands() {
		fmt.Fprintf(w, "  prooftrail-verify %-8s %s\n", c.name, c.args)
	}
	fmt.Fprintln(w)
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-8s %s\n", c.name, c.short)
	}
	fmt.Fprint(w, `
Exit status: 0 verified, 1 FAILED (what was checked does not hold), 2 could not
check (wrong usage, network, unreadable file, too few witnesses yet, or a monitor that
nothing could be compared with). Of evidence:
0 it convicts the log, 1 it proves nothing, 2 could not check.

Run 'prooftrail-verify COMMAND --help' for flags and examples.
`)
}

func printHelp(w io.Writer, c command, flags *flag.FlagSet) {
	fmt.Fprintf(w, "Usage: prooftrail-verify %s %s\n\n%s\n\nFlags:\n", c.name, c.args, strings.TrimSpace(c.help))
	flags.VisitAll(func(f *flag.Flag) {
		kind, usage := flag.UnquoteUsage(f)
		fmt.Fprintf(w, "  --%s\n      %s\n", strings.TrimSpace(f.Name+" "+kind), usage)
	})
}
