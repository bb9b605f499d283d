package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/prooftrail/prooftrail/cmd/internal/cli"
	"github.com/prooftrail/prooftrail/verifier/client"
	"github.com/prooftrail/prooftrail/verifier/client/mask"
	"github.com/prooftrail/prooftrail/verifier/event"
)

const execHelp = `
Usage: prooftrail exec --job ID [--required] [flags] -- COMMAND [ARG...]
       prooftrail exec --flush [flags]

Runs a command, and logs run.start before and run.finish after it, with exit code,
duration and signal. The command has exec's own standard input, output and error,
environment and directory: nothing is copied or changed.

Unless --required is given, the command runs whatever becomes of the log. run.start is on
this machine's disk, in the spool, before the command starts; it is sent while the
command runs. After the command's end exec waits for the log for --wait at most, and not
at all while the log is known to be down. What isn't in the log by then stays in the spool,
and goes with a later exec, or with 'prooftrail exec --flush': have cron run that too,
every five minutes say. With --required the command starts only once run.start is in the
log and its receipt holds.

One spool serves all commands of a user on a machine. It has lanes, numbered from 1: an exec
takes the first one that no other exec has, so that none waits for another. Each lane
is a source of its own, SOURCE/1, SOURCE/2..., and numbers its events.

The command line isn't logged, for it may hold secrets: only an HMAC of it, under a key that
is kept in the spool, so that a change shows. With --log-command its text is in
details, with what looks like a secret masked. All other texts are masked likewise.

A signal that exec gets goes on to the command, but what a terminal sends reaches both without
that. A 'kill -9' of exec doesn't end the command: a job must not die because its logging
did. Its run.start then stays without a run.finish.

Each of the flags --server, --token-file, --policy, --log, --ca, --spool and --source can be
given in the environment instead: PROOFTRAIL_SERVER, PROOFTRAIL_TOKEN_FILE and so on.

Example, as a line of a crontab:
  0 2 * * *  prooftrail exec --server https://log.example.com --token-file submit.token --policy policy.txt --job nightly -- /usr/local/bin/invoices

Exit codes: the command's. If a signal ended it, 128 and the signal's number; of SIGHUP,
SIGINT and SIGTERM exec dies itself. 126 the command can't be executed; 127 there is no such
command; 69 it was not started, because run.start isn't known to be in the log
(--required); 2 wrong flags, nothing was started. With --flush: 0 nothing is left in the
spool; 1 the token was refused, or what the log answers FAILED to verify; 2 events are left, or
failed.
`

// Exit codes of exec beside those of the command.
const (
	exitNotLogged     = 69 // EX_UNAVAILABLE of sysexits.h
	exitNotExecutable = 126
	exitNotFound      = 127
)

// flushWait is the default of --wait with --flush.
const flushWait = 30 * time.Second

// execFlags are the flags of exec.
type execFlags struct {
	queueFlags
	wait, requiredWait time.Duration
	required, flush    bool
	logCommand         bool
	maskFlags
	mask         *mask.Masker // of the lanes' queues
	job          event.Job
	scheduledFor string
	actor        event.Actor
	command      []string
}

func (x *execFlags) add(fs *cli.Flags) {
	x.queueFlags.add(fs)
	fs.StringVar(&x.spool, "spool", "", "`directory` where events wait until they are in the log, this user's alone; default\n/var/lib/prooftrail/exec for root, else prooftrail/exec in XDG_STATE_HOME or ~/.local/state")
	fs.StringVar(&x.source, "source", "", "what the events' sources begin with, a `URI`; a spool keeps the one it was made with;\ndefault cron://HOST/USER")
	fs.DurationVar(&x.wait, "wait", time.Second, "`time` to wait for the log after the command's end; with --flush, for each lane, and then\nby default 30s")
	fs.BoolVar(&x.required, "required", false, "start the command only if run.start is in the log")
	fs.DurationVar(&x.requiredWait, "required-wait", 30*time.Second, "`time` to wait for that")
	fs.BoolVar(&x.flush, "flush", false, "run nothing; send what waits in the spool")
	fs.StringVar(&x.job.ID, "job", "", "the job's `id`")
	fs.StringVar(&x.job.Name, "name", "", "the job's `name`")
	fs.StringVar(&x.job.Schedule, "schedule", "", "`text` of its schedule, such as '0 2 * * *'")
	fs.StringVar(&x.job.Trigger, "trigger", "schedule", "what started this run: schedule, manual, api, retry or catchup; a `word`")
	fs.StringVar(&x.scheduledFor, "scheduled-for", "", "`time` that this run was due at (RFC 3339)")
	fs.StringVar(&x.actor.ID, "actor", "", "`id` of who started it (default the job's)")
	fs.StringVar(&x.actor.Type, "actor-type", "schedule", "schedule, user or service; a `word`")
	fs.BoolVar(&x.logCommand, "log-command", false, "log the command line, masked")
	x.maskFlags.add(fs)
}

