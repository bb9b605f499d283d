package robfigaudit_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/robfig/cron/v3"

	"github.com/prooftrail/prooftrail/verifier/client"
	"github.com/prooftrail/prooftrail/verifier/client/internal/enqueuetest"
	"github.com/prooftrail/prooftrail/verifier/client/robfigaudit"
	"github.com/prooftrail/prooftrail/verifier/event"
)

func ada(t *testing.T) context.Context {
	return client.WithCaller(t.Context(), client.Caller{Actor: event.Actor{Type: "user", ID: "ada"}, Origin: &event.Origin{IP: "192.0.2.7"}})
}

var nightly = event.Job{ID: "nightly", Name: "invoices"}

// TestLifeCycle: an entry is added, runs on its schedule, and is removed.
func TestLifeCycle(t *testing.T) {
	for _, mode := range []client.Mode{client.BestEffort, client.Required} {
		r := enqueuetest.New(t)
		c := cron.New(cron.WithSeconds())
		a := robfigaudit.New(c, r, robfigaudit.Config{Mode: mode})
		ran := make(chan struct{}, 10)
		id, err := a.AddFunc(ada(t), nightly, "* * * * * *", func() { ran <- struct{}{} })
		if err != nil {
			t.Fatal(err)
		}
		if n := len(c.Entries()); n != 1 {
			t.Errorf("%d entries", n)
		}
		c.Start()
		<-ran
		finish := r.Wait("run.finish", 1)[0]
		if err := a.Remove(ada(t), id); err != nil {
			t.Fatal(err)
		}
		if err := a.Remove(ada(t), id); err == nil {
			t.Error("removed twice")
		}
		<-c.Stop().Done()
		if len(c.Entries()) != 0 {
			t.Error("it is still there")
		}
		events, modes := r.Events()
		start := r.Wait("run.start", 1)[0]
		if start.Job.RunID == "" || start.Job.RunID != finish.Job.RunID || start.Job.Schedule != "* * * * * *" || start.Actor.Type != "schedule" {
			t.Errorf("%+v %+v", start.Job, finish.Job)
		}
		if finish.Outcome != "success" || finish.Job.DurationMS == nil {
			t.Errorf("%+v", finish)
		}
		for _, e := range []event.Event{events[0], r.Wait("job.delete", 1)[0]} {
			if e.Actor.ID != "ada" || e.Origin.IP != "192.0.2.7" || e.Job.ID != "nightly" {
				t.Errorf("%+v", e)
			}
		}
		if events[0].Action != "job.create" || modes[0] != mode || modes[1] != mode {
			t.Errorf("%q %v", r.Actions(), modes)
		}
	}
}

// TestSpec: one that isn't valid is a failure, in the log too.
func TestSpec(t *testing.T) {
	for _, mode := range []client.Mode{client.BestEffort, client.Required} {
		r := enqueuetest.New(t)
		c := cron.New()
		a := robfigaudit.New(c, r, robfigaudit.Config{Mode: mode})
		if _, err := a.AddFunc(t.Context(), nightly, "nonsense", func() {}); err == nil {
			t.Error("took nonsense")
		}
		e := r.Wait("job.create", 1)[0]
		if len(r.Actions()) != 1 || e.Outcome != "failure" || e.Reason.Code != "refused" || e.Actor.ID != "cron" || len(c.Entries()) != 0 {
			t.Errorf("%+v", e)
		}
	}
}

// TestEnds: however a run ends, it is logged, and what it did goes on as it would without.
func TestEnds(t *testing.T) {
	for name, c := range map[string]struct {
		f       func()
		outcome string
		code    string
	}{
		"returns": {func() {}, "success", ""},
		"panics":  {func() { panic("ouch") }, "failure", "panic"},
		"no text": {func() { panic(strings.Repeat("\xff", 4000)) }, "failure", "panic"},
		"exits":   {runtime.Goexit, "failure", "goexit"},
	} {
		t.Run(name, func(t *testing.T) {
			r := enqueuetest.New(t)
			job := cron.NewChain(robfigaudit.Wrapper(r, nightly, robfigaudit.Config{})).Then(cron.FuncJob(c.f))
			seen := make(chan any)
			go func() {
				defer func() { seen <- recover() }()
				job.Run()
			}()
			if v := <-seen; (v != nil) != (c.code == "panic") {
				t.Errorf("recovered %v", v)
			}
			e := r.Wait("run.finish", 1)[0]
			if e.Outcome != c.outcome || c.code != "" && e.Reason.Code != c.code {
				t.Errorf("%+v %+v", e, e.Reason)
			}
		})
	}
}

