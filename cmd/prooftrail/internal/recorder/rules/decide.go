package rules

import "slices"

// Match is a rule that may be a request's.
type Match struct {
	Rule     *Rule
	Method   string            // that it was matched with
	Captures map[string]string // what the pattern's names took
	sure     bool              // its tests hold; else something they look at wasn't read
}

// Decision is what the rules say of a request.
type Decision struct {
	Mode  Mode
	Match Match // what the event is made by
	// Ambiguous says that servers may read the request in ways that mean different things.
	Ambiguous bool
	// Unsure says that a rule may be meant whose tests look at what couldn't be read.
	Unsure bool
}

// Request is what is matched.
type Request struct {
	Methods  []string   // of Methods
	Readings [][]string // of Readings
	// Source looks up what rules test. It is given what a match took from the path.
	Source func(m Match) Source
}

// Decide finds the rule of a request. unset is the mode of rules that have none.
func (s *Set) Decide(r *Request, unset Mode) Decision {
	var d Decision
	for i, method := range r.Methods {
		for j, segments := range r.Readings {
			one := s.read(r, method, segments, unset)
			switch {
			case i == 0 && j == 0:
				d = one
				continue
			case !same(d.Match, one.Match):
				d.Ambiguous = true
			}
			if one.Mode > d.Mode {
				one.Ambiguous, one.Unsure = d.Ambiguous, one.Unsure || d.Unsure
				d = one
			}
		}
	}
	return d
}

func same(a, b Match) bool {
	if a.Rule != b.Rule || len(a.Captures) != len(b.Captures) {
		return false
	}
	for name, v := range a.Captures {
		if b.Captures[name] != v {
			return false
		}
	}
	return true
}

// read finds the rule of one reading: the first that surely matches. Its mode is the strictest of those that may match
// before it.
func (s *Set) read(r *Request, method string, segments []string, unset Mode) (d Decision) {
	for _, rule := range s.Rules {
		m, ok := rule.match(r, method, segments)
		if !ok {
			continue
		}
		mode := rule.Mode
		if mode == Unset {
			mode = unset
		}
		d.Mode = max(d.Mode, mode)
		if m.sure {
			d.Match = m
			return d
		}
		d.Unsure = true
	}
	return d // the defaults match everything
}

func (r *Rule) match(req *Request, method string, segments []string) (Match, bool) {
	if r.generic {
		return Match{Rule: r, Method: method, sure: true}, r.safe == Safe(method)
	}
	if len(r.Methods) > 0 && !slices.Contains(r.Methods, method) {
		return Match{}, false
	}
	captures, ok := r.Path.Match(segments)
	if !ok {
		return Match{}, false
	}
	m := Match{Rule: r, Method: method, Captures: captures, sure: true}
	if len(r.If) > 0 {
		switch r.If.hold(req.Source(m)) {
		case no:
			return Match{}, false
		case maybe:
			m.sure = false
		}
	}
	return m, true
}

// Safe reports whether a method is safe (RFC 9110 section 9.2.1).
func Safe(method string) bool {
	return method == "GET" || method == "HEAD" || method == "OPTIONS" || method == "TRACE"
}
