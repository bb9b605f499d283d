package load

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/personality"
	"github.com/prooftrail/prooftrail/personality/httpapi"
	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/client"
)

// serveLog serves a real log, each submission going through spoil first. It
// returns the configuration of a load.
func serveLog(t *testing.T, spoil func(http.Handler) http.Handler) Config {
	t.Helper()
	ctx := context.Background()
	cfg := personality.Config{Dir: filepath.Join(t.TempDir(), "log")}
	made, err := personality.Create(ctx, personality.CreateConfig{Config: cfg, Origin: "example.com/audit"})
	if err != nil {
		t.Fatal(err)
	}
	svc, err := personality.Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	_, token, err := svc.AddToken(ctx, personality.OperatorCaller(), personality.TokenRequest{
		Name: "bench", Tenant: "default", Roles: []personality.Role{personality.RoleSubmit}, Sources: []string{""}})
	if err != nil {
		t.Fatal(err)
	}
	api, err := httpapi.New(httpapi.Config{Log: httpapi.Of(svc)})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(spoil(api))
	t.Cleanup(func() {
		srv.Close()
		if err := svc.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	b, err := os.ReadFile(made.PolicyFile)
	if err != nil {
		t.Fatal(err)
	}
	policy, err := verifier.ParsePolicy(b)
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		Client:  client.Config{URL: srv.URL, Token: token, Policy: policy, Timeout: 10 * time.Second},
		Clients: 2, Batch: 1, Duration: 200 * time.Millisecond,
		Sample: 1, Wait: "integrated", Source: "cron://bench", Seed: 1,
	}
}

func honest(h http.Handler) http.Handler { return h }

func TestClosedLoop(t *testing.T) {
	cfg := serveLog(t, honest)
	for _, batch := range []int{1, 50} {
		cfg.Batch, cfg.Seed = batch, cfg.Seed+1
		rep, err := Run(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if !rep.OK() || rep.Accepted == 0 || rep.Verified != rep.Accepted || rep.Accepted != rep.Requests*uint64(batch) ||
			rep.Heads == 0 || rep.ToReceipt.P50 <= 0 || rep.ToReceipt.Max < rep.ToReceipt.P99 {
			t.Errorf("batch %d: %+v", batch, rep)
		}
	}
	// The same seed again: those ids are taken.
	rep, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if rep.Conflict == 0 {
		t.Errorf("the same seed again: %+v", rep)
	}
}

// Every request of the open loop is sent, at its rate.
func TestOpenLoop(t *testing.T) {
	cfg := serveLog(t, honest)
	cfg.Rate, cfg.Clients, cfg.Duration = 200, 20, 500*time.Millisecond
	rep, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if !rep.OK() || rep.Accepted != 100 || rep.Verified != rep.Accepted {
		t.Errorf("%+v", rep)
	}
}

// One stall of the server shows in every request that it kept waiting, though
// only one was under way: no coordinated omission.
func TestStallIsSeen(t *testing.T) {
	const stall = 300 * time.Millisecond
	var requests atomic.Int64
	cfg := serveLog(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if requests.Add(1) == 5 {
				<-time.After(stall) // the fault that is tested
			}
			h.ServeHTTP(w, r)
		})
	})
	cfg.Clients, cfg.Rate, cfg.Duration = 1, 100, 600*time.Millisecond
	rep, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	// Some 30 of 60 requests were due during the stall.
	if rep.ToReceipt.P90 < 100 || rep.ToReceipt.Max < 300 {
		t.Errorf("a stall of %v reads as %+v", stall, rep.ToReceipt)
	}
}

// What goes wrong is counted by kind, and the report isn't OK.
func TestErrorsAreCounted(t *testing.T) {
	var requests atomic.Int64
	cfg := serveLog(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch n := requests.Add(1); {
			case r.Method != http.MethodPost || n == 1:
				h.ServeHTTP(w, r)
			case n%4 == 0:
				w.Header().Set("Content-Type", "application/problem+json")
				w.WriteHeader(http.StatusServiceUnavailable)
				_, _ = w.Write([]byte(`{"type":"/problems/busy","title":"busy","status":503}`))
			case n%4 == 1:
				panic(http.ErrAbortHandler)
			case n%4 == 2:
				_, _ = w.Write([]byte(`{"status":"accepted","index":3,"leaf_hash":"","receipt":"c2sp.org/tlog-proof@v1\n"}`))
			default:
				h.ServeHTTP(w, r)
			}
		})
	})
	rep, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if rep.OK() || rep.Errors["http 503"] == 0 || rep.Errors["network"] == 0 {
		t.Errorf("%+v", rep.Errors)
	}
	lies := uint64(0)
	for kind, n := range rep.Errors {
		if strings.HasPrefix(kind, "receipt: ") {
			lies += n
		}
	}
	if lies == 0 || rep.Verified+lies != rep.Accepted {
		t.Errorf("%d receipts were lies: %+v", lies, rep)
	}
	var out bytes.Buffer
	rep.Print(&out)
	if !strings.Contains(out.String(), "× http 503") {
		t.Errorf("report:\n%s", &out)
	}
}

