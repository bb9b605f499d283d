package cronlog

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/prooftrail/prooftrail/verifier/event"
)

// parts takes "(user) EVENT (detail)" apart, which is what log_it of cron writes.
func parts(text string) (user, what, detail string, ok bool) {
	if !strings.HasPrefix(text, "(") {
		return "", "", "", false
	}
	user, rest, ok := strings.Cut(text[1:], ") ")
	what, detail, ok2 := strings.Cut(rest, " (")
	if !ok || !ok2 || user == "" || what == "" {
		return "", "", "", false
	}
	return user, what, strings.TrimSuffix(detail, ")"), true
}

var (
	withPID      = lazily(`^\[([1-9][0-9]{0,9})\] ?`)
	failed       = lazily(`^grandchild #([1-9][0-9]{0,9}) failed with exit status ([0-9]{1,3})$`)
	killed       = lazily(`^grandchild #([1-9][0-9]{0,9}) terminated by signal ([0-9]{1,3})(, dumped core)?$`)
	whileReading = lazily(`^Error: (.*); while reading (?:crontab for user )?(.*)$`)
)

// bad are what cron says of a crontab that it doesn't load.
var bad = []string{"ORPHAN", "CAN'T OPEN", "CAN'T OPEN SYMLINK", "FSTAT FAILED", "LSTAT FAILED", "WRONG FILE OWNER", "WRONG SYMLINK OWNER",
	"NOT A REGULAR FILE", "INSECURE MODE", "NUMBER OF HARD LINKS > 1", "ERROR", "getseuserbyname FAILED", "getfilecon FAILED",
	"context_new FAILED", "No SELinux security context", "ENTRYPOINT FAILED", "Can't get current context"}

// cron is for lines of the daemon.
func (t *Translator) cron(l *Line) ([]Out, fate) {
	user, what, detail, ok := parts(l.Text)
	switch {
	case !ok:
		return t.cronText(l)
	case what == "CMD":
		return t.started(l, user, detail)
	case what == "END":
		return t.ended(l, user, detail)
	case user == "CRON" && what == "error":
		return t.cronError(l, detail)
	case what == "RELOAD":
		return t.reloaded(l, user)
	case slices.Contains(bad, what):
		return t.notLoaded(l, user, what, detail), matters
	case user == "CRON":
		return t.daemon(l, what, detail)
	case what == "MAIL":
		return nil, ignored
	case what == "UNSAFE MAIL":
		return t.trouble(l, "unsafe_mail", detail), matters
	}
	return nil, unknown
}

// cronText is for lines without parentheses: faults in crontabs, and what PAM answers when a job isn't run.
func (t *Translator) cronText(l *Line) ([]Out, fate) {
	if m := whileReading().FindStringSubmatch(l.Text); m != nil {
		return t.notLoaded(l, m[2], "syntax", m[1]), matters
	}
	if l.Severity <= 3 {
		return t.trouble(l, "error", l.Text), matters
	}
	return nil, unknown
}

func (t *Translator) cronError(l *Line, detail string) ([]Out, fate) {
	for i, re := range []*regexp.Regexp{failed(), killed()} {
		if m := re.FindStringSubmatch(detail); m != nil {
			pid, _ := strconv.Atoi(m[1])
			n, _ := strconv.Atoi(m[2])
			return t.died(l, pid, ending{code: n, signal: i == 1})
		}
	}
	return t.trouble(l, "error", detail), matters
}

// daemon is for what the daemon says of itself.
func (t *Translator) daemon(l *Line, what, detail string) ([]Out, fate) {
	switch {
	case what == "STARTUP", what == "INFO" && strings.HasPrefix(detail, "Running @reboot jobs"), what == "INFO" && strings.HasPrefix(detail, "Skipping @reboot jobs"):
		if what == "STARTUP" { // the other one follows; in the foreground it is the only one
			return nil, ignored
		}
		e := t.event(l, "root", "scheduler.start", "success")
		e.Details["text"] = t.masked(detail)
		return t.scheduler(e), matters
	case what == "DEATH":
		e := t.event(l, "root", "scheduler.stop", "failure")
		e.Reason = &event.Reason{Code: "death", Text: t.masked(detail)}
		return t.scheduler(e), matters
	case what == "INFO", what == "info":
		return nil, ignored
	case what == "OOM", strings.HasSuffix(what, " FAILED"):
		return t.trouble(l, "error", what+": "+detail), matters
	}
	return nil, unknown
}

// trouble is what cron couldn't do.
func (t *Translator) trouble(l *Line, code, text string) []Out {
	e := t.event(l, "root", "scheduler.error", "failure")
	e.Reason = &event.Reason{Code: code, Text: t.masked(text)}
	return t.scheduler(e)
}

func (t *Translator) scheduler(e event.Event) []Out {
	e.Actor = event.Actor{Type: "service", ID: "cron"}
	e.Target = []event.Target{{Type: "scheduler", ID: "cron"}}
	return []Out{{Event: e, Lane: "scheduler"}}
}

// notLoaded is a crontab that cron ignores: none of its jobs runs.
func (t *Translator) notLoaded(l *Line, tab, what, text string) []Out {
	e := t.event(l, "root", "config.load", "failure")
	e.Reason = &event.Reason{Code: slug(what), Text: t.masked(text)}
	e.Actor = event.Actor{Type: "service", ID: "cron"}
	e.Target = []event.Target{t.tabTarget(tab)}
	return []Out{{Event: e, Lane: "tab " + tab}}
}

// tabTarget names a crontab as cron does.
func (t *Translator) tabTarget(tab string) event.Target {
	return event.Target{Type: "crontab", ID: cmp.Or(t.short(tab, 512), "?")}
}

var notSlug = lazily(`[^a-z0-9]+`)

func slug(s string) string {
	return clip(cmp.Or(strings.Trim(notSlug().ReplaceAllString(strings.ToLower(strings.ReplaceAll(s, "'", "")), "_"), "_"), "unknown"), 64)
}
