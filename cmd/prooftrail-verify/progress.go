package main

import (
	"fmt"
	"io"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
)

// progress draws one line on a terminal; anywhere else it is silent.
type progress struct {
	w     io.Writer // nil: silent
	start time.Time
	first uint64 // Done when it began
	last  time.Time
}

func newProgress(e *env) *progress {
	p := &progress{start: time.Now()}
	if isTerminal(e.stderr) {
		p.w = e.stderr
	}
	return p
}

// update redraws at most five times a second.
func (p *progress) update(now verifier.Progress) {
	if p.w == nil {
		return
	}
	if p.last.IsZero() {
		p.first = now.Done
	} else if time.Since(p.last) < 200*time.Millisecond && now.Done < now.Size {
		return
	}
	p.last = time.Now()
	rate := float64(now.Done-min(p.first, now.Done)) / max(time.Since(p.start).Seconds(), 0.001)
	line := fmt.Sprintf("%d of %d entries, %.0f/s", now.Done, now.Size, rate)
	if now.Failures > 0 {
		line += fmt.Sprintf(", %d FAILED", now.Failures)
	}
	fmt.Fprintf(p.w, "\r\x1b[K%s", line)
}

// clear removes the line.
func (p *progress) clear() {
	if p.w != nil && !p.last.IsZero() {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
