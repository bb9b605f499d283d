package seal

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prooftrail/prooftrail/verifier/event"
	"github.com/prooftrail/prooftrail/verifier/internal/vectors"
)

// An openVector is an opening that is held against the leaf of minimal.
type openVector struct {
	name, desc    string
	opening       string
	code, pointer string // of the refusal; code is "" for what is accepted
}

// edits makes an opening into another one: pairs of old and new text.
func edits(t testing.TB, opening string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(opening, pairs[i]) {
			t.Fatalf("no %s in the opening", pairs[i])
		}
		opening = strings.Replace(opening, pairs[i], pairs[i+1], 1)
	}
	return opening
}

// part is the text of one field of an opening.
func part(t testing.TB, o *Opening, pointer string) string {
	t.Helper()
	for i := range o.Fields {
		if o.Fields[i].Pointer == pointer {
			return string(o.Fields[i].append(nil))
		}
	}
	t.Fatalf("no %s in the opening", pointer)
	return ""
}

// A fixture is what corrupted openings are made of: minimal's opening and
// parts of its text.
type fixture struct {
	o    *Opening
	good string // its bytes

	id, actor, target string // fields
	salt              string // of /id

	idHidden string // the bytes with /id withheld
	c        string // its commitment
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	x := &fixture{good: string(sealed(t, minimal).Opening)}
	x.o = opened(t, []byte(x.good))
	x.id, x.actor, x.target = part(t, x.o, "/id"), part(t, x.o, "/actor/id"), part(t, x.o, "/target/0/id")
	x.salt = strings.SplitN(strings.SplitN(x.id, `"s":"`, 2)[1], `"`, 2)[0]
	x.idHidden = x.hidden(t, "/id")
	x.c = strings.SplitN(strings.SplitN(x.idHidden, `"c":"`, 2)[1], `"`, 2)[0]
	return x
}

func (x *fixture) hidden(t testing.TB, pointers ...string) string {
	t.Helper()
	less, err := x.o.Withhold(pointers...)
	if err != nil {
		t.Fatal(err)
	}
	return string(less.Bytes())
}

func (x *fixture) erased(t testing.TB, by uint64, pointers ...string) string {
	t.Helper()
	less, err := x.o.Erase(by, pointers...)
	if err != nil {
		t.Fatal(err)
	}
	return string(less.Bytes())
}

// openVectors are openings that are held against minimal's leaf.
func openVectors(t testing.TB) []openVector {
	x := newFixture(t)
	var all []openVector
	for _, list := range []func(testing.TB, *fixture) []openVector{
		acceptedOpenings, otherLeaves, badForms, badHashes, badPointers, badTimes, badErasures,
	} {
		all = append(all, list(t, x)...)
	}
	return all
}

// otherLeaves are those of other leaves than minimal's.
func otherLeaves(t testing.TB, x *fixture) []openVector {
	label := `{"p":"/labels/a","s":"` + x.salt + `","v":"x"},`
	return []openVector{
		{"value-changed", "another value", edits(t, x.good, `"v":"u-1"`, `"v":"u-2"`), "leaf", ""},
		{"salt-changed", "another salt", edits(t, x.good, x.salt, "AAAAAAAAAAAAAAAAAAAAAA"), "leaf", ""},
		{"time-changed", "another time", edits(t, x.good, "00:00:01Z", "00:00:02Z"), "leaf", ""},
		{"commitment-changed", "another commitment", edits(t, x.idHidden, x.c, strings.Repeat("A", 43)+"="), "leaf", ""},
		{"field-added", "one field more", edits(t, x.good, `{"p":"/outcome"`, label+`{"p":"/outcome"`), "leaf", ""},
		{"withheld-added", "one withheld field more", edits(t, x.good, `{"p":"/outcome"`, `{"c":"`+x.c+`","p":"/labels/a"},{"p":"/outcome"`), "leaf", ""},
		{"withheld-pointer", "a withheld field under another name", edits(t, x.hidden(t, "/actor/id"), "/actor/id", "/actor/name"), "missing", "/actor/id"},
		{"values-swapped", "the values and salts of two fields swapped", swap(t, x.o, "/actor/id", "/target/0/id"), "leaf", ""},
	}
}

