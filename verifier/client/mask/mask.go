// Package mask takes secrets out of text before it becomes part of an event. An event can't be taken back,
// so what looks like a secret goes: too much rather than too little. It knows secrets by the names that
// they are given, and by their looks; one that has neither is not found.
package mask

import (
	"fmt"
	"regexp"
	"slices"
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
	name := `[\w.-]*(?:` + all + `)[\w.-]*`
	const value = `("[^"]*"|'[^']*'|[^\s"'&;,|)]+)`
	m := &Masker{key: regexp.MustCompile(`(?i)^--?` + name + `$`)}
	all = `(?i)` + name + `["']?\s*[=:]\s*` + value
	for _, p := range slices.Concat(patterns, moreLooks, []string{all, `(?i)(?:^|\s)--?` + name + `\s+` + value}) {
		re, err := regexp.Compile(p)
		if err != nil {
			return nil, fmt.Errorf("mask: %w", err)
		}
		m.looks = append(m.looks, re)
	}
	return m, nil
}

// Text masks the secrets in a text.
func (m *Masker) Text(s string) string {
	for _, re := range m.looks {
		s = replace(re, s)
	}
	return s
}

// Args masks the secrets in a command line: also an argument behind one that names a secret.
func (m *Masker) Args(args []string) []string {
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
