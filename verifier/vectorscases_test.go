package verifier

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	cosig "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"

	"github.com/prooftrail/prooftrail/verifier/internal/vectors"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

// The lists from which -update writes the vectors. What they expect is written down by
// hand, but for hashes.

// vectorWitness signs like a witness, at a time that is given.
type vectorWitness struct {
	name string
	key  ed25519.PrivateKey
}

func newVectorWitness(name string) (vectorWitness, string) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte(name[len(name)-1:]), 32))
	_, vkey := encodeKey("witness.example/"+name, typeCosignature, nil, key.Public().(ed25519.PublicKey))
	return vectorWitness{"witness.example/" + name, key}, vkey
}

// line is the cosignature line for a checkpoint.
func (w vectorWitness) line(c Checkpoint, at int64) string {
	sig := binary.BigEndian.AppendUint64(nil, uint64(at))
	msg := fmt.Sprintf("cosignature/v1\ntime %d\n%s", at, c.Text())
	sig = append(sig, ed25519.Sign(w.key, []byte(msg))...)
	id, _ := hex.DecodeString(keyID(w.name, typeCosignature, w.key.Public().(ed25519.PublicKey)))
	return "— " + w.name + " " + b64.EncodeToString(append(id, sig...)) + "\n"
}

// newCase makes a vector from pairs of header names and values.
func newCase(name, desc, expect string, headers ...string) vectors.Case {
	c := vectors.Case{Name: name, Header: map[string]string{"desc": desc, "expect": expect}, Blocks: map[string][]byte{}}
	for i := 0; i < len(headers); i += 2 {
		c.Header[headers[i]] = headers[i+1]
	}
	return c
}

func checkpointVectors(t *testing.T) (cases []vectors.Case) {
	log, logKey := testKey(t, testOrigin)
	w1, w1Key := newVectorWitness("w1")
	w2, w2Key := newVectorWitness("w2")
	mlSkey, mlKey, err := cosig.GenerateMLDSAKey("witness.example/pq")
	if err != nil {
		t.Fatal(err)
	}
	pq, err := cosig.NewSignerForCosignatureV1(mlSkey)
	if err != nil {
		t.Fatal(err)
	}
	c := Checkpoint{testOrigin, 42, LeafHash([]byte("root"))}
	policy := "log " + logKey + "\nwitness w1 " + w1Key + "\nwitness w2 " + w2Key + "\ngroup both all w1 w2\nquorum both\n"
	none := "log " + logKey + "\nquorum none\n"
	signed := string(cosigned(t, c, log))
	one, two := w1.line(c, 1769860800), w2.line(c, 1769860801)
	ok := func(name, desc, expect, cosigners, policy, note string) {
		v := newCase(name, desc, expect, "origin", c.Origin, "size", "42", "root", b64.EncodeToString(c.Root[:]), "cosigned", cosigners)
		v.Blocks["policy"], v.Blocks["note"] = []byte(policy), []byte(note)
		cases = append(cases, v)
	}
	ok("none", "no witnesses are asked for", "quorum", "-", none, signed)
	ok("none-cosigned", "cosignatures of unknown witnesses are ignored", "quorum", "-", none, signed+one)
	ok("not-cosigned", "no witness has cosigned yet", "provisional", "-", policy, signed)
	ok("one-of-two", "one of two has cosigned", "provisional", "w1@1769860800", policy, signed+one)
	ok("two-of-two", "both have cosigned", "quorum", "w1@1769860800 w2@1769860801", policy, signed+one+two)
	ok("cosignature-9999", "a cosignature of the last second of the year 9999", "provisional", "w1@253402300799", policy, signed+w1.line(c, 253402300799))
	ok("cosignature-10000", "a cosignature of the year 10000 is ignored", "provisional", "w2@1769860801", policy, signed+w1.line(c, 253402300800)+two)
	ok("order", "the order of the lines doesn't matter", "quorum", "w2@1769860801 w1@1769860800", policy, strings.Replace(signed, "— ", two+one+"— ", 1))
	ok("unknown-key", "a signature of an unknown key under a known name is ignored", "quorum", "-", none, signed+"— "+testOrigin+" AAAAAAAA\n")
	pqPolicy := "log " + logKey + "\nwitness pq " + mlKey + "\nquorum pq\n"
	pqNote := cosigned(t, c, log, pq)
	_, w, err := mustPolicy(t, pqPolicy).Verify(pqNote)
	if err != nil {
		t.Fatal(err)
	}
	ok("ml-dsa-44", "a cosignature of type 0x06", "quorum", cosigners(w), pqPolicy, string(pqNote))
	return append(cases, badCheckpointVectors(t, c, log, policy)...)
}

