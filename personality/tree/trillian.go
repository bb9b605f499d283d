package tree

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/trillian/log"
	"github.com/google/trillian/monitoring"
	"github.com/google/trillian/util/clock"
	"k8s.io/klog/v2"
)

var klogOnce sync.Once

// prepareTrillian does what Trillian wants done once in a process, whoever asks first:
// the sequencer's metrics, which it uses unchecked, and where its messages go. Flags
// that its packages register on flag.CommandLine keep their defaults: nobody parses it.
func prepareTrillian(logger *slog.Logger) {
	log.InitMetrics(noMetrics{})
	if logger != nil {
		klogOnce.Do(func() { klog.SetSlogLogger(logger) })
	}
}

// noMetrics is a monitoring.MetricFactory whose metrics do nothing. Trillian's own
// inert ones take a lock and build a string for every leaf; the service's metrics
// are measured outside of Trillian.
type noMetrics struct{}

func (noMetrics) NewCounter(string, string, ...string) monitoring.Counter     { return noMetric{} }
func (noMetrics) NewGauge(string, string, ...string) monitoring.Gauge         { return noMetric{} }
func (noMetrics) NewHistogram(string, string, ...string) monitoring.Histogram { return noMetric{} }
func (noMetrics) NewHistogramWithBuckets(string, string, []float64, ...string) monitoring.Histogram {
	return noMetric{}
}

type noMetric struct{}

func (noMetric) Inc(...string)                    {}
func (noMetric) Dec(...string)                    {}
func (noMetric) Add(float64, ...string)           {}
func (noMetric) Set(float64, ...string)           {}
func (noMetric) Value(...string) float64          { return 0 }
func (noMetric) Observe(float64, ...string)       {}
func (noMetric) Info(...string) (uint64, float64) { return 0, 0 }

// risingClock is the clock that Trillian sees: IntegrateBatch refuses a root that isn't
// later than the last one, so a clock that once ran ahead would stop the log.
type risingClock struct {
	now  func() time.Time
	last atomic.Int64 // timestamp of the last root seen, nanoseconds
}

var _ clock.TimeSource = (*risingClock)(nil)

// Now implements clock.TimeSource: the later of the clock and just after the last root.
func (c *risingClock) Now() time.Time {
	if now, last := c.now(), c.last.Load(); now.UnixNano() > last {
		return now
	} else {
		return time.Unix(0, last+1)
	}
}

// NewTimer implements clock.TimeSource.
func (c *risingClock) NewTimer(d time.Duration) clock.Timer { return clock.System.NewTimer(d) }

// saw notes the timestamp of a root.
func (c *risingClock) saw(nanos int64) {
	for {
		last := c.last.Load()
		if nanos <= last || c.last.CompareAndSwap(last, nanos) {
			return
		}
	}
}
