package kubernetes

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/prooftrail/prooftrail/personality/ingest/foreign"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// meta is the metadata of the object in a request, as far as it is read.
//
// What is read of a request's object is read by names as they are: encoding/json takes Suspend for suspend, and the API server doesn't. A patch comes as its
// sender wrote it, who could have us read another one than the API server did.
type meta struct {
	name, generateName, due string
	owners                  []any
}

// owner is the name of the owner of a kind of the group batch, "" if there is none.
func (m *meta) owner(kind string) string {
	for _, o := range m.owners {
		if version, ok := foreign.At(o, "apiVersion").(string); ok && !strings.HasPrefix(version, "batch/") {
			continue
		}
		if foreign.At(o, "kind") == kind {
			return text(o, "name")
		}
	}
	return ""
}

// text is the string at a path of members; "" if there is none.
func text(v any, path ...string) string {
	s, _ := foreign.At(v, path...).(string)
	return s
}

// scheduledFor is when a job was due; the zero time if that isn't said.
func (m *meta) scheduledFor(name string) time.Time {
	t, err := time.Parse(time.RFC3339, m.due)
	if err == nil && (moment{t}).usable() {
		return t.UTC()
	}
	if s := scheduledName.FindStringSubmatch(name); s != nil {
		if minute, err := strconv.ParseInt(s[2], 10, 64); err == nil {
			return time.Unix(minute*60, 0).UTC()
		}
	}
	return time.Time{}
}

// requestMeta reads what the request's object says of itself; nothing if it isn't there, or is no object.
func (a *audit) requestMeta() meta {
	m := foreign.At(a.requested(), "metadata")
	owners, _ := foreign.At(m, "ownerReferences").([]any)
	return meta{name: text(m, "name"), generateName: text(m, "generateName"), due: text(m, "annotations", "batch.kubernetes.io/cronjob-scheduled-timestamp"), owners: owners}
}

type cronSpec struct {
	Schedule, TimeZone string
	Suspend            *bool
}

// cronSpec reads a CronJob's, from an object, a merge patch or a JSON patch.
func (a *audit) cronSpec() (s cronSpec) {
	spec := map[string]any{}
	if ops, ok := a.jsonPatch(); ok {
		for _, op := range ops {
			if name, ok := strings.CutPrefix(op.Path, "/spec/"); ok && (op.Op == "add" || op.Op == "replace") {
				spec[name] = op.Value
			}
		}
	} else {
		spec, _ = foreign.At(a.requested(), "spec").(map[string]any)
	}
	s.Schedule, s.TimeZone = text(spec, "schedule"), text(spec, "timeZone")
	if suspend, ok := spec["suspend"].(bool); ok { // not a boolean: the API server refuses it too
		s.Suspend = &suspend
	}
	return s
}

// patchOp is an operation of a JSON patch.
type patchOp struct {
	Op, Path, From string
	Value          any
}

func (a *audit) jsonPatch() (ops []patchOp, ok bool) {
	if a.Verb != "patch" || len(a.Request) == 0 || a.Request[0] != '[' {
		return nil, false
	}
	list, ok := a.requested().([]any)
	for _, o := range list {
		if _, is := o.(map[string]any); !is {
			return nil, false
		}
		ops = append(ops, patchOp{text(o, "op"), text(o, "path"), text(o, "from"), foreign.At(o, "value")})
	}
	return ops, ok
}

// patchesOnlySuspend reports whether a patch changes spec.suspend and nothing else.
func (a *audit) patchesOnlySuspend() bool {
	if ops, ok := a.jsonPatch(); ok {
		for _, op := range ops {
			if op.Path != "/spec/suspend" || op.Op != "add" && op.Op != "replace" && op.Op != "test" {
				return false
			}
		}
		return true
	}
	o, _ := a.requested().(map[string]any)
	spec, _ := o["spec"].(map[string]any)
	_, has := spec["suspend"]
	return has && len(o) == 1 && len(spec) == 1
}

// finished reads the condition of a Job's status that ends it: failed is nil if it succeeded.
func (a *audit) finished() (failed *event.Reason, final bool) {
	if a.Ref == nil || a.Ref.APIGroup != "batch" || a.Ref.Resource != "jobs" || a.Ref.Subresource != "status" {
		return nil, false
	}
	conditions, _ := foreign.At(a.requested(), "status", "conditions").([]any)
	for _, c := range conditions {
		switch kind := text(c, "type"); {
		case text(c, "status") != "True":
		case kind == "Complete":
			final = true
		case kind == "Failed":
			code := text(c, "reason")
			if !token.MatchString(code) {
				code = "Failed"
			}
			return &event.Reason{Code: code}, true
		}
	}
	return nil, final
}

