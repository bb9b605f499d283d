package verifier

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prooftrail/prooftrail/verifier/internal/vectors"
)

// TestEvidenceVectors: what proves a fork to others, and what only looks like it.
func TestEvidenceVectors(t *testing.T) {
	for _, c := range loadVectors(t, "checkpoint/evidence", evidenceVectors) {
		t.Run(c.Name, func(t *testing.T) {
			e, err := ParseEvidence(c.Blocks["evidence"])
			if line := c.Header["line"]; line != "" {
				if err == nil || !strings.HasPrefix(err.Error(), "parse evidence: line "+line+": ") {
					t.Errorf("%s: error %v, expected one of line %s", c.Header["desc"], err, line)
				}
				return
			}
			if err != nil {
				t.Fatalf("%s: %v", c.Header["desc"], err)
			}
			if !bytes.Equal(e.Text(), c.Blocks["evidence"]) {
				t.Errorf("%s: not the same again: %s", c.Header["desc"], e.Text())
			}
			f, err := e.Check(mustPolicy(t, string(c.Blocks["policy"])))
			if c.Header["expect"] != "proven" {
				if !errors.Is(err, ErrFailed) || f != nil {
					t.Errorf("%s: error %v", c.Header["desc"], err)
				}
				return
			}
			if err != nil {
				t.Fatalf("%s: %v", c.Header["desc"], err)
			}
			if got := bothCosigners(f); f.Prefix != c.Header["prefix_root"] || got != c.Header["cosigned"] {
				t.Errorf("%s: prefix root %s, cosigned %s", c.Header["desc"], f.Prefix, got)
			}
		})
	}
}

// evidenceCases collects vectors of evidence.
type evidenceCases struct {
	t     *testing.T
	cases []vectors.Case
}

// add makes a vector of a file, with changes: pairs of what to replace once, and by what.
func (ec *evidenceCases) add(expect, name, desc string, e *Evidence, change ...string) *vectors.Case {
	ec.t.Helper()
	text := string(e.Text())
	for i := 0; i < len(change); i += 2 {
		if !strings.Contains(text, change[i]) {
			ec.t.Fatalf("%s: no %q", name, change[i])
		}
		text = strings.Replace(text, change[i], change[i+1], 1)
	}
	_, logKey := testKey(ec.t, testOrigin)
	c := newCase(name, desc, expect)
	c.Blocks["policy"], c.Blocks["evidence"] = []byte("log "+logKey+"\nquorum none\n"), []byte(text)
	ec.cases = append(ec.cases, c)
	return &ec.cases[len(ec.cases)-1]
}

// proven makes a vector that convicts. Its prefix root isn't what the code says, but what the
// tree of the second head has.
func (ec *evidenceCases) proven(name, desc, cosigned string, e *Evidence, second *testLog, m int) *vectors.Case {
	ec.t.Helper()
	var tree CompactRange
	for _, leaf := range second.leaves[:m] {
		tree.Append(LeafHash(leaf))
	}
	c, root := ec.add("proven", name, desc, e), tree.Root()
	c.Header["prefix_root"], c.Header["cosigned"] = b64.EncodeToString(root[:]), cosigned
	return c
}

// malformed makes a vector that is refused at a line, whatever the policy.
func (ec *evidenceCases) malformed(line int, name, desc string, e *Evidence, change ...string) {
	ec.t.Helper()
	ec.add("refused", name, desc, e, change...).Header["line"] = strconv.Itoa(line)
}

// between is evidence of l's head at a size and another log's one; the tiles are the other's.
func (ec *evidenceCases) between(l, other *testLog) *Evidence {
	ec.t.Helper()
	e, err := GatherEvidence(ec.t.Context(), Tiles(other), l.policy, l.files["checkpoint"], other.files["checkpoint"])
	if err != nil {
		ec.t.Fatal(err)
	}
	return e
}

func evidenceVectors(t *testing.T) []vectors.Case {
	ec := &evidenceCases{t: t}
	l := newTestLog(t, 5)
	fork := forked(t, l, 1)
	ec.proven("same-size", "two roots of size 5", "- | -", ec.between(l, fork), fork, 5)
	clear(fork.files)
	fork.grow(11)
	for _, sizes := range [][2]int{{1, 2}, {4, 8}, {4, 11}, {6, 7}, {7, 300}, {256, 300}} {
		first := newTestLog(t, sizes[0])
		second := forked(t, first, 0)
		clear(second.files)
		second.grow(sizes[1])
		name := "from-" + strconv.Itoa(sizes[0]) + "-to-" + strconv.Itoa(sizes[1])
		ec.proven(name, "sizes "+strconv.Itoa(sizes[0])+" and "+strconv.Itoa(sizes[1])+", two histories", "- | -", ec.between(first, second), second, sizes[0])
	}
	good := ec.between(l, fork)
	ec.proven("from-5-to-11", "sizes 5 and 11, two histories", "- | -", good, fork, 5)
	ec.signatures(fork, good)
	ec.notEvidence(l, fork, good)
	ec.notFiles(good)
	return ec.cases
}

