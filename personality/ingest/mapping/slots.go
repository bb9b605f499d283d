package mapping

import (
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/prooftrail/prooftrail/verifier/event"
)

// A kind is what a member of an event holds.
type kind int

const (
	kindText    kind = iota // texts; numbers are written as such
	kindMoment              // a time
	kindInteger             // an integer
	kindAny                 // checked by the schema alone
)

// notTheirs are the top-level members that a mapping doesn't set.
var notTheirs = []string{"schema", "source", "tenant", "received_at", "ingest"}

// slots are the members that a mapping may set, by name: "id", "actor.type". Of target it is those of one
// element. Labels and details are open.
var slots = func() map[string]kind {
	all := map[string]kind{}
	addSlots(all, "", reflect.TypeFor[event.Event]())
	return all
}()

func addSlots(all map[string]kind, prefix string, of reflect.Type) {
	for f := range of.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		t := f.Type
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if prefix == "" && (slices.Contains(notTheirs, name) || t.Kind() == reflect.Map) {
			continue
		}
		switch {
		case t == reflect.TypeFor[time.Time]():
			all[prefix+name] = kindMoment
		case t == reflect.TypeFor[[]event.Target]():
			addSlots(all, "target.", t.Elem())
		case t.Kind() == reflect.Struct:
			addSlots(all, name+".", t)
		case t.Kind() == reflect.String:
			all[prefix+name] = kindText
		case t.Kind() == reflect.Int, t.Kind() == reflect.Int64:
			all[prefix+name] = kindInteger
		default:
			all[prefix+name] = kindAny
		}
	}
}
