package atomicfile_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/prooftrail/prooftrail/verifier/internal/atomicfile"
)

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "state")
	for _, text := range []string{"one", "", "three"} {
		if err := atomicfile.Write(file, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(file); err != nil || string(b) != text {
			t.Errorf("%q, %v, expected %q", b, err, text)
		}
		if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
			t.Errorf("%v, %v", info, err)
		}
	}
	sub := filepath.Join(dir, "sub", "x")
	if err := os.MkdirAll(sub, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := atomicfile.Write(filepath.Dir(sub), nil); err == nil { // a directory that isn't empty
		t.Error("replaced a directory")
	}
	if err := atomicfile.Write(filepath.Join(dir, "none", "state"), nil); err == nil {
		t.Error("wrote into a directory that isn't there")
	}
	if all, err := os.ReadDir(dir); err != nil || len(all) != 2 {
		t.Errorf("%v, %v", all, err)
	}
}

// TestSweep: only what Write makes goes.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	for name, stays := range map[string]bool{"state": true, "state.tmp1": false, "state.tmp0123456789": false, "state.tmp": true, "state.tmpx1": true, "state2.tmp1": true, "xstate.tmp1": true} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := atomicfile.Sweep(filepath.Join(dir, "state")); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(file); (err == nil) != stays {
			t.Errorf("%s: %v", name, err)
		}
	}
}
