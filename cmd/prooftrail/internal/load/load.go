package load

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prooftrail/prooftrail/verifier/client"
)

// Config says what load to make.
type Config struct {
	// Client says which server, with which token and policy. Its HTTPClient is
	// for the first event and for the proofs of consistency.
	Client client.Config
	// RootCAs are the certificate authorities to trust; nil: the system's.
	RootCAs *x509.CertPool

	Clients  int           // workers, each with one connection
	Batch    int           // events a request, 1 to 500
	Duration time.Duration // of sending; answers under way are waited for
	Rate     float64       // events a second of all workers together; 0: closed loop
	Sample   int           // one receipt in so many, drawn at random, is verified in full; 1: each one
	Wait     string        // integrated or witnessed
	Source   string        // of the events
	Seed     uint64        // of the events; the same one again gives the same ids, and so conflicts
}

func (cfg *Config) check() error {
	switch {
	case cfg.Clients < 1 || cfg.Clients > 10_000:
		return errors.New("clients: expected 1 to 10000")
	case cfg.Batch < 1 || cfg.Batch > client.MaxBatchEvents:
		return fmt.Errorf("batch: expected 1 to %d", client.MaxBatchEvents)
	case cfg.Rate < 0 || math.IsNaN(cfg.Rate) || math.IsInf(cfg.Rate, 0):
		return errors.New("rate: expected events a second, or 0 for as fast as answered")
	case cfg.Sample < 1:
		return errors.New("sample: expected 1 or more")
	case cfg.Client.Policy == nil:
		return errors.New("policy: receipts can't be verified without one")
	case cfg.Duration <= 0:
		return errors.New("duration: expected more than 0")
	}
	return nil
}

// grace is how long after Duration requests of the open loop that were due
// within it are still sent: one that came due at the very end, or a short queue,
// is measured, not left out. What is unsent even then is a rate not kept up.
const grace = time.Second

// run is one run of the load: what the workers share.
type run struct {
	cfg     Config
	client  *client.Client // shares its checker with the workers
	start   time.Time
	due     atomic.Uint64 // the next request in the open loop
	batches uint64        // how many there are, in the open loop
	begun   atomic.Bool   // the first receipt has come
}

// Run makes the load and reports. The error is for what made it pointless;
// failures of the server are in the report.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	c, err := client.New(cfg.Client)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	// One event ahead of all shows a wrong token or policy at once.
	probe := NewGenerator(cfg.Source+"/probe", rand.Uint64(), time.Now)
	if _, err := c.Submit(ctx, probe.Append(nil)); err != nil {
		return nil, fmt.Errorf("first event: %w", err)
	}
	r := &run{cfg: cfg, client: c}
	workers := make([]*worker, cfg.Clients)
	for i := range workers {
		if workers[i], err = r.newWorker(i); err != nil {
			return nil, err
		}
	}
	r.batches = uint64(math.Ceil(cfg.Rate * cfg.Duration.Seconds() / float64(cfg.Batch)))
	length := cfg.Duration
	if cfg.Rate > 0 {
		length += grace
	}
	sending, stop := context.WithTimeout(ctx, length)
	defer stop()
	r.start = time.Now()
	var wg sync.WaitGroup
	for _, w := range workers {
		wg.Go(func() { w.work(sending, ctx) })
	}
	wg.Wait()
	return r.report(ctx, workers, time.Since(r.start)), nil
}

// dueAt waits for the start of the next request of the open loop. ok is false
// when there is none any more.
func (r *run) dueAt(sending context.Context) (at time.Time, ok bool) {
	k := r.due.Add(1) - 1
	if k >= r.batches {
		return at, false
	}
	offset := time.Duration(float64(k) * float64(r.cfg.Batch) / r.cfg.Rate * float64(time.Second))
	at = r.start.Add(offset)
	if wait := time.Until(at); wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-t.C:
		case <-sending.Done():
		}
	}
	return at, sending.Err() == nil
}