// badCheckpointVectors are notes that aren't a checkpoint signed by log, or not c.
func badCheckpointVectors(t *testing.T, c Checkpoint, log note.Signer, policy string) (cases []vectors.Case) {
	w1, _ := newVectorWitness("w1")
	w2, _ := newVectorWitness("w2")
	signed := string(cosigned(t, c, log))
	one, two := w1.line(c, 1769860800), w2.line(c, 1769860801)
	bad := func(name, desc, note string) {
		v := newCase(name, desc, "FAILED")
		v.Blocks["policy"], v.Blocks["note"] = []byte(policy), []byte(note)
		cases = append(cases, v)
	}
	flipped := func(s string, at int) string { return s[:at] + string(s[at]^1) + s[at+1:] }
	bad("signature", "the log's signature is wrong", flipped(signed, len(signed)-9))
	bad("size", "another size than was signed", strings.Replace(signed, "\n42\n", "\n43\n", 1))
	bad("origin", "another origin than was signed", strings.Replace(signed, testOrigin+"\n", "example.com/other\n", 1))
	bad("cosignature", "a known witness's cosignature is wrong", signed+flipped(one, len(one)-9)+two)
	bad("cosignature-time", "a cosignature for another time", signed+w1.line(c, 1769860800)[:len("— witness.example/w1 ")]+flipped(one[len("— witness.example/w1 "):], 12))
	bad("cosignature-other", "a cosignature of another checkpoint", signed+w1.line(Checkpoint{testOrigin, 41, c.Root}, 1769860800))
	bad("unsigned", "not signed by the log, though cosigned", c.Text()+"\n"+one+two)
	bad("signed-twice", "two signatures of the log", signed+signed[strings.Index(signed, "— "):])
	bad("cosigned-twice", "two cosignatures of one witness", signed+one+w1.line(c, 1769860900))
	bad("extension", "an extension line, signed", string(signText(t, log, c.Text()+"extension\n")))
	bad("leading-zero", "a size with a leading zero, signed", string(signText(t, log, strings.Replace(c.Text(), "\n42\n", "\n042\n", 1))))
	bad("size-2-63", "a size of 2^63, signed", string(signText(t, log, strings.Replace(c.Text(), "\n42\n", "\n9223372036854775808\n", 1))))
	bad("root-short", "a root of 31 bytes, signed", string(signText(t, log, testOrigin+"\n42\n"+b64.EncodeToString(c.Root[:31])+"\n")))
	bad("empty-root", "an empty tree with another root, signed", string(signText(t, log, testOrigin+"\n0\n"+b64.EncodeToString(c.Root[:])+"\n")))
	bad("other-origin", "another origin, signed by this log's key", string(signText(t, log, strings.Replace(c.Text(), "audit", "other", 1))))
	bad("stray-bits", "base64 of a signature with stray bits", strings.Replace(signed, "=\n", "B\n", 2))
	bad("cut", "no newline at the end", signed[:len(signed)-1])
	bad("empty", "no note at all", "")
	return cases
}

