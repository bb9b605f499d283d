package cronlog

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/syslog"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// deleteAfter is how long after DELETE the crontab is looked for: crontab writes the line first.
const deleteAfter = time.Second

// deleteKey is a crontab, and who says that it goes: what is claimed takes nothing from what the kernel vouches for.
type deleteKey struct{ scope, whose string }

func (t *Translator) deleteKey(l *Line, actor, whose string) deleteKey {
	if t.identity(l, actor) == "claimed" {
		return deleteKey{"claimed " + l.scope(), whose}
	}
	return deleteKey{l.scope(), whose}
}

// going says whether a line of this machine says that the crontab is about to go.
func (t *Translator) going(name string) bool {
	for key, d := range t.deletes {
		if key.whose == name && d.line.local() {
			return true
		}
	}
	return false
}

// deletion is a DELETE whose crontab may still be there.
type deletion struct {
	line  Line
	actor string
	due   time.Time
}

// crontab is for lines of crontab(1): (actor) WHAT (whose).
func (t *Translator) crontab(l *Line) ([]Out, fate) {
	actor, what, whose, ok := parts(l.Text)
	if !ok {
		return nil, unknown
	}
	if s := l.Sender; s.Kind == syslog.Credentials && s.UID != 0 {
		// A user whom this machine can't name, of a directory say, can't be compared: his lines are claims.
		name := t.cfg.User(s.UID)
		if name != "" && name != actor || what != "AUTH" && whose != actor {
			return nil, forged
		}
	}
	switch what {
	case "REPLACE":
		return t.replaced(l, actor, whose), matters
	case "DELETE":
		key := t.deleteKey(l, actor, whose)
		if len(t.deletes) >= maxLate && t.identity(l, actor) == "claimed" {
			return nil, unknown
		}
		outs := t.resolve(key, false)
		t.deletes[key] = deletion{line: *l, actor: actor, due: l.Received.Add(deleteAfter)}
		return outs, matters
	case "LIST":
		return t.tabEvent(l, actor, whose, "config.read", "success"), matters
	case "BEGIN EDIT":
		return t.tabEvent(l, actor, whose, "config.edit", "attempt"), matters
	case "END EDIT":
		return t.tabEvent(l, actor, whose, "config.edit", "success"), matters
	case "AUTH":
		outs := t.tabEvent(l, actor, actor, "access.denied", "denied")
		outs[0].Event.Reason = &event.Reason{Code: "not_allowed", Text: t.masked(whose)}
		return outs, matters
	}
	return nil, unknown
}

// tabEvent is an event about a crontab as a whole.
func (t *Translator) tabEvent(l *Line, actor, whose, action, outcome string) []Out {
	e := t.event(l, actor, action, outcome)
	e.Actor = t.user(actor)
	e.Target = []event.Target{t.tabTarget(whose)}
	if outcome == "attempt" {
		e.Reason = &event.Reason{Code: "begun"}
	}
	return []Out{{Event: e, Lane: "tab " + whose}}
}

func (t *Translator) user(name string) event.Actor {
	return event.Actor{Type: "user", ID: cmp.Or(t.short(name, 512), "unknown")}
}

// replaced is for REPLACE. The crontab that is read may be a later one already; then the next line finds no difference.
func (t *Translator) replaced(l *Line, actor, whose string) []Out {
	outs := t.resolve(t.deleteKey(l, actor, whose), true)
	plain := t.tabEvent(l, actor, whose, "config.replace", "success")
	if t.cfg.Tabs == nil || !l.local() || t.cfg.Tabs.path(whose) == "" {
		return append(outs, plain...)
	}
	base := plain[0].Event
	v, err := t.version(whose, false)
	if err == nil && !v.ok {
		err = errors.New("it is gone already")
	}
	if err != nil {
		base.Details["unread"] = clip(err.Error(), 512)
		return append(outs, Out{Event: base, Lane: plain[0].Lane})
	}
	base.Labels["crontab.change"] = "crontab"
	return append(outs, t.changes(base, v, true)...)
}

// reloaded is for RELOAD: cron has seen that a crontab was changed. If it was by crontab(1), that has been told.
func (t *Translator) reloaded(l *Line, name string) ([]Out, fate) {
	if t.cfg.Tabs == nil || !l.local() {
		outs := t.tabEvent(l, "root", name, "config.reload", "success")
		outs[0].Event.Actor = event.Actor{Type: "service", ID: "cron"}
		return outs, matters
	}
	if t.cfg.Tabs.path(name) == "" {
		return nil, ignored
	}
	v, err := t.version(name, false)
	if err != nil {
		outs := t.tabEvent(l, "root", name, "config.reload", "success")
		outs[0].Event.Actor = event.Actor{Type: "service", ID: "cron"}
		outs[0].Event.Details["unread"] = clip(err.Error(), 512)
		return outs, matters
	}
	if !v.differs() || !v.ok && t.going(name) {
		return nil, ignored
	}
	return t.changes(t.direct(t.event(l, "root", "config.update", "success")), v, false), matters
}

// direct makes e the event of a change that no line of crontab explains.
func (t *Translator) direct(e event.Event) event.Event {
	e.Actor = event.Actor{Type: "anonymous", ID: "unknown"}
	e.Labels["crontab.change"] = "direct"
	return e
}

