package kubernetes

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"

	"github.com/prooftrail/prooftrail/personality/ingest"
)

// list is an EventList, or an Event alone. Those in a list lack kind and version, and are kept alone as they came.
type list struct {
	Kind, APIVersion, AuditID *string
	Items                     []json.RawMessage
}

var errObject = errors.New("expected an object")

// split takes a body apart. It stops at ingest.MaxItems items: encoding/json alone would make an array of however many there are.
func split(body []byte) (l list, err error) {
	d := json.NewDecoder(bytes.NewReader(body))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return l, errors.Join(err, errObject)
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return l, err
		}
		switch name {
		case "kind":
			err = d.Decode(&l.Kind)
		case "apiVersion":
			err = d.Decode(&l.APIVersion)
		case "auditID":
			err = d.Decode(&l.AuditID)
		case "items":
			l.Items, err = splitItems(d)
		default:
			var ignored json.RawMessage
			err = d.Decode(&ignored)
		}
		if err != nil {
			return l, err
		}
	}
	if _, err := d.Token(); err != nil { // the closing brace
		return l, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return l, errors.New("expected nothing behind the object")
	}
	return l, nil
}

func splitItems(d *json.Decoder) (items []json.RawMessage, err error) {
	t, err := d.Token()
	if err != nil || t == nil { // null
		return nil, err
	}
	if t != json.Delim('[') {
		return nil, errors.New("items: expected an array")
	}
	for d.More() {
		if len(items) == ingest.MaxItems {
			return nil, ingest.ErrTooManyItems
		}
		var item json.RawMessage
		if err := d.Decode(&item); err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	_, err = d.Token()
	return items, err
}
