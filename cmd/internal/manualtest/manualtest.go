// Package manualtest makes the annotated configuration file that a program's help shows.
package manualtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// Text is a configuration as YAML, each member under the comment that its field has in config.go, in the
// directory of the test. Each list of sections has one.
func Text(t *testing.T, cfg any) string {
	t.Helper()
	var b strings.Builder
	write(t, &b, structDocs(t), reflect.ValueOf(cfg), "")
	return b.String()
}

// structDocs returns the comments of the fields by "Struct.Field".
func structDocs(t *testing.T) map[string]string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "config.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	docs := map[string]string{}
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		if st, ok := spec.Type.(*ast.StructType); ok {
			for _, field := range st.Fields.List {
				docs[spec.Name.Name+"."+field.Names[0].Name] = field.Doc.Text()
			}
		}
		return true
	})
	return docs
}

// isSection reports whether members have members of their own. A network, say, is a struct, and a text here.
func isSection(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t.NumField() > 0 && t.Field(0).Tag.Get("yaml") != ""
}

func write(t *testing.T, b *strings.Builder, docs map[string]string, v reflect.Value, in string) {
	t.Helper()
	for i := range v.NumField() {
		field := v.Type().Field(i)
		key := field.Tag.Get("yaml")
		section := isSection(field.Type)
		doc := docs[v.Type().Name()+"."+field.Name]
		if doc == "" && !section {
			t.Errorf("%s.%s has no comment", v.Type().Name(), field.Name)
		}
		for line := range strings.Lines(doc) {
			fmt.Fprintf(b, "%s# %s\n", in, strings.TrimSpace(line))
		}
		switch {
		case section:
			fmt.Fprintf(b, "%s%s:\n", in, key)
			write(t, b, docs, v.Field(i), in+"  ")
		case field.Type.Kind() == reflect.Slice && isSection(field.Type.Elem()):
			fmt.Fprintf(b, "%s%s:\n%s  -\n", in, key, in)
			write(t, b, docs, v.Field(i).Index(0), in+"    ")
		default:
			fmt.Fprintf(b, "%s%s: %s\n", in, key, value(t, v.Field(i)))
		}
	}
}

func value(t *testing.T, v reflect.Value) string {
	t.Helper()
	if list, ok := v.Interface().([]string); ok {
		return "[" + strings.Join(list, ", ") + "]"
	}
	text, err := yaml.Marshal(v.Interface())
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}
