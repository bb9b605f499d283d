package personality

import (
	"bytes"
	"testing"
	"time"
)

// TestWitnessOfTheFuture: one witness that dates its cosignatures ahead doesn't keep those of the
// others from being renewed while the tree stays.
func TestWitnessOfTheFuture(t *testing.T) {
	l, ws := newWitnessedLog(t, 1, 2)
	l.cfg.Witnesses.Refresh = time.Second
	ahead := time.Now().Add(100 * 365 * 24 * time.Hour)
	ws[0].SetClock(func() time.Time { return ahead })
	l.open(nil)
	l.mustSubmit("a", "x")
	newest := func() (at time.Time) { // of the honest one
		_, _, note := shownBy(t, l, l.svc)
		_, who, err := l.policy.Verify(note)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range who.Cosigned {
			if c.Witness == ws[1].Name {
				at = c.Time
			}
		}
		return at
	}
	l.becomes(1)
	eventually(t, "both", func() bool { return !newest().IsZero() })
	first := newest()
	eventually(t, "a fresh cosignature", func() bool { return newest().After(first) })
	_, _, shown := shownBy(t, l, l.svc)
	l.close()
	l.open(nil) // nor does what was kept by one who believed it
	eventually(t, "a fresh cosignature after a restart", func() bool {
		size, quorum, note := shownBy(t, l, l.svc)
		return size == 1 && quorum && !bytes.Equal(note, shown)
	})
}
