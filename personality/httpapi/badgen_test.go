package httpapi

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prooftrail/prooftrail/personality/httpapi/badtest"
)

var update = flag.Bool("update", false, "write testdata/bad/generated")

const (
	badDir       = "testdata/bad"
	generatedDir = badDir + "/generated"
	generatedBy  = "# Made from full.json by badgen_test.go: go test ./personality/httpapi -run Generated -update\n\n"
)

// TestGeneratedCorpus: the generated part of the corpus is what the generator makes.
func TestGeneratedCorpus(t *testing.T) {
	families := generate(t)
	if *update {
		if err := os.RemoveAll(generatedDir); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(generatedDir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, cases := range families {
		file, want := filepath.Join(generatedDir, name+".txt"), append([]byte(generatedBy), badtest.Format(cases)...)
		if *update {
			if err := os.WriteFile(file, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s isn't what the generator makes; run with -update. %v", file, err)
		}
	}
	files, err := filepath.Glob(generatedDir + "/*")
	if err != nil || len(files) != len(families) {
		t.Errorf("%d files, %d families, %v", len(files), len(families), err)
	}
}

// generator makes cases of full.json, which is valid and has every member, by breaking one
// thing in each. What is to be named follows from what was broken, by the tables in
// badmembers_test.go, which are those of docs/spec/event.md; nothing is asked of the service.
type generator struct {
	t        *testing.T
	full     string
	families map[string][]*badtest.Case
}

func generate(t *testing.T) map[string][]*badtest.Case {
	t.Helper()
	corpus, err := badtest.Load(badDir)
	if err != nil {
		t.Fatal(err)
	}
	g := &generator{t, corpus.File("full.json"), map[string][]*badtest.Case{}}
	for _, m := range members {
		g.each(m)
		switch m.kind {
		case integer:
			g.set("range", m, strconv.FormatInt(m.min-1, 10), "range", "below")
			if m.max < 1<<53-1 { // above that no number may be
				g.set("range", m, strconv.FormatInt(m.max+1, 10), "range", "above")
			}
		case object, array:
		default:
			g.strings(m)
		}
		if m.needed {
			g.remove(m)
		}
	}
	for pointer, value := range serverMembers {
		g.add("reserved", "reserved "+pointer, pointer, "reserved", `"id":"evt-sesame"`, `"id":"evt-sesame",`+value)
	}
	slices.SortFunc(g.families["reserved"], func(a, b *badtest.Case) int { return strings.Compare(a.Name, b.Name) })
	g.truncate()
	return g.families
}

func (g *generator) add(family, name, pointer, code, replace, with string) {
	g.t.Helper()
	if n := strings.Count(g.full, replace); n != 1 {
		g.t.Fatalf("%s: %q stands %d times in full.json", name, replace, n)
	}
	g.families[family] = append(g.families[family], &badtest.Case{
		Name: name, Method: "POST", Path: "/v1/events", Token: "submit", Base: "full.json", Replace: replace, With: with, Cut: -1,
		Status: 422, Slug: "invalid-event", Named: "pointer", Pointer: pointer, Code: code,
	})
}

// set gives a member another value.
func (g *generator) set(family string, m member, value, code, what string) {
	g.t.Helper()
	old, prefix := g.text(m)
	g.add(family, what+" "+m.pointer, m.pointer, code, old, prefix+value)
}

// text is a member as it stands in full.json, with its name, and the name alone. Elements of
// arrays have none.
func (g *generator) text(m member) (whole, prefix string) {
	g.t.Helper()
	raw := json.RawMessage(g.full)
	name := ""
	for _, name = range strings.Split(m.pointer[1:], "/") {
		var object map[string]json.RawMessage
		var list []json.RawMessage
		if json.Unmarshal(raw, &object) == nil {
			raw = object[name]
		} else if i, err := strconv.Atoi(name); err == nil && json.Unmarshal(raw, &list) == nil && i < len(list) {
			raw = list[i]
		} else {
			g.t.Fatalf("full.json has no %s", m.pointer)
		}
	}
	if !m.element() {
		prefix = `"` + name + `":`
	}
	return prefix + string(raw), prefix
}

// each does to a member what can be done to any.
func (g *generator) each(m member) {
	g.set("null", m, "null", "null", "null")
	for _, v := range [][2]string{{"float", "1.5"}, {"huge", "9007199254740992"}, {"minus zero", "-0"}, {"exponent", "1e3"}, {"zero in front", "007"}} {
		g.set("number", m, v[1], "number", v[0])
	}
	if m.kind != open {
		g.types(m)
	}
	// The event is 1 deep, and each token of a pointer is one deeper.
	old, prefix := g.text(m)
	below := strings.Repeat("/0", 16-strings.Count(m.pointer, "/"))
	g.add("depth", "too deep "+m.pointer, m.pointer+below, "depth", old, prefix+"{{repeat 20 [}}{{repeat 20 ]}}")
	if m.element() {
		return
	}
	name := strings.Trim(prefix, `":`)
	g.add("duplicate", "twice "+m.pointer, m.pointer, "duplicate", old, old+","+old)
	g.add("duplicate", "escaped twice "+m.pointer, m.pointer, "duplicate", old, old+fmt.Sprintf(`,"\u%04x%s":`, name[0], name[1:])+strings.TrimPrefix(old, prefix))
	if top := strings.Split(m.parent()+"/", "/")[1]; top != "labels" && top != "details" {
		other := strings.ToUpper(name[:1]) + name[1:]
		g.add("unknown", "in upper case "+m.pointer, m.parent()+"/"+other, "unknown", old, old+`,"`+other+`":"sesame"`)
		g.add("unknown", "beside "+m.pointer, m.parent()+"/sesam_"+name, "unknown", old, `"sesam_`+name+`":"sesame",`+old)
	}
	if m.kind == object {
		g.set("empty", m, "{}", "empty", "empty")
	}
	if m.pointer == "/target" {
		g.set("empty", m, "[]", "empty", "empty")
	}
}

// types gives a member values of each other type.
func (g *generator) types(m member) {
	own := map[valueKind]string{integer: "number", object: "object", array: "array"}[m.kind]
	if own == "" {
		own = "string"
	}
	for _, v := range [][2]string{{"number", "7"}, {"boolean", "true"}, {"string", `"sesame"`}, {"array", `["sesame"]`}, {"object", `{"a":"sesame"}`}} {
		if v[0] != own {
			g.set("type", m, v[1], "type", v[0])
		}
	}
}

// strings does to a member what can be done to a string.
func (g *generator) strings(m member) {
	g.set("text", m, `"sesame{{x ff}}"`, "utf8", "bad UTF-8")
	g.set("text", m, `"sesame{{x c3}}"`, "utf8", "UTF-8 cut short")
	g.set("text", m, `"sesame\ud800"`, "utf8", "unpaired high surrogate")
	g.set("text", m, `"sesame\udc00x"`, "utf8", "unpaired low surrogate")
	g.set("text", m, `"sesame{{x 0b}}"`, "syntax", "raw control character")
	g.set("text", m, `"sesame\q"`, "syntax", "bad escape")
	if m.kind == open {
		return
	}
	if m.min > 0 {
		code := map[valueKind]string{text: "size", enum: "enum", moment: "format"}[m.kind]
		g.set("empty", m, `""`, code, "empty") // of the others too short and malformed say the same
	}
	if m.max > 0 {
		fill := m.max + 1 - int64(len(m.prefix))
		g.set("long", m, fmt.Sprintf(`"%s{{repeat %d a}}"`, m.prefix, fill), "size", "too long")
	}
	for i, bad := range m.bad {
		code := "format"
		if m.kind == enum {
			code = "enum"
		}
		g.set("format", m, `"`+bad+`"`, code, "malformed "+strconv.Itoa(i+1))
	}
	for i, far := range m.far {
		g.set("range", m, `"`+far+`"`, "range", "out of range "+strconv.Itoa(i+1))
	}
}

// remove leaves a member out that is needed.
func (g *generator) remove(m member) {
	old, _ := g.text(m)
	if strings.Contains(g.full, old+",") {
		g.add("missing", "without "+m.pointer, m.pointer, "missing", old+",", "")
		return
	}
	g.add("missing", "without "+m.pointer, m.pointer, "missing", ","+old, "")
}

// truncate cuts the event short, at every seventh byte.
func (g *generator) truncate() {
	p := places{text: g.full, at: make([]string, len(g.full)+1)}
	p.value("", "")
	for cut := 1; cut < len(g.full); cut += 7 {
		g.families["truncated"] = append(g.families["truncated"], &badtest.Case{
			Name: "cut at byte " + strconv.Itoa(cut), Method: "POST", Path: "/v1/events", Token: "submit", Base: "full.json", Cut: cut,
			Status: 422, Slug: "invalid-event", Named: "pointer", Pointer: p.at[cut], Code: "syntax",
		})
	}
}

// places finds for each byte of a valid JSON text without white space what is named when the
// text ends before it: the innermost value that has begun, or that must come next.
type places struct {
	text string
	pos  int
	at   []string
}

func (p *places) step(pointer string, n int) {
	for range n {
		p.at[p.pos] = pointer
		p.pos++
	}
}

// value reads the value at pointer, which is in the one at parent.
func (p *places) value(pointer, parent string) {
	switch c := p.text[p.pos]; {
	case c == '{' || c == '[':
		p.step(pointer, 1)
		for i := 0; p.text[p.pos] != c+2; i++ { // the closing one is two further in ASCII
			if i > 0 {
				p.step(pointer, 1) // the comma
			}
			token := strconv.Itoa(i)
			if c == '{' {
				start := p.pos
				p.step(pointer, strings.IndexByte(p.text[p.pos+1:], '"')+2)
				token = p.text[start+1 : p.pos-1]
				p.step(pointer, 1) // the colon
			}
			p.value(pointer+"/"+token, pointer)
		}
		p.step(pointer, 1)
	case c == '"':
		p.step(pointer, strings.IndexByte(p.text[p.pos+1:], '"')+2)
	default:
		n := strings.IndexAny(p.text[p.pos:], ",]}")
		p.step(pointer, 1)
		if c != 't' && c != 'f' {
			pointer = parent // what there is of a number is one
		}
		p.step(pointer, n-1)
	}
}
