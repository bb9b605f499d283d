//go:build !client

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/prooftrail/prooftrail/cmd/internal/cli"
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
event opened. Then the data directory is copied, one stored event in the copy is
changed, as somebody with the disk could, and the copy is audited: FAILED, with the
entry.

Last, the operator rewrites that entry for good: a second history, hashed anew from
there up and signed with the real key. One monitor is shown the log, another one the
second history; neither can find anything wrong. Then they gossip, and both hold evidence
that convicts the log.

Example:
  prooftrail demo --duration 30s

A first SIGINT or SIGTERM while people use the cron service ends that, and the log is
audited; at any other time, as a second one, it ends the demo. Either way nothing is
left behind, but for --data.

Exit codes: 0 every receipt and the audit verified, and both forgeries were caught; 1 one
of these did not hold; 2 failed, or interrupted.
`

// demo is one run of it.
type demo struct {
	env      *cli.Env
	duration time.Duration // 0: until interrupted
	listen   string
	dir      string // everything is below
	keep     bool   // dir is the user's

	interrupts interrupts
	between    func(url string) string // in tests: what the client talks to instead of the log at url

	policy      *verifier.Policy
	submitToken string
	readToken   string
	recorder    *recorder
	trouble     error // what went wrong before the audit, and didn't keep it from being made
}

func runDemo(ctx context.Context, e *cli.Env, args []string) error {
	d := demo{env: e}
	fs := cli.NewFlags(e, "demo", demoHelp)
	fs.DurationVar(&d.duration, "duration", 10*time.Second, "`time` that people use the cron service for; 0: until interrupted")
	fs.StringVar(&d.dir, "data", "", "`directory` to make and keep, with the log and the forgeries (default a temporary one)")
	fs.StringVar(&d.listen, "listen", "127.0.0.1:0", "`address` for the log's server")
	if err := fs.NoArgs(args); err != nil {
		return err
	}
	if d.duration < 0 {
		return fmt.Errorf("--duration %s: expected 0 or more", d.duration)
	}
	return d.runInDir(ctx)
}

// runInDir runs all of it in a new directory. A temporary one holds a signing key
// and tokens: it is removed however the run ends, a signal included.
func (d *demo) runInDir(ctx context.Context) (err error) {
	ctx, stop := d.interrupts.watch(ctx)
	defer stop()
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
	return orDone(ctx, d.run(ctx))
}

func (d *demo) logDir() string  { return filepath.Join(d.dir, "log") }
func (d *demo) copyDir() string { return filepath.Join(d.dir, "forged") }

// run goes through the acts. What fails while the cron service runs keeps the
// log from nothing: it is audited all the same, and the last line says what was
// found. The first error to be shown is the one that accuses.
func (d *demo) run(ctx context.Context) error {
	if err := d.create(ctx); err != nil {
		return err
	}
	if err := d.record(ctx); err != nil {
		return errors.Join(d.trouble, err)
	}
	f := findings{receipts: d.recorder.counts()}
	if f.size, f.audit = d.auditOriginal(ctx); f.audit != nil && !errors.Is(f.audit, verifier.ErrFailed) {
		return errors.Join(d.trouble, f.audit)
	}
	var err error
	if f.forged, f.found, err = d.forge(ctx); ctx.Err() != nil {
		return errors.Join(d.trouble, err, ctx.Err())
	}
	d.trouble, f.unforged = errors.Join(d.trouble, err), err != nil
	if f.convicted, err = d.split(ctx); ctx.Err() != nil {
		return errors.Join(d.trouble, err, ctx.Err())
	}
	d.trouble, f.unsplit = errors.Join(d.trouble, err), err != nil
	if d.keep {
		fmt.Fprintf(d.env.Stdout, "\nkept in %s: the log, its policy and tokens, the forged copy, and what the monitors hold\n", d.dir)
	}
	fmt.Fprintf(d.env.Stdout, "\n%s\n", f.line())
	if !f.held() {
		return cli.Refused(d.trouble)
	}
	return d.trouble
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
	fmt.Fprintf(d.env.Stdout, "made the log demo.example.com/audit; its public key is\n  %s\n", made.VKey)
	return nil
}

const demoSource = "cron://demo.example.com/scheduler"

// serveLog serves a data directory on loopback.
func (d *demo) serveLog(ctx context.Context, dir, listen string) (*running, error) {
	cfg := defaultConfig()
	cfg.Data, cfg.Listen, cfg.Log.Level = dir, listen, "error"
	cfg.Limits.MinFree = 16 << 20 // it writes little, and /tmp is small on some machines
	logger, err := newLogger(d.env.Stderr, cfg.Log)
	if err != nil {
		return nil, err
	}
	return start(ctx, cfg, logger)
}

// record runs log and cron service beside each other until the time is up. An
// error leaves nothing to be audited; all else is kept in d.trouble.
func (d *demo) record(ctx context.Context) (err error) {
	server, err := d.serveLog(ctx, d.logDir(), d.listen)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.close(context.WithoutCancel(ctx))) }()
	c, err := d.client(server)
	if err != nil {
		return err
	}
	d.recorder = newRecorder(c, d.env.Stdout)
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

	fmt.Fprintf(d.env.Stdout, "the log is at %s, the cron service at http://%s\n\n", server.url, l.Addr())
	fmt.Fprint(d.env.Stdout, recorderHeader)
	playErr := d.play(ctx, "http://"+l.Addr().String())
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	// In this order nothing is lost: no more requests, no more runs, then what is
	// queued up.
	err = errors.Join(playErr, web.Shutdown(closing), cron.Close(closing), d.recorder.close(closing))
	d.trouble = errors.Join(d.recorder.forgery(), d.checkHeads(closing, c), err)
	return nil
}

// client makes the cron service's client of the log. What it sends to an address
// of this machine doesn't leave it, so plain http shows nothing to anybody.
func (d *demo) client(server *running) (*client.Client, error) {
	url := server.localURL()
	if d.between != nil {
		url = d.between(url)
	}
	return client.New(client.Config{URL: url, Token: d.submitToken, Policy: d.policy, Insecure: true})
}

func (d *demo) checkHeads(ctx context.Context, c *client.Client) error {
	heads, err := c.CheckHeads(ctx)
	if err != nil {
		return fmt.Errorf("the receipts' heads: %w", err)
	}
	fmt.Fprintf(d.env.Stdout, "\nthe %d signed heads that came with the receipts are proven to be of one history\n", heads.Proven)
	return nil
}

// play lets people use the cron service until the time is up, or a signal comes.
func (d *demo) play(ctx context.Context, url string) error {
	ctx, end := d.interrupts.play(ctx)
	defer end()
	if d.duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.duration)
		defer cancel()
	}
	return cast.Play(ctx, url)
}
