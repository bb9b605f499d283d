//go:build !client

package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/prooftrail/prooftrail/cmd/internal/cli"
	"github.com/prooftrail/prooftrail/cmd/internal/limit"
	rec "github.com/prooftrail/prooftrail/cmd/prooftrail/internal/recorder"
	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/recorder/rules"
	"github.com/prooftrail/prooftrail/verifier/client"
)

// Times and sizes of the proxy's server that nobody has to change.
const (
	proxyHeaderTimeout   = 10 * time.Second
	proxyIdleTimeout     = 2 * time.Minute
	proxyResourceTimeout = 5 * time.Second
	proxyRecordAfter     = 10 * time.Second
	proxyHeaderBytes     = 64 << 10
)

// recording is a recorder with all that is around it.
type recording struct {
	recorder *rec.Recorder
	queue    *client.Queue
	servers  []*http.Server
	failed   chan error // what ended a server, other than being closed
	url      string
}

// run serves until ctx ends.
func (x *proxyFlags) run(ctx context.Context, e *cli.Env, logger *slog.Logger) error {
	p := &recording{failed: make(chan error, 2)}
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	cfg, err := x.recorderConfig(reg, logger)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", x.listen)
	if err != nil {
		return err
	}
	defer l.Close() // it is closed already if it was served
	key, err := proxyKey(x.spool)
	if err != nil {
		return err
	}
	q, closeQueue, err := x.open(ctx, e, logger)
	if err != nil {
		return err
	}
	defer closeQueue()
	cfg.Key, cfg.Queue, p.queue = key, q, q
	if p.recorder, err = rec.New(cfg); err != nil {
		return err
	}
	defer p.recorder.Close()
	if err := x.serve(p, l, reg, logger); err != nil {
		return errors.Join(err, p.stop(ctx))
	}
	fmt.Fprintf(e.Stdout, "recording %s on %s\n", x.upstream, p.url)
	logger.InfoContext(ctx, "recording", "upstream", x.upstream, "url", p.url, "rules", x.rules, "mode", x.mode, "source", x.source, "version", cli.Version())
	select {
	case <-ctx.Done():
		logger.Info("shutting down", "timeout", x.shutdownTimeout.String())
	case err = <-p.failed:
		logger.Error("the server failed", "error", err)
	}
	closing, cancel := context.WithTimeout(context.Background(), x.shutdownTimeout)
	defer cancel()
	return errors.Join(err, p.stop(closing))
}

func (x *proxyFlags) recorderConfig(reg *prometheus.Registry, logger *slog.Logger) (cfg rec.Config, err error) {
	if err := x.limits(); err != nil {
		return cfg, err
	}
	cfg = rec.Config{
		Forward: x.forward, MaxCopy: x.maxCopy, CopyMemory: x.copyMemory, MaxSessions: x.sessions, Patience: x.patience,
		AnswerTimeout: x.answerTimeout, ResourceTimeout: proxyResourceTimeout, RecordAfter: proxyRecordAfter, RequiredWait: x.queue.RequiredWait,
		Metrics: rec.NewMetrics(reg), Logger: logger,
	}
	if cfg.Mode, err = rules.ParseMode(x.mode); err != nil {
		return cfg, fmt.Errorf("--mode: %w", err)
	}
	if cfg.Rules, err = x.readRules(); err != nil {
		return cfg, err
	}
	if cfg.Upstream, err = x.upstreamURL(); err != nil {
		return cfg, err
	}
	if cfg.TrustedProxies, err = networks(x.trusted); err != nil {
		return cfg, err
	}
	m, err := x.masker()
	if err != nil {
		return cfg, err
	}
	cfg.Masker, x.queue.Mask = m, m
	if x.upstreamCA != "" {
		roots, err := readRoots(x.upstreamCA)
		if err != nil {
			return cfg, err
		}
		cfg.UpstreamTLS = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return cfg, nil
}

// proxyKey is the key of HMACs, made once and kept beside the spool.
func proxyKey(spool string) ([]byte, error) {
	file := filepath.Clean(spool) + ".key"
	text, err := madeOnce(file, func() string {
		key := make([]byte, 32)
		_, _ = rand.Read(key) // it never fails: crypto/rand
		return hex.EncodeToString(key)
	})
	if err != nil {
		return nil, err
	}
	key, err := hex.DecodeString(text)
	if err != nil || len(key) != 32 {
		return nil, fmt.Errorf("%s: expected 64 hexadecimal digits", file)
	}
	return key, nil
}

// serve begins to answer.
func (x *proxyFlags) serve(p *recording, l net.Listener, reg *prometheus.Registry, logger *slog.Logger) error {
	shed := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "prooftrail_proxy_connections_shed_total", Help: "Connections without a request, closed to make room for others.",
	})
	reg.MustRegister(shed, queueMetrics{p.queue})
	errorLog := slog.NewLogLogger(logger.Handler(), slog.LevelDebug) // broken handshakes and the like
	main := &http.Server{
		Handler: p.recorder, ReadHeaderTimeout: proxyHeaderTimeout, IdleTimeout: proxyIdleTimeout, MaxHeaderBytes: proxyHeaderBytes,
		ConnState: limit.ConnState, ErrorLog: errorLog, DisableGeneralOptionsHandler: true,
	}
	limited := limit.New(l, x.connections, shed.Inc)
	p.url = "http://" + l.Addr().String()
	if x.tlsCert != "" {
		cert, err := tls.LoadX509KeyPair(x.tlsCert, x.tlsKey)
		if err != nil {
			return fmt.Errorf("TLS certificate: %w", err)
		}
		main.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
		p.url = "https://" + l.Addr().String()
		p.start(main, func() error { return main.ServeTLS(limited, "", "") })
	} else {
		p.start(main, func() error { return main.Serve(limited) })
	}
	if x.metrics == "" {
		return nil
	}
	ml, err := net.Listen("tcp", x.metrics)
	if err != nil {
		return err
	}
	side := &http.Server{Handler: p.side(reg), ReadHeaderTimeout: proxyHeaderTimeout, ReadTimeout: proxyHeaderTimeout, WriteTimeout: time.Minute, ErrorLog: errorLog}
	p.start(side, func() error { return side.Serve(ml) })
	return nil
}

