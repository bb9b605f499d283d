package httpapi

import "bytes"

// eventsKey is how a batch begins after its brace. Another spelling of the same
// name (\u0065vents) isn't a batch, and refused as an event's unknown member.
var eventsKey = []byte(`"events"`)

// isBatch reports whether a JSON body is {"events": …} rather than an event: an
// event has no member of that name.
func isBatch(body []byte) bool {
	s := scanner{b: body}
	return s.take('{') && s.key()
}

// splitBatch cuts {"events": [ … ]} into the elements' own bytes, which alias
// body. The envelope is strict: that one member, once, an array, nothing after
// it. Elements are only delimited here, by strings and by the balance of their
// brackets, never decoded: event.Parse sees the very bytes that were sent and
// refuses what isn't JSON, without harm to the others. Of a valid JSON text
// these are exactly the elements.
func splitBatch(body []byte) ([][]byte, error) {
	s := scanner{b: body}
	if !s.take('{') || !s.key() || !s.take(':') {
		return nil, badMember("", `{"events": […]}`)
	}
	if !s.take('[') {
		return nil, badMember("/events", "an array of 1 to 500 events")
	}
	elements, err := s.elements()
	if err != nil {
		return nil, err
	}
	if s.take(',') {
		return nil, badMember("", "no member but events, and that once")
	}
	if !s.take('}') {
		return nil, badMember("", "the end of the object after the array")
	}
	if s.space(); s.i < len(s.b) {
		return nil, badMember("", "nothing after the end of the object")
	}
	return elements, nil
}

type scanner struct {
	b []byte
	i int
}

func (s *scanner) space() {
	for s.i < len(s.b) && isSpace(s.b[s.i]) {
		s.i++
	}
}

// take skips whitespace and then c, if c is next.
func (s *scanner) take(c byte) bool {
	s.space()
	if s.i < len(s.b) && s.b[s.i] == c {
		s.i++
		return true
	}
	return false
}

func (s *scanner) key() bool {
	s.space()
	if !bytes.HasPrefix(s.b[s.i:], eventsKey) {
		return false
	}
	s.i += len(eventsKey)
	return true
}

// elements reads up to and with the closing bracket of the array.
func (s *scanner) elements() ([][]byte, error) {
	if s.take(']') {
		return nil, badMember("/events", "an array of 1 to 500 events")
	}
	var found [][]byte
	for {
		s.space()
		e := s.element()
		if len(e) == 0 {
			return nil, badMember("/events", "an event before each comma and bracket")
		}
		if found = append(found, e); len(found) > MaxEvents {
			return nil, &problem{kind: kindRequestSize, detail: "the request has more than 500 events"}
		}
		if s.take(']') {
			return found, nil
		}
		if !s.take(',') {
			return nil, badMember("/events", "a comma or the closing bracket after each event")
		}
	}
}

// element takes one value: what lies before the next comma, bracket or
// whitespace that is outside of all strings and brackets that begin in it.
func (s *scanner) element() []byte {
	start, depth := s.i, 0
	for s.i < len(s.b) {
		switch c := s.b[s.i]; {
		case c == '"':
			s.skipString()
			if depth == 0 {
				return s.b[start:s.i]
			}
			continue
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			if depth == 0 {
				return s.b[start:s.i]
			}
			if depth--; depth == 0 {
				s.i++
				return s.b[start:s.i]
			}
		case depth == 0 && (c == ',' || isSpace(c)):
			return s.b[start:s.i]
		}
		s.i++
	}
	return s.b[start:s.i]
}

// skipString skips a string from its opening quote on, to the end if it isn't
// closed.
func (s *scanner) skipString() {
	for s.i++; s.i < len(s.b); s.i++ {
		switch s.b[s.i] {
		case '\\':
			s.i++
		case '"':
			s.i++
			return
		}
	}
	s.i = len(s.b) // a backslash may have stepped past it
}