// change is what the request would have changed, if the audit policy records objects: a JSON patch as it came, another patch as one of the
// paths that it names, and an object as one that sets its spec, roleRef, subjects and rules.
func (a *audit) change() *event.Change {
	if a.left > 0 {
		return leftOut(a.left)
	}
	if a.Stage != stageComplete || len(a.Request) == 0 || a.Verb == "delete" || a.Verb == "deletecollection" {
		return nil
	}
	var p []event.Operation
	if ops, ok := a.jsonPatch(); ok {
		if len(ops) > maxOperations {
			return leftOut(len(a.Request))
		}
		p = jsonPatchOperations(ops)
	} else if o, ok := a.requested().(map[string]any); ok && a.Verb == "patch" {
		p = mergeOperations(nil, "", o, 0)
	} else if ok {
		for _, name := range []string{"spec", "roleRef", "subjects", "rules"} {
			if v, has := o[name]; has {
				p = append(p, event.Operation{Op: "add", Path: "/" + name, Value: fit(v, valueDepth)})
			}
		}
	}
	if len(p) == 0 {
		return nil
	}
	if b, err := json.Marshal(p); err != nil || len(p) > maxOperations || len(b) > maxChange {
		return leftOut(len(a.Request))
	}
	return &event.Change{Patch: p}
}

// leftOut stands for a change that is too long.
func leftOut(bytes int) *event.Change {
	return &event.Change{Patch: []event.Operation{{Op: "replace", Path: "", Value: "[left out: " + strconv.Itoa(bytes) + " bytes]"}}}
}

const (
	maxOperations = 256
	maxChange     = 80 << 10 // bytes of JSON; masking may double them, and the event has 256 KiB
	valueDepth    = 11       // levels of a value in a patch, so that the event has 16
	mergeDepth    = 6        // levels of a merge patch that are taken apart into paths
)

func jsonPatchOperations(ops []patchOp) (p []event.Operation) {
	for _, op := range ops {
		o := event.Operation{Op: op.Op, Path: op.Path}
		switch op.Op {
		case "add", "replace", "test":
			o.Value = fit(op.Value, valueDepth)
		case "move", "copy":
			o.From = op.From
		case "remove":
		default: // the API server refuses it too
			o = event.Operation{Op: "test", Path: "", Value: "[no operation of JSON Patch]"}
		}
		if !pointer(o.Path) || !pointer(o.From) {
			o = event.Operation{Op: "test", Path: "", Value: "[no JSON Pointer]"}
		}
		p = append(p, o)
	}
	return p
}

// pointer reports whether a text is a JSON Pointer.
func pointer(s string) bool {
	if s == "" {
		return true
	}
	rest := strings.NewReplacer("~0", "", "~1", "").Replace(s)
	return s[0] == '/' && !strings.Contains(rest, "~")
}

// mergeOperations takes a merge patch apart: null removes, an object names members, anything else is a new value.
func mergeOperations(p []event.Operation, at string, o map[string]any, depth int) []event.Operation {
	for _, name := range sortedNames(o) {
		path := at + "/" + foreign.EscapeToken(name)
		switch v := o[name].(type) {
		case nil:
			p = append(p, event.Operation{Op: "remove", Path: path})
		case map[string]any:
			if depth < mergeDepth && len(v) > 0 {
				p = mergeOperations(p, path, v, depth+1)
				continue
			}
			p = append(p, event.Operation{Op: "replace", Path: path, Value: fit(v, valueDepth)})
		default:
			p = append(p, event.Operation{Op: "replace", Path: path, Value: fit(v, valueDepth)})
		}
		if len(p) > maxOperations {
			break
		}
	}
	return p
}

// requested is the request's object, read once; nil if it isn't there, or isn't JSON. Whoever asks for it doesn't change it.
func (a *audit) requested() any {
	if !a.read {
		a.read, a.tree = true, decode(a.Request)
	}
	return a.tree
}

// decode reads JSON with its numbers as they are; nil if it isn't JSON.
func decode(raw []byte) (v any) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if d.Decode(&v) != nil {
		return nil
	}
	return v
}
