//go:build !client

package main

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/cronlog"
	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/syslog"
	"github.com/prooftrail/prooftrail/verifier/client"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// maxLoud bounds how many senders over their budget are told apart between two reports.
const maxLoud = 64

// syslogCounts are what is counted outside of listeners and translator.
type syslogCounts struct {
	ignored, malformed, overBudget atomic.Uint64
	full, unsure, invalid          atomic.Uint64 // events that weren't put into the queue, or may not have been

	// Of the ticking goroutine: what the last syslog.lost event covers, and when that was.
	lost  map[string]uint64
	since time.Time

	mu   sync.Mutex
	loud map[string]uint64 // by sender: over its budget since that event
}

func (c *syslogCounts) over(sender string) {
	c.overBudget.Add(1)
	c.giveLoud(map[string]uint64{sender: 1})
}

func (c *syslogCounts) takeLoud() map[string]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	loud := c.loud
	c.loud = nil
	return loud
}

func (c *syslogCounts) giveLoud(more map[string]uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.loud == nil {
		c.loud = map[string]uint64{}
	}
	for sender, n := range more {
		if _, ok := c.loud[sender]; !ok && len(c.loud) >= maxLoud {
			sender = "others"
		}
		c.loud[sender] += n
	}
}

// syslogFigures are all figures of one moment.
type syslogFigures struct {
	lines, lost map[string]uint64
	connections int64
	forwarded   uint64
	forwardErr  error
	translator  cronlog.Stats
	queue       client.QueueStats
}

func (r *syslogRun) figures() (f syslogFigures) {
	f.translator, f.queue = r.translator.Stats(), r.queue.Stats()
	var l syslog.Counts
	for _, each := range r.listeners {
		c := each.Counts()
		l.KernelDrops += c.KernelDrops
		l.Cut += c.Cut
		l.Refused += c.Refused
		l.BadStreams += c.BadStreams
		f.connections += c.Connections
	}
	var forwardLost uint64
	for _, each := range r.forwards {
		sent, lost, err := each.Counts()
		f.forwarded += sent
		forwardLost += lost
		f.forwardErr = cmp.Or(f.forwardErr, err)
	}
	f.lines = map[string]uint64{"matter": f.translator.Matter, "ignored": f.translator.Ignored + r.counts.ignored.Load(),
		"unknown": f.translator.Unknown, "forged": f.translator.Forged}
	f.lost = map[string]uint64{
		"over_budget": r.counts.overBudget.Load(), "malformed": r.counts.malformed.Load(), "kernel": l.KernelDrops, "cut": f.translator.Cut,
		"refused_connections": l.Refused, "bad_streams": l.BadStreams, "busy": r.counts.full.Load(), "unsure": r.counts.unsure.Load(),
		"invalid": r.counts.invalid.Load(), "spool": f.queue.Dropped, "forward": forwardLost, "runs": f.translator.Evicted,
	}
	return f
}

// reportNow says the figures, and logs what was lost since the last time.
func (r *syslogRun) reportNow(ctx context.Context) {
	f := r.figures()
	r.logLost(ctx, f.lost)
	if err := r.saveRuns(); err != nil {
		r.log.WarnContext(ctx, "the runs of now won't be known next time", "error", err)
	}
	if maps.Equal(f.lines, r.said) && f.queue.FailingSince.IsZero() {
		return // nothing is new
	}
	r.said = f.lines
	args := []any{"waiting", f.queue.Waiting, "logged", f.queue.Logged, "open_runs", f.translator.Open}
	for _, m := range []map[string]uint64{f.lines, f.lost} {
		for _, name := range slices.Sorted(maps.Keys(m)) {
			if m[name] > 0 {
				args = append(args, name, m[name])
			}
		}
	}
	if f.translator.LastUnknown != "" {
		args = append(args, "last_unknown", f.translator.LastUnknown)
	}
	if f.forwardErr != nil {
		args = append(args, "forward_error", f.forwardErr.Error())
	}
	if !f.queue.FailingSince.IsZero() {
		args = append(args, "failing_since", f.queue.FailingSince, "failing", f.queue.LastError)
	}
	r.log.InfoContext(ctx, "syslog", args...)
}

// lostWait is how long the report waits for the disk.
const lostWait = 2 * time.Second