// resolve tells what became of a DELETE, if its time has come or the crontab is there anew.
func (t *Translator) resolve(key deleteKey, replaced bool) []Out {
	d, ok := t.deletes[key]
	if !ok {
		return nil
	}
	delete(t.deletes, key)
	l, whose := &d.line, key.whose
	outs := t.tabEvent(l, d.actor, whose, "config.delete", "success")
	e := &outs[0].Event
	if t.cfg.Tabs == nil || !l.local() || t.cfg.Tabs.path(whose) == "" {
		e.Outcome, e.Reason = "unknown", &event.Reason{Code: "not_checked"}
		return outs
	}
	v, err := t.version(whose, replaced)
	switch {
	case err != nil:
		e.Outcome, e.Reason = "unknown", &event.Reason{Code: "not_checked", Text: clip(err.Error(), 512)}
	case v.ok:
		e.Outcome, e.Reason = "failure", &event.Reason{Code: "still_there"}
	case !v.had:
		e.Outcome, e.Reason = "failure", &event.Reason{Code: "no_crontab"}
	default:
		e.Labels["crontab.change"] = "crontab"
		return t.changes(*e, v, true)
	}
	return outs
}

// Tick makes the events whose time has come.
func (t *Translator) Tick(now time.Time) (outs []Out) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var due []deleteKey
	for key, d := range t.deletes {
		if !now.Before(d.due) {
			due = append(due, key)
		}
	}
	// What the kernel vouches for comes first: it explains that the crontab is gone.
	slices.SortFunc(due, func(a, b deleteKey) int { return cmp.Or(cmp.Compare(a.scope, b.scope), cmp.Compare(a.whose, b.whose)) })
	for _, key := range due {
		outs = append(outs, t.resolve(key, false)...)
	}
	return append(outs, t.expireLate(now)...)
}

// settled is how old a change must be before Scan tells it: crontab(1) writes its line after it.
const settled = 5 * time.Second

// Scan compares all crontabs with what was seen last. The first time there is nothing to compare with: then it
// tells what there is. The error says which could not be read; the others are compared all the same.
func (t *Translator) Scan(now time.Time) (outs []Out, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	tabs := t.cfg.Tabs
	if tabs == nil {
		return nil, nil
	}
	first := !tabs.begun()
	if !t.cleaned {
		t.cleaned, err = true, tabs.clean()
	}
	names, namesErr := tabs.names()
	err = errors.Join(err, namesErr)
	for _, name := range names {
		if tabs.unchanged(name) {
			continue
		}
		v, readErr := t.version(name, false)
		switch {
		case readErr != nil:
			err = errors.Join(err, readErr)
			outs = append(outs, t.notRead(v, now, readErr)...)
			continue
		case !v.differs():
			t.learn(v, nil)
		case !v.ok && t.going(name): // the line is an event when its time has come
		case first:
			outs = append(outs, t.found(v, now)...)
		case !v.ok || now.Sub(v.mark.modified).Abs() >= settled: // whoever writes it can give it a time that is still to come
			outs = append(outs, t.changes(t.direct(t.seen(v, now)), v, false)...)
		}
		delete(t.unread, name)
	}
	if first {
		err = errors.Join(err, tabs.begin())
	}
	return outs, err
}

// seen begins an event of what was found and no line has told.
func (t *Translator) seen(v version, now time.Time) event.Event {
	return event.Event{Action: "config.update", Outcome: "success", Time: now,
		Labels:  map[string]string{"ingest.sender": "file", "ingest.identity": "observed"},
		Details: map[string]any{"crontab": clip(t.cfg.Tabs.path(v.name), 512)},
		Target:  []event.Target{t.tabTarget(v.name)},
		Origin:  &event.Origin{Host: clip(cmp.Or(t.cfg.Host, "localhost"), 512)},
	}
}

// notRead tells of a crontab that can't be read, which may be one that cron runs. It does so once, unless that isn't kept.
func (t *Translator) notRead(v version, now time.Time, err error) []Out {
	text := clip(err.Error(), 512)
	if t.unread[v.name] == text {
		return nil
	}
	t.unread[v.name] = text
	e := t.seen(v, now)
	e.Action, e.Outcome = "config.read", "failure"
	e.Reason = &event.Reason{Code: "unread", Text: text}
	e.Actor = event.Actor{Type: "service", ID: "prooftrail syslog"}
	return []Out{{Event: e, Lane: "tab " + v.name, Done: func(kept bool) error {
		t.mu.Lock()
		defer t.mu.Unlock()
		if !kept {
			delete(t.unread, v.name)
		}
		return nil
	}}}
}

// found tells a crontab that is looked at for the first time.
func (t *Translator) found(v version, now time.Time) []Out {
	e := t.seen(v, now)
	e.Action = "config.read"
	e.Actor = event.Actor{Type: "service", ID: "prooftrail syslog"}
	d := diff(v.before(), v.after())
	t.describe(&e, v, d)
	outs := []Out{{Event: e, Lane: "tab " + v.name}}
	t.learn(v, outs)
	return outs
}
