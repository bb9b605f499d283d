package event

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"

	"github.com/gowebpki/jcs"
)

func FuzzCanonical(f *testing.F) {
	for _, v := range eventVectors() {
		f.Add([]byte(v.input))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := Canonical(data)
		if err != nil {
			_ = refusal(t, err)
			return
		}
		if len(got) > len(data) {
			t.Fatalf("canonical form is longer")
		}
		if again, err := Canonical(got); err != nil || !bytes.Equal(again, got) {
			t.Fatalf("canonical form of the canonical form %q: %q, %v", got, again, err)
		}
		if !json.Valid(data) {
			t.Fatal("encoding/json doesn't think that this is JSON")
		}
		want, err := jcs.Transform(wrap(data))
		if err != nil || !bytes.Equal(want, wrap(got)) {
			t.Fatalf("canonical form %q, other implementation %q, %v", got, want, err)
		}
	})
}

func wrap(data []byte) []byte { return append(append([]byte("["), data...), ']') }

func fuzzParse(f *testing.F, how string, parse func([]byte) (Fields, error)) {
	for _, v := range eventVectors() {
		if v.how == how {
			f.Add([]byte(v.input))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		fields, err := parse(data)
		if err != nil {
			_ = refusal(t, err)
			return
		}
		text := fields.JSON()
		if canonical, err := Canonical(data); err != nil && len(data) <= MaxBytes || err == nil && !bytes.Equal(canonical, text) {
			t.Fatalf("event %q, canonical form %q, %v", text, canonical, err)
		}
		again, err := parse(text)
		if err != nil || !reflect.DeepEqual(again, fields) {
			t.Fatalf("event %q doesn't come back: %v", text, err)
		}
		var r Reader
		for _, field := range fields {
			pointer, rest, err := r.Pointer([]byte(field.Pointer + `",`))
			if err != nil || pointer != field.Pointer || string(rest) != "," {
				t.Fatalf("pointer %s: %s, %v", field.Pointer, pointer, err)
			}
			value, rest, err := r.Value(append(bytes.Clone(field.Value), '}'))
			if err != nil || !bytes.Equal(value, field.Value) || string(rest) != "}" {
				t.Fatalf("value of %s: %v", field.Pointer, err)
			}
		}
		if err := r.End(); how == "stamped" && err != nil {
			t.Fatalf("the same, field by field: %v", err)
		}
	})
}

func FuzzParse(f *testing.F)        { fuzzParse(f, "submitted", Parse) }
func FuzzParseStamped(f *testing.F) { fuzzParse(f, "stamped", ParseStamped) }
