package rules

import (
	"errors"
	"fmt"
	"net/textproto"
	"net/url"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/recorder/doc"
)

// The places where a selector looks, with what stands for it in a file.
const (
	InPath           = "path"            // path:NAME, what the pattern took
	InQuery          = "query"           // query:NAME
	InHeader         = "header"          // header:NAME
	InCookie         = "cookie"          // cookie:NAME
	InBody           = "body"            // body:/POINTER
	InResponse       = "response"        // response:/POINTER
	InResponseHeader = "response-header" // response-header:NAME
	InSetCookie      = "set-cookie"      // set-cookie:NAME, what the answer sets
	InBefore         = "before"          // before:/POINTER, the resource before the change
	InAfter          = "after"           // after:/POINTER, the resource after it
	InStatus         = "status"          // status:, of the answer
	InMethod         = "method"          // method:, that the request was matched with
	InText           = "text"            // text:WORDS, these
	InRequest        = "request"         // only as the template {request}: path and query as they came
)

// late are the places that are known only once there is an answer.
var late = map[string]bool{InResponse: true, InResponseHeader: true, InSetCookie: true, InAfter: true, InStatus: true}

// Late reports whether a selector finds what the scheduler says, and not what the request does.
func Late(s Selector) bool { return late[s.In] }

// Selector names something of a request or its answer.
type Selector struct {
	In      string
	Name    string
	Pointer doc.Pointer
	Secret  bool // hmac: in front; the value is shown as an HMAC
}

var withPointer = map[string]bool{InBody: true, InResponse: true, InBefore: true, InAfter: true}

// ParseSelector reads a selector.
func ParseSelector(text string) (s Selector, err error) {
	rest, secret := strings.CutPrefix(text, "hmac:")
	in, name, ok := strings.Cut(rest, ":")
	s = Selector{In: in, Name: name, Secret: secret}
	if !ok {
		return s, fmt.Errorf("%q: expected PLACE:NAME, such as path:job or body:/name", text)
	}
	switch in {
	case InBody, InResponse, InBefore, InAfter:
		s.Pointer, err = doc.ParsePointer(name)
	case InHeader, InResponseHeader:
		s.Name = textproto.CanonicalMIMEHeaderKey(name)
	case InStatus, InMethod:
		if name != "" {
			err = errors.New("expected nothing behind the colon")
		}
	case InPath, InQuery, InCookie, InSetCookie, InText:
	default:
		err = errors.New("there is no such place")
	}
	if err == nil && name == "" && !withPointer[in] && in != InStatus && in != InMethod {
		err = errors.New("expected a name behind the colon")
	}
	if err != nil {
		return s, fmt.Errorf("%q: %w", text, err)
	}
	return s, nil
}

// Value is what stands for a text: the first of several selectors that finds something.
type Value []Selector

// UnmarshalYAML implements yaml.Unmarshaler: one selector or a list of them.
func (v *Value) UnmarshalYAML(n *yaml.Node) error {
	var texts []string
	if n.Kind == yaml.ScalarNode {
		texts = []string{n.Value}
	} else if err := n.Decode(&texts); err != nil {
		return err
	}
	*v = nil
	for _, t := range texts {
		s, err := ParseSelector(t)
		if err != nil {
			return fmt.Errorf("line %d: %w", n.Line, err)
		}
		*v = append(*v, s)
	}
	return nil
}

// Source is where selectors look things up. State says what there is.
type Source interface {
	// Lookup returns what the selector finds, at most 32 texts.
	Lookup(s Selector) (found []string, state State)
}

// State is how much is known of a place.
type State int

// The states.
const (
	Known   State = iota // what was found is all there is
	Unread               // it is there, and couldn't be read
	Unknown              // it isn't there yet
)

// Find returns what the first selector finds that finds anything.
func (v Value) Find(src Source) (found []string, by Selector) {
	for _, s := range v {
		if got, _ := src.Lookup(s); len(got) > 0 {
			return got, s
		}
	}
	return nil, Selector{}
}

// First is the first text that v finds, or "".
func (v Value) First(src Source) string {
	if found, _ := v.Find(src); len(found) > 0 {
		return found[0]
	}
	return ""
}

// Uses reports whether a place is looked at.
func (v Value) Uses(in string) bool {
	for _, s := range v {
		if s.In == in {
			return true
		}
	}
	return false
}

// Template is a path and query with {SELECTOR} in it, or {NAME} for what the pattern took, {A|B} being the first that finds
// something; or {request}, which is the path and query of the request.
type Template struct {
	text  string
	parts []templatePart
}

type templatePart struct {
	text  string
	value Value // nil: text
	query bool  // it stands behind the ?
	raw   bool  // it is encoded as it has to be
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *Template) UnmarshalText(text []byte) error {
	t.text, t.parts = string(text), nil
	if t.text == "{request}" {
		t.parts = []templatePart{{value: Value{{In: InRequest}}, raw: true}}
		return nil
	}
	if !strings.HasPrefix(t.text, "/") || strings.ContainsAny(t.text, " #\\") {
		return fmt.Errorf("get %q: expected a path with / at its beginning", text)
	}
	query := false
	for rest := t.text; rest != ""; {
		plain, more, found := strings.Cut(rest, "{")
		query = query || strings.Contains(plain, "?")
		t.parts = append(t.parts, templatePart{text: plain, query: query})
		if !found {
			return nil
		}
		name, after, closed := strings.Cut(more, "}")
		if !closed {
			return fmt.Errorf("get %q: expected } behind {", text)
		}
		var v Value
		for one := range strings.SplitSeq(name, "|") {
			if !strings.Contains(one, ":") {
				one = InPath + ":" + one
			}
			s, err := ParseSelector(one)
			if err != nil || late[s.In] {
				return fmt.Errorf("get %q: {%s}: expected what is known before the answer: %w", text, one, err)
			}
			v = append(v, s)
		}
		t.parts = append(t.parts, templatePart{value: v, query: query})
		rest = after
	}
	return nil
}

// String is the template as it was written.
func (t Template) String() string { return t.text }

// Expand fills the template in. ok is false if there is nothing to fill in with, or more than one thing.
func (t Template) Expand(src Source) (target string, ok bool) {
	var b strings.Builder
	for _, p := range t.parts {
		if p.value == nil {
			b.WriteString(p.text)
			continue
		}
		found, _ := p.value.Find(src)
		if len(found) != 1 || found[0] == "" || found[0] == "." || found[0] == ".." {
			return "", false
		}
		switch {
		case p.raw:
			b.WriteString(found[0])
		case p.query:
			b.WriteString(url.QueryEscape(found[0]))
		case odd(found[0]): // a server may read another path than is meant
			return "", false
		default:
			b.WriteString(url.PathEscape(found[0]))
		}
	}
	return b.String(), true
}
