package personality

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/prooftrail/prooftrail/personality/pubstore"
	"github.com/prooftrail/prooftrail/personality/witnesses"
)

// Metrics are the main path's Prometheus metrics. Labels have few values, none
// of them from input.
type Metrics struct {
	accepted   prometheus.Counter
	duplicates prometheus.Counter
	refused    *prometheus.CounterVec // reason: a code of event.Error, or one of ours
	batch      prometheus.Histogram
	step       *prometheus.HistogramVec // step: seal, sequence, integrate, verify, publish, anchor
	oldest     prometheus.Gauge
	stored     prometheus.Gauge
	published  prometheus.Gauge
	refusing   prometheus.Gauge
	clockBack  prometheus.Counter
	diskFree   prometheus.Gauge
	diskFull   prometheus.Gauge
	witnessed  prometheus.Gauge
	quorum     prometheus.Gauge
	lost       quorumLost               // when_lost: open, closed; only what is configured
	asking     *prometheus.HistogramVec // witness: its URL, of the policy; outcome: see package witnesses

	ingested        *prometheus.CounterVec // adapter: its name; result: one of ingest.Statuses
	quarantineFull  prometheus.Counter
	quarantineItems prometheus.GaugeFunc
	quarantineBytes prometheus.GaugeFunc

	stalled    atomic.Pointer[func() float64]                 // what the gauge of that name says
	quarantine atomic.Pointer[func() pubstore.QuarantineSize] // what those two gauges say
}

// NewMetrics makes the metrics and registers them with r, if r isn't nil. It
// panics if r has them already.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		accepted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "prooftrail_events_accepted_total", Help: "Events stored under a new index."}),
		duplicates: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "prooftrail_events_duplicate_total", Help: "Events that were there already."}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "prooftrail_events_refused_total", Help: "Events refused, by reason."}, []string{"reason"}),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "prooftrail_batch_events", Help: "Events in a group commit.",
			Buckets: []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000}}),
		step: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "prooftrail_step_seconds", Help: "Time of each step of the main path.",
			Buckets: prometheus.ExponentialBuckets(10e-6, 2.5, 14)}, []string{"step"}),
		oldest: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "prooftrail_oldest_unpublished_timestamp_seconds",
			Help: "When the oldest event that isn't published was sequenced, as a Unix time; 0 when all are published."}),
		stored: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "prooftrail_tree_size", Help: "Entries stored durably in the tree."}),
		published: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "prooftrail_published_size", Help: "Size of the published head."}),
		refusing: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "prooftrail_refusing", Help: "1 when the log refuses to go on (see /readyz), else 0."}),
		clockBack: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "prooftrail_clock_steps_back_total", Help: "Batches whose time lay before the one of the batch before."}),
		diskFree: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "prooftrail_disk_free_bytes", Help: "Free space of the data directory's disk, where that is known."}),
		diskFull: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "prooftrail_disk_full", Help: "1 when events are refused because a disk is full (see /readyz), else 0."}),
	}
	m.makeWitnesses()
	m.makeIngest()
	stalled := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "prooftrail_signers_stalled_seconds",
		Help: "For how long the signers of a Trillian cluster have integrated none of the entries that wait for them; 0 when none do."},
		func() float64 {
			if f := m.stalled.Load(); f != nil {
				return (*f)()
			}
			return 0
		})
	if r != nil {
		r.MustRegister(m.accepted, m.duplicates, m.refused, m.batch, m.step, m.oldest, m.stored, m.published, m.refusing, m.clockBack,
			m.diskFree, m.diskFull, m.witnessed, m.quorum, &m.lost, m.asking, stalled,
			m.ingested, m.quarantineFull, m.quarantineItems, m.quarantineBytes)
	}
	return m
}

func (m *Metrics) makeWitnesses() {
	m.witnessed = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "prooftrail_witnessed_size", Help: "Size of the newest head that the quorum of witnesses has cosigned; 0 without witnesses."})
	m.quorum = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "prooftrail_quorum_timestamp_seconds",
		Help: "Time in the newest cosignature of that head, as a Unix time; 0 without witnesses."})
	m.asking = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "prooftrail_witness_seconds", Help: "Time until a witness answered, and what came of asking it.",
		Buckets: prometheus.ExponentialBuckets(1e-3, 4, 8)}, []string{"witness", "outcome"})
}

func (m *Metrics) makeIngest() {
	m.ingested = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "prooftrail_ingest_items_total", Help: "Items that other systems delivered in forms of their own, and what became of them."},
		[]string{"adapter", "result"})
	m.quarantineFull = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "prooftrail_quarantine_full_total", Help: "Deliveries refused because the quarantine of their tenant is full."})
	size := func() pubstore.QuarantineSize {
		if f := m.quarantine.Load(); f != nil {
			return (*f)()
		}
		return pubstore.QuarantineSize{}
	}
	m.quarantineItems = prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "prooftrail_quarantine_items", Help: "Items in the quarantine, of all tenants."},
		func() float64 { return float64(size().Items) })
	m.quarantineBytes = prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "prooftrail_quarantine_bytes", Help: "Bytes that they take."},
		func() float64 { return float64(size().Bytes) })
}

// asked observes the answer of a witness.
func (m *Metrics) asked(url string, took time.Duration, o witnesses.Outcome) {
	m.asking.WithLabelValues(url, string(o)).Observe(took.Seconds())
}

// quorumLost is the gauge of that name. It is worked out when it is asked for: between two askings of the witnesses
// a quorum gets lost by time alone.
type quorumLost struct {
	of atomic.Pointer[lostState]
}

// lostState says what a lost quorum means for the log, and whether it is lost now.
type lostState struct {
	when string
	lost func() bool
}

var quorumLostDesc = prometheus.NewDesc("prooftrail_quorum_lost",
	"1 when the quorum of witnesses has been missing for longer than the patience, else 0; not there without witnesses.", []string{"when_lost"}, nil)

// Describe implements prometheus.Collector.
func (*quorumLost) Describe(c chan<- *prometheus.Desc) { c <- quorumLostDesc }

// Collect implements prometheus.Collector.
func (q *quorumLost) Collect(c chan<- prometheus.Metric) {
	of := q.of.Load()
	if of == nil {
		return
	}
	value := 0.0
	if of.lost() {
		value = 1
	}
	c <- prometheus.MustNewConstMetric(quorumLostDesc, prometheus.GaugeValue, value, of.when)
}

// show has the gauge tell of a log's quorum.
func (q *quorumLost) show(closed bool, lost func() bool) {
	when := "open"
	if closed {
		when = "closed"
	}
	q.of.Store(&lostState{when, lost})
}

// since observes the time of a step that began at start.
func (m *Metrics) since(step string, start time.Time) {
	m.step.WithLabelValues(step).Observe(time.Since(start).Seconds())
}
