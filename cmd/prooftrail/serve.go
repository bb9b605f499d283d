//go:build !client

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/prooftrail/prooftrail/cmd/internal/cli"
	"github.com/prooftrail/prooftrail/personality"
	"github.com/prooftrail/prooftrail/personality/httpapi"
	"github.com/prooftrail/prooftrail/personality/ingest/webhook"
)

const serveHelp = `
Usage: prooftrail serve --data DIR [--listen ADDR] [--config FILE] [flags]

Runs the log that 'prooftrail init' made: takes events, signs them into the log,
answers with receipts, and shows the log to auditors (tlog-tiles, without content, to
everybody; content to tokens with the role read).

It prints the URL that it listens on as the first line of its standard output, and
messages on standard error. SIGTERM or SIGINT ends it in order: requests under way
are answered, and all that was admitted is signed; a second signal ends it at once,
which loses no event that was answered.

A log that is found damaged, or behind what it had already signed (a restored backup),
is served but refuses to go on; /readyz says why.

With --policy, a file with witnesses (c2sp.org/tlog-policy), each public head is sent to
them, and what everybody is shown is the newest that their quorum has cosigned.

Example:
  prooftrail serve --data /var/lib/prooftrail --listen 0.0.0.0:8443 \
      --tls-cert cert.pem --tls-key key.pem

Exit codes: 0 ended by a signal, in order; 2 failed.

The configuration file (--config); these are all its keys, with their defaults. Unknown
keys are refused. A flag outweighs the same key in the file.

`

func runServe(ctx context.Context, e *cli.Env, args []string) error {
	cfg, err := serveConfig(e, args)
	if err != nil {
		return err
	}
	logger, err := newLogger(e.Stderr, cfg.Log)
	if err != nil {
		return err
	}
	// Once the first signal has come, the next one has its usual effect.
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	context.AfterFunc(ctx, stop)
	return serve(ctx, e, cfg, logger)
}

// serveConfig puts flags over the file over the defaults.
func serveConfig(e *cli.Env, args []string) (Config, error) {
	var over Config
	var storage storageFlags
	var file string
	fs := cli.NewFlags(e, "serve", serveHelp+cli.Indent(manual))
	fs.StringVar(&file, "config", "", "configuration `file`, YAML")
	fs.StringVar(&over.Data, "data", "", "data `directory`")
	fs.StringVar(&over.Listen, "listen", "", "`address` and port to listen on (default 127.0.0.1:8080)")
	fs.StringVar(&over.Anchor, "anchor", "", "`file` with the newest signed head (default DIR.anchor)")
	fs.StringVar(&over.Witnesses.Policy, "policy", "", "policy `file` whose witnesses are asked to cosign (default nobody)")
	fs.StringVar(&over.Webhooks, "webhooks", "", "`file` with the doors for systems that have no token (default none)")
	storage.add(fs)
	fs.StringVar(&over.TLS.Cert, "tls-cert", "", "PEM `file` with the certificate chain")
	fs.StringVar(&over.TLS.Key, "tls-key", "", "PEM `file` with the private key, mode 0600")
	fs.StringVar(&over.Profile, "profile", "", "loopback `address` and port that serves Go's profiles (default none)")
	fs.StringVar(&over.Log.Level, "log-level", "", "debug, info, warn or error: a `level`")
	fs.StringVar(&over.Log.Format, "log-format", "", "text or json: a `format`")
	if err := fs.NoArgs(args); err != nil {
		return over, err
	}
	cfg, err := loadConfig(file)
	if err != nil {
		return cfg, err
	}
	for _, f := range []struct{ to, from *string }{
		{&cfg.Data, &over.Data}, {&cfg.Listen, &over.Listen}, {&cfg.Anchor, &over.Anchor},
		{&cfg.TLS.Cert, &over.TLS.Cert}, {&cfg.TLS.Key, &over.TLS.Key}, {&cfg.Profile, &over.Profile},
		{&cfg.Witnesses.Policy, &over.Witnesses.Policy}, {&cfg.Webhooks, &over.Webhooks},
		{&cfg.Log.Level, &over.Log.Level}, {&cfg.Log.Format, &over.Log.Format},
	} {
		if *f.from != "" {
			*f.to = *f.from
		}
	}
	storage.over(&cfg)
	return cfg, cfg.check()
}

func newLogger(w io.Writer, cfg LogConfig) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.Level)); err != nil {
		return nil, fmt.Errorf("log level %q: expected debug, info, warn or error", cfg.Level)
	}
	opts := &slog.HandlerOptions{Level: level}
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	}
	return slog.New(slog.NewTextHandler(w, opts)), nil
}

// running is a log and its server.
type running struct {
	svc    *personality.Service
	server *httpapi.Server
	listen net.Listener
	url    string
	failed chan error // what ended Serve, other than being closed
}

