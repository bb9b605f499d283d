package cronlog

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"strings"
	"time"

	"github.com/prooftrail/prooftrail/verifier/event"
)

// maxJobEvents is how many jobs of a crontab may change with an event for each. Of more there is one event for all.
const maxJobEvents = 8

// maxPatch bounds the operations of a patch, and maxPatchText the text of one.
const (
	maxPatch     = 200
	maxPatchText = 512
)

// version is a crontab as it is now, and as it was seen last.
type version struct {
	name      string
	old, text string
	had, ok   bool // whether there was one, and is
	mark      fileMark
}

func (v *version) differs() bool { return v.had != v.ok || v.old != v.text }

func (v *version) before() tab { return parseTab(v.old, owner(v.name)) }
func (v *version) after() tab  { return parseTab(v.text, owner(v.name)) }

// seenTab is a version that was told, and that may not be in its file yet.
type seenTab struct {
	text string
	ok   bool
	// from is the one before, whose events may not be kept yet either; nil if that is in its file.
	from *seenTab
	left int  // events that tell it and of which it isn't known yet whether they are kept
	lost bool // one of them is lost, or of the one before
}

// version reads a crontab. gone says that it was, whatever is there now.
func (t *Translator) version(name string, gone bool) (v version, err error) {
	v.name = name
	if told, ok := t.told[name]; ok {
		v.old, v.had = told.text, told.ok
	} else if v.old, v.had, err = t.cfg.Tabs.last(name); err != nil {
		return v, err
	}
	if !gone {
		v.text, v.mark, v.ok, err = t.cfg.Tabs.read(name)
	}
	return v, err
}

// learn makes the version the one that was seen last, in memory at once, and in its file by the Done of the events that tell it.
func (t *Translator) learn(v version, outs []Out) {
	mark := v.mark
	if time.Since(mark.modified) < 2*settled { // it may change again in the same moment
		mark = fileMark{}
	}
	if !t.cfg.Tabs.mark(v.name, mark, v.text) {
		jobs, names := map[string]string{}, map[string]string{}
		parsed := v.after()
		all := index(parsed.jobs)
		for _, e := range first(parsed.jobs) {
			if _, ok := names[e.user]; !ok {
				names[e.user] = t.short(e.user, 128)
			}
			jobs[t.jobIDOf(names[e.user], "", e.user, e.command)] = clip(all.schedule(e), 4096)
		}
		t.cfg.Tabs.learn(v.name, v.text, jobs)
	}
	if !v.differs() || len(outs) == 0 {
		return
	}
	told := &seenTab{text: v.text, ok: v.ok, from: t.told[v.name], left: len(outs)}
	t.told[v.name] = told
	for i := range outs {
		outs[i].Done = func(kept bool) error { return t.done(v.name, told, kept) }
	}
}

