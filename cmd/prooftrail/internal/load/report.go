package load

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"
)

// Report is what a run found. Durations are in milliseconds.
type Report struct {
	Mode    string  `json:"mode"` // "open loop" (a rate was given) or "closed loop"
	Clients int     `json:"clients"`
	Batch   int     `json:"batch"`
	Rate    float64 `json:"rate,omitempty"` // events a second asked for
	Sample  int     `json:"sample"`
	Wait    string  `json:"wait"`
	Seed    uint64  `json:"seed"`
	Seconds float64 `json:"seconds"` // from the first request to the last answer

	Requests   uint64 `json:"requests"`
	Unsent     uint64 `json:"unsent,omitempty"` // requests due but never sent, for all clients were waiting
	Accepted   uint64 `json:"accepted"`         // events, as all below
	Duplicate  uint64 `json:"duplicate"`
	Conflict   uint64 `json:"conflict"`
	Rejected   uint64 `json:"rejected"`
	Unanswered uint64 `json:"unanswered"`
	Verified   uint64 `json:"verified"` // receipts checked in full, and good

	AcceptedPerSecond float64           `json:"accepted_per_second"`
	ToReceipt         Latency           `json:"to_verified_receipt_ms"` // of the verified ones
	ToAnswer          Latency           `json:"to_answer_ms"`           // of all requests
	BytesSent         uint64            `json:"bytes_sent"`             // of bodies
	BytesReceived     uint64            `json:"bytes_received"`
	Errors            map[string]uint64 `json:"errors"`                  // by kind
	Heads             int               `json:"heads"`                   // tree heads seen that are proven to be of one history
	HeadSize          uint64            `json:"head_size"`               // the newest of them
	HeadsDropped      uint64            `json:"heads_dropped,omitempty"` // seen, but more than were remembered: nothing was proven of these
	HeadsError        string            `json:"heads_error,omitempty"`
}

// Latency holds quantiles in milliseconds, at most 0.8 % too high, and the
// maximum, of what was measured: of a sample, the longest time in the sample.
type Latency struct {
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

func latency(h *Histogram) Latency {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return Latency{ms(h.Quantile(0.5)), ms(h.Quantile(0.9)), ms(h.Quantile(0.99)), ms(h.Max())}
}

// OK reports whether every request was sent, every event was answered with a
// receipt, those verified are good, and the heads are of one history.
func (r *Report) OK() bool { return len(r.Wrong()) == 0 }

// Wrong says, for people, what keeps the report from being OK.
func (r *Report) Wrong() (wrong []string) {
	for _, w := range []struct {
		is   bool
		text string
	}{
		{len(r.Errors) > 0 || r.Conflict+r.Rejected+r.Unanswered > 0, "there were errors"},
		{r.Unsent > 0, "requests were left unsent"},
		{r.Verified == 0, "nothing was verified"},
		{r.HeadsError != "", "the heads aren't proven to be of one history"},
	} {
		if w.is {
			wrong = append(wrong, w.text)
		}
	}
	return wrong
}

func (r *run) report(ctx context.Context, workers []*worker, took time.Duration) *Report {
	cfg := r.cfg
	rep := &Report{
		Mode: "closed loop", Clients: cfg.Clients, Batch: cfg.Batch, Rate: cfg.Rate, Sample: cfg.Sample,
		Wait: cfg.Wait, Seed: cfg.Seed, Seconds: took.Seconds(), Errors: map[string]uint64{},
	}
	var verified, answered Histogram
	for _, w := range workers {
		rep.add(&w.counts)
		verified.Merge(&w.verified)
		answered.Merge(&w.answered)
	}
	if cfg.Rate > 0 {
		rep.Mode = "open loop"
		// An interrupted run ends before all of them are due.
		due := min(r.batches, uint64(took.Seconds()*cfg.Rate/float64(cfg.Batch))+1)
		rep.Unsent = due - min(rep.Requests, due)
	}
	rep.AcceptedPerSecond = float64(rep.Accepted) / rep.Seconds
	rep.ToReceipt, rep.ToAnswer = latency(&verified), latency(&answered)
	if heads, err := r.client.CheckHeads(ctx); err != nil {
		rep.HeadsError = err.Error()
	} else {
		rep.Heads, rep.HeadSize, rep.HeadsDropped = heads.Proven, heads.Newest.Size, heads.Dropped
	}
	return rep
}

func (r *Report) add(c *counts) {
	r.Requests += c.requests
	r.Accepted += c.accepted
	r.Duplicate += c.duplicate
	r.Conflict += c.conflict
	r.Rejected += c.rejected
	r.Unanswered += c.unanswered
	r.Verified += c.verified
	r.BytesSent += c.sent
	r.BytesReceived += c.received
	for kind, n := range c.errors {
		r.Errors[kind] += n
	}
}

// Print writes the report for people.
func (r *Report) Print(w io.Writer) {
	fmt.Fprintf(w, "%s, %d clients, %d events a request", r.Mode, r.Clients, r.Batch)
	if r.Rate > 0 {
		fmt.Fprintf(w, ", %.0f events/s asked for", r.Rate)
	}
	fmt.Fprintf(w, "; %.1f s, seed %d\n", r.Seconds, r.Seed)
	fmt.Fprintf(w, "accepted      %d events, %.0f/s (%.1f MB sent, %.1f MB received)\n",
		r.Accepted, r.AcceptedPerSecond, float64(r.BytesSent)/1e6, float64(r.BytesReceived)/1e6)
	fmt.Fprintf(w, "verified      %d receipts in full (one in %d, at random)\n", r.Verified, r.Sample)
	of := ""
	if r.Sample > 1 {
		of = fmt.Sprintf("  of the %d sampled", r.Verified)
	}
	r.ToReceipt.print(w, "to a verified receipt", of)
	r.ToAnswer.print(w, "to the answer        ", "")
	if r.Duplicate+r.Conflict+r.Rejected+r.Unanswered > 0 {
		fmt.Fprintf(w, "not accepted  %d duplicate, %d conflict, %d rejected, %d unanswered\n", r.Duplicate, r.Conflict, r.Rejected, r.Unanswered)
	}
	if r.Unsent > 0 {
		fmt.Fprintf(w, "UNSENT        %d requests were due but never sent, all clients were waiting: the latencies are too low\n", r.Unsent)
	}
	for _, kind := range slices.Sorted(maps.Keys(r.Errors)) {
		fmt.Fprintf(w, "error         %d × %s\n", r.Errors[kind], kind)
	}
	if r.HeadsError != "" {
		fmt.Fprintf(w, "heads         %s\n", r.HeadsError)
	} else {
		fmt.Fprintf(w, "heads         %d proven to be of one history, the newest of size %d\n", r.Heads, r.HeadSize)
	}
	if r.HeadsDropped > 0 {
		fmt.Fprintf(w, "heads         %d more were seen than remembered; nothing is proven of these\n", r.HeadsDropped)
	}
}

func (l Latency) print(w io.Writer, what, of string) {
	fmt.Fprintf(w, "%s  p50 %.2f ms  p90 %.2f ms  p99 %.2f ms  max %.2f ms%s\n", what, l.P50, l.P90, l.P99, l.Max, of)
}
