package client_test

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/client"
	"github.com/prooftrail/prooftrail/verifier/event"
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

// A scheduler that doesn't wait for the log, unless the action must not happen unlogged.
func ExampleClient_OpenQueue() {
	_ = func(ctx context.Context, c *client.Client, login, deletion event.Event) error {
		q, err := c.OpenQueue(client.QueueConfig{
			Dir:    "/var/lib/scheduler/audit.spool",
			Source: "cron://billing.example/primary",
			Logger: slog.Default(),
		})
		if err != nil {
			return err
		}
		defer func() { _ = q.Close() }()
		if _, err := q.Enqueue(ctx, login, client.BestEffort); err != nil {
			slog.Warn("a login isn't logged", "error", err)
		}
		if _, err := q.Enqueue(ctx, deletion, client.Required); err != nil {
			return fmt.Errorf("not deleted: %w", err)
		}
		return nil // and now delete it
	}
}