// done is told of each event of a version whether it is kept. If one isn't, what it told is not known any more, and the next look at
// the crontab tells it again, with what has changed since.
func (t *Translator) done(name string, told *seenTab, kept bool) error {
	t.mu.Lock()
	told.left--
	told.lost = told.lost || !kept || told.from != nil && told.from.lost
	left, lost := told.left, told.lost
	t.mu.Unlock()
	if left > 0 {
		return nil
	}
	var err error
	if !lost {
		err = t.cfg.Tabs.keep(name, told.text, told.ok) // nobody waits for the disk
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	told.from, told.lost = nil, lost || err != nil
	if t.told[name] == told {
		delete(t.told, name)
		if told.lost {
			t.cfg.Tabs.forget(name)
		}
	}
	return err
}

// changes makes the events of a difference: one for each job that has changed, or one for all, if there are many or none. base
// has all that they have in common. always says that there is to be one in any case.
func (t *Translator) changes(base event.Event, v version, always bool) (outs []Out) {
	if !always && !v.differs() {
		return nil
	}
	var d difference
	if v.differs() {
		d = diff(v.before(), v.after())
	}
	base.Target = []event.Target{t.tabTarget(v.name)}
	base.Details["crontab"] = clip(t.cfg.Tabs.path(v.name), 512)
	base.Outcome, base.Reason = "success", nil
	lane := "tab " + v.name
	if v.ok && len(d.jobs) > 0 && len(d.jobs) <= maxJobEvents {
		for _, c := range d.jobs {
			outs = append(outs, Out{Event: t.jobChange(base, c), Lane: lane})
		}
		d.jobs = nil
	}
	if len(outs) == 0 || len(d.env) > 0 {
		e := copyOf(base)
		e.Action = "config.update"
		if !v.ok {
			e.Action = "config.delete"
		}
		t.describe(&e, v, d)
		outs = append(outs, Out{Event: e, Lane: lane})
	}
	t.learn(v, outs)
	return outs
}

// copyOf copies what is changed in events that have a base in common.
func copyOf(e event.Event) event.Event {
	e.Labels, e.Details = maps.Clone(e.Labels), maps.Clone(e.Details)
	e.Target = append([]event.Target(nil), e.Target...)
	return e
}

// jobChange is the event of one job.
func (t *Translator) jobChange(base event.Event, c change) event.Event {
	e := copyOf(base)
	e.Action = c.action
	now := c.after
	if c.action == "job.delete" {
		now = c.before
	}
	e.Job = t.job(now)
	e.Target = append([]event.Target{{Type: "job", ID: e.Job.ID, Name: e.Job.Name}}, e.Target...)
	e.Details["user"] = t.short(now.user, 128)
	e.Details["command"] = t.masked(now.command)
	if c.action != "job.update" {
		return e
	}
	if old := t.job(c.before); old.ID != e.Job.ID {
		e.Details["previous_job"] = old.ID
	}
	e.Change = &event.Change{}
	for _, m := range []struct{ path, was, is string }{{"/schedule", c.before.schedule, now.schedule}, {"/command", c.before.command, now.command}} {
		if m.was != m.is {
			e.Change.Patch = append(e.Change.Patch, event.Operation{Op: "test", Path: m.path, Value: t.patchText(m.was)},
				event.Operation{Op: "replace", Path: m.path, Value: t.patchText(m.is)})
		}
	}
	return e
}

func (t *Translator) patchText(s string) string { return t.short(s, maxPatchText) }

// job is a job of this machine.
func (t *Translator) job(e entry) *event.Job {
	return &event.Job{ID: t.jobID("", e.user, e.command), Name: t.short(e.command, 128), Schedule: clip(e.schedule, 4096), Node: clip(t.cfg.Host, 512)}
}

// describe says what has changed in a crontab as a whole: digests of the masked text, for one of what may be guessed could be tried
// out, HMACs of the whole, which also change with a secret, and a patch of {"jobs": {ID: …}, "env": {NAME: …}}.
func (t *Translator) describe(e *event.Event, v version, d difference) {
	e.Change = &event.Change{}
	if v.had {
		e.Change.BeforeSHA256 = t.maskedDigest(v.old)
		e.Details["before_hmac"] = t.hmac("crontab", v.old)
	}
	if v.ok {
		e.Change.AfterSHA256 = t.maskedDigest(v.text)
		e.Details["after_hmac"] = t.hmac("crontab", v.text)
	}
	e.Details["jobs_changed"], e.Details["env_changed"] = len(d.jobs), len(d.env)
	cut := 0 // operations for which there is no room: they aren't made, for that takes its time
	for _, c := range d.jobs {
		if len(e.Target) < event.MaxTargets {
			now := c.after
			if c.action == "job.delete" {
				now = c.before
			}
			job := t.job(now)
			e.Target = append(e.Target, event.Target{Type: "job", ID: job.ID, Name: job.Name})
		}
		if n := c.operations(); len(e.Change.Patch)+n > maxPatch {
			cut += n
		} else {
			e.Change.Patch = append(e.Change.Patch, t.jobOperations(c)...)
		}
	}
	for _, c := range d.env {
		if len(e.Change.Patch) == maxPatch {
			cut++
		} else {
			e.Change.Patch = append(e.Change.Patch, t.envOperation(c))
		}
	}
	if cut > 0 {
		e.Details["patch_cut"] = cut
	}
}

// operations is how many operations tell the change.
func (c *change) operations() int {
	if c.action == "job.update" && c.before.id() != c.after.id() {
		return 2
	}
	return 1
}

// jobOperations are the operations of one job: a disabled one is gone, and an enabled one has come.
func (t *Translator) jobOperations(c change) (all []event.Operation) {
	path := func(e entry) string {
		return "/jobs/" + strings.ReplaceAll(strings.ReplaceAll(t.jobID("", e.user, e.command), "~", "~0"), "/", "~1")
	}
	value := func(e entry) any {
		return map[string]any{"schedule": t.patchText(e.schedule), "command": t.patchText(e.command), "user": t.short(e.user, 128)}
	}
	switch {
	case c.action == "job.create" || c.action == "job.enable":
		return []event.Operation{{Op: "add", Path: path(c.after), Value: value(c.after)}}
	case c.action == "job.delete" || c.action == "job.disable":
		return []event.Operation{{Op: "remove", Path: path(c.before)}}
	case c.before.id() == c.after.id():
		return []event.Operation{{Op: "replace", Path: path(c.after), Value: value(c.after)}}
	}
	return []event.Operation{{Op: "remove", Path: path(c.before)}, {Op: "add", Path: path(c.after), Value: value(c.after)}}
}

func (t *Translator) envOperation(c envChange) event.Operation {
	o := event.Operation{Op: "replace", Path: "/env/" + c.name, Value: t.envValue(c.name, c.after)}
	switch {
	case !c.has:
		o.Op, o.Value = "remove", nil
	case !c.had:
		o.Op = "add"
	}
	return o
}

// envValue masks a value by the name that it has.
func (t *Translator) envValue(name, value string) string {
	return clip(strings.TrimPrefix(t.cfg.Mask(name+"="+value), name+"="), maxPatchText)
}

// maxDigests bounds how many digests are remembered.
const maxDigests = 256

// maskedDigest is the digest of a masked crontab. To mask one takes so long that a user could keep everybody waiting who says that he
// replaces his: so what was masked is remembered.
func (t *Translator) maskedDigest(s string) string {
	of := sha256.Sum256([]byte(s))
	if d, ok := t.digests[of]; ok {
		return d
	}
	if t.digests == nil || len(t.digests) >= maxDigests {
		t.digests = map[[sha256.Size]byte]string{}
	}
	sum := sha256.Sum256([]byte(t.cfg.Mask(s)))
	t.digests[of] = hex.EncodeToString(sum[:])
	return t.digests[of]
}
