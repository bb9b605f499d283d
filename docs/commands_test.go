package docs_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/deployment/porttest"
	"github.com/prooftrail/prooftrail/personality/mysqldb/mariadbtest"
)

// addresses are where the pages let programs listen: a service, monitors. Other ports are put in
// their places, so that pages can be tested beside a service that runs.
var addresses = []string{"127.0.0.1:8080", "127.0.0.1:8081", "127.0.0.1:8090", "127.0.0.1:8091", "127.0.0.1:8092", "127.0.0.1:8093"}

// dsn is the database that pages use, and passwordFile has its password. Another is put in
// its place, likewise.
const (
	dsn          = "prooftrail@tcp(127.0.0.1:3306)/prooftrail"
	passwordFile = "mysql.password"
)

// withDatabase puts a database of the test's own in the place of the pages'.
func withDatabase(t *testing.T, dir string, commands []command) []command {
	t.Helper()
	uses := func(c command) bool { return strings.Contains(c.text, dsn) }
	if !slices.ContainsFunc(commands, uses) {
		return commands
	}
	s := mariadbtest.Shared(t)
	own := s.DSN(s.Database(t))
	if err := os.WriteFile(filepath.Join(dir, passwordFile), []byte(mariadbtest.Password), 0o600); err != nil {
		t.Fatal(err)
	}
	commands = slices.Clone(commands)
	for i := range commands {
		commands[i].text = strings.ReplaceAll(commands[i].text, dsn, own)
	}
	return commands
}

func TestMain(m *testing.M) { os.Exit(mariadbtest.Run(m)) }

// pageTime bounds the commands of one page.
const pageTime = 3 * time.Minute

// A command is one command of a console block, or a whole sh block.
type command struct {
	where string // page:line
	text  string
	shown []string // output, as the page shows it
}

// commands are what the page lets its reader run.
func (p *page) commands(t *testing.T) []command {
	t.Helper()
	var all []command
	for _, b := range p.blocks {
		where := p.path + ":" + strconv.Itoa(b.line)
		text := strings.Join(b.text, "\n")
		switch b.kind {
		case "sh":
			all = append(all, command{where: where, text: text})
		case "console":
			all = append(all, session(t, where, b.text)...)
		case "json":
			if !json.Valid([]byte(text)) {
				t.Errorf("%s: not JSON", where)
			}
		case "python", "js":
			if b.file() == "" {
				t.Errorf("%s: no comment with the name of a file in its first line", where)
			}
		case "text", "go", "yaml":
		default:
			t.Errorf("%s: a code block of kind %q; there are sh, console, json, yaml, python, js, go and text", where, b.kind)
		}
	}
	return all
}

// session splits a console block: a command begins with "$ " and goes on in the
// next line after a backslash; the rest is output.
func session(t *testing.T, where string, lines []string) (all []command) {
	t.Helper()
	for i := 0; i < len(lines); i++ {
		text, ok := strings.CutPrefix(lines[i], "$ ")
		switch {
		case ok:
			for strings.HasSuffix(text, "\\") && i+1 < len(lines) {
				i++
				text += "\n" + lines[i]
			}
			all = append(all, command{where: where, text: text})
		case len(all) == 0:
			t.Errorf("%s: a console block that doesn't begin with \"$ \"", where)
			return nil
		default:
			last := &all[len(all)-1]
			last.shown = append(last.shown, lines[i])
		}
	}
	return all
}

func TestCommands(t *testing.T) {
	for _, program := range []string{"bash", "curl", "openssl", "python3", "node"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("the pages' commands need %s: %v", program, err)
		}
	}
	bin := t.TempDir()
	build := exec.Command("go", "build", "-o", bin, "./cmd/...")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the programs: %v\n%s", err, out)
	}
	for _, p := range pages(t) {
		commands, files := p.commands(t), p.files(t)
		for name := range files {
			if !slices.ContainsFunc(commands, func(c command) bool { return strings.Contains(c.text, name) }) {
				t.Errorf("%s: nothing runs %s", p.path, name)
			}
		}
		if len(commands) > 0 {
			t.Run(p.path, func(t *testing.T) {
				t.Parallel()
				run(t, bin, commands, files)
			})
		}
	}
}

// named is how the first line of a block says which file it is.
var named = regexp.MustCompile(`^(?:#|//) ([a-z][a-z0-9_-]*\.(?:py|mjs|go))$`)

// file is the name of the file that the block is; "" if it is none.
func (b *block) file() string {
	if len(b.text) == 0 {
		return ""
	}
	if m := named.FindStringSubmatch(b.text[0]); m != nil {
		return m[1]
	}
	return ""
}

// files are those that the page has its reader save, before all commands.
func (p *page) files(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, b := range p.blocks {
		name := b.file()
		if name == "" || b.kind == "sh" {
			continue
		}
		if _, twice := all[name]; twice {
			t.Errorf("%s:%d: a second %s", p.path, b.line, name)
		}
		all[name] = strings.Join(b.text, "\n") + "\n"
	}
	return all
}

