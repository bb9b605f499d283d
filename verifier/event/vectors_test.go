package event

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/prooftrail/prooftrail/verifier/internal/vectors"
)

const vectorDir = "../testdata/vectors/event"

var update = flag.Bool("update", false, "write the files of "+vectorDir+" from the lists in cases_test.go")

// read is what a vector's kind says to do with its input: the canonical bytes,
// and the fields of an event.
func read(kind string, input []byte) (canonical []byte, f Fields, err error) {
	switch kind {
	case "submitted":
		f, err = Parse(input)
	case "stamped":
		f, err = ParseStamped(input)
	case "value":
		canonical, err = Canonical(input)
		return canonical, nil, err
	default:
		return nil, nil, fmt.Errorf("vector of unknown kind %q", kind)
	}
	if err != nil {
		return nil, nil, err
	}
	return f.JSON(), f, nil
}

// listing is the block fields of a vector: a line a field.
func listing(f Fields) []byte {
	var out bytes.Buffer
	for _, field := range f {
		fmt.Fprintf(&out, "%s %s\n", field.Pointer, field.Value)
	}
	return out.Bytes()
}

func TestVectors(t *testing.T) {
	if *update {
		writeVectors(t)
	}
	cases, err := vectors.Load(vectorDir)
	if err != nil {
		t.Fatal(err)
	}
	if want := len(eventVectors()) + byHand; len(cases) != want {
		t.Errorf("%d vectors in files, %d in lists", len(cases), want)
	}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) { checkVector(t, c) })
	}
}

func checkVector(t *testing.T, c vectors.Case) {
	input, ok := c.Blocks["input"]
	if !ok {
		t.Fatal("no input")
	}
	canonical, f, err := read(c.Header["kind"], input)
	switch c.Header["expect"] {
	case "ok":
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(canonical, c.Blocks["canonical"]) {
			t.Errorf("canonical\n%s\nwant\n%s", canonical, c.Blocks["canonical"])
		}
		if want, ok := c.Blocks["fields"]; ok && !bytes.Equal(listing(f), want) {
			t.Errorf("fields\n%swant\n%s", listing(f), c.Blocks["fields"])
		}
	case "refused":
		var e *Error
		if !errors.As(err, &e) {
			t.Fatalf("error %v, want a refusal", err)
		}
		if e.Code != c.Header["code"] || e.Pointer != c.Header["pointer"] {
			t.Errorf("refused with %s at %q, want %s at %q", e.Code, e.Pointer, c.Header["code"], c.Header["pointer"])
		}
	default:
		t.Errorf("expect: %s", c.Header["expect"])
	}
}

// byHand counts the vectors that have no entry in the lists.
const byHand = 2 // size and size-max

// writeVectors writes the files. What is refused comes from the lists alone;
// what is accepted is checked in and read before it is committed.
func writeVectors(t *testing.T) {
	if err := os.MkdirAll(vectorDir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, v := range eventVectors() {
		c := vectors.Case{
			Name:   v.name,
			Header: map[string]string{"desc": v.desc, "expect": "ok", "kind": v.how},
			Blocks: map[string][]byte{"input": []byte(v.input)},
		}
		if v.code != "" {
			c.Header["expect"], c.Header["code"] = "refused", v.code
			setPointer(c, v.pointer)
		} else {
			canonical, f, err := read(v.how, []byte(v.input))
			if err != nil {
				t.Errorf("%s: %v", v.name, err)
				continue
			}
			c.Blocks["canonical"] = canonical
			if f != nil {
				c.Blocks["fields"] = listing(f)
			}
		}
		if err := os.WriteFile(filepath.Join(vectorDir, v.name+".txt"), c.Format(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// setPointer sets the header that says where. The whole has none.
func setPointer(c vectors.Case, pointer string) {
	if pointer != "" {
		c.Header["pointer"] = pointer
	}
}
