package mask

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/prooftrail/prooftrail/verifier/event"
)

// Event returns the event without secrets. What the given one points at isn't changed.
//
// Texts are masked as Text does it: reason, user agent, schedule, the values of labels and details, at any depth, and of patches. The
// value of a member or path that names a secret is masked whole, below it each text and number; and of
// {"name": NAME, "value": …}, if NAME does. A list of texts is masked as a command line. Texts that name
// something (ids, names, hosts) lose only what is a secret by its looks, by NAME=secret or as a URL's password. The
// event's own id, source, seq, time, action and outcome stay as they are, and so do the names of labels and
// details: they are no place for secrets.
//
// A text that would become longer than the schema allows is cut. Where an event would become larger than it allows, a * stands in the
// place of each secret, and a 0 in that of a number.
func (m *Masker) Event(e event.Event) event.Event {
	if m.off {
		return e
	}
	masked := m.event(e)
	if tooLarge(e, masked) {
		short := *m
		short.short = true
		return short.event(e)
	}
	return masked
}

func (m *Masker) event(e event.Event) event.Event {
	e.Reason = changed(e.Reason, func(r *event.Reason) {
		r.Code, r.Text = m.token(r.Code), m.bounded(r.Text, 8192)
	})
	a := &e.Actor
	for _, s := range []*string{&a.ID, &a.Name, &a.SessionID, &a.CredentialID, &a.AuthMethod, &a.OnBehalfOf} {
		m.name(s)
	}
	e.Origin = changed(e.Origin, func(o *event.Origin) {
		o.UserAgent = m.bounded(o.UserAgent, 4096)
		o.Forwarded = m.texts(o.Forwarded)
		for _, s := range []*string{&o.Host, &o.RequestID, &o.TraceID} {
			m.name(s)
		}
	})
	e.Target = m.targets(e.Target)
	e.Job = changed(e.Job, func(j *event.Job) {
		j.Schedule = m.bounded(j.Schedule, 4096)
		for _, s := range []*string{&j.ID, &j.Name, &j.TZ, &j.RunID, &j.Node} {
			m.name(s)
		}
	})
	e.Change = changed(e.Change, func(c *event.Change) { c.Patch = m.patch(c.Patch) })
	e.Labels = m.labels(e.Labels)
	if v, ok := m.object(e.Details, false, 2); ok {
		e.Details = v
	}
	return e
}

// Raw returns an event, JSON as event.Parse takes it, without secrets, as Event does it. Mask an event once, when it is
// made: masked again by a later version, it may be another event under the same id.
func (m *Masker) Raw(raw []byte) ([]byte, error) {
	if _, err := event.Parse(raw); err != nil {
		return nil, err
	}
	var e event.Event
	if err := json.Unmarshal(raw, &e); err != nil {
		return nil, fmt.Errorf("mask: %w", err)
	}
	return json.Marshal(m.Event(e))
}

// Value returns a value, found under a name, without secrets: see Event.
func (m *Masker) Value(name string, v any) any {
	if m.off {
		return v
	}
	masked, _ := m.value(v, m.secret(name), 2)
	return masked
}

// changed returns a changed copy, or nil.
func changed[T any](v *T, change func(*T)) *T {
	if v == nil {
		return nil
	}
	c := *v
	change(&c)
	return &c
}

// bounded masks a text. What has become longer is cut to the bytes that the schema allows.
func (m *Masker) bounded(s string, most int) string { return cut(s, m.Text(s), most) }

func cut(s, masked string, most int) string {
	if len(masked) <= len(s) || len(masked) <= most {
		return masked
	}
	for most > 0 && !utf8.RuneStart(masked[most]) {
		most--
	}
	return masked[:most]
}

// name masks a text that names something.
func (m *Masker) name(s *string) {
	most := 512
	if len(*s) <= 128 { // trace_id, tz and auth_method have at most 128 bytes
		most = max(128, len(*s))
	}
	*s = cut(*s, m.text(*s, false), most)
}

// token masks a word of the schema's token grammar, which has no brackets.
func (m *Masker) token(s string) string {
	if m.text(s, false) != s {
		return strings.Trim(Masked, "[]")
	}
	return s
}

func (m *Masker) texts(all []string) []string {
	out := make([]string, len(all))
	for i := range all {
		out[i] = all[i]
		m.name(&out[i])
	}
	return out
}

func (m *Masker) targets(all []event.Target) []event.Target {
	out := make([]event.Target, len(all))
	for i, t := range all {
		t.Type = m.token(t.Type)
		m.name(&t.ID)
		m.name(&t.Name)
		out[i] = t
	}
	return out
}

func (m *Masker) labels(all map[string]string) map[string]string {
	var out map[string]string
	for name, s := range all {
		masked := m.mark()
		if !m.secret(name) || s == "" || isFlag(s) {
			masked = m.bounded(s, 256)
		}
		if masked == s {
			continue
		}
		if out == nil {
			out = maps.Clone(all)
		}
		out[name] = masked
	}
	if out == nil {
		return all
	}
	return out
}

