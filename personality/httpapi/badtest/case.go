// Package badtest holds a server against a corpus of requests that it must
// refuse. The corpus is text, in personality/httpapi/testdata/bad, for other
// implementations too; the README there says how it is written. It is run against
// the handlers and against the program.
package badtest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A Case is one request and how it is refused. Its texts are as they stand in the
// file, with their {{…}} not yet replaced: see [Corpus.Expand].
type Case struct {
	Name   string
	File   string // without its ending
	Method string
	Path   string   // with the query
	Raw    []string // instead of the two: what goes over the wire, line by line
	Token  string   // a name, or the secret itself; "none"
	Header []string // "Name: value"; in place of a default of the same name

	Body          string // or:
	Base          string // name of the file that the body is made of …
	Replace, With string // … by putting one text in the place of another, which is there once …
	Cut           int    // … and by leaving out all but so many bytes; -1: nothing

	Status  int    // 0: any refusal, or a connection that is closed
	Slug    string // "": the HTTP server refuses, before the service sees the request
	Named   string // "pointer", "parameter" or ""
	Pointer string // what is named
	Code    string // "": any
}

// Corpus is the cases of a directory and the files that they are made of.
type Corpus struct {
	Cases []*Case
	files map[string]string
}

// Load reads all *.txt files of dir and its subdirectories, and the bodies beside
// them. Names of cases are unique within a file, and names of
// files are.
func Load(dir string) (*Corpus, error) {
	c := &Corpus{files: map[string]string{}}
	bodies, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	for _, file := range bodies {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		c.files[filepath.Base(file)] = string(bytes.TrimSuffix(b, []byte("\n")))
	}
	names := map[string]bool{}
	for _, pattern := range []string{"*.txt", "*/*.txt"} {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			if err := c.load(file, names); err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
		}
	}
	return c, nil
}

// File is the text of one of the files that bodies are made of.
func (c *Corpus) File(name string) string { return c.files[name] }

func (c *Corpus) load(file string, names map[string]bool) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	cases, err := Parse(b)
	if err != nil {
		return err
	}
	for _, k := range cases {
		k.File = strings.TrimSuffix(filepath.Base(file), ".txt")
		full := k.File + "/" + k.Name
		if names[full] {
			return fmt.Errorf("two cases with the name %q", full)
		}
		names[full] = true
		if k.Pointer, err = c.Expand(k.Pointer, nil); err != nil {
			return fmt.Errorf("case %q: %w", k.Name, err)
		}
	}
	c.Cases = append(c.Cases, cases...)
	return nil
}

