package seal

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/prooftrail/prooftrail/verifier/event"
)

// FuzzCheckSource: one text alone is the source's signature of an event.
func FuzzCheckSource(f *testing.F) {
	good := signedOpening(f)
	signature := good.Event().Text("/ingest/signature")
	_, v := sourceKey(f, 'a')
	f.Add(signature)
	f.Add(signature + "\n")
	f.Add(strings.Replace(signature, " ", "  ", 1))
	f.Add(strings.TrimRight(signature, "="))
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		o := *good
		o.Fields = append([]OpenedField(nil), good.Fields...)
		for i := range o.Fields {
			if o.Fields[i].Pointer == "/ingest/signature" {
				o.Fields[i].Value = event.AppendString(nil, text)
			}
		}
		err := CheckSource(&o, v)
		if (err == nil) != (string([]rune(text)) == signature) {
			t.Errorf("%q: %v", text, err)
		}
		if err != nil && !errors.Is(err, ErrNoSignature) && !errors.Is(err, ErrUnknownKey) && !errors.Is(err, ErrBadSignature) {
			t.Errorf("%q: error %v", text, err)
		}
	})
}

// FuzzWithhold: whatever pointers are asked for, the leaf stays, and what is withheld is what
// was asked for and the digests that go with it.
func FuzzWithhold(f *testing.F) {
	o := opened(f, sealed(f, full).Opening)
	for _, s := range []string{"/actor", "/actor/name", "/target/0", "/target/0/id /labels", "/id", "/nothing", "actor", "/", "", "/details/~01"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, pointers string) {
		asked := strings.Split(pointers, " ")
		less, err := o.Withhold(asked...)
		if err != nil {
			return
		}
		if !bytes.Equal(less.Leaf(), o.Leaf()) {
			t.Fatalf("%q withheld: another leaf", asked)
		}
		again, err := ParseOpening(less.Bytes())
		if err != nil || !bytes.Equal(again.Bytes(), less.Bytes()) {
			t.Fatalf("%q withheld: %v", asked, err)
		}
		for i, field := range less.Fields {
			wanted := strings.HasSuffix(field.Pointer, "_sha256")
			for _, p := range asked {
				wanted = wanted || field.Pointer == p || strings.HasPrefix(field.Pointer, p+"/")
			}
			if !field.Shown && o.Fields[i].Shown && !wanted {
				t.Errorf("%q withheld %s too", asked, field.Pointer)
			}
		}
	})
}
