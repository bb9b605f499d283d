package cli

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
)

// Flags is a command's flag set. Flags may stand before, between and after positional arguments.
type Flags struct {
	*flag.FlagSet
	help string
	env  *Env
}

// NewFlags makes a flag set; help is what --help shows above the list of flags, its first line the
// usage.
func NewFlags(e *Env, name, help string) *Flags {
	fs := &Flags{flag.NewFlagSet(name, flag.ContinueOnError), help, e}
	fs.SetOutput(io.Discard)
	return fs
}

// Positional parses, and returns the positional arguments, at most max.
func (fs *Flags) Positional(args []string, max int) (positional []string, err error) {
	for len(args) > 0 {
		if err := fs.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				fs.showHelp()
				return nil, flag.ErrHelp
			}
			return nil, fmt.Errorf("%w; see --help", err)
		}
		rest := fs.Args()
		if n := len(args) - len(rest); n > 0 && args[n-1] == "--" {
			positional = append(positional, rest...)
			break
		}
		if len(rest) == 0 {
			break
		}
		positional = append(positional, rest[0])
		args = rest[1:]
	}
	if len(positional) > max {
		return nil, fmt.Errorf("unexpected argument %q; see --help", positional[max])
	}
	return positional, nil
}

// NoArgs is Positional for commands that take flags only.
func (fs *Flags) NoArgs(args []string) error {
	_, err := fs.Positional(args, 0)
	return err
}

func (fs *Flags) showHelp() {
	w := fs.env.Stdout
	fmt.Fprintf(w, "%s\nFlags:\n", strings.TrimSpace(fs.help)+"\n")
	fs.VisitAll(func(f *flag.Flag) {
		kind, text := flag.UnquoteUsage(f)
		line := "  --" + f.Name
		if kind != "" {
			line += " " + kind
		}
		fmt.Fprintf(w, "%s\n        %s", line, strings.ReplaceAll(text, "\n", "\n        "))
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" && f.DefValue != "0s" {
			fmt.Fprintf(w, " (default %s)", f.DefValue)
		}
		fmt.Fprintln(w)
	})
}

// Needed fails when one of the flags is empty.
func (fs *Flags) Needed(names ...string) error {
	for _, n := range names {
		if fs.Lookup(n).Value.String() == "" {
			return fmt.Errorf("--%s is needed; see --help", n)
		}
	}
	return nil
}

// Indent puts a text into a help page.
func Indent(text string) string {
	return "  " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n  ") + "\n"
}
