package verifier

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// TestBare: a head that the log signed can be held against it, whatever lines it added.
func TestBare(t *testing.T) {
	l := newTestLog(t, 3)
	signed, err := l.Get(t.Context(), "checkpoint", MaxNoteBytes)
	if err != nil {
		t.Fatal(err)
	}
	text, line, _ := strings.Cut(string(signed), "\n\n")
	wrong := line[:len(line)-8] + "AAAA" + line[len(line)-4:]
	key := l.policy.Log()
	for _, note := range []string{string(signed), text + "\n\n" + wrong + line, text + "\n\n" + line + wrong, text + "\n\n" + line + line} {
		bare, err := key.Bare([]byte(note))
		if err != nil || !bytes.Equal(bare, signed) {
			t.Errorf("%q: %q, %v", note, bare, err)
		}
		if _, _, err := key.Verify([]byte(note)); (err == nil) != (note == string(signed)) {
			t.Errorf("verify %q: %v", note, err)
		}
	}
	_, other := testKey(t, "example.com/other")
	stranger, err := ParseLogKey(other)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []struct {
		key  *LogKey
		note string
	}{{key, text + "\n\n" + wrong}, {stranger, string(signed)}, {key, strings.Replace(string(signed), "\n3\n", "\n4\n", 1)}} {
		if bare, err := bad.key.Bare([]byte(bad.note)); bare != nil || !errors.Is(err, ErrNotSigned) || !errors.Is(err, ErrFailed) {
			t.Errorf("%q: %q, %v", bad.note, bare, err)
		}
	}
	if _, err := key.Bare([]byte("no note")); !errors.Is(err, ErrFailed) || errors.Is(err, ErrNotSigned) {
		t.Error(err)
	}
}
