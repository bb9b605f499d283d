package seal

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/prooftrail/prooftrail/verifier/event"
	"github.com/prooftrail/prooftrail/verifier/internal/vectors"
)

const vectorDir = "../testdata/vectors/seal"

var update = flag.Bool("update", false, "write the files of "+vectorDir+" from the lists in casesvectors_test.go")

// errLeaf is the refusal of an opening that is one, but not the leaf's.
var errLeaf = &event.Error{Code: "leaf", Expected: "the leaf of the opening"}

// run does what a vector's kind says, and returns what its blocks and headers
// should say.
func run(c vectors.Case) (map[string]string, error) {
	switch kind := c.Header["kind"]; kind {
	case "seal":
		return runSeal(c)
	case "open":
		return runOpen(c)
	case "withhold":
		return runWithhold(c)
	case "source":
		return runSource(c)
	case "envelope":
		return runEnvelope(c)
	case "compare":
		return runCompare(c)
	case "identity":
		secret, err := hex.DecodeString(c.Header["secret"])
		h := IdentityHash(secret, c.Header["tenant"], c.Header["source"], c.Header["id"])
		return map[string]string{"identity_hash": hex.EncodeToString(h[:])}, err
	default:
		return nil, fmt.Errorf("vector of unknown kind %q", kind)
	}
}

// fileSalts are the block salts of a vector: a line a field.
type fileSalts string

func (s fileSalts) Salts(dst []byte, f event.Fields) error {
	lines := strings.Fields(string(s))
	if len(lines) != 2*len(f) {
		return errors.New("not a salt a field")
	}
	for i := range f {
		salt, err := base64.RawURLEncoding.DecodeString(lines[2*i+1])
		if err != nil || lines[2*i] != f[i].Pointer || copy(dst[i*saltBytes:], salt) != saltBytes {
			return fmt.Errorf("salt of %s", f[i].Pointer)
		}
	}
	return nil
}

func runSeal(c vectors.Case) (map[string]string, error) {
	f, err := event.ParseStamped(c.Blocks["event"])
	if err != nil {
		return nil, err
	}
	made, err := Commit(f, fileSalts(c.Blocks["salts"]))
	if err != nil {
		return nil, err
	}
	at, err := time.Parse(time.RFC3339Nano, c.Header["time"])
	if err != nil {
		return nil, err
	}
	s := made.At(at)
	return map[string]string{"opening": string(s.Opening), "leaf": string(s.Leaf), "leaf_hash": hex.EncodeToString(s.LeafHash[:])}, nil
}

func runOpen(c vectors.Case) (map[string]string, error) {
	o, err := ParseOpening(c.Blocks["opening"])
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(o.Leaf(), c.Blocks["leaf"]) {
		return nil, errLeaf
	}
	h := o.LeafHash()
	out := map[string]string{"event": string(o.Event().JSON()), "leaf_hash": hex.EncodeToString(h[:]), "content": string(Verified), "withheld": ""}
	for _, f := range o.Fields {
		if !f.Shown {
			out["content"] = string(VerifiedRedacted)
			out["withheld"] += f.Pointer
			if f.ErasedBy != nil {
				out["withheld"] += " " + strconv.FormatUint(*f.ErasedBy, 10)
			}
			out["withheld"] += "\n"
		}
	}
	return out, nil
}

func runWithhold(c vectors.Case) (map[string]string, error) {
	o, err := ParseOpening(c.Blocks["opening"])
	if err != nil {
		return nil, err
	}
	pointers := strings.Fields(string(c.Blocks["pointers"]))
	var less *Opening
	if by, ok := c.Header["erased_by"]; ok {
		index, err := strconv.ParseUint(by, 10, 64)
		if err != nil {
			return nil, err
		}
		less, err = o.Erase(index, pointers...)
		if err != nil {
			return nil, err
		}
	} else if less, err = o.Withhold(pointers...); err != nil {
		return nil, err
	}
	h := less.LeafHash()
	return map[string]string{"result": string(less.Bytes()), "leaf_hash": hex.EncodeToString(h[:])}, nil
}

func runSource(c vectors.Case) (map[string]string, error) {
	o, err := ParseOpening(c.Blocks["opening"])
	if err != nil {
		return nil, err
	}
	v, err := note.NewVerifier(c.Header["vkey"])
	if err != nil {
		return nil, err
	}
	n, root := o.SourceRoot()
	err = CheckSource(o, v)
	for code, known := range map[string]error{"no-signature": ErrNoSignature, "unknown-key": ErrUnknownKey, "bad-signature": ErrBadSignature} {
		if errors.Is(err, known) {
			return nil, &event.Error{Code: code}
		}
	}
	return map[string]string{"signed": string(sourceText(v.Name(), n, root))}, err
}

// headers are the results that stand in a vector's header, not in a block.
var headers = map[string]bool{"leaf_hash": true, "content": true, "identity_hash": true, "compared": true}

func TestVectors(t *testing.T) {
	if *update {
		writeVectors(t)
	}
	cases, err := vectors.Load(vectorDir)
	if err != nil {
		t.Fatal(err)
	}
	if want := len(sealVectors(t)); len(cases) != want {
		t.Errorf("%d vectors in files, %d in lists", len(cases), want)
	}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) { checkVector(t, c) })
	}
}

func checkVector(t *testing.T, c vectors.Case) {
	got, err := run(c)
	if c.Header["expect"] == "refused" {
		var e *event.Error
		if !errors.As(err, &e) {
			t.Fatalf("error %v, want a refusal", err)
		}
		if e.Code != c.Header["code"] || e.Pointer != c.Header["pointer"] {
			t.Errorf("refused with %s at %q, want %s at %q", e.Code, e.Pointer, c.Header["code"], c.Header["pointer"])
		}
		return
	}
	if err != nil || c.Header["expect"] != "ok" {
		t.Fatalf("expect %s: %v", c.Header["expect"], err)
	}
	for name, value := range got {
		want := string(c.Blocks[name])
		if headers[name] {
			want = c.Header[name]
		}
		if value != want {
			t.Errorf("%s\n%s\nwant\n%s", name, value, want)
		}
	}
}

// writeVectors writes the files. What is refused comes from the lists alone;
// what is accepted is checked in and read before it is committed.
func writeVectors(t *testing.T) {
	if err := os.MkdirAll(vectorDir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range sealVectors(t) {
		if c.Header["expect"] == "ok" {
			results, err := run(c)
			if err != nil {
				t.Errorf("%s: %v", c.Name, err)
			}
			for name, value := range results {
				switch {
				case headers[name]:
					c.Header[name] = value
				case value != "": // a block that isn't there is an empty one
					c.Blocks[name] = []byte(value)
				}
			}
		}
		if err := os.WriteFile(filepath.Join(vectorDir, c.Name+".txt"), c.Format(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
