package client_test

import (
	"context"
	"log/slog"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/client"
	"github.com/prooftrail/prooftrail/verifier/monitor/gossip"
)

// A scheduler's client: it remembers the log's heads over restarts, and compares them with a
// monitor's.
func ExampleClient_GossipEvery() {
	_ = func(ctx context.Context, token string, policy *verifier.Policy, event []byte) error {
		c, err := client.New(client.Config{
			URL: "https://log.example.com", Token: token, Policy: policy,
			HeadsFile: "/var/lib/scheduler/audit.heads",
			Monitors:  []gossip.Config{{URL: "https://monitor.example.org"}},
			Alarm:     func(err error) { slog.Error("audit log", "error", err) },
		})
		if err != nil {
			return err
		}
		defer c.Close()
		go func() { _ = c.GossipEvery(ctx, 5*time.Minute, nil) }()
		_, err = c.Submit(ctx, event)
		return err
	}
}
