package kubernetes

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"

	"github.com/prooftrail/prooftrail/verifier/event"
)

func sortedNames(o map[string]any) []string { return slices.Sorted(maps.Keys(o)) }

// fit makes a value one that an event takes: without null, without fractions, of so many levels. An
// environment variable becomes a member with its name, by which masking finds secrets.
func fit(v any, depth int) any {
	switch v := v.(type) {
	case nil:
		return "[null]"
	case json.Number:
		if n, err := strconv.ParseInt(v.String(), 10, 64); err == nil && n <= event.MaxInteger && n >= -event.MaxInteger && v.String() != "-0" {
			return n
		}
		return v.String()
	case map[string]any:
		if depth == 0 {
			return "[left out]"
		}
		out := make(map[string]any, len(v))
		for name, value := range v {
			out[name] = fit(value, depth-1)
		}
		return out
	case []any:
		if depth == 0 {
			return "[left out]"
		}
		if env := environment(v); env != nil {
			return fit(env, depth)
		}
		out := make([]any, len(v))
		for i := range v {
			out[i] = fit(v[i], depth-1)
		}
		return out
	}
	return v
}

// environment is a list of names with values as one object; nil if the list isn't one, or a name comes twice.
func environment(list []any) map[string]any {
	env := map[string]any{}
	for _, e := range list {
		o, ok := e.(map[string]any)
		name, named := o["name"].(string)
		value, valued := o["value"]
		if !valued {
			value, valued = o["valueFrom"]
		}
		if _, twice := env[name]; !ok || !named || !valued || len(o) != 2 || twice {
			return nil
		}
		env[name] = value
	}
	if len(env) == 0 {
		return nil
	}
	return env
}
