package robfigaudit

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/prooftrail/prooftrail/verifier/client"
	"github.com/prooftrail/prooftrail/verifier/client/internal/fit"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// Wrapper logs the runs of a job, in a chain:
//
//	cron.NewChain(cron.Recover(logger), robfigaudit.Wrapper(q, event.Job{ID: "nightly"}, robfigaudit.Config{})).Then(job)
//
// Job.ID is needed. A panic is a run.finish with the outcome failure, and goes on to what is outside in the chain, or ends the process
// as it would without.
func Wrapper(q client.Enqueuer, job event.Job, cfg Config) cron.JobWrapper {
	cfg = withDefaults(cfg)
	return func(j cron.Job) cron.Job { return wrap(q, job, cfg, j) }
}

func wrap(q client.Enqueuer, job event.Job, cfg Config, j cron.Job) cron.Job {
	return cron.FuncJob(func() {
		job := job
		job.RunID, job.Trigger = rand.Text(), "schedule"
		if err := enqueue(context.Background(), q, cfg, of("run.start", job), cfg.Mode); err != nil && cfg.Mode == client.Required {
			e := of("run.finish", job)
			e.Outcome, e.Reason = "denied", &event.Reason{Code: "not_logged", Text: "not started: run.start was not known to be in the log"}
			_ = enqueue(context.Background(), q, cfg, e, client.BestEffort) // it was said
			return
		}
		r := run{q, job, cfg, time.Now(), false}
		defer r.finish()
		j.Run()
		r.done = true
	})
}

// maxReason is how much of an error is logged, in bytes.
const maxReason = 4096

// run is one run.
type run struct {
	q     client.Enqueuer
	job   event.Job
	cfg   Config
	began time.Time
	done  bool // the job has returned
}

// finish logs the end of the run, also if it panics or ends its goroutine.
func (r *run) finish() {
	ms := time.Since(r.began).Milliseconds()
	r.job.DurationMS = &ms
	e := of("run.finish", r.job)
	if r.done {
		_ = enqueue(context.Background(), r.q, r.cfg, e, client.BestEffort) // it was said
		return
	}
	v := recover()
	e.Outcome, e.Reason = "failure", &event.Reason{Code: "panic", Text: fit.Text(fmt.Sprint(v), maxReason)}
	if v == nil {
		e.Reason = &event.Reason{Code: "goexit"}
	}
	_ = enqueue(context.Background(), r.q, r.cfg, e, client.BestEffort) // it was said
	if v != nil {
		panic(v)
	}
}