func policyVectors(t *testing.T) (cases []vectors.Case) {
	_, log := testKey(t, testOrigin)
	_, log2 := testKey(t, "example.com/log/2")
	_, w1 := newVectorWitness("w1")
	_, w2 := newVectorWitness("w2")
	_, renamed := renamedKey(w1, "renamed")
	start := "log " + log + "\nwitness w1 " + w1 + "\nwitness w2 " + w2 + "\n"
	ok := func(name, desc, witnesses, policy string) {
		v := newCase(name, desc, "accepted", "origin", testOrigin, "witnesses", witnesses)
		v.Blocks["policy"] = []byte(policy)
		cases = append(cases, v)
	}
	bad := func(name, desc, policy string) {
		v := newCase(name, desc, "refused")
		v.Blocks["policy"] = []byte(policy)
		cases = append(cases, v)
	}
	ok("none", "one log, no witness", "0", "log "+log+"\nquorum none\n")
	ok("urls", "URLs", "1", "log "+log+" https://example.com/logs/audit\nwitness w1 "+w1+" https://w1.example/\nquorum w1\n")
	ok("white-space", "tabs, spaces, empty lines, comments", "0", " \t log\t "+log+" \t\n\n   \n\t# comment\n#\nquorum \t none  \n")
	ok("groups", "groups of groups", "2", start+"group a any w1\ngroup b 1 w2\ngroup c all a b\nquorum c\n")
	ok("octets", "names are octets, not UTF-8", "1", "log "+log+"\nwitness \xff "+w1+"\nquorum \xff\n")
	ok("keywords", "keywords as names", "2", "log "+log+"\nwitness all "+w1+"\nwitness log "+w2+"\ngroup quorum all all log\nquorum quorum\n")
	bad("empty", "an empty file", "")
	bad("no-log", "no log line", "quorum none\n")
	bad("two-logs", "two log lines: a log of this project has one key", "log "+log+"\nlog "+log2+"\nquorum none\n")
	bad("no-quorum", "no quorum line", "log "+log+"\n")
	bad("two-quorums", "two quorum lines", "log "+log+"\nquorum none\nquorum none\n")
	bad("cut", "no newline at the end", "log "+log+"\nquorum none")
	bad("carriage-return", "carriage returns", "log "+log+"\r\nquorum none\r\n")
	bad("delete", "the octet 0x7f", "log "+log+"\nquorum none\n#\x7f\n")
	bad("unknown", "an unknown keyword", "log "+log+"\nquorum none\npolicy 1\n")
	bad("log-type", "a witness's key on the log line", "log "+w1+"\nquorum none\n")
	bad("witness-type", "a log's key on a witness line", start+"witness w3 "+log2+"\nquorum none\n")
	bad("key-id", "a key ID that doesn't fit the key", "log "+otherKeyID(log)+"\nquorum none\n")
	bad("name-twice", "a name defined twice", start+"group w1 any w2\nquorum w1\n")
	bad("key-twice", "one public key under two names", start+"witness w3 "+renamed+"\nquorum none\n")
	bad("named-none", "a witness called none", "log "+log+"\nwitness none "+w1+"\nquorum none\n")
	bad("none-member", "none as a member", start+"group g any none\nquorum g\n")
	bad("undefined", "a member that isn't defined", start+"group g any w3\nquorum g\n")
	bad("later", "a member that is defined later", "log "+log+"\ngroup g any w1\nwitness w1 "+w1+"\nquorum g\n")
	bad("member-twice", "a member twice in a group", start+"group g any w1 w1\nquorum g\n")
	bad("two-groups", "a member of two groups", start+"group g any w1\ngroup h any w1 w2\nquorum h\n")
	bad("no-member", "a group without members", start+"group g any\nquorum g\n")
	bad("k-zero", "a threshold of 0", start+"group g 0 w1 w2\nquorum g\n")
	bad("k-large", "a threshold larger than the group", start+"group g 3 w1 w2\nquorum g\n")
	bad("k-form", "a threshold with a leading zero", start+"group g 01 w1 w2\nquorum g\n")
	return cases
}

