package httpapi

import (
	"fmt"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are this package's Prometheus metrics. Every label value comes from
// a table here (routes, status classes, kinds of problem), none from input, and
// the counters are looked up once.
type metrics struct {
	requests [][6]prometheus.Counter // by route (the last row: no route) and status class; 0: no answer
	took     []prometheus.Observer   // by route
	refused  [numKinds]prometheus.Counter
	inFlight prometheus.Gauge
	open     prometheus.Gauge
	shed     prometheus.Counter
}

func newMetrics(r prometheus.Registerer, routes []route) (*metrics, error) {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "prooftrail_http_requests_total", Help: "Requests answered, by route and class of status."}, []string{"route", "class"})
	took := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "prooftrail_http_request_seconds", Help: "Time from a request's header to the end of its answer.",
		Buckets: prometheus.ExponentialBuckets(0.0005, 3, 10)}, []string{"route"})
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "prooftrail_http_refused_total", Help: "Requests and events of batches refused, by type of problem."}, []string{"reason"})
	m := &metrics{inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "prooftrail_http_in_flight", Help: "Requests being served."}),
		open: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "prooftrail_http_connections", Help: "Connections that are open."}),
		shed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "prooftrail_http_connections_shed_total", Help: "Connections without a request that were closed for others."}),
	}
	for i := range numKinds {
		m.refused[i] = refused.WithLabelValues(kinds[i].slug)
	}
	for i := range len(routes) + 1 {
		name := "none"
		if i < len(routes) {
			name = routes[i].method + " " + routes[i].pattern
		}
		var row [6]prometheus.Counter
		for class := range row {
			label := "none"
			if class > 0 {
				label = strconv.Itoa(class) + "xx"
			}
			row[class] = requests.WithLabelValues(name, label)
		}
		m.requests = append(m.requests, row)
		m.took = append(m.took, took.WithLabelValues(name))
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{requests, took, refused, m.inFlight, m.open, m.shed} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("httpapi: register metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) begin() { m.inFlight.Inc() }

func (m *metrics) end(rt *route, status int, took time.Duration) {
	m.inFlight.Dec()
	row := len(m.requests) - 1
	if rt != nil {
		row = rt.id
	}
	class := status / 100
	if class < 1 || class > 5 {
		class = 0
	}
	m.requests[row][class].Inc()
	m.took[row].Observe(took.Seconds())
}

func (m *metrics) refuse(k kind) { m.refused[k].Inc() }
