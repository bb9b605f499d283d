package main

import (
	"strings"
	"testing"
)

// FuzzConfig: whatever a file holds, it is read or refused, and a refusal names the file.
func FuzzConfig(f *testing.F) {
	f.Add(manual)
	f.Add(initTemplate)
	for _, s := range []string{"", "---\n", "# only a comment\n", "? [a]\n: b\n", "<<: {a: b}\n", "logs: [{expect: {fresh: 1s}}, ]\n", "a: &x [*x]\n", "!!binary x: y\n", "alarms: {webhook: [[]]}\n", "name: !!float 1\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseConfig("m.yaml", []byte(text))
		if err == nil {
			err = c.err()
		}
		if err != nil && !strings.Contains(err.Error(), "m.yaml") {
			t.Errorf("%q: %v", text, err)
		}
	})
}
