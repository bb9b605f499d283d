package main

import (
	"context"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/monitor"
	"github.com/prooftrail/prooftrail/verifier/monitor/gossip"
)

// metrics are what is counted as it happens. What is so now is collected from the view.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec // route, class
	shed     prometheus.Counter
	cosign   *prometheus.CounterVec // result
	observed *prometheus.CounterVec // result
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "prooftrail_monitor_http_requests_total", Help: "Requests answered, by route and class of status.",
		}, []string{"route", "class"}),
		shed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "prooftrail_monitor_http_connections_shed_total", Help: "Connections without a request, closed to make room for others.",
		}),
		cosign: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "prooftrail_monitor_witness_requests_total", Help: "Calls of add-checkpoint, by what came of them.",
		}, []string{"result"}),
		observed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "prooftrail_monitor_witness_heads_total", Help: "Heads that came by way of the witness, by what became of them.",
		}, []string{"result"}),
	}
	for _, r := range routes {
		m.requests.WithLabelValues(r, "2xx")
	}
	for _, r := range cosignResults {
		m.cosign.WithLabelValues(r)
	}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		m.requests, m.shed, m.cosign, m.observed)
	return m
}

// gauge is a metric that is read off when it is asked for.
type gauge struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

func newGauge(name, help string, labels ...string) gauge {
	return gauge{prometheus.NewDesc(name, help, labels, nil), prometheus.GaugeValue}
}

func newCounter(name, help string, labels ...string) gauge {
	return gauge{prometheus.NewDesc(name, help, labels, nil), prometheus.CounterValue}
}

// What is read off.
var (
	readyGauge = newGauge("prooftrail_monitor_ready", "1 when /readyz says yes.")

	servedGauge   = newGauge("prooftrail_monitor_served_size", "Size of the head that the log served last.", "log")
	seenGauge     = newGauge("prooftrail_monitor_seen_size", "Size of the newest head that is known to be of the log's history.", "log")
	checkedGauge  = newGauge("prooftrail_monitor_checked_size", "Size of the newest head whose entries were all re-hashed.", "log")
	mirroredGauge = newGauge("prooftrail_monitor_mirrored_size", "Size up to which the mirror is complete.", "log")
	upGauge       = newGauge("prooftrail_monitor_log_up", "1 when the last look brought a head.", "log")
	lookedGauge   = newGauge("prooftrail_monitor_looked_timestamp_seconds", "When the last look at the log was over, whatever came of it.", "log")
	answeredGauge = newGauge("prooftrail_monitor_served_timestamp_seconds", "When the log served a head last.", "log")
	grownGauge    = newGauge("prooftrail_monitor_grown_timestamp_seconds", "When the log was seen to grow last.", "log")
	cosignedGauge = newGauge("prooftrail_monitor_cosigned_timestamp_seconds", "Time of the newest cosignature of the served head.", "log")
	sigsGauge     = newGauge("prooftrail_monitor_cosignatures", "Good cosignatures of the served head by witnesses of the policy.", "log")
	quorumGauge   = newGauge("prooftrail_monitor_quorum", "1 when the served head has the policy's quorum.", "log")
	headsGauge    = newGauge("prooftrail_monitor_heads", "Signed heads in the book, by standing.", "log", "standing")
	forkGauge     = newGauge("prooftrail_monitor_evidence", "Evidence files against the log.", "log")

	peerUpGauge   = newGauge("prooftrail_monitor_peer_up", "1 when the last round with the peer was good.", "peer")
	peerOKGauge   = newGauge("prooftrail_monitor_peer_answered_timestamp_seconds", "When the peer answered last.", "peer")
	peerViewGauge = newGauge("prooftrail_monitor_peer_agrees", "Whether the peer's heads of the log agree: 1 yes, 0 not known, -1 they contradict.", "peer", "log")

	alarmGauge = newGauge("prooftrail_monitor_alarm", "1 for each alarm that is active.", "name", "severity", "log", "peer")

	sinkSent    = newCounter("prooftrail_monitor_receiver_taken_total", "Notices that a receiver of alarms took.", "receiver")
	sinkFailed  = newCounter("prooftrail_monitor_receiver_failed_total", "Calls of a receiver that failed.", "receiver")
	sinkDropped = newCounter("prooftrail_monitor_receiver_dropped_total", "Ends of alarms that a receiver could not be told of in time.", "receiver")
	sinkPending = newGauge("prooftrail_monitor_receiver_pending", "Alarms of which a receiver isn't up to date.", "receiver")

	witnessGauge = newGauge("prooftrail_monitor_witness_size", "Size of the head that this witness has cosigned last, 0 if there is none.", "log")
)