// start opens the log and serves it.
func start(ctx context.Context, cfg Config, logger *slog.Logger) (_ *running, err error) {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	r := &running{failed: make(chan error, 1)}
	doors, err := openDoors(cfg.Webhooks)
	if err != nil {
		return nil, err
	}
	// Before the log is opened: an address in use must not make an entry.
	if r.listen, err = net.Listen("tcp", cfg.Listen); err != nil {
		return nil, err
	}
	log := personality.Config{
		Dir: cfg.Data, Anchor: cfg.Anchor, Logger: logger, Metrics: personality.NewMetrics(reg),
		QueueEvents: cfg.Limits.QueueEvents, QueueBytes: cfg.Limits.QueueBytes,
		MaxUnpublished: cfg.Limits.MaxUnpublished, MaxLag: cfg.Limits.ReadyLag, MinFree: cfg.Limits.MinFree,
		MaxBatch: cfg.Limits.MaxBatch, CacheBytes: cfg.Limits.CacheBytes,
		Adapters: adapters(doors), QuarantineItems: cfg.Limits.QuarantineItems, QuarantineBytes: cfg.Limits.QuarantineBytes,
	}
	if log.Witnesses, err = cfg.Witnesses.open(); err != nil {
		return nil, errors.Join(err, r.listen.Close())
	}
	if err := cfg.openStorage(&log); err != nil {
		return nil, errors.Join(err, r.listen.Close())
	}
	if log.Database != nil {
		log.Database.Logger = logger
	}
	r.svc, err = personality.Open(ctx, log)
	if errors.Is(err, syscall.EAGAIN) {
		err = fmt.Errorf("%w (another process has %s open: one server at a time)", err, cfg.Data)
	}
	if err != nil {
		return nil, errors.Join(limitError(err), r.listen.Close())
	}
	r.server, err = httpapi.NewServer(apiConfig(cfg, r.svc, doors, logger, reg))
	if err == nil {
		err = announce(ctx, r.svc)
	}
	if err != nil && !errors.Is(err, personality.ErrRefusing) {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), cfg.ShutdownTimeout)
		defer cancel()
		return nil, errors.Join(err, r.svc.Close(closing), r.listen.Close())
	}
	scheme := "http"
	if cfg.TLS.Cert != "" {
		scheme = "https"
	}
	r.url = scheme + "://" + r.listen.Addr().String()
	go func() { r.failed <- r.server.Serve(r.listen) }()
	return r, nil
}

// announceTimeout bounds the wait for the start to be signed into the log. Where it is
// stored and that takes longer, the server serves, and says that it isn't ready.
const announceTimeout = 10 * time.Second

// announceAgain is how long to wait before the start is logged after it couldn't be.
const announceAgain = 5 * time.Second

func announce(ctx context.Context, svc *personality.Service) error {
	waiting, stop := context.WithTimeout(ctx, announceTimeout)
	defer stop()
	err := svc.Announce(waiting)
	if !errors.Is(err, personality.ErrBusy) {
		return err
	}
	go func() { // too much waits to be published, before it: that doesn't keep anybody from reading
		for err != nil && ctx.Err() == nil {
			select {
			case <-time.After(announceAgain):
			case <-ctx.Done():
			}
			err = svc.Announce(ctx)
		}
	}()
	return nil
}

func apiConfig(cfg Config, svc *personality.Service, doors []*webhook.Door, logger *slog.Logger, reg *prometheus.Registry) httpapi.Config {
	api := httpapi.Config{
		Log: httpapi.Of(svc), Logger: logger, Registerer: reg, Gatherer: reg,
		EventsPerSecond: cfg.Limits.EventsPerSecond, BurstEvents: cfg.Limits.BurstEvents,
		AuthFailuresPerMinute: cfg.Limits.AuthFailuresPerMinute, TrustedProxies: cfg.Limits.TrustedProxies,
		BodyTimeout: cfg.Limits.BodyTimeout, AnswerTimeout: cfg.Limits.AnswerTimeout, BodyMemory: cfg.Limits.BodyMemory,
		MaxConnections: cfg.Limits.MaxConnections, TLSCert: cfg.TLS.Cert, TLSKey: cfg.TLS.Key,
	}
	for _, d := range doors {
		api.Doors = append(api.Doors, d)
	}
	if cfg.Log.Access {
		api.AccessLog = logger
	}
	return api
}

// localURL is the URL for clients on this machine: an unspecified address, such
// as 0.0.0.0, is one to listen on and not one to connect to.
func (r *running) localURL() string {
	addr, err := netip.ParseAddrPort(r.listen.Addr().String())
	if err != nil || !addr.Addr().IsUnspecified() {
		return r.url
	}
	scheme, _, _ := strings.Cut(r.url, "://")
	return fmt.Sprintf("%s://127.0.0.1:%d", scheme, addr.Port())
}

// close ends in order: no more requests, then the log, which signs what it has
// admitted.
func (r *running) close(ctx context.Context) error {
	return errors.Join(r.server.Close(ctx), r.svc.Close(ctx))
}

func serve(ctx context.Context, e *cli.Env, cfg Config, logger *slog.Logger) (err error) {
	stopProfiles, err := serveProfiles(cfg.Profile, logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopProfiles()) }()
	cfg.Limits.tuneMemory()
	r, err := start(ctx, cfg, logger)
	if err != nil {
		return err
	}
	fmt.Fprintf(e.Stdout, "serving %s on %s\n", r.svc.Origin(), r.url)
	logger.InfoContext(ctx, "serving", "origin", r.svc.Origin(), "url", r.url, "version", cli.Version())
	select {
	case <-ctx.Done():
		logger.Info("shutting down", "timeout", cfg.ShutdownTimeout.String())
	case err = <-r.failed:
		logger.Error("the server failed", "error", err)
	}
	closing, cancel := context.WithTimeout(context.Background(), cfg.ShutdownTimeout)
	defer cancel()
	if err := errors.Join(err, r.close(closing)); err != nil {
		return err
	}
	logger.Info("shut down")
	return nil
}
