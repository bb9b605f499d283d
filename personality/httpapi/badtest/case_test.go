package badtest

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const sample = `name: a
request: POST /v1/events
token: submit
base: x.json
replace: "a"
with: "{{x ff}}"
cut: 3
want: 422 invalid-event
pointer: /a
code: utf8
`

// What is written is what was read.
func TestFormat(t *testing.T) {
	cases, err := Parse([]byte("# a comment\n\n" + sample + "\n" + strings.Replace(sample, "name: a", "name: b", 1)))
	if err != nil || len(cases) != 2 {
		t.Fatalf("%d cases, %v", len(cases), err)
	}
	if got := string(Format(cases[:1])); got != sample {
		t.Errorf("got\n%swant\n%s", got, sample)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, change := range [][2]string{
		{"name: a\n", ""}, {"request: POST /v1/events\n", ""}, {"want: 422 invalid-event\n", ""},
		{"code: utf8", "codes: utf8"}, {"code: utf8", "utf8"}, {"422", "200"}, {"422", "501"}, {"cut: 3", "cut: x"},
		{"POST /v1/events", "POST"}, {"token: submit", "raw: GET / HTTP/1.1"},
	} {
		if cases, err := Parse([]byte(strings.Replace(sample, change[0], change[1], 1))); err == nil {
			t.Errorf("%q in place of %q was read as %+v", change[1], change[0], cases[0])
		}
	}
}

// A case that sends something else than it says would prove nothing.
func TestBodies(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"x.json": `{"a":1,"b":"b"}` + "\n", "x.txt": sample} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []struct {
		in   Case
		want string // "": an error
	}{
		{Case{Body: "{{x 00 ff}}{{repeat 3 ab}}{{file x.json}}", Cut: -1}, "\x00\xffababab{\"a\":1,\"b\":\"b\"}"},
		{Case{Base: "x.json", Replace: `"a"`, With: "{{x c3}}", Cut: -1}, "{\xc3:1,\"b\":\"b\"}"},
		{Case{Base: "x.json", Cut: 4}, `{"a"`},
		{Case{Base: "x.json", Replace: `"b"`, With: "1", Cut: -1}, ""},
		{Case{Base: "x.json", Replace: `"c"`, With: "1", Cut: -1}, ""},
		{Case{Base: "y.json", Cut: -1}, ""},
		{Case{Body: "{{file y.json}}", Cut: -1}, ""},
		{Case{Body: "{{repeat x}}", Cut: -1}, ""},
		{Case{Body: "{{x 0g}}", Cut: -1}, ""},
		{Case{Body: "{{x", Cut: -1}, ""},
		{Case{Body: "{{token submit}}", Cut: -1}, ""},
	} {
		if got, err := c.BodyOf(&k.in); got != k.want || (err == nil) != (k.want != "") {
			t.Errorf("%+v: %q, %v", k.in, got, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "x.txt"), []byte(sample+"\n"+sample), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); err == nil {
		t.Error("two cases with one name were taken")
	}
	if vars := (&Server{Addr: "h:1", Tokens: map[string]string{"submit": "s"}}).vars(); vars["host"] != "h:1" || vars["token submit"] != "s" {
		t.Errorf("%v", vars)
	}
}

// A wrong answer of each kind is found.
func TestAnswerIsChecked(t *testing.T) {
	cases, err := Parse([]byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	good := `{"type":"/problems/invalid-event","title":"t","status":422,"pointer":"/a","code":"utf8","expected":"x","request_id":"r"}`
	for _, change := range [][2]string{
		{"", ""}, {"invalid-event", "invalid-request"}, {`"status":422`, `"status":400`}, {`"/a"`, `"/b"`}, {`"pointer":"/a",`, ""},
		{`"pointer"`, `"parameter"`}, {`"utf8"`, `"syntax"`}, {`"request_id":"r"`, `"request_id":"s"`}, {`"x"`, `"Sesame"`}, {`"t"`, `""`},
	} {
		a := &answer{status: 422, header: map[string][]string{
			"Content-Type": {"application/problem+json"}, "X-Request-Id": {"r"}, "Cache-Control": {"no-store"}},
			body: bytes.Replace([]byte(good), []byte(change[0]), []byte(change[1]), 1)}
		if faults := a.faults(cases[0]); (len(faults) == 0) != (change[0] == "") {
			t.Errorf("%q in place of %q: %q", change[1], change[0], faults)
		}
	}
	for status, ok := range map[int]bool{0: true, 400: true, 431: true, 501: true, 500: false, 200: false, 201: false} {
		if faults := (&answer{status: status}).faults(&Case{}); (len(faults) == 0) != ok {
			t.Errorf("%d for a request that is to be refused: %q", status, faults)
		}
	}
}
