package mask

import (
	"encoding/json"
	"time"

	"github.com/prooftrail/prooftrail/verifier/event"
)

// roomForSeq is what others add to an event that is masked.
const roomForSeq = 64

// tooLarge reports whether an event has become larger than one may be. Few are so large that they have to be written to know.
func tooLarge(before, masked event.Event) bool {
	const most = event.MaxBytes - roomForSeq
	if size(masked, event.MaxBytes) < most/6 { // \u00XX is six bytes for one
		return false
	}
	if size(masked, 0) <= size(before, 0) {
		return false
	}
	raw, err := json.Marshal(masked)
	return err == nil && len(raw) > most
}

// size is how many bytes of text an event has at most. A value of a type that isn't looked into counts for other.
func size(e event.Event, other int) int {
	const others = 14 << 10 // the schema's bounds on all texts that aren't counted here
	n := others + weight(e.Details, other, 0)
	for _, t := range e.Target {
		n += 64 + len(t.Type) + len(t.ID) + len(t.Name)
	}
	if e.Reason != nil {
		n += len(e.Reason.Text)
	}
	if e.Job != nil {
		n += len(e.Job.Schedule) + len(e.Job.ID) + len(e.Job.Name)
	}
	if e.Origin != nil {
		n += len(e.Origin.UserAgent)
		for _, s := range e.Origin.Forwarded {
			n += 3 + len(s)
		}
	}
	if e.Change != nil {
		for _, o := range e.Change.Patch {
			n += len(o.Path) + 40 + weight(o.Value, other, 0)
		}
	}
	for name, s := range e.Labels {
		n += len(name) + len(s) + 6
	}
	return n
}

// weight is how long a value is as JSON at most, but for escapes. A secret that is masked weighs more than any number.
func weight(v any, other, depth int) (n int) {
	if depth > event.MaxDepth {
		return 0
	}
	switch v := v.(type) {
	case nil, bool:
		return 5
	case string:
		if v == Masked {
			return 32
		}
		return len(v) + 3
	case map[string]any:
		for name, member := range v {
			n += len(name) + 4 + weight(member, other, depth+1)
		}
		return n + 2
	case []any:
		for _, element := range v {
			n += 1 + weight(element, other, depth+1)
		}
		return n + 2
	case []string:
		for _, s := range v {
			n += 1 + weight(s, other, depth)
		}
		return n + 2
	case map[string]string:
		for name, s := range v {
			n += len(name) + 4 + weight(s, other, depth)
		}
		return n + 2
	case int, int64, int32, uint64, uint32, float64, json.Number, time.Time:
		return 24
	}
	return other
}