// signatures are lines beside the one of the log that convicts.
func (ec *evidenceCases) signatures(fork *testLog, good *Evidence) {
	_, logKey := testKey(ec.t, testOrigin)
	w1, w1Key := newVectorWitness("w1")
	w2, w2Key := newVectorWitness("w2")
	policy := []byte("log " + logKey + "\nwitness w1 " + w1Key + "\nwitness w2 " + w2Key + "\ngroup both all w1 w2\nquorum both\n")
	heads := [2]Checkpoint{}
	for i, n := range [][]byte{good.First, good.Second} {
		text, _, _ := strings.Cut(string(n), "\n\n")
		var err error
		if heads[i], err = ParseCheckpoint(text + "\n"); err != nil {
			ec.t.Fatal(err)
		}
	}
	with := func(name, desc, cosigned, first, second string) {
		e := &Evidence{slices.Concat(good.First, []byte(first)), slices.Concat(good.Second, []byte(second)), good.Proof}
		ec.proven(name, desc, cosigned, e, fork, 5).Blocks["policy"] = policy
	}
	at := func(w vectorWitness, head int) string { return w.line(heads[head], 1769860800) }
	with("cosigned", "each head cosigned by one witness", "w1@1769860800 | w2@1769860800", at(w1, 0), at(w2, 1))
	with("cosigned-both", "one witness cosigned both heads", "w1@1769860800 | w1@1769860800", at(w1, 0), at(w1, 1))
	with("cosignature-wrong", "a known witness's cosignature is of the other head: it counts for nothing", "w1@1769860800 | -", at(w1, 0), at(w1, 0))
	with("signed-twice", "the log's good line, and a wrong one with its key", "- | -", "", string(good.First[bytes.LastIndex(good.First, []byte("— ")):]))
}

// notEvidence are changes of good, and what honest logs have.
func (ec *evidenceCases) notEvidence(l, fork *testLog, good *Evidence) {
	bad := func(name, desc string, e *Evidence, change ...string) {
		ec.t.Helper()
		ec.add("refused", name, desc, e, change...)
	}
	hash := func(i int) string { return b64.EncodeToString(good.Proof[i][:]) }
	last := len(good.Proof) - 1
	later := newTestLog(ec.t, 11)
	bad("consistent", "two heads of one history, with a true proof", ec.between(l, later))
	four := newTestLog(ec.t, 4)
	bad("consistent-power", "two heads of one history, the first of a power of two, with a true proof", ec.between(four, later))
	bad("same-head", "the same head twice", &Evidence{First: good.First, Second: good.First})
	bad("same-size-proof", "two roots of one size, and a proof that isn't needed", &Evidence{good.First, forked(ec.t, l, 1).files["checkpoint"], good.Proof[:1]})
	bad("no-proof", "two sizes without a proof", &Evidence{First: good.First, Second: good.Second})
	bad("order-heads", "the larger head first", &Evidence{good.Second, good.First, good.Proof})
	bad("proof-short", "a hash left out", &Evidence{good.First, good.Second, good.Proof[:last]})
	bad("proof-long", "a hash too many", &Evidence{good.First, good.Second, append(slices.Clone(good.Proof), Hash{})})
	bad("proof-order", "the hashes in another order", good, hash(0), "*", hash(1), hash(0), "*", hash(1))
	bad("proof-other", "a hash that doesn't lead to the second root", good, hash(last), hash(0))
	bad("proof-of-first", "hashes of the first head's own history", &Evidence{good.First, good.Second, ec.between(l, later).Proof})
	power := ec.between(four, fork)
	bad("proof-power", "a consistency proof from a power of two, without the root at that size", &Evidence{power.First, power.Second, power.Proof[1:]})
	bad("unsigned", "a head that the log didn't sign", good, "example.com/audit\n5\n", "example.com/audit\n6\n")
	bad("unsigned-second", "a second head that the log didn't sign", good, "example.com/audit\n11\n", "example.com/audit\n12\n")
	bad("from-0", "every log extends the empty one", ec.between(newTestLog(ec.t, 0), fork))
	other, _ := testKey(ec.t, "example.com/other")
	var heads [2][]byte
	for i := range heads {
		var err error
		if heads[i], err = SignCheckpoint(Checkpoint{"example.com/other", 5, Hash{byte(i)}}, other); err != nil {
			ec.t.Fatal(err)
		}
	}
	bad("other-log", "two heads of another log than the policy's", &Evidence{First: heads[0], Second: heads[1]})
}

