package mask

import "strings"

// isSecretData reports whether the name is that of the data of a Secret of Kubernetes.
func (p *pair) isSecretData() bool { return p.k8s && p.is("data", "stringData") || p.is("stringData") }

// isSQL reports whether it is the BY of IDENTIFIED WITH plugin BY 'secret', or its AS.
func (p *pair) isSQL() bool { return p.is("by", "as") && strings.EqualFold(p.before[1], "with") }

// isBare reports whether the name's value follows without a separator: in .netrc, configurations of Redis, setx and set -x.
func (p *pair) isBare() bool {
	switch {
	case p.is("password") && strings.EqualFold(p.before[1], "login"), p.is("requirepass"):
		return true
	case strings.EqualFold(p.before[0], "setx"):
		return true
	}
	return strings.EqualFold(p.before[1], "set") && strings.HasPrefix(p.before[0], "-")
}

// literal returns the place of secret in --from-literal=any=secret.
func (p *pair) literal() (from, to int) {
	at := p.to
	if at < len(p.s) && p.s[at] == '=' {
		at++
	} else {
		at = p.skip(at)
	}
	at += mark(p.s[at:])
	for at < len(p.s) && isName(p.s[at]) {
		at++
	}
	if at == len(p.s) || p.s[at] != '=' {
		return 0, 0
	}
	return p.at(at+1, '=')
}

// element returns where the text of an element of XML begins that has the name, or of which it is an attribute's value; 0 if it isn't
// one. At is behind the name, and its quotation mark.
func (p *pair) element(at int) int {
	s := p.s
	if at == len(s) || p.from == 0 {
		return 0
	}
	before := s[p.from-1]
	switch {
	case s[at] == '>' && (before == '<' || (before == '"' || before == '\'') && at > p.to):
		return at + 1
	case before == '<' && s[at] == ' ':
		rest := s[at:min(len(s), at+256)]
		if n := strings.IndexAny(rest, "<>"); n >= 0 && rest[n] == '>' && rest[n-1] != '/' {
			return at + n + 1
		}
	}
	return 0
}
