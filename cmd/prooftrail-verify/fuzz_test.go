package main

import (
	"io"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// FuzzPrintable: nothing from outside reaches a terminal that could move its cursor, and
// printable text stays as it is.
func FuzzPrintable(f *testing.F) {
	for _, s := range []string{"plain", "\x1b[2J\u009b", "a\u202eb", "\xff\xe2\x82", "😀\U000e0001", "\ufffd"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		shown := printable(text)
		if !utf8.ValidString(shown) || strings.ContainsFunc(shown, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q is shown as %q", text, shown)
		}
		if printable(shown) != shown {
			t.Errorf("%q is shown as %q, and that as %q", text, shown, printable(shown))
		}
		for line := range strings.Lines(printableLines(text, "    | ")) {
			if !strings.HasPrefix(line, "    | ") || strings.ContainsFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("%q has the line %q", text, line)
			}
		}
	})
}

// FuzzReadToken: a token from a file can be sent in a header as it is.
func FuzzReadToken(f *testing.F) {
	for _, s := range []string{"pt_a_b\n", " pt_a_b\r\n", "", "two tokens", "a\tb", "a\x00b", "ü"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, content string) {
		e := &env{stdin: strings.NewReader(content), stdout: io.Discard, stderr: io.Discard}
		token, err := e.readToken("-")
		if err != nil {
			return
		}
		if token == "" || strings.TrimSpace(content) != token {
			t.Errorf("%q was read as %q", content, token)
		}
		for i := range len(token) {
			if token[i] <= ' ' || token[i] > '~' {
				t.Errorf("%q: %q can't be sent", content, token)
			}
		}
	})
}
