package gocronaudit

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-co-op/gocron/v2"
	"github.com/google/uuid"

	"github.com/prooftrail/prooftrail/verifier/client"
	"github.com/prooftrail/prooftrail/verifier/client/internal/fit"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// jobInfo is what a monitor may ask a job without waiting for the scheduler's loop, in which it may be.
type jobInfo struct {
	id             uuid.UUID
	name, schedule string
	tags           []string
}

func infoOf(j gocron.Job) jobInfo {
	return jobInfo{j.ID(), fit.Text(j.Name(), 512), fit.Text(scheduleText(j.Schedule()), 4096), j.Tags()}
}

// event makes an event about the job.
func (j *jobInfo) event(action string, by client.Caller) event.Event {
	e := event.Event{Time: time.Now(), Action: action, Outcome: "success", Actor: by.Actor, Origin: by.Origin,
		Target: []event.Target{{Type: "job", ID: j.id.String(), Name: j.name}},
		Job:    &event.Job{ID: j.id.String(), Name: j.name, Schedule: j.schedule}}
	if len(j.tags) > 0 {
		e.Details = map[string]any{"tags": slices.Clone(j.tags)}
	}
	return e
}

// failed makes it the event of a failure.
func failed(e event.Event, outcome, code, text string) event.Event {
	e.Outcome, e.Reason = outcome, &event.Reason{Code: code, Text: text}
	return e
}

// change says what makes one job the other. What the job's function does isn't to be seen.
func change(before, after jobInfo) *event.Change {
	c := &event.Change{BeforeSHA256: before.digest(), AfterSHA256: after.digest()}
	replace := func(path string, value any) {
		c.Patch = append(c.Patch, event.Operation{Op: "replace", Path: path, Value: value})
	}
	if before.name != after.name {
		replace("/name", after.name)
	}
	if before.schedule != after.schedule {
		replace("/schedule", after.schedule)
	}
	if !slices.Equal(before.tags, after.tags) {
		replace("/tags", append([]string{}, after.tags...))
	}
	return c
}

func (j *jobInfo) digest() string {
	sum := sha256.Sum256([]byte(strings.Join(append([]string{j.name, j.schedule}, j.tags...), "\x00")))
	return hex.EncodeToString(sum[:])
}

// scheduleText writes a schedule as a person would.
func scheduleText(s gocron.JobSchedule) string {
	switch s := s.(type) {
	case gocron.CronJobSchedule:
		return s.Crontab
	case gocron.DurationJobSchedule:
		return "every " + s.Duration.String()
	case gocron.DurationRandomJobSchedule:
		return fmt.Sprintf("every %s to %s", s.Min, s.Max)
	case gocron.DailyJobSchedule:
		return fmt.Sprintf("every %d days at %s", s.Interval, clock(s.AtTimes))
	case gocron.WeeklyJobSchedule:
		return fmt.Sprintf("every %d weeks on %s at %s", s.Interval, list(s.DaysOfWeek), clock(s.AtTimes))
	case gocron.MonthlyJobSchedule:
		return fmt.Sprintf("every %d months on days %s at %s", s.Interval, list(append(slices.Clone(s.Days), s.DaysFromEnd...)), clock(s.AtTimes))
	case gocron.OneTimeJobSchedule:
		var all []string
		for _, t := range s.StartAt {
			all = append(all, t.UTC().Format(time.RFC3339))
		}
		return strings.TrimSpace("once " + strings.Join(all, ", "))
	}
	return ""
}

func list[T any](all []T) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(all), " ", ", "), "[]")
}

func clock(times []time.Time) string {
	var all []string
	for _, t := range times {
		all = append(all, t.Format(time.TimeOnly))
	}
	return strings.Join(all, ", ")
}
