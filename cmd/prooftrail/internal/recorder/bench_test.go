package recorder

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prooftrail/prooftrail/verifier/client"
	"github.com/prooftrail/prooftrail/verifier/event"
)

type noQueue struct{}

func (noQueue) Enqueue(context.Context, event.Event, client.Mode) (client.Enqueued, error) {
	return client.Enqueued{ID: "x"}, nil
}

// BenchmarkRecorder is what making an event costs, without connections and without a spool: of the running of a job, and of a
// change of it that takes two more requests.
func BenchmarkRecorder(b *testing.B) {
	job := `{"name":"nightly","schedule":"@daily","timezone":"Europe/Berlin","disabled":false,"executor":"shell","executor_config":{"command":"invoices"}}`
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, job)
	}))
	defer upstream.Close()
	for _, c := range []struct{ method, path string }{{"GET", "/v1/jobs"}, {"POST", "/v1/jobs/nightly/run"}, {"PUT", "/v1/jobs/nightly"}} {
		b.Run(c.method, func(b *testing.B) {
			p, err := New(config(b, upstream.URL, ready(b, "ready:dkron"), noQueue{}))
			if err != nil {
				b.Fatal(err)
			}
			defer p.Close()
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequest(c.method, c.path, strings.NewReader(job))
				r.Header.Set("Content-Type", "application/json")
				p.ServeHTTP(httptest.NewRecorder(), r)
			}
		})
	}
}
