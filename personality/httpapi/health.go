package httpapi

import (
	_ "embed"
	"net/http"

	"github.com/prooftrail/prooftrail/personality"
)

//go:embed openapi.json
var openAPIDocument []byte

// healthz says that the process answers, and nothing more.
func (a *API) healthz(x *exchange) error {
	x.w.Header()["Cache-Control"] = valueNoStore
	x.send(http.StatusOK, valueJSON, []byte(`{"status":"ok"}`))
	return nil
}

// readyz says whether work gets done; 503 with the reason where it doesn't.
func (a *API) readyz(x *exchange) error {
	r := a.cfg.Log.Ready(x.r.Context())
	if a.draining.Load() {
		r.Ready, r.Reason = false, personality.ErrClosing.Error()
	}
	status := http.StatusOK
	if !r.Ready {
		status = http.StatusServiceUnavailable
	}
	return x.sendJSON(status, r)
}

// metricsPage serves what the Gatherer has.
func (a *API) metricsPage(x *exchange) error {
	x.w.Header()["Cache-Control"] = valueNoStore
	a.pages.ServeHTTP((*recorder)(x), x.r)
	return nil
}

func (a *API) openAPI(x *exchange) error {
	x.w.Header()["Cache-Control"] = valueCacheHour
	x.send(http.StatusOK, valueJSON, openAPIDocument)
	return nil
}

// recorder is the exchange as an http.ResponseWriter, for handlers not our own.
type recorder exchange

func (w *recorder) Header() http.Header { return w.w.Header() }

func (w *recorder) WriteHeader(status int) {
	w.status = status
	w.w.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.w.Write(b)
	w.written += int64(n)
	return n, err
}
