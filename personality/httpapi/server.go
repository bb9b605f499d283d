package httpapi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
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
	l = limitListener(l, s.api.cfg.MaxConnections)
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

// limitListener bounds the connections that are open at once. Past the bound it
// accepts none, and they wait in the kernel's backlog.
func limitListener(l net.Listener, n int) net.Listener {
	return &limitedListener{Listener: l, slots: make(chan struct{}, n), done: make(chan struct{})}
}

type limitedListener struct {
	net.Listener
	slots chan struct{}
	once  sync.Once
	done  chan struct{}
}

func (l *limitedListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.done:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &limitedConn{Conn: c, release: sync.OnceFunc(func() { <-l.slots })}, nil
}

func (l *limitedListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.Listener.Close()
}

type limitedConn struct {
	net.Conn
	release func()
}

func (c *limitedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}

// CloseWrite lets net/http end a refused upload in order, so that the client
// reads the refusal and not a reset.
func (c *limitedConn) CloseWrite() error {
	if cw, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return nil
}
