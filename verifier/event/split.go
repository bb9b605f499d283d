package event

import (
	"slices"
	"strconv"
	"strings"
	"sync"
)

// A splitter reads an event and splits it into its fields (design: sealing):
// each top-level scalar or array is one field, each member of a top-level
// object is one, and each member of an element of target is one.
type splitter struct {
	scanner
	fields []splitField
	seen   uint64 // bit i: topLevel[i] has been read
	max    int    // fields at most
}

// A splitField is a field with the rule of its place.
type splitField struct {
	place
	value []byte
}

// splitters keep the memory of splitters for other events.
var splitters = sync.Pool{New: func() any { return new(splitter) }}

// split reads a whole event and checks it. The fields come back in order.
func split(data []byte, maxFields int, at stage) (Fields, *Error) {
	s := splitters.Get().(*splitter)
	defer s.release()
	s.in, s.max = data, maxFields
	s.out = make([]byte, 0, len(data))
	return s.split(at)
}

// release gives the splitter back, without anything of the event, unless the event
// was an odd one that needed much memory.
func (s *splitter) release() {
	if cap(s.spare) > 64<<10 || cap(s.members) > 1<<10 {
		return
	}
	clear(s.fields)
	*s = splitter{fields: s.fields[:0], scanner: scanner{members: s.members[:0], spare: s.spare[:0]}}
	splitters.Put(s)
}

func (s *splitter) split(at stage) (Fields, *Error) {
	if s.peek() != '{' {
		if err := s.value(1, false); err != nil {
			return nil, err
		}
		return nil, &Error{Code: CodeType, Expected: "an object"}
	}
	empty, err := s.each("", s.topMember)
	if err != nil {
		return nil, err
	}
	if err := s.end(); err != nil {
		return nil, err
	}
	if empty {
		return nil, &Error{Pointer: "/schema", Code: CodeMissing, Expected: schemaRules["/schema"].want}
	}
	return s.checked(at)
}

// each reads an object and calls read for each member, at its value. name is
// good until read writes to s.out.
func (s *splitter) each(pointer string, read func(name []byte) *Error) (empty bool, err *Error) {
	s.pos++ // the brace that the caller has seen
	if s.peek() == '}' {
		s.pos++
		return true, nil
	}
	for {
		start := len(s.out)
		if err := s.key(); err != nil {
			err.Pointer = pointer
			return false, err
		}
		name := textOf(s.out[start:])
		s.out = s.out[:start] // names are in the pointers
		if err := read(name); err != nil {
			return false, err
		}
		more, err := s.next('}')
		if err != nil {
			err.Pointer = pointer
			return false, err
		}
		if !more {
			return false, nil
		}
	}
}

// topMember reads the value of a top-level member.
func (s *splitter) topMember(name []byte) *Error {
	i := slices.IndexFunc(topLevel, func(t top) bool { return t.name == string(name) })
	if i < 0 {
		return unknown(string(name))
	}
	t := &topLevel[i]
	if s.seen&(1<<i) != 0 {
		return &Error{Pointer: t.pointer, Code: CodeDuplicate, Expected: "each name once in an object"}
	}
	s.seen |= 1 << i
	switch t.kind {
	case kindObject, kindOpen:
		return s.topObject(t)
	case kindTarget:
		return s.targets(t)
	}
	return s.field(place{t.pointer, t.rule}, 2, false)
}

// topObject reads the members of a top-level object.
func (s *splitter) topObject(t *top) *Error {
	if s.peek() != '{' {
		return s.wrongType(t.pointer, 2, "an object")
	}
	empty, err := s.each(t.pointer, func(name []byte) *Error {
		if t.kind == kindOpen {
			if !validName(name) {
				return badName().under(string(name)).under(t.name)
			}
			return s.field(place{t.pointer + "/" + string(name), t.rule}, 3, true)
		}
		for i := range t.members {
			if m := &t.members[i]; m.name == string(name) {
				return s.field(m.place, 3, false)
			}
		}
		return unknown(string(name)).under(t.name)
	})
	if empty {
		return &Error{Pointer: t.pointer, Code: CodeEmpty, Expected: "at least one member; leave an empty object out"}
	}
	return err
}

