package gocronaudit

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-co-op/gocron/v2"
	"github.com/google/uuid"

	"github.com/prooftrail/prooftrail/verifier/client"
	"github.com/prooftrail/prooftrail/verifier/client/internal/fit"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// monitor is what gocron calls. Nothing in it waits, or asks the scheduler anything.
type monitor struct{ a *Audit }

// next calls the user's own monitor, if there is one.
func next[T comparable](own T, call func(T)) {
	if own != *new(T) {
		call(own)
	}
}

func (m *monitor) scheduler(call func(gocron.SchedulerMonitor)) {
	next(m.a.cfg.SchedulerMonitor, call)
}

func (m *monitor) say(action string) {
	m.a.put(event.Event{Time: time.Now(), Action: action, Outcome: "success", Actor: m.a.cfg.Actor, Target: []event.Target{{Type: "scheduler", ID: "gocron"}}})
}

// stopped logs scheduler.stop once, and what follows. gocron tells of a stop from a goroutine of its own, which may be
// after it has told of the shutdown that caused it, and after Shutdown has returned.
func (m *monitor) stopped(more ...string) {
	m.a.life.Lock()
	defer m.a.life.Unlock()
	if m.a.alive {
		m.a.alive = false
		m.say("scheduler.stop")
	}
	for _, action := range more {
		m.say(action)
	}
}

// SchedulerStarted logs scheduler.start.
func (m *monitor) SchedulerStarted() {
	m.a.life.Lock()
	m.a.alive = true
	m.say("scheduler.start")
	m.a.life.Unlock()
	m.scheduler(func(s gocron.SchedulerMonitor) { s.SchedulerStarted() })
}

// SchedulerStopped logs scheduler.stop.
func (m *monitor) SchedulerStopped() {
	m.stopped()
	m.scheduler(func(s gocron.SchedulerMonitor) { s.SchedulerStopped() })
}

// SchedulerShutdown logs scheduler.shutdown, and scheduler.stop before it.
func (m *monitor) SchedulerShutdown() {
	m.stopped("scheduler.shutdown")
	m.scheduler(func(s gocron.SchedulerMonitor) { s.SchedulerShutdown() })
}

// JobRegistered logs job.create, or job.update if the job has just been removed.
func (m *monitor) JobRegistered(job gocron.Job) {
	m.a.registered(infoOf(job))
	m.scheduler(func(s gocron.SchedulerMonitor) { s.JobRegistered(job) })
}

// JobUnregistered logs job.delete, unless the job is registered again.
func (m *monitor) JobUnregistered(job gocron.Job) {
	m.a.unregistered(infoOf(job))
	m.scheduler(func(s gocron.SchedulerMonitor) { s.JobUnregistered(job) })
}

// JobStarted says that a run may start.
func (m *monitor) JobStarted(job gocron.Job) {
	m.scheduler(func(s gocron.SchedulerMonitor) { s.JobStarted(job) })
}

// JobSchedulingDelay says when the run that is about to start was due.
func (m *monitor) JobSchedulingDelay(job gocron.Job, scheduled, started time.Time) {
	m.a.mu.Lock()
	m.a.due[job.ID()] = due{scheduled, started}
	m.a.mu.Unlock()
	m.scheduler(func(s gocron.SchedulerMonitor) { s.JobSchedulingDelay(job, scheduled, started) })
}

// JobRunning logs run.start.
func (m *monitor) JobRunning(job gocron.Job) {
	m.a.running(infoOf(job))
	m.scheduler(func(s gocron.SchedulerMonitor) { s.JobRunning(job) })
}

// JobFailed is called for a run whose end has been logged, and for one that was skipped.
func (m *monitor) JobFailed(job gocron.Job, err error) {
	m.a.jobFailed(infoOf(job), err)
	m.scheduler(func(s gocron.SchedulerMonitor) { s.JobFailed(job, err) })
}

// JobCompleted is called for a run whose end has been logged.
func (m *monitor) JobCompleted(job gocron.Job) {
	m.scheduler(func(s gocron.SchedulerMonitor) { s.JobCompleted(job) })
}

// JobExecutionTime is called for a run whose end has been logged.
func (m *monitor) JobExecutionTime(job gocron.Job, took time.Duration) {
	m.scheduler(func(s gocron.SchedulerMonitor) { s.JobExecutionTime(job, took) })
}

