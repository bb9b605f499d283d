package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/prooftrail/prooftrail/cmd/internal/cli"
)

// maxConfigBytes bounds a configuration file.
const maxConfigBytes = 4 << 20

// file is a configuration with where each of its members stands.
type file struct {
	name  string
	dir   string // what relative names in it are relative to
	cfg   Config
	lines map[string]int // by path, such as logs[1].url
	wrong []error
}

// wrongf notes what is wrong with a member, with its line: its own, or that of what it is missing in.
func (f *file) wrongf(path, format string, args ...any) {
	line, at := 1, path
	for at != "" {
		if n, ok := f.lines[at]; ok {
			line = n
			break
		}
		at = at[:max(strings.LastIndexAny(at, ".["), 0)]
	}
	if path != "" {
		path += ": "
	}
	f.wrong = append(f.wrong, fmt.Errorf("%s:%d: %s%w", f.name, line, path, fmt.Errorf(format, args...)))
}

// err is all that is wrong, nil if nothing is.
func (f *file) err() error {
	if len(f.wrong) == 0 {
		return nil
	}
	return cli.Refused(errors.Join(f.wrong...))
}

// resolve makes a name in the file one of this process.
func (f *file) resolve(name string) string {
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(f.dir, name)
}

// loadConfig reads a file over the defaults. What can't be meant is in wrong; the error is about
// the file itself.
func loadConfig(name string) (*file, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxConfigBytes+1))
	if err == nil && len(b) > maxConfigBytes {
		err = fmt.Errorf("%s: more than %d bytes", name, maxConfigBytes)
	}
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return parseConfig(name, b)
}

func parseConfig(name string, b []byte) (*file, error) {
	f := &file{name: name, dir: filepath.Dir(name), cfg: defaultConfig(), lines: map[string]int{}}
	dec := yaml.NewDecoder(bytes.NewReader(b))
	var doc yaml.Node
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return f, nil // empty
	}
	if err != nil {
		return nil, cli.Refused(fmt.Errorf("%s: %w", name, err))
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, cli.Refusedf("%s: more than one YAML document", name)
	}
	f.read(doc.Content[0], reflect.ValueOf(&f.cfg).Elem(), "")
	return f, nil
}

// read puts a node into a value: structs and lists of structs member by member, and the rest by
// the library.
func (f *file) read(n *yaml.Node, v reflect.Value, path string) {
	if _, ok := f.lines[path]; !ok && path != "" { // of a member it is the line of its name
		f.lines[path] = n.Line
	}
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		f.wrongf(path, "anchors and aliases aren't taken")
	case isSection(v.Type()):
		f.readSection(n, v, path)
	case v.Kind() == reflect.Slice && isSection(v.Type().Elem()):
		f.readList(n, v, path)
	default:
		f.readValue(n, v, path)
	}
}

// isSection reports whether a type is one of the structs of config.go.
func isSection(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t.NumField() > 0 && t.Field(0).Tag.Get("yaml") != ""
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

func (f *file) readSection(n *yaml.Node, v reflect.Value, path string) {
	if isNull(n) {
		return // all of it is commented out
	}
	if n.Kind != yaml.MappingNode {
		f.wrongf(path, "expected members, name: value")
		return
	}
	fields := map[string]int{}
	for i := range v.NumField() {
		fields[v.Type().Field(i).Tag.Get("yaml")] = i
	}
	seen := map[string]bool{}
	for i := 0; i < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		at := strings.TrimPrefix(path+"."+key.Value, ".")
		field, known := fields[key.Value]
		switch {
		case !known:
			f.lines[at] = key.Line
			f.wrongf(at, "there is no such member")
		case seen[key.Value]:
			f.lines[at] = key.Line
			f.wrongf(at, "it is there twice")
		default:
			seen[key.Value] = true
			f.lines[at] = key.Line
			f.read(value, v.Field(field), at)
		}
	}
}

func (f *file) readList(n *yaml.Node, v reflect.Value, path string) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.SequenceNode {
		f.wrongf(path, "expected a list, each element with a dash in front")
		return
	}
	for i, element := range n.Content {
		e := reflect.New(v.Type().Elem())
		e.Interface().(interface{ defaults() }).defaults()
		f.read(element, e.Elem(), fmt.Sprintf("%s[%d]", path, i))
		v.Set(reflect.Append(v, e.Elem()))
	}
}

func (f *file) readValue(n *yaml.Node, v reflect.Value, path string) {
	// The library takes a bare number for nanoseconds.
	bare := v.Type() == reflect.TypeFor[time.Duration]() && n.Tag != "!!str"
	if bare || isNull(n) || n.Decode(v.Addr().Interface()) != nil {
		f.wrongf(path, "expected %s", expectation(v.Type()))
	}
}

func expectation(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[time.Duration]():
		return "a time, such as 30s or 5m"
	case reflect.TypeFor[[]string]():
		return "a list of texts"
	case reflect.TypeFor[[]netip.Prefix]():
		return "a list of networks, such as [10.0.0.0/8]"
	case reflect.TypeFor[map[string]string]():
		return "names and texts, name: text"
	case reflect.TypeFor[bool]():
		return "true or false"
	case reflect.TypeFor[string]():
		return "a text; an empty one is \"\""
	}
	return "a number"
}