func (p *recording) start(s *http.Server, serve func() error) {
	p.servers = append(p.servers, s)
	go func() {
		if err := serve(); !errors.Is(err, http.ErrServerClosed) {
			p.failed <- err
		}
	}()
}

// stop lets the requests under way finish.
func (p *recording) stop(ctx context.Context) error {
	var errs []error
	for _, s := range p.servers {
		if err := s.Shutdown(ctx); err != nil {
			errs = append(errs, fmt.Errorf("shut down: %w", err), s.Close())
		}
	}
	return errors.Join(errs...)
}

// side is what is served beside the proxy, at another address.
func (p *recording) side(reg *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "alive") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		st := p.queue.Stats()
		switch {
		case st.Accused:
			http.Error(w, "the log has been caught at a lie", http.StatusServiceUnavailable)
		case !st.FailingSince.IsZero():
			http.Error(w, fmt.Sprintf("the log hasn't taken events since %s; %d wait", st.FailingSince.UTC().Format(time.RFC3339), st.Waiting), http.StatusServiceUnavailable)
		default:
			_, _ = fmt.Fprintln(w, "ready")
		}
	})
	return mux
}

// queueMetrics are the spool's, read off when they are asked for.
type queueMetrics struct{ q *client.Queue }

var (
	spoolWaiting = prometheus.NewDesc("prooftrail_proxy_spool_events", "Events that wait in the spool.", nil, nil)
	spoolBytes   = prometheus.NewDesc("prooftrail_proxy_spool_bytes", "Size of the spool's files.", nil, nil)
	spoolLogged  = prometheus.NewDesc("prooftrail_proxy_spool_logged_total", "Events that are in the log, with receipts that hold.", nil, nil)
	spoolDropped = prometheus.NewDesc("prooftrail_proxy_spool_dropped_total", "Events that were not taken, the spool being full or its disk failing.", nil, nil)
	spoolRefused = prometheus.NewDesc("prooftrail_proxy_spool_refused_total", "Events that the log refuses for good.", nil, nil)
	spoolFailing = prometheus.NewDesc("prooftrail_proxy_spool_failing_timestamp_seconds", "Since when events can't be sent, Unix time; 0 when they can.", nil, nil)
	spoolAccused = prometheus.NewDesc("prooftrail_proxy_spool_accused", "1 once the log has been caught at a lie.", nil, nil)
)

// Describe implements prometheus.Collector.
func (m queueMetrics) Describe(c chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, c) }

// Collect implements prometheus.Collector.
func (m queueMetrics) Collect(c chan<- prometheus.Metric) {
	st := m.q.Stats()
	var failing, accused float64
	if !st.FailingSince.IsZero() {
		failing = float64(st.FailingSince.UnixMilli()) / 1000
	}
	if st.Accused {
		accused = 1
	}
	for _, one := range []struct {
		desc  *prometheus.Desc
		kind  prometheus.ValueType
		value float64
	}{
		{spoolWaiting, prometheus.GaugeValue, float64(st.Waiting)}, {spoolBytes, prometheus.GaugeValue, float64(st.WaitingBytes)},
		{spoolLogged, prometheus.CounterValue, float64(st.Logged)}, {spoolDropped, prometheus.CounterValue, float64(st.Dropped)},
		{spoolRefused, prometheus.CounterValue, float64(st.Refused)}, {spoolFailing, prometheus.GaugeValue, failing}, {spoolAccused, prometheus.GaugeValue, accused},
	} {
		c <- prometheus.MustNewConstMetric(one.desc, one.kind, one.value)
	}
}
