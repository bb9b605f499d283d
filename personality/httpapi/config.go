package httpapi

import (
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Limits of a request that are part of the contract (design §4, §8), not of the
// configuration.
const (
	// MaxEvents is the number of events of one request.
	MaxEvents = 500
	// MaxBodyBytes is the size of the body of one request.
	MaxBodyBytes = 8 << 20
	// MaxIngestBytes is the size of a delivery in another system's form, before and after
	// its gzip coding is undone. It has at most ingest.MaxItems items.
	MaxIngestBytes = 16 << 20
	// MaxOpenings is the number of openings of one request.
	MaxOpenings = 10_000
)

// Config is how the HTTP side behaves. The zero value of every field but Log
// has a meaning, given with it.
type Config struct {
	// Log is what is served. Required.
	Log Log
	// Doors take deliveries without a token. The log has an adapter of the name of each. Default: none.
	Doors []Door
	// Logger gets internal errors and panics, with the id of the request.
	// Default: nothing is logged.
	Logger *slog.Logger
	// AccessLog gets one line a request, at level Info: no credential, no query
	// string, no body. It costs a few microseconds a request. Default: none.
	AccessLog *slog.Logger
	// Registerer gets the metrics of this package. Default: none are kept.
	Registerer prometheus.Registerer
	// Gatherer is what /metrics shows. Default: nothing, the page is empty.
	Gatherer prometheus.Gatherer

	// EventsPerSecond is the steady rate of one token: each submitted event
	// counts one, each other request one. Past it: 429. Default 50,000; negative
	// for no limit.
	EventsPerSecond float64
	// BurstEvents is how far a token may run ahead of its rate. At least
	// MaxEvents, or a full batch could never pass. Default: the greater of
	// MaxEvents and EventsPerSecond.
	BurstEvents int
	// AuthFailuresPerMinute is how many requests without a valid token one
	// address (an IPv6 /64) may make before it is answered 429 instead of 401; the
	// burst is the same number. Requests with a valid token always pass: a
	// neighbour behind one address can't lock others out, and secrets are too long
	// to be guessed at any rate. Default 30; negative for no limit.
	AuthFailuresPerMinute float64
	// TrustedProxies are the networks whose X-Forwarded-For is believed: the
	// right-most address that isn't in one of them is then taken for the peer, and
	// stamped into events as such. Default: none, the connection's address counts.
	TrustedProxies []netip.Prefix

	// BodyTimeout is the time from the start of a request to the end of its body;
	// past it: 408. Default 30 s.
	BodyTimeout time.Duration
	// AnswerTimeout is how long a submitter is kept waiting once the body is there.
	// What isn't published then is answered 202 (stored) or 503 (not known).
	// Default 20 s.
	AnswerTimeout time.Duration
	// WriteTimeout is how long a client may take to read each 64 KiB or so of an
	// answer. Default 30 s.
	WriteTimeout time.Duration
	// BodyMemory bounds the memory, in bytes, that request bodies under way take
	// in all; past it: 503. Small bodies (16 KiB) aren't counted. At least
	// 2*MaxBodyBytes. Default 256 MiB.
	BodyMemory int64

	// The rest is the Server's.

	// MaxConnections bounds open connections. Past it each new one takes the place of
	// the one that has waited longest without a request under way; while all have one,
	// it waits. Default 4096.
	MaxConnections int
	// HeaderTimeout is the time for a request's header. Default 10 s.
	HeaderTimeout time.Duration
	// IdleTimeout is how long a connection may lie idle between requests. Default
	// 2 min.
	IdleTimeout time.Duration
	// TLSCert and TLSKey are PEM files. With both, the server speaks TLS 1.2 or
	// later only. Default: plain HTTP, for loopback or behind a proxy.
	TLSCert, TLSKey string
}

func (c Config) withDefaults() (Config, error) {
	if c.Log == nil {
		return c, errors.New("httpapi: no log is given")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Gatherer == nil {
		c.Gatherer = prometheus.NewRegistry()
	}
	setDefault(&c.EventsPerSecond, 50_000)
	setDefault(&c.BurstEvents, max(MaxEvents, int(c.EventsPerSecond)))
	setDefault(&c.AuthFailuresPerMinute, 30)
	setDefault(&c.BodyTimeout, 30*time.Second)
	setDefault(&c.AnswerTimeout, 20*time.Second)
	setDefault(&c.WriteTimeout, 30*time.Second)
	setDefault(&c.BodyMemory, 256<<20)
	setDefault(&c.MaxConnections, 4096)
	setDefault(&c.HeaderTimeout, 10*time.Second)
	setDefault(&c.IdleTimeout, 2*time.Minute)
	if c.BurstEvents < MaxEvents {
		return c, errors.New("httpapi: BurstEvents is below the size of a full batch")
	}
	if c.BodyMemory < 2*MaxBodyBytes || c.MaxConnections < 1 ||
		min(c.BodyTimeout, c.AnswerTimeout, c.WriteTimeout, c.HeaderTimeout, c.IdleTimeout) < 0 {
		return c, errors.New("httpapi: a limit of the configuration is out of range")
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return c, errors.New("httpapi: TLSCert and TLSKey go together")
	}
	return c, nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
