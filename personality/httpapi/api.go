package httpapi

import (
	"net/http"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// API is the http.Handler of a log. [Server] adds what belongs to connections.
type API struct {
	cfg      Config
	routes   []route
	metrics  *metrics
	pages    http.Handler // of /metrics
	tokens   *limiters    // nil: no limit
	doors    map[string]openDoor
	failures *limiters // failed authentications by address; nil: no limit

	bodyMemory atomic.Int64 // bytes of bodies under way, see Config.BodyMemory
	draining   atomic.Bool  // set when the server is being closed
}

// New makes the handler. It fails when the configuration is wrong or its
// metrics are registered already.
func New(cfg Config) (*API, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	a := &API{cfg: cfg, routes: compileRoutes()}
	if a.metrics, err = newMetrics(cfg.Registerer, a.routes); err != nil {
		return nil, err
	}
	if a.doors, err = openDoors(cfg.Doors); err != nil {
		return nil, err
	}
	a.pages = promhttp.HandlerFor(cfg.Gatherer, promhttp.HandlerOpts{})
	if cfg.EventsPerSecond > 0 {
		a.tokens = newLimiters(cfg.EventsPerSecond, cfg.BurstEvents)
	}
	if n := cfg.AuthFailuresPerMinute; n > 0 {
		a.failures = newLimiters(n/60, max(1, int(n)))
	}
	return a, nil
}
