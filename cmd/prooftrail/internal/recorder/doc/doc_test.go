package doc_test

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"strings"
	"testing"

	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/recorder/doc"
)

func TestParse(t *testing.T) {
	var zipped, deflated bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = z.Write([]byte(`{"a":1}`))
	_ = z.Close()
	d := zlib.NewWriter(&deflated)
	_, _ = d.Write([]byte(`{"a":1}`))
	_ = d.Close()
	const form = "application/x-www-form-urlencoded; charset=utf-8"
	for _, c := range []struct {
		what, data, encoding, kind, want string
		doubled                          bool
	}{
		{"JSON", ` {"a":1}`, "", "", "1", false},
		{"JSON that says it is a form", `{"a":1}`, "", form, "1", false},
		{"with a byte order mark", "\ufeff" + `{"a":1}`, "", "", "1", false},
		{"gzip", zipped.String(), "GZIP", "", "1", false},
		{"deflate", deflated.String(), "deflate", "", "1", false},
		{"a form", "a=1&b=%20", "", form, "1", false},
		{"twice", `{"a":0,"a":1}`, "", "", "1", true},
		{"twice in a form", `a=1&a=2`, "", form, "1", true},
	} {
		got, err := doc.Parse([]byte(c.data), c.encoding, c.kind, 1000)
		if err != nil {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		p, err := doc.ParsePointer("/a")
		if err != nil {
			t.Fatal(err)
		}
		if found := p.Find(got.Value); len(found) != 1 || doc.Text(found[0]) != c.want || got.Doubled != c.doubled {
			t.Errorf("%s: %v %v", c.what, found, got.Doubled)
		}
	}
	for data, want := range map[string]error{
		"a: 1": doc.ErrFormat, "{": doc.ErrFormat, `{"a":1}x`: doc.ErrFormat, `{"a" 1}`: doc.ErrFormat, "": doc.ErrFormat,
		strings.Repeat("[", 70) + strings.Repeat("]", 70): doc.ErrSize, strings.Repeat(" ", 2000) + "{}": doc.ErrSize,
	} {
		if _, err := doc.Parse([]byte(data), "", "", 1000); !errors.Is(err, want) {
			t.Errorf("%.20q: %v, expected %v", data, err, want)
		}
	}
}

func TestPointer(t *testing.T) {
	d, err := doc.Parse([]byte(`{"a":[{"b":1},{"b":2},{}],"":{"/~":3},"n":null}`), "", "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{"/a/0/b": "1", "/a/*/b": "1 2", "//~1~0": "3", "/a/9": "", "/x": "", "/n": "", "/a/-1": "", "/*/*/b": "1 2"} {
		p, err := doc.ParsePointer(text)
		if err != nil {
			t.Fatal(err)
		}
		var found []string
		for _, v := range p.Find(d.Value) {
			found = append(found, doc.Text(v))
		}
		if got := strings.Join(found, " "); got != want {
			t.Errorf("%s finds %q, expected %q", text, got, want)
		}
	}
	for _, text := range []string{"a", "/~", "/~2"} {
		if _, err := doc.ParsePointer(text); err == nil {
			t.Errorf("took %q", text)
		}
	}
	p, err := doc.ParsePointer("/a/*/b")
	if err != nil {
		t.Fatal(err)
	}
	if got := doc.Text(p.Remove(d.Value)); got != `{"":{"/~":3},"a":[{},{},{}],"n":null}` {
		t.Error(got)
	}
	if got := doc.Text(p.Replace(d.Value, "x")); got != `{"":{"/~":3},"a":[{"b":"x"},{"b":"x"},{}],"n":null}` {
		t.Error(got)
	}
}

// FuzzParse: no body panics, and nothing is read beyond the bounds.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"a":[1,{"b":null}]}`), "", "")
	f.Add([]byte("a=1&b=2"), "", "application/x-www-form-urlencoded")
	f.Add([]byte{0x1f, 0x8b, 8, 0}, "gzip", "")
	f.Fuzz(func(t *testing.T, data []byte, encoding, kind string) {
		d, err := doc.Parse(data, encoding, kind, 1<<16)
		if err == nil && depth(d.Value) > 65 {
			t.Errorf("depth %d", depth(d.Value))
		}
	})
}

func depth(v any) (most int) {
	switch v := v.(type) {
	case map[string]any:
		for _, m := range v {
			most = max(most, depth(m))
		}
	case []any:
		for _, e := range v {
			most = max(most, depth(e))
		}
	}
	return most + 1
}