// badForms are not the one form of an opening.
func badForms(t testing.TB, x *fixture) []openVector {
	return []openVector{
		{"empty", "nothing", "", "syntax", ""},
		{"no-fields", "no fields", `{"fields":[],"time":"2026-02-01T00:00:01Z","v":"prooftrail.opening/1"}`, "syntax", ""},
		{"space", "white space", edits(t, x.good, `"time":`, `"time": `), "syntax", ""},
		{"line-feed", "a line feed at the end", x.good + "\n", "syntax", ""},
		{"order-members", "members in another order", edits(t, x.good, `"time":"2026-02-01T00:00:01Z","v":"prooftrail.opening/1"`, `"v":"prooftrail.opening/1","time":"2026-02-01T00:00:01Z"`), "syntax", ""},
		{"version", "another version", edits(t, x.good, "opening/1", "opening/2"), "syntax", ""},
		{"member-unknown", "a member that openings don't have", edits(t, x.good, `"v":"prooftrail.opening`, `"u":1,"v":"prooftrail.opening`), "syntax", ""},
		{"member-duplicate", "a member twice", edits(t, x.good, `,"time":`, `,"time":"2026-02-01T00:00:01Z","time":`), "syntax", ""},
		{"field-member-unknown", "a member that fields don't have", edits(t, x.good, x.id, x.id[:len(x.id)-1]+`,"w":1}`), "syntax", "/id"},
		{"field-both", "a field both shown and withheld", edits(t, x.good, x.id, `{"c":"`+x.c+`",`+x.id[1:]), "syntax", "/id"},
		{"field-neither", "a field with its name alone", edits(t, x.good, x.id, `{"p":"/id"}`), "syntax", "/id"},
		{"field-erased-shown", "a field that is shown and erased", edits(t, x.good, x.actor, `{"e":7,`+x.actor[1:]), "syntax", ""},
		{"value-spelling", "a value that isn't canonical: an escape", edits(t, x.good, `"v":"u-1"`, `"v":"\u0075-1"`), "syntax", "/actor/id"},
		{"value-solidus", "a value that isn't canonical: an escaped solidus", edits(t, x.good, `"v":"cron://`, `"v":"cron:\/\/`), "syntax", "/source"},
		{"value-null", "null as value", edits(t, x.good, `"v":"u-1"`, `"v":null`), "null", "/actor/id"},
		{"value-utf8", "a byte that isn't UTF-8", edits(t, x.good, `"v":"u-1"`, "\"v\":\"u\xff1\""), "utf8", "/actor/id"},
		{"value-surrogate", "half a surrogate pair", edits(t, x.good, `"v":"u-1"`, `"v":"\ud800"`), "utf8", "/actor/id"},
	}
}

// badHashes have salts and commitments that aren't in their one spelling.
func badHashes(t testing.TB, x *fixture) []openVector {
	return []openVector{
		{"salt-short", "a salt of 15 bytes", edits(t, x.good, x.salt, x.salt[:20]), "salt", "/id"},
		{"salt-long", "a salt of 17 bytes", edits(t, x.good, x.salt, x.salt+"A"), "salt", "/id"},
		{"salt-padding", "a salt with padding", edits(t, x.good, x.salt, x.salt+"=="), "salt", "/id"},
		{"salt-bits", "a salt with unused bits set", edits(t, x.good, x.salt, x.salt[:21]+nextInBase64(x.salt[21], base64URL)), "salt", "/id"},
		{"salt-alphabet", "a salt in the standard alphabet", edits(t, x.good, x.salt, "/"+x.salt[1:]), "salt", "/id"},
		{"commitment-short", "a commitment of 31 bytes", edits(t, x.idHidden, x.c, x.c[:40]+x.c[40:41]+"A=="), "commitment", "/id"},
		{"commitment-no-padding", "a commitment without padding", edits(t, x.idHidden, x.c, x.c[:43]), "commitment", "/id"},
		{"commitment-bits", "a commitment with unused bits set", edits(t, x.idHidden, x.c, x.c[:42]+nextInBase64(x.c[42], base64Std)+"="), "commitment", "/id"},
		{"commitment-alphabet", "a commitment in the URL alphabet", edits(t, x.idHidden, x.c, "-"+x.c[1:]), "commitment", "/id"},
	}
}

