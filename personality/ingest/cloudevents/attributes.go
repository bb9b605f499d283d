package cloudevents

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strings"
	"time"

	"github.com/prooftrail/prooftrail/personality/ingest/foreign"
)

// A cloudEvent is one that has been checked: what is needed is there, and what is there has its type.
type cloudEvent struct {
	id, source, kind, subject string
	time                      time.Time      // zero if it has none
	attributes                map[string]any // all, as they came
	contentType               string

	data    any    // JSON, if hasData and bytes is nil
	bytes   []byte // data that came in base64
	hasData bool
}

// parse reads a CloudEvent in JSON format.
func parse(raw []byte, budget *foreign.Budget) (*cloudEvent, error) {
	all, err := foreign.ParseObject(raw, budget)
	if err != nil {
		return nil, err
	}
	c := &cloudEvent{attributes: all}
	if c.data, c.hasData = all["data"]; c.hasData {
		delete(all, "data")
	}
	encoded, inBase64 := all["data_base64"]
	delete(all, "data_base64")
	for name, v := range all {
		if v == nil { // "A JSON null value is […] unset" (section 2.2)
			delete(all, name)
			continue
		}
		if err := checkAttribute(name, v); err != nil {
			return nil, err
		}
	}
	if err := c.core(); err != nil {
		return nil, err
	}
	if inBase64 {
		return c, c.decode(encoded)
	}
	return c, nil
}

// checkAttribute checks a name ("MUST consist of lower-case letters ('a' to 'z') or digits") and that the
// value has a type that JSON gives attributes.
func checkAttribute(name string, v any) error {
	member := "/" + foreign.EscapeToken(foreign.Clip(name, 128))
	if name == "" || len(name) > 128 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		return foreign.Errorf(member, "a name of 1 to 128 lower-case letters and digits")
	}
	switch v := v.(type) {
	case string, bool:
		return nil
	case json.Number:
		if _, err := v.Int64(); err == nil {
			return nil
		}
	}
	return foreign.Errorf(member, "a string, true, false or an integer")
}

// core reads the attributes of the specification itself.
func (c *cloudEvent) core() error {
	for _, a := range []struct {
		name   string
		to     *string
		needed bool
	}{
		{"specversion", new(string), true}, {"id", &c.id, true}, {"source", &c.source, true}, {"type", &c.kind, true},
		{"subject", &c.subject, false}, {"datacontenttype", &c.contentType, false}, {"dataschema", new(string), false},
		{"time", new(string), false},
	} {
		v, there := c.attributes[a.name]
		s, ok := v.(string)
		if there && (!ok || s == "") || !there && a.needed {
			return foreign.Errorf("/"+a.name, "a string that isn't empty")
		}
		*a.to = s
	}
	if c.attributes["specversion"] != "1.0" {
		return foreign.Errorf("/specversion", `"1.0"`)
	}
	if _, err := url.Parse(c.source); err != nil {
		return foreign.Errorf("/source", "a URI reference")
	}
	if text, ok := c.attributes["time"].(string); ok {
		t, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return foreign.Errorf("/time", "a time of RFC 3339")
		}
		c.time = t
	}
	return nil
}

// decode reads data_base64.
func (c *cloudEvent) decode(encoded any) error {
	text, ok := encoded.(string)
	if c.hasData || !ok {
		return foreign.Errorf("/data_base64", "a string, and no data beside it")
	}
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return foreign.Errorf("/data_base64", "base64 of RFC 4648 section 4")
	}
	c.hasData, c.bytes = true, b
	return nil
}

// text returns an attribute as a string; "" if it isn't there.
func (c *cloudEvent) text(name string) string {
	return foreign.Text(c.attributes, 512, name)
}
