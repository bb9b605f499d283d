package cronlog

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/syslog"
)

// done says of events whether they were kept.
func (m *machine) done(outs []Out, kept bool) {
	m.t.Helper()
	for _, o := range outs {
		if o.Done != nil {
			if err := o.Done(kept); err != nil {
				m.t.Error(err)
			}
		}
	}
}

// TestLongestTab: one user's longest crontab is told, and is masked once for it: of its jobs only those are for which there is room in
// the event. His saying again that he has replaced it costs next to nothing.
func TestLongestTab(t *testing.T) {
	m := newMachine(t)
	m.scan(noon)
	mask, masked := m.tr.cfg.Mask, 0
	m.tr.cfg.Mask = func(s string) string { masked += len(s); return mask(s) }
	for _, name := range []string{"a", "b"} {
		var b strings.Builder
		for i := 0; b.Len() < maxTab-40; i++ {
			fmt.Fprintf(&b, "* * * * * %s%d\n", name, i)
		}
		m.write("alice", b.String(), noon)
		masked = 0
		equal(t, "REPLACE", m.say(1000, "crontab[9]: (alice) REPLACE (alice)"), "config.update success by alice to crontab:alice self")
		if masked > b.Len()+16<<10 {
			t.Errorf("for a crontab of %d bytes %d are masked", b.Len(), masked)
		}
		masked = 0
		equal(t, "REPLACE by the same", m.say(1000, "crontab[9]: (alice) REPLACE (alice)"), "config.update success by alice to crontab:alice self")
		if masked > 4<<10 {
			t.Errorf("a line that changes nothing has %d bytes masked", masked)
		}
	}
}

// TestLostIsToldAgain: a change whose events were dropped, one of them or all, is told again, with what came after it.
func TestLostIsToldAgain(t *testing.T) {
	m := newMachine(t)
	old := noon.Add(-time.Hour)
	m.write("alice", "1 * * * * a\n", old)
	m.scan(noon)
	m.write("alice", "1 * * * * a\n2 * * * * b\n3 * * * * c\n", old.Add(time.Minute))
	outs := say(t, m.tr, local(1000), noon, "crontab[9]: (alice) REPLACE (alice)")
	if len(outs) != 2 {
		t.Fatalf("%+v", outs)
	}
	m.done(outs[:1], false)
	m.done(outs[1:], true)
	again := []string{"job.create success by unknown to job:alice/…", "job.create success by unknown to job:alice/…"}
	outs, err := m.tr.Scan(noon)
	if err != nil || len(outs) != 2 {
		t.Fatalf("%+v, %v", outs, err)
	}
	// What comes before that is known is told as the change that it is. It doesn't hide the one before it.
	m.write("alice", "1 * * * * a\n2 * * * * b\n3 * * * * c\n4 * * * * d\n", old.Add(2*time.Minute))
	next := say(t, m.tr, local(1000), noon, "crontab[9]: (alice) REPLACE (alice)")
	if len(next) != 1 {
		t.Fatalf("%+v", next)
	}
	m.done(outs, false)
	m.done(next, true)
	equal(t, "all is told again", m.scan(noon), append(again, again[0])...)
	equal(t, "and then no more", m.scan(noon))
}

// TestDeleteHidesNothing: DELETE after DELETE, of the owner's or of whoever reaches a socket, doesn't keep a crontab from being looked at, or
// take a real one's place.
func TestDeleteHidesNothing(t *testing.T) {
	m := newMachine(t)
	m.scan(noon)
	m.write("alice", "1 * * * * a\n", noon.Add(-time.Hour))
	m.say(1000, "crontab[9]: (alice) DELETE (alice)")
	equal(t, "scan", m.scan(noon), "job.create success by unknown to job:alice/…")
	m.write("alice", "1 * * * * a\n2 * * * * b\n", noon.Add(-time.Hour))
	equal(t, "RELOAD", m.say(0, "cron[1]: (alice) RELOAD (crontabs/alice)"), "job.create success by unknown to job:alice/…")
	m.kept(m.tr.Tick(noon.Add(deleteAfter)))

	equal(t, "DELETE", m.say(1000, "crontab[9]: (alice) DELETE (alice)"))
	for _, from := range []syslog.Sender{udp, {Kind: syslog.Relay}} {
		equal(t, "of others", m.kept(say(t, m.tr, from, noon, "web1 crontab[9]: (bob) DELETE (alice)")))
	}
	if err := os.Remove(m.tabs.path("alice")); err != nil {
		t.Fatal(err)
	}
	equal(t, "it is alice's", m.kept(m.tr.Tick(noon.Add(deleteAfter))), "config.delete success by alice to crontab:alice self",
		"config.delete unknown/not_checked by bob to crontab:alice claimed", "config.delete failure/no_crontab by bob to crontab:alice claimed")
	for i := range 2 * maxLate {
		say(t, m.tr, udp, noon, fmt.Sprintf("web1 crontab[9]: (bob) DELETE (u%d)", i))
	}
	equal(t, "there is room for it", m.say(1000, "crontab[9]: (alice) DELETE (alice)"))
	if st := m.tr.Stats(); st.Unknown != maxLate {
		t.Errorf("%+v", st)
	}
}

