package gocronaudit_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-co-op/gocron/v2"
	"github.com/google/uuid"

	"github.com/prooftrail/prooftrail/verifier/client"
	"github.com/prooftrail/prooftrail/verifier/client/gocronaudit"
	"github.com/prooftrail/prooftrail/verifier/client/internal/enqueuetest"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// scheduler is a real one, with what logs it.
func scheduler(t *testing.T, cfg gocronaudit.Config, more ...gocron.SchedulerOption) (gocron.Scheduler, *gocronaudit.Audit, *enqueuetest.Recorder) {
	t.Helper()
	r := enqueuetest.New(t)
	a := gocronaudit.New(r, cfg)
	s, err := gocron.NewScheduler(append(a.Options(), more...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.Shutdown()
		a.Close()
	})
	return s, a, r
}

// ada is a context of a request of hers.
func ada(t *testing.T) context.Context {
	return client.WithCaller(t.Context(), client.Caller{Actor: event.Actor{Type: "user", ID: "ada"}, Origin: &event.Origin{IP: "192.0.2.7"}})
}

func flush(t *testing.T, a *gocronaudit.Audit) {
	t.Helper()
	if err := a.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func byAda(e event.Event) bool {
	return e.Actor.ID == "ada" && e.Origin != nil && e.Origin.IP == "192.0.2.7"
}

var hourly = gocron.DurationJob(time.Hour)

// TestLifeCycle: a job is made, changed, run and removed, each once in the log, in order, and by whom.
func TestLifeCycle(t *testing.T) {
	s, a, r := scheduler(t, gocronaudit.Config{})
	by := a.By(ada(t), s)
	task := gocron.NewTask(func() {})
	job, err := by.NewJob(hourly, task, gocron.WithName("invoices"), gocron.WithTags("billing"))
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if err := by.RunNow(job); err != nil {
		t.Fatal(err)
	}
	finish := r.Wait("run.finish", 1)[0]
	if _, err := by.Update(job.ID(), gocron.CronJob("0 2 * * *", false), task, gocron.WithName("nightly")); err != nil {
		t.Fatal(err)
	}
	if err := by.RemoveJob(job.ID()); err != nil {
		t.Fatal(err)
	}
	if err := by.RemoveJob(job.ID()); !errors.Is(err, gocron.ErrJobNotFound) {
		t.Error(err)
	}
	if err := s.Shutdown(); err != nil {
		t.Fatal(err)
	}
	flush(t, a)
	want := []string{"job.create", "scheduler.start", "run.start", "run.finish", "job.update", "job.delete", "job.delete", "scheduler.stop", "scheduler.shutdown"}
	got := slices.DeleteFunc(r.Actions(), func(a string) bool { return a == "run.request" }) // the run may begin before RunNow returns
	if !slices.Equal(got, want) {
		t.Fatalf("%q, expected %q", got, want)
	}
	create, start, update, deletes := r.Wait("job.create", 1)[0], r.Wait("run.start", 1)[0], r.Wait("job.update", 1)[0], r.Wait("job.delete", 2)
	if !byAda(create) || create.Job.Name != "invoices" || create.Job.Schedule != "every 1h0m0s" || create.Job.ID != job.ID().String() {
		t.Errorf("%+v %+v", create, create.Job)
	}
	if start.Job.RunID == "" || start.Job.RunID != finish.Job.RunID || start.Job.Trigger != "manual" || start.Actor.Type != "schedule" {
		t.Errorf("%+v %+v", start.Job, finish.Job)
	}
	if finish.Outcome != "success" || finish.Job.DurationMS == nil {
		t.Errorf("%+v", finish)
	}
	patch := fmt.Sprint(update.Change.Patch)
	if !byAda(update) || patch != "[{replace /name  nightly} {replace /schedule  0 2 * * *} {replace /tags  []}]" || update.Change.BeforeSHA256 == update.Change.AfterSHA256 {
		t.Errorf("%+v %s", update, patch)
	}
	if !byAda(deletes[0]) || deletes[0].Outcome != "success" || !byAda(deletes[1]) || deletes[1].Reason.Code != "not_found" {
		t.Errorf("%+v", deletes)
	}
	if !byAda(r.Wait("run.request", 1)[0]) {
		t.Error("nobody asked for the run")
	}
}

// TestScheduled: a run that was due says when.
func TestScheduled(t *testing.T) {
	s, _, r := scheduler(t, gocronaudit.Config{})
	if _, err := s.NewJob(gocron.DurationJob(20*time.Millisecond), gocron.NewTask(func() {})); err != nil {
		t.Fatal(err)
	}
	s.Start()
	for _, e := range r.Wait("run.start", 3) {
		if e.Job.Trigger != "schedule" || e.Job.ScheduledFor.IsZero() || e.Time.Before(e.Job.ScheduledFor) {
			t.Errorf("%+v", e.Job)
		}
	}
	seen := map[string]bool{}
	for _, e := range r.Wait("run.finish", 2) {
		if seen[e.Job.RunID] {
			t.Errorf("run %s finished twice", e.Job.RunID)
		}
		seen[e.Job.RunID] = true
	}
}

// TestFailures: an error, a panic that the job recovers, one that isn't to begin.
func TestFailures(t *testing.T) {
	s, _, r := scheduler(t, gocronaudit.Config{})
	for name, c := range map[string]struct {
		f         func() error
		listeners []gocron.EventListener
		action    string
		code      string
	}{
		"error":   {func() error { return errors.New("no room, password=hunter2") }, nil, "run.finish", "error"},
		"no text": {func() error { return errors.New("x" + strings.Repeat("\xff", 4000)) }, nil, "run.finish", "error"},
		"panic":   {func() error { panic("ouch") }, []gocron.EventListener{gocron.AfterJobRunsWithPanic(func(uuid.UUID, string, any) {})}, "run.finish", "panic"},
		"before": {func() error { return nil }, []gocron.EventListener{gocron.BeforeJobRunsSkipIfBeforeFuncErrors(func(uuid.UUID, string) error { return errors.New("not today") })},
			"run.skip", "before"},
	} {
		t.Run(name, func(t *testing.T) {
			already := len(r.Wait(c.action, 0))
			if _, err := s.NewJob(gocron.OneTimeJob(gocron.OneTimeJobStartImmediately()), gocron.NewTask(c.f), gocron.WithName(name), gocron.WithEventListeners(c.listeners...)); err != nil {
				t.Fatal(err)
			}
			s.Start()
			got := r.Wait(c.action, already+1)
			i := slices.IndexFunc(got, func(e event.Event) bool { return e.Job.Name == name })
			if i < 0 || got[i].Reason == nil || got[i].Reason.Code != c.code || got[i].Reason.Text == "" {
				t.Errorf("%+v", got)
			}
		})
	}
}

// TestLimits: a run that another one keeps from starting.
func TestLimits(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	s, a, r := scheduler(t, gocronaudit.Config{})
	job, err := s.NewJob(hourly, gocron.NewTask(func() { <-release }), gocron.WithSingletonMode(gocron.LimitModeReschedule))
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	by := a.By(t.Context(), s)
	for range 2 {
		if err := by.RunNow(job); err != nil {
			t.Fatal(err)
		}
		r.Wait("run.start", 1)
	}
	if e := r.Wait("run.skip", 1)[0]; e.Outcome != "denied" || e.Reason.Code != "limit_singleton" {
		t.Errorf("%+v", e)
	}
}

// TestLimitOfAll: likewise, of the scheduler.
func TestLimitOfAll(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	s, _, r := scheduler(t, gocronaudit.Config{}, gocron.WithLimitConcurrentJobs(1, gocron.LimitModeReschedule))
	for range 2 {
		if _, err := s.NewJob(gocron.DurationJob(10*time.Millisecond), gocron.NewTask(func() { <-release })); err != nil {
			t.Fatal(err)
		}
	}
	s.Start()
	if e := r.Wait("run.skip", 1)[0]; e.Reason.Code != "limit_limit" {
		t.Errorf("%+v", e)
	}
}

// TestWithoutBy: what is done to the scheduler itself is by nobody, and an update is one event all the same.
func TestWithoutBy(t *testing.T) {
	s, a, r := scheduler(t, gocronaudit.Config{UpdateWithin: time.Hour})
	task := gocron.NewTask(func() {})
	job, err := s.NewJob(hourly, task)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Update(job.ID(), gocron.DurationJob(time.Minute), task); err != nil {
		t.Fatal(err)
	}
	if err := s.RemoveJob(job.ID()); err != nil {
		t.Fatal(err)
	}
	s.Jobs()
	flush(t, a)
	if got := r.Actions(); !slices.Equal(got, []string{"job.create", "job.update", "job.delete"}) {
		t.Fatalf("%q", got)
	}
	for _, e := range r.Wait("job.update", 1) {
		if e.Actor.ID != "gocron" || e.Origin != nil {
			t.Errorf("%+v", e)
		}
	}
}

// TestRemovalIsLogged without anybody asking for it.
func TestRemovalIsLogged(t *testing.T) {
	s, _, r := scheduler(t, gocronaudit.Config{UpdateWithin: time.Millisecond})
	job, err := s.NewJob(hourly, gocron.NewTask(func() {}))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.RemoveJob(job.ID()); err != nil {
		t.Fatal(err)
	}
	r.Wait("job.delete", 1)
}

// TestUpdateFails: gocron removes the job before it looks at what comes instead.
func TestUpdateFails(t *testing.T) {
	s, a, r := scheduler(t, gocronaudit.Config{})
	by := a.By(ada(t), s)
	job, err := by.NewJob(hourly, gocron.NewTask(func() {}), gocron.WithName("j"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := by.Update(job.ID(), gocron.CronJob("nonsense", false), gocron.NewTask(func() {})); err == nil {
		t.Fatal("took nonsense")
	}
	if len(s.Jobs()) != 0 {
		t.Error("the job is still there: the package comment is wrong")
	}
	flush(t, a)
	if got := r.Actions(); !slices.Equal(got, []string{"job.create", "job.update", "job.delete"}) {
		t.Fatalf("%q", got)
	}
	if e := r.Wait("job.update", 1)[0]; e.Outcome != "failure" || !byAda(e) {
		t.Errorf("%+v", e)
	}
}

// TestWho: while one makes jobs through By, others are made without it, and nobody gets another's.
func TestWho(t *testing.T) {
	s, a, r := scheduler(t, gocronaudit.Config{})
	s.Start()
	done := make(chan error, 2)
	const n = 100
	make100 := func(name string, newJob func(gocron.JobDefinition, gocron.Task, ...gocron.JobOption) (gocron.Job, error)) {
		for range n {
			if _, err := newJob(hourly, gocron.NewTask(func() {}), gocron.WithName(name), gocron.WithTags(name)); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}
	by := a.By(ada(t), s)
	go make100("hers", by.NewJob)
	go make100("others", s.NewJob)
	for range 2 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	by.RemoveByTags("hers")
	flush(t, a)
	for _, e := range append(r.Wait("job.create", 2*n), r.Wait("job.delete", n)...) {
		if byAda(e) != (e.Job.Name == "hers") {
			t.Fatalf("%s %s is by %s", e.Action, e.Job.Name, e.Actor.ID)
		}
	}
}

// locked is a locker that another instance has.
type locked struct{}

func (locked) Lock(context.Context, string) (gocron.Lock, error) { return nil, errors.New("taken") }

func TestLock(t *testing.T) {
	s, a, r := scheduler(t, gocronaudit.Config{Edit: func(e *event.Event) bool {
		e.Labels = map[string]string{"team": "ops"}
		return e.Action != "scheduler.start"
	}},
		gocron.WithDistributedLocker(locked{}))
	job, err := s.NewJob(hourly, gocron.NewTask(func() {}))
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if err := a.By(t.Context(), s).RunNow(job); err != nil {
		t.Fatal(err)
	}
	if e := r.Wait("run.skip", 1)[0]; e.Reason.Code != "not_leader" || e.Labels["team"] != "ops" {
		t.Errorf("%+v", e)
	}
	if slices.Contains(r.Actions(), "scheduler.start") {
		t.Error("Edit dropped it")
	}
}

// TestDiskHangs: the scheduler goes on.
func TestDiskHangs(t *testing.T) {
	s, _, r := scheduler(t, gocronaudit.Config{})
	hangs := make(chan struct{})
	defer close(hangs)
	r.Fault(func(event.Event) error { <-hangs; return nil })
	ran := make(chan struct{}, 100)
	if _, err := s.NewJob(gocron.DurationJob(5*time.Millisecond), gocron.NewTask(func() { ran <- struct{}{} })); err != nil {
		t.Fatal(err)
	}
	s.Start()
	for range 5 {
		select {
		case <-ran:
		case <-time.After(10 * time.Second):
			t.Fatal("the job doesn't run")
		}
	}
}

// TestUpdatesAtOnce: each is logged.
func TestUpdatesAtOnce(t *testing.T) {
	s, a, r := scheduler(t, gocronaudit.Config{})
	by := a.By(ada(t), s)
	task := gocron.NewTask(func() {})
	job, err := by.NewJob(hourly, task)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	const n = 20
	for i := range n {
		go func() {
			_, err := by.Update(job.ID(), gocron.DurationJob(time.Duration(i+1)*time.Minute), task)
			done <- err
		}()
	}
	for range n {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	flush(t, a)
	if got := len(r.Wait("job.update", n)); got != n || len(r.Actions()) != n+1 {
		t.Errorf("%d updates of %q", got, r.Actions())
	}
}

// own is a monitor of the user's, which notes what it is called for.
type own struct {
	mu    sync.Mutex
	calls map[string]int
}

func (o *own) note(call string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.calls[call]++
}

func (o *own) SchedulerStarted()                                          { o.note("started") }
func (o *own) SchedulerStopped()                                          { o.note("stopped") }
func (o *own) SchedulerShutdown()                                         { o.note("shutdown") }
func (o *own) JobRegistered(gocron.Job)                                   { o.note("registered") }
func (o *own) JobUnregistered(gocron.Job)                                 { o.note("unregistered") }
func (o *own) JobStarted(gocron.Job)                                      { o.note("job started") }
func (o *own) JobRunning(gocron.Job)                                      { o.note("running") }
func (o *own) JobFailed(gocron.Job, error)                                { o.note("failed") }
func (o *own) JobCompleted(gocron.Job)                                    { o.note("completed") }
func (o *own) JobExecutionTime(gocron.Job, time.Duration)                 { o.note("took") }
func (o *own) JobSchedulingDelay(gocron.Job, time.Time, time.Time)        { o.note("delay") }
func (o *own) ConcurrencyLimitReached(string, gocron.Job)                 { o.note("limit") }
func (o *own) IncrementJob(uuid.UUID, string, []string, gocron.JobStatus) { o.note("increment") }
func (o *own) RecordJobTiming(time.Time, time.Time, uuid.UUID, string, []string) {
	o.note("timing")
}
func (o *own) RecordJobTimingWithStatus(time.Time, time.Time, uuid.UUID, string, []string, gocron.JobStatus, error) {
	o.note("status")
}

// TestOwnMonitors: the user's are called for all that gocron has.
func TestOwnMonitors(t *testing.T) {
	o := &own{calls: map[string]int{}}
	s, a, r := scheduler(t, gocronaudit.Config{SchedulerMonitor: o, Monitor: o, MonitorStatus: o})
	release := make(chan struct{})
	job, err := s.NewJob(hourly, gocron.NewTask(func() error { <-release; return errors.New("no") }), gocron.WithSingletonMode(gocron.LimitModeReschedule))
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	by := a.By(t.Context(), s)
	for range 2 {
		if err := by.RunNow(job); err != nil {
			t.Fatal(err)
		}
		r.Wait("run.start", 1)
	}
	r.Wait("run.skip", 1)
	close(release)
	r.Wait("run.finish", 1)
	if _, err := s.NewJob(gocron.OneTimeJob(gocron.OneTimeJobStartImmediately()), gocron.NewTask(func() {})); err != nil {
		t.Fatal(err)
	}
	r.Wait("run.finish", 2)
	if err := by.RemoveJob(job.ID()); err != nil {
		t.Fatal(err)
	}
	if err := s.Shutdown(); err != nil {
		t.Fatal(err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, call := range []string{"started", "stopped", "shutdown", "registered", "unregistered", "job started", "running", "failed", "completed", "took", "delay", "limit", "increment", "timing", "status"} {
		if o.calls[call] == 0 {
			t.Errorf("never called: %s", call)
		}
	}
}
