package cronlog

import (
	"fmt"
	"strings"
)

// entry is a line of a crontab that runs a command.
type entry struct {
	line     int // from 1
	schedule string
	user     string
	command  string // as cron logs it
}

// tab is a crontab, taken apart.
type tab struct {
	jobs []entry
	off  []entry           // comments that would be jobs
	env  map[string]string // its settings
}

var (
	setting  = lazily(`^["']?([A-Za-z_][A-Za-z0-9_]*)["']?\s*=\s*(.*)$`)
	schedule = lazily(`^(@(?:reboot|yearly|annually|monthly|weekly|daily|midnight|hourly)|[0-9*][0-9*,/~-]*\s+[0-9*][0-9*,/~-]*\s+[0-9*][0-9*,/~-]*\s+[0-9A-Za-z*][0-9A-Za-z*,/~-]*\s+[0-9A-Za-z*][0-9A-Za-z*,/~-]*)\s+(.*)$`)
	blanks   = lazily(`[ \t]+`)
)

// parseTab takes a crontab apart. One of the system's (user "") has a user in each line.
func parseTab(text, user string) (t tab) {
	t.env = map[string]string{}
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimLeft(line, " \t")
		comment, isComment := strings.CutPrefix(line, "#")
		if isComment {
			if e, ok := parseEntry(strings.TrimLeft(comment, "# \t"), user); ok {
				e.line = i + 1
				t.off = append(t.off, e)
			}
			continue
		}
		if e, ok := parseEntry(line, user); ok {
			e.line = i + 1
			t.jobs = append(t.jobs, e)
		} else if m := setting().FindStringSubmatch(line); m != nil {
			t.env[m[1]] = strings.TrimSpace(m[2])
		}
	}
	return t
}

func parseEntry(line, user string) (e entry, ok bool) {
	m := schedule().FindStringSubmatch(line)
	if m == nil {
		return entry{}, false
	}
	e.schedule, e.user = blanks().ReplaceAllString(m[1], " "), user
	command := m[2]
	if user == "" {
		if e.user, command, ok = strings.Cut(blanks().ReplaceAllString(command[:min(len(command), 512)], " ")+command[min(len(command), 512):], " "); !ok {
			return entry{}, false
		}
	}
	e.command = asLogged(command)
	return e, e.command != ""
}

// asLogged is a command as cron logs it: up to the first % that isn't escaped, what isn't printable in its spelling.
func asLogged(command string) string {
	var plain []byte
	escaped := false
	for i := range len(command) {
		c := command[i]
		switch {
		case escaped && (c == '%' || c == '\\'):
			plain[len(plain)-1] = c
			escaped = false
			continue
		case escaped:
			escaped = false
		case c == '\\':
			escaped = true
		case c == '%':
			return strings.TrimSpace(printable(plain))
		}
		plain = append(plain, c)
	}
	return strings.TrimSpace(printable(plain))
}

// printable is mkprint of cron.
func printable(b []byte) string {
	var out strings.Builder
	for _, c := range b {
		switch {
		case c < ' ':
			out.WriteByte('^')
			out.WriteByte(c + '@')
		case c == 0x7f:
			out.WriteString("^?")
		case c > 0x7f:
			fmt.Fprintf(&out, "\\%03o", c)
		default:
			out.WriteByte(c)
		}
	}
	return out.String()
}
