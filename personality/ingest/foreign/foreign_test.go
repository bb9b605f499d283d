package foreign_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/personality/ingest"
	"github.com/prooftrail/prooftrail/personality/ingest/foreign"
	"github.com/prooftrail/prooftrail/verifier/event"
)

func TestParseJSON(t *testing.T) {
	const text = ` {"a":[1,-2.50e+3,null,true,false,""],"b":{"\u00e9\ud83d\ude00\n":"x\/y"},"c":{}} `
	got, err := foreign.ParseJSON([]byte(text), foreign.NewBudget(1<<20))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"a": []any{json.Number("1"), json.Number("-2.50e+3"), nil, true, false, ""},
		"b": map[string]any{"é😀\n": "x/y"},
		"c": map[string]any{},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %#v, want %#v", got, want)
	}
}

func TestParseJSONRefuses(t *testing.T) {
	deep := strings.Repeat(`{"a":`, foreign.MaxDepth+1) + "1" + strings.Repeat("}", foreign.MaxDepth+1)
	for _, c := range []struct{ text, want string }{
		{`{"a":1,"b":{"c":1,"c":1}}`, "/b/c: expected each name once in an object"},
		{`{"a":1,"\u0061":1}`, "/a: expected each name once in an object"},
		{`{"a":["\ud800"]}`, "/a/0: expected surrogates in pairs"},
		{"{\"a\":\"\xff\"}", "/a: expected UTF-8"},
		{`{"a/b~":01}`, "/a~1b~0: expected a number of at most 64 characters at byte 10"},
		{`[1.]`, "/0: expected a number of at most 64 characters at byte 3"},
		{`[1e]`, "/0: expected a number of at most 64 characters at byte 3"},
		{`[-]`, "/0: expected a number of at most 64 characters at byte 2"},
		{`[1` + strings.Repeat("0", 64) + `]`, "/0: expected a number of at most 64 characters at byte 66"},
		{`[NaN]`, "/0: expected a JSON value at byte 1"},
		{`[1,]`, "/1: expected a JSON value at byte 3"},
		{`{"a":1,}`, "(whole): expected a member's name in quotes at byte 7"},
		{`{"a" 1}`, "(whole): expected a colon at byte 5"},
		{`{} {}`, "(whole): expected nothing more at byte 3"},
		{`["a`, "/0: expected the end of the string at byte 3"},
		{`["\x"]`, "/0: expected an escape of RFC 8259 at byte 2"},
		{"[\"\t\"]", "/0: expected control characters as escapes at byte 2"},
		{``, "(whole): expected a JSON value at byte 0"},
		{deep, strings.Repeat("/a", foreign.MaxDepth) + ": expected arrays and objects nested at most 64 deep"},
	} {
		_, err := foreign.ParseJSON([]byte(c.text), foreign.NewBudget(1<<20))
		if err == nil || err.Error() != c.want {
			t.Errorf("ParseJSON(%.40q) = %v, want %s", c.text, err, c.want)
		}
		if checked := foreign.CheckJSON([]byte(c.text), foreign.NewBudget(1<<20)); checked == nil || checked.Error() != c.want {
			t.Errorf("CheckJSON(%.40q) = %v, want %s", c.text, checked, c.want)
		}
	}
}

// TestBudget: what a request's values may take is counted over all of its items.
func TestBudget(t *testing.T) {
	b := foreign.NewBudget(2 << 20)
	text := []byte("[" + strings.Repeat("0,", 150_000) + "0]")
	for i, ok := range []bool{true, true, false, false} {
		if err := foreign.CheckJSON(text, b); (err == nil) != ok {
			t.Errorf("text %d: %v", i, err)
		}
	}
}

func TestSplitArray(t *testing.T) {
	for _, c := range []struct {
		text string
		want []string
		err  string
	}{
		{text: ` [ {"a":"],\"["} , [1,2] ,3] `, want: []string{`{"a":"],\"["}`, `[1,2]`, `3`}},
		{text: `[]`},
		{text: `[1,,2]`, want: []string{"1", "", "2"}},
		{text: `[{"a":1,"a":2},{}]`, want: []string{`{"a":1,"a":2}`, `{}`}},
		{text: `{}`, err: "(whole): expected a JSON array"},
		{text: `[{]`, err: "(whole): expected brackets and quotes in pairs"},
		{text: `["]`, err: "(whole): expected brackets and quotes in pairs"},
		{text: `[}]`, err: "(whole): expected brackets in pairs"},
		{text: "[" + strings.Repeat("1,", ingest.MaxItems) + "1]", err: "it has more than 10000 items"},
	} {
		items, err := foreign.SplitArray([]byte(c.text))
		var got []string
		for _, item := range items {
			got = append(got, string(item))
		}
		if !reflect.DeepEqual(got, c.want) || c.err == "" && err != nil || c.err != "" && (err == nil || err.Error() != c.err) {
			t.Errorf("SplitArray(%.40q) = %q, %v; want %q, %s", c.text, got, err, c.want, c.err)
		}
	}
}

