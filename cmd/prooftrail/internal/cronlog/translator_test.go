package cronlog

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/syslog"
	"github.com/prooftrail/prooftrail/verifier/client/mask"
	"github.com/prooftrail/prooftrail/verifier/event"
)

var noon = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

// users of these tests.
func userOf(uid int) string { return map[int]string{0: "root", 1000: "alice", 1001: "bob"}[uid] }

// masker takes its time to make.
var masker = sync.OnceValues(func() (*mask.Masker, error) { return mask.New(nil, nil) })

func newTranslator(tb testing.TB, tabs *Tabs) *Translator {
	tb.Helper()
	m, err := masker()
	if err != nil {
		tb.Fatal(err)
	}
	return New(Config{Key: make([]byte, 32), Mask: m.Text, Host: "here", Tabs: tabs, Failures: true, User: userOf})
}

func local(uid int) syslog.Sender { return syslog.Sender{Kind: syslog.Credentials, UID: uid, PID: 77} }

var udp = syslog.Sender{Kind: syslog.Network, Peer: netip.MustParseAddrPort("192.0.2.7:514")}

// say gives the translator a line as it is sent, with the priority and time left out.
func say(tb testing.TB, t *Translator, from syslog.Sender, at time.Time, text string) []Out {
	tb.Helper()
	return sayRaw(tb, t, from, at, "<78>"+at.Format(time.Stamp)+" "+text)
}

func sayRaw(tb testing.TB, t *Translator, from syslog.Sender, at time.Time, raw string) []Out {
	tb.Helper()
	m, err := syslog.Parse([]byte(raw), at, time.UTC)
	if err != nil {
		tb.Fatalf("%q: %v", raw, err)
	}
	outs := t.Line(&Line{Message: m, Sender: from, Received: at})
	for _, o := range outs {
		valid(tb, o.Event)
	}
	return outs
}

// valid checks that the log would take an event.
func valid(tb testing.TB, e event.Event) {
	tb.Helper()
	e.ID, e.Source = "id", "cron://here/syslog"
	if _, err := e.Fields(); err != nil {
		b, _ := json.Marshal(e)
		tb.Fatalf("%v\n%s", err, b)
	}
}

// brief is what tests compare of an event.
func brief(e event.Event) string {
	s := e.Action + " " + e.Outcome
	if e.Reason != nil {
		s += "/" + e.Reason.Code
	}
	s += " by " + e.Actor.ID + " to " + e.Target[0].Type + ":" + e.Target[0].ID
	return s + " " + e.Labels["ingest.identity"]
}

