package event

import (
	"bytes"
	"slices"
	"strconv"
)

// A scanner reads strict JSON and writes its canonical form (RFC 8785) as it
// goes. Every check of the text itself is made here and nowhere else; what the
// members mean is the schema's business.
//
// The canonical form is never longer than the text it came from: white space
// goes, an escape becomes the shortest one, a number has only one spelling. So
// out is allocated once.
type scanner struct {
	in  []byte
	pos int

	out     []byte
	members []member // of the objects being read, outermost first
	spare   []byte   // for putting an object's members in order
}

// A member is one member of an object, as offsets into scanner.out: the name
// with its quotes is out[start:colon], the value out[colon+1:end].
type member struct{ start, colon, end int }

// peek skips white space and returns the byte there, 0 at the end.
func (s *scanner) peek() byte {
	for ; s.pos < len(s.in); s.pos++ {
		switch c := s.in[s.pos]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return 0
}

// end checks that nothing but white space is left.
func (s *scanner) end() *Error {
	if s.peek(); s.pos != len(s.in) {
		return s.syntax("nothing more")
	}
	return nil
}

func (s *scanner) syntax(expected string) *Error {
	return &Error{Code: CodeSyntax, Expected: expected + " at byte " + strconv.Itoa(s.pos)}
}

// value reads one value. depth is the depth that the value has if it is an
// array or an object, the outermost being 1; names says whether the names of
// members must fit the grammar of labels and details.
func (s *scanner) value(depth int, names bool) *Error {
	switch c := s.peek(); {
	case c == '"':
		return s.str()
	case c == '-' || '0' <= c && c <= '9':
		return s.number()
	case c == '{':
		return s.object(depth, names)
	case c == '[':
		return s.array(depth, names)
	case c == 't':
		return s.literal("true")
	case c == 'f':
		return s.literal("false")
	case c == 'n' && bytes.HasPrefix(s.in[s.pos:], []byte("null")):
		return &Error{Code: CodeNull, Expected: "a value other than null; leave the member out"}
	}
	return s.syntax("a JSON value")
}

func (s *scanner) literal(word string) *Error {
	if len(s.in)-s.pos < len(word) || string(s.in[s.pos:s.pos+len(word)]) != word {
		return s.syntax("a JSON value")
	}
	s.pos += len(word)
	s.out = append(s.out, word...)
	return nil
}

// number reads an integer. JCS libraries silently change numbers that a double
// can't hold, and write others in more than one way; so only those whose
// decimal digits are their canonical form are let through.
func (s *scanner) number() *Error {
	start := s.pos
	if s.in[s.pos] == '-' {
		s.pos++
	}
	first := s.pos
	var n uint64
	for ; s.pos < len(s.in) && '0' <= s.in[s.pos] && s.in[s.pos] <= '9'; s.pos++ {
		if n <= MaxInteger {
			n = n*10 + uint64(s.in[s.pos]-'0')
		}
	}
	digits := s.in[first:s.pos]
	fraction := s.pos < len(s.in) && (s.in[s.pos] == '.' || s.in[s.pos]|0x20 == 'e')
	zero := len(digits) > 0 && digits[0] == '0' && s.pos-start > 1 // -0, 007
	if len(digits) == 0 || fraction || zero || n > MaxInteger {
		return &Error{Code: CodeNumber, Expected: "an integer within ±9007199254740991, -?(0|[1-9][0-9]*), not -0; write others as strings"}
	}
	s.out = append(s.out, s.in[start:s.pos]...)
	return nil
}

func (s *scanner) array(depth int, names bool) *Error {
	if depth > MaxDepth {
		return tooDeep()
	}
	s.pos++
	s.out = append(s.out, '[')
	if s.peek() == ']' {
		s.pos++
		s.out = append(s.out, ']')
		return nil
	}
	for i := 0; ; i++ {
		if err := s.value(depth+1, names); err != nil {
			return err.under(strconv.Itoa(i))
		}
		more, err := s.next(']')
		if err != nil {
			return err
		}
		if !more {
			s.out = append(s.out, ']')
			return nil
		}
		s.out = append(s.out, ',')
	}
}

// next reads what follows an element or a member: a comma, or the end.
func (s *scanner) next(end byte) (more bool, err *Error) {
	switch s.peek() {
	case ',':
		s.pos++
		return true, nil
	case end:
		s.pos++
		return false, nil
	}
	return false, s.syntax("a comma or the end")
}

func (s *scanner) object(depth int, names bool) *Error {
	if depth > MaxDepth {
		return tooDeep()
	}
	s.pos++
	s.out = append(s.out, '{')
	if s.peek() == '}' {
		s.pos++
		s.out = append(s.out, '}')
		return nil
	}
	base, ordered := len(s.members), true
	for {
		m, err := s.member(depth, names)
		if err != nil {
			return err
		}
		if len(s.members) > base {
			ordered = ordered && compareNames(s.name(s.members[len(s.members)-1]), s.name(m)) < 0
		}
		s.members = append(s.members, m)
		more, err := s.next('}')
		if err != nil {
			return err
		}
		if !more {
			break
		}
		s.out = append(s.out, ',')
	}
	if !ordered {
		if err := s.order(s.members[base:]); err != nil {
			return err
		}
	}
	s.members = s.members[:base]
	s.out = append(s.out, '}')
	return nil
}

// member reads a name and its value.
func (s *scanner) member(depth int, names bool) (member, *Error) {
	m := member{start: len(s.out)}
	if err := s.key(); err != nil {
		return m, err
	}
	m.colon = len(s.out)
	if names && !validName(s.name(m)) {
		return m, badName().under(unquote(s.out[m.start:m.colon]))
	}
	s.out = append(s.out, ':')
	if err := s.value(depth+1, names); err != nil {
		return m, err.under(unquote(s.out[m.start:m.colon]))
	}
	m.end = len(s.out)
	return m, nil
}

// key reads a member's name and the colon behind it.
func (s *scanner) key() *Error {
	if s.peek() != '"' {
		return s.syntax("a member's name in quotes")
	}
	if err := s.str(); err != nil {
		return err
	}
	if s.peek() != ':' {
		return s.syntax("a colon")
	}
	s.pos++
	return nil
}

// name returns a member's name as it is written, without its quotes.
func (s *scanner) name(m member) []byte { return s.out[m.start+1 : m.colon-1] }

// order sorts the members just read, the last of which ends where out ends,
// and finds names that come twice.
func (s *scanner) order(members []member) *Error {
	from := members[0].start
	slices.SortFunc(members, func(a, b member) int { return compareNames(s.name(a), s.name(b)) })
	for i, m := range members[1:] {
		if bytes.Equal(s.name(members[i]), s.name(m)) {
			e := &Error{Code: CodeDuplicate, Expected: "each name once in an object"}
			return e.under(unquote(s.out[m.start:m.colon]))
		}
	}
	s.spare = append(s.spare[:0], s.out[from:]...)
	s.out = s.out[:from]
	for i, m := range members {
		if i > 0 {
			s.out = append(s.out, ',')
		}
		s.out = append(s.out, s.spare[m.start-from:m.end-from]...)
	}
	return nil
}

// compareNames orders names, as they stand between their quotes in canonical
// JSON, "as arrays of UTF-16 code units" (RFC 8785 section 3.2.3).
func compareNames(a, b []byte) int {
	if plainName(a) && plainName(b) {
		return bytes.Compare(a, b)
	}
	for len(a) > 0 && len(b) > 0 {
		x, n := decodeRune(a)
		y, m := decodeRune(b)
		if x != y {
			return utf16Order(x) - utf16Order(y)
		}
		a, b = a[n:], b[m:]
	}
	return len(a) - len(b)
}

// plainName reports that name's bytes are in the order of its UTF-16 code
// units: nothing is escaped and everything is ASCII.
func plainName(name []byte) bool {
	for _, c := range name {
		if c == '\\' || c >= 0x80 {
			return false
		}
	}
	return true
}

// utf16Order maps characters so that their order is that of their UTF-16 code
// units: those past U+FFFF begin with a surrogate, D800 to DBFF, and so come
// before U+E000 to U+FFFF.
func utf16Order(r rune) int {
	if 0xE000 <= r && r <= 0xFFFF {
		return int(r) + 0x110000
	}
	return int(r)
}

func tooDeep() *Error {
	return &Error{Code: CodeDepth, Expected: "arrays and objects nested at most 16 deep"}
}

func badName() *Error {
	return &Error{Code: CodeName, Expected: "a name that matches [A-Za-z][A-Za-z0-9_.-]{0,127}"}
}

// validName is the grammar of members' names in labels and details:
// [A-Za-z][A-Za-z0-9_.-]{0,127}. They need no escape in JSON, nor in a pointer.
func validName(name []byte) bool {
	if len(name) == 0 || len(name) > 128 || !isLetter(name[0]) {
		return false
	}
	for _, c := range name[1:] {
		if !isLetter(c) && !isDigit(c) && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return true
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }
func isDigit(c byte) bool  { return '0' <= c && c <= '9' }
