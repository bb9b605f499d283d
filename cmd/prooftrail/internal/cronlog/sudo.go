package cronlog

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/syslog"
	"github.com/prooftrail/prooftrail/verifier/event"
)

var (
	sudoLine      = lazily(`^ *(\S+) : (.*)$`)
	sudoContinued = lazily(`^\(command continued\) ?(.*)$`)
	sudoAttempts  = lazily(`^(\d+) incorrect password attempts?$`)
)

// sudoMembers are what sudo tells before COMMAND, in its order.
var sudoMembers = []string{"HOST", "TTY", "CHROOT", "PWD", "USER", "GROUP", "TSID", "ENV"}

// sudo is for lines of sudo's own: USER : [WHY ; ]TTY=… ; PWD=… ; USER=… ; COMMAND=…
func (t *Translator) sudo(l *Line) ([]Out, fate) {
	m := sudoLine().FindStringSubmatch(l.Text)
	if m == nil {
		return nil, unknown
	}
	user, rest := m[1], m[2]
	if s := l.Sender; s.Kind == syslog.Credentials && s.UID != 0 && t.identity(l, user) == "claimed" && t.cfg.User(s.UID) != "" {
		return nil, forged // sudo writes as the user who calls it
	}
	if c := sudoContinued().FindStringSubmatch(rest); c != nil {
		e := t.sudoEvent(l, user, "success")
		e.Details["continued"] = true
		e.Details["command"] = t.masked(c[1])
		return []Out{{Event: e, Lane: "sudo " + user}}, matters
	}
	s := splitSudo(rest)
	if s.command == "" && s.why == "" || s.members["USER"] == "" {
		return nil, unknown
	}
	e := t.sudoEvent(l, user, "success")
	if s.why != "" {
		e.Outcome = "denied"
		e.Reason = &event.Reason{Code: slug(s.why), Text: t.masked(s.why)}
		if n := sudoAttempts().FindStringSubmatch(s.why); n != nil {
			e.Reason.Code = "incorrect_password"
			attempts, _ := strconv.Atoi(n[1])
			e.Details["attempts"] = min(attempts, 1<<30)
		}
	}
	e.Actor.OnBehalfOf = t.short(s.members["USER"], 512)
	for name, v := range s.members {
		if v != "" && name != "USER" {
			e.Details[strings.ToLower(name)] = t.masked(v)
		}
	}
	e.Details["command"] = t.masked(s.command)
	program, _, _ := strings.Cut(s.command, " ")
	e.Target[0] = event.Target{Type: "command", ID: cmp.Or(t.short(program, 512), "?")}
	if s.ambiguous {
		e.Labels["sudo.ambiguous"] = "true"
		e.Details["line"] = t.masked(rest)
	}
	return []Out{{Event: e, Lane: "sudo " + user}}, matters
}

func (t *Translator) sudoEvent(l *Line, user, outcome string) event.Event {
	e := t.event(l, user, "sudo.run", outcome)
	e.Actor = event.Actor{Type: "user", ID: cmp.Or(t.short(user, 512), "unknown"), AuthMethod: "sudo"}
	e.Target = []event.Target{{Type: "command", ID: "?"}}
	return e
}

// sudoParts is a line of sudo's, taken apart.
type sudoParts struct {
	why, command string
	members      map[string]string
	// ambiguous: a member comes twice. Names of directories and arguments are the user's to choose, and may look like members.
	ambiguous bool
}

func splitSudo(text string) (s sudoParts) {
	s.members = map[string]string{}
	for _, name := range append([]string{"COMMAND"}, sudoMembers...) {
		s.ambiguous = s.ambiguous || strings.Count(" ; "+text, " ; "+name+"=") > 1
	}
	next := 0 // the member that may come
	for text != "" {
		if c, ok := strings.CutPrefix(text, "COMMAND="); ok {
			s.command = c
			return s
		}
		part, rest, _ := strings.Cut(text, " ; ")
		name, value, isMember := strings.Cut(part, "=")
		at := -1
		for i := next; i < len(sudoMembers) && isMember; i++ {
			if sudoMembers[i] == name {
				at = i
			}
		}
		switch {
		case at >= 0:
			s.members[name], next = value, at+1
		case next == 0 && s.why == "":
			s.why = strings.TrimSpace(part)
		case next > 0: // a value with " ; " in it
			s.members[sudoMembers[next-1]] += " ; " + part
			s.ambiguous = true
		}
		text = rest
	}
	return s
}