func receiptVectors(t *testing.T) (cases []vectors.Case) {
	l := newTestLog(t, 5)
	r := testReceipt(t, l, 3)
	text := string(r.Bytes())
	_, w1 := newVectorWitness("w1")
	_, logKey := testKey(t, testOrigin)
	none := "log " + logKey + "\nquorum none\n"
	add := func(v vectors.Case, policy, receipt string, leaf []byte) {
		v.Blocks["policy"], v.Blocks["receipt"] = []byte(policy), []byte(receipt)
		if leaf != nil {
			v.Blocks["leaf"] = leaf
		}
		cases = append(cases, v)
	}
	hash := LeafHash(l.leaves[3])
	ok := func(name, desc, expect string, headers ...string) vectors.Case {
		return newCase(name, desc, expect, append([]string{"witnesses", "quorum", "index", "3", "size", "5", "leaf_hash", hex.EncodeToString(hash[:])}, headers...)...)
	}
	add(ok("verified", "all fields shown", "verified"), none, text, nil)
	add(ok("verified-leaf", "all fields shown, and the leaf given", "verified"), none, text, l.leaves[3])
	add(ok("provisional", "a witness is asked for and hasn't cosigned", "verified", "witnesses", "provisional"),
		"log "+logKey+"\nwitness w1 "+w1+"\nquorum w1\n", text, nil)
	o, err := seal.ParseOpening(l.openings[3])
	if err != nil {
		t.Fatal(err)
	}
	less, err := o.Withhold("/target/0/name")
	if err != nil {
		t.Fatal(err)
	}
	redacted := Receipt{r.Index, r.Proof, r.Checkpoint, less.Bytes()}
	add(ok("redacted", "a field is withheld", "verified-redacted", "withheld", strings.Join(less.Withheld(), " ")), none, string(redacted.Bytes()), nil)
	gone, err := o.Erase(9, "/target/0/name")
	if err != nil {
		t.Fatal(err)
	}
	erased := Receipt{r.Index, r.Proof, r.Checkpoint, gone.Bytes()}
	add(ok("erased", "a field is erased, recorded by an entry behind the checkpoint", "verified-redacted", "withheld", strings.Join(gone.Withheld(), " ")), none, string(erased.Bytes()), nil)
	if gone, err = o.Erase(3, "/target/0/name"); err != nil {
		t.Fatal(err)
	}
	erased.Extra = gone.Bytes()
	add(newCase("erased-by-itself", "an erasure that isn't recorded behind the entry", "FAILED"), none, string(erased.Bytes()), nil)
	old := l.clone()
	old.leaves[3] = bytes.Replace(old.leaves[3], []byte("2026-01-31"), []byte("1969-12-31"), 1)
	old.publish()
	add(newCase("leaf-1969", "a leaf time before 1970, sealed", "FAILED"), none, string((&Receipt{3, testReceipt(t, old, 3).Proof, old.files["checkpoint"], nil}).Bytes()), old.leaves[3])
	bare := Receipt{r.Index, r.Proof, r.Checkpoint, nil}
	add(ok("leaf", "no opening, but the leaf given", "not shown"), none, string(bare.Bytes()), l.leaves[3])
	add(newCase("no-opening", "no opening and no leaf", "no opening"), none, string(bare.Bytes()), nil)
	single := newTestLog(t, 1)
	h0 := LeafHash(single.leaves[0])
	add(newCase("single", "the only entry of a log: no proof hashes", "verified", "witnesses", "quorum", "index", "0", "size", "1", "leaf_hash", hex.EncodeToString(h0[:])),
		none, string(testReceipt(t, single, 0).Bytes()), nil)
	return append(cases, badReceiptVectors(l, r, none)...)
}

