package ocsf

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/prooftrail/prooftrail/personality/ingest/foreign"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// about says what it was done to.
func (m *mapping) about() error {
	switch m.uid {
	case classJob:
		return m.job()
	case classChange:
		return m.needs("user", "account")
	case classEntity:
		return m.entity()
	case classAuth:
		if err := m.needs("user", "account"); err != nil {
			return err
		}
		if id := cmp.Or(m.text("service", "uid"), m.text("service", "name"), m.text("dst_endpoint", "uid"),
			m.text("dst_endpoint", "hostname"), m.text("dst_endpoint", "svc_name"), m.text("dst_endpoint", "ip")); id != "" {
			m.e.Target = append(m.e.Target, event.Target{Type: "service", ID: id})
		}
	case classAPI:
		return m.resources()
	}
	return nil
}

// needs makes a target of the object that the class is about. Products leave out its type or its uid.
func (m *mapping) needs(name, kind string) error {
	id := userID(m.all[name])
	if id == "" {
		return foreign.Errorf("/"+name, "an object with a uid or a name")
	}
	m.e.Target = []event.Target{{Type: kind, ID: id, Name: m.text(name, "name")}}
	return nil
}

// entity is the managed entity, whose uid and name may be those of the object that it has of its type.
func (m *mapping) entity() error {
	entity := m.all["entity"]
	for _, name := range []string{"", "device", "user", "group", "org", "policy", "email", "location"} {
		of := entity
		if name != "" {
			of = foreign.At(entity, name)
		}
		if id := userID(of); id != "" {
			m.e.Target = []event.Target{{Type: foreign.Token(m.text("entity", "type"), cmp.Or(name, "entity")), ID: id, Name: foreign.Text(of, 512, "name")}}
			return nil
		}
	}
	return foreign.Errorf("/entity", "an object with a uid or a name, or with an object of its type that has one")
}

func (m *mapping) job() error {
	j := event.Job{ID: cmp.Or(m.text("job", "uid"), m.text("job", "name")), Name: m.text("job", "name")}
	if j.ID == "" {
		return foreign.Errorf("/job", "an object with a uid or a name")
	}
	j.Node = cmp.Or(m.text("device", "hostname"), m.text("device", "name"))
	m.e.Job = &j
	m.e.Target = []event.Target{{Type: "job", ID: j.ID, Name: j.Name}}
	return nil
}

// resources are those of an API's call, at most 31, and the operation.
func (m *mapping) resources() error {
	operation := m.text("api", "operation")
	if operation == "" {
		return foreign.Errorf("/api/operation", "the name of an operation")
	}
	list, _ := m.all["resources"].([]any)
	for _, v := range list {
		id := userID(v)
		if id == "" || len(m.e.Target) == event.MaxTargets-1 {
			continue
		}
		m.e.Target = append(m.e.Target, event.Target{Type: foreign.Token(foreign.Text(v, 512, "type"), "resource"), ID: id, Name: foreign.Text(v, 512, "name")})
	}
	m.e.Target = append(m.e.Target, event.Target{Type: "operation", ID: operation, Name: m.text("api", "service", "name")})
	return nil
}

// maxPatch bounds the operations of a change: an event may have 1,024.
const maxPatch = 1024

// change says what an update changed. It has no digests: one of what is masked here would let the secret be guessed.
func (m *mapping) change() {
	if !strings.HasSuffix(m.e.Action, ".update") {
		return
	}
	before, _ := m.all[m.class.before].(map[string]any)
	last := before
	for _, name := range m.class.after {
		after, ok := m.all[name].(map[string]any)
		if !ok {
			continue
		}
		if patch := difference(foreign.Details(before), foreign.Details(after)); len(patch) > 0 && len(patch) <= maxPatch {
			m.e.Change = &event.Change{Patch: patch}
			return
		}
		last = after
	}
	if last == nil {
		last, _ = m.all["api"].(map[string]any)
	}
	whole := foreign.Details(last)
	if whole == nil {
		whole = map[string]any{}
	}
	m.e.Change = &event.Change{Patch: []event.Operation{{Op: "replace", Value: whole}}}
}

// difference is the JSON Patch from one object to another, by members.
func difference(before, after map[string]any) (patch []event.Operation) {
	for _, name := range slices.Sorted(maps.Keys(before)) {
		switch to, ok := after[name]; {
		case !ok:
			patch = append(patch, event.Operation{Op: "remove", Path: "/" + name})
		case !reflect.DeepEqual(before[name], to):
			patch = append(patch, event.Operation{Op: "replace", Path: "/" + name, Value: to})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(after)) {
		if _, there := before[name]; !there {
			patch = append(patch, event.Operation{Op: "add", Path: "/" + name, Value: after[name]})
		}
	}
	return patch
}
