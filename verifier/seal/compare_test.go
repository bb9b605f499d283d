package seal

import (
	"slices"
	"strings"
	"testing"

	"github.com/prooftrail/prooftrail/verifier/event"
	"github.com/prooftrail/prooftrail/verifier/internal/vectors"
)

// everything is what withholds each field of minimal.
var everything = []string{"/schema", "/tenant", "/source", "/id", "/time", "/action", "/outcome", "/received_at", "/actor", "/target"}

// submitted is an event of the vectors as its source sent it.
func submitted(t testing.TB, text string) event.Fields {
	t.Helper()
	return whole(t, text).Submitted()
}

// compareVectors hold submitted events against openings of minimal and full.
func compareVectors(t testing.TB) []vectors.Case {
	x := newFixture(t)
	evil := edits(t, minimal, `"id":"u-1"`, `"id":"u-2"`)
	longer := strings.TrimSuffix(minimal, "}") + `,"labels":{"a":"x"}}`
	fullOpening := opened(t, sealed(t, full).Opening)
	less, err := fullOpening.Erase(9, "/actor", "/details", "/change")
	if err != nil {
		t.Fatal(err)
	}
	var all []vectors.Case
	for _, c := range []struct{ name, desc, opening, event string }{
		{"same", "the event, everything shown", x.good, minimal},
		{"value", "another value", x.good, evil},
		{"more", "a field that the opening doesn't have", x.good, longer},
		{"less", "a field that only the opening has", string(fullOpening.Bytes()), edits(t, full, `"seq":"7",`, "")},
		{"moved", "a field under another name", string(fullOpening.Bytes()), edits(t, full, `"labels":{"env"`, `"labels":{"eno"`)},
		{"server", "the server's fields withheld, which aren't compared", x.hidden(t, "/tenant", "/received_at"), minimal},
		{"withheld", "one field withheld, and the event", x.hidden(t, "/actor/id"), minimal},
		{"withheld-value", "one field withheld, and an event with another value there: not to be told apart", x.hidden(t, "/actor/id"), evil},
		{"withheld-other", "one field withheld, and an event with another value elsewhere", x.hidden(t, "/target/0/id"), evil},
		{"withheld-all", "everything withheld, and the event", x.hidden(t, everything...), minimal},
		{"withheld-all-value", "everything withheld, and another event: not to be told apart", x.hidden(t, everything...), evil},
		{"withheld-all-more", "everything withheld, and an event with another field", x.hidden(t, everything...), longer},
		{"erased", "fields erased, and the event", string(less.Bytes()), full},
		{"erased-other", "fields erased, and an event with another value elsewhere", string(less.Bytes()), edits(t, full, `"code":"io"`, `"code":"no"`)},
	} {
		all = append(all, vectors.Case{
			Name:   "compare-" + c.name,
			Header: map[string]string{"desc": c.desc, "expect": "ok", "kind": "compare"},
			Blocks: map[string][]byte{"opening": []byte(c.opening), "submitted": submitted(t, c.event).JSON()},
		})
	}
	return all
}

func runCompare(c vectors.Case) (map[string]string, error) {
	o, err := ParseOpening(c.Blocks["opening"])
	if err != nil {
		return nil, err
	}
	f, err := event.Parse(c.Blocks["submitted"])
	if err != nil {
		return nil, err
	}
	got := o.Compare(f)
	out := map[string]string{"compared": "incomplete"}
	switch {
	case got.Same():
		out["compared"] = "same"
	case len(got.Differ) > 0:
		out["compared"] = "another"
	}
	for name, pointers := range map[string][]string{"differ": got.Differ, "withheld": got.Withheld, "erased": got.Erased} {
		out[name] = ""
		if len(pointers) > 0 {
			out[name] = strings.Join(pointers, "\n") + "\n"
		}
	}
	return out, nil
}

// Each single field counts, shown, withheld and erased; the server's never.
func TestCompare(t *testing.T) {
	f := whole(t, full)
	o := opened(t, sealed(t, full).Opening)
	if c := o.Compare(f); !c.Same() {
		t.Errorf("itself: %+v", c)
	}
	for i, field := range f {
		server := event.IsServer(field.Pointer)
		changed, less := slices.Clone(f), slices.Delete(slices.Clone(f), i, i+1)
		changed[i].Value = []byte(`"changed"`)
		hidden, err := o.Withhold(field.Pointer)
		if err != nil {
			t.Fatal(err)
		}
		for name, other := range map[string]event.Fields{"changed": changed, "left out": less} {
			if c := o.Compare(other); c.Same() != server || !server && !slices.Equal(c.Differ, []string{field.Pointer}) {
				t.Errorf("%s %s: %+v", field.Pointer, name, c)
			}
		}
		if c := hidden.Compare(changed); len(c.Differ) > 0 || slices.Contains(c.Withheld, field.Pointer) == server {
			t.Errorf("%s withheld: %+v", field.Pointer, c)
		}
		if c := hidden.Compare(less); !server && !slices.Equal(c.Differ, []string{field.Pointer}) {
			t.Errorf("%s withheld, and left out: %+v", field.Pointer, c)
		}
		erased, err := o.Erase(9, field.Pointer)
		if neverErased(field.Pointer) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if c := erased.Compare(f); len(c.Differ)+len(c.Withheld) > 0 || slices.Contains(c.Erased, field.Pointer) == server {
			t.Errorf("%s erased: %+v", field.Pointer, c)
		}
	}
	more := append(slices.Clone(f), event.Field{Pointer: "/zzz", Value: []byte("1")})
	if c := o.Compare(more); !slices.Equal(c.Differ, []string{"/zzz"}) {
		t.Errorf("one field more: %+v", c)
	}
	// ParseOpening refuses these; an Opening made by hand is held to the same rule.
	by := uint64(9)
	forged := &Opening{Fields: []OpenedField{{Pointer: "/action", ErasedBy: &by}}}
	if c := forged.Compare(event.Fields{{Pointer: "/action", Value: []byte(`"a.b"`)}}); !slices.Equal(c.Withheld, []string{"/action"}) {
		t.Errorf("what is never erased, marked as erased: %+v", c)
	}
	if c := o.Compare(nil); len(c.Differ) != len(f.Submitted()) {
		t.Errorf("no event: %+v", c)
	}
}
