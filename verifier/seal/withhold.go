package seal

import (
	"fmt"
	"slices"
	"strings"

	"github.com/prooftrail/prooftrail/verifier/event"
)

// neverErased reports whether a field stays for as long as the log does: what
// names the event, says what was done, and when.
func neverErased(pointer string) bool {
	switch pointer {
	case "/schema", "/tenant", "/source", "/id", "/time", "/action", "/outcome", "/received_at":
		return true
	}
	return false
}

// digests are unsalted digests of an event's content. Next to a field that is
// withheld they would let its value be guessed.
var digests = []string{"/change/before_sha256", "/change/after_sha256", "/job/command_sha256"}

// isContent reports whether a digest may be of the field.
func isContent(pointer string) bool {
	for _, prefix := range []string{"/job/", "/change/", "/target/", "/labels/", "/details/"} {
		if strings.HasPrefix(pointer, prefix) {
			return true
		}
	}
	return false
}

// Withhold returns a copy of the opening in which the fields at pointers keep
// only their commitments. A pointer to what fields are part of, /actor or
// /target/0, stands for all of them.
//
// What would let a withheld value be guessed goes with it: with a field that
// the source submitted /ingest/raw_sha256, and with content (a field of job,
// change, target, labels or details) its digests before_sha256, after_sha256
// and command_sha256. A pointer without a field is an error. The copy shares
// memory with o.
func (o *Opening) Withhold(pointers ...string) (*Opening, error) {
	out, err := o.hide(nil, pointers)
	if err != nil {
		return nil, fmt.Errorf("withhold: %w", err)
	}
	return out, nil
}

// Erase is Withhold for good, recorded by the entry with the index by, at most
// event.MaxInteger. /schema, /tenant, /source, /id, /time, /action, /outcome
// and /received_at are never erased: asking for one is an error. A field that
// has been erased keeps the entry that recorded it first.
func (o *Opening) Erase(by uint64, pointers ...string) (*Opening, error) {
	if by > event.MaxInteger {
		return nil, fmt.Errorf("erase: index of an entry above %d", event.MaxInteger)
	}
	out, err := o.hide(&by, pointers)
	if err != nil {
		return nil, fmt.Errorf("erase: %w", err)
	}
	return out, nil
}

// hide withholds fields, and erases them if by isn't nil.
func (o *Opening) hide(by *uint64, pointers []string) (*Opening, error) {
	hidden := make([]bool, len(o.Fields))
	for _, pointer := range pointers {
		if err := o.mark(hidden, pointer, by != nil); err != nil {
			return nil, err
		}
	}
	o.markDigests(hidden)
	out := &Opening{Time: o.Time, Fields: slices.Clone(o.Fields)}
	for i := range out.Fields {
		f := &out.Fields[i]
		if !hidden[i] {
			continue
		}
		erasedBy := f.ErasedBy
		if erasedBy == nil && by != nil {
			index := *by
			erasedBy = &index
		}
		c, _ := f.commitment(nil)
		*f = OpenedField{Pointer: f.Pointer, Commitment: c, ErasedBy: erasedBy}
	}
	return out, nil
}

// mark marks the fields that pointer stands for.
func (o *Opening) mark(hidden []bool, pointer string, erase bool) error {
	found := false
	for i := range o.Fields {
		p := o.Fields[i].Pointer
		if p != pointer && !(pointer != "" && strings.HasPrefix(p, pointer+"/")) {
			continue
		}
		if erase && neverErased(p) {
			return &event.Error{Pointer: p, Code: CodeErased, Expected: "a field that may be erased"}
		}
		found, hidden[i] = true, true
	}
	if !found {
		return &event.Error{Pointer: pointer, Code: event.CodeUnknown, Expected: "the pointer of a field of this opening"}
	}
	return nil
}

// markDigests marks what would let the marked values be guessed.
func (o *Opening) markDigests(hidden []bool) {
	var raw, content bool
	for i := range hidden {
		p := o.Fields[i].Pointer
		raw = raw || hidden[i] && !event.IsServer(p)
		content = content || hidden[i] && isContent(p)
	}
	for i := range hidden {
		p := o.Fields[i].Pointer
		hidden[i] = hidden[i] || raw && p == "/ingest/raw_sha256" || content && slices.Contains(digests, p)
	}
}
