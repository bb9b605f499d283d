package patch_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/recorder/doc"
	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/recorder/patch"
	"github.com/prooftrail/prooftrail/verifier/client/mask"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// open masks nothing, so that patches can be applied.
type open struct{}

func (open) Text(s string) string      { return s }
func (open) Value(_ string, v any) any { return v }

func value(t testing.TB, text string) any {
	t.Helper()
	d, err := doc.Parse([]byte(text), "", "", 1<<20)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return d.Value
}

// apply applies a patch as RFC 6902 says, test operations included.
func apply(root any, ops []event.Operation) (any, error) {
	for _, o := range ops {
		var tokens []string
		if o.Path != "" {
			for _, tok := range strings.Split(o.Path[1:], "/") {
				tokens = append(tokens, strings.NewReplacer("~1", "/", "~0", "~").Replace(tok))
			}
		}
		var err error
		if root, err = at(root, tokens, o); err != nil {
			return nil, fmt.Errorf("%s %s: %w", o.Op, o.Path, err)
		}
	}
	return root, nil
}

func at(v any, tokens []string, o event.Operation) (any, error) {
	if len(tokens) == 0 {
		if o.Op == "test" && !reflect.DeepEqual(v, o.Value) {
			return nil, fmt.Errorf("%v isn't %v", v, o.Value)
		}
		if o.Op == "test" {
			return v, nil
		}
		return o.Value, nil // remove: nil
	}
	switch v := v.(type) {
	case map[string]any:
		if len(tokens) == 1 && o.Op == "remove" {
			delete(v, tokens[0])
			return v, nil
		}
		member, ok := v[tokens[0]]
		if !ok && (len(tokens) > 1 || o.Op != "add") {
			return nil, fmt.Errorf("no member %s", tokens[0])
		}
		m, err := at(member, tokens[1:], o)
		v[tokens[0]] = m
		return v, err
	case []any:
		i, err := strconv.Atoi(tokens[0])
		if err != nil || i > len(v) || i == len(v) && o.Op != "add" {
			return nil, fmt.Errorf("no element %s", tokens[0])
		}
		if len(tokens) == 1 && o.Op == "add" {
			return slices.Insert(v, i, o.Value), nil
		}
		if len(tokens) == 1 && o.Op == "remove" {
			return slices.Delete(v, i, i+1), nil
		}
		e, err := at(v[i], tokens[1:], o)
		v[i] = e
		return v, err
	}
	return nil, fmt.Errorf("nothing below %T", v)
}

func TestMake(t *testing.T) {
	for _, c := range []struct{ before, after, want string }{
		{`{"a":1}`, `{"a":1}`, `null`},
		{`{"a":1}`, `{"a":2}`, `[{"op":"test","path":"/a","value":1},{"op":"replace","path":"/a","value":2}]`},
		{`{"a":1}`, `{}`, `[{"op":"test","path":"/a","value":1},{"op":"remove","path":"/a"}]`},
		{`{}`, `{"a/b~":[]}`, `[{"op":"add","path":"/a~1b~0","value":[]}]`},
		{`[1,2,3]`, `[1,3]`, `[{"op":"test","path":"/1","value":2},{"op":"remove","path":"/1"}]`},
		{`[1,3]`, `[1,2,3]`, `[{"op":"add","path":"/1","value":2}]`},
		{`{"a":null}`, `{"a":1.5}`, `[{"op":"test","path":"/a","value":"[null]"},{"op":"replace","path":"/a","value":"1.5"}]`},
		{`{"n":9007199254740993}`, `{"n":-0}`, `[{"op":"test","path":"/n","value":"9007199254740993"},{"op":"replace","path":"/n","value":"-0"}]`},
		{`{"password":"a"}`, `{"password":"b"}`, `[{"op":"test","path":"/password","value":"[masked]"},{"op":"replace","path":"/password","value":"[masked]"}]`},
		{`{"auth":{"token":"a","user":"x"}}`, `{"auth":{"token":"b","user":"x"}}`, `[{"op":"test","path":"/auth/token","value":"[masked]"},{"op":"replace","path":"/auth/token","value":"[masked]"}]`},
		{`{"env":["API_KEY=abc"]}`, `{"env":["API_KEY=abd"]}`, `[{"op":"test","path":"/env/0","value":"API_KEY=[masked]"},{"op":"replace","path":"/env/0","value":"API_KEY=[masked]"}]`},
	} {
		m := mask.Default()
		ops, ok := patch.Make(patch.Of(value(t, c.before), m), patch.Of(value(t, c.after), m))
		if b, err := json.Marshal(ops); err != nil || !ok || string(b) != c.want {
			t.Errorf("%s to %s: %s %v, expected %s", c.before, c.after, b, ok, c.want)
		}
	}
}