// logLost logs what was lost since the last time that this was logged. What the queue has dropped it says itself.
func (r *syslogRun) logLost(ctx context.Context, now map[string]uint64) {
	c := &r.counts
	details := map[string]any{}
	for name, n := range now {
		if name != "spool" && n > c.lost[name] {
			details[name] = n - c.lost[name]
		}
	}
	if len(details) == 0 {
		return
	}
	if !c.since.IsZero() {
		details["since"] = c.since.UTC().Format(time.RFC3339Nano)
	}
	at := time.Now()
	loud := c.takeLoud()
	var senders []any
	for _, name := range slices.SortedFunc(maps.Keys(loud), func(a, b string) int { return cmp.Compare(loud[b], loud[a]) }) {
		if len(senders) < 8 {
			senders = append(senders, map[string]any{"sender": name, "lines": loud[name]})
		}
	}
	if senders != nil {
		details["senders"] = senders
	}
	ctx, cancel := context.WithTimeout(ctx, lostWait)
	defer cancel()
	_, err := r.queue.Enqueue(ctx, event.Event{Action: "syslog.lost", Outcome: "failure", Reason: &event.Reason{Code: "lost"}, Time: at, Details: details,
		Actor: event.Actor{Type: "service", ID: "prooftrail syslog"}, Target: []event.Target{{Type: "service", ID: "syslog"}}}, client.BestEffort)
	if err != nil { // the next report says it
		c.giveLoud(loud)
		return
	}
	c.lost, c.since = now, at
}

// serveMetrics serves /metrics, if it was asked for.
func (r *syslogRun) serveMetrics() (stop func(), err error) {
	if r.metrics == "" {
		return func() {}, nil
	}
	in, err := net.Listen("tcp", r.metrics)
	if err != nil {
		return nil, err
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(syslogCollector{r})
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Serve(in); !errors.Is(err, http.ErrServerClosed) {
			r.log.Error("metrics", "error", err)
		}
	}()
	r.log.Info("metrics", "url", "http://"+in.Addr().String()+"/metrics")
	return func() {
		_ = s.Close() // nobody's answer matters any more
		<-done
	}, nil
}

// syslogCollector shows the figures to Prometheus.
type syslogCollector struct{ r *syslogRun }

var (
	syslogLines       = prometheus.NewDesc("prooftrail_syslog_lines_total", "Lines, by what they were.", []string{"kind"}, nil)
	syslogLost        = prometheus.NewDesc("prooftrail_syslog_lost_total", "What was lost, by why.", []string{"why"}, nil)
	syslogForwarded   = prometheus.NewDesc("prooftrail_syslog_forwarded_total", "Lines passed on.", nil, nil)
	syslogConnections = prometheus.NewDesc("prooftrail_syslog_connections", "Open connections.", nil, nil)
	syslogRuns        = prometheus.NewDesc("prooftrail_syslog_open_runs", "Runs that have not ended.", nil, nil)
	syslogWaiting     = prometheus.NewDesc("prooftrail_syslog_waiting_events", "Events in the spool.", nil, nil)
	syslogLogged      = prometheus.NewDesc("prooftrail_syslog_logged_total", "Events whose receipt held.", nil, nil)
	syslogFailing     = prometheus.NewDesc("prooftrail_syslog_failing_seconds", "For how long sending to the log has failed; 0 if it doesn't.", nil, nil)
)

// Describe implements prometheus.Collector.
func (c syslogCollector) Describe(to chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, to) }

// Collect implements prometheus.Collector.
func (c syslogCollector) Collect(to chan<- prometheus.Metric) {
	f := c.r.figures()
	for name, n := range f.lines {
		to <- prometheus.MustNewConstMetric(syslogLines, prometheus.CounterValue, float64(n), name)
	}
	for name, n := range f.lost {
		to <- prometheus.MustNewConstMetric(syslogLost, prometheus.CounterValue, float64(n), name)
	}
	failing := 0.0
	if !f.queue.FailingSince.IsZero() {
		failing = time.Since(f.queue.FailingSince).Seconds()
	}
	for _, m := range []struct {
		desc *prometheus.Desc
		kind prometheus.ValueType
		v    float64
	}{
		{syslogForwarded, prometheus.CounterValue, float64(f.forwarded)},
		{syslogConnections, prometheus.GaugeValue, float64(f.connections)},
		{syslogRuns, prometheus.GaugeValue, float64(f.translator.Open)},
		{syslogWaiting, prometheus.GaugeValue, float64(f.queue.Waiting)},
		{syslogLogged, prometheus.CounterValue, float64(f.queue.Logged)},
		{syslogFailing, prometheus.GaugeValue, failing},
	} {
		to <- prometheus.MustNewConstMetric(m.desc, m.kind, m.v)
	}
}
