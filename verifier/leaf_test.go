package verifier

import (
	"strings"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/verifier/seal"
)

func TestParseLeaf(t *testing.T) {
	good := testSealed(t, 1, testStart).Leaf
	if at, err := ParseLeaf(good); err != nil || !at.Equal(testStart) {
		t.Fatalf("%v, %v", at, err)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = ParseLeaf(good) }); n > 0 {
		t.Errorf("%v allocations a leaf", n)
	}
	when := testStart.Format(time.RFC3339)
	for _, at := range []string{"1969-12-31T23:59:59Z", "0000-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "2026-02-29T00:00:00Z", "2026-00-01T00:00:00Z", "2026-13-01T00:00:00Z", "2026-01-00T00:00:00Z", "2026-01-32T00:00:00Z",
		"2026-01-01T24:00:00Z", "2026-01-01T00:60:00Z", "2026-01-01T00:00:60Z", "2026-01-01 00:00:00Z", "2026-01-01T00:00:00z", "2026-01-01T00:00:0,Z",
		"+026-01-01T00:00:00Z", "2026-1-001T00:00:00Z", strings.Repeat("\x00", 20)} {
		if _, err := ParseLeaf([]byte(strings.Replace(string(good), when, at, 1))); err == nil {
			t.Errorf("took the time %s", at)
		}
	}
	for _, at := range []string{"2024-02-29T23:59:59Z", "1970-01-01T00:00:00Z", "9999-12-31T23:59:59Z"} {
		if _, err := ParseLeaf([]byte(strings.Replace(string(good), when, at, 1))); err != nil {
			t.Error(err)
		}
	}
	root := string(good[rootAt:midAt])
	for _, bad := range []string{root[:42] + "\n=", root[:42] + "B=", root[:43] + "A", root[:40] + "====", "\r\n" + root[2:], strings.Repeat("*", 44)} {
		if _, err := ParseLeaf([]byte(strings.Replace(string(good), root, bad, 1))); err == nil {
			t.Errorf("took the root %q", bad)
		}
	}
	for _, bad := range []string{"", "{}", string(good) + "\n", string(good[1:]), strings.Replace(string(good), "leaf/1", "leaf/2", 1), strings.Replace(string(good), "root", "Root", 1)} {
		if _, err := ParseLeaf([]byte(bad)); err == nil {
			t.Errorf("took %q", bad)
		}
	}
}

// TestParseLeafAgainstTime: the times taken are those that package time writes so.
func TestParseLeafAgainstTime(t *testing.T) {
	c := testSealed(t, 1, testStart)
	o, err := seal.ParseOpening(c.Opening)
	if err != nil {
		t.Fatal(err)
	}
	for at := testStart; at.Before(testStart.AddDate(5, 0, 0)); at = at.Add(29*time.Hour + 59*time.Minute + 59*time.Second) {
		o.Time = at
		if got, err := ParseLeaf(o.Leaf()); err != nil || !got.Equal(at) {
			t.Fatalf("%v: %v, %v", at, got, err)
		}
	}
}

// One parser for all leaves of a bundle says what a new one for each would.
func TestLeafParserReused(t *testing.T) {
	var p leafParser
	good := string(testSealed(t, 1, testStart).Leaf)
	when := testStart.Format(time.RFC3339)
	for i, at := range []string{strings.Repeat("\x00", 20), when, when, "2026-02-30T00:00:00Z", "2026-02-30T00:00:00Z", when, "1970-01-01T00:00:00Z", when, "x"} {
		leaf := []byte(strings.Replace(good, when, at, 1))
		want, wantErr := ParseLeaf(leaf)
		if got, err := p.parse(leaf); !got.Equal(want) || (err == nil) != (wantErr == nil) {
			t.Errorf("leaf %d, %q: %v, %v; want %v, %v", i, at, got, err, want, wantErr)
		}
	}
}
