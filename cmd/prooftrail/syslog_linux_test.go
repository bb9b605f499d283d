package main

import (
	"bufio"
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/deployment/porttest"
	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/client"
	"github.com/prooftrail/prooftrail/verifier/event"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

// syslogSource is the source of the command in these tests.
const syslogSource = "cron://machine/syslog"

// syslogTest is a log and `prooftrail syslog`, which can be ended and started again.
type syslogTest struct {
	*killRun
	url, base string
	sockets   []string
	said      *lockedBuffer
	cmd       *exec.Cmd
}

// lockedBuffer can be read while a process writes to it.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newSyslogTest(t *testing.T) *syslogTest {
	t.Helper()
	dir := t.TempDir()
	address, err := porttest.Address()
	if err != nil {
		t.Fatal(err)
	}
	k := newKillRun(t, filepath.Join(dir, "log"))
	k.flags = []string{"--listen", address}
	return &syslogTest{killRun: k, url: "http://" + address, base: filepath.Join(dir, "syslog"), said: new(lockedBuffer)}
}

// begin starts `prooftrail syslog`, and waits until it listens.
func (s *syslogTest) begin(args ...string) {
	t := s.t
	t.Helper()
	s.cmd = exec.Command("prooftrail", append([]string{"syslog", "--server", s.url, "--token-file", filepath.Join(s.dir, "tokens", "submit.token"),
		"--policy", filepath.Join(s.dir, "policy.txt"), "--spool", s.base, "--source", syslogSource}, args...)...)
	s.cmd.Stderr = s.said
	s.cmd.SysProcAttr = endsWithParent()
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	cmd := s.cmd
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	s.sockets = nil
	in := bufio.NewReader(out)
	for range slices.DeleteFunc(slices.Clone(args), func(a string) bool { return a != "--listen" }) {
		line, err := in.ReadString('\n')
		socket, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
		if err != nil || !ok {
			t.Fatalf("it said %q, %v\n%s", line, err, s.said)
		}
		s.sockets = append(s.sockets, socket)
	}
}

// end ends it with a signal.
func (s *syslogTest) end(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
	if err := s.cmd.Wait(); sig != syscall.SIGKILL && err != nil {
		s.t.Fatalf("it ended with %v\n%s", err, s.said)
	}
}

