package event

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// The short way takes nothing that net/netip doesn't, and all that it is for.
func TestPlainIPv4(t *testing.T) {
	parts := []string{"", "0", "00", "01", "1", "9", "10", "99", "100", "199", "249", "255", "256", "0255", "1000", "a", "-1", " 1"}
	for _, a := range parts {
		for _, b := range parts {
			for _, form := range []string{"%s.%s.3.4", "1.%s.%s.4", "1.2.%s.%s", "%s.%s.3", "%s.%s.3.4.5", "%s%s", "%s.%s..4", "%s.%s.3.4."} {
				text := fmt.Sprintf(form, a, b)
				_, err := netip.ParseAddr(text)
				if got := plainIPv4([]byte(text)); got != (err == nil) {
					t.Errorf("%q: %v, and net/netip says %v", text, got, err)
				}
			}
		}
	}
}

// A string is plain if each of its bytes is, wherever in it that isn't stands.
func TestPlainString(t *testing.T) {
	for n := range 20 {
		text := []byte(`"` + strings.Repeat("a", n) + `"`)
		for _, behind := range []string{"", ",", strings.Repeat("b", 9)} {
			if got := plainString(append(bytes.Clone(text), behind...)); got != len(text) {
				t.Errorf("%s%s: %d", text, behind, got)
			}
		}
		if plainString(text[:n+1]) != 0 {
			t.Errorf("%s: without an end", text[:n+1])
		}
		for c := range 256 {
			for at := 1; at <= n; at++ {
				b := bytes.Clone(text)
				b[at] = byte(c)
				want := 0
				switch {
				case c == '"':
					want = at + 1
				case plain[c]:
					want = len(b)
				}
				if got := plainString(b); got != want {
					t.Fatalf("%q: %d, want %d", b, got, want)
				}
			}
		}
	}
}

// What came next the last time is a guess: another pointer that begins like it, or that
// it begins with, is another one.
func TestReaderGuesses(t *testing.T) {
	var r Reader
	read := func(pointers ...string) {
		t.Helper()
		r.Reset()
		for _, want := range pointers {
			got, rest, err := r.Pointer([]byte(want + `","v":1`))
			if err != nil || got != want || string(rest) != `,"v":1` {
				t.Fatalf("%s: %q, %q, %v", want, got, rest, err)
			}
		}
	}
	for range 2 {
		read("/labels/a", "/labels/ab", "/labels/b")
		read("/labels/ab", "/labels/abc", "/outcome")
		read("/labels/a", "/labels/abc", "/seq")
		read("/action", "/labels/a", "/labels/ab", "/outcome")
	}
	r.Reset()
	for _, bad := range []string{`/labels/a`, ``, `"`, `/labels/"`, `/nothing"`} {
		r.Reset()
		if _, _, err := r.Pointer([]byte(bad)); err == nil {
			t.Errorf("%s: let through", bad)
		}
	}
	// A guess that was right isn't in order for that.
	read("/labels/a", "/labels/ab")
	if _, _, err := r.Pointer([]byte(`/labels/a"`)); err == nil {
		t.Error("a pointer twice")
	}
}

// However many names strangers think of, a Reader remembers so many places and no more.
func TestReaderForgets(t *testing.T) {
	var r Reader
	for i := range 3 * maxSeen {
		r.Reset()
		for _, name := range []string{"a", "b"} {
			if _, _, err := r.Pointer(fmt.Appendf(nil, `/labels/%s%06d"`, name, i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(r.seen) != maxSeen {
		t.Errorf("%d places", len(r.seen))
	}
	if r.at.next != nil {
		t.Error("what isn't remembered has something after it")
	}
}
