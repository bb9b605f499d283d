package gocronaudit

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/go-co-op/gocron/v2"
	"github.com/google/uuid"

	"github.com/prooftrail/prooftrail/verifier/client"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// By is a scheduler as somebody uses it: events of what is done through it say by whom.
type By struct {
	a *Audit
	s gocron.Scheduler
	c client.Caller
}

// By returns the scheduler for the caller that the context names (client.WithCaller); Config.Actor if it names none.
func (a *Audit) By(ctx context.Context, s gocron.Scheduler) *By {
	c, ok := client.CallerOf(ctx)
	if !ok {
		c = a.nobody()
	}
	return &By{a, s, c}
}

// update is a call of Update through By.
type update struct {
	before, after *jobInfo
}

// tagRemoval is a call of RemoveByTags through By.
type tagRemoval struct {
	tags []string
	c    client.Caller
}

// NewJob is the scheduler's, logged as the caller's.
func (b *By) NewJob(d gocron.JobDefinition, t gocron.Task, o ...gocron.JobOption) (gocron.Job, error) {
	a := b.a
	a.mu.Lock()
	a.calls++
	a.mu.Unlock()
	var job gocron.Job
	var err error
	defer func() { // also if an option panics
		a.mu.Lock()
		defer a.mu.Unlock()
		if err == nil && job != nil {
			if e, ok := a.made[job.ID()]; ok {
				delete(a.made, job.ID())
				e.Actor, e.Origin = b.c.Actor, b.c.Origin
				a.put(e)
			}
		}
		if a.calls--; a.calls == 0 { // what is left wasn't made through By
			for id, e := range a.made {
				delete(a.made, id)
				a.put(e)
			}
		}
	}()
	job, err = b.s.NewJob(d, t, o...)
	return job, err
}

// Update is the scheduler's, logged as the caller's: one job.update. A job that isn't there is made: job.create.
func (b *By) Update(id uuid.UUID, d gocron.JobDefinition, t gocron.Task, o ...gocron.JobOption) (gocron.Job, error) {
	a, u := b.a, &update{}
	a.updating.Lock()
	defer a.updating.Unlock()
	a.mu.Lock()
	a.updates[id] = u
	a.mu.Unlock()
	var job gocron.Job
	err := errPanicked
	defer func() { // also if an option panics
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.updates, id)
		b.updated(id, u, err)
	}()
	job, err = b.s.Update(id, d, t, o...)
	return job, err
}

// errPanicked is logged of a call that never returned.
var errPanicked = errors.New("the call panicked")

// updated logs what a call of Update did.
func (b *By) updated(id uuid.UUID, u *update, err error) {
	a := b.a
	switch {
	case u.before != nil && u.after != nil:
		a.put(updated(*u.before, *u.after, b.c))
	case u.after != nil:
		a.put(u.after.event("job.create", b.c))
	case err != nil:
		j := jobInfo{id: id}
		if u.before != nil {
			j = *u.before
		}
		a.put(failed(j.event("job.update", b.c), "failure", "refused", errorText(err)))
		if u.before != nil { // gocron removes first
			a.put(j.event("job.delete", b.c))
		}
	}
}

func updated(before, after jobInfo, c client.Caller) event.Event {
	e := after.event("job.update", c)
	e.Change = change(before, after)
	return e
}

// RemoveJob is the scheduler's, logged as the caller's. It returns when the job is gone.
func (b *By) RemoveJob(id uuid.UUID) error {
	a := b.a
	a.mu.Lock()
	a.removes[id] = b.c
	a.mu.Unlock()
	err := b.s.RemoveJob(id)
	b.s.Jobs() // comes back when the loop has done it
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.removes, id)
	if errors.Is(err, gocron.ErrJobNotFound) {
		j := jobInfo{id: id}
		a.put(failed(j.event("job.delete", b.c), "failure", "not_found", ""))
	}
	return err
}

// RemoveByTags is the scheduler's, logged as the caller's. It returns when the jobs are gone.
func (b *By) RemoveByTags(tags ...string) {
	a, r := b.a, &tagRemoval{tags, b.c}
	a.mu.Lock()
	a.byTags = append(a.byTags, r)
	a.mu.Unlock()
	b.s.RemoveByTags(tags...)
	b.s.Jobs() // comes back when the loop has done it
	a.mu.Lock()
	defer a.mu.Unlock()
	a.byTags = slices.DeleteFunc(a.byTags, func(o *tagRemoval) bool { return o == r })
}

// RunNow is the job's, logged as the caller's run.request.
func (b *By) RunNow(job gocron.Job) error {
	j := infoOf(job)
	e := j.event("run.request", b.c) // of now: the run may have started when RunNow returns
	err := job.RunNow()
	e.Job.Trigger = "manual"
	if err != nil {
		e = failed(e, "failure", "refused", errorText(err))
	}
	b.a.put(e)
	return err
}

// registered logs a job that is new, or back.
func (a *Audit) registered(j jobInfo) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r, gone := a.removed[j.id]
	if gone {
		r.timer.Stop()
		delete(a.removed, j.id)
	}
	if u, ok := a.updates[j.id]; ok {
		if gone { // by another call, before
			a.put(r.event)
		}
		u.after = &j
		return
	}
	e := j.event("job.create", a.nobody())
	if gone {
		e = updated(r.job, j, a.nobody())
	}
	if a.calls > 0 { // it may be one of these
		a.made[j.id] = e
		return
	}
	a.put(e)
}

// unregistered logs a job that is gone, unless it comes back.
func (a *Audit) unregistered(j jobInfo) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if u, ok := a.updates[j.id]; ok {
		u.before = &j
		return
	}
	if c, ok := a.removes[j.id]; ok {
		a.put(j.event("job.delete", c))
		return
	}
	for _, r := range a.byTags {
		if slices.ContainsFunc(r.tags, func(tag string) bool { return slices.Contains(j.tags, tag) }) {
			a.put(j.event("job.delete", r.c))
			return
		}
	}
	r := &removal{job: j, event: j.event("job.delete", a.nobody())}
	r.timer = time.AfterFunc(a.cfg.UpdateWithin, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.removed[j.id] == r {
			delete(a.removed, j.id)
			a.put(r.event)
		}
	})
	a.removed[j.id] = r
}
