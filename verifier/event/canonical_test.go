package event

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"strconv"
	"testing"
	"time"

	"github.com/gowebpki/jcs"
)

// gen makes random JSON values, spelled at random.
type gen struct{ *rand.Rand }

var odd = []rune{0, 1, '\b', '\t', '\n', 0x1f, ' ', '"', '\\', '/', 'a', 'Z', 0x7f, 0x80, 0xe9, 0x2028, 0xd7ff, 0xe000, 0xfb33, 0xfffd, 0xffff, 0x10000, 0x1f600, 0x10ffff}

func (g gen) text() string {
	out := `"`
	for range g.IntN(6) {
		r := odd[g.IntN(len(odd))]
		switch {
		case r > 0xffff && g.IntN(2) == 0:
			r -= 0x10000
			out += escaped(0xd800+r>>10) + escaped(0xdc00+r&0x3ff)
		case r <= 0xffff && (r < ' ' || r == '"' || r == '\\' || g.IntN(3) == 0):
			out += escaped(r)
		default:
			out += string(r)
		}
	}
	return out + `"`
}

func escaped(r rune) string {
	hex := "000" + strconv.FormatInt(int64(r), 16)
	return `\u` + hex[len(hex)-4:]
}

func (g gen) space() string { return []string{"", "", " ", "\n\t"}[g.IntN(4)] }

func (g gen) value(depth int) string {
	kind := g.IntN(7)
	if depth == 0 {
		kind = g.IntN(4)
	}
	switch kind {
	case 0:
		return g.text()
	case 1:
		return strconv.FormatInt(g.Int64N(2*MaxInteger+1)-MaxInteger, 10)
	case 2:
		return strconv.Itoa(g.IntN(10))
	case 3:
		return strconv.FormatBool(g.IntN(2) == 0)
	case 4:
		out := "["
		for i := range g.IntN(4) {
			if i > 0 {
				out += "," + g.space()
			}
			out += g.value(depth - 1)
		}
		return out + g.space() + "]"
	}
	out, names := "{"+g.space(), map[string]bool{}
	for range g.IntN(6) {
		name := g.text()
		var plain string
		if json.Unmarshal([]byte(name), &plain) != nil || names[plain] {
			continue
		}
		if len(names) > 0 {
			out += "," + g.space()
		}
		names[plain] = true
		out += name + g.space() + ":" + g.space() + g.value(depth-1)
	}
	return out + "}"
}

// TestCanonicalDifferential compares with another implementation of RFC 8785.
func TestCanonicalDifferential(t *testing.T) {
	g := gen{rand.New(rand.NewPCG(8785, 1))}
	for range 20_000 {
		data := []byte("[" + g.value(5) + "]")
		got, err := Canonical(data)
		if err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		want, err := jcs.Transform(data)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("canonical form of %s\n%s\nother implementation\n%s, %v", data, got, want, err)
		}
	}
}

func TestAppendString(t *testing.T) {
	for r := rune(0); r <= 0x10ffff; r++ {
		if r == 0x3000 {
			r = 0xd000 // nothing changes in between
		}
		if 0xd800 <= r && r < 0xe000 {
			continue
		}
		s := "a" + string(r) + "b"
		got := AppendString(nil, s)
		if canonical, err := Canonical(got); err != nil || !bytes.Equal(canonical, got) {
			t.Fatalf("%U: %s isn't canonical: %v", r, got, err)
		}
		if unquote(got) != s {
			t.Fatalf("%U: %s reads back as %q", r, got, unquote(got))
		}
		if r > 0x11000 {
			r += 0xfff
		}
	}
	if got := string(AppendString(nil, "a\xffb\xc3")); got != `"a`+"\ufffd"+`b`+"\ufffd"+`"` {
		t.Errorf("not UTF-8: %s", got)
	}
}

func TestTypedEvent(t *testing.T) {
	code, ms := int64(0), int64(12)
	when := time.Date(2026, 1, 31, 23, 59, 59, 5, time.UTC)
	e := Event{
		ID: "e-1", Source: "cron://a", Seq: "1", Time: when, Action: "job.update", Outcome: "denied", Reason: &Reason{Code: "acl", Text: "<no>"},
		Actor:  Actor{Type: "user", ID: "u", Name: "n\xff", SessionID: "s", CredentialID: "c", AuthMethod: "m", OnBehalfOf: "o"},
		Origin: &Origin{IP: "::1", Port: 1, Forwarded: []string{"x"}, UserAgent: "u", Host: "h", RequestID: "r", TraceID: "t"},
		Target: []Target{{Type: "job", ID: "j", Name: "n"}, {Type: "job", ID: "k"}},
		Job: &Job{ID: "j", Name: "n", Schedule: "@daily", TZ: "UTC", CommandSHA256: zeros, RunID: "r", ScheduledFor: when,
			Trigger: "api", ExitCode: &code, DurationMS: &ms, Node: "n"},
		Change: &Change{BeforeSHA256: zeros, AfterSHA256: zeros, Patch: []Operation{{Op: "replace", Path: "/a", Value: false}}},
		Labels: map[string]string{"a": "b"}, Details: map[string]any{"n": 1, "list": []string{"x"}},
	}
	f, err := e.Fields()
	if err != nil {
		t.Fatal(err)
	}
	// Each field that a source may set is here: the type and the schema agree.
	for pointer, r := range schemaRules {
		if _, ok := f.Get(pointer); !ok && !r.server {
			t.Errorf("the typed event has no %s", pointer)
		}
	}
	e.Tenant, e.ReceivedAt = "default", when
	e.Ingest = &Ingest{Principal: "p", PeerIP: "::1", Adapter: "a", RawSHA256: zeros, Signature: "s"}
	data, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := ParseStamped(data)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(whole.Submitted(), f) {
		t.Error("the stamped event holds something else")
	}
	if _, err := (Event{}).Fields(); err == nil {
		t.Error("an empty event is valid")
	}
	if _, err := (Event{Details: map[string]any{"f": func() {}}}).Fields(); err == nil {
		t.Error("a function was marshalled")
	}
}

func TestJSONOfRedacted(t *testing.T) {
	f := Fields{
		{"/action", nil}, {"/actor/id", nil}, {"/actor/type", nil}, {"/id", []byte(`"e"`)},
		{"/target/0/id", nil}, {"/target/10/id", []byte(`"k"`)}, {"/target/2/id", []byte(`"c"`)},
	}
	const want = `{"id":"e","target":[{},{},{"id":"c"},{},{},{},{},{},{},{},{"id":"k"}]}`
	if got := string(f.JSON()); got != want {
		t.Errorf("JSON of a redacted event\n%s, want\n%s", got, want)
	}
	if got := string(Fields(nil).JSON()); got != "{}" {
		t.Errorf("JSON of nothing: %s", got)
	}
}
