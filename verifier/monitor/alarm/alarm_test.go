package alarm_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/verifier/monitor/alarm"
)

// TestID: people have it in their notes, so it stays.
func TestID(t *testing.T) {
	for want, a := range map[string]alarm.Alarm{
		"23e22b5e80ce": {Name: "fork", Log: "example.com/audit"},
		"03ea046af3cf": {Name: "fork", Peer: "example.com/audit"},
		"97d32f5e71c4": {Name: "log-unreachable", Log: "example.com/audit", Peer: "m2", Severity: alarm.Info, Summary: "x"},
	} {
		if got := a.ID(); got != want {
			t.Errorf("%+v: %s, expected %s", a, got, want)
		}
	}
}

// TestActive: the worst first, then the oldest; what is returned is the caller's, and what was
// raised is the board's.
func TestActive(t *testing.T) {
	now := since
	b := newBoard(t, alarm.Config{Now: func() time.Time { now = now.Add(time.Second); return now }})
	details := map[string]string{"a": "b"}
	for _, a := range []alarm.Alarm{{Name: "i", Severity: alarm.Info}, {Name: "w2"}, {Name: "w1", Severity: "?"}, {Name: "c", Severity: alarm.Critical, Details: details}} {
		a.Since, a.Ack = time.Unix(1, 0), &alarm.Ack{By: "mallory"}
		b.Raise(a)
	}
	details["a"] = "c"
	for range 2 {
		got := b.Active()
		var names []string
		for _, a := range got {
			names = append(names, a.Name)
			if a.Ack != nil || a.Since.Before(since) {
				t.Errorf("the caller's since or acknowledgement: %+v", a)
			}
		}
		if s := strings.Join(names, " "); s != "c w2 w1 i" || got[0].Details["a"] != "b" {
			t.Errorf("%s, %v", s, got[0].Details)
		}
		got[0].Details["a"] = "d"
	}
	long := strings.Repeat("x", 300)
	b.Raise(alarm.Alarm{Name: "Odd Name", Log: long, Peer: "\x1b"})
	b.Clear("Odd Name", long, "\x1b")
	if got := len(b.Active()); got != 4 {
		t.Errorf("%d alarms: one that was changed isn't found again", got)
	}
}

func TestLogSink(t *testing.T) {
	var out bytes.Buffer
	s := alarm.NewLogSink(slog.New(slog.NewTextHandler(&out, nil)))
	n := firing()
	n.Ack = &alarm.Ack{By: "alice", At: since}
	gone := firing()
	gone.Status, gone.Reason = alarm.Resolved, alarm.Ended
	mild := firing()
	mild.Severity = alarm.Warning
	if err := s.Deliver(t.Context(), []alarm.Notice{n, gone, mild}); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	for i, want := range []string{"level=ERROR msg=alarm id=" + n.ID(), `level=INFO msg="alarm resolved"`, "level=WARN msg=alarm"} {
		if !strings.Contains(lines[i], want) || !strings.Contains(lines[i], "name=fork") || !strings.Contains(lines[i], "log=example.com/audit") {
			t.Errorf("%s, expected %s", lines[i], want)
		}
	}
	if !strings.Contains(lines[0], "acknowledged_by=alice") {
		t.Error(lines[0])
	}
}

// TestRunTwice: one at a time.
func TestRunTwice(t *testing.T) {
	b := newBoard(t, alarm.Config{Sinks: []alarm.Sink{&fake{t: t, name: "s"}}})
	begun := make(chan struct{}, 1)
	b2 := newBoard(t, alarm.Config{Sinks: []alarm.Sink{&fake{t: t, name: "s", fault: func(alarm.Notice) (bool, error) { begun <- struct{}{}; return true, nil }}}})
	run(t, b)
	b2.Raise(fork)
	run(t, b2)
	<-begun
	if err := b2.Run(context.Background()); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("ran twice: %v", err)
	}
}
