package recorder

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/prooftrail/prooftrail/verifier/client"
)

// Metrics are a recorder's.
type Metrics struct {
	requests   *prometheus.CounterVec // mode
	refused    *prometheus.CounterVec // reason
	events     *prometheus.CounterVec // mode
	lost       prometheus.Counter
	repaired   prometheus.Counter
	unanswered prometheus.Counter
}

// NewMetrics makes the metrics and registers them.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "prooftrail_proxy_requests_total", Help: "Requests, by the mode of their rule.",
		}, []string{"mode"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "prooftrail_proxy_refused_total", Help: "Requests that the scheduler was not shown, by the reason.",
		}, []string{"reason"}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "prooftrail_proxy_events_total", Help: "Events that were taken, by mode.",
		}, []string{"mode"}),
		lost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "prooftrail_proxy_lost_total", Help: "Events in best effort that could not be kept.",
		}),
		repaired: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "prooftrail_proxy_cut_total", Help: "Events of which only the least was kept, because the rest was not valid.",
		}),
		unanswered: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "prooftrail_proxy_unanswered_total", Help: "Requests that the scheduler did not answer.",
		}),
	}
	for _, mode := range []string{"ignore", "best-effort", "required"} {
		m.requests.WithLabelValues(mode)
	}
	for _, reason := range []string{"malformed", "ambiguous", "unread", "body_broken", "not_logged"} {
		m.refused.WithLabelValues(reason)
	}
	m.events.WithLabelValues("best-effort")
	m.events.WithLabelValues("required")
	reg.MustRegister(m.requests, m.refused, m.events, m.lost, m.repaired, m.unanswered)
	return m
}

func (m *Metrics) count(mode client.Mode, err error) {
	switch {
	case err == nil && mode == client.Required:
		m.events.WithLabelValues("required").Inc()
	case err == nil:
		m.events.WithLabelValues("best-effort").Inc()
	case mode == client.BestEffort:
		m.lost.Inc()
	}
}
