package main

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"sync"
	"syscall"

	"github.com/prooftrail/prooftrail/cmd/internal/cli"
)

const runHelp = `
Usage: prooftrail-monitor run --config FILE [flags]

Follows the logs of the configuration until SIGTERM or SIGINT: looks at their heads, re-hashes
every entry, compares notes with the peers, cosigns as a witness if it has keys, and warns. What
it sees is on the disk before it is made anything of, so that kill -9 loses nothing that was
answered.

It prints the URLs that it listens on as the first line of its standard output, and messages on
standard error.

Example:
  prooftrail-monitor run --config /var/lib/prooftrail-monitor/data/monitor.yaml

Exit codes: 0 ended by a signal, in order; 1 the configuration is wrong; 2 failed.

The configuration file; these are all its members, with their defaults, and one element of each
list. Unknown members are refused.

`

const checkHelp = `
Usage: prooftrail-monitor check --config FILE

Reads a configuration as run does, with the policies, keys, certificates and secrets that it
names, and says all that is wrong with it: file, line, member. It opens no data, and sends
nothing but a question to the ssh-agent, if the witness's key is in one.

Example:
  prooftrail-monitor check --config monitor.yaml

Exit codes: 0 nothing is wrong; 1 something is; 2 the file can't be read.
`

// configFlag reads the flag --config and the file.
func configFlag(e *cli.Env, name, help string, args []string) (*file, error) {
	fs := cli.NewFlags(e, name, help)
	config := fs.String("config", "", "configuration `file`, YAML")
	if err := fs.NoArgs(args); err != nil {
		return nil, err
	}
	if err := fs.Needed("config"); err != nil {
		return nil, err
	}
	return loadConfig(*config)
}

func runCheck(_ context.Context, e *cli.Env, args []string) error {
	f, err := configFlag(e, "check", checkHelp, args)
	if err != nil {
		return err
	}
	s, err := f.settings(e.Stderr)
	if err != nil {
		return err
	}
	fmt.Fprintf(e.Stdout, "%s: nothing is wrong: %s\n", f.name, s.summary())
	return nil
}

// summary counts what there is.
func (s *settings) summary() string {
	w := "no witness"
	if n := len(s.cosigners); n > 0 {
		w = fmt.Sprintf("a witness with %s", plural(n, "key"))
	}
	return fmt.Sprintf("%s, %s, %s, %s of alarms", plural(len(s.logs), "log"), plural(len(s.peers), "peer"), w, plural(len(s.sinks), "receiver"))
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func runRun(ctx context.Context, e *cli.Env, args []string) error {
	f, err := configFlag(e, "run", runHelp+cli.Indent(manual), args)
	if err != nil {
		return err
	}
	cfg, err := f.settings(e.Stderr)
	if err != nil {
		return err
	}
	// Once the first signal has come, the next one has its usual effect.
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	context.AfterFunc(ctx, stop)
	return run(ctx, e, cfg)
}

// run opens everything, and runs it until ctx ends or a listener fails.
func run(ctx context.Context, e *cli.Env, cfg *settings) error {
	s, err := newServer(ctx, cfg)
	if err != nil {
		return err
	}
	if err := s.serve(); err != nil {
		return errors.Join(err, s.closeFiles())
	}
	tasks := s.begin()
	fmt.Fprintf(e.Stdout, "monitoring %s on %s\n", plural(len(cfg.logs), "log"), s.urls[0])
	cfg.logger.InfoContext(ctx, "monitoring", "name", cfg.Name, "logs", len(cfg.logs), "peers", len(cfg.peers),
		"keys", len(cfg.cosigners), "urls", s.urls, "version", cli.Version())
	select {
	case <-ctx.Done():
		cfg.logger.Info("shutting down", "timeout", cfg.ShutdownTimeout.String())
	case err = <-s.failed:
		cfg.logger.Error("a listener failed", "error", err)
	}
	closing, cancel := context.WithTimeout(context.Background(), cfg.ShutdownTimeout)
	defer cancel()
	if err := errors.Join(err, s.end(closing, tasks)); err != nil {
		return err
	}
	cfg.logger.Info("shut down")
	return nil
}

// tasks is what runs beside the servers.
type tasks struct {
	work, warn         sync.WaitGroup
	stopWork, stopWarn context.CancelFunc
	warned             error
}

// begin starts everything that isn't asked for.
func (s *server) begin() *tasks {
	t := &tasks{}
	warn, stopWarn := context.WithCancel(context.Background())
	t.stopWarn = stopWarn
	t.warn.Go(func() { t.warned = s.board.Run(warn) })
	work, stopWork := context.WithCancel(context.Background())
	t.stopWork = stopWork
	t.work.Go(func() { _ = s.monitor.Run(work) }) // it returns nil
	t.work.Go(func() { s.ready.probe(work, s.settings.Interval) })
	if s.witness != nil {
		s.observer.start(work)
		t.work.Go(func() { s.observer.follow(work, s.settings.Interval, s.witness.Latest) })
	}
	return t
}

// end stops in the order in which nothing is lost: no more requests; what the witness has refused is
// looked at; the monitor; alarms, for what came of that is told; the files.
func (s *server) end(ctx context.Context, t *tasks) error {
	err := s.stopServing(ctx)
	t.stopWork()
	s.observer.drain(ctx)
	t.work.Wait()
	t.stopWarn()
	t.warn.Wait()
	return errors.Join(err, t.warned, s.closeFiles())
}