// TestNotLogged: in best effort all goes on; required, nothing does.
func TestNotLogged(t *testing.T) {
	for _, mode := range []client.Mode{client.BestEffort, client.Required} {
		r := enqueuetest.New(t)
		c := cron.New()
		a := robfigaudit.New(c, r, robfigaudit.Config{Mode: mode})
		id, err := a.AddFunc(t.Context(), nightly, "@yearly", func() {})
		if err != nil {
			t.Fatal(err)
		}
		r.Fault(func(e event.Event) error {
			if e.Action == "run.finish" {
				return nil
			}
			return errors.New("no room")
		})
		ran := false
		robfigaudit.Wrapper(r, nightly, robfigaudit.Config{Mode: mode})(cron.FuncJob(func() { ran = true })).Run()
		_, addErr := a.AddFunc(t.Context(), nightly, "@yearly", func() {})
		removeErr := a.Remove(t.Context(), id)
		required := mode == client.Required
		if ran == required || (addErr != nil) != required || (removeErr != nil) != required || len(c.Entries()) != 1 {
			t.Errorf("mode %d: ran %v, added %v, removed %v, %d entries", mode, ran, addErr, removeErr, len(c.Entries()))
		}
		if e := r.Wait("run.finish", 1)[0]; (e.Outcome == "denied") != required {
			t.Errorf("%+v", e)
		}
	}
}

// TestSkipped: what another wrapper keeps from running is no run.
func TestSkipped(t *testing.T) {
	r := enqueuetest.New(t)
	release, began := make(chan struct{}), make(chan struct{})
	job := cron.NewChain(cron.SkipIfStillRunning(cron.DiscardLogger), robfigaudit.Wrapper(r, nightly, robfigaudit.Config{})).Then(cron.FuncJob(func() {
		close(began)
		<-release
	}))
	done := make(chan struct{})
	go func() { job.Run(); close(done) }()
	<-began
	job.Run()
	close(release)
	<-done
	if got := r.Actions(); !slices.Equal(got, []string{"run.start", "run.finish"}) {
		t.Errorf("%q", got)
	}
}

// TestRemovedAtOnce: a job that two remove at once is removed once in the log too.
func TestRemovedAtOnce(t *testing.T) {
	r := enqueuetest.New(t)
	a := robfigaudit.New(cron.New(), r, robfigaudit.Config{})
	id, err := a.AddFunc(t.Context(), nightly, "@yearly", func() {})
	if err != nil {
		t.Fatal(err)
	}
	r.Fault(func(event.Event) error { // while the first is being logged
		r.Fault(nil)
		if err := a.Remove(t.Context(), id); err == nil {
			t.Error("removed twice")
		}
		return nil
	})
	if err := a.Remove(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if got := r.Actions(); !slices.Equal(got, []string{"job.create", "job.delete"}) {
		t.Errorf("%q", got)
	}
}

// TestNotRemoved: what couldn't be logged can be asked for again.
func TestNotRemoved(t *testing.T) {
	r := enqueuetest.New(t)
	c := cron.New()
	a := robfigaudit.New(c, r, robfigaudit.Config{Mode: client.Required})
	id, err := a.AddFunc(t.Context(), nightly, "@yearly", func() {})
	if err != nil {
		t.Fatal(err)
	}
	r.Fault(func(event.Event) error { return client.ErrNotLogged })
	if err := a.Remove(t.Context(), id); !errors.Is(err, client.ErrNotLogged) || len(c.Entries()) != 1 {
		t.Errorf("%v, %d entries", err, len(c.Entries()))
	}
	r.Fault(nil)
	if err := a.Remove(t.Context(), id); err != nil || len(c.Entries()) != 0 {
		t.Errorf("%v, %d entries", err, len(c.Entries()))
	}
}