// collector reads off a server's state.
type collector struct{ s *server }

// Describe implements prometheus.Collector: which metrics there are depends on what is followed.
func (c collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	put := func(g gauge, v float64, labels ...string) {
		for i := range labels {
			labels[i] = strings.ToValidUTF8(labels[i], "\uFFFD")
		}
		ch <- prometheus.MustNewConstMetric(g.desc, g.kind, v, labels...)
	}
	status := c.s.monitor.Status()
	put(readyGauge, oneIf(len(c.s.ready.reasons(status)) == 0))
	for i := range status.Logs {
		collectLog(put, &status, &status.Logs[i])
	}
	for i := range status.Peers {
		collectPeer(put, &status.Peers[i])
	}
	for _, a := range c.s.board.Active() {
		put(alarmGauge, 1, a.Name, string(a.Severity), a.Log, a.Peer)
	}
	for _, h := range c.s.board.Health() {
		put(sinkSent, float64(h.Sent), h.Name)
		put(sinkFailed, float64(h.Failed), h.Name)
		put(sinkDropped, float64(h.Dropped), h.Name)
		put(sinkPending, float64(h.Pending), h.Name)
	}
	if w := c.s.viewWitness(ctx); w != nil {
		for _, l := range w.Cosigned {
			size := uint64(0)
			if l.Head != nil {
				size = l.Head.Size
			}
			put(witnessGauge, float64(size), l.Origin)
		}
	}
}

func collectLog(put func(gauge, float64, ...string), s *monitor.Status, l *monitor.LogStatus) {
	for _, h := range []struct {
		gauge gauge
		head  *headView
	}{{servedGauge, viewHead(l.Served)}, {seenGauge, viewHead(l.Seen)}, {checkedGauge, viewHead(l.Checked)}} {
		if h.head != nil {
			put(h.gauge, float64(h.head.Size), l.Origin)
		}
	}
	put(mirroredGauge, float64(l.Mirrored), l.Origin)
	put(upGauge, oneIf(l.Served != nil && l.Err == nil), l.Origin)
	var newest time.Time
	for _, c := range l.Cosigned {
		if c.Time.After(newest) {
			newest = c.Time
		}
	}
	for _, t := range []struct {
		gauge gauge
		time  time.Time
	}{{lookedGauge, l.LookedAt}, {answeredGauge, l.ServedAt}, {grownGauge, l.Grown}, {cosignedGauge, newest}} {
		put(t.gauge, seconds(t.time), l.Origin)
	}
	put(sigsGauge, float64(len(l.Cosigned)), l.Origin)
	put(quorumGauge, oneIf(l.Quorum == verifier.Quorum), l.Origin)
	put(headsGauge, float64(l.Heads.Agreed), l.Origin, "agreed")
	put(headsGauge, float64(l.Heads.Open), l.Origin, "open")
	put(headsGauge, float64(l.Heads.Forked), l.Origin, "forked")
	n := 0
	for _, e := range s.Evidence {
		if e.Origin == l.Origin {
			n++
		}
	}
	put(forkGauge, float64(n), l.Origin)
}

func collectPeer(put func(gauge, float64, ...string), p *monitor.PeerStatus) {
	put(peerUpGauge, oneIf(p.Err == nil), p.Name)
	put(peerOKGauge, seconds(p.OK), p.Name)
	for origin, verdict := range p.Views {
		switch verdict {
		case gossip.Agrees:
			put(peerViewGauge, 1, p.Name, origin)
		case gossip.Contradicts:
			put(peerViewGauge, -1, p.Name, origin)
		case gossip.Unknown:
			put(peerViewGauge, 0, p.Name, origin)
		}
	}
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// seconds is a time for a metric: 0 for one that never was.
func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}
