package event

import (
	"encoding/json"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

// grammars are the hand-written checks of strings, each with the expression of docs/spec/event.md.
var grammars = map[string]struct {
	valid func([]byte) bool
	expr  *regexp.Regexp
}{
	"action": {validAction, regexp.MustCompile(`^[a-z][a-z0-9_-]*(\.[a-z][a-z0-9_-]*)+$`)},
	"token":  {validToken, regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.:-]*$`)},
	"tenant": {validTenant, regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)},
	"digest": {validDigest, regexp.MustCompile(`^[0-9a-f]*$`)},
	"name":   {validName, regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]{0,127}$`)},
	"source": {validSource, regexp.MustCompile(`^[a-z][a-z0-9+.-]*:([A-Za-z0-9._~:/?\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+$`)},
	"path": {func(text []byte) bool { return checkPath(AppendString(nil, string(text))) == nil },
		regexp.MustCompile(`^(/([^~/]|~[01])*)*$`)},
}

// FuzzGrammars holds each check of a string against its grammar.
func FuzzGrammars(f *testing.F) {
	for _, s := range []string{"", "run.finish", "a.b-c._", "exit_1:2", "cron://node-1/%2F?q=[::1]", "c%2:", "0123456789abcdef", "/a~0b/~1", "~2",
		"18446744073709551615", "18446744073709551616", "007", "192.0.2.1", "::ffff:1.2.3.4%eth0", "fe80::1%en0", "\u0080", "ü\x7f", "\xc2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		b := []byte(text)
		for name, g := range grammars {
			if got, want := g.valid(b), g.expr.MatchString(text); got != want && utf8.ValidString(text) {
				t.Errorf("%s %q: %v, expected %v", name, text, got, want)
			}
		}
		n, err := strconv.ParseUint(text, 10, 64)
		if got, want := validSeq(b), err == nil && strconv.FormatUint(n, 10) == text; got != want {
			t.Errorf("seq %q: %v, expected %v", text, got, want)
		}
		if got, want := validIdent(b), !strings.ContainsFunc(text, unicode.IsControl); got != want && utf8.ValidString(text) {
			t.Errorf("id %q: %v, expected %v", text, got, want)
		}
		if addr, err := netip.ParseAddr(text); validIP(b) && (err != nil || strings.ContainsAny(text, "[]/ ") || addr.Zone() != "" && !strings.HasSuffix(text, "%"+addr.Zone())) {
			t.Errorf("address %q was taken", text)
		}
	})
}

// timeForm: package time lets zones of 24 hours and 60 minutes pass, RFC 3339 doesn't.
var timeForm = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$`)

// FuzzParseTime: times mean what package time makes of them, in the one form.
func FuzzParseTime(f *testing.F) {
	for _, s := range []string{"2026-01-31T23:59:59Z", "2024-02-29T00:00:00.123456789+14:00", "1970-01-01T00:00:00-00:00", "9999-12-31T23:59:59-23:59",
		"2026-02-29T00:00:00Z", "2026-01-31T23:59:60Z", "2026-01-31t23:59:59z", "2026-01-31T23:59:59,5Z", "0000-01-01T00:00:00Z", "0000-01-01T00:00:00+24:00", "2026-01-31T23:59:59+00:60"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, fault := parseTime([]byte(text))
		want, err := time.Parse(time.RFC3339Nano, text)
		ok := err == nil && timeForm.MatchString(text)
		if (fault == CodeFormat) == ok {
			t.Fatalf("%q: fault %q, package time: %v", text, fault, err)
		}
		inRange := ok && want.Unix() >= 0 && want.UTC().Year() <= 9999
		if (fault == "") != inRange || inRange && !got.Equal(want) {
			t.Fatalf("%q: %v, fault %q, package time: %v", text, got, fault, want)
		}
		if validStampTime([]byte(text)) && want.UTC().Format(time.RFC3339Nano) != text {
			t.Fatalf("%q passes for the server's own spelling", text)
		}
	})
}

// FuzzText: a string comes back from its canonical form, and encoding/json agrees.
func FuzzText(f *testing.F) {
	for _, s := range []string{"", "plain", "\"\\/\b\f\n\r\t\x00\x1f\x7f", "ü€😀\u2028", "\xff\xc3(\xed\xa0\x80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		quoted, want := AppendString(nil, text), string([]rune(text))
		var std string
		if err := json.Unmarshal(quoted, &std); err != nil || std != want {
			t.Fatalf("%q became %s, which is %q, %v", text, quoted, std, err)
		}
		if got := unquote(quoted); got != want {
			t.Fatalf("%q came back as %q", text, got)
		}
		again, err := Canonical(append(append([]byte(`{"a":`), quoted...), '}'))
		if len(text) < MaxBytes/8 && (err != nil || string(again) != `{"a":`+string(quoted)+"}") {
			t.Fatalf("%s isn't canonical: %s, %v", quoted, again, err)
		}
	})
}
