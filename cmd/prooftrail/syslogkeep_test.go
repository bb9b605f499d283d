//go:build !client

package main

import (
	"log/slog"
	"testing"

	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/cronlog"
)

// TestKeepersSayWhatTheyDrop: an event that is given up before the queue has seen it is counted, and whoever made it hears of it: a
// crontab's change is then told again.
func TestKeepersSayWhatTheyDrop(t *testing.T) {
	t.Parallel()
	for _, whenFull := range []string{"drop", "wait"} {
		r := &syslogRun{syslogFlags: &syslogFlags{whenFull: whenFull}, log: slog.New(slog.DiscardHandler)}
		k := newKeepers(r) // nobody takes anything from its lanes
		k.full.Store(true)
		k.stop()
		var said []bool
		k.put(cronlog.Out{Lane: "tab alice", Done: func(kept bool) error { said = append(said, kept); return nil }})
		if len(said) != 1 || said[0] || r.counts.full.Load() != 1 {
			t.Errorf("%s: %v, %d", whenFull, said, r.counts.full.Load())
		}
	}
}