// save writes the files, in which other addresses are put.
func save(t *testing.T, dir string, files map[string]string, free *strings.Replacer) {
	t.Helper()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(free.Replace(text)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// goRun is a command that runs Go files of the page. They are built here, where their imports are.
var goRun = regexp.MustCompile(`\bgo run ((?:[a-z]+\.go ?)+)`)

// built puts the program in the place of go run.
func built(t *testing.T, dir, text string) string {
	t.Helper()
	return goRun.ReplaceAllStringFunc(text, func(command string) string {
		files := strings.Fields(goRun.FindStringSubmatch(command)[1])
		out := filepath.Join(dir, strings.TrimSuffix(files[0], ".go"))
		build := exec.Command("go", "build", "-o", out)
		for _, f := range files {
			build.Args = append(build.Args, filepath.Join(dir, f))
		}
		build.Dir = root
		if printed, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", command, err, printed)
		}
		return out + " "
	})
}

// run runs a page's commands in one bash and compares what they print.
func run(t *testing.T, bin string, commands []command, files map[string]string) {
	dir, outputs := t.TempDir(), t.TempDir()
	commands = withDatabase(t, dir, commands)
	var there, back []string // replacements
	for i, free := range freeAddresses(t, len(addresses)) {
		there = append(there, addresses[i], free)
		back = append(back, free, addresses[i])
	}
	save(t, dir, files, strings.NewReplacer(there...))
	for i := range commands {
		commands[i].text = built(t, dir, commands[i].text)
	}
	ctx, cancel := context.WithTimeout(t.Context(), pageTime)
	defer cancel()
	bash := exec.CommandContext(ctx, "bash", "-c", script(commands, outputs, strings.NewReplacer(there...)))
	bash.Dir = dir
	bash.Env = append(os.Environ(), "PATH="+bin+string(filepath.ListSeparator)+os.Getenv("PATH"))
	// The shell ends the services that the page started, given the time.
	bash.Cancel = func() error { return bash.Process.Signal(os.Interrupt) }
	bash.WaitDelay = 10 * time.Second
	failed := bash.Run()
	for i, c := range commands {
		printed, err := os.ReadFile(filepath.Join(outputs, strconv.Itoa(i)))
		if err != nil {
			t.Fatalf("%s: not run, after the failure above", c.where)
		}
		done := exists(filepath.Join(outputs, strconv.Itoa(i)+".done"))
		if !done {
			t.Errorf("%s: %v\n%s\n%s", c.where, failed, c.text, printed)
			continue
		}
		if line, ok := matches(strings.NewReplacer(back...).Replace(string(printed)), c.shown); !ok {
			t.Errorf("%s: the page shows the line\n\t%s\nbut the command\n%s\nprinted\n%s", c.where, line, c.text, printed)
		}
	}
	if failed != nil && !t.Failed() {
		t.Errorf("the shell failed: %v", failed)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// listen finds where a service that a page starts will listen.
var listen = regexp.MustCompile(`--listen[ =](\S+):(\d+)`)

// script is the bash script of a page: each command's output goes to a file of
// its own, and a second file says that it succeeded. A service in the
// background has begun when something listens.
func script(commands []command, outputs string, free *strings.Replacer) string {
	var b strings.Builder
	b.WriteString("set -euo pipefail\n")
	b.WriteString("trap 'kill $(jobs -p) 2>/dev/null || :; wait' EXIT\n")
	for i, c := range commands {
		text := free.Replace(c.text)
		text = strings.ReplaceAll(text, "go run ./cmd/", "")
		out := filepath.Join(outputs, strconv.Itoa(i))
		fmt.Fprintf(&b, "{\n%s\n} >%s 2>&1 </dev/null\n", text, out)
		if m := listen.FindStringSubmatch(text); m != nil && strings.HasSuffix(strings.TrimSpace(text), "&") {
			fmt.Fprintf(&b, "until (: <>/dev/tcp/%s/%s) 2>/dev/null; do kill -0 $!; sleep 0.05; done\n", m[1], m[2])
		}
		fmt.Fprintf(&b, ": >%s.done\n", out)
	}
	return b.String()
}

var digits, spaces = regexp.MustCompile(`(\bexit )?[0-9]+`), regexp.MustCompile(`\s+`)

// plain makes lines comparable that differ in numbers only, and so in the
// width of columns. An exit code stays what it is: the pages promise it.
func plain(line string) string {
	line = digits.ReplaceAllStringFunc(line, func(number string) string {
		if strings.HasPrefix(number, "exit ") {
			return number
		}
		return "0"
	})
	return spaces.ReplaceAllString(line, " ")
}

// matches reports whether the shown lines are among the printed ones, in their
// order, and else the first that isn't.
func matches(printed string, shown []string) (line string, ok bool) {
	rest := strings.Split(printed, "\n")
	for _, s := range shown {
		if strings.TrimSpace(s) == "" {
			continue
		}
		pattern := strings.ReplaceAll(regexp.QuoteMeta(plain(s)), "…", ".*")
		want := regexp.MustCompile("^" + pattern + "$")
		found := false
		for len(rest) > 0 && !found {
			found = want.MatchString(plain(rest[0]))
			rest = rest[1:]
		}
		if !found {
			return s, false
		}
	}
	return "", true
}

// freeAddresses are loopback addresses, all different, that nobody listens on.
func freeAddresses(t *testing.T, n int) (free []string) {
	t.Helper()
	for len(free) < n {
		address, err := porttest.Address()
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(free, address) {
			free = append(free, address)
		}
	}
	return free
}

func TestMatches(t *testing.T) {
	printed := "entry 12 verified\nnoise\nsize 7, root abc\nexit 1\n"
	for _, c := range []struct {
		shown string
		ok    bool
	}{
		{"entry 3 verified\nsize 1, root …", true},
		{"", true},
		{"size 7, root abc\nentry 12 verified", false},
		{"entry verified", false},
		{"size 7", false},
		{"exit 1", true},
		{"exit 2", false},
	} {
		if _, ok := matches(printed, strings.Split(c.shown, "\n")); ok != c.ok {
			t.Errorf("matches(%q) = %v", c.shown, ok)
		}
	}
}
