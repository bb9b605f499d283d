package gocronaudit

import (
	"testing"
	"time"

	"github.com/go-co-op/gocron/v2"
)

// TestScheduleText: all that gocron has, asked of a real scheduler.
func TestScheduleText(t *testing.T) {
	s, err := gocron.NewScheduler(gocron.WithLocation(time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Shutdown() }()
	at := gocron.NewAtTimes(gocron.NewAtTime(2, 30, 0), gocron.NewAtTime(14, 0, 5))
	once := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	for want, d := range map[string]gocron.JobDefinition{
		"0 2 * * *":                          gocron.CronJob("0 2 * * *", false),
		"every 1m30s":                        gocron.DurationJob(90 * time.Second),
		"every 1m0s to 2m0s":                 gocron.DurationRandomJob(time.Minute, 2*time.Minute),
		"every 2 days at 02:30:00, 14:00:05": gocron.DailyJob(2, at),
		"every 1 weeks on Monday, Friday at 02:30:00, 14:00:05":  gocron.WeeklyJob(1, gocron.NewWeekdays(time.Monday, time.Friday), at),
		"every 1 months on days 1, 15, -1 at 02:30:00, 14:00:05": gocron.MonthlyJob(1, gocron.NewDaysOfTheMonth(1, 15, -1), at),
		"once " + once.Format(time.RFC3339):                      gocron.OneTimeJob(gocron.OneTimeJobStartDateTime(once)),
	} {
		job, err := s.NewJob(d, gocron.NewTask(func() {}))
		if err != nil {
			t.Fatalf("%s: %v", want, err)
		}
		if got := scheduleText(job.Schedule()); got != want {
			t.Errorf("%q, expected %q", got, want)
		}
	}
}
