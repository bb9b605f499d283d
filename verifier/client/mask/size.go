package mask

import (
	"encoding/json"
	"time"

	"github.com/prooftrail/prooftrail/verifier/event"
)

// roomForSeq is what others add to an event that is masked.
const roomForSeq = 64

// tooLarge reports whether an event has become larger than one may be. Few are so large that they have to be written to know.
func tooLarge(e event.Event) bool {
	const most = event.MaxBytes - roomForSeq
	const others = 26 << 10 // the schema's bounds on all texts that aren't counted
	n := others + len(e.Target)*1152 + weight(e.Details, 0) + weight(patchOf(e), 0)
	if e.Origin != nil {
		n += len(e.Origin.Forwarded) * 515
	}
	for name, s := range e.Labels {
		n += len(name) + len(s) + 6
	}
	if n < most/6 { // \u00XX is six bytes for one
		return false
	}
	raw, err := json.Marshal(e)
	return err == nil && len(raw) > most
}

func patchOf(e event.Event) any {
	if e.Change == nil {
		return nil
	}
	all := make([]any, len(e.Change.Patch))
	for i, o := range e.Change.Patch {
		all[i] = map[string]any{o.Path: o.Value}
	}
	return all
}

// weight is about how long a value is as JSON.
func weight(v any, depth int) (n int) {
	if depth > event.MaxDepth {
		return 0
	}
	switch v := v.(type) {
	case nil, bool:
		return 5
	case string:
		return len(v) + 3
	case map[string]any:
		for name, member := range v {
			n += len(name) + 4 + weight(member, depth+1)
		}
		return n + 2
	case []any:
		for _, element := range v {
			n += 1 + weight(element, depth+1)
		}
		return n + 2
	case int, int64, uint64, float64, json.Number, time.Time:
		return 24
	}
	return event.MaxBytes // another type: it has to be written
}
