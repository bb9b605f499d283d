package foreign

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/prooftrail/prooftrail/verifier/event"
)

// Details makes of a foreign object what can be in an event's details: null is left out, a number that isn't an
// integer within ±2^53 is a string with its digits, what is nested too deep is a string with its
// JSON. A name outside the grammar has _ for what doesn't fit, x in front if it doesn't begin with
// a letter, and a number behind if another has become the same. nil if nothing is left.
func Details(object map[string]any) map[string]any {
	// The event is 1 deep, its details 2.
	return details(object, 2)
}

func details(object map[string]any, depth int) map[string]any {
	var out map[string]any
	names := slices.Sorted(maps.Keys(object))
	last := map[string]int{} // the number behind a name that was given last: a stranger may have chosen 100,000 that become one
	for _, name := range names {
		v, ok := detail(object[name], depth+1)
		if !ok {
			continue
		}
		if out == nil {
			out = make(map[string]any, len(object))
		}
		to := memberName(name)
		for base := to[:min(len(to), 120)]; ; {
			// One that needs no change goes before one that does.
			if _, taken := out[to]; !taken && (to == name || !has(object, to)) {
				break
			}
			last[base] = max(last[base], 1) + 1
			to = base + "_" + strconv.Itoa(last[base])
		}
		out[to] = v
	}
	return out
}

func has(object map[string]any, name string) bool {
	_, ok := object[name]
	return ok
}

// memberName is name, or something like it, in the grammar [A-Za-z][A-Za-z0-9_.-]{0,127}.
func memberName(name string) string {
	to := tame(name[:min(len(name), 512)], "_.-")
	if to == "" || to[0] < 'A' || to[0] == '_' {
		to = "x" + to
	}
	return to[:min(len(to), 128)]
}

// detail makes of a foreign value at a depth what an event can hold; false if that is nothing.
func detail(v any, depth int) (any, bool) {
	switch v := v.(type) {
	case nil:
		return nil, false
	case json.Number:
		return number(v), true
	case map[string]any:
		if depth > event.MaxDepth {
			return flat(v), true
		}
		if out := details(v, depth); out != nil {
			return out, true
		}
		return map[string]any{}, true
	case []any:
		if depth > event.MaxDepth {
			return flat(v), true
		}
		out := make([]any, 0, len(v))
		for _, e := range v {
			if e, ok := detail(e, depth+1); ok {
				out = append(out, e)
			}
		}
		return out, true
	}
	return v, true
}

// number is an integer in its one spelling, or a string.
func number(n json.Number) any {
	i, err := strconv.ParseInt(string(n), 10, 64)
	if err != nil || i > event.MaxInteger || i < -event.MaxInteger || strconv.FormatInt(i, 10) != string(n) {
		return string(n)
	}
	return i
}

// flat is a value as JSON text.
func flat(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(b)
}

// At returns what is at a path of members; nil if there is none.
func At(v any, path ...string) any {
	for _, name := range path {
		object, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = object[name]
	}
	return v
}

// Text returns the string at a path, or a number's digits; "" if there is neither. It is cut to limit bytes.
func Text(v any, limit int, path ...string) string {
	switch v := At(v, path...).(type) {
	case string:
		return Clip(strings.TrimSpace(v), limit)
	case json.Number:
		return string(v)
	}
	return ""
}

// Int returns the integer at a path.
func Int(v any, path ...string) (int64, bool) {
	n, ok := At(v, path...).(json.Number)
	if !ok {
		return 0, false
	}
	i, err := n.Int64()
	return i, err == nil
}
