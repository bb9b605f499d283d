// Package mask takes secrets out of texts and whole events before they reach a disk or a log. An event can't be
// taken back, so what looks like a secret goes: too much rather than too little.
//
// It knows secrets
//
//   - by the names that they are given, in members of details, labels and patches, in texts (NAME=secret,
//     name: secret, "name": "secret", --name secret, ?name=secret, <name>secret</name>, or a long random
//     word behind a name) and in texts that are JSON, YAML or connection strings. A name is split into words, so that author, passenger and
//     tokenizer name no secret, and it names none if it says that it is about one: token_count, secret_name,
//     password_changed_at, credential_id. Bare true, false and null stay;
//   - by their looks: private keys, JSON web tokens, tokens with a known prefix (AWS, GitHub, GitLab, Slack,
//     Stripe, OpenAI, npm, PyPI, SendGrid, Vault and others), passwords in URLs, what follows Bearer or Basic;
//   - by the flags of programs that take one without a name: mysql -p…, curl -u, sshpass -p, redis-cli -a.
//
// Names of YAML take the lines below them that are further in, and data is a name of secrets in a Secret of Kubernetes. What stays: states,
// such as expired or closed, and ${NAME}, which says where a secret is.
//
// A secret that has none of these isn't found: "the password is hunter2", name and value in columns, a name in letters that look like
// others or in a language but English and German (New takes more), Redis's AUTH, vault kv put, htpasswd -b, net user, user:secret@host
// without a scheme, port and path, basic authentication in base64 with no Basic before it. Masking is deterministic, linear in the text's length, and done
// to a masked text changes nothing. A text without a hint of a secret costs one pass over its bytes.
package mask

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// Masked stands in the place of a secret.
const Masked = "[masked]"

// shortly stands there in an event that would else become too large.
const shortly = "*"

// Masker masks. It is safe for concurrent use. Its zero value finds all that Default does, but takes longer.
type Masker struct {
	off       bool
	short     bool // in the place of secrets is what is no longer than any
	hints     hints
	moreNames []string // lower case, letters and digits alone
	moreLooks []*regexp.Regexp
}

// New makes a masker that knows the usual names and looks, and those that are given: names as parts of a name,
// in any case and however its words are joined, and looks as regular expressions, of which the first group is
// masked, or all if there is none. Each text is searched for each such expression.
func New(moreNames, moreLooks []string) (*Masker, error) {
	m := &Masker{hints: usualHints()}
	for _, n := range moreNames {
		n = strings.Join(words(n), "")
		if n == "" {
			continue
		}
		m.moreNames = append(m.moreNames, n)
		m.hints.add(hintName, n)
	}
	for _, p := range moreLooks {
		re, err := regexp.Compile(p)
		if err != nil {
			return nil, fmt.Errorf("mask: %w", err)
		}
		m.moreLooks = append(m.moreLooks, re)
	}
	return m, nil
}

var usual = sync.OnceValue(func() *Masker { return &Masker{hints: usualHints()} })

// Default returns the masker that knows the usual names and looks.
func Default() *Masker { return usual() }

// Off returns a masker that masks nothing. What it is used for goes into a log that can't forget, as it is: a
// password in one event stays readable for everybody who may read that event, in the spool, the log's
// openings and their backups, until it is erased there, and has to be replaced wherever it is in use.
func Off() *Masker { return &Masker{off: true} }

// Text masks the secrets in a text.
func (m *Masker) Text(s string) string { return m.text(s, true) }

// text masks. Where a text is to name something, loose rules, which take "token: x" and "--token x" for a secret, would
// do more harm than good.
func (m *Masker) text(s string, loose bool) string {
	if m.off || s == "" {
		return s
	}
	found := m.hints.in(s)
	if strings.IndexByte(s, '?') >= 0 {
		found |= hintName
	}
	if strings.IndexByte(s, '@') >= 0 && strings.IndexByte(s, ':') >= 0 {
		found |= hintUser
	}
	if found == 0 && len(m.moreLooks) == 0 {
		return s
	}
	if loose && strings.IndexByte("{[", s[0]) >= 0 {
		if masked, ok := m.json(s); ok {
			return masked
		}
	}
	return m.replace(s, m.find(s, found, loose))
}

// find returns the places of secrets.
func (m *Masker) find(s string, found hint, loose bool) (at spans) {
	if found&(hintName|hintURL) != 0 {
		at = m.pairs(at, s, loose)
	}
	if found&hintURL != 0 {
		at = urls(at, s)
	}
	if found&hintProgram != 0 && loose {
		at = commands(at, s, 0, 3)
	}
	for _, l := range looks {
		if found&l.hint != 0 {
			at = l.find(at, s)
		}
	}
	for _, re := range m.moreLooks {
		at = matches(at, s, re, nil)
	}
	return at
}

// Args masks the secrets in a command line: also an argument behind one that names a secret.
func (m *Masker) Args(args []string) []string {
	if m.off {
		return args
	}
	out := make([]string, len(args))
	var p program
	for i, a := range args {
		at := p.word(nil, a, 0)
		switch {
		case i > 0 && m.secretFlag(args[i-1]) && a != "":
			out[i] = m.mark()
		case len(at) > 0:
			out[i] = m.Text(m.replace(a, at))
		default:
			out[i] = m.Text(a)
		}
	}
	return out
}

// secretFlag reports whether an argument is a flag whose value is a secret, and the next argument.
func (m *Masker) secretFlag(arg string) bool {
	return strings.HasPrefix(arg, "-") && !strings.Contains(arg, "=") && m.secret(arg)
}

// spans are places in a text: from and to.
type spans [][2]int

func (s spans) add(from, to int) spans {
	if from >= to {
		return s
	}
	return append(s, [2]int{from, to})
}

// mark is what stands in the place of a secret.
func (m *Masker) mark() string {
	if m.short {
		return shortly
	}
	return Masked
}

// replace masks the spans. What touches is one secret.
func (m *Masker) replace(s string, at spans) string {
	if len(at) == 0 {
		return s
	}
	slices.SortFunc(at, func(a, b [2]int) int { return a[0] - b[0] })
	out := make([]byte, 0, len(s)+len(Masked))
	end := 0 // up to where it is done
	for i, span := range at {
		if i == 0 || span[0] > end {
			out = append(append(out, s[end:span[0]]...), m.mark()...)
		}
		end = max(end, span[1])
	}
	return string(append(out, s[end:]...))
}