// logged returns all events of the source that are in the log, but for its accounts.
func (s *syslogTest) logged() (all []event.Fields) {
	t := s.t
	t.Helper()
	c, err := client.New(client.Config{URL: s.url, Token: s.tokens["read"], Policy: s.policy})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, cp, _, err := c.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for next := uint64(0); next < cp.Size; {
		err := c.Openings(t.Context(), next, int(min(cp.Size-next, 10_000)), func(line client.OpeningLine) error {
			o, err := seal.ParseOpening(line.Opening)
			if err != nil {
				return err
			}
			next = line.Index + 1
			if e := o.Event(); e.Text("/source") == syslogSource && !strings.HasPrefix(e.Text("/action"), "audit.") {
				all = append(all, e)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// audited returns what an audit says of the source.
func (s *syslogTest) audited() verifier.SourceReport {
	t := s.t
	t.Helper()
	source, err := verifier.NewHTTPLog(verifier.HTTPConfig{URL: s.url + "/logs/audit", Token: s.tokens["read"]})
	if err != nil {
		t.Fatal(err)
	}
	report, err := verifier.Audit(t.Context(), verifier.AuditConfig{Source: source, Openings: source, Policy: s.policy})
	if err != nil {
		t.Fatalf("audit: %v\n%+v", err, report)
	}
	i := slices.IndexFunc(report.Sources, func(r verifier.SourceReport) bool { return r.Source == syslogSource })
	if i < 0 {
		t.Fatalf("the audit doesn't know the source: %+v", report.Sources)
	}
	return report.Sources[i]
}

// wanted is an event that must be there: the values of some of its fields, as regular expressions.
type wanted map[string]string

func (w wanted) is(e event.Fields) bool {
	for pointer, want := range w {
		v, _ := e.Get(pointer)
		text := e.Text(pointer)
		if text == "" {
			text = string(v)
		}
		if !regexp.MustCompile("^(?:" + want + ")$").MatchString(text) {
			return false
		}
	}
	return true
}

// await waits until each of the events is in the log, as often as it is wanted, and returns them in that order.
func (s *syslogTest) await(what string, events ...wanted) []event.Fields {
	t := s.t
	t.Helper()
	var all []event.Fields
	for began := time.Now(); ; <-time.After(200 * time.Millisecond) {
		all = s.logged()
		used := map[int]bool{}
		var found []event.Fields
		var missing wanted
		for _, w := range events {
			i := slices.IndexFunc(all, func(e event.Fields) bool { return w.is(e) })
			for i >= 0 && used[i] {
				next := slices.IndexFunc(all[i+1:], func(e event.Fields) bool { return w.is(e) })
				if next < 0 {
					i = -1
				} else {
					i += 1 + next
				}
			}
			if i < 0 {
				missing = w
				break
			}
			used[i] = true
			found = append(found, all[i])
		}
		if missing == nil {
			return found
		}
		if time.Since(began) > 70*time.Second {
			t.Fatalf("%s: there is no %v among\n%s\nit said\n%s", what, missing, show(all), s.said)
		}
	}
}

func show(all []event.Fields) string {
	var b strings.Builder
	for _, e := range all[max(len(all)-60, 0):] {
		for _, f := range e {
			if f.Pointer != "/id" && f.Pointer != "/schema" && !strings.HasPrefix(f.Pointer, "/ingest/") && f.Pointer != "/tenant" {
				fmt.Fprintf(&b, "%s=%s ", f.Pointer, f.Value)
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

const aliceTab = `# alice's
PASSWORD=hunter2
@reboot echo run > /dev/null
@reboot exit 7 %some input
@reboot kill -9 $$
@reboot true --token s3cr3tt0ken grüße
* * * * * false
0 3 * * * /usr/local/bin/invoices
30 4 * * * /usr/local/bin/report
`

// TestSyslogCron has the real cron and crontab of Debian run with `prooftrail syslog` on their /dev/log, among mounts of their
// own: what they do is in the log, and nothing that somebody else made up in their name.
func TestSyslogCron(t *testing.T) {
	t.Parallel() // most of it waits for the full minute
	if os.Getuid() != 0 {
		asRoot(t)
		return
	}
	needPrograms(t, map[string]string{"cron": "cron", "crontab": "cron", "sudo": "sudo", "logger": "bsdutils", "su": "util-linux"})
	if os.Getenv(ownMounts) == "" {
		if !ranAs(t, &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}) {
			t.Skip("cron's machine has mounts of its own: that takes CAP_SYS_ADMIN")
		}
		return
	}
	cronMachine(t)
	s := newSyslogTest(t)
	server := s.start()
	s.begin("--listen", "unix:/dev/log", "--report", "1s", "--scan", "1s")
	s.await("what was there", wanted{"/action": "config.read", "/target/0/id": `\*system\*`, "/labels/ingest.identity": "observed"})

	if err := as(t, aliceUID, aliceTab, "crontab", "-"); err != nil {
		t.Fatal(err)
	}
	if err := as(t, bobUID, "", "crontab", "-l"); err == nil {
		t.Error("bob may use crontab")
	}
	_ = as(t, aliceUID, "", "crontab", "-l")
	_ = as(t, aliceUID, "", "crontab", "-e")
	_ = as(t, aliceUID, "", "logger", "-t", "CRON", "-p", "cron.info", "--", "(root) CMD ([1234] /bin/evil)")
	_ = as(t, aliceUID, "", "logger", "-t", "crontab", "-p", "cron.info", "--", "(root) REPLACE (root)")
	_ = as(t, aliceUID, "", "logger", "-t", "CRON", "-p", "cron.info", "--", "(CRON) error (grandchild #1 failed with exit status 3)")
	_ = as(t, aliceUID, "", "sudo", "-n", "/bin/echo", "--password", "hunter2")
	_ = as(t, aliceUID, "wrong\n", "sudo", "-S", "true")
	_ = as(t, aliceUID, "wrong\n", "su", "bob", "-c", "true")
	self := map[string]string{"/labels/ingest.sender": "unix-credentials", "/labels/ingest.identity": "self"}
	s.await("crontab",
		with(self, wanted{"/action": "job.create", "/actor/id": "alice", "/job/schedule": "0 3 .*", "/details/command": "/usr/local/bin/invoices", "/labels/crontab.change": "crontab"}),
		with(self, wanted{"/action": "config.update", "/actor/id": "alice", "/target/0/id": "alice", "/change/patch": `.*/env/PASSWORD","value":"\[masked\]".*`}),
		with(self, wanted{"/action": "config.read", "/actor/id": "alice", "/target/0/id": "alice"}),
		with(self, wanted{"/action": "config.edit", "/actor/id": "alice", "/outcome": "attempt"}),
		with(self, wanted{"/action": "config.edit", "/actor/id": "alice", "/outcome": "success"}),
		with(self, wanted{"/action": "access.denied", "/actor/id": "bob", "/outcome": "denied", "/reason/code": "not_allowed"}),
		with(self, wanted{"/action": "sudo.run", "/actor/id": "alice", "/actor/on_behalf_of": "root", "/outcome": "success", "/details/command": `/bin/echo --password \[masked\]`}),
		with(self, wanted{"/action": "sudo.run", "/actor/id": "alice", "/actor/on_behalf_of": "root", "/outcome": "denied", "/reason/code": "incorrect_password"}),
		with(self, wanted{"/action": "auth.login", "/outcome": "failure", "/actor/id": "bob", "/target/0/id": "su", "/details/by": "alice"}),
		with(self, wanted{"/action": "syslog.forged", "/actor/id": "alice", "/details/line": `\(root\) CMD .*`}),
		with(self, wanted{"/action": "syslog.forged", "/actor/id": "alice", "/details/line": `\(root\) REPLACE .*`}),
		with(self, wanted{"/action": "syslog.forged", "/actor/id": "alice", "/details/line": `\(CRON\) error .*`}),
	)

	cron := exec.Command("/usr/sbin/cron", "-f", "-L", "15")
	cron.SysProcAttr = endsWithParent()
	if err := cron.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cron.Process.Kill(); _ = cron.Wait() })
	root := map[string]string{"/labels/ingest.sender": "unix-credentials", "/labels/ingest.identity": "root"}
	runs := s.await("@reboot",
		with(root, wanted{"/action": "scheduler.start"}),
		with(root, wanted{"/action": "run.start", "/details/command": "echo run > /dev/null", "/details/user": "alice", "/job/schedule": "@reboot"}),
		with(root, wanted{"/action": "run.finish", "/job/name": "echo run > /dev/null", "/outcome": "success", "/job/exit_code": "0", "/job/duration_ms": `\d+`}),
		with(root, wanted{"/action": "run.finish", "/job/name": "exit 7", "/outcome": "failure", "/job/exit_code": "7", "/reason/code": "exit_7"}),
		with(root, wanted{"/action": "run.finish", "/job/name": `kill -9 \$\$`, "/outcome": "failure", "/reason/code": "signal_9"}),
		with(root, wanted{"/action": "run.start", "/details/command": `true --token \[masked\] gr\\303\\274\\303\\237e`, "/job/schedule": "@reboot"}),
	)
	if a, b := runs[1], runs[2]; a.Text("/job/run_id") != b.Text("/job/run_id") || a.Text("/job/id") != b.Text("/job/id") || a.Text("/job/run_id") == "" {
		t.Errorf("start and finish of one run:\n%s", show(runs[1:3]))
	}

	// Changed behind crontab's back, a new file in cron.d, and one that is broken. cron looks at the full minute.
	appendTo(t, "/var/spool/cron/crontabs/alice", "15 5 * * * /usr/local/bin/backdoor\n")
	for file, text := range map[string]string{"ok": "15 5 * * * root /usr/local/bin/cleanup\n", "bad": "* * * * root true\n"} {
		if err := os.WriteFile("/etc/cron.d/"+file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s.await("the next minute",
		wanted{"/action": "job.create", "/actor/type": "anonymous", "/details/command": ".*backdoor", "/labels/crontab.change": "direct", "/target/1/id": "alice"},
		wanted{"/action": "job.create", "/actor/type": "anonymous", "/details/command": ".*cleanup", "/details/user": "root", "/target/1/id": `\*system\*ok`},
		with(root, wanted{"/action": "run.finish", "/job/name": "false", "/outcome": "failure", "/job/exit_code": "1", "/job/schedule": `\* \* \* \* \*`}),
		with(root, wanted{"/action": "config.load", "/outcome": "failure", "/reason/text": "bad day-of-week"}),
	)

	// One job is switched off, and one gets another schedule: two events, and no more.
	before := len(s.logged())
	changed := strings.ReplaceAll(strings.ReplaceAll(aliceTab, "30 4", "#30 4"), "0 3 ", "0 2 ")
	if err := as(t, aliceUID, changed+"15 5 * * * /usr/local/bin/backdoor\n", "crontab", "-"); err != nil {
		t.Fatal(err)
	}
	switched := s.await("a toggle and a schedule",
		with(self, wanted{"/action": "job.disable", "/actor/id": "alice", "/details/command": ".*report", "/job/schedule": "30 4 .*"}),
		with(self, wanted{"/action": "job.update", "/actor/id": "alice", "/details/command": ".*invoices", "/change/patch": `.*"0 3 \* \* \*".*"0 2 \* \* \*".*`}),
	)
	created := s.await("the same job", wanted{"/action": "job.create", "/details/command": ".*invoices"})
	if created[0].Text("/job/id") != switched[1].Text("/job/id") {
		t.Error("a job's id has changed with its schedule")
	}
	if all := slices.DeleteFunc(s.logged()[before:], func(e event.Fields) bool {
		return !strings.HasPrefix(e.Text("/action"), "job.") && !strings.HasPrefix(e.Text("/action"), "config.")
	}); len(all) != 2 {
		t.Errorf("a toggle and a schedule made\n%s", show(all))
	}
	if err := as(t, aliceUID, "", "crontab", "-r"); err != nil {
		t.Fatal(err)
	}
	s.await("gone",
		with(self, wanted{"/action": "config.delete", "/actor/id": "alice", "/outcome": "success", "/target/1/type": "job", "/change/patch": `.*"remove".*`}))
	s.end(syscall.SIGTERM)
	s.checkCron(server)
}

func with(more map[string]string, w wanted) wanted {
	maps.Copy(w, more)
	return w
}

// checkCron checks the log as a whole.
func (s *syslogTest) checkCron(server *server) {
	t := s.t
	t.Helper()
	s.check(server, true)
	if r := s.audited(); r.Missing != 0 || r.Dropped != 0 || r.Repeated != 0 || r.Suspicious() {
		t.Errorf("the audit says %+v", r)
	}
	all := s.logged()
	var text string
	for _, e := range all {
		text += show([]event.Fields{e})
	}
	for _, secret := range []string{"hunter2", "s3cr3tt0ken"} {
		if strings.Contains(text, secret) {
			t.Errorf("%s is in the log", secret)
		}
	}
	runs := map[string][]string{}
	for _, e := range all {
		if a := e.Text("/action"); strings.HasPrefix(a, "run.") {
			runs[e.Text("/job/run_id")] = append(runs[e.Text("/job/run_id")], a)
			if strings.Contains(e.Text("/job/name"), "evil") {
				t.Errorf("a forged line has made\n%s", show([]event.Fields{e}))
			}
		}
	}
	for id, r := range runs {
		if !slices.Equal(r, []string{"run.start", "run.finish"}) {
			t.Errorf("run %s: %q", id, r)
		}
	}
	for _, action := range []string{"syslog.lost"} {
		if i := slices.IndexFunc(all, func(e event.Fields) bool { return e.Text("/action") == action }); i >= 0 {
			t.Errorf("%s", show(all[i:i+1]))
		}
	}
	if strings.Contains(s.said.String(), "unknown=") {
		t.Errorf("lines were not understood\n%s", s.said)
	}
}
