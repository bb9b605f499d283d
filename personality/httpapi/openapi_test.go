package httpapi

import (
	"bytes"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

const documentURL = "mem:///openapi.json"

// document is openapi.json as the tests use it: every answer of every test is
// held against it.
type document struct {
	root     map[string]any
	mu       sync.Mutex
	compiler *jsonschema.Compiler
	schemas  map[string]*jsonschema.Schema
}

var theDocument = sync.OnceValue(func() *document {
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(openAPIDocument))
	if err != nil {
		panic(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	if err := c.AddResource(documentURL, v); err != nil {
		panic(err)
	}
	return &document{root: v.(map[string]any), compiler: c, schemas: map[string]*jsonschema.Schema{}}
})

func pointerOf(tokens ...string) string {
	var b strings.Builder
	for _, t := range tokens {
		b.WriteString("/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(t))
	}
	return b.String()
}

// at follows a pointer, and references on the way; it returns where it arrived.
func (d *document) at(tokens ...string) (any, []string) {
	var v any = d.root
	var where []string
	for _, t := range tokens {
		m, ok := v.(map[string]any)
		if !ok || m[t] == nil {
			return nil, nil
		}
		v, where = m[t], append(slices.Clone(where), t)
		if m, ok := v.(map[string]any); ok {
			if r, ok := m["$ref"].(string); ok && t != "schema" { // a schema's are the compiler's
				where = strings.Split(strings.TrimPrefix(r, "#/"), "/")
				v, _ = d.at(where...)
			}
		}
	}
	return v, where
}

// validate holds a value against the schema at a place of the document.
func (d *document) validate(value any, where ...string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := pointerOf(where...)
	sch := d.schemas[p]
	if sch == nil {
		var err error
		if sch, err = d.compiler.Compile(documentURL + "#" + p); err != nil {
			return fmt.Errorf("compile %s: %w", p, err)
		}
		d.schemas[p] = sch
	}
	return sch.Validate(value)
}

// pathOf finds the document's path that a request's path is an instance of.
func (d *document) pathOf(path string) string {
	best := ""
	for template := range d.root["paths"].(map[string]any) {
		r := route{segments: strings.Split(template[1:], "/")}
		if strings.Contains(template, "/tile/") {
			r.segments[len(r.segments)-1] = "{index...}"
		}
		var args [3]string
		// The template with more fixed segments counts.
		if r.match(path, strings.Contains(path, "%"), &args) && (best == "" || strings.Count(template, "{") < strings.Count(best, "{")) {
			best = template
		}
	}
	return best
}

// check holds an answer against the document: the status must be documented for
// the call, the headers be there, the body fit the schema.
func (d *document) check(method, path string, status int, h http.Header, body []byte) error {
	path, _, _ = strings.Cut(path, "?")
	where := []string{"components", "responses", "NotFound"}
	template := d.pathOf(path)
	lower := strings.ToLower(method)
	if method == http.MethodHead {
		lower = "get"
	}
	if template != "" {
		where = []string{"components", "responses", "MethodNotAllowed"}
		if op, _ := d.at("paths", template, lower); op != nil {
			where = []string{"paths", template, lower, "responses", strconv.Itoa(status)}
		}
	}
	got, at := d.at(where...)
	if got == nil {
		return fmt.Errorf("%s %s: status %d is not documented", method, template, status)
	}
	response := got.(map[string]any)
	if err := d.checkHeaders(response, at, h); err != nil {
		return fmt.Errorf("%s %s: %d: %w", method, template, status, err)
	}
	if method == http.MethodHead {
		return nil
	}
	if err := d.checkBody(response, at, h, body); err != nil {
		return fmt.Errorf("%s %s: %d: %w\n%.400s", method, template, status, err, body)
	}
	return nil
}

func (d *document) checkHeaders(response map[string]any, at []string, h http.Header) error {
	if h.Get("X-Content-Type-Options") != "nosniff" {
		return fmt.Errorf("no nosniff")
	}
	for name := range response["headers"].(map[string]any) {
		v, where := d.at(append(slices.Clone(at), "headers", name)...)
		got := h.Get(name)
		if got == "" {
			if v.(map[string]any)["required"] == true {
				return fmt.Errorf("header %s is missing", name)
			}
			continue
		}
		if err := d.validate(got, append(where, "schema")...); err != nil {
			return fmt.Errorf("header %s: %w", name, err)
		}
	}
	return nil
}

func (d *document) checkBody(response map[string]any, at []string, h http.Header, body []byte) error {
	content, ok := response["content"].(map[string]any)
	if !ok {
		if len(body) > 0 {
			return fmt.Errorf("a body, where none is documented")
		}
		return nil
	}
	media, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil || content[media] == nil {
		return fmt.Errorf("content type %q is not documented", h.Get("Content-Type"))
	}
	if content[media].(map[string]any)["schema"] == nil {
		return nil
	}
	where := append(slices.Clone(at), "content", media, "schema")
	switch {
	case media == "application/x-ndjson":
		for l := range bytes.Lines(body) {
			if err := d.validateJSON(l, where); err != nil {
				return err
			}
		}
		return nil
	case strings.HasSuffix(media, "json"):
		return d.validateJSON(body, where)
	}
	return d.validate(string(body), where...)
}

func (d *document) validateJSON(text []byte, where []string) error {
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return err
	}
	return d.validate(v, where...)
}

func TestRoutesAreTheDocuments(t *testing.T) {
	documented := map[string]bool{}
	for path, item := range theDocument().root["paths"].(map[string]any) {
		for method := range item.(map[string]any) {
			if method != "parameters" {
				documented[strings.ToUpper(method)+" "+path] = true
			}
		}
	}
	for _, r := range routes {
		name := r.method + " " + strings.ReplaceAll(r.pattern, "...}", "}")
		if !documented[name] {
			t.Errorf("%s is served and not documented", name)
		}
		delete(documented, name)
	}
	for name := range documented {
		t.Errorf("%s is documented and not served", name)
	}
}

// TestDocumentSaysWhoMay compares what the document says of authentication with
// the route table, and that each call has the answers that any call may get.
func TestDocumentSaysWhoMay(t *testing.T) {
	d := theDocument()
	for _, r := range routes {
		path, method := strings.ReplaceAll(r.pattern, "...}", "}"), strings.ToLower(r.method)
		op, _ := d.at("paths", path, method)
		got := fmt.Sprint(op.(map[string]any)["security"])
		want := "<nil>"
		if r.public || r.proven {
			want = "[]"
		} else if r.role != "" {
			want = fmt.Sprintf("[map[bearer:[%s]]]", r.role)
		}
		if got != want {
			t.Errorf("%s %s: security %s, want %s", r.method, r.pattern, got, want)
		}
		for _, status := range []string{"401", "403", "429"} {
			v, _ := d.at("paths", path, method, "responses", status)
			if (v != nil) == r.public {
				t.Errorf("%s %s: %s documented: %v", r.method, r.pattern, status, v != nil)
			}
		}
	}
}

func TestDocumentHasAllProblems(t *testing.T) {
	d := theDocument()
	v, _ := d.at("components", "schemas", "Problem", "properties", "type", "enum")
	var documented, have []string
	for _, s := range v.([]any) {
		documented = append(documented, s.(string))
	}
	for _, k := range kinds {
		have = append(have, "/problems/"+k.slug)
		if k.slug == "" || k.title == "" || k.about == "" || k.status < 400 {
			t.Errorf("incomplete: %+v", k)
		}
	}
	if !slices.Equal(documented, have) {
		t.Errorf("documented %q\nhave %q", documented, have)
	}
}

// TestAllSchemasCompile finds broken references that no answer goes through.
func TestAllSchemasCompile(t *testing.T) {
	d := theDocument()
	var walk func(v any, where []string)
	walk = func(v any, where []string) {
		switch v := v.(type) {
		case map[string]any:
			for k, child := range v {
				at := append(slices.Clone(where), k)
				if k == "schema" || len(where) == 2 && where[1] == "schemas" {
					_ = d.validate("", at...) // fits or doesn't: it is compiled
					if d.schemas[pointerOf(at...)] == nil {
						t.Errorf("%s doesn't compile", pointerOf(at...))
					}
				}
				if r, ok := child.(string); ok && k == "$ref" {
					if got, _ := d.at(strings.Split(strings.TrimPrefix(r, "#/"), "/")...); got == nil {
						t.Errorf("%s refers to %s, which isn't there", pointerOf(where...), r)
					}
				}
				walk(child, at)
			}
		case []any:
			for i, child := range v {
				walk(child, append(slices.Clone(where), strconv.Itoa(i)))
			}
		}
	}
	walk(d.root, nil)
}
