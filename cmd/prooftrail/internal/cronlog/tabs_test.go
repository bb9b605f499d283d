package cronlog

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/verifier/event"
)

// TestParseTab: jobs, commented jobs and settings, with the command as cron logs it.
func TestParseTab(t *testing.T) {
	got := parseTab("# m h dom\nMAILTO=x\n \"A\" = 'b c'\n* * * * *  true  \n#0 3 * * 1-5 /bin/report --x\n@daily\techo 50\\% done %in put\n# just words * * *\n*/5 1,2 1-3 jan mon-fri a\tgrü\\\\\nnot a line\n0 0 0 0 0\n", "alice")
	var text []string
	for _, e := range got.jobs {
		text = append(text, fmt.Sprintf("%d|%s|%s|%s", e.line, e.schedule, e.user, e.command))
	}
	for _, e := range got.off {
		text = append(text, fmt.Sprintf("off %d|%s|%s|%s", e.line, e.schedule, e.user, e.command))
	}
	want := []string{"4|* * * * *|alice|true", "6|@daily|alice|echo 50% done", "8|*/5 1,2 1-3 jan mon-fri|alice|a^Igr\\303\\274\\", "off 5|0 3 * * 1-5|alice|/bin/report --x"}
	if !slices.Equal(text, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(text, "\n"), strings.Join(want, "\n"))
	}
	if got.env["MAILTO"] != "x" || got.env["A"] != "'b c'" || len(got.env) != 2 {
		t.Errorf("%q", got.env)
	}
	if sys := parseTab("17 *\t* * *\troot\tcd / && run-parts --report /etc/cron.hourly\n", ""); len(sys.jobs) != 1 || sys.jobs[0].user != "root" || sys.jobs[0].command != "cd / && run-parts --report /etc/cron.hourly" {
		t.Errorf("%+v", sys.jobs)
	}
}