// badReceiptVectors are corruptions of r, the receipt of entry 3 of l.
func badReceiptVectors(l *testLog, r *Receipt, policy string) (cases []vectors.Case) {
	text := string(r.Bytes())
	bare := Receipt{r.Index, r.Proof, r.Checkpoint, nil}
	bad := func(name, desc, receipt string, leaf ...[]byte) {
		v := newCase(name, desc, "FAILED")
		v.Blocks["policy"], v.Blocks["receipt"] = []byte(policy), []byte(receipt)
		if len(leaf) > 0 {
			v.Blocks["leaf"] = bytes.Join(leaf, nil)
		}
		cases = append(cases, v)
	}
	other := Receipt{r.Index, r.Proof, r.Checkpoint, l.openings[2]}
	bad("other-opening", "the opening of another entry", string(other.Bytes()))
	changed := Receipt{r.Index, r.Proof, r.Checkpoint, bytes.Replace(r.Extra, []byte(`"v":"nightly"`), []byte(`"v":"weekly"`), 1)}
	bad("value", "a shown value was changed", string(changed.Bytes()))
	spaced := Receipt{r.Index, r.Proof, r.Checkpoint, bytes.Replace(r.Extra, []byte(`":"`), []byte(`": "`), 1)}
	bad("not-canonical", "an opening with a space in it", string(spaced.Bytes()))
	bad("index", "another index", strings.Replace(text, "\nindex 3\n", "\nindex 2\n", 1))
	bad("index-end", "an index past the end", strings.Replace(text, "\nindex 3\n", "\nindex 5\n", 1))
	bad("index-zero", "an index with a leading zero", strings.Replace(text, "\nindex 3\n", "\nindex 03\n", 1))
	short := Receipt{r.Index, r.Proof[1:], r.Checkpoint, r.Extra}
	bad("proof-short", "a proof hash left out", string(short.Bytes()))
	long := Receipt{r.Index, append(r.Proof[:3:3], Hash{}), r.Checkpoint, r.Extra}
	bad("proof-long", "a proof hash too many", string(long.Bytes()))
	swapped := Receipt{r.Index, []Hash{r.Proof[1], r.Proof[0], r.Proof[2]}, r.Checkpoint, r.Extra}
	bad("proof-order", "proof hashes in another order", string(swapped.Bytes()))
	bad("header", "another version", strings.Replace(text, "@v1", "@v2", 1))
	bad("carriage-return", "carriage returns", strings.Replace(text, "\nindex 3\n", "\r\nindex 3\r\n", 1))
	bad("extra-twice", "two extra lines", strings.Replace(text, "\nextra ", "\nextra AAAA\nextra ", 1))
	bad("extra-empty", "an extra line without data", strings.Replace(string(bare.Bytes()), "\nindex", "\nextra \nindex", 1), l.leaves[3])
	bad("extra-bits", "base64 with stray bits", strings.Replace(string(bare.Bytes()), "\nindex", "\nextra AAB=\nindex", 1), l.leaves[3])
	bad("cut", "cut short before the checkpoint", text[:strings.Index(text, "\n\n")+2])
	bad("signature", "a receipt whose checkpoint isn't signed", strings.Replace(text, "— example.com/audit ", "— example.com/other ", 1))
	bad("other-leaf", "the leaf of another entry given", text, l.leaves[2])
	bad("other-leaf-bare", "the leaf of another entry given, no opening", string(bare.Bytes()), l.leaves[2])
	bad("leaf-newline", "the leaf with a newline", string(bare.Bytes()), l.leaves[3], []byte("\n"))
	return cases
}

// auditCases collects vectors of whole logs.
type auditCases struct {
	t     *testing.T
	cases []vectors.Case
}

func (a *auditCases) add(l *testLog, name, desc string, openings bool, seen []byte, failures, warnings string, proven bool) {
	expect := "verified"
	if failures != "" {
		expect = "FAILED"
	}
	v := newCase(name, desc, expect, "proven", strconv.FormatBool(proven))
	for path, data := range l.files {
		v.Blocks[path] = data
	}
	_, logKey := testKey(a.t, testOrigin)
	v.Blocks["policy"] = []byte("log " + logKey + "\nquorum none\n")
	if openings {
		body, _ := l.Openings(context.Background(), 0, uint64(len(l.openings)))
		var b bytes.Buffer
		if _, err := b.ReadFrom(body); err != nil {
			a.t.Fatal(err)
		}
		v.Blocks["openings"] = b.Bytes()
	}
	for block, text := range map[string]string{"seen": string(seen), "failures": failures, "warnings": warnings} {
		if text != "" {
			v.Blocks[block] = []byte(text)
		}
	}
	a.cases = append(a.cases, v)
}