// TestLines has a line of each kind, most of them as Debian 12's programs wrote them.
func TestLines(t *testing.T) {
	for _, tt := range []struct {
		from syslog.Sender
		text string
		want string // of the one event; "" none
		fate string
	}{
		{local(0), "cron[1]: (CRON) INFO (pidfile fd = 3)", "", "ignored"},
		{local(0), "cron[1]: (CRON) STARTUP (fork ok)", "", "ignored"},
		{local(0), "cron[1]: (CRON) INFO (Running @reboot jobs)", "scheduler.start success by cron to scheduler:cron root", "matter"},
		{local(0), "cron[1]: (CRON) INFO (Skipping @reboot jobs -- not system startup)", "scheduler.start success by cron to scheduler:cron root", "matter"},
		{local(0), "cron[1]: (CRON) DEATH (can't lock /var/run/crond.pid, otherpid may be 15: Resource temporarily unavailable)", "scheduler.stop failure/death by cron to scheduler:cron root", "matter"},
		{local(0), "CRON[1]: (CRON) error (can't fork)", "scheduler.error failure/error by cron to scheduler:cron root", "matter"},
		{local(0), "CRON[1]: (CRON) info (No MTA installed, discarding output)", "", "ignored"},
		{local(0), "CRON[1]: (alice) MAIL (mailed 3 bytes of output but got status 0x0001 from MTA)", "", "ignored"},
		{local(0), "CRON[1]: (alice) UNSAFE MAIL (;rm)", "scheduler.error failure/unsafe_mail by cron to scheduler:cron root", "matter"},
		{local(0), "cron[1]: (CRON) STAT FAILED (crontabs)", "scheduler.error failure/error by cron to scheduler:cron root", "matter"},
		{local(0), "cron[1]: (ghost) ORPHAN (no passwd entry)", "config.load failure/orphan by cron to crontab:ghost root", "matter"},
		{local(0), "cron[1]: (alice) CAN'T OPEN (crontabs/alice)", "config.load failure/cant_open by cron to crontab:alice root", "matter"},
		{local(0), "cron[1]: (alice) WRONG FILE OWNER (crontabs/alice)", "config.load failure/wrong_file_owner by cron to crontab:alice root", "matter"},
		{local(0), "cron[1]: (alice) INSECURE MODE (mode 0600 expected) (crontabs/alice)", "config.load failure/insecure_mode by cron to crontab:alice root", "matter"},
		{local(0), "cron[1]: (*system*bad) ERROR (Syntax error, this crontab file will be ignored)", "config.load failure/error by cron to crontab:*system*bad root", "matter"},
		{local(0), "cron[1]: Error: bad day-of-week; while reading /etc/cron.d/bad", "config.load failure/syntax by cron to crontab:/etc/cron.d/bad root", "matter"},
		{local(0), "cron[1]: (alice) RELOAD (crontabs/alice)", "config.reload success by cron to crontab:alice root", "matter"},
		{local(0), "cron[1]: (alice) SOMETHING NEW (x)", "", "unknown"},
		{local(0), "cron[1]: something else", "", "unknown"},
		{local(1000), "cron[1]: (CRON) DEATH (haha)", "syslog.forged attempt/sender by alice to program:cron self", "forged"},
		{local(4242), "/usr/sbin/cron[1]: (CRON) DEATH (haha)", "syslog.forged attempt/sender by #4242 to program:/usr/sbin/cron self", "forged"},
		{udp, "cron[1]: (CRON) DEATH (haha)", "scheduler.stop failure/death by cron to scheduler:cron claimed", "matter"},
		{syslog.Sender{Kind: syslog.TLS, Name: "web1", Peer: udp.Peer}, "web1 cron[1]: (CRON) DEATH (haha)", "scheduler.stop failure/death by cron to scheduler:cron claimed", "matter"},
		{syslog.Sender{Kind: syslog.Relay}, "cron[1]: (CRON) DEATH (haha)", "scheduler.stop failure/death by cron to scheduler:cron claimed", "matter"},

		{local(1000), "crontab[9]: (alice) REPLACE (alice)", "config.replace success by alice to crontab:alice self", "matter"},
		{local(1000), "crontab[9]: (alice) LIST (alice)", "config.read success by alice to crontab:alice self", "matter"},
		{local(1000), "crontab[9]: (alice) BEGIN EDIT (alice)", "config.edit attempt/begun by alice to crontab:alice self", "matter"},
		{local(1000), "crontab[9]: (alice) END EDIT (alice)", "config.edit success by alice to crontab:alice self", "matter"},
		{local(0), "crontab[9]: (root) LIST (alice)", "config.read success by root to crontab:alice root", "matter"},
		{local(1001), "crontab[9]: (bob) AUTH (crontab command not allowed)", "access.denied denied/not_allowed by bob to crontab:bob self", "matter"},
		{local(1000), "crontab[9]: (alice) REPLACE (bob)", "syslog.forged attempt/sender by alice to program:crontab self", "forged"},
		{local(4242), "crontab[9]: (eve) REPLACE (eve)", "config.replace success by eve to crontab:eve claimed", "matter"},
		{local(4242), "crontab[9]: (eve) REPLACE (bob)", "syslog.forged attempt/sender by #4242 to program:crontab self", "forged"},
		{local(1000), "crontab[9]: (bob) REPLACE (bob)", "syslog.forged attempt/sender by alice to program:crontab self", "forged"},
		{udp, "web1 crontab[9]: (alice) REPLACE (alice)", "config.replace success by alice to crontab:alice claimed", "matter"},

		{local(0), "CRON[1]: pam_unix(cron:session): session opened for user alice(uid=1000) by (uid=0)", "", "ignored"},
		{local(0), "CRON[1]: pam_unix(cron:session): session closed for user alice", "", "ignored"},
		{local(0), "CRON[1]: pam_limits(cron:session): Could not set limit for 'nofile' to soft=1024, hard=32768: Operation not permitted; uid=0,euid=0", "", "ignored"},
		{local(0), "CRON[1]: pam_unix(cron:account): account alice has expired (account expired)", "auth.login denied/account by alice to service:cron root", "matter"},
		{local(0), "su[1]: pam_unix(su:session): session opened for user alice(uid=1000) by (uid=0)", "auth.login success by alice to service:su root", "matter"},
		{local(0), "su[1]: pam_unix(su-l:session): session opened for user alice by root(uid=0)", "auth.login success by alice to service:su-l root", "matter"},
		{local(0), "su[1]: pam_unix(su:session): session closed for user alice", "auth.logout success by alice to service:su root", "matter"},
		{local(1000), "sudo: pam_unix(sudo:session): session opened for user root(uid=0) by (uid=1000)", "auth.login success by root to service:sudo self", "matter"},
		{local(1000), "su: pam_unix(su:auth): authentication failure; logname=alice uid=1000 euid=0 tty=pts/1 ruser=alice rhost=  user=bob", "auth.login failure/authentication_failure by bob to service:su self", "matter"},
		{local(1001), "su: pam_unix(su:auth): authentication failure; logname=alice uid=1000 euid=0 tty=pts/1 ruser=alice rhost=  user=bob", "auth.login failure/authentication_failure by bob to service:su claimed", "matter"},
		{local(0), "sshd[1]: pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=203.0.113.9  user=root", "auth.login failure/authentication_failure by root to service:sshd root", "matter"},
		{local(0), "sshd[1]: pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=203.0.113.9", "auth.login failure/authentication_failure by unknown to service:sshd root", "matter"},
		{local(0), "sshd[1]: pam_unix(sshd:auth): check pass; user unknown", "", "ignored"},
		{local(0), "passwd[1]: pam_unix(passwd:chauthtok): password changed for alice", "credential.rotate success by alice to service:passwd root", "matter"},
		{local(0), "login[1]: pam_access(login:account): access denied for user `alice' from `tty1'", "auth.login denied/access by alice to service:login root", "matter"},
		{local(1000), "sudo: pam_unix(sudo:auth): user [alice] has blank password; authenticated without it", "auth.login success by alice to service:sudo self", "matter"},
		{local(0), "sshd[1]: pam_unix(sshd:auth): whatever else", "", "unknown"},
		{local(0), "sshd[1]: Accepted publickey for root from 203.0.113.9 port 5 ssh2 (pam_unix isn't ours)", "", "ignored"},

		{local(1000), "sudo:    alice : PWD=/tmp/cap ; USER=root ; COMMAND=/bin/echo hi", "sudo.run success by alice to command:/bin/echo self", "matter"},
		{local(1000), "sudo:    alice : TTY=pts/0 ; PWD=/tmp ; USER=root ; ENV=A=b ; COMMAND=/bin/echo", "sudo.run success by alice to command:/bin/echo self", "matter"},
		{local(1001), "sudo:    alice : TTY=pts/0 ; PWD=/tmp ; USER=root ; COMMAND=/bin/echo", "syslog.forged attempt/sender by bob to program:sudo self", "forged"},
		{local(4242), "sudo:    alice : TTY=pts/0 ; PWD=/tmp ; USER=root ; COMMAND=/bin/echo", "sudo.run success by alice to command:/bin/echo claimed", "matter"},
		{local(1000), "sudo:    alice : user NOT in sudoers ; PWD=/tmp/cap ; USER=root ; COMMAND=/usr/bin/true", "sudo.run denied/user_not_in_sudoers by alice to command:/usr/bin/true self", "matter"},
		{local(1000), "sudo:    alice : command not allowed ; PWD=/tmp/cap ; USER=bob ; COMMAND=/usr/bin/echo 'a ; USER=root ; COMMAND=x'", "sudo.run denied/command_not_allowed by alice to command:/usr/bin/echo self", "matter"},
		{local(1000), "sudo:    alice : 3 incorrect password attempts ; TTY=pts/0 ; PWD=/tmp ; USER=root ; COMMAND=/bin/sh", "sudo.run denied/incorrect_password by alice to command:/bin/sh self", "matter"},
		{local(1000), "sudo:    alice : (command continued) xxx", "sudo.run success by alice to command:? self", "matter"},
		{local(0), "sudo[5]: unable to resolve host x", "", "unknown"},
		{local(0), "kernel: something of cron", "", "ignored"},
	} {
		tr := newTranslator(t, nil)
		outs := say(t, tr, tt.from, noon, tt.text)
		got := ""
		if len(outs) > 0 {
			got = brief(outs[0].Event)
		}
		st := tr.Stats()
		fate := map[string]uint64{"matter": st.Matter, "ignored": st.Ignored, "unknown": st.Unknown, "forged": st.Forged}
		if got != tt.want || len(outs) > 1 || fate[tt.fate] != 1 {
			t.Errorf("%q: %q, %+v; want %q, %s", tt.text, got, st, tt.want, tt.fate)
		}
		if tt.fate != "ignored" && !MayMatter([]byte("<78>Nov 27 12:00:00 "+tt.text)) {
			t.Errorf("%q isn't worth taking apart", tt.text)
		}
	}
}