// No place in a request is safe to lie in: the sample is drawn from all of them,
// also when it is as long as the request.
func TestEveryPlaceIsSampled(t *testing.T) {
	cfg := serveLog(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/x-ndjson" {
				h.ServeHTTP(w, r)
				return
			}
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, r)
			for i, line := range bytes.SplitAfter(rec.Body.Bytes(), []byte("\n")) {
				if i > 0 { // all but the first event's
					line = bytes.Replace(line, []byte(`index `), []byte(`index 1`), 1)
				}
				_, _ = w.Write(line)
			}
		})
	})
	cfg.Batch, cfg.Sample = 8, 8
	// A busy machine makes few requests, and their few samples may all be the first's.
	var rep *Report
	for cfg.Seed = 1; cfg.Seed <= 20; cfg.Seed++ {
		var err error
		if rep, err = Run(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		if !rep.OK() && len(rep.Errors) > 0 {
			return
		}
	}
	t.Errorf("7 of 8 receipts are garbage: %+v", rep)
}

// However rare the sample, one receipt is verified, and the report says that
// its latencies are the sample's.
func TestOneReceiptAtLeast(t *testing.T) {
	cfg := serveLog(t, honest)
	cfg.Sample = 1 << 40
	rep, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	rep.Print(&out)
	if !rep.OK() || rep.Verified != 1 || !strings.Contains(out.String(), "of the 1 sampled") {
		t.Errorf("%+v\n%s", rep, &out)
	}
}

// The time of an event holds its own check and not those of the others in its
// request.
func TestOthersAreNotTimed(t *testing.T) {
	cfg := serveLog(t, honest)
	cfg.Batch = 100
	c, err := client.New(cfg.Client)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	w, err := (&run{cfg: cfg, client: c}).newWorker(0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.conn.close()
	w.fill()
	_, answer, err := w.conn.post(t.Context(), w.body)
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	w.results(answer, 0)
	all := time.Since(begun)
	if median := w.verified.Quantile(0.5); w.counts.verified != 100 || median > all/4 {
		t.Errorf("%d verified in %v, the median in %v", w.counts.verified, all, median)
	}
}

// A server that can't keep up with the rate leaves requests unsent, which is
// no good measurement.
func TestUnsent(t *testing.T) {
	cfg := serveLog(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			<-time.After(grace / 4) // the fault that is tested
			h.ServeHTTP(w, r)
		})
	})
	cfg.Clients, cfg.Rate = 1, 100
	rep, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if rep.OK() || rep.Unsent == 0 || rep.Requests+rep.Unsent != 20 {
		t.Errorf("%v, %+v", rep.Wrong(), rep)
	}
}

// What a report says of itself decides whether it is OK.
func TestWrong(t *testing.T) {
	good := Report{Verified: 1}
	if !good.OK() {
		t.Errorf("%v", good.Wrong())
	}
	for _, bad := range []Report{{}, {Verified: 1, Unsent: 1}, {Verified: 1, Conflict: 1}, {Verified: 1, HeadsError: "no"}, {Verified: 1, Errors: map[string]uint64{"network": 1}}} {
		if bad.OK() {
			t.Errorf("OK: %+v", bad)
		}
	}
}

func TestRunRefuses(t *testing.T) {
	cfg := serveLog(t, honest)
	for name, change := range map[string]func(*Config){
		"clients": func(c *Config) { c.Clients = 0 }, "batch": func(c *Config) { c.Batch = 501 },
		"rate": func(c *Config) { c.Rate = -1 }, "sample": func(c *Config) { c.Sample = 0 },
		"duration": func(c *Config) { c.Duration = -time.Second }, "token": func(c *Config) { c.Client.Token = "pt_wrong" },
	} {
		c := cfg
		change(&c)
		if rep, err := Run(t.Context(), c); err == nil {
			t.Errorf("%s: %+v", name, rep)
		}
	}
}
