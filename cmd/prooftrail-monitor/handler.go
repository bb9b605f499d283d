package main

import (
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"github.com/prooftrail/prooftrail/verifier/monitor/alarm"
)

// routes are what requests are counted by.
var routes = []string{"page", "health", "gossip", "distributor", "mirror", "add-checkpoint", "checkpoint", "other"}

// routeOf is one of routes.
func routeOf(path string) string {
	first, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	switch {
	case path == "/":
		return "page"
	case path == "/healthz" || path == "/readyz":
		return "health"
	case first == "gossip" || first == "distributor" || first == "mirror":
		return first
	case path == "/add-checkpoint":
		return "add-checkpoint"
	case len(first) == 64 && rest == "checkpoint":
		return "checkpoint"
	}
	return "other"
}

// public is what is served to everybody.
func (s *server) public() http.Handler {
	monitor := s.monitor.Handler()
	cosign, cosigned := http.NotFoundHandler(), http.NotFoundHandler()
	if s.witness != nil {
		h := s.witness.Handler()
		cosign, cosigned = s.monitor.Limit(s.countCosigning(h)), s.monitor.Limit(h)
	}
	show := http.NotFoundHandler()
	if s.settings.Page {
		show = s.monitor.Limit(onlyGet(servePage(func(r *http.Request) view { return s.view(r.Context()).public() }, s.logger)))
	}
	health := http.NewServeMux()
	health.HandleFunc("GET /healthz", serveHealth)
	health.Handle("GET /readyz", s.ready)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch routeOf(r.URL.Path) {
		case "page":
			show.ServeHTTP(w, r)
		case "health":
			health.ServeHTTP(w, r)
		case "gossip", "distributor", "mirror":
			monitor.ServeHTTP(w, r)
		case "add-checkpoint":
			cosign.ServeHTTP(w, r)
		case "checkpoint":
			cosigned.ServeHTTP(w, r)
		default:
			http.NotFound(w, r)
		}
	})
	return behind(s.settings.TrustedProxies, s.count(h))
}

func onlyGet(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "expected GET", http.StatusMethodNotAllowed)
			return
		}
		h.ServeHTTP(w, r)
	})
}

func serveHealth(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = fmt.Fprintln(w, "alive")
}

// statusWriter remembers the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// count counts requests, by route and class.
func (s *server) count(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sw := &statusWriter{ResponseWriter: w}
		defer func() {
			class := "none"
			if sw.status != 0 {
				class = fmt.Sprintf("%dxx", sw.status/100)
			}
			s.metrics.requests.WithLabelValues(routeOf(r.URL.Path), class).Inc()
			if s.logger.Enabled(r.Context(), slog.LevelDebug) {
				s.logger.DebugContext(r.Context(), "request", "method", r.Method, "path", r.URL.Path, "status", sw.status, "remote", r.RemoteAddr)
			}
		}()
		h.ServeHTTP(sw, r)
	})
}

// What comes of a call of add-checkpoint.
var cosignResults = []string{"cosigned", "old-size", "inconsistent", "not-signed", "unknown-log", "malformed", "failed"}

func cosignResult(status int) string {
	switch status {
	case http.StatusOK, 0:
		return "cosigned"
	case http.StatusConflict:
		return "old-size"
	case http.StatusUnprocessableEntity:
		return "inconsistent"
	case http.StatusForbidden:
		return "not-signed"
	case http.StatusNotFound:
		return "unknown-log"
	}
	if status >= http.StatusInternalServerError {
		return "failed"
	}
	return "malformed"
}

// countCosigning counts what comes of add-checkpoint. A witness that can't do what it was asked for
// is an alarm until it can.
func (s *server) countCosigning(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sw := &statusWriter{ResponseWriter: w}
		h.ServeHTTP(sw, r)
		result := cosignResult(sw.status)
		s.metrics.cosign.WithLabelValues(result).Inc()
		switch {
		case result == "cosigned":
			s.board.Clear(witnessFailing, "", "")
		case sw.status == http.StatusInternalServerError:
			s.board.Raise(alarm.Alarm{Name: witnessFailing, Severity: alarm.Critical, Summary: "the witness could not cosign a head: its log has the reason"})
		}
	})
}
