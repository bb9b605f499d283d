package personality

import (
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sync/semaphore"

	"github.com/prooftrail/prooftrail/personality/pubstore"
)

func newBenchLog(b *testing.B) *Service {
	b.Helper()
	cfg := Config{Dir: filepath.Join(b.TempDir(), "data")}
	if _, err := Create(b.Context(), CreateConfig{Config: cfg, Origin: testOrigin}); err != nil {
		b.Fatal(err)
	}
	s, err := Open(b.Context(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close(context.Background()) })
	return s
}

// benchEvent has about 800 bytes.
func benchEvent(n uint64) []byte {
	return fmt.Appendf(nil, `{"schema":"prooftrail.event/1","id":"0192f0c1-2b3c-7def-8000-%012d","source":"cron://node-1.example.com/scheduler","seq":"%d",`+
		`"time":"2026-01-31T23:59:59.123456789Z","action":"run.finish","outcome":"failure","reason":{"code":"exit","text":"the command exited with status 1"},`+
		`"actor":{"type":"schedule","id":"nightly-backup","name":"Nightly backup","session_id":"c0ffee00"},`+
		`"origin":{"ip":"198.51.100.7","port":40122,"user_agent":"cron/3.0","host":"node-1.example.com","request_id":"req-%d"},`+
		`"target":[{"type":"job","id":"backup","name":"Backup of the database"}],`+
		`"job":{"id":"backup","name":"Backup of the database","schedule":"0 3 * * *","tz":"Europe/Zurich","run_id":"run-%d","trigger":"schedule","exit_code":1,"duration_ms":81234,"node":"node-1"},`+
		`"labels":{"team":"platform","env":"production"},"details":{"attempt":1,"output_tail":"pg_dump: error: connection to server failed"}}`, n, n, n, n)
}

// BenchmarkAdmit is step 1 alone: parse, check, stamp, seal.
func BenchmarkAdmit(b *testing.B) {
	raw := benchEvent(1)
	from := submitter("default")
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	cfg, err := Config{Dir: "unused"}.withDefaults()
	if err != nil {
		b.Fatal(err)
	}
	s := &Service{cfg: cfg, queue: make(chan *Pending, 1), budget: semaphore.NewWeighted(cfg.QueueBytes)}
	for b.Loop() {
		if _, err := s.Admit(b.Context(), from, Submission{Event: raw}); err != nil {
			b.Fatal(err)
		}
		(<-s.queue).sequenced()
	}
}

// BenchmarkEvents is the whole main path, from the event to its receipt, with so
// many submitters at once.
func BenchmarkEvents(b *testing.B) {
	for _, clients := range []int{1, 64, 800} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			s := newBenchLog(b)
			from := submitter("default")
			var n atomic.Uint64
			b.SetParallelism(max(1, clients/2))
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					p, err := s.Admit(context.Background(), from, Submission{Event: benchEvent(n.Add(1))})
					if err != nil {
						b.Error(err)
						return
					}
					if r := p.Wait(context.Background(), Integrated); r.Receipt == nil {
						b.Error(r.Err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// BenchmarkReceipt is step 4 for an entry that is no longer on the edge.
func BenchmarkReceipt(b *testing.B) {
	s := newBenchLog(b)
	from := submitter("default")
	var last *Pending
	for n := range uint64(20000) {
		p, err := s.Admit(b.Context(), from, Submission{Event: benchEvent(n)})
		if err != nil {
			b.Fatal(err)
		}
		last = p
	}
	last.Wait(b.Context(), Integrated)
	b.ReportAllocs()
	i := uint64(0)
	for b.Loop() {
		i = (i + 7919) % 10000
		if _, err := s.makeReceipt(b.Context(), i, s.published.Load(), nil); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAnchor is one step of the anchor, on a disk.
func BenchmarkAnchor(b *testing.B) {
	path := filepath.Join(b.TempDir(), "anchor")
	if err := createAnchor(path, "vkey", pubstore.Head{}); err != nil {
		b.Fatal(err)
	}
	a, err := openAnchor(vfs.Default, path, "vkey", false)
	if err != nil {
		b.Fatal(err)
	}
	defer a.Close()
	if _, err := a.Load(b.Context()); err != nil {
		b.Fatal(err)
	}
	var h pubstore.Head
	for b.Loop() {
		h.Size++
		if err := a.Move(b.Context(), h); err != nil {
			b.Fatal(err)
		}
	}
}
