package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/deployment/porttest"
)

const proxyClients = 16

// BenchmarkProxy measures how many requests pass, with log, proxy, scheduler and load on the same cores: 16 clients that each send
// one request after the other, every one of which is recorded, and in turn the same without the proxy.
//
//	go test ./cmd/prooftrail -run '^$' -bench 'Proxy$' -benchtime 20000x
func BenchmarkProxy(b *testing.B) {
	for _, mode := range []string{"direct", "ignored", "best-effort", "required"} {
		b.Run(mode, func(b *testing.B) { benchmarkProxy(b, mode, 0) })
	}
}

// BenchmarkProxyPaced measures what the proxy adds to a request when 500 come in a second.
//
//	go test ./cmd/prooftrail -run '^$' -bench ProxyPaced -benchtime 4000x
func BenchmarkProxyPaced(b *testing.B) {
	for _, mode := range []string{"direct", "ignored", "best-effort", "required"} {
		b.Run(mode, func(b *testing.B) { benchmarkProxy(b, mode, 500) })
	}
}

// benchmarkProxy sends b.N requests to run a job, of which each answer is that of a scheduler, so many a second or as many as pass.
func benchmarkProxy(b *testing.B, mode string, rate int) {
	job := `{"name":"nightly","schedule":"@daily","timezone":"Europe/Berlin","disabled":false,"executor":"shell","executor_config":{"command":"invoices"}}`
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, job)
	}))
	defer upstream.Close()
	url, method := upstream.URL, http.MethodPost
	if mode != "direct" {
		flag := mode
		if mode == "ignored" {
			method, flag = http.MethodGet, "best-effort"
		}
		url = benchProxy(b, upstream.URL, flag)
	}
	took := make([]time.Duration, b.N)
	type due struct {
		i  int
		at time.Time
	}
	next := make(chan due, proxyClients)
	transport := &http.Transport{MaxIdleConnsPerHost: proxyClients}
	defer transport.CloseIdleConnections()
	var wg sync.WaitGroup
	b.ResetTimer()
	for range proxyClients {
		wg.Go(func() {
			for d := range next {
				if rate == 0 {
					d.at = time.Now() // the wait for a client isn't the proxy's
				}
				req, err := http.NewRequestWithContext(b.Context(), method, url+"/v1/jobs/nightly", strings.NewReader(`{"by":"bench"}`))
				if err != nil {
					b.Error(err)
					return
				}
				resp, err := transport.RoundTrip(req)
				if err != nil {
					b.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					b.Errorf("answered %s", resp.Status)
				}
				took[d.i] = time.Since(d.at)
			}
		})
	}
	began := time.Now()
	for i := range b.N {
		d := due{i, time.Now()}
		if rate > 0 {
			d.at = began.Add(time.Duration(i) * time.Second / time.Duration(rate))
			<-time.After(time.Until(d.at))
		}
		next <- d
	}
	close(next)
	wg.Wait()
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}

// benchProxy starts a log and a proxy, and returns the proxy's URL.
func benchProxy(b *testing.B, upstream, mode string) string {
	dir := b.TempDir()
	address, err := porttest.Address()
	if err != nil {
		b.Fatal(err)
	}
	log := filepath.Join(dir, "log")
	if out, err := exec.Command("prooftrail", "init", "--data", log, "--origin", "example.com/audit", "--source", "cron://").CombinedOutput(); err != nil {
		b.Fatalf("init: %v\n%s", err, out)
	}
	start := func(args ...string) string {
		cmd := exec.Command("prooftrail", args...)
		cmd.SysProcAttr = endsWithParent()
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			b.Fatal(err)
		}
		return strings.TrimSpace(line[strings.LastIndex(line, " on ")+4:])
	}
	start("serve", "--data", log, "--listen", address)
	if err := waitStatus(b.Context(), "http://"+address+"/readyz", "200"); err != nil {
		b.Fatal(err)
	}
	return start("proxy", "--upstream", upstream, "--rules", "ready:dkron", "--mode", mode, "--listen", "127.0.0.1:0", "--server", "http://"+address,
		"--token-file", filepath.Join(log, "tokens", "submit.token"), "--policy", filepath.Join(log, "policy.txt"), "--spool", filepath.Join(dir, "spool"), "--source", "cron://bench")
}
