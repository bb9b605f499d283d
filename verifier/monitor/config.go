package monitor

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/monitor/alarm"
)

// DefaultInterval is how often a log is looked at, and a peer asked.
const DefaultInterval = 30 * time.Second

// Config says what a monitor follows.
type Config struct {
	Logs  []LogConfig
	Peers []PeerConfig
	// Book is where it writes down what it sees. Required.
	Book Book
	// EvidenceDir is a directory for evidence files. Required; it must exist.
	EvidenceDir string
	// Alarms gets what is wrong. Required.
	Alarms Alarms
	// Interval between two looks at a log, and between two rounds with a peer. DefaultInterval
	// if 0.
	Interval time.Duration
	// Rate is how many requests a second one address may send to the handler, in the long run.
	// Default 10, with a burst of 4 times that.
	Rate float64
	// Transport is used for logs and peers; one of the package verifier's if nil.
	Transport http.RoundTripper
	// Now is the clock; time.Now if nil.
	Now func() time.Time
	// Log gets what happens; discarded if nil.
	Log *slog.Logger
}

// Alarms is the monitor's side of an [alarm.Board].
type Alarms interface {
	Raise(alarm.Alarm)
	Clear(name, log, peer string)
}

// LogConfig is a log to follow.
type LogConfig struct {
	// Policy has the log's key and its witnesses. Required.
	Policy *verifier.Policy
	// URL is the log's prefix in the sense of c2sp.org/tlog-tiles. The policy's if empty.
	URL string
	// AllowHTTP: see [verifier.HTTPConfig].
	AllowHTTP bool
	// Timeout is how long the log may be silent. Default 15 s.
	Timeout time.Duration
	// Mirror, if not empty, is a directory in which everything that was read and checked is
	// kept.
	Mirror string
	// Expect says when to warn.
	Expect Expect
}

// Expect says what is normal for a log. The zero value of each member is its default; a negative
// one turns the alarm off.
type Expect struct {
	// Reachable: for how long a log may give no answer. Default 5 min.
	Reachable time.Duration
	// Fresh: for how long it may serve a head that is smaller than one seen elsewhere, and for how
	// long the entries of a head may stay unread without 65,536 more being read. Default 5 min.
	Fresh time.Duration
	// Explained: for how long a signed head may stay open. Default 2 min.
	Explained time.Duration
	// Cosigned: how old the newest cosignature of the served head may be, if the policy has
	// witnesses. Default 2 h.
	Cosigned time.Duration
	// Quorum: for how long the served head may lack the policy's quorum. Default 5 min.
	Quorum time.Duration
	// Growth: for how long the log may not grow. Default 24 h.
	Growth time.Duration
	// PerHour: how many entries an hour may bring at most. Default: 20 times the mean of the
	// last week, and never less than 10,000.
	PerHour int64
}

func (e *Expect) defaults() {
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{
		{&e.Reachable, 5 * time.Minute}, {&e.Fresh, 5 * time.Minute}, {&e.Explained, 2 * time.Minute},
		{&e.Cosigned, 2 * time.Hour}, {&e.Quorum, 5 * time.Minute}, {&e.Growth, 24 * time.Hour},
	} {
		if *d.v == 0 {
			*d.v = d.def
		}
	}
}

// Kind is what a peer speaks.
type Kind string

// The kinds of peers.
const (
	// Gossip: docs/spec/gossip.md; another monitor.
	Gossip Kind = "monitor"
	// Distributor: heads are pulled from a checkpoint distributor.
	Distributor Kind = "distributor"
	// WitnessKind: heads are pulled from a witness's monitoring prefix (c2sp.org/tlog-witness).
	WitnessKind Kind = "witness"
)

// PeerConfig is somebody else who sees heads.
type PeerConfig struct {
	// Name is what alarms and the status call it. Required, unique.
	Name string
	Kind Kind // Gossip if empty
	// URL is its prefix: see [github.com/prooftrail/prooftrail/verifier/monitor/gossip.Config].
	URL       string
	AllowHTTP bool
	// Timeout bounds a call. Default 15 s.
	Timeout time.Duration
	// Silent is how long it may give no answer before an alarm. Default 10 min.
	Silent time.Duration
	// Mirrors says that it serves tiles of logs, from which proofs can be made: "/mirror/{log}/".
	Mirrors bool
}

// check fills in defaults and refuses what can't work.
func (c *Config) check() error {
	switch {
	case c.Book == nil:
		return errors.New("no book")
	case c.EvidenceDir == "":
		return errors.New("no directory for evidence")
	case c.Alarms == nil:
		return errors.New("nowhere to send alarms")
	case len(c.Logs) == 0:
		return errors.New("no log to follow")
	case c.Interval < 0:
		return fmt.Errorf("interval %s, expected more than 0", c.Interval)
	}
	if c.Interval == 0 {
		c.Interval = DefaultInterval
	}
	if c.Rate <= 0 {
		c.Rate = 10
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

func (p *PeerConfig) check() error {
	if p.Name == "" {
		return fmt.Errorf("peer %q: no name", p.URL)
	}
	if p.Kind == "" {
		p.Kind = Gossip
	}
	if p.Kind != Gossip && p.Kind != Distributor && p.Kind != WitnessKind {
		return fmt.Errorf("peer %q: kind %q, expected %s, %s or %s", p.Name, p.Kind, Gossip, Distributor, WitnessKind)
	}
	if p.Silent == 0 {
		p.Silent = 10 * time.Minute
	}
	return nil
}
