package httpapi

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// discard is a ResponseWriter that keeps nothing but the status.
type discard struct {
	h      http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.h }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(status int)      { d.status = status }

// BenchmarkHandler is this package's part alone: the log answers at once.
func BenchmarkHandler(b *testing.B) {
	f := newFakeLog(b)
	a, err := New(Config{Log: &instantLog{Log: f}, EventsPerSecond: -1})
	if err != nil {
		b.Fatal(err)
	}
	for _, n := range []int{1, 100} {
		body := batchOf(n, "x", 0)
		b.Run(fmt.Sprintf("events=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r := &http.Request{Method: "POST", URL: eventsURL, RemoteAddr: "127.0.0.1:1", ContentLength: int64(len(body)),
					Header: http.Header{"Authorization": {"Bearer " + fakeSecret}, "Content-Type": {jsonType}}, Body: io.NopCloser(bytes.NewReader(body))}
				w := &discard{h: http.Header{}}
				if a.ServeHTTP(w, r); w.status/100 != 2 {
					b.Fatal(w.status)
				}
			}
		})
	}
}

// BenchmarkSubmit posts to a real log through loopback connections, and reads
// whole answers; events/s is what counts.
func BenchmarkSubmit(b *testing.B) {
	for _, clients := range []int{1, 32} {
		for _, n := range []int{1, 100} {
			b.Run(fmt.Sprintf("clients=%d/events=%d", clients, n), func(b *testing.B) {
				h := withReal(b, func(c *Config) { c.EventsPerSecond = -1 })
				var next atomic.Int64
				b.SetParallelism((clients + 1) / 2)
				b.ReportAllocs()
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) {
					c, err := net.Dial("tcp", h.addr)
					if err != nil {
						b.Error(err)
						return
					}
					defer c.Close()
					in := bufio.NewReader(c)
					for pb.Next() {
						body := batchOf(n, "bench", next.Add(int64(n)))
						fmt.Fprintf(c, "POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s",
							h.real.tokens["submit"], jsonType, len(body), body)
						resp, err := http.ReadResponse(in, nil)
						if err != nil || resp.StatusCode/100 != 2 {
							b.Error(err, resp)
							return
						}
						if _, err := io.Copy(io.Discard, resp.Body); err != nil {
							b.Error(err)
							return
						}
					}
				})
				b.ReportMetric(float64(b.N)*float64(n)/b.Elapsed().Seconds(), "events/s")
			})
		}
	}
}

func batchOf(n int, prefix string, from int64) []byte {
	if n == 1 {
		return []byte(sample(fmt.Sprintf("%s-%d", prefix, from), "x"))
	}
	var all []string
	for i := range n {
		all = append(all, sample(fmt.Sprintf("%s-%d", prefix, from+int64(i)), "x"))
	}
	return []byte(`{"events":[` + strings.Join(all, ",") + `]}`)
}
