package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/monitor/gossip"
)

// gossipInterval is what GossipEvery takes for no interval: a monitor's own.
const gossipInterval = 30 * time.Second

// Newest returns the newest head that the client has seen, as it was signed; nil if it
// has seen none.
func (c *Client) Newest() (note []byte, cp verifier.Checkpoint) {
	if c.checker == nil {
		return nil, cp
	}
	s := c.checker.heads.head()
	if s == nil {
		return nil, cp
	}
	return s.Note, s.Checkpoint
}

// Gossip hands the newest head to each of Config.Monitors and compares it with what they show: one
// round of what docs/spec/gossip.md tells. If no head was seen yet it asks the log for one. The
// proofs come from the log's own tiles; a monitor is believed nothing. See [gossip.Compare]
// for what the results say, one for each monitor, and what it costs.
//
// The error is an *EvidenceError if the log has forked, with the results. Otherwise nil, whatever
// became of the monitors, or what kept a head from being had.
func (c *Client) Gossip(ctx context.Context) ([]gossip.Comparison, error) {
	if c.checker == nil {
		return nil, errNoPolicy
	}
	if len(c.monitors) == 0 {
		return nil, errors.New("gossip: no monitors are configured")
	}
	note, _ := c.Newest()
	if note == nil {
		var err error
		if note, _, _, err = c.Checkpoint(ctx); err != nil {
			return nil, fmt.Errorf("gossip: %w", err)
		}
	}
	results, err := gossip.Compare(ctx, c.monitors, gossip.Own{Policy: c.cfg.Policy, Note: note, Tiles: verifier.Tiles(logFiles{c})})
	if err != nil {
		return nil, fmt.Errorf("gossip: %w", err)
	}
	for i := range results {
		if e := results[i].Evidence; e != nil {
			_ = c.convict(&EvidenceError{Older: e.First, Newer: e.Second, Proof: e.Proof,
				Reason: fmt.Sprintf("found with the monitor %s: %s", results[i].Monitor, results[i].Reason)})
		}
	}
	return results, c.checker.heads.verdict()
}

// GossipEvery calls Gossip at once and then at an interval (default 30 s, give or take a tenth),
// until the context ends, and returns its error. Each round's outcome goes to report, if that isn't
// nil, and its error, if there is one, to Config.Alarm. It goes on after an error; evidence is given to the
// monitors each time.
func (c *Client) GossipEvery(ctx context.Context, interval time.Duration, report func([]gossip.Comparison, error)) error {
	if c.checker == nil || len(c.monitors) == 0 {
		_, err := c.Gossip(ctx)
		return err
	}
	if interval <= 0 {
		interval = gossipInterval
	}
	for {
		results, err := c.Gossip(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			c.alarm(err)
		}
		if report != nil {
			report(results, err)
		}
		if err := sleep(ctx, interval-interval/10+rand.N(interval/5+1)); err != nil {
			return err
		}
	}
}

// logFiles are the log's public files, as the client's server has them.
type logFiles struct{ c *Client }

// Get implements [verifier.Source].
func (l logFiles) Get(ctx context.Context, path string, limit int64) ([]byte, error) {
	a, err := l.c.do(ctx, request{method: http.MethodGet, path: "/logs/" + url.PathEscape(l.c.cfg.Log) + "/" + path, limit: limit})
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	case errors.Is(err, errTooLong):
		return nil, fmt.Errorf("%w: %w", verifier.ErrTooLarge, err)
	case err != nil:
		return nil, err
	}
	return a.body, nil
}
