package cronservice

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/go-co-op/gocron/v2"
	"github.com/google/uuid"

	"github.com/prooftrail/prooftrail/verifier/event"
)

// job is a job. Schedule and the gocron job change together, under Service.mu.
type job struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Schedule   string `json:"schedule"` // cron expression with seconds
	Command    string `json:"command"`
	Credential string `json:"credential,omitempty"` // that the command needs
	Owner      string `json:"owner"`

	key uuid.UUID // gocron's
}

func (j *job) target() event.Target { return event.Target{Type: "job", ID: j.ID, Name: j.Name} }

func (j *job) event() *event.Job {
	return &event.Job{ID: j.ID, Name: j.Name, Schedule: j.Schedule, TZ: "UTC", CommandSHA256: digest([]byte(j.Command))}
}

// digest of the definition, for events about changes.
func (j *job) digest() string {
	b, err := json.Marshal(j)
	if err != nil {
		return ""
	}
	return digest(b)
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func (s *Service) listJobs(c *call) (any, error) {
	if err := c.allowed(Admin, Operator); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []job{}
	for _, j := range s.jobs {
		list = append(list, *j)
	}
	slices.SortFunc(list, func(a, b job) int { return strings.Compare(a.ID, b.ID) })
	return list, nil
}

func (s *Service) createJob(c *call) (any, error) {
	var in struct{ Name, Schedule, Command, Credential string }
	if err := errors.Join(c.read(&in), named(in.Name, in.Schedule, in.Command)); err != nil {
		return nil, err
	}
	j := &job{ID: newID("job"), Name: in.Name, Schedule: in.Schedule, Command: in.Command, Credential: in.Credential, key: uuid.New()}
	err := c.allowed(Admin, Operator)
	if err == nil {
		j.Owner = c.session.user.id
		err = s.addJob(j)
	}
	e := c.event("job.create", j.target())
	e.Job = j.event()
	if err := s.finish(c, e, err, func() { _ = s.dropJob(*j) }); err != nil {
		return nil, err
	}
	return j, nil
}

func (s *Service) addJob(j *job) error {
	if commands[j.Command] == nil {
		return badRequest("there is no such command")
	}
	if err := checkSchedule(j.Schedule); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.sched.NewJob(gocron.CronJob(j.Schedule, true), s.task(*j), gocron.WithIdentifier(j.key), gocron.WithName(j.Name))
	if err != nil {
		return err
	}
	s.jobs[j.ID] = j
	return nil
}

// checkSchedule comes before gocron's Update, which drops the job when it
// doesn't like the new schedule.
func checkSchedule(schedule string) error {
	if gocron.NewDefaultCron(true).IsValid(schedule, time.UTC, time.Now()) != nil {
		return badRequest("the schedule isn't a cron expression with seconds")
	}
	return nil
}

// task is what gocron calls, with the job as it is now.
func (s *Service) task(j job) gocron.Task {
	return gocron.NewTask(func(ctx context.Context) { s.run(ctx, j) })
}

func (s *Service) updateJob(c *call) (any, error) {
	var in struct{ Schedule string }
	if err := errors.Join(c.read(&in), named(in.Schedule)); err != nil {
		return nil, err
	}
	before, err := s.job(c.r.PathValue("id"))
	after := before
	after.Schedule = in.Schedule
	if err == nil {
		err = c.allowed(Admin, Operator)
	}
	if err == nil {
		err = s.changeJob(after)
	}
	e := c.event("job.update", before.target())
	e.Job = after.event()
	e.Change = &event.Change{
		BeforeSHA256: before.digest(), AfterSHA256: after.digest(),
		Patch: []event.Operation{{Op: "replace", Path: "/schedule", Value: in.Schedule}},
	}
	if err := s.finish(c, e, err, func() { _ = s.changeJob(before) }); err != nil {
		return nil, err
	}
	return after, nil
}

// job returns a copy of a job; if there is none, a stand-in to name in the event.
func (s *Service) job(id string) (job, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j := s.jobs[id]; j != nil {
		return *j, nil
	}
	return job{ID: id}, errNotFound
}

func (s *Service) changeJob(j job) error {
	if err := checkSchedule(j.Schedule); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.jobs[j.ID] == nil {
		return errNotFound
	}
	if _, err := s.sched.Update(j.key, gocron.CronJob(j.Schedule, true), s.task(j), gocron.WithName(j.Name)); err != nil {
		return err
	}
	s.jobs[j.ID] = &j
	return nil
}

func (s *Service) deleteJob(c *call) (any, error) {
	j, err := s.job(c.r.PathValue("id"))
	if err == nil {
		err = c.allowed(Admin, Operator)
	}
	if err == nil {
		err = s.dropJob(j)
	}
	e := c.event("job.delete", j.target())
	e.Job = j.event()
	if err := s.finish(c, e, err, func() { _ = s.addJob(&j) }); err != nil {
		return nil, err
	}
	return struct{}{}, nil
}

func (s *Service) dropJob(j job) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.jobs[j.ID] == nil {
		return errNotFound
	}
	if err := s.sched.RemoveJob(j.key); err != nil {
		return err
	}
	delete(s.jobs, j.ID)
	return nil
}

// run runs a job once. Its events are handed over and not waited for.
func (s *Service) run(ctx context.Context, j job) {
	began := time.Now()
	e := event.Event{
		Action: "run.start", Outcome: "success", Target: []event.Target{j.target()}, Job: j.event(),
		Actor: event.Actor{Type: "schedule", ID: j.ID, Name: j.Name, OnBehalfOf: j.Owner},
	}
	e.Job.RunID, e.Job.Trigger, e.Job.Node = newID("run"), "schedule", s.node
	e.Job.ScheduledFor = began.Truncate(time.Second).UTC()
	start := *e.Job
	e.Job = &start
	s.record(e)

	var secret string
	if j.Credential != "" {
		cred, err := s.credential(j.Credential)
		read := e
		read.Action, read.Target = "credential.read", []event.Target{cred.target(), j.target()}
		if err != nil {
			read.Outcome, read.Reason = "failure", &event.Reason{Code: "not-found"}
		}
		s.record(read)
		secret = cred.secret
	}

	code, text := commands[j.Command](ctx, secret)
	e.Action = "run.finish"
	if code != 0 {
		e.Outcome, e.Reason = "failure", &event.Reason{Code: "exit-status", Text: text}
	}
	took := time.Since(began).Milliseconds()
	done := start
	done.ExitCode, done.DurationMS = &code, &took
	e.Job = &done
	s.record(e)
}