// patch masks the values of operations.
func (m *Masker) patch(all []event.Operation) []event.Operation {
	out := make([]event.Operation, len(all))
	for i, o := range all {
		if v, ok := m.value(o.Value, m.path(o.Path), 4); ok {
			o.Value = v
		}
		out[i] = o
	}
	return out
}

// path reports whether a token of a JSON Pointer names a secret.
func (m *Masker) path(pointer string) bool {
	if m.hints.in(pointer)&hintName == 0 {
		return false
	}
	for token := range strings.SplitSeq(pointer, "/") {
		if m.secret(token) {
			return true
		}
	}
	return false
}

// value masks a value, and says whether that changed it. Under the name of a secret, all of it is one. What is deeper
// than an event may be stays as it is: such an event is refused.
func (m *Masker) value(v any, secret bool, depth int) (any, bool) {
	if depth > event.MaxDepth {
		return v, false
	}
	switch v := v.(type) {
	case nil, bool, time.Time:
		return v, false
	case string:
		return m.string(v, secret)
	case int, int8, int16, int32, int64, uint, uint8, uint16, uint32, uint64, float32, float64, json.Number:
		if secret && m.short {
			return json.Number("0"), true
		}
		if secret {
			return Masked, true
		}
		return v, false
	case map[string]any:
		return m.object(v, secret, depth)
	case []any:
		return m.list(v, secret, depth)
	case map[string]string:
		out := make(map[string]any, len(v))
		for name, s := range v {
			out[name] = s
		}
		if out, ok := m.object(out, secret, depth); ok {
			return out, true
		}
		return v, false
	case []string:
		out := make([]any, len(v))
		for i, s := range v {
			out[i] = s
		}
		if out, ok := m.list(out, secret, depth); ok {
			return out, true
		}
		return v, false
	}
	return m.other(v, secret, depth)
}

func (m *Masker) string(s string, secret bool) (any, bool) {
	masked := m.mark()
	if !secret || s == "" || isFlag(s) {
		masked = m.Text(s)
	}
	return masked, masked != s
}

// object masks the members of an object, of which a copy is made if need be.
func (m *Masker) object(all map[string]any, secret bool, depth int) (map[string]any, bool) {
	var out map[string]any
	pair, k8s := m.namesSecret(all), all["kind"] == "Secret"
	for name, v := range all {
		under := secret || m.secret(name) && !(isCount(v) && counts(name)) ||
			pair && valueOf[strings.ToLower(name)] || k8s && name == "data" || name == "stringData"
		masked, ok := m.value(v, under, depth+1)
		if !ok {
			continue
		}
		if out == nil {
			out = maps.Clone(all)
		}
		out[name] = masked
	}
	if out == nil {
		return all, false
	}
	return out, true
}

// namesSecret reports whether an object has a member name or key whose value names a secret.
func (m *Masker) namesSecret(all map[string]any) bool {
	for member, v := range all {
		s, ok := v.(string)
		if !ok {
			continue
		}
		if member = strings.ToLower(member); nameOf[member] && m.secret(s) || member == "path" && strings.HasPrefix(s, "/") && m.path(s) {
			return true
		}
	}
	return false
}

// nameOf are members that have a name, and valueOf those beside them that have what is named: a variable, a header, a parameter, what was
// changed and into what. All in lower case.
var (
	nameOf  = set("name", "key", "variable", "var", "field", "header", "parameter", "param", "parameterkey", "option", "property", "attribute", "setting")
	valueOf = set("value", "values", "val", "default", "defaultvalue", "parametervalue", "new", "old", "before", "after", "newvalue", "oldvalue", "new_value", "old_value")
)

// isCount reports whether a value is a number.
func isCount(v any) bool {
	switch v := v.(type) {
	case int, int32, int64, uint, uint32, uint64, float64, json.Number:
		return true
	case string:
		return isNumber(v)
	}
	return false
}

// list masks the elements of a list. Texts are masked as the arguments of a command line.
func (m *Masker) list(all []any, secret bool, depth int) ([]any, bool) {
	var out []any
	var p program
	named := false // the element before names a secret
	for i, v := range all {
		arg, isText := v.(string)
		masked, ok := m.value(v, secret || named && isText, depth+1)
		if isText && !secret && !named {
			if at := p.word(nil, arg, 0); len(at) > 0 {
				masked, ok = m.Text(m.replace(arg, at)), true
			}
		}
		if pair, is := v.([]any); is && len(pair) == 2 && !secret { // [["Authorization", "secret"], …]
			if name, isName := pair[0].(string); isName && m.secret(name) {
				if second, changed := m.value(pair[1], true, depth+2); changed {
					masked, ok = []any{pair[0], second}, true
				}
			}
		}
		named = isText && m.secretFlag(arg)
		if !ok {
			continue
		}
		if out == nil {
			out = append([]any(nil), all...)
		}
		out[i] = masked
	}
	if out == nil {
		return all, false
	}
	return out, true
}

// other masks what encoding/json makes of a value of another type.
func (m *Masker) other(v any, secret bool, depth int) (any, bool) {
	raw, err := json.Marshal(v)
	if err != nil {
		return v, false // the event can't be marshalled either
	}
	plain, err := decode(string(raw))
	if err != nil {
		return v, false
	}
	return m.value(plain, secret, depth)
}