func TestDiff(t *testing.T) {
	for name, tt := range map[string]struct {
		before, after string
		want          []string
	}{
		"new":                     {"", "* * * * * a\n", []string{"job.create a"}},
		"gone":                    {"* * * * * a\n", "", []string{"job.delete a"}},
		"off":                     {"1 * * * * a\n2 * * * * b\n", "# 1 * * * * a\n2 * * * * b\n", []string{"job.disable a"}},
		"on":                      {"#1 * * * * a\n2 * * * * b\n", "1 * * * * a\n2 * * * * b\n", []string{"job.enable a"}},
		"schedule":                {"1 * * * * a\n", "2 * * * * a\n", []string{"job.update a 1 * * * * -> 2 * * * *"}},
		"command":                 {"1 * * * * a\n3 * * * * c\n", "3 * * * * c\n1 * * * * b\n", []string{"job.update a -> b"}},
		"both, in its place":      {"1 * * * * a\n3 * * * * c\n", "2 * * * * b\n3 * * * * c\n", []string{"job.update a -> b 1 * * * * -> 2 * * * *"}},
		"one moves":               {"1 * * * * a\n2 * * * * b\n", "2 * * * * b\n1 * * * * a\n", nil},
		"a comment":               {"1 * * * * a\n", "# a\n1 * * * * a\n", nil},
		"two schedules, one more": {"1 * * * * a\n", "1 * * * * a\n2 * * * * a\n", []string{"job.update a 1 * * * * -> 1 * * * *; 2 * * * *"}},
		"a setting":               {"A=1\nB=2\n", "B=3\nC=4\n", []string{"env A", "env B", "env C"}},
	} {
		d := diff(parseTab(tt.before, "u"), parseTab(tt.after, "u"))
		var got []string
		for _, c := range d.jobs {
			s := c.action + " " + cmp.Or(c.before.command, c.after.command)
			if c.action == "job.update" && c.before.command != c.after.command {
				s += " -> " + c.after.command
			}
			if c.action == "job.update" && c.before.schedule != c.after.schedule {
				s += " " + c.before.schedule + " -> " + c.after.schedule
			}
			got = append(got, s)
		}
		for _, c := range d.env {
			got = append(got, "env "+c.name)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

// machine is a directory with crontabs, and a translator for them.
type machine struct {
	t    *testing.T
	tabs *Tabs
	tr   *Translator
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	dir := t.TempDir()
	m := &machine{t: t, tabs: &Tabs{Spool: filepath.Join(dir, "spool"), System: filepath.Join(dir, "crontab"), SystemDir: filepath.Join(dir, "cron.d"), State: filepath.Join(dir, "state")}}
	for _, d := range []string{m.tabs.Spool, m.tabs.SystemDir, m.tabs.State} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	m.again()
	return m
}

// again is a restart.
func (m *machine) again() {
	t := m.tabs
	m.tabs = &Tabs{Spool: t.Spool, System: t.System, SystemDir: t.SystemDir, State: t.State}
	m.tr = newTranslator(m.t, m.tabs)
}

// write puts a crontab in its place as crontab(1) does, written at the time.
func (m *machine) write(name, text string, at time.Time) {
	m.t.Helper()
	path := m.tabs.path(name)
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Chtimes(path+".new", at, at); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		m.t.Fatal(err)
	}
}

// kept keeps events, and says what they were.
func (m *machine) kept(outs []Out) (got []string) {
	m.t.Helper()
	for _, o := range outs {
		valid(m.t, o.Event)
		got = append(got, brief(o.Event))
		if o.Done != nil {
			if err := o.Done(true); err != nil {
				m.t.Error(err)
			}
		}
	}
	return got
}

func (m *machine) scan(at time.Time) []string {
	m.t.Helper()
	outs, err := m.tr.Scan(at)
	if err != nil {
		m.t.Error(err)
	}
	return m.kept(outs)
}

func (m *machine) say(uid int, text string) []string {
	m.t.Helper()
	return m.kept(say(m.t, m.tr, local(uid), noon, text))
}

func equal(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	for i, w := range want { // ids of jobs are HMACs
		if i < len(got) && strings.HasSuffix(w, "…") && strings.HasPrefix(got[i], strings.TrimSuffix(w, "…")) {
			got[i] = w
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %q\nwant %q", what, got, want)
	}
}

// TestCrontabs follows crontabs through what is done to them.
func TestCrontabs(t *testing.T) {
	m := newMachine(t)
	old := noon.Add(-time.Hour)
	m.write(systemTab, "17 * * * * root hourly\n", old)
	m.write("bob", "1 * * * * b\n", old)
	equal(t, "first look", m.scan(noon), "config.read success by prooftrail syslog to crontab:*system* observed", "config.read success by prooftrail syslog to crontab:bob observed")
	equal(t, "nothing new", m.scan(noon))
	if e := say(t, m.tr, local(0), noon, "CRON[5]: (root) CMD ([6] hourly)")[0].Event; e.Job.Schedule != "17 * * * *" {
		t.Errorf("%+v", e.Job)
	}

	m.write("alice", "1 * * * * a\n", noon)
	equal(t, "too fresh: the line may be on its way", m.scan(noon.Add(time.Second)))
	equal(t, "REPLACE", m.say(1000, "crontab[9]: (alice) REPLACE (alice)"), "job.create success by alice to job:alice/…")
	equal(t, "RELOAD of the same", m.say(0, "cron[1]: (alice) RELOAD (crontabs/alice)"))
	equal(t, "scan of the same", m.scan(noon.Add(time.Hour)))
	equal(t, "REPLACE by the same", m.say(1000, "crontab[9]: (alice) REPLACE (alice)"), "config.update success by alice to crontab:alice self")

	m.write("alice", "1 * * * * a\n2 * * * * evil\n", noon)
	equal(t, "RELOAD of what nobody has replaced", m.say(0, "cron[1]: (alice) RELOAD (crontabs/alice)"), "job.create success by unknown to job:alice/…")
	m.write("*system*new", "2 * * * * root evil\n", noon)
	equal(t, "a new file in cron.d", m.scan(noon.Add(settled)), "job.create success by unknown to job:root/…")
	if err := os.Remove(m.tabs.path("*system*new")); err != nil {
		t.Fatal(err)
	}
	equal(t, "and gone", m.scan(noon.Add(settled)), "config.delete success by unknown to crontab:*system*new observed")

	m.again()
	equal(t, "nothing new after a restart", m.scan(noon.Add(time.Hour)))
	m.write("bob", "5 * * * * b\n", noon)
	m.again()
	equal(t, "changed while nobody looked", m.scan(noon.Add(time.Hour)), "job.update success by unknown to job:bob/…")

	equal(t, "DELETE waits for what becomes of it", m.say(1000, "crontab[9]: (alice) DELETE (alice)"))
	equal(t, "not yet", m.kept(m.tr.Tick(noon)))
	if err := os.Remove(m.tabs.path("alice")); err != nil {
		t.Fatal(err)
	}
	equal(t, "no scan before it", m.scan(noon.Add(time.Hour)))
	equal(t, "DELETE", m.kept(m.tr.Tick(noon.Add(deleteAfter))), "config.delete success by alice to crontab:alice self")
	equal(t, "DELETE of none", m.say(1000, "crontab[9]: (alice) DELETE (alice)"))
	equal(t, "there was none", m.kept(m.tr.Tick(noon.Add(deleteAfter))), "config.delete failure/no_crontab by alice to crontab:alice self")
	equal(t, "DELETE of bob's", m.say(1001, "crontab[9]: (bob) DELETE (bob)"))
	m.write("bob", "5 * * * * c\n", noon)
	equal(t, "and REPLACE at once", m.say(1001, "crontab[9]: (bob) REPLACE (bob)"), "config.delete success by bob to crontab:bob self", "job.create success by bob to job:bob/…")
	equal(t, "all is told", m.scan(noon.Add(time.Hour)))
}

// TestCrontabDetails: what the events of a change hold, and what not.
func TestCrontabDetails(t *testing.T) {
	m := newMachine(t)
	m.scan(noon)
	m.write("alice", "PASSWORD=hunter2\n1 * * * * run --token s3cr3tt0ken\n", noon)
	outs := say(t, m.tr, local(1000), noon, "crontab[9]: (alice) REPLACE (alice)")
	m.kept(outs)
	var events []event.Event
	for _, o := range outs {
		events = append(events, o.Event)
	}
	text, err := json.Marshal(events)
	if err != nil || strings.Contains(string(text), "hunter2") || strings.Contains(string(text), "s3cr3tt0ken") {
		t.Errorf("%s, %v", text, err)
	}
	first := outs[1].Event
	m.write("alice", "PASSWORD=hunter3\n1 * * * * run --token s3cr3tt0ken\n", noon)
	outs = say(t, m.tr, local(1000), noon, "crontab[9]: (alice) REPLACE (alice)")
	m.kept(outs)
	// Of a secret that has changed, the HMACs tell that something has; the digests are of what is shown.
	e := outs[0].Event
	if len(outs) != 1 || e.Action != "config.update" || e.Change.BeforeSHA256 != e.Change.AfterSHA256 || e.Details["before_hmac"] != first.Details["after_hmac"] ||
		e.Details["before_hmac"] == e.Details["after_hmac"] || len(e.Change.Patch) != 1 || e.Change.Patch[0].Value != "[masked]" {
		t.Errorf("%+v %+v", e, e.Change)
	}
	m.write("alice", "PASSWORD=hunter3\n2 * * * * run --token other0ther\n", noon)
	outs = say(t, m.tr, local(1000), noon, "crontab[9]: (alice) REPLACE (alice)")
	m.kept(outs)
	e = outs[0].Event
	if len(outs) != 1 || e.Action != "job.update" || e.Details["previous_job"] == e.Job.ID || e.Details["previous_job"] == nil || len(e.Change.Patch) != 4 {
		t.Errorf("%+v %+v", e, e.Change)
	}
}

// TestManyJobs: of many jobs that change there is one event, however many they are.
func TestManyJobs(t *testing.T) {
	m := newMachine(t)
	m.scan(noon)
	for _, n := range []int{maxJobEvents, maxJobEvents + 1, 2000} {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "%d * * * * job-%d-%d --flag %s\n", i%60, n, i, strings.Repeat("x", 80))
		}
		m.write("alice", b.String(), noon)
		outs := say(t, m.tr, local(1000), noon, "crontab[9]: (alice) REPLACE (alice)")
		m.kept(outs)
		want := 1
		if n == maxJobEvents {
			want = n
		}
		if len(outs) != want {
			t.Errorf("%d jobs: %d events", n, len(outs))
		}
		if e := outs[0].Event; n == 2000 && (len(e.Target) != event.MaxTargets || len(e.Change.Patch) != maxPatch || e.Details["patch_cut"] == nil) {
			t.Errorf("%d targets, %d operations", len(e.Target), len(e.Change.Patch))
		}
		if err := os.Remove(m.tabs.path("alice")); err != nil {
			t.Fatal(err)
		}
		say(t, m.tr, local(1000), noon, "crontab[9]: (alice) DELETE (alice)")
		m.kept(m.tr.Tick(noon.Add(time.Minute)))
	}
}

// TestHostileTabs: what a user puts in the place of his crontab, or a name that leads elsewhere, is not read.
func TestHostileTabs(t *testing.T) {
	m := newMachine(t)
	m.scan(noon)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("1 * * * * secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, make := range map[string]func(path string) error{
		"a link":      func(p string) error { return os.Symlink(secret, p) },
		"a directory": func(p string) error { return os.Mkdir(p, 0o700) },
		"too long":    func(p string) error { return os.WriteFile(p, []byte(strings.Repeat("#\n", maxTab)), 0o600) },
	} {
		path := m.tabs.path("alice")
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		if err := make(path); err != nil {
			t.Fatal(err)
		}
		outs := say(t, m.tr, local(1000), noon, "crontab[9]: (alice) REPLACE (alice)")
		if len(outs) != 1 || outs[0].Event.Action != "config.replace" || outs[0].Event.Details["unread"] == nil {
			t.Errorf("%s: %+v", name, outs)
		}
		if _, err := m.tr.Scan(noon.Add(time.Hour)); err == nil {
			t.Errorf("%s: nobody is told", name)
		}
	}
	for _, name := range []string{"../secret", "/etc/shadow", "*system*../x", "*system*a.b", "", ".", "..", "tmp.X", strings.Repeat("x", 100), "a/b", "a\x00b"} {
		if p := m.tabs.path(name); p != "" {
			t.Errorf("%q is read from %s", name, p)
		}
	}
}
