package load

import (
	"bytes"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/verifier/event"
)

func fixed() time.Time { return time.Date(2026, 1, 31, 23, 59, 59, 120000, time.UTC) }

// Every event is one that the log takes, all kinds occur, ids are unique, and
// the size is about what the documentation says.
func TestGeneratedEventsParse(t *testing.T) {
	g := NewGenerator("cron://bench/1", 1, fixed)
	const n = 5000
	actions, ids, total := map[string]int{}, map[string]bool{}, 0
	var buf []byte
	for range n {
		buf = g.Append(buf[:0])
		f, err := event.Parse(buf)
		if err != nil {
			t.Fatalf("%v\n%s", err, buf)
		}
		if bytes.ContainsAny(buf, "\r\n") {
			t.Fatalf("line break in %s", buf)
		}
		actions[f.Text("/action")]++
		ids[f.Text("/id")] = true
		total += len(buf)
	}
	if len(ids) != n {
		t.Errorf("%d different ids of %d events", len(ids), n)
	}
	if mean := total / n; mean < 750 || mean > 850 {
		t.Errorf("mean size %d bytes, expected about 800", mean)
	}
	for _, a := range []string{"run.start", "run.finish", "job.update", "job.create", "job.delete", "auth.login", "auth.logout", "credential.read", "config.read"} {
		if actions[a] == 0 {
			t.Errorf("no %s among %v", a, actions)
		}
	}
}

func TestGeneratorIsDeterministic(t *testing.T) {
	a, b := NewGenerator("cron://bench/1", 7, fixed), NewGenerator("cron://bench/1", 7, fixed)
	other := NewGenerator("cron://bench/1", 8, fixed)
	same := 0
	for range 100 {
		x := a.Append(nil)
		if y := b.Append(nil); !bytes.Equal(x, y) {
			t.Fatalf("the same seed gave\n%s\nand\n%s", x, y)
		}
		if bytes.Equal(x, other.Append(nil)) {
			same++
		}
	}
	if same > 0 {
		t.Errorf("%d events are the same for two seeds", same)
	}
}

func BenchmarkGenerate(b *testing.B) {
	g := NewGenerator("cron://bench/1", 1, time.Now)
	b.ReportAllocs()
	var buf []byte
	for b.Loop() {
		buf = g.Append(buf[:0])
	}
	b.SetBytes(int64(len(buf)))
}