// notFiles are good, spelt otherwise.
func (ec *evidenceCases) notFiles(good *Evidence) {
	n := len(good.Proof)
	hash := b64.EncodeToString(good.Proof[2][:])
	first, second := string(good.First), string(good.Second)
	firstAt, secondAt := n+3, n+9 // lines: the header, the proof, an empty one, five of a note, an empty one
	bad := ec.malformed
	bad(1, "header", "another version", good, "evidence/1", "evidence/2")
	bad(1, "no-header", "without the first line", good, evidenceHeader+"\n", "")
	bad(4, "hash-form", "a hash in base64 without its padding", good, hash, strings.TrimSuffix(hash, "="))
	bad(4, "hash-space", "a space behind a hash", good, hash, hash+" ")
	bad(4, "carriage-return", "a carriage return", good, hash, hash+"\x0d")
	bad(4, "utf-8", "what isn't UTF-8", good, hash, "\xff")
	bad(n+2, "no-empty-line", "no empty line between the proof and the first note", good, "\n\n"+first, "\n"+first)
	bad(firstAt, "two-empty-lines", "two empty lines between the proof and the first note", good, "\n\n"+first, "\n\n\n"+first)
	bad(secondAt-1, "notes-joined", "no empty line between the notes", good, first+"\n", first)
	bad(secondAt, "two-empty-lines-second", "two empty lines between the notes", good, first+"\n", first+"\n\n")
	bad(secondAt-1, "one-note", "only one note", good, "\n"+second, "")
	bad(secondAt, "one-note-line", "only one note, and the empty line behind it", good, second, "")
	bad(secondAt+5, "end", "an empty line at the end", good, second, second+"\n")
	bad(secondAt+5, "three-notes", "a third note", good, second, second+"\n"+second)
	bad(secondAt+4, "cut", "the last line feed is missing", good, second, strings.TrimSuffix(second, "\n"))
	bad(secondAt+4, "cut-signature", "the signature of the second note is missing", good, second, second[:strings.LastIndex(second, "—")])
	long := &Evidence{First: good.First, Second: good.Second, Proof: make([]Hash, MaxProofHashes+1)}
	bad(MaxProofHashes+2, "proof-65", "65 hashes", long)
}

// TestEvidenceLimits: parsing stops at what no checker would read.
func TestEvidenceLimits(t *testing.T) {
	const text = "a\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n"
	line := "— a " + strings.Repeat("A", 997) + "\n"
	within := text + strings.Repeat(line, (MaxNoteBytes-len(text))/len(line))
	beyond := within + line
	for _, tt := range []struct {
		first, second string
		ok            bool
	}{
		{within, within, true}, {beyond, within, false}, {within, beyond, false},
	} {
		b := (&Evidence{First: []byte(tt.first), Second: []byte(tt.second), Proof: make([]Hash, MaxProofHashes)}).Text()
		e, err := ParseEvidence(b)
		if (err == nil) != tt.ok {
			t.Errorf("notes of %d and %d bytes: %v", len(tt.first), len(tt.second), err)
		}
		if err == nil && !bytes.Equal(e.Text(), b) {
			t.Error("not the same again")
		}
	}
	if _, err := ParseEvidence(make([]byte, MaxEvidenceBytes+1)); err == nil {
		t.Error("took a file that is too large")
	}
}

// TestEvidenceInJSON: a report in JSON holds the file as a string.
func TestEvidenceInJSON(t *testing.T) {
	e := &Evidence{First: []byte("a\n1\nb\n\n— c d\n"), Second: []byte("a\n2\nb\n\n— c <d\n")}
	b, err := json.Marshal(AuditReport{Evidence: e})
	if err != nil {
		t.Fatal(err)
	}
	var r struct{ Evidence string }
	if err := json.Unmarshal(b, &r); err != nil || r.Evidence != string(e.Text()) {
		t.Errorf("%s: %v", b, err)
	}
}
