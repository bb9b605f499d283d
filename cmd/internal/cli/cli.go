// Package cli is what the programs that have several commands share: the table of the commands and how
// one of them is run, exit codes, help, flags.
package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
)

// Exit codes, the same for every command; what they mean in particular is in each one's help.
const (
	ExitOK      = 0 // all that was asked for was done, and nothing that was checked is wrong
	ExitRefused = 1 // something was refused, or is wrong
	ExitFailed  = 2 // it could not be done, or not be checked
)

// Env is what a command has of the outside world.
type Env struct {
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
}

// Say writes a line for people to standard error.
func (e *Env) Say(format string, args ...any) { fmt.Fprintf(e.Stderr, format+"\n", args...) }

// Command is one subcommand.
type Command struct {
	Name  string
	Short string // one line for the list
	Run   func(context.Context, *Env, []string) error
}

// Program is a program with its commands.
type Program struct {
	Name     string
	Usage    string // what its help says; %s stands for the list of commands
	Commands []Command

	// Fail says what ended a command, never nil, and returns the exit code: ExitCode(err), unless the
	// program knows better.
	Fail func(e *Env, command string, err error) int
}

// Run runs one command line, without the program's name, and returns the exit code.
func (p *Program) Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	e := &Env{stdin, stdout, stderr}
	if len(args) == 0 {
		fmt.Fprint(stderr, p.help())
		return ExitFailed
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		if len(args) > 1 {
			return p.Run(ctx, []string{args[1], "--help"}, stdin, stdout, stderr)
		}
		fmt.Fprint(stdout, p.help())
		return ExitOK
	case "version", "-version", "--version":
		fmt.Fprintf(stdout, "%s %s\n", p.Name, Version())
		return ExitOK
	}
	for _, c := range p.Commands {
		if c.Name == args[0] {
			return p.Ended(e, c.Name, c.Run(ctx, e, args[1:]))
		}
	}
	e.Say("%s: no command %q; '%[1]s help' lists them", p.Name, args[0])
	return ExitFailed
}

// Ended returns the exit code of a command that ended with err, which may be nil, and which is shown.
func (p *Program) Ended(e *Env, command string, err error) int {
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return ExitOK
	}
	return p.Fail(e, command, err)
}

func (p *Program) help() string {
	width := 0
	for _, c := range p.Commands {
		width = max(width, len(c.Name))
	}
	var list strings.Builder
	for _, c := range p.Commands {
		fmt.Fprintf(&list, "  %-*s  %s\n", width, c.Name, c.Short)
	}
	return fmt.Sprintf(p.Usage, list.String())
}

// Version is the module's version as the build recorded it.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "unknown"
	}
	return info.Main.Version
}

// refused is an error that ends in ExitRefused.
type refused struct{ err error }

func (r *refused) Error() string {
	if r.err == nil {
		return ""
	}
	return r.err.Error()
}

func (r *refused) Unwrap() error { return r.err }

// Refused makes err end the command in ExitRefused. It is nil if what the command has shown already
// says why.
func Refused(err error) error { return &refused{err} }

// Refusedf makes an error that ends in ExitRefused.
func Refusedf(format string, args ...any) error { return Refused(fmt.Errorf(format, args...)) }

// exited is an error that ends in a code of its own.
type exited struct {
	refused
	code int
}

// Exited makes err end the command in the code, which is another program's or has a meaning of its own. err
// is nil if there is nothing to be said.
func Exited(code int, err error) error { return &exited{refused{err}, code} }

// ExitCode returns ExitRefused for what Refused made, the code of what Exited made, and for all else
// ExitFailed.
func ExitCode(err error) int {
	if x := new(exited); errors.As(err, &x) {
		return x.code
	}
	if r := new(refused); errors.As(err, &r) {
		return ExitRefused
	}
	return ExitFailed
}
