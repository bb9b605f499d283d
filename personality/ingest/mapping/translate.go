package mapping

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/prooftrail/prooftrail/personality/ingest"
	"github.com/prooftrail/prooftrail/personality/ingest/foreign"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// maxTime bounds the work on one request.
const maxTime = 2 * time.Second

// Translate makes the items of a request, whose Source is that of the events. A body that can't be read, or lacks the
// array of each, is one item: whoever sent it won't send it again. An error is for one that is too large to be kept.
func (m *Mapping) Translate(r *ingest.Request) ([]ingest.Item, error) {
	if len(r.Body) > foreign.MaxItemBytes {
		return nil, foreign.Errorf("", "at most %d bytes", foreign.MaxItemBytes)
	}
	body, err := foreign.ParseJSON(r.Body, foreign.NewBudget(len(r.Body)))
	var bodies []part
	if err == nil {
		bodies, err = m.split(r.Body, body)
	}
	if err != nil {
		return []ingest.Item{{Raw: bytes.TrimSpace(r.Body), Header: m.keepHeader(r.Header), Err: err}}, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), maxTime)
	defer cancel()
	items := make([]ingest.Item, len(bodies))
	for i, b := range bodies {
		it := &items[i]
		it.Raw, it.Header = b.raw, m.keepHeader(r.Header)
		m.item(ctx, r, b, it)
	}
	return items, nil
}

// A part is a body with one element at the place that each names.
type part struct {
	raw        []byte
	body, item any // as expressions read them
}

// split makes a part of each element.
func (m *Mapping) split(raw []byte, body any) ([]part, error) {
	read := toCEL(body) // once: what is beside the elements is the same for all of them
	if m.each == nil {
		return []part{{bytes.TrimSpace(raw), read, read}}, nil
	}
	list, ok := foreign.At(body, m.each[1:]...).([]any)
	if !ok || len(list) > maxItems {
		return nil, foreign.Errorf("/"+strings.Join(m.each[1:], "/"), "an array of at most %d elements", maxItems)
	}
	if len(list) == 1 {
		return []part{{bytes.TrimSpace(raw), read, toCEL(list[0])}}, nil
	}
	parts, left := make([]part, len(list)), maxRaw
	for i, e := range list {
		alone := with(body, m.each[1:], []any{e})
		text, err := json.Marshal(alone)
		if err != nil {
			return nil, foreign.Errorf("", "JSON that can be written again")
		}
		if left -= len(text); left < 0 {
			return nil, foreign.Errorf("", "at most %d bytes, each element counted with what is around it", maxRaw)
		}
		item := toCEL(e)
		parts[i] = part{text, with(read, m.each[1:], []any{item}), item}
	}
	return parts, nil
}

// with is v with another value at a path, sharing the rest.
func with(v any, path []string, other any) any {
	object, ok := v.(map[string]any)
	if len(path) == 0 || !ok {
		return other
	}
	object = maps.Clone(object)
	object[path[0]] = with(object[path[0]], path[1:], other)
	return object
}

// item makes the event of a part.
func (m *Mapping) item(ctx context.Context, r *ingest.Request, p part, it *ingest.Item) {
	vars := map[string]any{"body": p.body, "item": p.item, "received": r.Received, "headers": m.headersOf(r), "query": queryOf(r)}
	if m.when != nil {
		v, err := m.when.eval(ctx, vars)
		if err == nil && v != types.True && v != types.False {
			err = &EvalError{"when", "true or false", errKind}
		}
		if it.Err = err; err != nil {
			return
		}
		if v == types.False {
			it.Skip = true
			return
		}
	}
	all, err := m.evaluate(ctx, vars)
	if err != nil {
		it.Err = err
		return
	}
	if _, ok := all["id"]; !ok {
		all["id"] = r.ID("mapping", string(p.raw))
	}
	if _, ok := all["time"]; !ok {
		all["time"], it.Untimed = r.Received.UTC().Format(time.RFC3339Nano), true
	}
	all["schema"], all["source"] = event.Schema, r.Source
	it.Event, it.Err = finish(all)
}

func (m *Mapping) headersOf(r *ingest.Request) map[string]string {
	out := map[string]string{}
	for _, name := range m.headers {
		if v := r.Header.Get(name); v != "" {
			out[name] = strings.ToValidUTF8(v, "\ufffd")
		}
	}
	return out
}

func queryOf(r *ingest.Request) map[string]string {
	out := map[string]string{}
	for name, v := range r.Query {
		if len(v) > 0 {
			out[name] = strings.ToValidUTF8(v[0], "\ufffd")
		}
	}
	return out
}

// evaluate makes the members of the event.
func (m *Mapping) evaluate(ctx context.Context, vars map[string]any) (map[string]any, error) {
	all, left := map[string]any{}, maxValues
	for _, mb := range m.members {
		v, err := mb.of.eval(ctx, vars)
		if err != nil {
			return nil, err
		}
		if v == nil {
			continue
		}
		plain, err := mb.plain(v, &left)
		if err != nil {
			return nil, err
		}
		if plain == nil || plain == "" {
			continue
		}
		at := all
		for _, name := range mb.path[:len(mb.path)-1] {
			next, ok := at[name].(map[string]any)
			if !ok {
				next = map[string]any{}
				at[name] = next
			}
			at = next
		}
		at[mb.path[len(mb.path)-1]] = plain
	}
	if targets, ok := all["target"].(map[string]any); ok {
		if all["target"] = inOrder(targets); len(inOrder(targets)) == 0 {
			delete(all, "target")
		}
	}
	if d, ok := all["details"].(map[string]any); ok {
		all["details"] = foreign.Details(d)
	}
	return all, nil
}

// inOrder are targets by their places, without those that have no id.
func inOrder(targets map[string]any) (list []any) {
	places := slices.SortedFunc(maps.Keys(targets), func(a, b string) int {
		x, _ := strconv.Atoi(a)
		y, _ := strconv.Atoi(b)
		return x - y
	})
	for _, place := range places {
		if t, ok := targets[place].(map[string]any); ok && t["id"] != nil {
			list = append(list, t)
		}
	}
	return list
}

// plain is what an expression yields as the member holds it.
func (mb *member) plain(v ref.Val, left *int) (any, error) {
	plain, err := fromCEL(v, left)
	if err != nil {
		return nil, &EvalError{mb.of.member, "a value of JSON, and no more than an event can hold", err}
	}
	switch mb.kind {
	case kindText:
		switch p := plain.(type) {
		case json.Number:
			return string(p), nil
		case bool:
			return strconv.FormatBool(p), nil
		case map[string]any, []any:
			return nil, &EvalError{mb.of.member, "a text", errKind}
		}
	case kindMoment:
		if _, ok := plain.(string); !ok {
			return nil, &EvalError{mb.of.member, "a time: a timestamp, or a text of RFC 3339", errKind}
		}
	case kindInteger:
		n, ok := plain.(json.Number)
		if text, isText := plain.(string); isText {
			n, ok = json.Number(text), true
		}
		if i, err := n.Int64(); ok && err == nil {
			return i, nil
		}
		return nil, &EvalError{mb.of.member, "an integer", errKind}
	}
	return plain, nil
}

// finish checks the event, by the schema, and takes it.
func finish(all map[string]any) (e event.Event, err error) {
	text, err := json.Marshal(all)
	if err != nil {
		return e, errors.New("the event can't be written as JSON")
	}
	if _, err := event.Parse(text); err != nil {
		return e, err
	}
	if err := json.Unmarshal(text, &e); err != nil {
		return e, errors.New("the event can't be read")
	}
	return e, nil
}
