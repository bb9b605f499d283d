package verifier

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/prooftrail/prooftrail/verifier/internal/vectors"
)

// TestEvidenceVectors: what proves a fork to others, and what only looks like it.
func TestEvidenceVectors(t *testing.T) {
	for _, c := range loadVectors(t, "checkpoint/evidence", evidenceVectors) {
		t.Run(c.Name, func(t *testing.T) {
			var e Evidence
			err := json.Unmarshal(c.Blocks["evidence"], &e)
			if err == nil {
				err = e.Check(mustPolicy(t, string(c.Blocks["policy"])))
			}
			if (err == nil) != (c.Header["expect"] == "proven") {
				t.Fatalf("%s: error %v", c.Header["desc"], err)
			}
			if again, err := json.Marshal(&e); c.Header["expect"] == "proven" && (err != nil || string(again) != string(c.Blocks["evidence"])) {
				t.Errorf("%s: not the same again: %s, %v", c.Header["desc"], again, err)
			}
		})
	}
}

// evidenceCases collects vectors of evidence.
type evidenceCases struct {
	t     *testing.T
	cases []vectors.Case
}

func (ec *evidenceCases) add(expect, name, desc string, e *Evidence, change ...string) {
	ec.t.Helper()
	b, err := json.Marshal(e)
	if err != nil {
		ec.t.Fatal(err)
	}
	text := string(b)
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
	ec.add("proven", "same-size", "two roots of size 5", ec.between(l, fork))
	clear(fork.files)
	fork.grow(11)
	for _, sizes := range [][2]int{{1, 2}, {4, 8}, {6, 7}, {7, 300}} {
		first := newTestLog(t, sizes[0])
		second := forked(t, first, 0)
		clear(second.files)
		second.grow(sizes[1])
		name := "from-" + strconv.Itoa(sizes[0]) + "-to-" + strconv.Itoa(sizes[1])
		ec.add("proven", name, "sizes "+strconv.Itoa(sizes[0])+" and "+strconv.Itoa(sizes[1])+", two histories", ec.between(first, second))
	}
	good := ec.between(l, fork) // 5 and 11: two subtrees, then four
	ec.add("proven", "from-5-to-11", "sizes 5 and 11, two histories", good)
	ec.notEvidence(l, fork, good)
	return ec.cases
}

// notEvidence are changes of good, and what honest logs have.
func (ec *evidenceCases) notEvidence(l, fork *testLog, good *Evidence) {
	bad := func(name, desc string, e *Evidence, change ...string) {
		ec.t.Helper()
		ec.add("refused", name, desc, e, change...)
	}
	hash := func(i int) string { return b64.EncodeToString(good.Proof[i][:]) }
	later := newTestLog(ec.t, 11)
	bad("consistent", "two heads of one history, with a true proof", ec.between(l, later))
	bad("same-head", "the same head twice", &Evidence{First: good.First, Second: good.First})
	bad("same-size-proof", "two roots of one size, and a proof that isn't needed", &Evidence{good.First, forked(ec.t, l, 1).files["checkpoint"], good.Proof[:1]})
	bad("no-proof", "two sizes without a proof", &Evidence{First: good.First, Second: good.Second})
	bad("order-heads", "the larger head first", &Evidence{good.Second, good.First, good.Proof})
	bad("proof-short", "a hash left out", &Evidence{good.First, good.Second, good.Proof[:5]})
	bad("proof-long", "a hash too many", &Evidence{good.First, good.Second, append(good.Proof[:6:6], Hash{})})
	bad("proof-order", "the hashes in another order", good, hash(0), "*", hash(1), hash(0), "*", hash(1))
	bad("proof-other", "a hash that doesn't lead to the second root", good, hash(4), hash(3))
	bad("proof-of-first", "hashes of the first head's own history", &Evidence{good.First, good.Second, ec.between(l, later).Proof})
	bad("unsigned", "a head that the log didn't sign", good, `example.com/audit\n5\n`, `example.com/audit\n6\n`)
	bad("hash-form", "a hash in base64 without its padding", good, hash(2), strings.TrimSuffix(hash(2), "="))
	bad("member", "a member that isn't known", good, `{"first"`, `{"zeroth":"","first"`)
	from0 := newTestLog(ec.t, 0)
	bad("from-0", "every log extends the empty one", ec.between(from0, fork))
}
