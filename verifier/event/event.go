package event

import (
	"slices"
	"strconv"
	"strings"
)

// Schema is the schema's name, the value of the member schema.
const Schema = "prooftrail.event/1"

// Limits of version 1. They never change.
const (
	MaxBytes   = 256 << 10 // of a submitted event, as it was sent
	MaxDepth   = 16        // of arrays and objects, the event itself being 1
	MaxFields  = 256       // of a submitted event
	MaxTargets = 32        // elements of target
	MaxInteger = 1<<53 - 1 // of a number, either sign (RFC 7493 section 2.2)

	// MaxStampedBytes bounds a whole event: the sum of the lengths of its
	// pointers and canonical values. It is more than MaxBytes for the server's
	// members, and for events of the service's own that quote a submitted one: as
	// a JSON string, it may be twice as long.
	MaxStampedBytes = 640 << 10
)

// maxStampedText bounds what ParseStamped takes. Canonical form is shorter than
// what many an encoder writes, which makes six bytes of a "<".
const maxStampedText = 4 << 20

// maxServerFields is how many fields the server may add.
const maxServerFields = 7

// A Field is one separately committed part of an event.
type Field struct {
	Pointer string // its place in the event, RFC 6901
	Value   []byte // canonical JSON, RFC 8785; nil if it is withheld
}

// text returns the value if it is a string, else "".
func (f *Field) text() string {
	if len(f.Value) < 2 || f.Value[0] != '"' {
		return ""
	}
	return unquote(f.Value)
}

// Fields are an event in the form that is sealed: pointers strictly
// increasing by bytes, values canonical. Parse, ParseStamped and Stamp make
// them. They are not to be changed afterwards: values share memory.
type Fields []Field

// Parse reads an event as a source may submit it and checks all of it: text,
// schema, and that it leaves alone what is the server's (tenant, received_at,
// ingest, audit.* actions but those of an Account, sources with the scheme
// prooftrail). Any error is an *Error. data is not kept.
func Parse(data []byte) (Fields, error) {
	return parse(data, MaxBytes, MaxFields, submitted)
}

// ParseStamped reads and checks a whole event, with the server's members: an
// exported one, or one of the service's own. Any error is an *Error.
func ParseStamped(data []byte) (Fields, error) {
	return parse(data, maxStampedText, MaxFields+maxServerFields, stamped)
}

func parse(data []byte, maxBytes, maxFields int, at stage) (Fields, error) {
	if len(data) > maxBytes {
		return nil, &Error{Code: CodeSize, Expected: "at most " + strconv.Itoa(maxBytes) + " bytes"}
	}
	f, err := split(data, maxFields, at)
	if err != nil {
		return nil, err
	}
	if at == submitted && isAccount([]byte(f.Text("/action"))) {
		if _, err := parseAccount(f); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// Validate checks fields against the schema of a whole event. The values must
// be canonical JSON, as Parse and Reader give them. Any error is an *Error.
func Validate(f Fields) error {
	if err := check(f, stamped); err != nil {
		return err
	}
	return nil
}

// Get returns the canonical value of the field at pointer.
func (f Fields) Get(pointer string) ([]byte, bool) {
	i, ok := slices.BinarySearchFunc(f, pointer, func(a Field, p string) int { return strings.Compare(a.Pointer, p) })
	if !ok {
		return nil, false
	}
	return f[i].Value, true
}

// Text returns the string that the field at pointer holds; "" if there is no
// such field or it isn't a string.
func (f Fields) Text(pointer string) string {
	v, _ := f.Get(pointer)
	field := Field{pointer, v}
	return field.text()
}

// IsServer reports whether the field at pointer is one that only the server
// sets: /tenant, /received_at, /ingest/….
func IsServer(pointer string) bool {
	return pointer == "/tenant" || pointer == "/received_at" || strings.HasPrefix(pointer, "/ingest/")
}

// Submitted returns the fields without the server's.
func (f Fields) Submitted() Fields {
	out := make(Fields, 0, len(f))
	for _, field := range f {
		if !IsServer(field.Pointer) {
			out = append(out, field)
		}
	}
	return out
}
