package otlp

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/prooftrail/prooftrail/personality/ingest/foreign"
)

// attributes are what foreign.ParseJSON would make of them.
type attributes map[string]any

// readAttributes converts attributes. pdata keeps bytes that aren't UTF-8, and keys that come twice ("It MUST NOT be possible to have
// more than one entry with the same key"). An error names the one in which it is, below what they are the attributes of.
func readAttributes(m pcommon.Map) (attributes, error) {
	out := make(attributes, m.Len())
	for name, v := range m.All() {
		if _, twice := out[name]; twice || !utf8.ValidString(name) {
			return out, within(name, foreign.Errorf("", "each key once, in UTF-8"))
		}
		value, err := readValue(v)
		if err != nil {
			return out, within(name, err)
		}
		out[name] = value
	}
	return out, nil
}

// within names what an error is in, once there is one: a path for each attribute would be many times the request.
func within(name string, err error) error {
	var e *foreign.Error
	if errors.As(err, &e) && len(e.Member) < 512 {
		if name = foreign.Clip(strings.ToValidUTF8(name, "\ufffd"), 128); e.Member != "" {
			name += "."
		}
		e.Member = name + e.Member
	}
	return err
}

func readValue(v pcommon.Value) (any, error) {
	switch v.Type() {
	case pcommon.ValueTypeStr:
		if !utf8.ValidString(v.Str()) {
			return nil, foreign.Errorf("", "UTF-8")
		}
		return v.Str(), nil
	case pcommon.ValueTypeBool:
		return v.Bool(), nil
	case pcommon.ValueTypeInt:
		return json.Number(strconv.FormatInt(v.Int(), 10)), nil
	case pcommon.ValueTypeDouble:
		// As text: JSON has no NaN, and an event no fractions.
		return strconv.FormatFloat(v.Double(), 'g', -1, 64), nil
	case pcommon.ValueTypeBytes:
		return base64.StdEncoding.EncodeToString(v.Bytes().AsRaw()), nil
	case pcommon.ValueTypeMap:
		m, err := readAttributes(v.Map())
		return map[string]any(m), err
	case pcommon.ValueTypeSlice:
		list := make([]any, 0, v.Slice().Len())
		for i, e := range v.Slice().All() {
			value, err := readValue(e)
			if err != nil {
				return nil, within(strconv.Itoa(i), err)
			}
			list = append(list, value)
		}
		return list, nil
	}
	return nil, nil
}

// take returns an attribute as text and takes it out of the rest; "" if it isn't there.
func (a attributes) take(name string, limit int) string {
	s := foreign.Text(map[string]any(a), limit, name)
	if s != "" {
		delete(a, name)
	}
	return s
}

// takeInt is take for an integer, which may be written as a string.
func (a attributes) takeInt(name string) (*int64, error) {
	v, there := a[name]
	if !there {
		return nil, nil
	}
	n, err := strconv.ParseInt(foreign.Text(map[string]any(a), 32, name), 10, 64)
	if err != nil || v == nil {
		return nil, foreign.Errorf("attributes."+name, "an integer")
	}
	delete(a, name)
	return &n, nil
}
