package monitor_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/verifier/internal/logtest"
	"github.com/prooftrail/prooftrail/verifier/monitor"
)

// TestSlowLogAlone: a log that signs heads which it doesn't explain, and answers for their tiles with
// silence, keeps nobody from comparing the heads of other logs.
func TestSlowLogAlone(t *testing.T) {
	bad, good := logtest.NewKey(t, "example.com/bad"), logtest.NewKey(t, "example.com/good")
	b := logtest.New(t, bad, "a", 100)
	a := logtest.New(t, good, "a", 100)
	silent := make(chan struct{})
	release := sync.OnceFunc(func() { close(silent) })
	logs := []monitor.LogConfig{
		{Policy: bad.Policy(t), URL: serve(t, b)},
		{Policy: good.Policy(t), URL: serve(t, a)},
	}
	one := start(t, t.TempDir(), nil, logs...)
	two := prepare(t, t.TempDir(), func(c *monitor.Config) {
		c.Peers = []monitor.PeerConfig{{Name: "one", URL: one.url, Timeout: time.Second}}
	}, logs...)
	t.Cleanup(release)
	two.run(t)
	for _, r := range []*rig{one, two} {
		wait(t, "both are read", func() bool {
			s := r.Status().Logs
			return s[0].Checked != nil && s[1].Checked != nil
		})
	}
	b.Fault(func(_ http.ResponseWriter, r *http.Request) bool {
		hangs := strings.Contains(r.URL.Path, "/tile/")
		if hangs {
			<-silent
		}
		return hangs
	})
	fork := b.Fork("b", 50)
	fork.Grow(500)
	var submitters sync.WaitGroup
	t.Cleanup(submitters.Wait)
	for i := range 20 { // open, at both
		for r, n := range map[*rig]int{one: 200 + i, two: 300 + i} {
			submitters.Go(func() {
				if _, err := r.Observe(t.Context(), fork.Note(n), "a submitter"); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wait(t, "open heads", func() bool {
		return one.Status().Logs[0].Heads.Open == 20 && two.Status().Logs[0].Heads.Open >= 20
	})
	// What only one of them is shown of the other log reaches the other in time.
	forked := a.Fork("b", 50)
	forked.Grow(50)
	if _, err := two.Observe(t.Context(), forked.Note(90), "a submitter"); err != nil {
		t.Fatal(err)
	}
	wait(t, "evidence at the other", func() bool { return len(one.Status().Evidence) > 0 })
	began := time.Now()
	a.Grow(10)
	wait(t, "rounds go on", func() bool {
		p := two.Status().Peers[0]
		return p.OK.After(began.Add(3 * time.Second))
	})
}