// TestTimeToCome: a crontab whose time is set to one that is still to come is told all the same.
func TestTimeToCome(t *testing.T) {
	m := newMachine(t)
	m.scan(noon)
	m.write("*system*y", "1 * * * * root evil\n", noon.AddDate(50, 0, 0))
	equal(t, "to come", m.scan(noon), "job.create success by unknown to job:root/…")
}

// TestUnreadIsTold: a crontab that isn't read may still be run by cron. The log says so, once.
func TestUnreadIsTold(t *testing.T) {
	m := newMachine(t)
	m.scan(noon)
	long := strings.Repeat("#\n", maxTab)
	m.write("*system*long", long, noon.Add(-time.Hour))
	look := func() []Out { outs, _ := m.tr.Scan(noon); return outs }
	want := "config.read failure/unread by prooftrail syslog to crontab:*system*long observed"
	lost := look()
	m.done(lost, false)
	equal(t, "after it was lost", m.kept(look()), want)
	equal(t, "once", m.kept(look()))
	m.write("*system*long", "1 * * * * root a\n", noon.Add(-time.Hour))
	equal(t, "read again", m.kept(look()), "job.create success by unknown to job:root/…")
	m.write("*system*long", long, noon.Add(-time.Hour))
	equal(t, "and not", m.kept(look()), want)
}

// TestLeftovers: what a crash has left half written has secrets in it. Each start removes it.
func TestLeftovers(t *testing.T) {
	m := newMachine(t)
	m.scan(noon)
	left := filepath.Join(m.tabs.State, ".new-1")
	if err := os.WriteFile(left, []byte("PASSWORD=hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	m.again()
	m.scan(noon)
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("it is there: %v", err)
	}
}

// TestClaimsForgetNothing: however many runs others claim, one that the kernel vouches for isn't forgotten.
func TestClaimsForgetNothing(t *testing.T) {
	tr := newTranslator(t, nil)
	tr.runs.max, tr.claims.max = 100, 100
	run := runsOf(t, tr, local(0), "CRON[5]: (alice) CMD ([6] x)")[0]
	for i := range 2 * maxLate {
		runsOf(t, tr, udp, fmt.Sprintf("web1 CRON[5]: (alice) CMD ([%d] x)", i+10), fmt.Sprintf("web1 CRON[7]: (CRON) error (grandchild #%d failed with exit status 3)", i+10000))
	}
	if got := runsOf(t, tr, local(0), "CRON[5]: (alice) END ([6] x)"); len(got) != 1 || got[0].Job.RunID != run.Job.RunID {
		t.Errorf("%+v", got)
	}
	got := runsOf(t, tr, local(0), "CRON[8]: (CRON) error (grandchild #9 failed with exit status 3)", "CRON[8]: (alice) END ([9] y)")
	if len(got) != 1 || got[0].Outcome != "failure" {
		t.Errorf("%+v", got)
	}
}

// TestCutSecrets: a secret that is known by what is behind it isn't shown when a text is cut between the two.
func TestCutSecrets(t *testing.T) {
	tr := newTranslator(t, nil)
	for at := 80; at < 200; at++ {
		cmd := "curl " + strings.Repeat("x", at-5) + " https://ada:hunter2hunter2@host/path"
		e := say(t, tr, local(0), noon, "CRON[5]: (alice) CMD ([6] "+cmd+")")[0].Event
		if strings.Contains(e.Job.Name, "hunt") {
			t.Fatalf("%s", e.Job.Name)
		}
	}
	// Masking makes a text shorter: what was cut comes to where it is shown.
	token := "curl --token " + strings.Repeat("s3cr3t", 300) + " "
	for i := range 80 {
		at := maxText - 40 + i%40 + i/40*maskMore
		if s := tr.masked(token + strings.Repeat("x", at-len(token)) + " https://ada:hunter2hunter2@host/path and more" + strings.Repeat("y", 60)); strings.Contains(s, "hunt") || strings.Contains(s, "s3cr3t") {
			t.Fatalf("at %d: %s", at, s)
		}
	}
	if plain := strings.Repeat("word ", 2000); tr.masked(plain) != plain[:maxText] {
		t.Error("more is cut than has to be")
	}
}

// TestSenderUID: of each line that isn't root's the log has whose it is, whatever the line says.
func TestSenderUID(t *testing.T) {
	tr := newTranslator(t, nil)
	for from, want := range map[int]any{0: nil, 1000: 1000, 4242: 4242} {
		e := say(t, tr, local(from), noon, "sshd[1]: pam_unix(sshd:session): session opened for user bob(uid=1001) by (uid=0)")[0].Event
		if e.Details["sender_uid"] != want {
			t.Errorf("%d: %v", from, e.Details)
		}
	}
	v6 := syslog.Sender{Kind: syslog.Network, Peer: netip.MustParseAddrPort("[2001:db8::1]:5")}
	if e := say(t, tr, v6, noon, "web1 cron[1]: (CRON) DEATH (x)")[0].Event; e.Details["sender_uid"] != nil {
		t.Errorf("%v", e.Details)
	}
}
