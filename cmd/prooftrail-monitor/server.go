package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/prooftrail/prooftrail/cmd/internal/limit"
	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/monitor"
	"github.com/prooftrail/prooftrail/verifier/monitor/alarm"
	"github.com/prooftrail/prooftrail/verifier/monitor/store"
	"github.com/prooftrail/prooftrail/verifier/monitor/witness"
)

const (
	maxHeaderBytes = 16 << 10
	headerTimeout  = 10 * time.Second
	idleTimeout    = 2 * time.Minute
	// answerTimeout is for a comparison, which may take a minute, and the answer's way to a slow client.
	answerTimeout = 2 * time.Minute
	// drainAlarms is how long to go on telling people at the end.
	drainAlarms = 5 * time.Second
)

// server is a monitor with all that is around it.
type server struct {
	settings *settings
	logger   *slog.Logger
	metrics  *metrics
	board    *alarm.Board
	book     *store.Book
	monitor  *monitor.Monitor
	ready    *readiness
	observer *observer

	// nil without a witness.
	heads   *store.Store
	witness *witness.Witness

	http    []*http.Server
	urls    []string   // of the public listeners, then of admin
	failed  chan error // what ended a listener, other than being closed
	sockets []net.Listener
}

// newServer opens everything. Listening is begun with the first of it, so that an address in use has
// touched nothing; requests are answered from serve on.
func newServer(ctx context.Context, cfg *settings) (*server, error) {
	s := &server{settings: cfg, logger: cfg.logger, metrics: newMetrics(), failed: make(chan error, 8)}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(err, s.closeFiles())
	}
	s.metrics.registry.MustRegister(collector{s})
	return s, nil
}

func (s *server) open(ctx context.Context) (err error) {
	cfg := s.settings
	if err := s.listen(); err != nil {
		return err
	}
	if s.book, err = store.OpenBook(cfg.in(bookFile), 0); err != nil {
		return err
	}
	s.board, err = alarm.New(alarm.Config{
		Sinks: cfg.sinks, Repeat: cfg.Alarms.Repeat, StateFile: cfg.in(alarmsFile), Grace: cfg.grace(), Drain: drainAlarms, Log: cfg.logger,
	})
	if err != nil {
		return fmt.Errorf("alarms: %w", err)
	}
	s.monitor, err = monitor.New(ctx, monitor.Config{
		Logs: cfg.logs, Peers: cfg.peers, Book: s.book, EvidenceDir: cfg.in(evidenceDir), Alarms: s.board,
		Interval: cfg.Interval, Rate: cfg.Limits.Rate, Transport: cfg.transport, Log: cfg.logger,
	})
	if err != nil {
		return err
	}
	s.ready = &readiness{monitor: s.monitor, book: s.book, lag: cfg.Limits.ReadyLag}
	s.observer = newObserver(s.monitor.Observe, cfg.cosigned, cfg.logger, s.metrics.observed)
	return s.openWitness(ctx)
}

func (s *server) openWitness(ctx context.Context) (err error) {
	if len(s.settings.cosigners) == 0 {
		return nil
	}
	if s.heads, err = store.Open(s.settings.in(storeFile)); err != nil {
		return err
	}
	s.witness, err = witness.New(ctx, witness.Config{
		Logs: s.settings.cosigned, Cosigners: s.settings.cosigners, Store: s.heads, OnRefused: s.observer.refused, Log: s.logger,
	})
	return err
}

// listen opens the addresses.
func (s *server) listen() error {
	open := func(scheme, addr string) error {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return err
		}
		s.sockets = append(s.sockets, l)
		s.urls = append(s.urls, scheme+"://"+l.Addr().String())
		return nil
	}
	scheme := "http"
	if s.settings.TLS.Cert != "" {
		scheme = "https"
	}
	for _, addr := range s.settings.Listen {
		if err := open(scheme, addr); err != nil {
			return err
		}
	}
	for _, addr := range []string{s.settings.Admin, s.settings.Metrics} {
		if addr == "" {
			continue
		}
		if err := open("http", addr); err != nil {
			return err
		}
	}
	return nil
}