func auditVectors(t *testing.T) []vectors.Case {
	cases := &auditCases{t: t}
	add, l := cases.add, newTestLog(t, 5)
	change := func(f func(*testLog)) *testLog { c := l.clone(); f(c); return c }
	bundle, tile := "tile/entries/000.p/5", "tile/0/000.p/5"
	add(l, "good", "five entries, tiles and openings", true, nil, "", "", false)
	add(l, "public", "the same without openings", false, nil, "", "", false)
	openingVectors(t, cases, l)
	add(newTestLog(t, 0), "empty", "an empty log", false, nil, "", "", false)
	add(change(func(c *testLog) { c.lines[2] = `{"index":2,"opening":null,"reason":"tenant"}` + "\n" }), "tenant", "an entry of another tenant", true, nil, "", "", false)
	add(change(func(c *testLog) { c.edit(bundle, 2*(2+leafLen)+20) }), "leaf", "a leaf was changed", true, nil, "entry 2: leaf hash differs from tile\n", "", false)
	add(change(func(c *testLog) { c.edit(tile, 70) }), "tile", "a tile was changed", false, nil, "entry 2: tile differs from leaf hash\n", "", false)
	add(change(func(c *testLog) {
		c.openings[3] = bytes.Replace(c.openings[3], []byte(`"v":"nightly"`), []byte(`"v":"weekly"`), 1)
	}), "opening", "an opening was changed", true, nil, "entry 3: opening does not match the leaf\n", "", false)
	add(change(func(c *testLog) { c.lines[3] = `{"index":3,"opening":null,"reason":"missing"}` + "\n" }), "missing", "an opening is missing", true, nil, "entry 3: opening is missing\n", "", false)
	add(change(func(c *testLog) { delete(c.files, bundle) }), "bundle-gone", "the entry bundle is gone", false, nil, "entries 0 to 4: entry bundle is missing\n", "", false)
	add(change(func(c *testLog) { c.put(bundle, append(bytes.Clone(c.files[bundle]), 0)) }), "bundle-long", "a byte after the entry bundle", false, nil,
		"entries 0 to 4: entry bundle has 1 bytes after its 5 entries\n", "", false)
	add(change(func(c *testLog) { c.put(bundle, c.files[bundle][:4*(2+leafLen)]) }), "entry-gone", "the last entry is gone", false, nil,
		"entry 4: entry bundle holds 4 entries, expected 5\n", "", false)
	add(change(func(c *testLog) { c.leaves[1] = []byte("hello"); c.publish() }), "form", "an entry that is no leaf of this log, sealed", false, nil,
		"entry 1: leaf is not in the form of prooftrail.leaf/1\n", "", false)
	add(change(func(c *testLog) {
		c.leaves[2] = testSealed(t, 2, testStart.Add(-2*time.Minute)).Leaf
		c.publish()
	}), "time", "leaf times step back", false, nil, "", "entry 2: leaf time steps back by 2m1s, more than 60 s\n", false)
	auditHeadVectors(t, cases, l)
	return cases.cases
}

// openingVectors are logs whose openings hide something.
func openingVectors(t *testing.T, cases *auditCases, l *testLog) {
	t.Helper()
	erased := func(by uint64) *testLog {
		c := l.clone()
		o, err := seal.ParseOpening(c.openings[2])
		if err != nil {
			t.Fatal(err)
		}
		if o, err = o.Erase(by, "/actor/id"); err != nil {
			t.Fatal(err)
		}
		c.openings[2] = o.Bytes()
		return c
	}
	cases.add(erased(4), "erased", "a field was erased, recorded by the last entry", true, nil, "", "", false)
	cases.add(erased(5), "erased-by-nothing", "an erasure that no entry can have recorded", true, nil,
		"entry 2: opening names entry 5 as the record of an erasure, and the log has 5 entries\n", "", false)
	cases.add(erased(2), "erased-by-itself", "an erasure recorded by the entry itself", true, nil,
		"entry 2: opening names entry 2 as the record of an erasure, which isn't behind entry 2\n", "", false)
	reason := l.clone()
	reason.lines[3] = `{"index":3,"opening":null,"reason":"lunch"}` + "\n"
	cases.add(reason, "reason", "an opening that isn't shown for another reason than the two", true, nil, "entry 3: opening line is malformed\n", "", false)
	old := l.clone()
	old.leaves[2] = bytes.Replace(old.leaves[2], []byte("2026-01-31"), []byte("1969-12-31"), 1)
	old.publish()
	cases.add(old, "time-1969", "a leaf time before 1970, sealed", false, nil,
		"entry 2: leaf time: expected the form 2026-01-31T23:59:59Z, from 1970 to 9999\n", "", false)
}

