package gocronaudit_test

import (
	"slices"
	"testing"
	"time"

	"github.com/go-co-op/gocron/v2"
	"github.com/google/uuid"

	"github.com/prooftrail/prooftrail/verifier/client/gocronaudit"
)

// stubborn has a method that panics where it is nil.
type stubborn struct{ text string }

func (s *stubborn) Error() string { return s.text }

// TestErrorPanics: a job's error that can't say what it is doesn't end the process.
func TestErrorPanics(t *testing.T) {
	s, a, r := scheduler(t, gocronaudit.Config{})
	by := a.By(ada(t), s)
	job, err := by.NewJob(hourly, gocron.NewTask(func() error { return (*stubborn)(nil) }))
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if err := by.RunNow(job); err != nil {
		t.Fatal(err)
	}
	if e := r.Wait("run.finish", 1)[0]; e.Outcome != "failure" || e.Reason.Text == "" {
		t.Errorf("%+v", e)
	}
}

// TestOptionPanics: a call that ends so keeps nothing of later ones from the log.
func TestOptionPanics(t *testing.T) {
	s, a, r := scheduler(t, gocronaudit.Config{})
	by, id := a.By(ada(t), s), uuid.New()
	task := gocron.NewTask(func() {})
	for _, call := range []func(){
		func() { _, _ = by.NewJob(hourly, task, nil) },
		func() { _, _ = by.Update(id, hourly, task, nil) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("gocron takes that: find another way")
				}
			}()
			call()
		}()
	}
	if _, err := s.NewJob(hourly, task, gocron.WithIdentifier(id)); err != nil {
		t.Fatal(err)
	}
	flush(t, a)
	if got := r.Actions(); !slices.Equal(got, []string{"job.update", "job.create"}) { // the first is a failure
		t.Errorf("%q", got)
	}
}

// TestBackThroughBy: a job that was removed, and not through By, and is made again through it, is by whoever made it; the log's
// order is that of what happened.
func TestBackThroughBy(t *testing.T) {
	s, a, r := scheduler(t, gocronaudit.Config{UpdateWithin: time.Hour})
	by, id := a.By(ada(t), s), uuid.New()
	task := gocron.NewTask(func() {})
	make := func() {
		t.Helper()
		if _, err := by.NewJob(hourly, task, gocron.WithIdentifier(id)); err != nil {
			t.Fatal(err)
		}
	}
	remove := func() {
		t.Helper()
		if err := s.RemoveJob(id); err != nil {
			t.Fatal(err)
		}
		s.Jobs() // it is gone
	}
	make()
	remove()
	make()
	flush(t, a)
	if e := r.Wait("job.update", 1)[0]; !byAda(e) {
		t.Errorf("%+v", e)
	}
	remove()
	if _, err := by.Update(id, hourly, task); err != nil {
		t.Fatal(err)
	}
	flush(t, a)
	if got := r.Actions(); !slices.Equal(got, []string{"job.create", "job.update", "job.delete", "job.create"}) {
		t.Errorf("%q", got)
	}
}
