package mask

import (
	"slices"
	"strings"
)

// pairs finds the values of names in a text.
func (m *Masker) pairs(at spans, s string, loose bool) spans {
	var before [2]string // the names before, the last one first
	k8s := strings.Contains(s, "kind: Secret")
	for i := 0; i < len(s); {
		if !isName(s[i]) {
			i++
			continue
		}
		j := i + 1
		for j < len(s) && isName(s[j]) {
			j++
		}
		p := pair{s: s, name: s[i:j], from: i, to: j, before: before, k8s: k8s}
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
	k8s      bool // it is a Secret of Kubernetes, perhaps
}

// value returns the place of the name's value, if that is a secret.
func (p *pair) value(m *Masker, loose bool) (from, to int) {
	secret := m.secret(p.name) || p.isSecretData()
	switch {
	case loose && p.is("--from-literal"): // kubectl create secret … --from-literal=any=secret
		return p.literal()
	case loose && p.isSQL():
		if at := p.skip(p.to); at > p.to && at < len(p.s) && p.s[at] == '\'' {
			return quoted(p.s, at)
		}
	case p.is("value", "default") && m.secret(p.before[0]) && isKey(p.before[1]): // {"name": "DB_PASSWORD", "value": …}
		secret = true
	case p.is("key", "code") && p.from > 0 && (p.s[p.from-1] == '?' || p.s[p.from-1] == '&'):
		secret = true
	case p.is("by") && strings.EqualFold(p.before[0], "identified"), secret && strings.Contains(strings.ToLower(p.name), "pass"):
		if at := p.skip(p.to); loose && at > p.to && at < len(p.s) && (p.s[at] == '\'' || p.s[at] == '"') {
			return quoted(p.s, at) // SQL's PASSWORD 'secret'
		}
	}
	if at := p.to + 1; secret && loose && at < len(p.s) && p.s[p.to] == '(' && (p.s[at] == '\'' || p.s[at] == '"') {
		return quoted(p.s, at) // PASSWORD('secret')
	}
	if !secret || p.isResource() || strings.HasSuffix(p.s[:p.from], "://") {
		return 0, 0 // as in https://token:…@host, which is for urls
	}
	at, sep := p.separator()
	switch {
	case sep == ':' && !loose:
		return 0, 0
	case sep == ':' && p.endsLine(at):
		return p.block(at)
	case sep != 0:
		return p.at(at, sep)
	case !loose:
		return 0, 0
	case p.name[0] == '-', p.isBare(): // --token secret
		if at = p.skip(p.to); at > p.to && strings.HasPrefix(p.s[at:], "<<<") {
			at = p.skip(at + 3)
		}
		if at > p.to && at < len(p.s) && p.s[at] != '-' {
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
	if n := mark(s[at:]); n > 0 {
		at += n
	} else {
		for _, end := range []string{"]", "%5D", "%5d", "%22"} {
			if strings.HasPrefix(s[at:], end) {
				at += len(end)
				break
			}
		}
	}
	if n := p.element(at); n > 0 {
		return n, '>'
	}
	if len(s)-at >= 3 && s[at] == '%' && (strings.EqualFold(s[at:at+3], "%3D") || strings.EqualFold(s[at:at+3], "%3A")) {
		for at += 3; strings.HasPrefix(s[at:], "%20") || strings.HasPrefix(s[at:], "%22"); at += 3 {
			continue
		}
		return at, '%'
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
	rest := s[at:]
	if n := mark(rest); n > 0 {
		from, to = quoted(s, at)
		switch {
		case rest[0] == '\'' && to+1 < len(s) && s[to+1] == '\'': // 'it''s'
			return at, again(s, at, to)
		case p.wide() || !scheme(s[from:to]):
			return p.secret(from, to)
		}
		return from + afterScheme(s[from:to]), to
	}
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
	case strings.HasPrefix(rest, "$'"), strings.HasPrefix(rest, `$"`):
		_, to = escaped(s, at+1)
		return p.secret(at+2, to)
	case reference(rest) > 0: // ${NAME} says where the secret is
		return 0, 0
	case strings.HasPrefix(rest, "$("), strings.HasPrefix(rest, "${"):
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

// isFlag reports whether a value is the state of a secret, or says that there is none.
func isFlag(v string) bool { return states[v] }

var states = set("true", "false", "null", "nil", "none", "yes", "no", "on", "off", "ok", "success", "failure", "failed", "denied", "expired", "closed", "open",
	"missing", "required", "optional", "invalid", "changed", "unchanged", "revoked", "enabled", "disabled")

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
