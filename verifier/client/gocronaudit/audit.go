// Package gocronaudit logs what happens in a gocron scheduler (github.com/go-co-op/gocron/v2): jobs made, changed and removed, runs
// started, finished and skipped, and the scheduler's start and end.
//
//	a := gocronaudit.New(q, gocronaudit.Config{})
//	defer a.Close()
//	s, err := gocron.NewScheduler(a.Options()...)
//	…
//	by := a.By(ctx, s) // who asks, as the context says: client.WithCaller
//	job, err := by.NewJob(gocron.CronJob("0 2 * * *", false), gocron.NewTask(invoices), gocron.WithName("nightly"))
//
// # How it is logged
//
// gocron calls its monitors inline, in the goroutine that is to run the job, or in the scheduler's only loop, so nothing
// here waits: events are handed over in memory to a goroutine that enqueues them in best effort, in order. A crash of the
// process loses those of its last milliseconds, and up to Config.Memory if the disk hung. To enqueue them in the
// callback would lose none, and stop all of the scheduler's jobs for up to DiskWait when the disk hangs. Where a job must not
// run unlogged, enqueue an event of its own with client.Required in the job's function.
//
// # What is logged
//
//   - job.create, job.update, job.delete. Update shows to a monitor as a removal and a registration; here it is one event, which says what changed in
//     name, schedule and tags. If it fails, gocron has removed the job: job.update with the outcome failure, and job.delete.
//   - run.start and run.finish, with one run_id, duration, error. gocron recovers a panic only if the job has the listener
//     AfterJobRunsWithPanic; then it is a failure with the code panic, and else the process ends, with
//     a run.start alone. Runs of one job at the same time are told apart by their starts.
//   - run.skip, with the outcome denied: the limit of concurrent runs was reached, another instance had the lock, or
//     BeforeJobRunsSkipIfBeforeFuncErrors said so.
//   - run.request, by whoever called By(…).RunNow; the run itself has the trigger manual.
//   - scheduler.start, scheduler.stop and scheduler.shutdown.
//
// No callback of gocron knows who has called: what isn't done through By is by Config.Actor. A job's id is gocron's, which is another one
// in each process unless the job has WithIdentifier.
package gocronaudit

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/go-co-op/gocron/v2"
	"github.com/google/uuid"

	"github.com/prooftrail/prooftrail/verifier/client"
	"github.com/prooftrail/prooftrail/verifier/client/internal/handover"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// Config says how a scheduler is logged. Its zero value is fine.
type Config struct {
	// Actor is who does what isn't done through By. Default: the service gocron.
	Actor event.Actor
	// Edit, if not nil, may change an event before it is logged, and drops it by returning false. It must be fast.
	Edit func(*event.Event) bool
	// Memory is how many events wait at most to be enqueued. Default 4096.
	Memory int
	// UpdateWithin is how soon after its removal a job must be registered again under its id, by a call of Update that didn't go
	// through By, for that to be one job.update. A removal is logged after that time. Default 1 s.
	UpdateWithin time.Duration
	// Logger gets the events that couldn't be enqueued. Default: nobody.
	Logger *slog.Logger
	// SchedulerMonitor, Monitor and MonitorStatus are your own, if not nil: gocron has room for one of each.
	SchedulerMonitor gocron.SchedulerMonitor
	Monitor          gocron.Monitor
	MonitorStatus    gocron.MonitorStatus
}

// Audit logs a scheduler.
type Audit struct {
	cfg  Config
	hand *handover.Handover

	updating sync.Mutex // for one call of Update through By at a time

	life  sync.Mutex
	alive bool // the scheduler has started and not stopped, as far as it was logged

	mu      sync.Mutex
	runs    map[uuid.UUID][]*run        // that have started
	due     map[uuid.UUID]due           // of the run that is about to start
	failed  map[uuid.UUID][]string      // errors of runs that JobFailed will be called with
	removed map[uuid.UUID]*removal      // jobs that may come back at once
	removes map[uuid.UUID]client.Caller // who is removing a job
	byTags  []*tagRemoval               // who is removing jobs with a tag
	updates map[uuid.UUID]*update       // that are under way
	calls   int                         // of NewJob through By that are under way
	made    map[uuid.UUID]event.Event   // job.create, until it is known which of the calls made it
}

// run is one run of a job.
type run struct {
	id      string
	started time.Time
}

// due is when a run was to start and when it did.
type due struct{ scheduled, started time.Time }

// removal is a job that was removed, and not by By.
type removal struct {
	job   jobInfo
	event event.Event
	timer *time.Timer
}

// New returns what logs a scheduler to a queue. Close it after the scheduler's Shutdown and before the queue.
func New(q client.Enqueuer, cfg Config) *Audit {
	if cfg.Actor.Type == "" {
		cfg.Actor = event.Actor{Type: "service", ID: "gocron"}
	}
	if cfg.UpdateWithin <= 0 {
		cfg.UpdateWithin = time.Second
	}
	return &Audit{cfg: cfg, hand: handover.New(handover.Config{Queue: q, Adapter: "gocron", Size: cfg.Memory, Logger: cfg.Logger}),
		runs: map[uuid.UUID][]*run{}, due: map[uuid.UUID]due{}, failed: map[uuid.UUID][]string{}, removed: map[uuid.UUID]*removal{},
		removes: map[uuid.UUID]client.Caller{}, updates: map[uuid.UUID]*update{}, made: map[uuid.UUID]event.Event{}}
}

// Options are what gocron.NewScheduler needs.
func (a *Audit) Options() []gocron.SchedulerOption {
	m := &monitor{a}
	return []gocron.SchedulerOption{gocron.WithSchedulerMonitor(m), gocron.WithMonitor(m), gocron.WithMonitorStatus(m)}
}

// Flush waits until all that has happened is in the queue; the removal of a job, which may be half of an update, too.
func (a *Audit) Flush(ctx context.Context) error {
	a.logRemovals()
	return a.hand.Flush(ctx)
}

// Close logs what has happened and returns when that is in the queue.
func (a *Audit) Close() {
	a.logRemovals()
	a.hand.Close()
}

// logRemovals doesn't wait for jobs to come back.
func (a *Audit) logRemovals() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, r := range a.removed {
		r.timer.Stop()
		delete(a.removed, id)
		a.put(r.event)
	}
}

// put logs an event.
func (a *Audit) put(e event.Event) {
	if a.cfg.Edit == nil || a.cfg.Edit(&e) {
		a.hand.Put(e)
	}
}

// nobody is who does what isn't done through By.
func (a *Audit) nobody() client.Caller { return client.Caller{Actor: a.cfg.Actor} }