// targets reads the array target.
func (s *splitter) targets(t *top) *Error {
	if s.peek() != '[' {
		return s.wrongType(t.pointer, 2, "an array")
	}
	s.pos++
	if s.peek() == ']' {
		return &Error{Pointer: t.pointer, Code: CodeEmpty, Expected: "1 to 32 targets"}
	}
	for i := 0; ; i++ {
		if i == MaxTargets {
			return &Error{Pointer: t.pointer, Code: CodeSize, Expected: "1 to 32 targets"}
		}
		if err := s.target(t, i); err != nil {
			return err
		}
		more, err := s.next(']')
		if err != nil {
			err.Pointer = t.pointer
			return err
		}
		if !more {
			return nil
		}
	}
}

// target reads element i of target.
func (s *splitter) target(t *top, i int) *Error {
	if s.peek() != '{' {
		return s.wrongType(targetPointer(i), 3, "an object")
	}
	empty, err := s.each(targetPointer(i), func(name []byte) *Error {
		for j, m := range targetMembers {
			if m == string(name) {
				return s.field(place{targetPointers[i][j], targetRules[i][j]}, 4, false)
			}
		}
		return unknown(string(name)).under(strconv.Itoa(i)).under(t.name)
	})
	if empty {
		return &Error{Pointer: targetPointer(i), Code: CodeEmpty, Expected: "type and id"}
	}
	return err
}

// field reads a value and makes it a field.
func (s *splitter) field(at place, depth int, names bool) *Error {
	start := len(s.out)
	if err := s.value(depth, names); err != nil {
		err.Pointer = at.pointer + err.Pointer
		return err
	}
	if len(s.fields) == s.max {
		return tooMany()
	}
	end := len(s.out)
	s.fields = append(s.fields, splitField{at, s.out[start:end:end]})
	return nil
}

// checked returns the fields in order, checked by their rules, and finds members that
// came twice. It moves numbers of fields about rather than fields, which are large and
// hold pointers.
func (s *splitter) checked(at stage) (Fields, *Error) {
	var room [40]uint16
	order := room[:0]
	for i := range s.fields {
		order = append(order, uint16(i))
	}
	slices.SortFunc(order, func(a, b uint16) int { return s.fields[a].compare(&s.fields[b]) })
	c := checker{stage: at}
	out := make(Fields, len(order))
	for i, n := range order {
		f := &s.fields[n]
		if f.pointer == c.last {
			return nil, &Error{Pointer: f.pointer, Code: CodeDuplicate, Expected: "each name once in an object"}
		}
		if err := c.field(f.pointer, f.rule, f.value); err != nil {
			return nil, err
		}
		out[i] = Field{f.pointer, f.value}
	}
	return out, c.end()
}

// compare orders fields by the bytes of their pointers.
func (f *splitField) compare(g *splitField) int {
	if f.rule.rank != g.rule.rank {
		return f.rule.rank - g.rule.rank
	}
	return strings.Compare(f.pointer, g.pointer)
}

// wrongType reads a value that the schema has no place for, so that text which
// isn't JSON is called that.
func (s *splitter) wrongType(pointer string, depth int, expected string) *Error {
	if err := s.value(depth, false); err != nil {
		err.Pointer = pointer + err.Pointer
		return err
	}
	return &Error{Pointer: pointer, Code: CodeType, Expected: expected}
}

func unknown(name string) *Error {
	e := &Error{Code: CodeUnknown, Expected: "a member of the schema; what has no place in it belongs in details"}
	return e.under(name)
}

func tooMany() *Error {
	return &Error{Code: CodeSize, Expected: "at most 256 fields"}
}
