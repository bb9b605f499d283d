// Package mask takes secrets out of text before it becomes part of an event. An event can't be taken back,
// so what looks like a secret goes: too much rather than too little. It knows secrets by the names that
// they are given, and by their looks; one that has neither is not found.
package mask

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
)

// Masked stands in the place of a secret.
const Masked = "[masked]"

// names are parts of names whose values are secret.
const names = `pass(?:word|wd|phrase|code)?|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|auth|credentials?|` +
	`cookie|session|signature|dsn`

// patterns are secrets by their looks. If there is a group, only that is masked.
var patterns = []string{
	`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)`,
	`[A-Za-z][A-Za-z0-9+.-]*://[^\s/@:]*:([^\s/@]+)@`,     // scheme://user:SECRET@host
	`(?i)\b(?:bearer|basic)\s+([A-Za-z0-9._~+/=-]{8,})`,   // Authorization
	`\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*`, // JSON web tokens
	`\b(?:AKIA|ASIA)[A-Z0-9]{16}\b`,                       // AWS
	`\b(?:gh[pousr]_|github_pat_|glpat-|xox[abeprs]-|sk-|sk_live_|rk_live_|pt_)[A-Za-z0-9_-]{10,}`,
	`\bAIza[A-Za-z0-9_-]{30,}`,
}

// Masker masks. It is safe for concurrent use.
type Masker struct {
	names string // as part of a regular expression
	more  []*regexp.Regexp

	once  sync.Once      // compiling takes as long as starting a process does, and many texts don't need it
	key   *regexp.Regexp // a name whose value is the next argument
	looks []*regexp.Regexp
}

// New makes a masker that knows the usual names and looks, and those that are given: names as parts of a name,
// in any case, and looks as regular expressions.
func New(moreNames, moreLooks []string) (*Masker, error) {
	all := names
	for _, n := range moreNames {
		all += "|" + regexp.QuoteMeta(n)
	}
	m := &Masker{names: `[\w.-]*(?:` + all + `)[\w.-]*`}
	for _, p := range moreLooks {
		re, err := regexp.Compile(p)
		if err != nil {
			return nil, fmt.Errorf("mask: %w", err)
		}
		m.more = append(m.more, re)
	}
	return m, nil
}

func (m *Masker) compile() {
	const value = `("[^"]*"|'[^']*'|[^\s"'&;,|)]+)`
	m.key = regexp.MustCompile(`(?i)^--?` + m.names + `$`)
	for _, p := range patterns {
		m.looks = append(m.looks, regexp.MustCompile(p))
	}
	m.looks = append(m.looks, m.more...)
	m.looks = append(m.looks, regexp.MustCompile(`(?i)`+m.names+`["']?\s*[=:]\s*`+value), regexp.MustCompile(`(?i)(?:^|\s)--?`+m.names+`\s+`+value))
}

// Text masks the secrets in a text.
func (m *Masker) Text(s string) string {
	if len(m.more) == 0 && plain(s) {
		return s
	}
	m.once.Do(m.compile)
	for _, re := range m.looks {
		s = replace(re, s)
	}
	return s
}

// plain reports whether a text has nothing in it that each of the usual patterns needs: most names of jobs have not.
func plain(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '-' {
			return false
		}
	}
	return !strings.Contains(s, "sk-") && !strings.Contains(s, "glpat-") && !strings.Contains(s, "xox")
}

// Args masks the secrets in a command line: also an argument behind one that names a secret.
func (m *Masker) Args(args []string) []string {
	m.once.Do(m.compile)
	out := make([]string, len(args))
	for i, a := range args {
		if i > 0 && m.key.MatchString(args[i-1]) {
			out[i] = Masked
			continue
		}
		out[i] = m.Text(a)
	}
	return out
}

// replace masks the first group of each match, or all of it if there is none.
func replace(re *regexp.Regexp, s string) string {
	var b []byte
	end := 0
	for _, at := range re.FindAllStringSubmatchIndex(s, -1) {
		from, to := at[0], at[1]
		if len(at) > 2 && at[2] >= 0 {
			from, to = at[2], at[3]
		}
		b = append(append(b, s[end:from]...), Masked...)
		end = to
	}
	if end == 0 {
		return s
	}
	return string(append(b, s[end:]...))
}
