package rules

import (
	"errors"
	"fmt"
	"regexp"
	"slices"

	"go.yaml.in/yaml/v3"
)

// Tests are conditions that all have to hold.
type Tests []Test

// Test compares what a selector finds. It holds if one of several does.
type Test struct {
	Of      Selector
	Is      []string       // one of these
	Matches *regexp.Regexp // or this
	Present *bool          // or whether there is anything
}

// UnmarshalYAML implements yaml.Unmarshaler: a mapping from selectors to a text, a list of them, {matches: EXPRESSION}
// or {present: true}.
func (t *Tests) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: expected a mapping from selectors to what they find", n.Line)
	}
	*t = nil
	for i := 0; i+1 < len(n.Content); i += 2 {
		of, err := ParseSelector(n.Content[i].Value)
		if err != nil {
			return fmt.Errorf("line %d: %w", n.Content[i].Line, err)
		}
		one := Test{Of: of}
		if err := one.read(n.Content[i+1]); err != nil {
			return fmt.Errorf("line %d: %w", n.Content[i+1].Line, err)
		}
		*t = append(*t, one)
	}
	return nil
}

func (t *Test) read(n *yaml.Node) error {
	switch n.Kind {
	case yaml.ScalarNode:
		t.Is = []string{n.Value}
	case yaml.SequenceNode:
		for _, e := range n.Content {
			if e.Kind != yaml.ScalarNode {
				return errors.New("expected a list of texts")
			}
			t.Is = append(t.Is, e.Value)
		}
	case yaml.MappingNode:
		return t.readMapping(n)
	default:
		return errors.New("expected a text, a list, matches or present")
	}
	return nil
}

func (t *Test) readMapping(n *yaml.Node) (err error) {
	if len(n.Content) != 2 {
		return errors.New("expected one of matches and present")
	}
	switch v := n.Content[1]; n.Content[0].Value {
	case "matches":
		t.Matches, err = regexp.Compile(v.Value)
	case "present":
		t.Present = new(bool)
		err = v.Decode(t.Present)
	default:
		err = errors.New("expected matches or present")
	}
	return err
}

// answer is what a test says.
type answer int

const (
	no answer = iota
	maybe
	yes
)

// hold reports whether all tests hold. maybe: what they look at couldn't be read, or isn't there yet.
func (t Tests) hold(src Source) answer {
	all := yes
	for i := range t {
		switch t[i].holds(src) {
		case no:
			return no
		case maybe:
			all = maybe
		}
	}
	return all
}

// Hold reports whether all tests are known to hold.
func (t Tests) Hold(src Source) bool { return t.hold(src) == yes }

func (t *Test) holds(src Source) answer {
	found, state := src.Lookup(t.Of)
	if state != Known {
		return maybe
	}
	ok := false
	switch {
	case t.Present != nil:
		ok = (len(found) > 0) == *t.Present
	case t.Matches != nil:
		ok = slices.ContainsFunc(found, t.Matches.MatchString)
	default:
		ok = slices.ContainsFunc(found, func(f string) bool { return slices.Contains(t.Is, f) })
	}
	if ok {
		return yes
	}
	return no
}

// Choose returns the word of the first choice whose tests hold, or otherwise.
func Choose(choices []Choice, src Source, otherwise string) string {
	for i := range choices {
		if choices[i].If.Hold(src) {
			return choices[i].Then
		}
	}
	return otherwise
}

// Undecided reports whether one of the choices can't be told because what it looks at couldn't be read.
func Undecided(choices []Choice, src Source) bool {
	return slices.ContainsFunc(choices, func(c Choice) bool { return c.If.hold(src) == maybe })
}
