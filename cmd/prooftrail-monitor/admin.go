package main

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/prooftrail/prooftrail/verifier/monitor/alarm"
)

// maxAckBytes bounds the body of an acknowledgement.
const maxAckBytes = 4 << 10

// acknowledgement is the body of POST /v1/alarms/{id}/ack.
type acknowledgement struct {
	By   string `json:"by"`
	Note string `json:"note"`
}

// admin is what is served to the operator, on loopback:
//
//	GET  /                      the whole status page
//	GET  /v1/status             the same as JSON
//	POST /v1/alarms/{id}/ack    {"by": …, "note": …}
//	GET  /metrics
//	GET  /gossip/v1/evidence/…  the links of the page
//
// A browser on this machine may be led here by a foreign page: another site's requests are refused, and
// so is every name but this machine's own, for a name can be made to lead here.
func (s *server) admin() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", servePage(func(r *http.Request) view { return s.view(r.Context()) }, s.logger))
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, r *http.Request) { writeJSON(w, s.view(r.Context())) })
	mux.HandleFunc("POST /v1/alarms/{id}/ack", s.serveAck)
	mux.Handle("GET /metrics", metricsHandler(s.metrics.registry))
	mux.Handle("GET /gossip/", s.monitor.Handler())
	mux.Handle("GET /mirror/", s.monitor.Handler())
	own := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !ownName(r.Host) {
			http.Error(w, "expected the address of this machine as the host", http.StatusMisdirectedRequest)
			return
		}
		mux.ServeHTTP(w, r)
	})
	return http.NewCrossOriginProtection().Handler(own)
}

// ownName reports whether a Host is localhost or a loopback address.
func ownName(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// onlyMetrics is what the listener of metrics serves.
func (s *server) onlyMetrics() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metricsHandler(s.metrics.registry))
	return mux
}

func metricsHandler(r *prometheus.Registry) http.Handler {
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
}

func writeJSON(w http.ResponseWriter, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(append(b, '\n')) // a client that is gone asks again
}

func (s *server) serveAck(w http.ResponseWriter, r *http.Request) {
	var a acknowledgement
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxAckBytes))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&a); err != nil || a.By == "" {
		http.Error(w, `expected {"by": "…", "note": "…"}, by whom at least`, http.StatusBadRequest)
		return
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		http.Error(w, "expected one JSON object", http.StatusBadRequest)
		return
	}
	err := s.board.Acknowledge(r.PathValue("id"), a.By, a.Note)
	switch {
	case errors.Is(err, alarm.ErrUnknown):
		http.Error(w, "no alarm of this id is active", http.StatusNotFound)
	case err != nil:
		http.Error(w, "acknowledged, but a restart may forget it: "+err.Error(), http.StatusInternalServerError)
	default:
		writeJSON(w, struct {
			ID string `json:"id"`
		}{r.PathValue("id")})
	}
}