// auditHeadVectors are logs that some head of was seen before, and taller ones.
func auditHeadVectors(t *testing.T, cases *auditCases, l *testLog) {
	add := cases.add
	add(l, "seen-same", "the remembered head is the served one", false, l.files["checkpoint"], "", "", false)
	add(l, "seen-earlier", "the remembered head is an earlier one", false, newTestLog(t, 3).files["checkpoint"], "", "", false)
	fork := forked(t, l, 1)
	add(fork, "fork", "two heads of one size are signed", false, l.files["checkpoint"], "two heads of size 5 with different roots are signed\n", "", true)
	fork = forked(t, l, 1)
	clear(fork.files)
	fork.grow(7)
	add(fork, "fork-later", "the served head doesn't extend the remembered one", false, l.files["checkpoint"],
		"head of size 7 is not consistent with the remembered head of size 5: the log forked\n", "", true)
	add(newTestLog(t, 3), "rollback", "the served head is older than the remembered one", false, l.files["checkpoint"],
		"an older head than the remembered one is served: size 3, and size 5 was seen; this alone doesn't show a false history\n", "", false)
	fork = forked(t, l, 1)
	three := newTestLog(t, 3)
	fork.put("checkpoint", three.files["checkpoint"]) // the tiles are those of five entries, which aren't that head's
	add(fork, "older-fork", "the served head is older and no prefix of the remembered one, which the tiles lead to", false, forked(t, l, 1).files["checkpoint"],
		"head of size 3 is not consistent with the remembered head of size 5: the log forked\n", "", true)
	two := newTestLog(t, 258)
	add(two, "two-levels", "a full and a partial tile, and one of level 1", false, nil, "", "", false)
	broken := two.clone()
	broken.edit("tile/1/000.p/1", 5)
	add(broken, "level-1", "the tile of level 1 was changed", false, nil, "entries 0 to 255: tile/1/000.p/1 differs from the tiles below it\n", "", false)
}

// TestExampleFiles writes what the examples read, with -update; else it looks whether the
// files are those of the test log.
func TestExampleFiles(t *testing.T) {
	l := newTestLog(t, 3)
	_, logKey := testKey(t, testOrigin)
	files := map[string][]byte{
		"policy.txt":            []byte("# The log of the examples.\nlog " + logKey + "\nquorum none\n"),
		"run-000001.tlog-proof": testReceipt(t, l, 1).Bytes(),
	}
	_, w1 := newVectorWitness("w1")
	files["policy-witness.txt"] = []byte("log " + logKey + "\nwitness w1 " + w1 + " https://w1.example/\nquorum w1\n")
	var lines []byte
	for i, o := range l.openings {
		lines = AppendOpeningLine(lines, OpeningLine{Index: uint64(i), Opening: o})
	}
	files["log.openings"] = lines
	fork := forked(t, l, 1)
	clear(fork.files)
	fork.grow(4)
	for path, data := range l.files {
		files["log/"+path] = data
	}
	for path, data := range fork.files {
		files["fork/"+path] = data
	}
	e, err := GatherEvidence(t.Context(), Tiles(fork), l.policy, l.files["checkpoint"], fork.files["checkpoint"])
	if err != nil {
		t.Fatal(err)
	}
	files["fork.evidence"] = e.Text()
	for name, data := range files {
		file := filepath.Join("testdata/example", name)
		if *update {
			if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, data, 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: differs, %v", file, err)
		}
	}
}
