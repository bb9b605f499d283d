package alarm

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The bounds of an alarm's texts, in bytes. docs/spec/alarms.md states them.
const (
	maxName         = 64
	maxIdentity     = 256 // log and peer
	maxSummary      = 512
	maxDetails      = 16
	maxDetailKey    = 64
	maxDetailValue  = 512
	maxDetailsBytes = 2 << 10 // all keys and values
	maxBy           = 128
	maxNote         = 512
)

// printable returns s as one line of at most limit bytes: line ends and tabs become spaces,
// what can't be seen, turns the direction of writing or isn't UTF-8 becomes U+FFFD, and what is
// cut off becomes "…". The limit is at least 3. What it returns it returns unchanged.
func printable(s string, limit int) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\n' || r == '\r' || r == '\t':
			r = ' '
		case !unicode.IsPrint(r):
			r = utf8.RuneError
		}
		b.WriteRune(r)
		if b.Len() > limit {
			break
		}
	}
	out := b.String()
	if len(out) <= limit {
		return out
	}
	cut := limit - len("…")
	for !utf8.RuneStart(out[cut]) {
		cut--
	}
	return out[:cut] + "…"
}

// identity is printable for what tells alarms apart: two that differ differ afterwards, for
// what was changed gets a digest of what it was.
func identity(s string) string {
	out := printable(s, maxIdentity)
	if out == s {
		return s
	}
	return printable(out, maxIdentity-9) + "~" + digest(s)
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:4])
}

// kebab returns a name if it is lower-case words with hyphens between, or one made of it.
func kebab(s string) string {
	words := strings.FieldsFunc(s[:min(len(s), maxName)], func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
	out := strings.Join(words, "-")
	if out == s && s != "" {
		return s
	}
	out = strings.TrimRight(out[:min(len(out), maxName-9)], "-")
	return strings.TrimLeft(out+"-"+digest(s), "-")
}

// details bounds the pairs.
func details(in map[string]string) map[string]string {
	named := map[string]string{}
	for _, k := range slices.Sorted(maps.Keys(in)) {
		named[printable(k, maxDetailKey)] = in[k]
	}
	var out map[string]string
	left := maxDetailsBytes
	for _, k := range slices.Sorted(maps.Keys(named)) {
		if len(out) == maxDetails || left < len(k)+16 {
			break
		}
		if out == nil {
			out = map[string]string{}
		}
		out[k] = printable(named[k], min(maxDetailValue, left-len(k)))
		left -= len(k) + len(out[k])
	}
	return out
}

// clean bounds what a caller or a remote has written, and leaves the board's members out.
func clean(a Alarm) Alarm {
	c := Alarm{Name: kebab(a.Name), Log: identity(a.Log), Peer: identity(a.Peer), Severity: a.Severity,
		Summary: printable(a.Summary, maxSummary), Details: details(a.Details)}
	if c.Severity != Critical && c.Severity != Info {
		c.Severity = Warning
	}
	return c
}
