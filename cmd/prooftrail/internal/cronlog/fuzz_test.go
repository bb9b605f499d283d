package cronlog

import (
	"strings"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/syslog"
)

// FuzzLines: whatever lines come, from whomever, each event is one that the log takes, and none that the kernel doesn't vouch for
// passes as root's, or as another's than the sender.
func FuzzLines(f *testing.F) {
	for _, s := range []string{
		"CRON[5]: (alice) CMD ([6] x)\nCRON[5]: (CRON) error (grandchild #6 failed with exit status 1)\nCRON[5]: (alice) END ([6] x)",
		"CRON[6]: (alice) CMD (x)\nCRON[5]: (alice) END (x)\nCRON[5]: (alice) END ([7] x)",
		"crontab[9]: (alice) REPLACE (alice)\ncrontab[9]: (alice) DELETE (alice)\ncrontab[9]: (bob) AUTH (no)\ncrontab[9]: (alice) BEGIN EDIT (alice)",
		"cron[1]: (*system*x) RELOAD (/etc/cron.d/x)\ncron[1]: Error: bad minute; while reading /etc/crontab\ncron[1]: (CRON) DEATH (x)",
		"su: pam_unix(su:auth): authentication failure; logname=a uid=1 euid=0 tty=t ruser=r rhost=::ffff:1.2.3.4%x  user=u",
		"sshd[1]: pam_unix(sshd:session): session opened for user a(uid=99999999999) by (uid=-1)\nx: pam_access(login:account): access denied for user `a' from `1.2.3.4'",
		"sudo: a : 3 incorrect password attempts ; TTY=t ; PWD=/ ; ; ; USER=root ; ENV=A=b ; COMMAND=x\nsudo: a : (command continued) x",
		"cron[1]: (\xff) CMD (\x00)\nCRON[99999999999]: (a) CMD ([9999999999] b)", "/usr/sbin/CRON[1]: () CMD ()\ncron[2]: (CRON) error ()",
	} {
		for who := range uint8(5) {
			f.Add(s, who)
		}
	}
	f.Fuzz(func(t *testing.T, text string, who uint8) {
		sender := []syslog.Sender{local(0), local(1000), udp, {Kind: syslog.Relay}, {Kind: syslog.TLS, Name: "web1\xff", Peer: udp.Peer}}[who%5]
		tr := newTranslator(t, nil)
		at := noon
		var outs []Out
		n := uint64(0)
		for _, s := range strings.Split(text, "\n") {
			at = at.Add(time.Second)
			m, err := syslog.Parse([]byte("<78>Nov 27 12:00:00 "+s), at, time.UTC)
			if err != nil {
				continue
			}
			n++
			outs = append(outs, tr.Line(&Line{Message: m, Sender: sender, Received: at, Cut: who&64 != 0})...)
		}
		outs = append(outs, tr.Tick(at.Add(time.Hour))...)
		for _, o := range outs {
			valid(t, o.Event)
			id := o.Event.Labels["ingest.identity"]
			if id == "root" && (sender.Kind != syslog.Credentials || sender.UID != 0) || id == "self" && sender.Kind != syslog.Credentials {
				t.Errorf("%+v passes as %s's: %+v", sender, id, o.Event)
			}
			if sender.UID == 1000 && (strings.HasPrefix(o.Event.Action, "run.") || strings.HasPrefix(o.Event.Action, "scheduler.")) {
				t.Errorf("a user's line has made %+v", o.Event)
			}
		}
		if st := tr.Stats(); st.Matter+st.Ignored+st.Unknown+st.Forged != n {
			t.Errorf("%d lines: %+v", n, st)
		}
	})
}

// FuzzTabs: whatever two versions of a crontab hold, their difference makes valid events; there is none between a version and
// itself.
func FuzzTabs(f *testing.F) {
	for _, s := range [][2]string{{"* * * * * a\n#1 1 1 1 1 b\nA=b\n", "1 * * * * a\n1 1 1 1 1 b\nA=c\n"}, {"@daily a%b\\%c\\\\\n", "@daily root a\n"},
		{"* * * * * \xff\x00\n", ""}, {"# DO NOT EDIT\n\"A B\"=c\n*/5 * * * mon-fri x\n", "*/5 * * * mon-fri y\n"}, {strings.Repeat("* * * * * x\n", 50), strings.Repeat("1 * * * * y\n", 50)}} {
		f.Add(s[0], s[1], true)
		f.Add(s[0], s[1], false)
	}
	f.Fuzz(func(t *testing.T, a, b string, system bool) {
		user := "alice"
		name := user
		if system {
			user, name = "", systemTab
		}
		if d := diff(parseTab(a, user), parseTab(a, user)); len(d.jobs)+len(d.env) != 0 {
			t.Errorf("%q and itself: %+v", a, d)
		}
		tr := newTranslator(t, &Tabs{System: "/etc/crontab", Spool: "/var/spool/cron/crontabs", State: "/nowhere"})
		v := version{name: name, old: a, text: b, had: true, ok: true}
		for _, o := range tr.changes(tr.direct(tr.seen(v, noon)), v, true) {
			valid(t, o.Event)
		}
	})
}
