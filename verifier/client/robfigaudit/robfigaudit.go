// Package robfigaudit logs what happens in a scheduler of github.com/robfig/cron/v3: entries added and removed, runs started and
// finished.
//
//	c := cron.New()
//	a := robfigaudit.New(c, q, robfigaudit.Config{})
//	id, err := a.AddFunc(ctx, event.Job{ID: "nightly", Name: "invoices"}, "0 2 * * *", invoices)
//	…
//	err = a.Remove(ctx, id)
//
// Who adds and removes is what the context says (client.WithCaller), else Config.Actor. An entry's number is another one in each
// process, so the caller says what a job is called. What is added to the Cron itself isn't logged; of such jobs a Wrapper in
// their chain logs the runs.
//
// A run is logged in the goroutine that cron has made for it, before the job begins: in best effort with run.start on disk, which
// takes a few milliseconds and no longer than the queue's DiskWait; in client.Required in the log, or the job doesn't run. What
// happens within cron.SkipIfStillRunning and the like, outside the wrapper, isn't a run.
package robfigaudit

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/prooftrail/prooftrail/verifier/client"
	"github.com/prooftrail/prooftrail/verifier/client/internal/fit"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// Config says how a scheduler is logged. Its zero value is fine.
type Config struct {
	// Mode is that of runs, and of adding and removing: with client.Required none of these happens unless it is logged. Default
	// client.BestEffort.
	Mode client.Mode
	// Actor is who adds and removes where the context doesn't say. Default: the service cron.
	Actor event.Actor
	// Logger gets what isn't logged, and why. Default: nobody.
	Logger *slog.Logger
}

// Audit logs a scheduler. It is safe for concurrent use.
type Audit struct {
	cron *cron.Cron
	q    client.Enqueuer
	cfg  Config

	mu   sync.Mutex
	jobs map[cron.EntryID]event.Job
}

// New returns what logs a scheduler to a queue. Close the queue when the context of cron's Stop is done.
func New(c *cron.Cron, q client.Enqueuer, cfg Config) *Audit {
	return &Audit{cron: c, q: q, cfg: withDefaults(cfg), jobs: map[cron.EntryID]event.Job{}}
}

func withDefaults(cfg Config) Config {
	if cfg.Mode == 0 {
		cfg.Mode = client.BestEffort
	}
	if cfg.Actor.Type == "" {
		cfg.Actor = event.Actor{Type: "service", ID: "cron"}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return cfg
}

// AddFunc is AddJob for a function.
func (a *Audit) AddFunc(ctx context.Context, job event.Job, spec string, f func()) (cron.EntryID, error) {
	return a.AddJob(ctx, job, spec, cron.FuncJob(f))
}

// AddJob adds a job to the scheduler and logs job.create, its runs, and a refused spec. Job.ID is needed; Schedule is the spec.
func (a *Audit) AddJob(ctx context.Context, job event.Job, spec string, j cron.Job) (cron.EntryID, error) {
	job.Schedule = spec
	e := a.about(ctx, "job.create", job)
	if a.cfg.Mode == client.Required {
		// What the log has must be what happens: whether the spec is valid has to be known before.
		if err := a.parses(spec); err != nil {
			return 0, a.refused(ctx, e, err)
		}
		if err := a.log(ctx, e); err != nil {
			return 0, err
		}
	}
	id, err := a.cron.AddJob(spec, wrap(a.q, job, a.cfg, j))
	if err != nil {
		return 0, a.refused(ctx, e, err)
	}
	a.mu.Lock()
	a.jobs[id] = job
	a.mu.Unlock()
	if a.cfg.Mode == client.BestEffort {
		_ = a.log(ctx, e) // it was said
	}
	return id, nil
}

// parses adds the spec for no longer than it takes to see whether the scheduler's parser takes it: cron doesn't show it.
func (a *Audit) parses(spec string) error {
	id, err := a.cron.AddFunc(spec, func() {})
	if err == nil {
		a.cron.Remove(id)
	}
	return err
}

// refused logs that, and returns the error.
func (a *Audit) refused(ctx context.Context, e event.Event, err error) error {
	e.Outcome, e.Reason = "failure", &event.Reason{Code: "refused", Text: fit.Text(err.Error(), maxReason)}
	_ = enqueue(ctx, a.q, a.cfg, e, client.BestEffort) // it was said
	return err
}

// Remove removes a job that was added by AddJob, and logs job.delete. The error, of client.Required, says that it wasn't removed
// because that couldn't be logged.
func (a *Audit) Remove(ctx context.Context, id cron.EntryID) error {
	a.mu.Lock()
	job, ok := a.jobs[id]
	delete(a.jobs, id) // whoever else removes it now would log that again
	a.mu.Unlock()
	if !ok {
		return fmt.Errorf("robfigaudit: entry %d wasn't added here", id)
	}
	if err := a.log(ctx, a.about(ctx, "job.delete", job)); err != nil && a.cfg.Mode == client.Required {
		a.mu.Lock()
		a.jobs[id] = job
		a.mu.Unlock()
		return err
	}
	a.cron.Remove(id)
	return nil
}

// about makes an event of who the context names.
func (a *Audit) about(ctx context.Context, action string, job event.Job) event.Event {
	c, ok := client.CallerOf(ctx)
	if !ok {
		c.Actor = a.cfg.Actor
	}
	e := of(action, job)
	e.Actor, e.Origin = c.Actor, c.Origin
	return e
}

func (a *Audit) log(ctx context.Context, e event.Event) error {
	return enqueue(ctx, a.q, a.cfg, e, a.cfg.Mode)
}

// of makes an event about a job, by its schedule.
func of(action string, job event.Job) event.Event {
	return event.Event{Time: time.Now(), Action: action, Outcome: "success", Job: &job,
		Actor:  event.Actor{Type: "schedule", ID: job.ID, Name: job.Name},
		Target: []event.Target{{Type: "job", ID: job.ID, Name: job.Name}}}
}

func enqueue(ctx context.Context, q client.Enqueuer, cfg Config, e event.Event, mode client.Mode) error {
	_, err := q.Enqueue(ctx, e, mode)
	if err != nil {
		cfg.Logger.ErrorContext(ctx, "an event isn't logged", "event_action", e.Action, "job_id", e.Job.ID, "error", err)
	}
	return err
}
