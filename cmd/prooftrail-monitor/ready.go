package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prooftrail/prooftrail/verifier/monitor"
	"github.com/prooftrail/prooftrail/verifier/monitor/store"
)

// probeOrigin is the log under which the probe writes. No log has it: an origin has no space.
const probeOrigin = "prooftrail-monitor probe"

// readiness is about work: whether each log was looked at lately, and whether the book can be
// written. A log that doesn't answer makes an alarm, not a monitor that isn't ready.
type readiness struct {
	monitor *monitor.Monitor
	book    *store.Book
	lag     time.Duration

	mu       sync.Mutex
	draining bool
	probed   time.Time // when the book was written last
	err      error     // why it couldn't be
}

// probe writes to the book each interval until ctx ends. If that fails, as on a full disk, the book is
// opened again: without that it would stay closed when there is room.
func (r *readiness) probe(ctx context.Context, interval time.Duration) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		r.once(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (r *readiness) once(ctx context.Context) {
	err := r.write(ctx)
	if err != nil && ctx.Err() == nil {
		if err = r.book.Reopen(); err == nil {
			err = r.write(ctx)
		}
	}
	if ctx.Err() != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err = err; err == nil {
		r.probed = time.Now()
	}
}

func (r *readiness) write(ctx context.Context) error {
	return r.book.PutState(ctx, probeOrigin, []byte(time.Now().UTC().Format(time.RFC3339)))
}

// drain makes it say no: the process is about to end.
func (r *readiness) drain() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.draining = true
}

// reasons are why it isn't ready, none if it is.
func (r *readiness) reasons(s monitor.Status) (why []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.draining {
		why = append(why, "it is shutting down")
	}
	if r.err != nil {
		why = append(why, "the book can't be written")
	} else if time.Since(r.probed) > r.lag {
		why = append(why, "the book hasn't been written lately")
	}
	for _, l := range s.Logs {
		switch {
		case l.BookErr != nil:
			why = append(why, fmt.Sprintf("what is seen of %s can't be written down", l.Origin))
		case l.LookedAt.IsZero():
			why = append(why, fmt.Sprintf("%s hasn't been looked at yet", l.Origin))
		case time.Since(l.LookedAt) > r.lag:
			why = append(why, fmt.Sprintf("%s hasn't been looked at since %s", l.Origin, l.LookedAt.UTC().Format(time.RFC3339)))
		}
	}
	return why
}

// ServeHTTP answers /readyz: 200, or 503 with the reasons, one a line.
func (r *readiness) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	why := r.reasons(r.monitor.Status())
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if len(why) > 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = fmt.Fprintln(w, strings.Join(why, "\n"))
		return
	}
	_, _ = fmt.Fprintln(w, "ready")
}
