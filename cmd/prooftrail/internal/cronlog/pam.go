package cronlog

import (
	"cmp"
	"net/netip"
	"strings"

	"github.com/prooftrail/prooftrail/verifier/event"
)

// What PAM's modules write: pam_unix and, in the same words, pam_sss.
var (
	pamLine       = lazily(`^pam_([a-z0-9_]+)\(([^():]{1,128}):([a-z]+)\): ?(.*)$`)
	pamOpened     = lazily(`^session opened for user (\S+?)(?:\(uid=(-?\d+)\))? by (\S*?)(?:\(uid=(-?\d+)\))?$`)
	pamClosed     = lazily(`^session closed for user (\S+)$`)
	pamFailure    = lazily(`^authentication failure; logname=(.*?) uid=(-?\d+) euid=(-?\d+) tty=(.*?) ruser=(.*?) rhost=(\S*)(?:\s+user=(.*))?$`)
	pamMore       = lazily(`^(\d+) more authentication failures?; logname=(.*?) uid=(-?\d+) euid=(-?\d+) tty=(.*?) ruser=(.*?) rhost=(\S*)(?:\s+user=(.*))?$`)
	pamAccount    = lazily(`^account (.+?) has (expired \(account expired\)|expired \(failed to change password\)|password changed in future)$`)
	pamExpired    = lazily(`^expired password for user (.+?) \((.*)\)$`)
	pamChanged    = lazily(`^password changed for (.+)$`)
	pamBlank      = lazily(`^user \[(.*)\] has blank password; authenticated without it$`)
	pamAccess     = lazily("^access denied for user [`'](.*)' from [`'](.*)'$")
	pamNotNeeded  = lazily(`^(check pass; user unknown|could not identify user|username \[.*\] obtained|bad username|auth could not identify|conversation failed)`)
	pamOfNoMatter = map[string]bool{"limits": true, "env": true, "loginuid": true, "motd": true, "mail": true, "keyinit": true,
		"systemd": true, "umask": true, "lastlog": true, "selinux": true, "gnome_keyring": true}
)

// pam is for lines that begin with pam_MODULE(SERVICE:TYPE).
func (t *Translator) pam(l *Line) ([]Out, fate) {
	m := pamLine().FindStringSubmatch(l.Text)
	if m == nil {
		return nil, unknown
	}
	module, service, text := m[1], m[2], m[4]
	if pamOfNoMatter[module] {
		return nil, ignored
	}
	if service == "cron" && (pamOpened().MatchString(text) || pamClosed().MatchString(text)) {
		return nil, ignored // of each job; run.start says the same
	}
	p := pamEvent{t: t, l: l, module: module, service: service}
	if e, ok := p.session(text); ok {
		return p.out(e), matters
	}
	if e, ok := p.refusal(text); ok {
		return p.out(e), matters
	}
	if pamNotNeeded().MatchString(text) {
		return nil, ignored // a failure follows
	}
	return nil, unknown
}

// pamEvent makes events of a PAM line.
type pamEvent struct {
	t               *Translator
	l               *Line
	module, service string
}

// session is for sessions and passwords.
func (p *pamEvent) session(text string) (event.Event, bool) {
	if m := pamOpened().FindStringSubmatch(text); m != nil {
		e := p.event(m[1], "auth.login", "success")
		by := m[3]
		if by == "" && m[4] != "" {
			by = cmp.Or(p.name(m[4]), "#"+m[4])
		}
		if by != "" && by != m[1] {
			e.Details["by"] = p.t.masked(by)
			e.Labels["ingest.identity"] = p.t.identity(p.l, by) // su and sudo write as the one who calls them
		}
		return e, true
	}
	if m := pamClosed().FindStringSubmatch(text); m != nil {
		return p.event(m[1], "auth.logout", "success"), true
	}
	if m := pamChanged().FindStringSubmatch(text); m != nil {
		return p.event(m[1], "credential.rotate", "success"), true
	}
	if m := pamBlank().FindStringSubmatch(text); m != nil {
		e := p.event(m[1], "auth.login", "success")
		e.Actor.AuthMethod = "blank-password"
		return e, true
	}
	return event.Event{}, false
}

func (p *pamEvent) name(uid string) string {
	if !p.l.local() || len(uid) > 10 {
		return ""
	}
	n := 0
	for _, c := range uid {
		if c < '0' || c > '9' {
			return ""
		}
		n = n*10 + int(c-'0')
	}
	return p.t.cfg.User(n)
}

// refusal is for whom PAM doesn't let in.
func (p *pamEvent) refusal(text string) (event.Event, bool) {
	if m := pamFailure().FindStringSubmatch(text); m != nil {
		return p.failure("", m[1:]), true
	}
	if m := pamMore().FindStringSubmatch(text); m != nil {
		return p.failure(m[1], m[2:]), true
	}
	if m := pamAccount().FindStringSubmatch(text); m != nil {
		return p.denied(m[1], "account", m[2]), true
	}
	if m := pamExpired().FindStringSubmatch(text); m != nil {
		return p.denied(m[1], "password_expired", m[2]), true
	}
	if m := pamAccess().FindStringSubmatch(text); m != nil {
		e := p.denied(m[1], "access", "")
		setOrigin(&e, m[2])
		return e, true
	}
	return event.Event{}, false
}

// failure is an authentication failure: logname, uid, euid, tty, ruser, rhost, user.
func (p *pamEvent) failure(more string, m []string) event.Event {
	user := m[6]
	e := p.event(user, "auth.login", "failure")
	e.Reason = &event.Reason{Code: "authentication_failure"}
	if user == "" { // PAM doesn't repeat what may be a password, typed too early
		e.Actor = event.Actor{Type: "anonymous", ID: "unknown"}
	}
	for name, v := range map[string]string{"tty": m[3], "by": cmp.Or(m[4], m[0]), "by_uid": m[1], "more": more} {
		if v != "" {
			e.Details[name] = p.t.masked(v)
		}
	}
	if by := cmp.Or(m[4], m[0]); by != "" {
		e.Labels["ingest.identity"] = p.t.identity(p.l, by)
	}
	setOrigin(&e, m[5])
	return e
}

func (p *pamEvent) denied(user, code, text string) event.Event {
	e := p.event(user, "auth.login", "denied")
	e.Reason = &event.Reason{Code: code, Text: p.t.masked(text)}
	return e
}

func (p *pamEvent) event(user, action, outcome string) event.Event {
	e := p.t.event(p.l, user, action, outcome)
	e.Actor = event.Actor{Type: "user", ID: cmp.Or(p.t.short(user, 512), "unknown"), AuthMethod: clip("pam_"+p.module, 128)}
	e.Target = []event.Target{{Type: "service", ID: p.t.short(p.service, 512)}}
	return e
}

func (p *pamEvent) out(e event.Event) []Out {
	return []Out{{Event: e, Lane: "pam " + e.Actor.ID}}
}

// setOrigin says where somebody came from, by address or name.
func setOrigin(e *event.Event, host string) {
	if host = strings.TrimSpace(host); host == "" {
		return
	}
	if a, err := netip.ParseAddr(host); err == nil && (!a.Is4In6() || a.Zone() == "") && len(host) <= 64 {
		if e.Origin == nil {
			e.Origin = &event.Origin{}
		}
		e.Origin.IP = host
		return
	}
	e.Details["from"] = clip(host, 512)
}
