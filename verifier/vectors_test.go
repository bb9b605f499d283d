package verifier

import (
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prooftrail/prooftrail/verifier/internal/vectors"
)

const vectorDir = "testdata/vectors"

var update = flag.Bool("update", false, "write the files of "+vectorDir+" and testdata/example from the lists in vectors*_test.go")

// loadVectors reads the vectors of a kind; with -update it writes them first.
func loadVectors(t *testing.T, kind string, make func(*testing.T) []vectors.Case) []vectors.Case {
	t.Helper()
	dir := filepath.Join(vectorDir, kind)
	if *update {
		writeVectors(t, dir, make(t))
	}
	cases, err := vectors.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return cases
}

func writeVectors(t *testing.T, dir string, cases []vectors.Case) {
	t.Helper()
	old, _ := filepath.Glob(filepath.Join(dir, "*.txt"))
	for _, file := range old {
		os.Remove(file)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		if err := os.WriteFile(filepath.Join(dir, c.Name+".txt"), c.Format(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCheckpointVectors(t *testing.T) {
	for _, c := range loadVectors(t, "checkpoint", checkpointVectors) {
		t.Run(c.Name, func(t *testing.T) {
			p := mustPolicy(t, string(c.Blocks["policy"]))
			head, w, err := p.Verify(c.Blocks["note"])
			if c.Header["expect"] == "FAILED" {
				if !errors.Is(err, ErrFailed) {
					t.Fatalf("%s: error %v", c.Header["desc"], err)
				}
				return
			}
			if err != nil {
				t.Fatalf("%s: %v", c.Header["desc"], err)
			}
			got := []string{string(w.Status), head.Origin, strconv.FormatUint(head.Size, 10), b64.EncodeToString(head.Root[:]), cosigners(w)}
			want := []string{c.Header["expect"], c.Header["origin"], c.Header["size"], c.Header["root"], c.Header["cosigned"]}
			if !slices.Equal(got, want) {
				t.Errorf("%s: %q, expected %q", c.Header["desc"], got, want)
			}
		})
	}
}

// cosigners writes who cosigned when as "w1@1769860800 w2@1769860801", none as "-".
func cosigners(w Witnesses) string {
	var out []string
	for _, cs := range w.Cosigned {
		out = append(out, cs.Witness+"@"+strconv.FormatInt(cs.Time.Unix(), 10))
	}
	if out == nil {
		return "-"
	}
	return strings.Join(out, " ")
}

func TestPolicyVectors(t *testing.T) {
	for _, c := range loadVectors(t, "policy", policyVectors) {
		t.Run(c.Name, func(t *testing.T) {
			p, err := ParsePolicy(c.Blocks["policy"])
			if (err == nil) != (c.Header["expect"] == "accepted") {
				t.Fatalf("%s: error %v", c.Header["desc"], err)
			}
			if err == nil && (p.Origin() != c.Header["origin"] || strconv.Itoa(len(p.Witnesses())) != c.Header["witnesses"]) {
				t.Errorf("%s: origin %q, %d witnesses", c.Header["desc"], p.Origin(), len(p.Witnesses()))
			}
		})
	}
}

func TestReceiptVectors(t *testing.T) {
	for _, c := range loadVectors(t, "receipt", receiptVectors) {
		t.Run(c.Name, func(t *testing.T) {
			p := mustPolicy(t, string(c.Blocks["policy"]))
			var v Verdict
			var err error
			if leaf, ok := c.Blocks["leaf"]; ok {
				v, err = VerifyReceiptLeaf(c.Blocks["receipt"], leaf, p)
			} else {
				v, err = VerifyReceipt(c.Blocks["receipt"], p)
			}
			if c.Header["expect"] == "FAILED" {
				if !errors.Is(err, ErrFailed) || v.Inclusion {
					t.Fatalf("%s: error %v", c.Header["desc"], err)
				}
				return
			}
			if c.Header["expect"] == "no opening" {
				if !errors.Is(err, ErrNoOpening) {
					t.Fatalf("%s: error %v", c.Header["desc"], err)
				}
				return
			}
			if err != nil || !v.Inclusion {
				t.Fatalf("%s: %v", c.Header["desc"], err)
			}
			got := []string{string(v.Content), string(v.Witnesses.Status), strconv.FormatUint(v.Index, 10), strconv.FormatUint(v.Size, 10), hex.EncodeToString(v.LeafHash[:]), strings.Join(v.Withheld, " ")}
			want := []string{c.Header["expect"], c.Header["witnesses"], c.Header["index"], c.Header["size"], c.Header["leaf_hash"], c.Header["withheld"]}
			if !slices.Equal(got, want) {
				t.Errorf("%s: %q, expected %q", c.Header["desc"], got, want)
			}
		})
	}
}

func TestAuditVectors(t *testing.T) {
	for _, c := range loadVectors(t, "audit", auditVectors) {
		t.Run(c.Name, func(t *testing.T) {
			l := &testLog{t: t, files: map[string][]byte{}, lines: map[uint64]string{}, reads: map[string]int{}}
			for name, data := range c.Blocks {
				if name == "checkpoint" || strings.HasPrefix(name, "tile/") {
					l.files[name] = data
				}
			}
			cfg := AuditConfig{Source: l, Policy: mustPolicy(t, string(c.Blocks["policy"]))}
			if lines, ok := c.Blocks["openings"]; ok {
				cfg.Openings = linesFrom(l, lines)
			}
			if seen, ok := c.Blocks["seen"]; ok {
				cfg.State = FileState(filepath.Join(t.TempDir(), "state"))
				b, err := (&auditState{head: seen, checked: &mark{tree: new(CompactRange)}}).bytes()
				if err != nil {
					t.Fatal(err)
				}
				if err := cfg.State.Save(b); err != nil {
					t.Fatal(err)
				}
			}
			r, err := Audit(context.Background(), cfg)
			if r == nil || (err == nil) != (c.Header["expect"] == "verified") || err != nil && !errors.Is(err, ErrFailed) {
				t.Fatalf("%s: error %v", c.Header["desc"], err)
			}
			if got, want := listed(r.Failures), string(c.Blocks["failures"]); got != want {
				t.Errorf("%s: failures %q, expected %q", c.Header["desc"], got, want)
			}
			if got, want := listed(r.Warnings), string(c.Blocks["warnings"]); got != want {
				t.Errorf("%s: warnings %q, expected %q", c.Header["desc"], got, want)
			}
			if got := strconv.FormatBool(r.Proven); got != c.Header["proven"] {
				t.Errorf("%s: proven %s", c.Header["desc"], got)
			}
		})
	}
}

// linesFrom makes the lines of a vector the log's answers: line i is for entry i.
func linesFrom(l *testLog, lines []byte) OpeningSource {
	for line := range strings.Lines(string(lines)) {
		l.lines[uint64(len(l.openings))] = line
		l.openings = append(l.openings, nil)
	}
	return l
}

// listed writes failures as a block, one a line.
func listed(fs []Failure) string {
	var b strings.Builder
	for _, f := range fs {
		b.WriteString(f.String() + "\n")
	}
	return b.String()
}