// ConcurrencyLimitReached logs run.skip.
func (m *monitor) ConcurrencyLimitReached(limit string, job gocron.Job) {
	m.a.skip(infoOf(job), "limit_"+limit, "")
	m.scheduler(func(s gocron.SchedulerMonitor) { s.ConcurrencyLimitReached(limit, job) })
}

// IncrementJob logs run.skip if another instance has the lock. All else is logged elsewhere.
func (m *monitor) IncrementJob(id uuid.UUID, name string, tags []string, status gocron.JobStatus) {
	if status == gocron.Skip {
		m.a.skip(jobInfo{id: id, name: fit.Text(name, 512), tags: tags}, "not_leader", "another instance is the leader, or has the lock")
	}
	next(m.a.cfg.Monitor, func(o gocron.Monitor) { o.IncrementJob(id, name, tags, status) })
}

// RecordJobTiming is for others.
func (m *monitor) RecordJobTiming(start, end time.Time, id uuid.UUID, name string, tags []string) {
	next(m.a.cfg.Monitor, func(o gocron.Monitor) { o.RecordJobTiming(start, end, id, name, tags) })
}

// RecordJobTimingWithStatus logs run.finish.
func (m *monitor) RecordJobTimingWithStatus(start, end time.Time, id uuid.UUID, name string, tags []string, status gocron.JobStatus, err error) {
	m.a.finished(jobInfo{id: id, name: fit.Text(name, 512), tags: tags}, start, end, err)
	next(m.a.cfg.MonitorStatus, func(o gocron.MonitorStatus) {
		o.RecordJobTimingWithStatus(start, end, id, name, tags, status, err)
	})
}

// byItself is who runs a job that is due.
func (j *jobInfo) byItself() client.Caller {
	return client.Caller{Actor: event.Actor{Type: "schedule", ID: j.id.String(), Name: j.name}}
}

// running logs that a run starts.
func (a *Audit) running(j jobInfo) {
	id, err := uuid.NewV7()
	if err != nil {
		id = uuid.New()
	}
	r := &run{id: id.String(), started: time.Now()}
	e := j.event("run.start", j.byItself())
	e.Job.RunID = r.id
	a.mu.Lock()
	defer a.mu.Unlock()
	a.runs[j.id] = append(a.runs[j.id], r)
	if d, ok := a.due[j.id]; ok {
		delete(a.due, j.id)
		e.Job.Trigger = "manual" // the next time that it is due is yet to come
		if !d.scheduled.After(d.started) {
			e.Job.Trigger, e.Job.ScheduledFor = "schedule", d.scheduled
		}
	}
	a.put(e)
}

// finished logs that a run has ended. It is the one that started last before the time that gocron says.
func (a *Audit) finished(j jobInfo, start, end time.Time, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	e := j.event("run.finish", j.byItself())
	ms := end.Sub(start).Milliseconds()
	e.Job.DurationMS = &ms
	all := a.runs[j.id]
	for i := len(all) - 1; i >= 0; i-- {
		if !all[i].started.After(start) || i == 0 {
			e.Job.RunID = all[i].id
			a.runs[j.id] = slices.Delete(all, i, i+1)
			break
		}
	}
	if len(a.runs[j.id]) == 0 {
		delete(a.runs, j.id)
	}
	if err != nil {
		code := "error"
		if errors.Is(err, gocron.ErrPanicRecovered) {
			code = "panic"
		}
		e = failed(e, "failure", code, errorText(err))
		a.failed[j.id] = append(a.failed[j.id], errorText(err))
	}
	a.put(e)
}

// errorText is what there is room for in a reason.
// An error whose method panics, as that of a nil pointer may, mustn't end the process: fmt sees to that.
func errorText(err error) string { return fit.Text(fmt.Sprint(err), 4096) }

// jobFailed logs run.skip if the run hasn't begun: of one that has, the end was logged just before.
func (a *Audit) jobFailed(j jobInfo, err error) {
	a.mu.Lock()
	i := slices.Index(a.failed[j.id], errorText(err))
	if i >= 0 {
		a.failed[j.id] = slices.Delete(a.failed[j.id], i, i+1)
		if len(a.failed[j.id]) == 0 {
			delete(a.failed, j.id)
		}
	} else {
		delete(a.due, j.id)
	}
	a.mu.Unlock()
	if i < 0 {
		a.skip(j, "before", errorText(err))
	}
}

// skip logs that a run that was due didn't start.
func (a *Audit) skip(j jobInfo, code, text string) {
	a.put(failed(j.event("run.skip", j.byItself()), "denied", code, text))
}
