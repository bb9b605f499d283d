package mapping

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/prooftrail/prooftrail/verifier/event"
)

// file is a mapping file as it is written.
type file struct {
	Mapping string               `yaml:"mapping"`
	Headers []string             `yaml:"headers"`
	Each    string               `yaml:"each"`
	When    string               `yaml:"when"`
	Event   map[string]yaml.Node `yaml:"event"`
}

// A Mapping is a mapping file, ready to be used. It is safe for concurrent use.
type Mapping struct {
	headers []string // in lower case
	each    []string // the path of the array, "body" first; nil without
	when    *expression
	members []member
}

// A member is a member of the event that an expression yields.
type member struct {
	path []string // "actor", "id"; "target", "0", "id"
	kind kind
	of   *expression
}

// Parse reads a mapping file: YAML, or JSON. Its errors name the member.
func Parse(text []byte) (*Mapping, error) {
	if len(text) > MaxFileBytes {
		return nil, fmt.Errorf("mapping: expected at most %d bytes", MaxFileBytes)
	}
	var f file
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&f); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("mapping: %w", err)
	}
	if err := dec.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, errors.New("mapping: expected one YAML document")
	}
	if f.Mapping != Version {
		return nil, fmt.Errorf("mapping: expected %s", Version)
	}
	c, err := newCompiler()
	if err != nil {
		return nil, err
	}
	m := &Mapping{}
	if err := m.head(&f, c); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(f.Event)) {
		node := f.Event[name]
		if err := m.add(c, []string{name}, &node); err != nil {
			return nil, err
		}
	}
	for _, needed := range []string{"action", "outcome", "actor", "target"} {
		if _, ok := f.Event[needed]; !ok {
			return nil, fmt.Errorf("event.%s: expected an expression: every event has one", needed)
		}
	}
	return m, nil
}

// secretHeaders are never an expression's: what they hold would be kept with an item.
var secretHeaders = []string{"authorization", "cookie", "proxy-authorization", "x-api-key", "x-hub-signature", "x-hub-signature-256"}

// head reads all but the event.
func (m *Mapping) head(f *file, c *compiler) (err error) {
	if len(f.Headers) > maxHeaders {
		return fmt.Errorf("headers: expected at most %d", maxHeaders)
	}
	for i, name := range f.Headers {
		name = strings.ToLower(name)
		if slices.Contains(secretHeaders, name) || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || name == "" {
			return fmt.Errorf("headers.%d: expected the name of a header that holds no credential", i)
		}
		m.headers = append(m.headers, name)
	}
	if f.Each != "" {
		m.each = strings.Split(f.Each, ".")
		if m.each[0] != "body" || slices.Contains(m.each, "") {
			return errors.New("each: expected the path of an array, such as body.items")
		}
	}
	if f.When != "" {
		m.when, err = c.compile("when", f.When)
	}
	return err
}

// keepHeader is what of a request's header an item needs to be translated again.
func (m *Mapping) keepHeader(h http.Header) http.Header {
	keep := http.Header{}
	for _, name := range append([]string{"content-type"}, m.headers...) {
		name = http.CanonicalHeaderKey(name)
		if v := h[name]; len(v) > 0 {
			keep[name] = v[:1]
		}
	}
	return keep
}

// add adds a member and those in it.
func (m *Mapping) add(c *compiler, path []string, node *yaml.Node) error {
	name, top := strings.Join(path, "."), path[0]
	switch {
	case node.Kind == yaml.MappingNode && open(path), node.Kind == yaml.MappingNode && hasMembers(path):
		for i := 0; i+1 < len(node.Content); i += 2 {
			if err := m.add(c, append(slices.Clone(path), node.Content[i].Value), node.Content[i+1]); err != nil {
				return err
			}
		}
		return nil
	case node.Kind == yaml.SequenceNode && name == "target":
		if len(node.Content) == 0 || len(node.Content) > event.MaxTargets {
			return fmt.Errorf("event.target: expected 1 to %d targets", event.MaxTargets)
		}
		for i, e := range node.Content {
			if err := m.add(c, []string{top, strconv.Itoa(i)}, e); err != nil {
				return err
			}
		}
		return nil
	case node.Kind != yaml.ScalarNode:
		return fmt.Errorf("event.%s: expected %s", name, expectedAt(path))
	}
	k, ok := slots[slotName(path)]
	if len(path) == 2 && (top == "labels" || top == "details") {
		k, ok = kindAny, true
		if top == "labels" {
			k = kindText
		}
	}
	if !ok {
		return fmt.Errorf("event.%s: expected %s", name, expectedAt(path))
	}
	e, err := c.compile("event."+name, node.Value)
	if err != nil {
		return err
	}
	m.members = append(m.members, member{path, k, e})
	return nil
}

// open says whether any names may be under a path.
func open(path []string) bool {
	return len(path) == 1 && (path[0] == "labels" || path[0] == "details")
}

// hasMembers says whether the schema has members under a path.
func hasMembers(path []string) bool {
	return len(namesUnder(path)) > 0
}

// slotName is the name that a path has in slots.
func slotName(path []string) string {
	if path[0] == "target" && len(path) == 3 {
		return "target." + path[2]
	}
	if path[0] == "target" {
		return ""
	}
	return strings.Join(path, ".")
}

// namesUnder are the names of the members that may be under a path.
func namesUnder(path []string) (names []string) {
	prefix := strings.Join(path, ".") + "."
	if path[0] == "target" {
		if len(path) != 2 {
			return nil
		}
		prefix = "target."
	}
	for name := range slots {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			names = append(names, rest)
		}
	}
	slices.Sort(names)
	return names
}

// expectedAt says what may be at a path.
func expectedAt(path []string) string {
	if _, ok := slots[slotName(path)]; ok {
		return "an expression, as a text"
	}
	switch names := namesUnder(path); {
	case path[0] == "target" && len(path) == 1:
		return "a list of targets, each with type, id and name"
	case open(path):
		return "names with an expression each"
	case names != nil:
		return "an object of " + strings.Join(names, ", ")
	}
	return "no such member: a mapping sets the members of docs/spec/event.md but " + strings.Join(notTheirs, ", ")
}
