package cronlog

import (
	"errors"
	"time"

	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/syslog"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// deleteAfter is how long after DELETE the crontab is looked for: crontab writes the line first.
const deleteAfter = time.Second

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
		if len(t.deletes) >= maxLate {
			return nil, unknown
		}
		outs := t.resolve(whose, false, l.Received)
		t.deletes[whose] = deletion{line: *l, actor: actor, due: l.Received.Add(deleteAfter)}
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
	return event.Actor{Type: "user", ID: orElse(t.short(name, 512), "unknown")}
}

// replaced is for REPLACE. The crontab that is read may be a later one already; then the next line finds no difference.
func (t *Translator) replaced(l *Line, actor, whose string) []Out {
	outs := t.resolve(whose, true, l.Received)
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
	if _, ok := t.deletes[name]; ok || t.cfg.Tabs.path(name) == "" {
		return nil, ignored
	}
	v, err := t.version(name, false)
	if err != nil {
		outs := t.tabEvent(l, "root", name, "config.reload", "success")
		outs[0].Event.Actor = event.Actor{Type: "service", ID: "cron"}
		outs[0].Event.Details["unread"] = clip(err.Error(), 512)
		return outs, matters
	}
	if !v.differs() {
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
func (t *Translator) resolve(whose string, replaced bool, now time.Time) []Out {
	d, ok := t.deletes[whose]
	if !ok {
		return nil
	}
	delete(t.deletes, whose)
	l := &d.line
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
	for whose, d := range t.deletes {
		if !now.Before(d.due) {
			outs = append(outs, t.resolve(whose, false, now)...)
		}
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
	names, err := tabs.names()
	for _, name := range names {
		if _, ok := t.deletes[name]; ok || tabs.unchanged(name) {
			continue
		}
		v, readErr := t.version(name, false)
		switch {
		case readErr != nil:
			err = errors.Join(err, readErr)
		case !v.differs():
			t.learn(v)
		case first:
			outs = append(outs, t.found(v, now)...)
		case !v.ok || now.Sub(v.mark.modified) >= settled:
			outs = append(outs, t.changes(t.direct(t.seen(v, now)), v, false)...)
		}
	}
	if first {
		err = errors.Join(err, tabs.begin(), tabs.clean())
	}
	return outs, err
}

// seen begins an event of what was found and no line has told.
func (t *Translator) seen(v version, now time.Time) event.Event {
	return event.Event{Action: "config.update", Outcome: "success", Time: now,
		Labels:  map[string]string{"ingest.sender": "file", "ingest.identity": "observed"},
		Details: map[string]any{"crontab": clip(t.cfg.Tabs.path(v.name), 512)},
		Target:  []event.Target{t.tabTarget(v.name)},
		Origin:  &event.Origin{Host: clip(orElse(t.cfg.Host, "localhost"), 512)},
	}
}

// found tells a crontab that is looked at for the first time.
func (t *Translator) found(v version, now time.Time) []Out {
	e := t.seen(v, now)
	e.Action = "config.read"
	e.Actor = event.Actor{Type: "service", ID: "prooftrail syslog"}
	d := diff(v.before(), v.after())
	t.describe(&e, v, d)
	return []Out{{Event: e, Lane: "tab " + v.name, Kept: t.learn(v)}}
}