// badPointers have fields that the schema doesn't have, or not there.
func badPointers(t testing.TB, x *fixture) []openVector {
	return []openVector{
		{"pointer-duplicate", "a field twice", edits(t, x.good, x.id, x.id+","+x.id), "order", "/id"},
		{"pointer-order", "two fields in the wrong order", edits(t, x.good, x.actor+",", "", x.id, x.id+","+x.actor), "order", "/actor/id"},
		{"pointer-parent", "an object under one token, beside one of its members", edits(t, x.good, x.actor, `{"p":"/actor","s":"`+x.salt+`","v":{"id":"u-2"}},`+x.actor), "unknown", "/actor"},
		{"pointer-object", "an object under one token", edits(t, x.good, x.actor, `{"p":"/actor","s":"`+x.salt+`","v":{"id":"u-1"}}`), "unknown", "/actor"},
		{"pointer-array", "the array target as one field", edits(t, x.good, x.target, `{"p":"/target","s":"`+x.salt+`","v":[{"id":"s-1","type":"session"}]}`), "unknown", "/target"},
		{"pointer-child", "a field below a field", edits(t, x.good, `"p":"/actor/id"`, `"p":"/actor/id/x"`), "unknown", "/actor/id/x"},
		{"pointer-deep", "a field below a field of details", edits(t, x.good, x.id, `{"p":"/details/a/b","s":"`+x.salt+`","v":1},`+x.id), "unknown", "/details/a/b"},
		{"pointer-relative", "a pointer without its slash", edits(t, x.good, `"p":"/id"`, `"p":"id"`), "unknown", "id"},
		{"pointer-empty", "the pointer of the whole", edits(t, x.good, `"p":"/id"`, `"p":""`), "unknown", ""},
		{"pointer-unknown", "a field that the schema doesn't have", edits(t, x.good, `"p":"/id"`, `"p":"/ident"`), "unknown", "/ident"},
		{"pointer-withheld-unknown", "a withheld field that the schema doesn't have", edits(t, x.idHidden, `"p":"/id"`, `"p":"/ident"`), "unknown", "/ident"},
		{"pointer-escape", "a pointer spelled with an escape", edits(t, x.good, `"p":"/id"`, `"p":"/\u0069d"`), "unknown", `/\u0069d`},
		{"pointer-index-zero", "a zero in front of an index", edits(t, x.good, `"p":"/target/0/id"`, `"p":"/target/00/id"`), "unknown", "/target/00/id"},
		{"pointer-index-large", "index 32", edits(t, x.good, `"p":"/target/0/id"`, `"p":"/target/32/id"`), "unknown", "/target/32/id"},
		{"pointer-index-hole", "a target 1 and no target 0", edits(t, x.good, "/target/0/id", "/target/1/id", "/target/0/type", "/target/1/type"), "missing", "/target/0/type"},
		{"value-schema", "a value that the schema doesn't allow there", edits(t, x.good, `"v":"success"`, `"v":"fine"`), "enum", "/outcome"},
		{"value-type", "a number where a string belongs", edits(t, x.good, `"v":"u-1"`, `"v":1`), "type", "/actor/id"},
		{"value-reserved", "an action of the service with another source", edits(t, x.good, `"v":"auth.login"`, `"v":"audit.read"`), "reserved", "/action"},
		{"missing", "a field that is needed isn't there, not even withheld", edits(t, x.good, x.id+",", ""), "missing", "/id"},
		{"missing-tenant", "no tenant", edits(t, x.good, ","+part(t, x.o, "/tenant"), ""), "missing", "/tenant"},
		{"too-many", "more fields than there may be", edits(t, x.good, `{"p":"/outcome"`, manyLabels(x.salt, 264)+`{"p":"/outcome"`), "size", ""},
		{"too-many-submitted", "more submitted fields than there may be", edits(t, x.good, `{"p":"/outcome"`, manyLabels(x.salt, 248)+`{"p":"/outcome"`), "size", ""},
	}
}

