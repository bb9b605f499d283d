package ingest

import (
	"github.com/prooftrail/prooftrail/verifier/client/mask"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// Mask takes secrets out of what an adapter made: out of texts that people or programs wrote, not out of the
// members that say which event it is (id, source, action) or who and what it is about by id.
func Mask(m *mask.Masker, e *event.Event) {
	text := func(s *string) { *s = m.Text(*s) }
	if e.Reason != nil {
		text(&e.Reason.Text)
	}
	text(&e.Actor.Name)
	if e.Origin != nil {
		text(&e.Origin.UserAgent)
	}
	for i := range e.Target {
		text(&e.Target[i].Name)
	}
	if e.Job != nil {
		text(&e.Job.Name)
	}
	if e.Change != nil {
		for i := range e.Change.Patch {
			p := &e.Change.Patch[i]
			p.Value = maskValue(m, lastToken(p.Path), p.Value)
		}
	}
	for name, value := range e.Labels {
		e.Labels[name] = maskNamed(m, name, value)
	}
	for name, value := range e.Details {
		e.Details[name] = maskValue(m, name, value)
	}
}

// maskValue masks a value of any depth under a name.
func maskValue(m *mask.Masker, name string, v any) any {
	switch v := v.(type) {
	case string:
		return maskNamed(m, name, v)
	case []any:
		maskList(m, name, v)
	case []string:
		for i := range v {
			v[i] = maskNamed(m, name, v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = maskValue(m, k, v[k])
		}
	case map[string]string:
		for k := range v {
			v[k] = maskNamed(m, k, v[k])
		}
	}
	return v
}

// maskList masks a list. One of texts alone may be a command line, where an option names what follows it.
func maskList(m *mask.Masker, name string, list []any) {
	texts := make([]string, 0, len(list))
	for i := range list {
		list[i] = maskValue(m, name, list[i])
		if text, ok := list[i].(string); ok {
			texts = append(texts, text)
		}
	}
	if len(texts) < len(list) {
		return
	}
	for i, text := range m.Args(texts) {
		list[i] = text
	}
}

// maskNamed masks a text, all of it where its name is a secret's.
func maskNamed(m *mask.Masker, name, text string) string {
	return m.Args([]string{"--" + name, text})[1]
}

func lastToken(pointer string) string {
	for i := len(pointer) - 1; i >= 0; i-- {
		if pointer[i] == '/' {
			return pointer[i+1:]
		}
	}
	return pointer
}
