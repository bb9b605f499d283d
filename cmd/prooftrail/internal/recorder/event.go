package recorder

import (
	"errors"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/recorder/doc"
	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/recorder/patch"
	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/recorder/rules"
	"github.com/prooftrail/prooftrail/verifier/client/mask"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// Bounds of what an event holds, as verifier/event has them or less.
const (
	maxName     = 512
	maxSchedule = 4096
	maxReason   = 1024
	maxPath     = 1024
	maxQuery    = 32 // parameters
	maxRequest  = 16 << 10
)

// result is what came of a request.
type result struct {
	outcome string
	reason  *event.Reason
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// result tells what came of the request.
func (x *exchange) result() result {
	switch {
	case x.refused != "":
		return result{"denied", &event.Reason{Code: x.refused}}
	case x.status == 0 && !x.sent.Load():
		return result{"failure", &event.Reason{Code: "upstream_unreachable"}}
	case x.status == 0 && x.r.Context().Err() != nil:
		return result{"unknown", &event.Reason{Code: "client_gone", Text: "the client left before the answer"}}
	case x.status == 0:
		return result{"unknown", &event.Reason{Code: "no_answer", Text: "the request was sent, and no answer came"}}
	}
	rule, src := x.decision.Match.Rule, scope{x, x.decision.Match}
	r := result{outcome: byStatus(x.status)}
	if len(rule.Outcomes) > 0 {
		if r.outcome = rules.Choose(rule.Outcomes, src, r.outcome); r.outcome == "success" && rules.Undecided(rule.Outcomes, src) {
			return result{"unknown", &event.Reason{Code: "unreadable_answer", Text: "the answer that says it couldn't be read"}}
		}
	}
	if r.outcome != "success" {
		r.reason = &event.Reason{Code: code(rule.Reason.Code.First(src), x.status), Text: clip(x.p.cfg.Masker.Text(rule.Reason.Text.First(src)), maxReason)}
	}
	return r
}

func byStatus(status int) string {
	switch {
	case status < 400:
		return "success"
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return "denied"
	}
	return "failure"
}

var reasonCode = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}$`)

func code(text string, status int) string {
	if reasonCode.MatchString(text) {
		return text
	}
	return "http_" + strconv.Itoa(status)
}

// event makes the event of the request, and tells by whom it is.
func (x *exchange) event(r result) (event.Event, claim) {
	m := x.decision.Match
	src := scope{x, m}
	who := x.who()
	e := event.Event{
		Time: x.began, Action: rules.Choose(m.Rule.Actions, src, m.Rule.Action), Outcome: r.outcome, Reason: r.reason, Actor: who.actor,
		Target: x.targets(m.Rule, src), Labels: map[string]string{"rule": m.Rule.Name},
	}
	if s := x.p.cfg.Rules.Scheduler; s != "" {
		e.Labels["scheduler"] = clip(s, 256)
	}
	origin := x.origin
	origin.RequestID = x.id
	e.Origin = &origin
	if strings.HasPrefix(e.Action, "job.") || strings.HasPrefix(e.Action, "run.") {
		e.Job = x.job(m.Rule, src, e.Target[0])
	}
	e.Details = x.details(who, r)
	return e, who
}

// targets are what it was done to.
func (x *exchange) targets(rule *rules.Rule, src scope) []event.Target {
	ids, _ := rule.Target.ID.Find(src)
	names, _ := rule.Target.Name.Find(src)
	if len(ids) == 0 {
		ids = []string{"unknown"}
		if rule.Generic() || len(rule.Target.ID) == 0 {
			ids = []string{x.path}
		}
	}
	if len(ids) > event.MaxTargets {
		ids = ids[:event.MaxTargets]
	}
	var out []event.Target
	for i, id := range ids {
		t := event.Target{Type: rule.Target.Type, ID: x.text(id, maxID)}
		if len(names) == len(ids) {
			t.Name = x.text(names[i], maxName)
		}
		out = append(out, t)
	}
	return out
}

// text is a text of the request's as an event can hold it.
func (x *exchange) text(s string, n int) string { return clip(x.p.cfg.Masker.Text(clip(s, n)), n) }

func (x *exchange) job(rule *rules.Rule, src scope, t event.Target) *event.Job {
	j := &event.Job{
		ID: x.text(rule.Job.ID.First(src), maxID), Name: x.text(rule.Job.Name.First(src), maxName),
		Schedule: x.text(rule.Job.Schedule.First(src), maxSchedule), TZ: clip(rule.Job.TZ.First(src), 128),
		RunID: x.text(rule.Job.RunID.First(src), maxID), Trigger: rule.Job.Trigger,
	}
	if j.ID == "" {
		j.ID = t.ID
	}
	if j.Name == "" {
		j.Name = t.Name
	}
	return j
}

// details are what the schema has no place for.
func (x *exchange) details(who claim, r result) map[string]any {
	m := x.p.cfg.Masker
	d := map[string]any{"method": clip(x.r.Method, 32), "path": clip(m.Text(clip(x.shownPath(), maxPath)), maxPath)}
	if q := x.shownQuery(); len(q) > 0 {
		d["query"] = q
	}
	if x.status != 0 {
		d["status"] = x.status
	}
	if r.outcome != "attempt" {
		d["duration_ms"] = time.Since(x.began).Milliseconds()
	}
	if x.attempt != "" {
		d["attempt"] = x.attempt
	}
	if x.decision.Ambiguous || x.ambiguous {
		d["ambiguous"] = true
	}
	if x.decision.Unsure || x.bodyDoc != nil && x.bodyDoc.state == rules.Unread {
		d["unread"] = true
	}
	if who.actor.Type != "anonymous" {
		d["actor"] = basis(who, r)
	}
	if x.decision.Match.Rule.Body {
		if text := x.shownBody(); text != "" {
			d["request"] = text
		}
	}
	return d
}

// shownPath is the path, or its pattern if a secret is in it.
func (x *exchange) shownPath() string {
	if rule := x.decision.Match.Rule; rule.Secrets(rules.InPath) {
		return rule.Path.String()
	}
	return x.path
}

// basis says what vouches for the actor: a proxy before this one, the scheduler by doing what was asked for, or nobody.
func basis(who claim, r result) string {
	switch {
	case who.vouched:
		return "proxy"
	case r.outcome == "success" && !who.doubtful:
		return "accepted"
	}
	return "claimed"
}

func (x *exchange) shownQuery() []string {
	var out []string
	for _, p := range x.query {
		if len(out) == maxQuery {
			break
		}
		if slices.ContainsFunc(x.p.credentials.query, func(n string) bool { return strings.EqualFold(n, p.Name) }) {
			p.Value = mask.Masked
		}
		out = append(out, clip(x.p.cfg.Masker.Text(clip(p.Name+"="+p.Value, 256)), 256))
	}
	return out
}

// asked is the request's body without credentials, if it could be read.
func (x *exchange) asked() (patch.Version, bool) {
	x.parseBody()
	if x.bodyDoc.state != rules.Known || x.bodyDoc.doc == nil {
		return patch.Version{}, false
	}
	v := x.bodyDoc.doc.Value
	for _, p := range x.p.credentials.body {
		v = p.Remove(v)
	}
	var secrets []doc.Pointer
	if c := x.decision.Match.Rule.Change; c != nil {
		secrets = c.Secret
	}
	return patch.Of(v, x.p.cfg.Masker, secrets...), true
}

// shownBody is the request's body as JSON text, masked.
func (x *exchange) shownBody() string {
	v, ok := x.asked()
	if !ok {
		return ""
	}
	return clip(v.Text(), maxRequest)
}

// look finds the resource after a change that succeeded.
func (x *exchange) look(r result) {
	rule := x.decision.Match.Rule
	if rule.Change == nil || r.outcome != "success" {
		return
	}
	if rule.Change.After == "" && strings.HasSuffix(rule.Action, ".delete") {
		x.after = resource{state: absent} // as the scheduler said
		return
	}
	x.after = x.findAfter(rule.Change)
}

// addChange adds what changed to the event. An update that succeeded has to say something.
func (x *exchange) addChange(e *event.Event) {
	if e.Outcome != "success" {
		return
	}
	if c := x.decision.Match.Rule.Change; c != nil {
		x.compare(e, c)
	}
	switch {
	case e.Change != nil:
	case strings.HasSuffix(e.Action, ".update"):
		if e.Change = x.askedChange(); e.Change == nil {
			e.Change = &event.Change{Patch: []event.Operation{{Op: "replace", Path: "", Value: notRead}}}
		}
	case strings.HasSuffix(e.Action, ".create"):
		e.Change = x.askedChange()
	}
}

// compare says what became of the resource.
func (x *exchange) compare(e *event.Event, c *rules.Change) {
	for name, r := range map[string]*resource{"before": &x.before, "after": &x.after} {
		if r.problem != "" {
			e.Details[name] = "not known: " + r.problem
		}
	}
	before, after := x.version(&x.before, c), x.version(&x.after, c)
	out := &event.Change{}
	if before.There {
		out.BeforeSHA256 = before.Digest()
	}
	if after.There {
		out.AfterSHA256 = after.Digest()
	}
	if x.before.sure() && x.after.sure() {
		ops, ok := patch.Make(before, after)
		if out.Patch = ops; !ok {
			out.Patch = nil
			e.Details["patch"] = "not shown: too large"
		}
	}
	if out.BeforeSHA256 != "" || out.AfterSHA256 != "" || len(out.Patch) > 0 {
		e.Change = out
	}
}

func (x *exchange) version(r *resource, c *rules.Change) patch.Version {
	if r.state != found {
		return patch.Version{}
	}
	return patch.Of(r.without(c.Ignore), x.p.cfg.Masker, c.Secret...)
}

// notRead stands for a resource that nobody could read.
const notRead = "[not read]"

// askedChange is the change that was asked for, where nobody could see the one that was made; nil if that couldn't be read.
func (x *exchange) askedChange() *event.Change {
	if v, ok := x.asked(); ok {
		if sum := v.Digest(); sum != "" {
			ops, ok := patch.Make(patch.Version{}, v)
			if !ok {
				ops = nil
			}
			return &event.Change{AfterSHA256: sum, Patch: ops}
		}
	}
	return nil
}

// least is what is left of an event that the schema refuses, whatever is wrong with it: nothing that a stranger
// has written.
func (x *exchange) least(e event.Event, why error) event.Event {
	var refusal *event.Error
	at := "unknown"
	if errors.As(why, &refusal) {
		at = refusal.Pointer + " " + refusal.Code
	}
	out := event.Event{
		Time: e.Time, Action: "api.write", Outcome: e.Outcome, Actor: event.Actor{Type: "anonymous", ID: "anonymous"},
		Target: []event.Target{{Type: "api", ID: "unknown"}}, Labels: e.Labels, Origin: &event.Origin{IP: x.origin.IP, RequestID: x.id},
		Details: map[string]any{"refused": clip(at, 256), "action": e.Action},
	}
	if e.Reason != nil {
		out.Reason = &event.Reason{Code: e.Reason.Code}
	}
	return out
}
