package alarm

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

// Status says whether an alarm is there.
type Status string

// The statuses.
const (
	Firing   Status = "firing"
	Resolved Status = "resolved"
)

// Reason says why a sink is given an alarm now.
type Reason string

// The reasons.
const (
	Began    Reason = "new"    // it has begun, or this sink couldn't be told before
	Worsened Reason = "worse"  // its severity has risen since this sink was last told
	Repeated Reason = "repeat" // it is still there, and nobody has acknowledged it
	Ended    Reason = "gone"   // it is resolved
)

// Notice is an alarm on its way to a sink: as it is at that moment, not as it was when it
// began to wait.
type Notice struct {
	Alarm
	Status     Status
	Reason     Reason
	ResolvedAt time.Time // zero while it fires
	At         time.Time // now
	// Told is the severity that this sink was last given of it, "" if it doesn't know of it
	// or thinks that it is gone.
	Told Severity
}

// Sink takes alarms to people. Deliver is called by one goroutine, one call at a time; it
// returns when ctx ends, and bounds by itself how long it takes. When it returns an error, all
// of the batch is tried again, later: so what a sink is given it may have been given before.
// No error's text may hold a credential.
type Sink interface {
	// Name tells sinks apart, and is what a state file knows them by: at most 64 bytes, printable.
	Name() string
	// Manner is asked once.
	Manner() Manner
	Deliver(ctx context.Context, batch []Notice) error
}

// Manner is how a sink wants to be called.
type Manner struct {
	// Batch is how many notices it takes at once. Default 1, at most 64.
	Batch int
	// Repeat overrides Config.Repeat if it isn't 0.
	Repeat time.Duration
	// Acknowledged: repeat those too that somebody has acknowledged.
	Acknowledged bool
}

// RetryError is an error of a sink whose receiver said when to come again.
type RetryError struct {
	Err   error
	After time.Duration // heeded up to 5 minutes
}

func (e *RetryError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *RetryError) Unwrap() error { return e.Err }

// messageVersion names the form of message.
const messageVersion = "prooftrail.alarm/1"

// message is what webhooks and commands are given: docs/spec/alarms.md.
type message struct {
	Version    string            `json:"v"`
	Monitor    string            `json:"monitor,omitempty"`
	ID         string            `json:"id"`
	Status     Status            `json:"status"`
	Reason     Reason            `json:"reason"`
	Name       string            `json:"name"`
	Log        string            `json:"log,omitempty"`
	Peer       string            `json:"peer,omitempty"`
	Severity   Severity          `json:"severity"`
	Summary    string            `json:"summary"`
	Details    map[string]string `json:"details,omitempty"`
	Since      time.Time         `json:"since"`
	ResolvedAt time.Time         `json:"resolved_at,omitzero"`
	SentAt     time.Time         `json:"sent_at"`
	Ack        *Ack              `json:"ack,omitempty"`
}

// checkMonitor bounds a monitor's name.
func checkMonitor(name string) error {
	if printable(name, maxIdentity) != name {
		return fmt.Errorf("the monitor's name: expected at most %d printable bytes", maxIdentity)
	}
	return nil
}

// message returns the JSON of a notice, without a line end.
func (n Notice) message(monitor string) ([]byte, error) {
	b, err := marshal(message{messageVersion, monitor, n.ID(), n.Status, n.Reason, n.Name, n.Log, n.Peer, n.Severity,
		n.Summary, n.Details, n.Since, n.ResolvedAt, n.At, n.Ack})
	if err != nil {
		return nil, fmt.Errorf("encode alarm: %w", err)
	}
	return b, nil
}

type logSink struct{ log *slog.Logger }

// NewLogSink returns a sink, named "log", that writes each notice as one record: critical ones
// as errors, warnings as warnings, the rest and what is resolved as information.
func NewLogSink(l *slog.Logger) Sink { return logSink{l} }

func (logSink) Name() string   { return "log" }
func (logSink) Manner() Manner { return Manner{} }

func (s logSink) Deliver(ctx context.Context, batch []Notice) error {
	for _, n := range batch {
		level, text := slog.LevelInfo, "alarm"
		switch {
		case n.Status == Resolved:
			text = "alarm resolved"
		case n.Severity == Critical:
			level = slog.LevelError
		case n.Severity == Warning:
			level = slog.LevelWarn
		}
		attrs := []slog.Attr{slog.String("id", n.ID()), slog.String("name", n.Name), slog.String("severity", string(n.Severity)),
			slog.String("reason", string(n.Reason)), slog.String("summary", n.Summary), slog.Time("since", n.Since)}
		if n.Log != "" {
			attrs = append(attrs, slog.String("log", n.Log))
		}
		if n.Peer != "" {
			attrs = append(attrs, slog.String("peer", n.Peer))
		}
		if len(n.Details) > 0 {
			attrs = append(attrs, slog.Any("details", n.Details))
		}
		if n.Ack != nil {
			attrs = append(attrs, slog.String("acknowledged_by", n.Ack.By))
		}
		s.log.LogAttrs(ctx, level, text, attrs...)
	}
	return nil
}
