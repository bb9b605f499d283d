package seal

import (
	"bytes"
	"testing"

	"github.com/prooftrail/prooftrail/verifier/event"
)

func FuzzParseOpening(f *testing.F) {
	for _, text := range []string{minimal, full} {
		s := sealed(f, text)
		f.Add(s.Opening)
		less, err := opened(f, s.Opening).Erase(12, "/actor", "/target/0")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(less.Bytes())
	}
	for _, v := range openVectors(f) {
		f.Add([]byte(v.opening))
	}
	var again Parser // has read all that was tried before
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := ParseOpening(data)
		if _, err2 := again.Parse(data); (err == nil) != (err2 == nil) {
			t.Fatalf("%q: %v the first time, %v with a parser that was used before", data, err, err2)
		}
		if err != nil {
			return
		}
		if again.LeafHash() != o.LeafHash() {
			t.Fatalf("%q: two leaf hashes", data)
		}
		if !bytes.Equal(o.Bytes(), data) {
			t.Fatalf("opening %q comes back as %q", data, o.Bytes())
		}
		if canonical, err := event.Canonical(data); err == nil && !bytes.Equal(canonical, data) {
			t.Fatalf("opening isn't canonical: %q", data)
		}
		leaf := o.Leaf()
		for i := range o.Fields {
			less, err := o.Withhold(o.Fields[i].Pointer)
			if err != nil || !bytes.Equal(less.Leaf(), leaf) {
				t.Fatalf("%s withheld: another leaf, or %v", o.Fields[i].Pointer, err)
			}
			if _, err := ParseOpening(less.Bytes()); err != nil {
				t.Fatalf("%s withheld: %v", o.Fields[i].Pointer, err)
			}
		}
		if len(o.Withheld()) > 0 {
			return
		}
		if again, err := event.ParseStamped(o.Event().JSON()); err != nil || !o.SameSubmission(again) {
			t.Fatalf("opened event %s: %v", o.Event().JSON(), err)
		}
	})
}