// Parse reads the cases of a file: "key: value" lines, cases apart by empty lines,
// comments behind a # that begins a line.
func Parse(b []byte) (cases []*Case, err error) {
	var k *Case
	for i, line := range strings.Split(string(b), "\n") {
		switch {
		case strings.HasPrefix(line, "#"):
			continue
		case line == "":
			k = nil
			continue
		case k == nil:
			k = &Case{Token: "none", Cut: -1, Status: -1}
			cases = append(cases, k)
		}
		key, value, ok := strings.Cut(line, ":")
		if !ok {
			return nil, fmt.Errorf("line %d: expected key: value", i+1)
		}
		if err := k.set(key, strings.TrimPrefix(value, " ")); err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	for _, k := range cases {
		if k.Name == "" || k.Status < 0 || (k.Method == "") == (k.Raw == nil) {
			return nil, fmt.Errorf("case %q: expected a name, a request or raw lines, and what is wanted", k.Name)
		}
	}
	return cases, nil
}

func (k *Case) set(key, value string) (err error) {
	ok := true
	switch key {
	case "name":
		k.Name = value
	case "request":
		k.Method, k.Path, ok = strings.Cut(value, " ")
	case "raw":
		k.Raw = append(k.Raw, value)
	case "token":
		k.Token = value
	case "header":
		k.Header = append(k.Header, value)
	case "body":
		k.Body = value
	case "base":
		k.Base = value
	case "replace":
		k.Replace = value
	case "with":
		k.With = value
	case "cut":
		k.Cut, err = strconv.Atoi(value)
	case "want":
		err = k.want(value)
	case "pointer", "parameter":
		k.Named, k.Pointer = key, value
	case "code":
		k.Code = value
	default:
		return fmt.Errorf("unknown key %q", key)
	}
	if !ok {
		err = fmt.Errorf("%s: malformed", key)
	}
	return err
}

func (k *Case) want(value string) (err error) {
	if value == "refused" {
		k.Status = 0
		return nil
	}
	status, slug, _ := strings.Cut(value, " ")
	k.Slug = slug
	k.Status, err = strconv.Atoi(status)
	if err == nil && (k.Status < 400 || k.Status > 499) && (k.Slug != "" || !httpOwn(k.Status)) {
		err = errors.New("want: expected refused or a 4xx")
	}
	return err
}

// httpOwn: what RFC 9110 has the HTTP server answer to a transfer coding and to a
// version that it doesn't know.
func httpOwn(status int) bool { return status == 501 || status == 505 }

// Format writes cases as Parse reads them.
func Format(cases []*Case) []byte {
	var b bytes.Buffer
	for i, k := range cases {
		if i > 0 {
			b.WriteByte('\n')
		}
		line := func(key, value string) { fmt.Fprintf(&b, "%s: %s\n", key, value) }
		line("name", k.Name)
		line("request", k.Method+" "+k.Path)
		line("token", k.Token)
		line("base", k.Base)
		if k.Replace != "" {
			line("replace", k.Replace)
			line("with", k.With)
		}
		if k.Cut >= 0 {
			line("cut", strconv.Itoa(k.Cut))
		}
		line("want", strconv.Itoa(k.Status)+" "+k.Slug)
		line(k.Named, k.Pointer)
		if k.Code != "" {
			line("code", k.Code)
		}
	}
	return b.Bytes()
}

// BodyOf is the body of a case.
func (c *Corpus) BodyOf(k *Case) (string, error) {
	if k.Base == "" {
		return c.Expand(k.Body, nil)
	}
	body, ok := c.files[k.Base]
	if !ok {
		return "", fmt.Errorf("no file %q", k.Base)
	}
	if k.Replace != "" {
		if n := strings.Count(body, k.Replace); n != 1 {
			return "", fmt.Errorf("%q stands %d times in %s", k.Replace, n, k.Base)
		}
		with, err := c.Expand(k.With, nil)
		if err != nil {
			return "", err
		}
		body = strings.Replace(body, k.Replace, with, 1)
	}
	if k.Cut >= 0 {
		body = body[:min(k.Cut, len(body))]
	}
	return body, nil
}

// Expand replaces each {{…}}: {{x 0aff}} by bytes, {{repeat 9 text}} by the text so
// many times, {{file a.json}} by that file, and other words by what vars has.
func (c *Corpus) Expand(text string, vars map[string]string) (string, error) {
	var out strings.Builder
	for {
		before, rest, ok := strings.Cut(text, "{{")
		out.WriteString(before)
		if !ok {
			return out.String(), nil
		}
		word, after, ok := strings.Cut(rest, "}}")
		if !ok {
			return "", fmt.Errorf("{{%s has no end", rest)
		}
		s, err := c.directive(word, vars)
		if err != nil {
			return "", fmt.Errorf("{{%s}}: %w", word, err)
		}
		out.WriteString(s)
		text = after
	}
}

func (c *Corpus) directive(word string, vars map[string]string) (string, error) {
	verb, arg, _ := strings.Cut(word, " ")
	switch verb {
	case "x":
		var b []byte
		_, err := fmt.Sscanf(strings.ReplaceAll(arg, " ", ""), "%x", &b)
		return string(b), err
	case "repeat":
		count, what, _ := strings.Cut(arg, " ")
		n, err := strconv.Atoi(count)
		if err != nil || n < 1 || n*len(what) > 16<<20 {
			return "", errors.New("expected a count and a text")
		}
		return strings.Repeat(what, n), nil
	case "file":
		if s, ok := c.files[arg]; ok {
			return s, nil
		}
	default:
		if s, ok := vars[word]; ok {
			return s, nil
		}
	}
	return "", errors.New("unknown")
}

// Events are the cases of a single event that is refused for what it says or how:
// those that a batch may hold too.
func (c *Corpus) Events() []*Case {
	return slices.DeleteFunc(slices.Clone(c.Cases), func(k *Case) bool {
		return k.Method != "POST" || k.Path != "/v1/events" || k.Slug != "invalid-event"
	})
}
