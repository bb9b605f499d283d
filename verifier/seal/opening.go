package seal

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"time"

	"github.com/prooftrail/prooftrail/verifier/event"
)

// An Opening shows that a leaf is the leaf of an event, or of some fields of
// it.
type Opening struct {
	Time   time.Time // when the event was sequenced, UTC, whole seconds
	Fields []OpenedField
}

// An OpenedField is one field of an opening: shown, with salt and value, or
// withheld, with only its commitment.
type OpenedField struct {
	Pointer string
	Shown   bool

	// Of a field that is shown. Its commitment is always computed from these.
	Salt  []byte // 22 characters
	Value []byte // canonical JSON

	// Of a field that is withheld.
	Commitment Hash
	ErasedBy   *uint64 // index of the entry that records its erasure; nil if it wasn't erased
}

// commitment returns the field's commitment.
func (f *OpenedField) commitment(scratch []byte) (Hash, []byte) {
	if !f.Shown {
		return f.Commitment, scratch
	}
	scratch = appendCommitted(scratch[:0], f.Salt, f.Value)
	return sha256.Sum256(scratch), scratch
}

// Leaf recomputes the leaf. It is a function of the opening alone.
func (o *Opening) Leaf() []byte {
	root := hideRoot(len(o.Fields), o.root(func(string) bool { return true }))
	return appendLeaf(nil, &root, o.Time)
}

// LeafHash returns the leaf's hash, RFC 6962 section 2.1.
func (o *Opening) LeafHash() Hash {
	root := hideRoot(len(o.Fields), o.root(func(string) bool { return true }))
	var buf [leafLen]byte
	return hashLeaf(appendLeaf(buf[:0], &root, o.Time))
}

// root returns the Merkle tree hash over the fields that are wanted.
func (o *Opening) root(want func(pointer string) bool) Hash {
	var tree rooter
	var c Hash
	scratch := make([]byte, 0, 512)
	for i := range o.Fields {
		f := &o.Fields[i]
		if want(f.Pointer) {
			c, scratch = f.commitment(scratch)
			scratch = appendField(scratch[:0], f.Pointer, &c)
			tree.add(sha256.Sum256(scratch))
		}
	}
	if tree.n == 0 {
		return sha256.Sum256(nil) // RFC 6962: "The hash of an empty list is the hash of an empty string"
	}
	return tree.root()
}

// Bytes writes the opening in its one form.
func (o *Opening) Bytes() []byte {
	out := []byte(openHead)
	for i := range o.Fields {
		if i > 0 {
			out = append(out, ',')
		}
		out = o.Fields[i].append(out)
	}
	out = append(out, openTime...)
	out = o.Time.AppendFormat(out, timeStyle)
	return append(out, openTail...)
}

func (f *OpenedField) append(out []byte) []byte {
	if f.Shown {
		out = append(append(append(out, `{"p":"`...), f.Pointer...), `","s":"`...)
		out = append(append(append(out, f.Salt...), `","v":`...), f.Value...)
		return append(out, '}')
	}
	out = append(out, `{"c":"`...)
	out = base64.StdEncoding.AppendEncode(out, f.Commitment[:])
	if f.ErasedBy != nil {
		out = append(out, `","e":`...)
		out = strconv.AppendUint(out, *f.ErasedBy, 10)
		out = append(out, `,"p":"`...)
	} else {
		out = append(out, `","p":"`...)
	}
	return append(append(out, f.Pointer...), `"}`...)
}

// Event returns the fields that are shown. Their values are the opening's.
func (o *Opening) Event() event.Fields {
	out := make(event.Fields, 0, len(o.Fields))
	for i := range o.Fields {
		if f := &o.Fields[i]; f.Shown {
			out = append(out, event.Field{Pointer: f.Pointer, Value: f.Value})
		}
	}
	return out
}

// Field returns the field at pointer, shown or not; nil if there is none.
func (o *Opening) Field(pointer string) *OpenedField {
	for i := range o.Fields {
		if o.Fields[i].Pointer == pointer {
			return &o.Fields[i]
		}
	}
	return nil
}

// Text returns the string that the field at pointer shows; "" if it isn't shown, isn't
// there, or is no string.
func (o *Opening) Text(pointer string) string {
	f := o.Field(pointer)
	if f == nil || !f.Shown {
		return ""
	}
	shown := event.Fields{{Pointer: pointer, Value: f.Value}}
	return shown.Text(pointer)
}

// Withheld returns the pointers of the fields that aren't shown, in order.
func (o *Opening) Withheld() []string {
	var out []string
	for i := range o.Fields {
		if !o.Fields[i].Shown {
			out = append(out, o.Fields[i].Pointer)
		}
	}
	return out
}

// SameSubmission reports whether nothing speaks against f being the event that
// this opening is of, as the source submitted it: the same fields, but for the
// server's, and the same values. A field that is withheld is taken for equal.
//
// That is the rule for duplicates of a log that holds the opening itself, where
// a field is withheld because it was erased. Whoever is shown an opening by
// somebody else needs Compare: an opening that shows nothing passes here for
// every event with the same pointers.
func (o *Opening) SameSubmission(f event.Fields) bool {
	i := 0
	for _, mine := range o.Fields {
		if event.IsServer(mine.Pointer) {
			continue
		}
		for i < len(f) && event.IsServer(f[i].Pointer) {
			i++
		}
		if i == len(f) || f[i].Pointer != mine.Pointer {
			return false
		}
		if mine.Shown && !bytes.Equal(mine.Value, f[i].Value) {
			return false
		}
		i++
	}
	for i < len(f) && event.IsServer(f[i].Pointer) {
		i++
	}
	return i == len(f)
}
