package event

import (
	"strconv"
	"strings"
)

// JSON puts the event together again, in canonical bytes (RFC 8785). What
// Parse took and JSON gives are the same event.
//
// Fields without a value are left out, as are objects that would be empty; but
// an element of target keeps its place, as {} if need be.
func (f Fields) JSON() []byte {
	size := 2
	for i := range f {
		size += len(f[i].Pointer) + len(f[i].Value) + 8
	}
	out := append(make([]byte, 0, size), '{')
	for len(f) > 0 {
		name, _, nested := strings.Cut(strings.TrimPrefix(f[0].Pointer, "/"), "/")
		prefix, n := "/"+name+"/", 1
		for nested && n < len(f) && strings.HasPrefix(f[n].Pointer, prefix) {
			n++
		}
		switch {
		case !nested:
			out = appendMember(out, name, f[0].Value)
		case !anyShown(f[:n]):
		case name == "target":
			out = appendTargets(appendName(out, name), f[:n])
		default:
			out = appendObject(appendName(out, name), f[:n], prefix)
		}
		f = f[n:]
	}
	return appendEnd(out, '}')
}

func anyShown(f Fields) bool {
	for i := range f {
		if f[i].Value != nil {
			return true
		}
	}
	return false
}

// appendTargets puts the elements in the order of their indices, which isn't
// that of their pointers: 10 is less than 2 there.
func appendTargets(out []byte, f Fields) []byte {
	last := 0
	for i := range f {
		if index, _, ok := targetOf(f[i].Pointer); ok && f[i].Value != nil {
			last = max(last, index)
		}
	}
	out = append(out, '[')
	for i := range last + 1 {
		prefix := "/target/" + strconv.Itoa(i) + "/"
		var from, to int
		for from < len(f) && !strings.HasPrefix(f[from].Pointer, prefix) {
			from++
		}
		for to = from; to < len(f) && strings.HasPrefix(f[to].Pointer, prefix); to++ {
		}
		out = appendObject(out, f[from:to], prefix)
	}
	return append(appendEnd(out, ']'), ',')
}

// appendObject appends an object of the fields under prefix, and a comma.
func appendObject(out []byte, f Fields, prefix string) []byte {
	out = append(out, '{')
	for i := range f {
		out = appendMember(out, strings.TrimPrefix(f[i].Pointer, prefix), f[i].Value)
	}
	return append(appendEnd(out, '}'), ',')
}

// appendMember appends a member, if it has a value, and a comma.
func appendMember(out []byte, name string, value []byte) []byte {
	if value == nil {
		return out
	}
	return append(append(appendName(out, name), value...), ',')
}

// appendName appends a member's name, which needs no escape in any pointer of
// the schema, and the colon.
func appendName(out []byte, name string) []byte {
	out = append(out, '"')
	out = append(out, name...)
	return append(out, '"', ':')
}

// appendEnd ends an object or array, in place of the last member's comma.
func appendEnd(out []byte, end byte) []byte {
	if out[len(out)-1] == ',' {
		out = out[:len(out)-1]
	}
	return append(out, end)
}