// badTimes have times that no leaf has.
func badTimes(t testing.TB, x *fixture) []openVector {
	return []openVector{
		{"time-fraction", "a fraction of a second", edits(t, x.good, "00:00:01Z", "00:00:01.5Z"), "format", "/time"},
		{"time-zone", "an offset instead of Z", edits(t, x.good, "00:00:01Z", "00:00:01+00:00"), "format", "/time"},
		{"time-date", "a day that doesn't exist", edits(t, x.good, "2026-02-01T00", "2026-02-29T00"), "format", "/time"},
		{"time-lower", "t in lower case", edits(t, x.good, "2026-02-01T00", "2026-02-01t00"), "format", "/time"},
		{"time-leap", "a leap second", edits(t, x.good, "00:00:01Z", "00:00:60Z"), "format", "/time"},
		{"time-1969", "before 1970", edits(t, x.good, "2026-02-01T00:00:01Z", "1969-12-31T23:59:59Z"), "format", "/time"},
	}
}

// badErasures have erasures that can't be.
func badErasures(t testing.TB, x *fixture) []openVector {
	return []openVector{
		{"erased-forever", "an erased field that is never erased", edits(t, x.idHidden, `","p":"/id"`, `","e":7,"p":"/id"`), "erased", "/id"},
		{"erased-string", "the entry's index as a string", edits(t, x.erased(t, 7, "/actor/id"), `"e":7`, `"e":"7"`), "syntax", ""},
		{"erased-zero", "a zero in front of the entry's index", edits(t, x.erased(t, 7, "/actor/id"), `"e":7`, `"e":07`), "syntax", ""},
		{"erased-negative", "a negative index", edits(t, x.erased(t, 7, "/actor/id"), `"e":7`, `"e":-7`), "syntax", ""},
		{"erased-large", "an index of 2^53", edits(t, x.erased(t, 7, "/actor/id"), `"e":7`, `"e":9007199254740992`), "syntax", ""},
		{"erased-order", "e behind p", edits(t, x.erased(t, 7, "/actor/id"), `"e":7,"p":"/actor/id"`, `"p":"/actor/id","e":7`), "syntax", "/actor/id"},
	}
}

// acceptedOpenings are those that open minimal's leaf.
func acceptedOpenings(t testing.TB, x *fixture) []openVector {
	return []openVector{
		{name: "open", desc: "everything is shown", opening: x.good},
		{name: "withheld-one", desc: "one field is withheld", opening: x.hidden(t, "/actor/id")},
		{name: "withheld-action", desc: "the field that decides what is needed is withheld", opening: x.hidden(t, "/action")},
		{name: "withheld-never-erased", desc: "what is never erased can be withheld", opening: x.hidden(t, "/schema", "/tenant", "/source", "/id", "/time", "/outcome", "/received_at")},
		{name: "withheld-all", desc: "everything is withheld", opening: x.hidden(t, "/schema", "/tenant", "/source", "/id", "/time", "/action", "/outcome", "/received_at", "/actor", "/target")},
		{name: "erased-one", desc: "one field is erased", opening: x.erased(t, 0, "/actor/id")},
		{name: "erased-index", desc: "the largest index; the leaf doesn't bind it", opening: x.erased(t, event.MaxInteger, "/actor", "/target/0/id")},
	}
}

const (
	base64URL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	base64Std = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
)

