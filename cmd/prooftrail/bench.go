//go:build !client

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/prooftrail/prooftrail/cmd/internal/cli"
	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/load"
	"github.com/prooftrail/prooftrail/verifier/client"
)

const benchHelp = `
Usage: prooftrail bench --server URL --token-file FILE --policy FILE [flags]

Measures a server. Each of --clients workers has one connection, on which it submits
events as a cron service would make them (runs, changes, logins, credential reads; 800
bytes on average), --batch to a request.

Without --rate each worker sends as soon as it has its answer (closed loop): that
shows how many events the server takes. With --rate, requests are due at a steady
rate, whatever the server does (open loop), and their time counts from when they were
due, also if no worker was free then: that shows how long an event waits. Too few
clients for the rate, or too slow a server, leave requests unsent, a second after
--duration: the report says so, and its latencies are then too low.

The time reported first is from submission to a receipt that has been verified in
full: signature, inclusion proof, opening, and that it is of the event sent. Of each
event it is the time to the answer and that of verifying its own receipt, not those of
the others in the request. --sample says which share is verified, drawn at random; all of
them with --rate. Of a sample the report says "of the N sampled": quantiles and maximum are
the sample's, and what wasn't drawn may have taken longer. Quantiles are at most 0.8 %
too high. At the end the heads that came with those receipts are proven to be of one
history: the 4096 remembered; the report says if there were more.

Everything sent stays in the log for ever: measure a log made for it.

Example:
  prooftrail bench --server http://127.0.0.1:8080 --token-file data/tokens/submit.token \
      --policy data/policy.txt --clients 32 --batch 100 --duration 30s

Exit codes: 0 measured, and all receipts of the sample verified; 1 refused; or measured,
but there were errors or unsent requests, which the report lists; 2 failed.
`

func runBench(ctx context.Context, e *cli.Env, args []string) error {
	var s serverFlags
	var cfg load.Config
	fs := cli.NewFlags(e, "bench", benchHelp)
	s.add(fs)
	fs.IntVar(&cfg.Clients, "clients", 16, "`number` of workers, each with one connection")
	fs.IntVar(&cfg.Batch, "batch", 1, "`number` of events in a request, 1 to 500")
	fs.DurationVar(&cfg.Duration, "duration", 10*time.Second, "`time` to send for")
	fs.Float64Var(&cfg.Rate, "rate", 0, "events a second of all workers together; 0: as fast as answered; a `number`")
	fs.IntVar(&cfg.Sample, "sample", 0, "verify one receipt in this `number`, at random (default 1 with --rate, else 100)")
	fs.Uint64Var(&cfg.Seed, "seed", 0, "`number` that the events are made from; the same again makes the same ids,\nwhich then conflict (default random)")
	fs.StringVar(&cfg.Source, "source", "cron://bench", "`URI` that the events' sources begin with")
	fs.StringVar(&cfg.Wait, "wait", "integrated", "`stage` to wait for: integrated or witnessed")
	asJSON := fs.Bool("json", false, "print the report as one JSON object")
	if err := fs.NoArgs(args); err != nil {
		return err
	}
	if err := fs.Needed("server", "token-file", "policy"); err != nil {
		return err
	}
	if err := benchConfig(e, &s, &cfg); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	report, err := load.Run(ctx, cfg)
	if err != nil {
		return orDone(ctx, refusal(err))
	}
	if *asJSON {
		enc := json.NewEncoder(e.Stdout)
		enc.SetIndent("", "  ")
		if err := enc.Encode(report); err != nil {
			return err
		}
	} else {
		report.Print(e.Stdout)
	}
	if wrong := report.Wrong(); len(wrong) > 0 {
		return cli.Refusedf("%s", strings.Join(wrong, "; "))
	}
	return nil
}

func benchConfig(e *cli.Env, s *serverFlags, cfg *load.Config) error {
	if cfg.Wait != string(client.Integrated) && cfg.Wait != string(client.Witnessed) {
		return fmt.Errorf("--wait %s: expected integrated or witnessed; without a receipt there is nothing to measure", cfg.Wait)
	}
	from, err := s.config(e)
	if err != nil {
		return err
	}
	if s.ca != "" {
		if cfg.RootCAs, err = readRoots(s.ca); err != nil {
			return err
		}
	}
	cfg.Client = from
	if cfg.Seed == 0 {
		cfg.Seed = uint64(rand.Uint32())
	}
	if cfg.Sample == 0 {
		cfg.Sample = 100
		if cfg.Rate > 0 {
			cfg.Sample = 1
		}
	}
	return nil
}
