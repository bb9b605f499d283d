package httpapi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
)

// maxHeaderBytes bounds a request's header; past it net/http answers 431.
const maxHeaderBytes = 16 << 10

// Server serves an [API] on listeners.
type Server struct {
	api  *API
	http *http.Server
}

// NewServer makes a server; nothing listens yet. It fails when the
// configuration is wrong, its files can't be read, or its metrics are
// registered already.
func NewServer(cfg Config) (*Server, error) {
	a, err := New(cfg)
	if err != nil {
		return nil, err
	}
	cfg = a.cfg
	s := &Server{api: a, http: &http.Server{
		Handler:           a,
		ReadHeaderTimeout: cfg.HeaderTimeout,
		ReadTimeout:       cfg.BodyTimeout,
		// The handlers that write more than a buffer or two extend this as they go.
		WriteTimeout:   cfg.BodyTimeout + cfg.AnswerTimeout + cfg.WriteTimeout,
		IdleTimeout:    cfg.IdleTimeout,
		MaxHeaderBytes: maxHeaderBytes,
		ConnState:      connState,
		ErrorLog:       slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug), // broken handshakes and the like
	}}
	if cfg.TLSCert != "" {
		cert, err := tls.LoadX509KeyPair(cfg.TLSCert, cfg.TLSKey)
		if err != nil {
			return nil, fmt.Errorf("httpapi: load TLS certificate: %w", err)
		}
		s.http.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	}
	return s, nil
}

// API is the handler.
func (s *Server) API() *API { return s.api }

// Serve accepts connections on l until Close, and then returns nil; it closes l.
// Any other error means that l failed.
func (s *Server) Serve(l net.Listener) error {
	l = limitListener(l, s.api.cfg.MaxConnections, s.api.metrics)
	serve := s.http.Serve
	if s.http.TLSConfig != nil {
		serve = func(l net.Listener) error { return s.http.ServeTLS(l, "", "") }
	}
	if err := serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("httpapi: serve: %w", err)
	}
	return nil
}

// Close stops listening, lets the requests under way finish, and closes all
// connections. If ctx ends before that it cuts off what is left and returns
// ctx's error. The log is to be closed after this: then every event that was
// answered, and every one that was admitted, is sequenced and published.
func (s *Server) Close(ctx context.Context) error {
	s.api.draining.Store(true)
	err := s.http.Shutdown(ctx)
	if err != nil {
		_ = s.http.Close() // what Shutdown failed for is the error
		return fmt.Errorf("httpapi: shut down: %w", err)
	}
	return nil
}
