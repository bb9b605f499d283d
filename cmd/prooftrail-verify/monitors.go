package main

import (
	"context"
	"flag"
	"fmt"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/monitor/gossip"
)

// monitorFlags are the monitors to compare with.
type monitorFlags struct{ urls []string }

func addMonitorFlags(flags *flag.FlagSet) *monitorFlags {
	m := &monitorFlags{}
	flags.Func("monitor", "`URL` of a monitor whose heads are compared with the audited one, and that is given it; may be repeated", func(s string) error {
		m.urls = append(m.urls, s)
		return nil
	})
	return m
}

// connect sets up a client for each monitor. They are sent nothing yet, and never the token.
func (m *monitorFlags) connect(e *env, lf logFlags) ([]*gossip.Client, error) {
	if len(m.urls) == 0 {
		return nil, nil
	}
	transport, err := e.transport(*lf.ca)
	if err != nil {
		return nil, err
	}
	var clients []*gossip.Client
	for _, u := range m.urls {
		c, err := gossip.New(gossip.Config{URL: u, AllowHTTP: *lf.plain, Transport: transport, UserAgent: "prooftrail-verify"})
		if err != nil {
			return nil, &usageError{err}
		}
		clients = append(clients, c)
	}
	return clients, nil
}

// compareMonitors compares the head of a report with those of monitors. A fork becomes a
// failure of the report, and its evidence the report's, unless that has better.
func compareMonitors(ctx context.Context, monitors []*gossip.Client, p *verifier.Policy, log verifier.Source, r *verifier.AuditReport) []gossip.Comparison {
	if len(monitors) == 0 {
		return nil
	}
	compared, err := gossip.Compare(ctx, monitors, gossip.Own{Policy: p, Note: []byte(r.Checkpoint), Tiles: verifier.Tiles(log)})
	if err != nil { // the audit FAILED for the same reason
		for _, m := range monitors {
			compared = append(compared, gossip.Comparison{Monitor: m.URL(), Status: gossip.StatusUnproven, Reason: err.Error()})
		}
		return compared
	}
	for i := range compared {
		c := &compared[i]
		if c.Evidence == nil {
			continue
		}
		r.FailureCount++
		if len(r.Failures) < verifier.MaxListed {
			r.Failures = append(r.Failures, verifier.Failure{Reason: fmt.Sprintf("monitor %s: %s", c.Monitor, c.Reason)})
		}
		if !r.Proven {
			r.Evidence, r.Proven = c.Evidence, true
		}
	}
	return compared
}

// allAgree reports whether the head was proven to be of one history with each monitor's.
func allAgree(compared []gossip.Comparison) bool {
	for i := range compared {
		if !compared[i].Agreement() {
			return false
		}
	}
	return true
}

// textMonitors says how each monitor's heads go together with the audited one.
func (e *env) textMonitors(compared []gossip.Comparison) {
	for i := range compared {
		c := &compared[i]
		text := c.Reason
		switch c.Status {
		case gossip.StatusAgrees:
			text = fmt.Sprintf("it has checked this log up to size %d, of the same history", *c.Checked)
		case gossip.StatusBehind:
			text = fmt.Sprintf("it has checked this log up to size %d, of the same history; what follows was compared with nothing yet", *c.Checked)
		}
		if c.Agreement() && c.Reason != "" {
			text += "; " + c.Reason
		}
		if c.Agreement() && !c.Posted {
			text += "; it hasn't taken the audited head"
		}
		fmt.Fprintf(e.stdout, "  monitor    %s %s: %s\n", printable(c.Monitor), c.Status, printable(text))
	}
}