// TestBounds: a change that is too large, or too deep, isn't shown, and isn't worked out to its end.
func TestBounds(t *testing.T) {
	large := value(t, `[`+strings.Repeat(`{"a":"`+strings.Repeat("x", 100)+`"},`, 5000)+`1]`)
	if ops, ok := patch.Make(patch.Of([]any{}, open{}), patch.Of(large, open{})); ok || len(ops) > 1000 {
		t.Errorf("%d operations, %v", len(ops), ok)
	}
	deep := value(t, strings.Repeat(`[`, 40)+strings.Repeat(`]`, 40))
	ops, ok := patch.Make(patch.Version{}, patch.Of(deep, open{}))
	if b, err := json.Marshal(ops); err != nil || !ok || !strings.Contains(string(b), "[too deep]") {
		t.Errorf("%s", b)
	}
	if patch.Of(deep, open{}).Digest() == "" {
		t.Error("no digest")
	}
}

// TestDigestIsOfTheMasked: a digest of secrets would let readers try them out.
func TestDigestIsOfTheMasked(t *testing.T) {
	m := mask.Default()
	a, b := patch.Of(value(t, `{"password":"1234"}`), m), patch.Of(value(t, `{"password":"9876"}`), m)
	if a.Digest() != b.Digest() || a.Digest() == "" {
		t.Error("a digest depends on a secret")
	}
}

// FuzzMake: a patch leads from one version to the other, and an event can hold it; with masking, no secret is in it.
func FuzzMake(f *testing.F) {
	f.Add(`{"a":[1,{"b":2}],"c":"d"}`, `{"a":[{"b":3},1],"e":null}`)
	f.Add(`[1,2,3,4]`, `[4,3,2]`)
	f.Add(`{"password":"hunter2hunter2"}`, `{"x":{"api_key":"hunter2hunter2"}}`)
	f.Fuzz(func(t *testing.T, before, after string) {
		a, errA := doc.Parse([]byte(before), "", "", 1<<16)
		b, errB := doc.Parse([]byte(after), "", "", 1<<16)
		if errA != nil || errB != nil {
			return
		}
		pa, pb := patch.Plain(a.Value), patch.Plain(b.Value) // what an event can't hold aside
		ops, ok := patch.Make(patch.Of(pa, open{}), patch.Of(pb, open{}))
		if !ok {
			return
		}
		e := event.Event{ID: "1", Time: time.Unix(1, 0), Source: "x:y", Action: "job.update", Outcome: "success", Actor: event.Actor{Type: "user", ID: "u"},
			Target: []event.Target{{Type: "job", ID: "j"}}, Job: &event.Job{ID: "j"}, Change: &event.Change{Patch: ops, AfterSHA256: strings.Repeat("0", 64)}}
		if _, err := e.Fields(); err != nil {
			t.Errorf("an event can't hold it: %v", err)
		}
		got, err := apply(clone(t, pa), ops)
		if err != nil || !reflect.DeepEqual(got, pb) {
			t.Errorf("%s to %s: %v gives %v %v", before, after, ops, got, err)
		}
		masked, _ := patch.Make(patch.Of(map[string]any{"password": pa}, mask.Default()), patch.Of(map[string]any{"password": pb}, mask.Default()))
		if text, err := json.Marshal(masked); err != nil || strings.Contains(string(text), "hunter2hunter2") {
			t.Errorf("%s", text)
		}
	})
}

// clone copies a value, for apply changes it.
func clone(t *testing.T, v any) any {
	t.Helper()
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for name, m := range v {
			out[name] = clone(t, m)
		}
		return out
	case []any:
		out := []any{}
		for _, e := range v {
			out = append(out, clone(t, e))
		}
		return out
	}
	return v
}
