package vectors

import (
	"maps"
	"os"
	"path/filepath"
	"testing"
)

func TestParse(t *testing.T) {
	const file = "desc: all forms\nexpect: ok\n\n" +
		"-- a --\none\n\ntwo\n-- b lines --\nx\n-- c hex --\n00 ff\n0a\n-- d repeat --\n2 ab\n1 c \n-- e --\n"
	c, err := Parse("forms", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"a": "one\n\ntwo", "b": "x\n", "c": "\x00\xff\n", "d": "ababc ", "e": ""}
	got := map[string]string{}
	for name, data := range c.Blocks {
		got[name] = string(data)
	}
	if !maps.Equal(got, want) {
		t.Errorf("blocks %q, want %q", got, want)
	}
}

func TestParseRefuses(t *testing.T) {
	for name, file := range map[string]string{
		"empty":           "",
		"no desc":         "expect: ok\n\n",
		"no header end":   "desc: x\nexpect: ok\n",
		"header twice":    "desc: x\nexpect: ok\ndesc: y\n\n",
		"header line":     "desc: x\nexpect: ok\nwhat\n\n",
		"carriage return": "desc: x\nexpect: ok\r\n\n",
		"no line feed":    "desc: x\nexpect: ok\n\n-- a --\nx",
		"text before":     "desc: x\nexpect: ok\n\nwhat\n-- a --\nx\n",
		"block twice":     "desc: x\nexpect: ok\n\n-- a --\nx\n-- a hex --\n",
		"encoding":        "desc: x\nexpect: ok\n\n-- a rot13 --\nx\n",
		"hex":             "desc: x\nexpect: ok\n\n-- a hex --\n0g\n",
		"repeat":          "desc: x\nexpect: ok\n\n-- a repeat --\n-1 x\n",
		"repeat too much": "desc: x\nexpect: ok\n\n-- a repeat --\n99999999 x\n",
	} {
		if _, err := Parse(name, []byte(file)); err == nil {
			t.Errorf("%s: parsed", name)
		}
	}
}

func TestFormat(t *testing.T) {
	c := Case{
		Name:   "x",
		Header: map[string]string{"desc": "d", "expect": "ok", "code": "none"},
		Blocks: map[string][]byte{
			"text": []byte("a\nb"), "lines": []byte("a\n"), "empty": {}, "feed": []byte("\n"),
			"binary": {0, 1, 0xff}, "fence": []byte("-- x --"), "return": []byte("a\r\n"),
		},
	}
	got, err := Parse("x", c.Format())
	if err != nil {
		t.Fatalf("%v in\n%s", err, c.Format())
	}
	if !maps.Equal(got.Header, c.Header) || len(got.Blocks) != len(c.Blocks) {
		t.Errorf("read back %v", got)
	}
	for name, data := range c.Blocks {
		if string(got.Blocks[name]) != string(data) {
			t.Errorf("block %s: %q, want %q", name, got.Blocks[name], data)
		}
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(dir); err == nil {
		t.Error("an empty directory loaded")
	}
	for _, name := range []string{"b", "a"} {
		file := filepath.Join(dir, name+".txt")
		if err := os.WriteFile(file, []byte("desc: x\nexpect: ok\n\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cases, err := Load(dir)
	if err != nil || len(cases) != 2 || cases[0].Name != "a" || cases[1].Name != "b" {
		t.Errorf("Load = %v, %v", cases, err)
	}
}
