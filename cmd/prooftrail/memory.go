//go:build !client

package main

import (
	"os"
	"runtime/debug"
)

// serveGCPercent lets the heap grow to five times what is in use before it is
// collected. Most of what a request allocates is gone with it, and the process needs
// little: collecting seldom is worth a tenth of the throughput under load.
const serveGCPercent = 400

// tuneMemory sets how memory is collected, unless GOGC or GOMEMLIMIT say so. What the
// limits allow to be in use at once is also where the collector stops being lazy.
func (l *LimitsConfig) tuneMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(serveGCPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(l.CacheBytes + l.QueueBytes + l.BodyMemory)
	}
}
