package seal

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/prooftrail/prooftrail/verifier/event"
)

// reference seals as the package comment says, with nothing of the package's
// own code: encoding/json for the canonical form, x/mod's tree.
func reference(f event.Fields, salts []string, at string) (leaf, opening string) {
	js := func(v any) string {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err := e.Encode(v); err != nil {
			panic(err)
		}
		return strings.TrimSpace(b.String())
	}
	b64 := base64.StdEncoding.EncodeToString
	var hashes []tlog.Hash
	var fields []any
	for i, field := range f {
		c := sha256.Sum256([]byte("\x02[" + js(salts[i]) + "," + string(field.Value) + "]"))
		hashes = append(hashes, sha256.Sum256([]byte("\x00"+js([]string{field.Pointer, b64(c[:])}))))
		fields = append(fields, map[string]any{"p": field.Pointer, "s": salts[i], "v": json.RawMessage(field.Value)})
	}
	r := treeHash(hashes)
	hidden := sha256.Sum256([]byte("\x03" + js([]any{len(f), b64(r[:])})))
	leaf = js(map[string]string{"root": b64(hidden[:]), "time": at, "v": "prooftrail.leaf/1"})
	return leaf, js(map[string]any{"v": "prooftrail.opening/1", "time": at, "fields": fields})
}

// treeHash is the definition in RFC 6962 section 2.1.
func treeHash(h []tlog.Hash) tlog.Hash {
	if len(h) == 1 {
		return h[0]
	}
	k := 1
	for 2*k < len(h) {
		k *= 2
	}
	return tlog.NodeHash(treeHash(h[:k]), treeHash(h[k:]))
}

// TestReference seals events of every number of fields up to the most.
func TestReference(t *testing.T) {
	for extra := 0; extra <= event.MaxFields-10; extra++ {
		var labels []string
		for i := range extra {
			labels = append(labels, fmt.Sprintf(`"l%d":"%d"`, i, i))
		}
		text := minimal
		if extra > 0 {
			text = strings.TrimSuffix(minimal, "}") + `,"labels":{` + strings.Join(labels, ",") + `}}`
		}
		f := whole(t, text)
		c, err := Commit(f, seedSalts("seed"))
		if err != nil {
			t.Fatal(err)
		}
		var salts []string
		for _, field := range f {
			salt := seedSalts("seed").salt(field.Pointer)
			salts = append(salts, base64.RawURLEncoding.EncodeToString(salt[:]))
		}
		leaf, opening := reference(f, salts, "2026-02-01T00:00:01Z")
		s := c.At(sealedAt)
		if string(s.Leaf) != leaf || string(s.Opening) != opening {
			t.Fatalf("%d fields: leaf\n%s, want\n%s; opening\n%s, want\n%s", len(f), s.Leaf, leaf, s.Opening, opening)
		}
		if s.LeafHash != Hash(tlog.RecordHash(s.Leaf)) {
			t.Fatalf("%d fields: leaf hash differs", len(f))
		}
		o := opened(t, s.Opening)
		if !bytes.Equal(o.Leaf(), s.Leaf) || !bytes.Equal(o.Bytes(), s.Opening) || o.LeafHash() != s.LeafHash {
			t.Fatalf("%d fields: what was opened differs from what was sealed", len(f))
		}
	}
}

func TestSealAndOpen(t *testing.T) {
	for _, text := range []string{minimal, full} {
		f := whole(t, text)
		s := sealed(t, text)
		o := opened(t, s.Opening)
		if !reflect.DeepEqual(o.Event(), f) {
			t.Errorf("opened event %s, want %s", o.Event().JSON(), f.JSON())
		}
		if o.Withheld() != nil || !o.Time.Equal(sealedAt.Truncate(time.Second)) {
			t.Errorf("withheld %v, time %v", o.Withheld(), o.Time)
		}
	}
}

