package main

import (
	"context"
	"flag"
	"log/slog"
	"os"
	"strings"

	"github.com/prooftrail/prooftrail/cmd/internal/cli"
	"github.com/prooftrail/prooftrail/verifier/client"
	"github.com/prooftrail/prooftrail/verifier/client/mask"
)

// queueFlags are the flags of the commands that make events of what others do and keep them in a spool of
// their own until they are in the log. The environment can stand in for each of them: see fromEnv.
type queueFlags struct {
	serverFlags
	signFlags
	spool, source string
	queue         client.QueueConfig // what else the command asks for
}

func (f *queueFlags) add(fs *cli.Flags) {
	f.serverFlags.add(fs)
	f.signFlags.add(fs)
}

// config makes the client's configuration.
func (f *queueFlags) config(e *cli.Env) (client.Config, error) {
	cfg, err := f.serverFlags.config(e)
	if err != nil {
		return cfg, err
	}
	err = f.into(&cfg)
	return cfg, err
}

// queueEnv are the flags that the environment can stand in for.
var queueEnv = []string{"server", "token-file", "policy", "log", "ca", "spool", "source", "sign-key"}

// fromEnv sets the flags that weren't given from PROOFTRAIL_SERVER, PROOFTRAIL_TOKEN_FILE and so on, and
// returns those that were given.
func fromEnv(fs *cli.Flags) (given map[string]bool, err error) {
	given = map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	for _, name := range queueEnv {
		v := os.Getenv("PROOFTRAIL_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_")))
		if v == "" || given[name] {
			continue
		}
		if err := fs.Set(name, v); err != nil {
			return nil, err
		}
	}
	return given, nil
}

// open opens the spool of a command that runs for long, and begins to send what is in it. The function that it
// returns gives it back.
func (f *queueFlags) open(ctx context.Context, e *cli.Env, log *slog.Logger) (*client.Queue, func(), error) {
	cfg, err := f.config(e)
	if err != nil {
		return nil, nil, err
	}
	cfg.HeadsFile = f.spool + ".heads"
	cfg.Alarm = func(err error) {
		log.ErrorContext(ctx, "log", "error", err)
		sayEvidence(e, err)
	}
	c, err := client.New(cfg)
	if err != nil {
		return nil, nil, err
	}
	queue := f.queue
	queue.Dir, queue.Source, queue.Logger = f.spool, f.source, log
	q, err := c.OpenQueue(queue)
	if err != nil {
		c.Close()
		return nil, nil, err
	}
	return q, func() {
		_ = q.Close() // what is in the spool is on stable storage
		c.Close()
	}, nil
}

// maskFlags say what is masked beside what mask knows.
type maskFlags struct{ maskNames, maskLooks list }

func (m *maskFlags) add(fs *cli.Flags) {
	fs.Var(&m.maskNames, "mask-name", "also mask values under names with this `text` in them; may be repeated")
	fs.Var(&m.maskLooks, "mask", "also mask what this regular `expression` finds, or its first group; may be repeated")
}

func (m *maskFlags) masker() (*mask.Masker, error) { return mask.New(m.maskNames, m.maskLooks) }
