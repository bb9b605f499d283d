//go:build !client

package main

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"time"
)

// checkProfile refuses an address that others can reach: profiles show what is in
// memory, and anybody who asks for one makes the server work.
func checkProfile(addr string) error {
	if addr == "" {
		return nil
	}
	ap, err := netip.ParseAddrPort(addr)
	if err != nil || !ap.Addr().IsLoopback() {
		return fmt.Errorf("profile: expected a loopback address and port, such as 127.0.0.1:6060, got %q", addr)
	}
	return nil
}

// serveProfiles serves net/http/pprof until the returned function is called.
func serveProfiles(addr string, logger *slog.Logger) (stop func() error, err error) {
	if addr == "" {
		return func() error { return nil }, nil
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index) // heap, goroutine and the like too
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	// A CPU profile takes as long as was asked for; net/http/pprof itself cuts it
	// at WriteTimeout.
	server := &http.Server{
		Handler: mux, ReadHeaderTimeout: 10 * time.Second, WriteTimeout: 10 * time.Minute,
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}
	go func() { _ = server.Serve(l) }() // ends with Close
	logger.Info("serving profiles", "url", "http://"+l.Addr().String()+"/debug/pprof/")
	return server.Close, nil
}
