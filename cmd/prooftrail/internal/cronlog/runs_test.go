package cronlog

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/syslog"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// runsOf says lines, a second apart, and returns what they made.
func runsOf(t *testing.T, tr *Translator, from syslog.Sender, lines ...string) (all []event.Event) {
	t.Helper()
	for i, l := range lines {
		for _, o := range say(t, tr, from, noon.Add(time.Duration(i)*time.Second), l) {
			all = append(all, o.Event)
		}
	}
	return all
}

// story is what the events say of runs, by number of the run.
func story(all []event.Event) (out []string) {
	numbers := map[string]int{}
	for _, e := range all {
		if _, ok := numbers[e.Job.RunID]; !ok {
			numbers[e.Job.RunID] = len(numbers) + 1
		}
		s := fmt.Sprintf("%d %s %s", numbers[e.Job.RunID], e.Action, e.Outcome)
		if e.Reason != nil {
			s += " " + e.Reason.Code
		}
		if e.Job.ExitCode != nil {
			s += fmt.Sprintf(" exit %d", *e.Job.ExitCode)
		}
		if e.Job.DurationMS != nil {
			s += fmt.Sprintf(" %d ms", *e.Job.DurationMS)
		}
		out = append(out, s)
	}
	return out
}

func TestRuns(t *testing.T) {
	for name, tt := range map[string]struct {
		lines, want []string
		change      func(*Config)
	}{
		"success": {[]string{"CRON[5]: (alice) CMD ([6] /bin/true)", "CRON[5]: (alice) END ([6] /bin/true)"},
			[]string{"1 run.start success", "1 run.finish success exit 0 1000 ms"}, nil},
		"failure": {[]string{"CRON[5]: (alice) CMD ([6] false)", "CRON[5]: (CRON) error (grandchild #6 failed with exit status 7)", "CRON[5]: (alice) END ([6] false)"},
			[]string{"1 run.start success", "1 run.finish failure exit_7 exit 7 1000 ms"}, nil},
		"signal": {[]string{"CRON[5]: (alice) CMD ([6] x)", "CRON[5]: (CRON) error (grandchild #6 terminated by signal 11, dumped core)", "CRON[5]: (alice) END ([6] x)"},
			[]string{"1 run.start success", "1 run.finish failure signal_11 1000 ms"}, nil},
		"the one that writes its standard input dies": {[]string{"CRON[5]: (alice) CMD ([6] x)", "CRON[5]: (CRON) error (grandchild #7 terminated by signal 13)", "CRON[5]: (alice) END ([6] x)"},
			[]string{"1 run.start success", "1 run.finish success exit 0 2000 ms"}, nil},
		"two at once, crossed": {[]string{"CRON[5]: (alice) CMD ([6] x)", "CRON[8]: (alice) CMD ([9] x)", "CRON[8]: (CRON) error (grandchild #9 failed with exit status 1)", "CRON[5]: (alice) END ([6] x)", "CRON[8]: (alice) END ([9] x)"},
			[]string{"1 run.start success", "2 run.start success", "2 run.finish failure exit_1 exit 1 1000 ms", "1 run.finish success exit 0 3000 ms"}, nil},
		"a process id comes again": {[]string{"CRON[5]: (alice) CMD ([6] x)", "CRON[5]: (alice) END ([6] x)", "CRON[8]: (bob) CMD ([6] y)", "CRON[8]: (CRON) error (grandchild #6 failed with exit status 2)"},
			[]string{"1 run.start success", "1 run.finish success exit 0 1000 ms", "2 run.start success", "2 run.finish failure exit_2 exit 2 1000 ms"}, nil},
		"a process id comes again, and the END was lost": {[]string{"CRON[5]: (alice) CMD ([6] x)", "CRON[8]: (bob) CMD ([6] y)", "CRON[8]: (bob) END ([6] y)"},
			[]string{"1 run.start success", "1 run.finish unknown end_not_seen", "2 run.start success", "2 run.finish success exit 0 1000 ms"}, nil},
		"END overtakes the error": {[]string{"CRON[5]: (alice) CMD ([6] x)", "CRON[5]: (alice) END ([6] x)", "CRON[5]: (CRON) error (grandchild #6 failed with exit status 1)", "CRON[5]: (CRON) error (grandchild #6 failed with exit status 1)"},
			[]string{"1 run.start success", "1 run.finish success exit 0 1000 ms", "1 run.finish failure exit_1 exit 1 2000 ms"}, nil},
		"CMD was lost": {[]string{"CRON[5]: (CRON) error (grandchild #6 failed with exit status 1)", "CRON[5]: (alice) END ([6] x)"},
			[]string{"1 run.finish failure exit_1 exit 1"}, nil},
		"-L 7, no process ids": {[]string{"CRON[6]: (alice) CMD (x)", "CRON[5]: (CRON) error (grandchild #6 failed with exit status 1)", "CRON[5]: (alice) END (x)"},
			[]string{"1 run.start success", "1 run.finish failure exit_1 exit 1 1000 ms"}, nil},
		"-L 3": {[]string{"CRON[6]: (alice) CMD (x)", "CRON[5]: (alice) END (x)"},
			[]string{"1 run.start success", "1 run.finish unknown process_not_logged"}, nil},
		"-L 11, no failures": {[]string{"CRON[5]: (alice) CMD ([6] x)", "CRON[5]: (alice) END ([6] x)"},
			[]string{"1 run.start success", "1 run.finish unknown failures_not_logged"}, func(c *Config) { c.Failures = false }},
		"-L 1": {[]string{"CRON[6]: (alice) CMD (x)", "CRON[6]: (alice) CMD (x)"},
			[]string{"1 run.start success", "2 run.start success"}, nil},
	} {
		tr := newTranslator(t, nil)
		if tt.change != nil {
			tt.change(&tr.cfg)
		}
		if got := story(runsOf(t, tr, local(0), tt.lines...)); !slices.Equal(got, tt.want) {
			t.Errorf("%s:\n got %q\nwant %q", name, got, tt.want)
		}
		if st := tr.Stats(); st.Unknown+st.Forged != 0 {
			t.Errorf("%s: %+v", name, st)
		}
	}
}

