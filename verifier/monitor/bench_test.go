package monitor_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/verifier/internal/logtest"
	"github.com/prooftrail/prooftrail/verifier/monitor"
)

// BenchmarkFollow: a monitor in a process of its own starts, and reads a log from its first entry on, over loopback.
func BenchmarkFollow(b *testing.B) {
	for _, n := range []int{250_000, 1_000_000} {
		b.Run(fmt.Sprintf("entries=%d", n), func(b *testing.B) {
			key := logtest.NewKey(b, testOrigin)
			h := logtest.New(b, key, "a", n)
			url := strings.TrimSuffix(serve(b, h), "/logs/audit")
			peak := 0
			b.ResetTimer()
			for range b.N {
				c := churned{dir: b.TempDir()}
				prepareProcess(b, c.dir, key, url)
				c.p = startProcess(b, c.dir)
				wait(b, "all is read", func() bool { return c.checked(b, key).Size == uint64(n) })
				b.StopTimer()
				peak = max(peak, peakMemory(c.p.Process.Pid))
				c.kill()
				b.StartTimer()
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
			b.ReportMetric(float64(peak)/1024, "peak-MiB")
		})
	}
}

// peakMemory is what a process has taken at most, in KiB; 0 where that can't be known.
func peakMemory(pid int) (kib int) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)) // on Linux
	_, line, _ := strings.Cut(string(text), "VmHWM:")
	_, _ = fmt.Sscan(line, &kib)
	return kib
}

// cpu is what this process has used.
func cpu() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// BenchmarkHundredLogs: a hundred logs with a new head each second, looked at each second, for 30 s. What the logs
// take of the cores is counted too.
func BenchmarkHundredLogs(b *testing.B) {
	const logs, seconds = 100, 30
	var hs []*logtest.History
	var cfg []monitor.LogConfig
	for i := range logs {
		key := logtest.NewKey(b, fmt.Sprintf("example.com/%d", i))
		h := logtest.New(b, key, "a", 1000)
		hs = append(hs, h)
		cfg = append(cfg, monitor.LogConfig{Policy: key.Policy(b), URL: serve(b, h)})
	}
	for range b.N {
		r := start(b, b.TempDir(), func(c *monitor.Config) { c.Interval = time.Second }, cfg...)
		wait(b, "all are read", func() bool { return caughtUp(b, r, hs) == logs })
		before, begin := cpu(), time.Now()
		var late []time.Duration
		tick := time.NewTicker(10 * time.Millisecond)
		published := make([]time.Time, logs)
		pending := make([]uint64, logs)
		next := 0 // each hundredth of a second another log grows
		for next < logs*seconds || slices.ContainsFunc(pending, func(n uint64) bool { return n > 0 }) {
			<-tick.C
			for ; next < logs*seconds && time.Since(begin) >= time.Duration(next)*time.Second/logs; next++ {
				i := (37*next + 50) % logs // at any time between two looks
				hs[i].Grow(10)
				if pending[i] == 0 {
					pending[i], published[i] = uint64(hs[i].Size()), time.Now()
				}
			}
			for i, l := range r.Status().Logs {
				if pending[i] > 0 && l.Checked.Size >= pending[i] {
					late = append(late, time.Since(published[i]))
					pending[i] = 0
				}
			}
			if time.Since(begin) > 3*seconds*time.Second {
				b.Fatal("it doesn't keep up")
			}
		}
		tick.Stop()
		slices.Sort(late)
		b.ReportMetric((cpu()-before).Seconds()/time.Since(begin).Seconds(), "cores")
		b.ReportMetric(late[len(late)/2].Seconds(), "p50-s")
		b.ReportMetric(late[len(late)*99/100].Seconds(), "p99-s")
		b.ReportMetric(late[len(late)-1].Seconds(), "max-s")
		r.stop()
	}
}

// caughtUp counts the logs that are read to the end.
func caughtUp(b *testing.B, r *rig, hs []*logtest.History) (n int) {
	for i, l := range r.Status().Logs {
		if l.Checked != nil && l.Checked.Size == uint64(hs[i].Size()) {
			n++
		}
	}
	return n
}

// BenchmarkDetect: a log shows one of two monitors another history, at any time of an interval. How long, in intervals,
// until both have evidence: since it was signed, and since the monitor was shown it.
func BenchmarkDetect(b *testing.B) {
	const interval = time.Second
	var sinceSigned, sinceShown float64
	worst := 0.0
	for range b.N {
		key := logtest.NewKey(b, testOrigin)
		a := logtest.New(b, key, "a", 100)
		fork := a.Fork("b", 100)
		fork.Grow(150 + rand.IntN(3)*50)
		policy := key.Policy(b)
		var lie atomic.Bool
		var shown atomic.Int64
		second := serve(b, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !lie.Load() {
				a.Serve(w, r)
				return
			}
			if strings.HasSuffix(r.URL.Path, "/checkpoint") {
				shown.CompareAndSwap(0, time.Now().UnixNano())
			}
			fork.Serve(w, r)
		}))
		slow := func(peers ...monitor.PeerConfig) func(c *monitor.Config) {
			return func(c *monitor.Config) { c.Interval, c.Peers = interval, peers }
		}
		one := start(b, b.TempDir(), slow(), monitor.LogConfig{Policy: policy, URL: serve(b, a)})
		two := start(b, b.TempDir(), slow(monitor.PeerConfig{Name: "one", URL: one.url}), monitor.LogConfig{Policy: policy, URL: second})
		one.checked(100)
		two.checked(100)
		<-time.After(time.Duration(rand.Int64N(int64(interval))))
		a.Grow(200)
		lie.Store(true)
		signed := time.Now()
		for _, r := range []*rig{one, two} {
			wait(b, "evidence", func() bool { return len(r.Status().Evidence) > 0 })
		}
		found := time.Now()
		sinceSigned += found.Sub(signed).Seconds() / interval.Seconds()
		s := found.Sub(time.Unix(0, shown.Load())).Seconds() / interval.Seconds()
		sinceShown += s
		worst = max(worst, s)
		two.stop()
		one.stop()
	}
	b.ReportMetric(sinceSigned/float64(b.N), "intervals-signed")
	b.ReportMetric(sinceShown/float64(b.N), "intervals-shown")
	b.ReportMetric(worst, "intervals-shown-max")
}
