package mask

import (
	"slices"
	"strings"
)

// pairs finds the values of names in a text.
func (m *Masker) pairs(at spans, s string, loose bool) spans {
	var before [2]string // the names before, the last one first
	for i := 0; i < len(s); {
		if !isName(s[i]) {
			i++
			continue
		}
		j := i + 1
		for j < len(s) && isName(s[j]) {
			j++
		}
		p := pair{s: s, name: s[i:j], from: i, to: j, before: before}
		before[1], before[0] = before[0], p.name
		i = j
		if from, to := p.value(m, loose); from < to {
			at = at.add(from, to)
			i = max(i, to)
		}
	}
	return at
}

// pair is a name in a text, with what may be its value.
type pair struct {
	s, name  string
	from, to int // of the name
	before   [2]string
}

// value returns the place of the name's value, if that is a secret.
func (p *pair) value(m *Masker, loose bool) (from, to int) {
	secret := m.secret(p.name)
	switch {
	case p.is("value", "default") && m.secret(p.before[0]) && isKey(p.before[1]): // {"name": "DB_PASSWORD", "value": …}
		secret = true
	case p.is("key", "code") && p.from > 0 && (p.s[p.from-1] == '?' || p.s[p.from-1] == '&'):
		secret = true
	case p.is("by") && strings.EqualFold(p.before[0], "identified"), secret && strings.Contains(strings.ToLower(p.name), "pass"):
		if at := p.skip(p.to); loose && at > p.to && at < len(p.s) && (p.s[at] == '\'' || p.s[at] == '"') {
			return quoted(p.s, at, p.s[at:at+1]) // SQL's PASSWORD 'secret'
		}
	}
	if !secret || p.isResource() || strings.HasSuffix(p.s[:p.from], "://") { // a URL's user

		return 0, 0
	}
	at, sep := p.separator()
	switch {
	case sep == ':' && !loose:
		return 0, 0
	case sep != 0:
		return p.at(at, sep)
	case !loose:
		return 0, 0
	case p.name[0] == '-', p.is("password") && strings.EqualFold(p.before[1], "login"): // --token secret, .netrc
		if at = p.skip(p.to); at > p.to && at < len(p.s) && p.s[at] != '-' {
			return p.at(at, ' ')
		}
	default: // aws configure set aws_secret_access_key …
		if at = p.skip(p.to); at > p.to {
			if to := at + bare(p.s[at:], false); random(p.s[at:to]) {
				return at, to
			}
		}
	}
	return 0, 0
}

// random reports whether a word looks as if nobody had made it up: long, with letters and digits.
func random(w string) bool {
	letter := func(r rune) bool { return r < 0x80 && (isUpper(byte(r)) || isLower(byte(r))) }
	return len(w) >= 16 && strings.ContainsAny(w, "0123456789") && strings.ContainsFunc(w, letter) &&
		!strings.ContainsAny(strings.TrimRight(w, "="), "/:=") && !strings.Contains(w, Masked)
}

func (p *pair) is(names ...string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(p.name, n) })
}

// isKey reports whether the value of what is named so is a name.
func isKey(name string) bool {
	return strings.EqualFold(name, "name") || strings.EqualFold(name, "key")
}

// isResource reports whether the name is part of a resource's name, as in arn:aws:secretsmanager:eu-west-1:1:secret:db.
func (p *pair) isResource() bool {
	from := max(0, p.from-256)
	start := strings.LastIndexAny(p.s[from:p.from], " \t\r\n\"'=,") + 1 + from
	return strings.HasPrefix(p.s[start:], "arn:")
}

// skip returns the place of what isn't a space or tab.
func (p *pair) skip(at int) int {
	for at < len(p.s) && (p.s[at] == ' ' || p.s[at] == '\t') {
		at++
	}
	return at
}

// separator finds what is between the name and its value: =, :, %3D, or > of an element. It returns 0 if there is none,
// and else where the value begins.
func (p *pair) separator() (at int, sep byte) {
	s := p.s
	at = p.to
	for _, end := range []string{`\"`, `"`, `'`, "`", "]", "%5D", "%5d"} {
		if strings.HasPrefix(s[at:], end) {
			at += len(end)
			break
		}
	}
	if strings.HasPrefix(s[at:], ">") && p.from > 0 && s[p.from-1] == '<' {
		return at + 1, '>'
	}
	if rest := s[at:]; strings.HasPrefix(rest, "%3D") || strings.HasPrefix(rest, "%3d") {
		return at + 3, '%'
	}
	at = p.skip(at)
	if at == len(s) || s[at] != '=' && s[at] != ':' {
		return 0, 0
	}
	sep = s[at]
	at++
	if strings.HasPrefix(s[at:], "//") || strings.HasPrefix(s[at:], ":") {
		return 0, 0 // a scheme, a scope
	}
	for n := 0; n < 2 && at < len(s) && (s[at] == '=' || s[at] == '>'); n++ {
		sep = '='
		at++
	}
	return p.skip(at), sep
}

