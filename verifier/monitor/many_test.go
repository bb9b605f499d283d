package monitor_test

import (
	"fmt"
	"testing"

	"github.com/prooftrail/prooftrail/verifier/internal/logtest"
	"github.com/prooftrail/prooftrail/verifier/monitor"
	"github.com/prooftrail/prooftrail/verifier/monitor/gossip"
)

// TestManyLogs: a peer that answers only so often is asked about all logs all the same.
func TestManyLogs(t *testing.T) {
	var logs []monitor.LogConfig
	for i := range 30 {
		key := logtest.NewKey(t, fmt.Sprintf("example.com/%d", i))
		logs = append(logs, monitor.LogConfig{Policy: key.Policy(t), URL: serve(t, logtest.New(t, key, "a", 3))})
	}
	one := start(t, t.TempDir(), func(c *monitor.Config) { c.Rate = 4 }, logs...)
	two := start(t, t.TempDir(), func(c *monitor.Config) {
		c.Peers = []monitor.PeerConfig{{Name: "one", URL: one.url}}
	}, logs...)
	wait(t, "all are compared", func() bool {
		n := 0
		for _, v := range two.Status(t.Context()).Peers[0].Views {
			if v == gossip.Agrees {
				n++
			}
		}
		return n == len(logs)
	})
}
