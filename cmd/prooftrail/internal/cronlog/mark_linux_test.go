package cronlog

import (
	"os"
	"testing"
	"time"
)

// TestTimeSetBack: a crontab that is changed in its place, stays as long as it was, and gets its time back, is told all the same.
func TestTimeSetBack(t *testing.T) {
	m := newMachine(t)
	old := noon.Add(-time.Hour)
	m.write("*system*x", "1 * * * * root a\n", old)
	m.scan(noon)
	path := m.tabs.path("*system*x")
	stat := func() fileMark {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return markOf(info)
	}
	before := stat()
	m.tabs.mark("*system*x", before, "")
	for began := time.Now(); stat() == before && time.Since(began) < time.Second; { // the kernel's clock has steps
		if err := os.WriteFile(path, []byte("1 * * * * root b\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
	}
	equal(t, "set back", m.scan(noon), "job.update success by unknown to job:root/…")
}
