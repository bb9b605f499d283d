package mask

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"

	"github.com/prooftrail/prooftrail/verifier/event"
)

// maxTextDepth is how deep JSON in a text may be for its members to be seen.
const maxTextDepth = 64

// json masks a text that is JSON, whose spaces and order it loses if there is a secret in it. It reports whether it is JSON.
func (m *Masker) json(s string) (string, bool) {
	v, err := decode(s)
	if err != nil {
		return s, false
	}
	masked, ok := m.value(v, false, event.MaxDepth-maxTextDepth)
	if !ok {
		return s, true
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(masked); err != nil {
		return s, false
	}
	return strings.TrimSuffix(b.String(), "\n"), true
}

// decode reads one JSON value in which no name comes twice: of two, a reader may take either.
func decode(s string) (any, error) {
	d := json.NewDecoder(strings.NewReader(s))
	d.UseNumber()
	v, err := decodeValue(d, maxTextDepth)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one value")
	}
	return v, nil
}

func decodeValue(d *json.Decoder, depth int) (any, error) {
	t, err := d.Token()
	switch {
	case err != nil:
		return nil, err
	case depth == 0:
		return nil, errors.New("too deep")
	case t == json.Delim('{'):
		return decodeObject(d, depth-1)
	case t == json.Delim('['):
		all := []any{}
		for d.More() {
			v, err := decodeValue(d, depth-1)
			if err != nil {
				return nil, err
			}
			all = append(all, v)
		}
		_, err := d.Token()
		return all, err
	}
	return t, nil
}

func decodeObject(d *json.Decoder, depth int) (any, error) {
	all := map[string]any{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		name, ok := t.(string)
		if !ok {
			return nil, errors.New("expected a name")
		}
		if _, ok := all[name]; ok {
			return nil, errors.New("a name that comes twice")
		}
		if all[name], err = decodeValue(d, depth); err != nil {
			return nil, err
		}
	}
	_, err := d.Token()
	return all, err
}