// serve begins to answer.
func (s *server) serve() error {
	public := s.httpServer(s.public())
	if s.settings.TLS.Cert != "" {
		cert, err := tls.LoadX509KeyPair(s.settings.TLS.Cert, s.settings.TLS.Key)
		if err != nil {
			return fmt.Errorf("TLS certificate: %w", err)
		}
		public.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	}
	rest := s.sockets
	for range s.settings.Listen {
		s.start(public, rest[0])
		rest = rest[1:]
	}
	if s.settings.Admin != "" {
		s.start(s.httpServer(s.admin()), rest[0])
		rest = rest[1:]
	}
	if s.settings.Metrics != "" {
		s.start(s.httpServer(s.onlyMetrics()), rest[0])
	}
	return nil
}

func (s *server) httpServer(h http.Handler) *http.Server {
	server := &http.Server{
		Handler: h, ReadHeaderTimeout: headerTimeout, ReadTimeout: s.settings.Limits.BodyTimeout,
		WriteTimeout: s.settings.Limits.BodyTimeout + answerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		ConnState: limit.ConnState, ErrorLog: slog.NewLogLogger(s.logger.Handler(), slog.LevelDebug), // broken handshakes and the like
	}
	s.http = append(s.http, server)
	return server
}

func (s *server) start(h *http.Server, l net.Listener) {
	limited := limit.New(l, s.settings.Limits.MaxConnections, s.metrics.shed.Inc)
	go func() {
		var err error
		if h.TLSConfig != nil {
			err = h.ServeTLS(limited, "", "")
		} else {
			err = h.Serve(limited)
		}
		if !errors.Is(err, http.ErrServerClosed) {
			s.failed <- fmt.Errorf("serve %s: %w", l.Addr(), err)
		}
	}()
}

// stopServing lets the requests under way finish.
func (s *server) stopServing(ctx context.Context) error {
	s.ready.drain()
	var errs []error
	for _, h := range s.http {
		if err := h.Shutdown(ctx); err != nil {
			errs = append(errs, fmt.Errorf("shut down: %w", err), h.Close())
		}
	}
	return errors.Join(errs...)
}

// closeFiles lets go of what is open, listeners that were never served included.
func (s *server) closeFiles() error {
	var errs []error
	for _, l := range s.sockets {
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if s.heads != nil {
		errs = append(errs, s.heads.Close())
	}
	if s.book != nil {
		errs = append(errs, s.book.Close())
	}
	return errors.Join(errs...)
}

// view is all that is known now.
func (s *server) view(ctx context.Context) view {
	status := s.monitor.Status()
	v := makeView(s.settings.Name, time.Now(), status, s.board.Active())
	v.NotReady = append(v.NotReady, s.ready.reasons(status)...)
	v.Sinks = s.board.Health()
	v.Witness = s.viewWitness(ctx)
	for i := range v.Evidence {
		if abs, err := filepath.Abs(v.Evidence[i].File); err == nil {
			v.Evidence[i].File = abs
		}
	}
	return v
}

// viewWitness is what the witness has cosigned, nil without one.
func (s *server) viewWitness(ctx context.Context) *witnessView {
	if s.witness == nil {
		return nil
	}
	v := &witnessView{Cosigned: []witnessHead{}}
	for _, c := range s.settings.cosigners {
		v.VerifierKeys = append(v.VerifierKeys, c.VerifierKey())
	}
	for _, l := range s.settings.cosigned {
		h := witnessHead{Origin: l.Origin()}
		if note, err := s.witness.Latest(ctx, l.Origin()); err == nil && note != nil {
			if c, err := verifier.ParseCheckpoint(textOf(note)); err == nil {
				h.Head = viewHead(&c)
			}
		}
		v.Cosigned = append(v.Cosigned, h)
	}
	return v
}