func TestCommitRefuses(t *testing.T) {
	f := whole(t, minimal)
	for name, f := range map[string]event.Fields{
		"nothing": nil, "submitted": f.Submitted(), "reversed": func() event.Fields {
			r := slices.Clone(f)
			slices.Reverse(r)
			return r
		}(),
	} {
		var e *event.Error
		if _, err := Commit(f, nil); !errors.As(err, &e) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Commit(f, ChosenSalts{"/nothing": {}}); err == nil {
		t.Error("a salt for no field was taken")
	}
}

func TestSaltsAreFresh(t *testing.T) {
	seen := map[string]bool{}
	for range 3 {
		c, err := Commit(whole(t, full), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range opened(t, c.At(sealedAt).Opening).Fields {
			if seen[string(f.Salt)] {
				t.Fatalf("salt of %s used twice", f.Pointer)
			}
			seen[string(f.Salt)] = true
		}
	}
}

func TestChosenSalts(t *testing.T) {
	f := whole(t, minimal)
	c, err := Commit(f, seedSalts("mine").chosen(f))
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range opened(t, c.At(sealedAt).Opening).Fields {
		salt := seedSalts("mine").salt(field.Pointer)
		chosen := string(field.Salt) == base64.RawURLEncoding.EncodeToString(salt[:])
		if chosen == event.IsServer(field.Pointer) {
			t.Errorf("%s: salt chosen by the source: %v", field.Pointer, chosen)
		}
	}
}

func TestAt(t *testing.T) {
	c, err := Commit(whole(t, minimal), nil)
	if err != nil {
		t.Fatal(err)
	}
	first := c.At(sealedAt)
	leaf, opening := bytes.Clone(first.Leaf), bytes.Clone(first.Opening)
	second := c.At(sealedAt.Add(time.Hour))
	clear(second.Leaf)
	clear(second.Opening)
	_ = append(first.Opening, 'x')
	if third := c.At(sealedAt); !bytes.Equal(first.Leaf, leaf) || !bytes.Equal(first.Opening, opening) ||
		!bytes.Equal(third.Leaf, leaf) || !bytes.Equal(third.Opening, opening) {
		t.Error("calls of At share memory")
	}
	for at, want := range map[time.Time]string{
		time.Date(2026, 2, 1, 1, 2, 3, 999, time.FixedZone("", 7200)): "2026-01-31T23:02:03Z",
		time.Unix(-1, 0): "1970-01-01T00:00:00Z",
		time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC): "9999-12-31T23:59:59Z",
	} {
		s := c.At(at)
		if got := opened(t, s.Opening).Time.Format(time.RFC3339); got != want || !strings.Contains(string(s.Leaf), want) {
			t.Errorf("At(%v) has time %s, want %s", at, got, want)
		}
	}
}

// TestEachWithheld withholds every field in turn, and every pair of them: the
// leaf stays.
func TestEachWithheld(t *testing.T) {
	for _, text := range []string{minimal, full} {
		s := sealed(t, text)
		o := opened(t, s.Opening)
		for i, a := range o.Fields {
			for _, b := range o.Fields[i:] {
				less, err := o.Withhold(a.Pointer, b.Pointer)
				if err != nil {
					t.Fatal(err)
				}
				again := opened(t, less.Bytes())
				if !bytes.Equal(again.Leaf(), s.Leaf) || !reflect.DeepEqual(again, less) {
					t.Fatalf("%s and %s withheld: another leaf or another opening", a.Pointer, b.Pointer)
				}
				if hidden := less.Withheld(); !slices.Contains(hidden, a.Pointer) || !slices.Contains(hidden, b.Pointer) {
					t.Fatalf("%s and %s withheld: %v", a.Pointer, b.Pointer, hidden)
				}
			}
		}
		if !bytes.Equal(o.Bytes(), s.Opening) {
			t.Fatal("withholding changed the opening itself")
		}
	}
}

// TestAllWithheld: even nothing but commitments has the leaf.
func TestAllWithheld(t *testing.T) {
	s := sealed(t, full)
	o := opened(t, s.Opening)
	var all []string
	for _, f := range o.Fields {
		all = append(all, f.Pointer)
	}
	less, err := o.Withhold(all...)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(opened(t, less.Bytes()).Leaf(), s.Leaf) || len(less.Event()) != 0 {
		t.Error("all withheld: another leaf, or something is shown")
	}
}

// TestEveryByte flips each bit of an opening, and puts each byte that means
// something in JSON or base64 at every place of it: what isn't
// refused has another leaf, unless the index of an erasure is what changed,
// which the leaf doesn't bind.
func TestEveryByte(t *testing.T) {
	s := sealed(t, minimal)
	less, err := opened(t, s.Opening).Erase(7, "/actor/id", "/target/0")
	if err != nil {
		t.Fatal(err)
	}
	redacted := less.Bytes()
	for _, opening := range [][]byte{s.Opening, redacted} {
		for i := range opening {
			others := []byte("\"{}[],:\\ \n\r\t/~=+-_.0129Aaz\x00\x7f\x80\xff")
			for bit := range 8 {
				others = append(others, opening[i]^1<<bit)
			}
			for _, c := range others {
				changed := bytes.Clone(opening)
				changed[i] = c
				o, err := ParseOpening(changed)
				if err != nil || c == opening[i] {
					continue
				}
				if bytes.Equal(o.Leaf(), s.Leaf) && !bytes.HasPrefix(opening[i-4:], []byte(`"e":7`)) {
					t.Fatalf("byte %d as %#x: the same leaf from\n%s", i, c, changed)
				}
			}
		}
	}
}

// TestInsertedDeleted takes out and doubles every stretch of up to 40 bytes.
func TestInsertedDeleted(t *testing.T) {
	s := sealed(t, minimal)
	for i := range s.Opening {
		for n := 1; n <= 40 && i+n <= len(s.Opening); n++ {
			for _, changed := range [][]byte{
				slices.Concat(s.Opening[:i], s.Opening[i+n:]),
				slices.Concat(s.Opening[:i+n], s.Opening[i:]),
			} {
				if o, err := ParseOpening(changed); err == nil && bytes.Equal(o.Leaf(), s.Leaf) {
					t.Fatalf("bytes %d to %d: the same leaf from\n%s", i, i+n, changed)
				}
			}
		}
	}
	for n := range s.Opening {
		if _, err := ParseOpening(s.Opening[:n]); err == nil {
			t.Fatalf("the first %d bytes are an opening", n)
		}
	}
}

// TestFieldsMatter changes the fields of an opening in memory.
func TestFieldsMatter(t *testing.T) {
	s := sealed(t, full)
	for i := range opened(t, s.Opening).Fields {
		for name, change := range map[string]func(o *Opening){
			"value":   func(o *Opening) { o.Fields[i].Value = []byte(`"changed"`) },
			"salt":    func(o *Opening) { o.Fields[i].Salt = []byte("AAAAAAAAAAAAAAAAAAAAAA") },
			"pointer": func(o *Opening) { o.Fields[i].Pointer += "x" },
			"removed": func(o *Opening) { o.Fields = slices.Delete(o.Fields, i, i+1) },
			"doubled": func(o *Opening) { o.Fields = slices.Insert(o.Fields, i, o.Fields[i]) },
			"hidden":  func(o *Opening) { o.Fields[i].Shown = false },
		} {
			o := opened(t, s.Opening)
			change(o)
			if bytes.Equal(o.Leaf(), s.Leaf) {
				t.Errorf("field %d: %s, and the same leaf", i, name)
			}
		}
	}
}

func TestSameSubmission(t *testing.T) {
	f := whole(t, full)
	o := opened(t, sealed(t, full).Opening)
	stamped, err := f.Submitted().Stamp(event.Stamp{Tenant: "other", ReceivedAt: time.Now(), PeerIP: "::1"})
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]event.Fields{"itself": f, "submitted": f.Submitted(), "from elsewhere": stamped} {
		if !o.SameSubmission(f) {
			t.Errorf("%s: not the same", name)
		}
	}
	for i, field := range f {
		changed, less := slices.Clone(f), slices.Delete(slices.Clone(f), i, i+1)
		changed[i].Value = []byte(`"changed"`)
		if got, want := o.SameSubmission(changed), event.IsServer(field.Pointer); got != want {
			t.Errorf("%s changed: same %v, want %v", field.Pointer, got, want)
		}
		if got, want := o.SameSubmission(less), event.IsServer(field.Pointer); got != want {
			t.Errorf("%s left out: same %v, want %v", field.Pointer, got, want)
		}
		hidden, err := o.Withhold(field.Pointer)
		if err != nil {
			t.Fatal(err)
		}
		if !hidden.SameSubmission(f) || !hidden.SameSubmission(changed) {
			t.Errorf("%s withheld: not the same", field.Pointer)
		}
		if !event.IsServer(field.Pointer) && hidden.SameSubmission(less) {
			t.Errorf("%s withheld: the same as an event without it", field.Pointer)
		}
	}
	more := append(slices.Clone(f), event.Field{Pointer: "/zzz", Value: []byte("1")})
	if o.SameSubmission(more) || o.SameSubmission(nil) {
		t.Error("the same as an event with one more field, or as none")
	}
}

// TestLargest seals and opens the largest event that there may be.
func TestLargest(t *testing.T) {
	text := strings.TrimSuffix(strings.Replace(strings.Replace(full, "cron:", "prooftrail:", 1), `"job.update"`, `"audit.conflict"`, 1), "}")
	f := whole(t, text+`}`)
	room := event.MaxStampedBytes - len("/details/big") - len(`""`)
	for _, field := range f {
		room -= len(field.Pointer) + len(field.Value)
	}
	text = strings.Replace(text, `"details":{`, `"details":{"big":"`+strings.Repeat("x", room)+`",`, 1)
	c, err := Commit(whole(t, text+`}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	s := c.At(sealedAt)
	if o := opened(t, s.Opening); !bytes.Equal(o.Leaf(), s.Leaf) {
		t.Error("another leaf")
	}
	if _, err := event.ParseStamped([]byte(strings.Replace(text, "xxx", "xxxx", 1) + "}")); err == nil {
		t.Error("one byte more is an event")
	}
	if _, err := ParseOpening(make([]byte, MaxOpeningBytes+1)); err == nil {
		t.Error("an opening of more than 1 MiB")
	}
}