// TestJobIDs: a job is a user and a command, on a machine.
func TestJobIDs(t *testing.T) {
	tr := newTranslator(t, nil)
	id := func(from syslog.Sender, line string) string {
		all := runsOf(t, tr, from, line)
		return all[len(all)-1].Job.ID
	}
	first := id(local(0), "CRON[5]: (alice) CMD ([6]   /bin/true)")
	if second := id(local(0), "CRON[7]: (alice) CMD ([8] /bin/true)"); first != second || len(first) != len("alice/")+32 {
		t.Errorf("%s, %s", first, second)
	}
	for _, other := range []string{id(local(0), "CRON[5]: (alice) CMD ([6] /bin/false)"), id(local(0), "CRON[5]: (bob) CMD ([6] /bin/true)"),
		id(udp, "web1 CRON[5]: (alice) CMD ([6] /bin/true)"), id(udp, "web2 CRON[5]: (alice) CMD ([6] /bin/true)")} {
		if other == first {
			t.Errorf("%s is another's", other)
		}
	}
}

// TestForgedEndings: what others claim about a run of this machine doesn't touch it.
func TestForgedEndings(t *testing.T) {
	tr := newTranslator(t, nil)
	run := runsOf(t, tr, local(0), "CRON[5]: (alice) CMD ([6] x)")[0]
	for _, from := range []syslog.Sender{local(1000), udp, {Kind: syslog.Relay}} {
		for _, e := range runsOf(t, tr, from, "CRON[5]: (alice) END ([6] x)", "CRON[5]: (CRON) error (grandchild #6 failed with exit status 1)") {
			if e.Job != nil && e.Job.RunID == run.Job.RunID || e.Labels["ingest.identity"] == "root" {
				t.Errorf("%+v", e)
			}
		}
	}
	if got := runsOf(t, tr, local(0), "CRON[5]: (alice) END ([6] x)"); len(got) != 1 || got[0].Job.RunID != run.Job.RunID || got[0].Outcome != "success" {
		t.Errorf("%+v", got)
	}
}

// TestLostStart: an error for which no END comes is told all the same, later.
func TestLostStart(t *testing.T) {
	tr := newTranslator(t, nil)
	if got := runsOf(t, tr, udp, "web1 CRON[5]: (CRON) error (grandchild #6 failed with exit status 3)"); len(got) != 0 {
		t.Errorf("%+v", got)
	}
	if got := tr.Tick(noon.Add(lateFor - time.Second)); len(got) != 0 {
		t.Errorf("%+v", got)
	}
	got := tr.Tick(noon.Add(lateFor))
	if len(got) != 1 || got[0].Event.Job.ID != "unknown" || got[0].Event.Reason.Code != "exit_3" {
		t.Fatalf("%+v", got)
	}
	valid(t, got[0].Event)
	if again := tr.Tick(noon.Add(time.Hour)); len(again) != 0 {
		t.Errorf("%+v", again)
	}
}

// TestRunsAreBounded: of endless runs the newest are remembered, and those that are forgotten are counted.
func TestRunsAreBounded(t *testing.T) {
	tr := newTranslator(t, nil)
	tr.runs.max = 500
	for i := range 600 {
		runsOf(t, tr, local(0), fmt.Sprintf("CRON[5]: (alice) CMD ([%d] x)", i+10))
	}
	for i := range 3 * maxLate {
		runsOf(t, tr, udp, fmt.Sprintf("web1 CRON[5]: (CRON) error (grandchild #%d failed with exit status 3)", i+10))
	}
	if st := tr.Stats(); st.Open != 500 || st.Evicted != 100 || st.Unknown != 2*maxLate {
		t.Errorf("%+v", st)
	}
}

// TestRunsOutliveTheProcess: the end of a run that another process has seen begin is known as its.
func TestRunsOutliveTheProcess(t *testing.T) {
	tr := newTranslator(t, nil)
	run := runsOf(t, tr, local(0), "CRON[5]: (alice) CMD ([6] x)")[0]
	next := newTranslator(t, nil)
	next.Remember(tr.Runs())
	if got := runsOf(t, next, local(0), "CRON[5]: (CRON) error (grandchild #6 failed with exit status 1)"); len(got) != 1 || got[0].Job.RunID != run.Job.RunID || got[0].Job.ID != run.Job.ID {
		t.Errorf("%+v", got)
	}
}
