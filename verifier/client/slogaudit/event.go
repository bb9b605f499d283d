package slogaudit

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prooftrail/prooftrail/verifier/client"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// maxDepth is how deep attributes may be; what is deeper is a text.
const maxDepth = 10

// members are the record's attributes, with those of With, as an object. Of two with one name the later counts.
func (h *Handler) members(r slog.Record) map[string]any {
	all := map[string]any{}
	at := all
	for _, w := range h.with {
		if w.group != "" {
			at = group(at, w.group)
		}
		for _, a := range w.attrs {
			add(at, a, 0)
		}
	}
	r.Attrs(func(a slog.Attr) bool {
		add(at, a, 0)
		return true
	})
	return all
}

// group returns the object of a name, which is made if it isn't there.
func group(in map[string]any, name string) map[string]any {
	if g, ok := in[name].(map[string]any); ok {
		return g
	}
	g := map[string]any{}
	in[name] = g
	return g
}

// add adds an attribute. "If a group's key is empty, the group's Attrs are inlined", and "a Handler should ignore an empty Attr".
func add(to map[string]any, a slog.Attr, depth int) {
	v := a.Value.Resolve()
	if v.Kind() != slog.KindGroup {
		if plain := value(v, depth); plain != nil && a.Key != "" {
			to[a.Key] = plain
		}
		return
	}
	if len(v.Group()) == 0 {
		return
	}
	if depth >= maxDepth {
		to[a.Key] = v.String()
		return
	}
	if a.Key != "" {
		to = group(to, a.Key)
	}
	for _, member := range v.Group() {
		add(to, member, depth+1)
	}
}

// value is a value that an event can hold; nil if there is nothing to hold.
//
// A method that panics, as that of a nil pointer may, makes a text of that, as slog's own handlers do: whoever logs mustn't
// die of it.
func value(v slog.Value, depth int) (plain any) {
	defer func() {
		if p := recover(); p != nil {
			plain = fmt.Sprintf("!PANIC: %v", p)
		}
	}()
	switch v.Kind() {
	case slog.KindString:
		return v.String()
	case slog.KindBool:
		return v.Bool()
	case slog.KindInt64:
		return integer(float64(v.Int64()), strconv.FormatInt(v.Int64(), 10))
	case slog.KindUint64:
		return integer(float64(v.Uint64()), strconv.FormatUint(v.Uint64(), 10))
	case slog.KindFloat64:
		return number(v.Float64())
	case slog.KindTime:
		return v.Time().UTC().Format(time.RFC3339Nano)
	case slog.KindDuration:
		return v.Duration().String()
	}
	switch x := v.Any().(type) {
	case nil:
		return nil
	case error:
		return x.Error()
	case fmt.Stringer:
		return x.String()
	default:
		return other(x, depth)
	}
}

// other is what encoding/json makes of a value, or says why it can't: fmt wouldn't end with a map that contains itself.
func other(x any, depth int) any {
	raw, err := json.Marshal(x)
	var plain any
	if err == nil {
		d := json.NewDecoder(strings.NewReader(string(raw)))
		d.UseNumber()
		err = d.Decode(&plain)
	}
	if err != nil {
		return "!ERROR: " + err.Error()
	}
	return tidy(plain, depth)
}

// tidy makes JSON one that an event can hold.
func tidy(v any, depth int) any {
	switch v := v.(type) {
	case json.Number:
		f, err := v.Float64()
		if err != nil {
			return v.String()
		}
		return integer(f, v.String())
	case map[string]any:
		if depth >= maxDepth {
			return fmt.Sprint(v)
		}
		out := make(map[string]any, len(v))
		for name, member := range v {
			if member = tidy(member, depth+1); member != nil {
				out[name] = member
			}
		}
		return out
	case []any:
		if depth >= maxDepth {
			return fmt.Sprint(v)
		}
		out := make([]any, 0, len(v))
		for _, element := range v {
			if element = tidy(element, depth+1); element != nil {
				out = append(out, element)
			}
		}
		return out
	}
	return v
}

// integer is the number, or its text if an event can't hold that number.
func integer(f float64, text string) any {
	if math.Abs(f) <= event.MaxInteger && f == math.Trunc(f) && strings.Trim(text, "-0123456789") == "" && text != "-0" {
		return json.Number(text)
	}
	return text
}

func number(f float64) any {
	if math.Abs(f) <= event.MaxInteger && f == math.Trunc(f) {
		return int64(f)
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}

// event makes an event of an action and the record's other members.
func (h *Handler) event(ctx context.Context, r slog.Record, action string, members map[string]any) event.Event {
	e := event.Event{Time: r.Time, Action: action, Outcome: "success", Actor: h.cfg.Actor}
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	if c, ok := client.CallerOf(ctx); ok {
		e.Actor, e.Origin = c.Actor, c.Origin
	}
	if r.Level >= slog.LevelError {
		e.Outcome = "failure"
	}
	take(members, "outcome", "", &e.Outcome, nil)
	take(members, "actor", "id", &e.Actor, map[string]any{"type": "user"})
	take(members, "reason", "code", &e.Reason, nil)
	take(members, "origin", "ip", &e.Origin, nil)
	take(members, "job", "id", &e.Job, nil)
	take(members, "change", "", &e.Change, nil)
	take(members, "labels", "", &e.Labels, nil)
	var target event.Target
	take(members, "target", "id", &target, map[string]any{"type": "object"})
	switch {
	case target.ID != "":
	case e.Job != nil:
		target = event.Target{Type: "job", ID: e.Job.ID, Name: e.Job.Name}
	default:
		target = event.Target{Type: e.Actor.Type, ID: e.Actor.ID}
	}
	e.Target = []event.Target{target}
	if e.Outcome != "success" && e.Reason == nil {
		e.Reason = &event.Reason{Code: "error", Text: r.Message}
	}
	if r.Message != "" {
		members[free(members, "message")] = r.Message
	}
	if len(members) > 0 {
		e.Details = names(members).(map[string]any)
	}
	return e
}

// take moves a member of the record to one of the event, if it fits there. A text is the member short of it.
func take[T any](members map[string]any, name, short string, to *T, beside map[string]any) {
	v, ok := members[name]
	if !ok {
		return
	}
	if s, isText := v.(string); isText && short != "" {
		object := map[string]any{short: s}
		for name, v := range beside {
			object[name] = v
		}
		v = object
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return
	}
	var got T
	d := json.NewDecoder(strings.NewReader(string(raw)))
	d.DisallowUnknownFields()
	if d.Decode(&got) != nil {
		return // it stays in details
	}
	*to = got
	delete(members, name)
}

// names makes the names of members those that an event can have.
func names(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for _, n := range slices.Sorted(maps.Keys(v)) {
			if g, ok := v[n].(map[string]any); ok && len(g) == 0 {
				continue // a group that nothing was said in
			}
			out[free(out, name(n))] = names(v[n])
		}
		return out
	case []any:
		for i := range v {
			v[i] = names(v[i])
		}
	}
	return v
}

// free returns the name with as many _ as it takes for none to be lost.
func free(taken map[string]any, name string) string {
	for {
		if _, ok := taken[name]; !ok {
			return name
		}
		name += "_"
	}
}

func name(s string) string {
	b := []byte(s[:min(len(s), 127)])
	for i, c := range b {
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && ('0' > c || c > '9') && strings.IndexByte("_.-", c) < 0 {
			b[i] = '_'
		}
	}
	if len(b) == 0 || b[0]|0x20 < 'a' || b[0]|0x20 > 'z' {
		return "x" + string(b)
	}
	return string(b)
}