// nextInBase64 sets the lowest bit of a base64 digit.
func nextInBase64(digit byte, alphabet string) string {
	return string(alphabet[strings.IndexByte(alphabet, digit)|1])
}

func manyLabels(salt string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"p":"/labels/l%03d","s":"%s","v":""},`, i, salt)
	}
	return b.String()
}

// swap exchanges what two fields hold.
func swap(t testing.TB, o *Opening, a, b string) string {
	t.Helper()
	again := opened(t, o.Bytes())
	var x, y *OpenedField
	for i := range again.Fields {
		switch again.Fields[i].Pointer {
		case a:
			x = &again.Fields[i]
		case b:
			y = &again.Fields[i]
		}
	}
	x.Salt, y.Salt, x.Value, y.Value = y.Salt, x.Salt, y.Value, x.Value
	return string(again.Bytes())
}

// refuse makes c a case that is refused: with a code, and where unless it is
// the whole.
func refuse(c vectors.Case, code, pointer string) {
	c.Header["expect"], c.Header["code"] = "refused", code
	if pointer != "" {
		c.Header["pointer"] = pointer
	}
}

// sealVectors are all the vectors, without the results of what is accepted.
func sealVectors(t testing.TB) []vectors.Case {
	leaf := sealed(t, minimal).Leaf
	var all []vectors.Case
	for _, v := range openVectors(t) {
		c := vectors.Case{
			Name:   "open-" + v.name,
			Header: map[string]string{"desc": v.desc, "expect": "ok", "kind": "open"},
			Blocks: map[string][]byte{"opening": []byte(v.opening), "leaf": leaf},
		}
		if v.name == "open" {
			c.Name = "open"
		}
		if v.code != "" {
			refuse(c, v.code, v.pointer)
		}
		all = append(all, c)
	}
	all = append(all, fullVectors(t)...)
	all = append(all, withholdVectors(t)...)
	all = append(all, compareVectors(t)...)
	return append(all, identityVectors()...)
}

// fullVectors seal events, and check a source's signature.
func fullVectors(t testing.TB) []vectors.Case {
	var all []vectors.Case
	for _, v := range []struct{ name, desc, text, at string }{
		{"seal-minimal", "the least event", minimal, "2026-02-01T00:00:01.999999999Z"},
		{"seal-full", "a field of every kind; a time with an offset", full, "2026-02-01T01:00:01+01:00"},
		{"seal-one-more", "a number of fields that isn't a power of two, nor one less", strings.TrimSuffix(minimal, "}") + `,"details":{"o":{"b":1,"a":"é\u2028\"\n"}}}`, "2024-02-29T12:00:00Z"},
	} {
		var salts bytes.Buffer
		for _, f := range whole(t, v.text) {
			salt := seedSalts("seed").salt(f.Pointer)
			fmt.Fprintf(&salts, "%s %s\n", f.Pointer, base64.RawURLEncoding.EncodeToString(salt[:]))
		}
		all = append(all, vectors.Case{
			Name:   v.name,
			Header: map[string]string{"desc": v.desc, "expect": "ok", "kind": "seal", "time": v.at},
			Blocks: map[string][]byte{"event": []byte(v.text), "salts": salts.Bytes()},
		})
	}
	return slices.Concat(all, sourceVectors(t), envelopeVectors(t))
}

func sourceVectors(t testing.TB) []vectors.Case {
	s, _ := sourceKey(t, 'a')
	f := signed(t, full, s)
	made, err := Commit(f, seedSalts("seed"))
	if err != nil {
		t.Fatal(err)
	}
	good := opened(t, made.At(sealedAt).Opening)
	less, err := good.Erase(9, "/actor", "/details", "/change")
	if err != nil {
		t.Fatal(err)
	}
	hidden, err := good.Withhold("/ingest/signature")
	if err != nil {
		t.Fatal(err)
	}
	_, key := keyTexts(t, 'a')
	_, otherKey := keyTexts(t, 'b')
	signature := good.Event().Text("/ingest/signature")
	var all []vectors.Case
	for _, c := range []struct{ name, desc, key, code, opening string }{
		{"source", "signed by its source", key, "", string(good.Bytes())},
		{"source-erased", "signed by its source, fields erased since", key, "", string(less.Bytes())},
		{"source-withheld", "the signature is withheld", key, "no-signature", string(hidden.Bytes())},
		{"source-none", "not signed", key, "no-signature", string(sealed(t, minimal).Opening)},
		{"source-key", "signed by another key of the same name", otherKey, "unknown-key", string(good.Bytes())},
		{"source-value", "a value that the source didn't sign", key, "bad-signature", edits(t, string(good.Bytes()), `"v":"Ann"`, `"v":"Bob"`)},
		{"source-field", "a field that the source didn't sign", key, "bad-signature", edits(t, string(good.Bytes()), "/labels/env", "/labels/eno")},
		{"source-cut", "a signature cut short", key, "bad-signature", edits(t, string(good.Bytes()), signature, signature[:len(signature)-8])},
		{"source-server", "a server's field changed, which the source didn't sign", key, "", edits(t, string(good.Bytes()), `"v":"default"`, `"v":"other"`)},
	} {
		v := vectors.Case{
			Name:   c.name,
			Header: map[string]string{"desc": c.desc, "expect": "ok", "kind": "source", "vkey": c.key},
			Blocks: map[string][]byte{"opening": []byte(c.opening)},
		}
		if c.code != "" {
			refuse(v, c.code, "")
		}
		all = append(all, v)
	}
	return all
}

func withholdVectors(t testing.TB) []vectors.Case {
	opening := sealed(t, full).Opening
	var all []vectors.Case
	for _, c := range []struct {
		name, desc, pointers, erasedBy, code, pointer string
	}{
		{"withhold-submitted", "a submitted field takes raw_sha256 with it", "/actor/name", "", "", ""},
		{"withhold-content", "content takes its digests with it", "/details/n", "", "", ""},
		{"withhold-server", "a server's field takes nothing with it", "/ingest/peer_ip", "", "", ""},
		{"withhold-object", "all members of an object", "/origin", "", "", ""},
		{"withhold-target", "target 1, and not target 10", "/target/1", "", "", ""},
		{"withhold-nothing", "a pointer without a field", "/actor/nam", "", "unknown", "/actor/nam"},
		{"erase", "a field is erased, and what goes with it", "/change/patch", "41", "", ""},
		{"erase-id", "a field that is never erased", "/id", "41", "erased", "/id"},
		{"erase-received", "a server's field that is never erased", "/received_at", "41", "erased", "/received_at"},
	} {
		v := vectors.Case{
			Name:   c.name,
			Header: map[string]string{"desc": c.desc, "expect": "ok", "kind": "withhold"},
			Blocks: map[string][]byte{"opening": opening, "pointers": []byte(c.pointers + "\n")},
		}
		if c.erasedBy != "" {
			v.Header["erased_by"] = c.erasedBy
		}
		if c.code != "" {
			refuse(v, c.code, c.pointer)
		}
		all = append(all, v)
	}
	return all
}

func identityVectors() []vectors.Case {
	var all []vectors.Case
	for i, c := range []struct{ desc, secret, tenant, source, id string }{
		{"an identity hash", strings.Repeat("0b", 32), "default", "cron://a.example", "e-1"},
		{"the same text, divided elsewhere", strings.Repeat("0b", 32), "default", "cron://a.examplee", "-1"},
		{"a secret longer than a block, text past ASCII", strings.Repeat("aa", 131), "default", "cron://a.example", "é😀"},
	} {
		all = append(all, vectors.Case{
			Name: "identity-" + strconv.Itoa(i+1),
			Header: map[string]string{"desc": c.desc, "expect": "ok", "kind": "identity",
				"secret": c.secret, "tenant": c.tenant, "source": c.source, "id": c.id},
			Blocks: map[string][]byte{},
		})
	}
	return all
}