// TestDetails: what Details makes is what an event takes.
func TestDetails(t *testing.T) {
	nest := `"deep"`
	for range 30 {
		nest = `{"n":` + nest + `}`
	}
	v, err := foreign.ParseObject([]byte(`{"a b":1,"a_b":2,"a-b":1.5,"":null,"9":9007199254740992,"é":[null,{"x":null}],
		"big":-0,"n":`+nest+`,"a\tb":3}`), foreign.NewBudget(1<<20))
	if err != nil {
		t.Fatal(err)
	}
	d := foreign.Details(v)
	if d["a_b"] != int64(2) || d["a_b_2"] != int64(3) || d["a_b_3"] != int64(1) || d["a-b"] != "1.5" ||
		d["x9"] != "9007199254740992" || d["big"] != "-0" || !reflect.DeepEqual(d["x_"], []any{map[string]any{}}) {
		t.Errorf("details %#v", d)
	}
	e := event.Event{ID: "1", Source: "a:b", Time: time.Unix(1e9, 0), Action: "a.b", Outcome: "success",
		Actor: event.Actor{Type: "service", ID: "x"}, Target: []event.Target{{Type: "x", ID: "y"}}, Details: d}
	if _, err := e.Fields(); err != nil {
		t.Errorf("an event with these details: %v\n%#v", err, d)
	}
	if got := foreign.Details(map[string]any{"a": nil}); got != nil {
		t.Errorf("of nothing but null: %v", got)
	}
}

func TestText(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{foreign.Action("otel", "Deploy"), "otel.deploy"},
		{foreign.Action("otel", "com.Example.Job Done.2024"), "com.example.job_done.x2024"},
		{foreign.Action("otel", "..a..b.."), "a.b"},
		{foreign.Action("otel", ""), ""},
		{foreign.Action("otel", "..."), ""},
		{foreign.Token("!!é AWS::S3::Bucket", "x"), "AWS::S3::Bucket"},
		{foreign.Token("…", "resource"), "resource"},
		{foreign.Clip("ééé", 5), "é…"},
		{foreign.IP("::ffff:10.1.2.3"), "10.1.2.3"},
		{foreign.IP("fe80::1%eth0"), "fe80::1"},
		{foreign.IP("12.000.22.33"), ""},
		{foreign.IP("-"), ""},
		{foreign.TraceID("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), "0af7651916cd43dd8448eb211c80319c"},
		{foreign.TraceID("00-00000000000000000000000000000000-b7ad6b7169203331-01"), ""},
		{foreign.TraceID("x"), ""},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
	if long := foreign.Action("a", strings.Repeat("ab.", 100)); len(long) > 128 || !fits(long) {
		t.Errorf("a long action %q", long)
	}
}

// fits reports whether an event may have the action.
func fits(action string) bool {
	e := event.Event{ID: "1", Source: "a:b", Time: time.Unix(1e9, 0), Action: action, Outcome: "success",
		Actor: event.Actor{Type: "service", ID: "x"}, Target: []event.Target{{Type: "x", ID: "y"}}}
	_, err := e.Fields()
	return err == nil
}

// FuzzJSON: what is taken has one meaning (encoding/json reads the same), whatever Check takes Parse
// takes, and what Details makes of it is what an event takes.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{`{"a":[1,-2.5e3,null,true,"\u00e9\ud83d\ude00"],"b c":{}}`, `[[[]]]`, `{"a":1,"a":2}`, `"\ud800"`, `-0`, `{"":{"":{"":0}}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := foreign.ParseJSON(data, foreign.NewBudget(1<<20))
		if checked := foreign.CheckJSON(data, foreign.NewBudget(1<<20)); (checked == nil) != (err == nil) {
			t.Fatalf("ParseJSON: %v; CheckJSON: %v", err, checked)
		}
		if err != nil {
			var e *foreign.Error
			if !errors.As(err, &e) || e.Expected == "" {
				t.Fatalf("an error that says nothing: %v", err)
			}
			return
		}
		dec := json.NewDecoder(strings.NewReader(string(data)))
		dec.UseNumber()
		var same any
		if err := dec.Decode(&same); err != nil || !reflect.DeepEqual(v, same) {
			t.Fatalf("encoding/json: %v, %#v; ParseJSON: %#v", err, same, v)
		}
		object, ok := v.(map[string]any)
		if !ok || len(object) > 200 {
			return
		}
		e := event.Event{ID: "1", Source: "a:b", Time: time.Unix(1e9, 0), Action: "a.b", Outcome: "success",
			Actor: event.Actor{Type: "service", ID: "x"}, Target: []event.Target{{Type: "x", ID: "y"}}, Details: foreign.Details(object)}
		if _, err := e.Fields(); err != nil && len(data) < 10_000 {
			t.Fatalf("details of %q: %v", data, err)
		}
	})
}

// FuzzSplit: the elements are what the strict reader finds in an array that it takes.
func FuzzSplit(f *testing.F) {
	for _, s := range []string{`[1,"],",{"a":[2]}]`, `[]`, `[,]`, `["\\",1]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		items, err := foreign.SplitArray(data)
		v, strict := foreign.ParseJSON(data, foreign.NewBudget(1<<20))
		list, ok := v.([]any)
		if strict != nil || !ok || len(list) > ingest.MaxItems {
			return
		}
		if err != nil || len(items) != len(list) {
			t.Fatalf("%d elements, %v; want %d", len(items), err, len(list))
		}
		for i, item := range items {
			if e, err := foreign.ParseJSON(item, foreign.NewBudget(1<<20)); err != nil || !reflect.DeepEqual(e, list[i]) {
				t.Fatalf("element %d: %#v, %v; want %#v", i, e, err, list[i])
			}
		}
	})
}
