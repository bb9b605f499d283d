package seal

import (
	"bytes"

	"github.com/prooftrail/prooftrail/verifier/event"
)

// A Comparison is what came of holding an event against an opening: the
// pointers of the submitted fields that aren't known to be the same, in three
// kinds. Fields that are shown and equal aren't in it.
type Comparison struct {
	// Differ: shown with another value, or only in one of the two. One of these
	// is proof that the opening is of another event.
	Differ []string
	// Withheld: in both, but not shown, and not said to be erased. Nothing is
	// known of their values.
	Withheld []string
	// Erased: in both, but the opening says that they were erased. Nothing is
	// known of their values either, nor, without an audit, of the erasure. What is
	// never erased (see Erase) is never among these.
	Erased []string
}

// Same reports whether each field of the event is shown and equal, and there
// are no others: only then is the opening known to be of that very event.
func (c *Comparison) Same() bool {
	return len(c.Differ) == 0 && len(c.Withheld) == 0 && len(c.Erased) == 0
}

// Compare holds f, an event as its source submitted it, against the opening.
// The server's fields are left out, on both sides.
//
// It is for whoever has the event and is shown an opening by somebody that it
// doesn't trust. A withheld field is not taken for equal: an opening that shows
// nothing fits every event that has the same pointers.
func (o *Opening) Compare(f event.Fields) Comparison {
	var c Comparison
	f = f.Submitted()
	i := 0
	for n := range o.Fields {
		mine := &o.Fields[n]
		if event.IsServer(mine.Pointer) {
			continue
		}
		for ; i < len(f) && f[i].Pointer < mine.Pointer; i++ {
			c.Differ = append(c.Differ, f[i].Pointer)
		}
		if i == len(f) || f[i].Pointer != mine.Pointer {
			c.Differ = append(c.Differ, mine.Pointer)
			continue
		}
		c.field(mine, f[i].Value)
		i++
	}
	for ; i < len(f); i++ {
		c.Differ = append(c.Differ, f[i].Pointer)
	}
	return c
}

// field compares a field that both have.
func (c *Comparison) field(mine *OpenedField, value []byte) {
	switch {
	case mine.Shown && !bytes.Equal(mine.Value, value):
		c.Differ = append(c.Differ, mine.Pointer)
	case mine.Shown:
	case mine.ErasedBy != nil && !neverErased(mine.Pointer):
		c.Erased = append(c.Erased, mine.Pointer)
	default:
		c.Withheld = append(c.Withheld, mine.Pointer)
	}
}
