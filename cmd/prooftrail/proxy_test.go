package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/cmd/internal/scripttest"
	"github.com/prooftrail/prooftrail/deployment/porttest"
	"github.com/prooftrail/prooftrail/verifier/client"
	"github.com/prooftrail/prooftrail/verifier/event"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

// proxyRun is a log, a scheduler, and proxies in front of it, each a process.
type proxyRun struct {
	*spoolRun
	dir      string
	upstream *httptest.Server
	url      string // of the proxy
	metrics  string
	args     []string // beside the usual ones
}

func newProxyRun(t *testing.T, scheduler http.HandlerFunc, args ...string) *proxyRun {
	t.Helper()
	r := &proxyRun{spoolRun: newSpoolRun(t), upstream: httptest.NewServer(scheduler), args: args}
	t.Cleanup(r.upstream.Close)
	r.dir = filepath.Dir(r.killRun.dir)
	metrics, err := porttest.Address()
	if err != nil {
		t.Fatal(err)
	}
	r.metrics = metrics
	if err := os.WriteFile(filepath.Join(r.dir, "submit.token"), []byte(r.tokens["submit"]), 0o600); err != nil {
		t.Fatal(err)
	}
	return r
}

// proxy starts a proxy and waits until it serves.
func (r *proxyRun) proxy() *server {
	r.t.Helper()
	cmd := exec.Command("prooftrail", append([]string{"proxy", "--upstream", r.upstream.URL, "--rules", "ready:dkron", "--listen", "127.0.0.1:0", "--metrics", r.metrics,
		"--server", r.spoolRun.url, "--token-file", filepath.Join(r.dir, "submit.token"), "--policy", filepath.Join(r.killRun.dir, "policy.txt"),
		"--spool", r.spool, "--source", spoolSource}, r.args...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	s := r.run(cmd)
	line, err := bufio.NewReader(out).ReadString('\n')
	at := strings.LastIndex(line, " on http://")
	if err != nil || at < 0 {
		r.t.Fatalf("the proxy said %q %v\n%s", line, err, s.stderr)
	}
	r.url = strings.TrimSpace(line[at+4:])
	return s
}

// do sends a request through the proxy; 0 if there was no answer.
func (r *proxyRun) do(ctx context.Context, method, path, body string) int {
	r.t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, r.url+path, strings.NewReader(body))
	if err != nil {
		r.t.Error(err)
		return 0
	}
	req.Close = true
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// metric is a figure of the proxy's.
func (r *proxyRun) metric(name string) float64 {
	r.t.Helper()
	_, body, err := scripttest.Get(r.t.Context(), "http://"+r.metrics+"/metrics")
	if err != nil {
		r.t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`).FindSubmatch(body)
	if m == nil {
		r.t.Fatalf("no metric %s in\n%s", name, body)
	}
	v, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		r.t.Fatal(err)
	}
	return v
}

// wait polls until a figure of the proxy's is as it is wanted.
func (r *proxyRun) wait(name string, want func(float64) bool) {
	r.t.Helper()
	for !want(r.metric(name)) {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-r.t.Context().Done():
			r.t.Fatalf("%s is %v", name, r.metric(name))
		}
	}
}

// logged are the events of the scheduler's source in the log, in order, accounts aside.
func (r *proxyRun) logged() (events []event.Fields) {
	r.t.Helper()
	c, err := client.New(client.Config{URL: r.spoolRun.url, Token: r.tokens["read"], Policy: r.policy})
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	_, cp, _, err := c.Checkpoint(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	for next := uint64(0); next < cp.Size; {
		err := c.Openings(r.t.Context(), next, int(cp.Size-next), func(line client.OpeningLine) error {
			next = line.Index + 1
			o, err := seal.ParseOpening(line.Opening)
			if err == nil && o.Event().Text("/source") == spoolSource && !strings.HasPrefix(o.Event().Text("/action"), "audit.") {
				events = append(events, o.Event())
			}
			return err
		})
		if err != nil {
			r.t.Fatal(err)
		}
	}
	return events
}

// TestProxyKill kills a proxy while a required request is under way: the attempt is in the log, for without it the scheduler would
// have seen nothing; and what came of it isn't.
func TestProxyKill(t *testing.T) {
	came, done := make(chan struct{}, 8), make(chan struct{})
	r := newProxyRun(t, func(_ http.ResponseWriter, req *http.Request) {
		if req.Method == http.MethodPost {
			came <- struct{}{}
			<-done
		}
	}, "--mode", "required")
	defer close(done)
	r.start()
	p := r.proxy()
	const n = 4
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if status := r.do(context.Background(), "POST", fmt.Sprintf("/v1/jobs/j%d/run", i), ""); status != 0 {
				t.Errorf("answered %d", status)
			}
		})
	}
	for range n {
		<-came
	}
	p.end(t, syscall.SIGKILL)
	wg.Wait()
	events := r.logged()
	if len(events) != n {
		t.Fatalf("%d events, expected %d", len(events), n)
	}
	for _, e := range events {
		if e.Text("/action") != "run.start" || e.Text("/outcome") != "attempt" {
			t.Errorf("%s", e.JSON())
		}
	}
	r.proxy() // it goes on with the spool, and nothing more comes of them
	r.wait("prooftrail_proxy_spool_events", func(v float64) bool { return v == 0 })
	if got := r.logged(); len(got) != n {
		t.Errorf("%d events after the restart", len(got))
	}
}

// TestProxyLogDown: while the log is down, best effort goes on and required is refused; when it is back, the log has all of it.
func TestProxyLogDown(t *testing.T) {
	var seen atomic.Int64
	r := newProxyRun(t, func(w http.ResponseWriter, _ *http.Request) { seen.Add(1); fmt.Fprint(w, "{}") }, "--required-wait", "200ms")
	rules := filepath.Join(r.dir, "rules.yaml")
	text := "version: 1\nbase: ready:dkron\nrules:\n  - {name: job-delete, method: [DELETE], path: \"/v1/jobs/{job}\", mode: required, action: job.delete, target: {type: job, id: \"path:job\"}}\n"
	if err := os.WriteFile(rules, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r.args = append(r.args, "--rules", rules)
	p := r.proxy()
	for range 3 {
		if status := r.do(t.Context(), "POST", "/v1/jobs/a/run", ""); status != 200 {
			t.Errorf("best effort is answered %d", status)
		}
	}
	r.wait(`prooftrail_proxy_events_total{mode="best-effort"}`, func(v float64) bool { return v == 3 }) // each is taken after its answer
	if status := r.do(t.Context(), "DELETE", "/v1/jobs/a", ""); status != 503 || seen.Load() != 3 {
		t.Errorf("required is answered %d; the scheduler saw %d", status, seen.Load())
	}
	if status, _, err := scripttest.Get(t.Context(), "http://"+r.metrics+"/readyz"); err != nil || status != "503" {
		t.Errorf("/readyz says %s %v", status, err)
	}
	r.start()
	r.wait("prooftrail_proxy_spool_events", func(v float64) bool { return v == 0 })
	if status := r.do(t.Context(), "DELETE", "/v1/jobs/a", ""); status != 200 {
		t.Errorf("required is answered %d with the log there", status)
	}
	if status, _, err := scripttest.Get(t.Context(), "http://"+r.metrics+"/readyz"); err != nil || status != "200" {
		t.Errorf("/readyz says %s %v", status, err)
	}
	p.end(t, syscall.SIGTERM)
	r.proxy()
	r.wait("prooftrail_proxy_spool_events", func(v float64) bool { return v == 0 })
	var got []string
	for _, e := range r.logged() {
		got = append(got, e.Text("/action")+" "+e.Text("/outcome"))
	}
	// The attempt that was refused got into the log later: it says what was asked for, and what follows that it wasn't done.
	want := "run.start success, run.start success, run.start success, job.delete attempt, job.delete denied, job.delete attempt, job.delete success"
	if s := strings.Join(got, ", "); s != want {
		t.Errorf("the log has %s, expected %s", s, want)
	}
}

// TestProxySpoolFull: a full spool is counted in best effort, and refuses what is required.
func TestProxySpoolFull(t *testing.T) {
	var seen atomic.Int64
	r := newProxyRun(t, func(w http.ResponseWriter, _ *http.Request) { seen.Add(1); fmt.Fprint(w, "{}") }, "--spool-bytes", "65536", "--required-wait", "200ms")
	p := r.proxy()
	sent := int64(0)
	for r.metric("prooftrail_proxy_lost_total") < 5 {
		if status := r.do(t.Context(), "POST", "/v1/jobs/a/run", ""); status != 200 {
			t.Fatalf("answered %d", status)
		}
		if sent++; sent > 2000 {
			t.Fatal("the spool isn't full")
		}
	}
	if seen.Load() != sent {
		t.Errorf("the scheduler saw %d of %d", seen.Load(), sent)
	}
	lost := r.metric("prooftrail_proxy_lost_total")
	p.end(t, syscall.SIGTERM)
	r.args = append(r.args, "--mode", "required")
	p = r.proxy()
	if status := r.do(t.Context(), "POST", "/v1/jobs/a/run", ""); status != 503 || seen.Load() != sent {
		t.Errorf("required is answered %d", status)
	}
	s := r.start()
	r.wait("prooftrail_proxy_spool_events", func(v float64) bool { return v == 0 })
	p.end(t, syscall.SIGTERM)
	q := r.queue(t, nil) // says what was dropped, if that wasn't said yet
	if err := q.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if report, _ := r.audit(s); report.Suspicious() || float64(report.Dropped) < lost || report.Missing != report.Dropped {
		t.Errorf("%v were lost; the audit says %+v", lost, report)
	}
}
