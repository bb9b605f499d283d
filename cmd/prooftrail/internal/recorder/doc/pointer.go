package doc

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Pointer names values in a document: a JSON Pointer (RFC 6901) in which the token * stands for all elements of an
// array or members of an object.
type Pointer []string

// maxFound bounds what a * finds.
const maxFound = 32

// ParsePointer reads a pointer.
func ParsePointer(text string) (Pointer, error) {
	if text == "" {
		return Pointer{}, nil
	}
	if text[0] != '/' {
		return nil, fmt.Errorf("pointer %q: expected / at its beginning", text)
	}
	tokens := strings.Split(text[1:], "/")
	for i, t := range tokens {
		if rest := strings.NewReplacer("~0", "", "~1", "").Replace(t); strings.Contains(rest, "~") {
			return nil, fmt.Errorf("pointer %q: expected 0 or 1 behind ~", text)
		}
		tokens[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(t)
	}
	return tokens, nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Pointer) UnmarshalText(text []byte) (err error) {
	*p, err = ParsePointer(string(text))
	return err
}

// Find returns the values at p, at most 32.
func (p Pointer) Find(v any) []any {
	if len(p) == 0 {
		return []any{v}
	}
	switch v := v.(type) {
	case map[string]any:
		if p[0] != "*" {
			if member, ok := named(v, p[0]); ok {
				return p[1:].Find(member)
			}
			return nil
		}
		var found []any
		for _, name := range slices.Sorted(maps.Keys(v)) {
			found = appendFound(found, p[1:].Find(v[name]))
		}
		return found
	case []any:
		if p[0] == "*" {
			var found []any
			for _, e := range v {
				if found = appendFound(found, p[1:].Find(e)); len(found) == maxFound {
					break
				}
			}
			return found
		}
		if i, err := strconv.Atoi(p[0]); err == nil && i >= 0 && i < len(v) {
			return p[1:].Find(v[i])
		}
	}
	return nil
}

// named is the member of that name, or else the first one whose name differs by case alone: encoding/json of Go, for one, takes
// both.
func named(m map[string]any, name string) (any, bool) {
	if v, ok := m[name]; ok {
		return v, true
	}
	first, ok, want := "", false, fold(name)
	for n := range m {
		if fold(n) == want && (!ok || n < first) {
			first, ok = n, true
		}
	}
	return m[first], ok
}

// fold makes names alike that differ by case alone, as encoding/json does: the long s and the sign of Kelvin are letters too.
func fold(name string) string { return strings.ToLower(strings.ToUpper(name)) }

func appendFound(found, more []any) []any {
	return append(found, more[:min(len(more), maxFound-len(found))]...)
}

// Text is a value as text: a string as it is, null as nothing, an object or array as JSON.
func Text(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case json.Number:
		return v.String()
	case bool:
		return strconv.FormatBool(v)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(b)
}

// Remove removes what p names from a copy of v. An array keeps its elements.
func (p Pointer) Remove(v any) any { return p.change(v, nil, true) }

// Replace puts something into the place of what p names, in a copy of v.
func (p Pointer) Replace(v, with any) any { return p.change(v, with, false) }

func (p Pointer) change(v, with any, remove bool) any {
	if len(p) == 0 {
		if remove {
			return v
		}
		return with
	}
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for name, member := range v {
			switch {
			case p[0] != "*" && fold(name) != fold(p[0]):
				out[name] = member
			case len(p) > 1 || !remove:
				out[name] = p[1:].change(member, with, remove)
			}
		}
		return out
	case []any:
		if len(p) == 1 && remove {
			return v
		}
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = e
			if p[0] == "*" || p[0] == strconv.Itoa(i) {
				out[i] = p[1:].change(e, with, remove)
			}
		}
		return out
	}
	return v
}