// TestLineDetails: what is beside the action.
func TestLineDetails(t *testing.T) {
	tr := newTranslator(t, nil)
	e := say(t, tr, local(0), noon, "sshd[1]: pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=203.0.113.9  user=root")[0].Event
	if e.Origin.IP != "203.0.113.9" || e.Details["tty"] != "ssh" || e.Labels["ingest.sender"] != "unix-credentials" || e.Details["pid"] != 1 {
		t.Errorf("%+v %+v", e, e.Origin)
	}
	e = say(t, tr, local(1000), noon, "sudo:    alice : 3 incorrect password attempts ; TTY=pts/0 ; PWD=/tmp ; USER=bob ; COMMAND=/bin/sh --password hunter2")[0].Event
	if e.Actor.OnBehalfOf != "bob" || e.Details["attempts"] != 3 || e.Details["command"] != "/bin/sh --password [masked]" || e.Details["pwd"] != "/tmp" || e.Labels["sudo.ambiguous"] != "" {
		t.Errorf("%+v", e)
	}
	// A directory whose name looks like what sudo writes: the first user counts, and the line is marked.
	e = say(t, tr, local(1000), noon, "sudo:    alice : PWD=/tmp/a ; USER=bob ; COMMAND=/bin/ls ; USER=root ; COMMAND=/bin/sh")[0].Event
	if e.Labels["sudo.ambiguous"] != "true" || !strings.Contains(fmt.Sprint(e.Details["line"]), "USER=root ; COMMAND=/bin/sh") {
		t.Errorf("%+v", e)
	}
	e = say(t, tr, syslog.Sender{Kind: syslog.TLS, Name: "web1.example.com", Peer: udp.Peer}, noon, "web1 sudo:    alice : PWD=/ ; USER=bob ; COMMAND=/bin/sh")[0].Event
	if e.Labels["ingest.peer"] != "web1.example.com" || e.Origin.Host != "web1" || e.Details["peer"] != "192.0.2.7" {
		t.Errorf("%+v %+v", e, e.Origin)
	}
}

// TestTimes: the time is what the line says, unless a line of this machine is off by more than a minute.
func TestTimes(t *testing.T) {
	tr := newTranslator(t, nil)
	for _, tt := range []struct {
		from syslog.Sender
		says time.Time
		want time.Time
	}{
		{local(0), noon.Add(-30 * time.Second), noon.Add(-30 * time.Second)},
		{local(0), noon.Add(-time.Hour), noon},
		{udp, noon.Add(-time.Hour), noon.Add(-time.Hour)},
	} {
		e := sayRaw(t, tr, tt.from, noon, "<78>"+tt.says.Format(time.Stamp)+" cron[1]: (CRON) DEATH (x)")[0].Event
		if !e.Time.Equal(tt.want) || e.Details["received"] != noon.Format(time.RFC3339Nano) {
			t.Errorf("%v: %v, %v", tt, e.Time, e.Details)
		}
		if claimed := e.Details["claimed_time"]; (claimed != nil) != !tt.want.Equal(tt.says) {
			t.Errorf("%v: %v", tt, claimed)
		}
	}
}
