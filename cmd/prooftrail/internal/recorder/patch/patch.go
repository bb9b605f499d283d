// Package patch says what changed between two versions of a resource, as a JSON Patch (RFC 6902) that an
// event can hold: before each value that goes, a test operation says what it was, so that the patch shows before and
// after. Secrets are masked in it, and that one changed still shows. It is bounded.
package patch

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/recorder/doc"
	"github.com/prooftrail/prooftrail/verifier/client/mask"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// Bounds of a patch, well below those of an event.
const (
	maxOperations = 512
	maxBytes      = 64 << 10
	maxDepth      = 10 // of a value; it lies five deep in an event, which has 16
)

// Masker masks secrets, as mask.Masker does: what a value consists of stays, but for texts and numbers.
type Masker interface {
	Text(text string) string
	Value(name string, v any) any
}

// What stands for values that an event can't hold.
const (
	null = "[null]"
	deep = "[too deep]"
)

// Version is a resource as it is at one moment.
type Version struct {
	There  bool
	value  any
	masked any // the same, with its secrets masked
}

// Of is a resource that is there, in which secrets are where the pointers say, beside those that m finds. The zero Version is
// one that isn't there.
func Of(v any, m Masker, secrets ...doc.Pointer) Version {
	masked := m.Value("", v)
	for _, p := range secrets {
		masked = p.Replace(masked, mask.Masked)
	}
	return Version{true, v, masked}
}

// maker makes one patch.
type maker struct {
	ops   []event.Operation
	bytes int
}

// Make returns the operations that lead from before to after. It returns false if there are too many of them, or too large
// ones.
func Make(before, after Version) ([]event.Operation, bool) {
	p := &maker{}
	switch {
	case before.There && after.There:
		p.diff("", before, after)
	case before.There:
		p.remove("", before)
	case after.There:
		p.add("", after)
	}
	return p.ops, !p.full()
}

func (p *maker) full() bool { return len(p.ops) > maxOperations || p.bytes > maxBytes }

func (p *maker) emit(op, path string, value any) {
	o := event.Operation{Op: op, Path: path, Value: value}
	if b, err := json.Marshal(o); err == nil {
		p.bytes += len(b)
	}
	p.ops = append(p.ops, o)
}

func (p *maker) add(path string, v Version) { p.emit("add", path, Plain(v.masked)) }

func (p *maker) remove(path string, v Version) {
	p.emit("test", path, Plain(v.masked))
	p.emit("remove", path, nil)
}

func (p *maker) diff(path string, before, after Version) {
	if p.full() || reflect.DeepEqual(before.value, after.value) {
		return
	}
	switch before.value.(type) {
	case map[string]any:
		if _, ok := after.value.(map[string]any); ok {
			p.objects(path, before, after)
			return
		}
	case []any:
		if _, ok := after.value.([]any); ok {
			p.arrays(path, before.elements(), after.elements())
			return
		}
	}
	p.emit("test", path, Plain(before.masked))
	p.emit("replace", path, Plain(after.masked))
}

// member is a member of an object.
func (v Version) member(name string) Version {
	all, _ := v.value.(map[string]any)
	masked, _ := v.masked.(map[string]any)
	value, there := all[name]
	return Version{there, value, masked[name]}
}

// elements are the elements of an array.
func (v Version) elements() []Version {
	all, _ := v.value.([]any)
	masked, _ := v.masked.([]any)
	out := make([]Version, len(all))
	for i := range all {
		out[i] = Version{There: true, value: all[i]}
		if i < len(masked) {
			out[i].masked = masked[i]
		}
	}
	return out
}

func (p *maker) objects(path string, before, after Version) {
	b, _ := before.value.(map[string]any)
	a, _ := after.value.(map[string]any)
	for _, name := range names(b, a) {
		at := path + "/" + escape(name)
		switch b, a := before.member(name), after.member(name); {
		case b.There && a.There:
			p.diff(at, b, a)
		case b.There:
			p.remove(at, b)
		default:
			p.add(at, a)
		}
	}
}

// arrays leaves what both have at the beginning and at the end, and compares the rest element by element.
func (p *maker) arrays(path string, before, after []Version) {
	start := 0
	for start < len(before) && start < len(after) && same(before[start], after[start]) {
		start++
	}
	b, a := before[start:], after[start:]
	for len(b) > 0 && len(a) > 0 && same(b[len(b)-1], a[len(a)-1]) {
		b, a = b[:len(b)-1], a[:len(a)-1]
	}
	both := min(len(b), len(a))
	for i := range both {
		p.diff(path+"/"+strconv.Itoa(start+i), b[i], a[i])
	}
	for i := len(b) - 1; i >= both && !p.full(); i-- {
		p.remove(path+"/"+strconv.Itoa(start+i), b[i])
	}
	for i := both; i < len(a) && !p.full(); i++ {
		p.add(path+"/"+strconv.Itoa(start+i), a[i])
	}
}

func same(a, b Version) bool { return reflect.DeepEqual(a.value, b.value) }

func names(a, b map[string]any) []string {
	all := make([]string, 0, len(a)+len(b))
	for name := range a {
		all = append(all, name)
	}
	for name := range b {
		if _, both := a[name]; !both {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}

func escape(name string) string { return strings.NewReplacer("~", "~0", "/", "~1").Replace(name) }

// Plain is a value as an event can hold it: null, fractions and numbers beyond 2^53 as text, and not too deep.
func Plain(v any) any { return plain(v, maxDepth) }

func plain(v any, room int) any {
	switch v := v.(type) {
	case nil:
		return null
	case json.Number:
		return number(v)
	case map[string]any:
		if room == 0 {
			return deep
		}
		out := make(map[string]any, len(v))
		for name, member := range v {
			out[name] = plain(member, room-1)
		}
		return out
	case []any:
		if room == 0 {
			return deep
		}
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = plain(e, room-1)
		}
		return out
	}
	return v
}

// number keeps an integer that all readers of JSON agree on.
func number(n json.Number) any {
	i, err := strconv.ParseInt(n.String(), 10, 64)
	if err != nil || i > event.MaxInteger || i < -event.MaxInteger || n.String() == "-0" {
		return n.String()
	}
	return n
}

// Digest is the SHA-256 of the canonical JSON of v as events show it, with its secrets masked; "" if it is too large. A digest
// of the secrets would let readers of the log try them out.
func (v Version) Digest() string {
	b, err := json.Marshal(Plain(v.masked))
	if err == nil {
		b, err = event.Canonical(b)
	}
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Text is the resource as JSON, as events show it.
func (v Version) Text() string {
	b, err := json.Marshal(Plain(v.masked))
	if err != nil {
		return ""
	}
	return string(b)
}