// at returns the place of the value that begins there.
func (p *pair) at(at int, sep byte) (from, to int) {
	s := p.s
	from, to = at, len(s)
	for _, q := range []string{`\"`, `\'`, `"`, `'`, "`"} {
		if strings.HasPrefix(s[at:], q) {
			from, to = quoted(s, at, q)
			if p.wide() || !scheme(s[from:to]) {
				return p.secret(from, to)
			}
			return from + afterScheme(s[from:to]), to
		}
	}
	rest := s[at:]
	switch {
	case strings.HasPrefix(rest, Masked): // that is done
		return 0, 0
	case sep == '>':
		if n := strings.IndexByte(rest, '<'); n >= 0 {
			to = at + n
		}
	case sep == '%':
		to = at + bare(rest, true)
	case p.wide():
		ends := "\r\n"
		if p.from > 0 && (s[p.from-1] == '"' || s[p.from-1] == '\'') { // -H 'Cookie: …'
			ends += s[p.from-1 : p.from]
		}
		if n := strings.IndexAny(rest, ends); n >= 0 {
			to = at + n
		}
		if to > at && to < len(s) && s[to-1] == '\\' {
			to--
		}
		from = at + afterScheme(s[at:to])
	case rest != "" && (rest[0] == '{' || rest[0] == '['):
		to = at + balanced(rest)
		to += bare(s[to:], false)
	case strings.HasPrefix(rest, "$("):
		to = at + 1 + balanced(rest[1:])
		to += bare(s[to:], false)
	default:
		from = at + afterScheme(rest)
		to = from + bare(s[from:], false)
	}
	return p.secret(from, to)
}

// wide reports whether the value goes up to the line's end, as those of some HTTP headers do.
func (p *pair) wide() bool {
	all := words(p.name)
	return len(all) > 0 && (all[len(all)-1] == "cookie" || all[len(all)-1] == "authorization")
}

// secret leaves out values that say nothing.
func (p *pair) secret(from, to int) (int, int) {
	v := p.s[from:to]
	if isFlag(v) || isNumber(v) && (counts(p.name) || len(v) <= 3 && p.is("code")) {
		return 0, 0
	}
	return from, to
}

func isFlag(v string) bool { return v == "true" || v == "false" || v == "null" || v == "nil" }

func isNumber(v string) bool {
	return v != "" && !strings.ContainsFunc(v, func(r rune) bool { return r < '0' || r > '9' })
}

// schemes of Authorization, of which the rest is the secret.
var schemes = []string{"bearer", "basic", "digest", "token", "negotiate", "apikey", "splunk"}

func scheme(v string) bool { return afterScheme(v) > 0 }

// afterScheme returns where the secret begins in the value of Authorization.
func afterScheme(v string) int {
	for _, name := range schemes {
		if len(v) > len(name)+1 && v[len(name)] == ' ' && strings.EqualFold(v[:len(name)], name) {
			return len(name) + 1
		}
	}
	return 0
}

// quoted returns the place between a quotation mark and the next like it, or the end.
func quoted(s string, at int, mark string) (from, to int) {
	from = at + len(mark)
	for i := from; i < len(s); i++ {
		switch {
		case strings.HasPrefix(s[i:], mark):
			return from, i
		case s[i] == '\\' && mark != "'":
			for i++; i < len(s) && len(mark) == 2 && s[i] == '\\'; i++ { // \\\" within \"
			}
		}
	}
	return from, len(s)
}

// balanced returns the length of what is between brackets, which are the first and the last byte.
func balanced(s string) int {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '{', '[', '(':
			depth++
		case '}', ']', ')':
			if depth--; depth == 0 {
				return i + 1
			}
		case '"':
			_, to := quoted(s, i, `"`)
			i = to
		}
	}
	return len(s)
}

// bare returns the length of a value without quotation marks.
func bare(s string, encoded bool) int {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case isSpace(c), c == '"', c == '\'', c == '`', c == '&', c == ';', c == '|', c == '\\' && i+1 < len(s) && (s[i+1] == '"' || s[i+1] == 'n'):
			return i
		case c == '%' && encoded && strings.HasPrefix(s[i:], "%26"):
			return i
		case c == ',' && endsAtComma(s[i+1:]):
			return i
		case strings.IndexByte(")]}>", c) >= 0 && (i+1 == len(s) || strings.IndexByte(" \t\r\n\"'`)]}>,;.&|\\", s[i+1]) >= 0):
			if strings.HasPrefix(s[i+1-min(i+1, len(Masked)):], Masked) {
				continue
			}
			return i
		}
	}
	return len(s)
}

// endsAtComma reports whether a comma ends a value, seeing what follows: nothing, a space, a quotation mark, or another name.
func endsAtComma(s string) bool {
	if s == "" || isSpace(s[0]) || s[0] == '"' || s[0] == '\'' || s[0] == '\\' {
		return true
	}
	i := 0
	for i < len(s) && i < maxName && isName(s[i]) {
		i++
	}
	return i > 0 && i < len(s) && (s[i] == '=' || s[i] == ':')
}
