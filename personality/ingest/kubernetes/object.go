package kubernetes

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/prooftrail/prooftrail/verifier/event"
)

// meta is the metadata of the object in a request, as far as it is read.
type meta struct {
	Name         string            `json:"name"`
	GenerateName string            `json:"generateName"`
	Annotations  map[string]string `json:"annotations"`
	Owners       []struct {
		Kind       string `json:"kind"`
		Name       string `json:"name"`
		Controller *bool  `json:"controller"`
	} `json:"ownerReferences"`
}

// owner is the name of the owner of a kind, "" if there is none.
func (m *meta) owner(kind string) string {
	for _, o := range m.Owners {
		if o.Kind == kind {
			return o.Name
		}
	}
	return ""
}

// scheduledFor is when a job was due; the zero time if that isn't said.
func (m *meta) scheduledFor(name string) time.Time {
	t, err := time.Parse(time.RFC3339, m.Annotations["batch.kubernetes.io/cronjob-scheduled-timestamp"])
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
	var o struct {
		Metadata meta `json:"metadata"`
	}
	if json.Unmarshal(a.Request, &o) != nil {
		return meta{}
	}
	return o.Metadata
}

type cronSpec struct {
	Schedule string `json:"schedule"`
	TimeZone string `json:"timeZone"`
	Suspend  *bool  `json:"suspend"`
}

// cronSpec reads a CronJob's, from an object, a merge patch or a JSON patch.
func (a *audit) cronSpec() (s cronSpec) {
	if ops, ok := a.jsonPatch(); ok {
		for _, op := range ops {
			switch op.Path {
			case "/spec/suspend":
				_ = json.Unmarshal(op.Value, &s.Suspend) // not a boolean: the API server refuses it too
			case "/spec/schedule":
				_ = json.Unmarshal(op.Value, &s.Schedule)
			case "/spec/timeZone":
				_ = json.Unmarshal(op.Value, &s.TimeZone)
			}
		}
		return s
	}
	var o struct {
		Spec cronSpec `json:"spec"`
	}
	if json.Unmarshal(a.Request, &o) != nil {
		return cronSpec{}
	}
	return o.Spec
}

// patchOp is an operation of a JSON patch.
type patchOp struct {
	Op    string          `json:"op"`
	Path  string          `json:"path"`
	From  string          `json:"from"`
	Value json.RawMessage `json:"value"`
}

func (a *audit) jsonPatch() (ops []patchOp, ok bool) {
	if a.Verb != "patch" || len(a.Request) == 0 || a.Request[0] != '[' {
		return nil, false
	}
	return ops, json.Unmarshal(a.Request, &ops) == nil
}

// patchesOnlySuspend reports whether a patch changes spec.suspend and nothing else.
func (a *audit) patchesOnlySuspend() bool {
	if ops, ok := a.jsonPatch(); ok {
		for _, op := range ops {
			if op.Path != "/spec/suspend" {
				return false
			}
		}
		return true
	}
	var o map[string]json.RawMessage
	var spec map[string]json.RawMessage
	if json.Unmarshal(a.Request, &o) != nil || json.Unmarshal(o["spec"], &spec) != nil {
		return false
	}
	return len(o) == 1 && len(spec) == 1
}

// finished reads the condition of a Job's status that ends it: failed is nil if it succeeded.
func (a *audit) finished() (failed *event.Reason, final bool) {
	if a.Ref == nil || a.Ref.APIGroup != "batch" || a.Ref.Resource != "jobs" || a.Ref.Subresource != "status" {
		return nil, false
	}
	var o struct {
		Status struct {
			Conditions []struct {
				Type   string `json:"type"`
				Status string `json:"status"`
				Reason string `json:"reason"`
			} `json:"conditions"`
		} `json:"status"`
	}
	if json.Unmarshal(a.Request, &o) != nil {
		return nil, false
	}
	for _, c := range o.Status.Conditions {
		switch {
		case c.Status != "True":
		case c.Type == "Complete":
			final = true
		case c.Type == "Failed":
			code := c.Reason
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
		p = jsonPatchOperations(ops)
	} else if o, ok := decode(a.Request).(map[string]any); ok && a.Verb == "patch" {
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
			o.Value = fit(decode(op.Value), valueDepth)
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
		path := at + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
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

// decode reads JSON with its numbers as they are; nil if it isn't JSON.
func decode(raw []byte) (v any) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if d.Decode(&v) != nil {
		return nil
	}
	return v
}
