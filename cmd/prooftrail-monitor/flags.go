package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// flags is a command's flag set. Flags may stand before, between and after positional arguments.
type flags struct {
	*flag.FlagSet
	help string
	env  *env
}

// newFlags makes a flag set; help is what --help shows above the list of flags, its first line the
// usage.
func newFlags(e *env, name, help string) *flags {
	fs := &flags{flag.NewFlagSet(name, flag.ContinueOnError), help, e}
	fs.SetOutput(io.Discard)
	return fs
}

// parse returns the positional arguments, at most max.
func (fs *flags) parse(args []string, max int) (positional []string, err error) {
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

// noArgs is parse for commands that take flags only.
func (fs *flags) noArgs(args []string) error {
	_, err := fs.parse(args, 0)
	return err
}

func (fs *flags) showHelp() {
	w := fs.env.stdout
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

// needed fails when one of the flags is empty.
func (fs *flags) needed(names ...string) error {
	for _, n := range names {
		if fs.Lookup(n).Value.String() == "" {
			return fmt.Errorf("--%s is needed; see --help", n)
		}
	}
	return nil
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
