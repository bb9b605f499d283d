package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/cast"
	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/cronservice"
	"github.com/prooftrail/prooftrail/personality"
	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/client"
)

const demoHelp = `
Usage: prooftrail demo [--duration D] [--data DIR] [--listen ADDR]

Shows what prooftrail is for, on this machine alone: it needs no set-up, no network
and no account.

A real, if small, cron service (on gocron) runs beside a log in this process, and
people use it over HTTP: they log in, or fail to, make, change and delete jobs, read a
credential; jobs fire every second. Each event is submitted to the log, and its receipt
verified, as it happens: one line each.

Then the whole log is audited: every entry re-hashed, the signed root recomputed, every
event opened. Last, the data directory is copied, one stored event in the copy is
changed, as somebody with the disk and the signing key could, and the copy is audited:
FAILED, with the entry.

Example:
  prooftrail demo --duration 30s

Exit codes: 0 every receipt and the audit verified, and the forgery was caught; 1 one of
these did not hold; 2 failed.
`

// demo is one run of it.
type demo struct {
	env      *env
	duration time.Duration // 0: until interrupted
	listen   string
	dir      string // everything is below
	keep     bool   // dir is the user's

	policy      *verifier.Policy
	submitToken string
	readToken   string
	recorder    *recorder
}

func runDemo(ctx context.Context, e *env, args []string) (err error) {
	d := demo{env: e}
	fs := newFlags(e, "demo", demoHelp)
	fs.DurationVar(&d.duration, "duration", 10*time.Second, "`time` that people use the cron service for; 0: until interrupted")
	fs.StringVar(&d.dir, "data", "", "`directory` to make and keep, with the log and the forged copy (default a temporary one)")
	fs.StringVar(&d.listen, "listen", "127.0.0.1:0", "`address` for the log's server")
	if err := fs.noArgs(args); err != nil {
		return err
	}
	if d.keep = d.dir != ""; d.keep {
		err = os.Mkdir(d.dir, 0o700)
	} else {
		d.dir, err = os.MkdirTemp("", "prooftrail-demo-")
	}
	if err != nil {
		return err
	}
	if !d.keep {
		defer func() { err = errors.Join(err, os.RemoveAll(d.dir)) }()
	}
	return d.run(ctx)
}

func (d *demo) logDir() string  { return filepath.Join(d.dir, "log") }
func (d *demo) copyDir() string { return filepath.Join(d.dir, "forged") }

// run goes through the acts. The last line is printed only when there is
// something to say in each part of it.
func (d *demo) run(ctx context.Context) error {
	if err := d.create(ctx); err != nil {
		return err
	}
	if err := d.record(ctx); err != nil {
		return err
	}
	size, auditErr := d.auditOriginal(ctx)
	if auditErr != nil && !errors.Is(auditErr, verifier.ErrFailed) {
		return auditErr
	}
	forged, found, err := d.forge(ctx)
	if err != nil {
		return err
	}
	events, verified := d.recorder.counts()
	ok := events > 0 && verified == events && auditErr == nil && found != nil && *found == forged
	audit, caught := fmt.Sprintf("verified at size %d", size), "verified, which it must not"
	if auditErr != nil {
		audit = "FAILED: " + auditErr.Error()
	}
	if found != nil {
		caught = fmt.Sprintf("FAILED at entry %d", *found)
	}
	if d.keep {
		fmt.Fprintf(d.env.stdout, "\nkept in %s: the log, its policy and tokens, and the forged copy\n", d.dir)
	}
	fmt.Fprintf(d.env.stdout, "\nverified %d of %d receipts; audit %s; tampered copy %s\n", verified, events, audit, caught)
	if !ok {
		return &exitError{code: exitRefused}
	}
	return nil
}

// create makes the log and the tokens of the cron service and the auditor.
func (d *demo) create(ctx context.Context) (err error) {
	cfg := personality.Config{Dir: d.logDir()}
	made, err := personality.Create(ctx, personality.CreateConfig{Config: cfg, Origin: "demo.example.com/audit"})
	if err != nil {
		return err
	}
	if d.policy, err = readPolicy(made.PolicyFile); err != nil {
		return err
	}
	svc, err := personality.Open(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, svc.Close(ctx)) }()
	for _, t := range []struct {
		req  personality.TokenRequest
		into *string
	}{
		{personality.TokenRequest{Name: "cron", Tenant: "demo", Roles: []personality.Role{personality.RoleSubmit}, Sources: []string{demoSource}}, &d.submitToken},
		{personality.TokenRequest{Name: "auditor", Tenant: personality.AllTenants, Roles: []personality.Role{personality.RoleRead}}, &d.readToken},
	} {
		if _, *t.into, err = svc.AddToken(ctx, personality.OperatorCaller(), t.req); err != nil {
			return err
		}
		if err := writeSecret(filepath.Join(d.dir, t.req.Name+".token"), *t.into); err != nil {
			return err
		}
	}
	fmt.Fprintf(d.env.stdout, "made the log demo.example.com/audit; its public key is\n  %s\n", made.VKey)
	return nil
}

const demoSource = "cron://demo.example.com/scheduler"

// serveLog serves a data directory on loopback.
func (d *demo) serveLog(ctx context.Context, dir, listen string) (*running, error) {
	cfg := defaultConfig()
	cfg.Data, cfg.Listen, cfg.Log.Level = dir, listen, "error"
	logger, err := newLogger(d.env.stderr, cfg.Log)
	if err != nil {
		return nil, err
	}
	return start(ctx, cfg, logger)
}

// record runs log and cron service beside each other until the time is up.
func (d *demo) record(ctx context.Context) (err error) {
	server, err := d.serveLog(ctx, d.logDir(), d.listen)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.close(context.WithoutCancel(ctx))) }()
	c, err := client.New(client.Config{URL: server.url, Token: d.submitToken, Policy: d.policy})
	if err != nil {
		return err
	}
	d.recorder = newRecorder(c, d.env.stdout)
	cron, err := cronservice.New(d.recorder, demoSource, "demo-node-1", cast.Admin, cast.AdminPassword)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	web := &http.Server{Handler: cron, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = web.Serve(l) }() // ends with Shutdown below

	fmt.Fprintf(d.env.stdout, "the log is at %s, the cron service at http://%s\n\n", server.url, l.Addr())
	fmt.Fprint(d.env.stdout, recorderHeader)
	playErr := d.play(ctx, "http://"+l.Addr().String())
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	// In this order nothing is lost: no more requests, no more runs, then what is
	// queued up.
	err = errors.Join(playErr, web.Shutdown(closing), cron.Close(closing), d.recorder.close(closing))
	if err != nil {
		return err
	}
	heads, err := c.CheckHeads(closing)
	if err != nil {
		return fmt.Errorf("the receipts' heads: %w", err)
	}
	fmt.Fprintf(d.env.stdout, "\nthe %d signed heads that came with the receipts are proven to be of one history\n", heads.Proven)
	return nil
}

// play lets people use the cron service.
func (d *demo) play(ctx context.Context, url string) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal has its usual effect
	if d.duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.duration)
		defer cancel()
	}
	return cast.Play(ctx, url)
}