// parse reads the command line: the command is what stands behind the first "--".
func (x *execFlags) parse(e *cli.Env, args []string) error {
	fs := cli.NewFlags(e, "exec", execHelp)
	x.add(fs)
	at := slices.Index(args, "--")
	if at >= 0 {
		args, x.command = args[:at], args[at+1:]
	}
	if err := fs.NoArgs(args); err != nil {
		return err
	}
	given, err := fromEnv(fs)
	if err != nil {
		return err
	}
	if x.mask, err = x.masker(); err != nil {
		return err
	}
	if x.flush && !given["wait"] {
		x.wait = flushWait
	}
	switch {
	case x.flush && at >= 0:
		return errors.New("--flush runs no command; see --help")
	case x.wait < 0 || x.requiredWait <= 0:
		return errors.New("--wait, --required-wait: expected a time of 0 or more, and of more than 0")
	case x.flush:
		return fs.Needed("server", "token-file", "policy")
	case len(x.command) == 0:
		return errors.New("no command: it stands behind --; see --help")
	case x.scheduledFor != "":
		t, err := time.Parse(time.RFC3339Nano, x.scheduledFor)
		if err != nil {
			return fmt.Errorf("--scheduled-for %q: expected a time as in 2026-01-31T02:00:00Z", x.scheduledFor)
		}
		x.job.ScheduledFor = t
	}
	if x.actor.ID == "" {
		x.actor.ID = x.job.ID
	}
	return fs.Needed("server", "token-file", "policy", "job")
}

func runExec(ctx context.Context, e *cli.Env, args []string) error {
	var x execFlags
	if err := x.parse(e, args); err != nil {
		return err
	}
	if x.flush {
		return x.runFlush(ctx, e)
	}
	events, err := newExecEvents(&x)
	if err != nil {
		return err
	}
	q, err := openExec(e, &x)
	if err == nil {
		err = events.useKey(q.base)
	}
	r := execRun{execFlags: &x, env: e, events: events, lane: q}
	return r.run(ctx, err)
}

// execRun is one run of a command.
type execRun struct {
	*execFlags
	env    *cli.Env
	events *execEvents
	lane   *lane // nil: nothing can be logged
}

// run runs the command. unlogged is why nothing, or not all, can be logged of it.
func (r *execRun) run(ctx context.Context, unlogged error) error {
	if r.lane != nil {
		defer r.lane.close()
	}
	mode := client.BestEffort
	if r.required {
		mode = client.Required
	}
	err := unlogged
	if r.lane != nil && (err == nil || !r.required) {
		if _, startErr := r.lane.queue.Enqueue(ctx, r.events.start(), mode); startErr != nil {
			err = errors.Join(err, startErr)
		}
	}
	if err != nil && r.required {
		r.log(ctx, r.events.notStarted())
		return cli.Exited(exitNotLogged, fmt.Errorf("not started: %w", err))
	}
	if err != nil {
		r.env.Say("prooftrail exec: the command runs, and run.start may not be logged: %s", err)
	}
	stopSweep := r.sweepLater(ctx)
	p := startChild(r.env, r.command)
	ended := p.wait()
	stopSweep()
	r.log(ctx, r.events.finish(ended))
	if r.lane != nil {
		r.lane.deliver(ctx, r.wait, p.signals)
		r.lane.close()
	}
	p.stop()
	if ended.err != nil {
		r.env.Say("prooftrail exec: %s", ended.err)
	}
	ended.dieLikewise()
	return cli.Exited(ended.code(), nil)
}

// log enqueues an event whose loss changes nothing any more.
func (r *execRun) log(ctx context.Context, e event.Event) {
	if r.lane == nil {
		return
	}
	if _, err := r.lane.queue.Enqueue(ctx, e, client.BestEffort); err != nil {
		r.env.Say("prooftrail exec: %s isn't logged: %s", e.Action, err)
	}
}
