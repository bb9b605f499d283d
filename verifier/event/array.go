package event

import "strconv"

// Limits of the arrays of the schema.
const (
	maxForwarded = 32
	maxPatch     = 1024
)

// checkForwarded checks /origin/forwarded: addresses as they were claimed, so
// any strings.
func checkForwarded(v []byte) *Error {
	if v[0] != '[' {
		return &Error{Code: CodeType, Expected: "an array of at most 32 strings"}
	}
	return elements(v, maxForwarded, func(element []byte) *Error {
		return forwardedRule.check(element)
	})
}

var forwardedRule = text(0, 512)

// checkPatch checks /change/patch: a JSON Patch (RFC 6902). Only its form is
// checked; it isn't applied. As everywhere, null isn't a value: a source that
// has to show one removes the member, or masks it.
func checkPatch(v []byte) *Error {
	if v[0] != '[' {
		return &Error{Code: CodeType, Expected: "an array of operations of JSON Patch, RFC 6902"}
	}
	return elements(v, maxPatch, checkOperation)
}

var operationRule = oneOf("add", "remove", "replace", "move", "copy", "test")

// An operation is the members of an operation; nil is one that isn't there.
type operation struct{ op, path, from, value []byte }

func checkOperation(v []byte) *Error {
	if v[0] != '{' {
		return &Error{Code: CodeType, Expected: "an object"}
	}
	var o operation
	for v = v[1:]; v[0] != '}'; {
		name := v[:skip(v)]
		v = v[len(name)+1:] // and the colon
		part := v[:skip(v)]
		switch string(name) {
		case `"op"`:
			o.op = part
		case `"path"`:
			o.path = part
		case `"from"`:
			o.from = part
		case `"value"`:
			o.value = part
		default:
			return unknown(unquote(name))
		}
		if v = v[len(part):]; v[0] == ',' {
			v = v[1:]
		}
	}
	return o.check()
}

// check checks the members of an operation together (RFC 6902 section 4).
func (o *operation) check() *Error {
	if o.op == nil {
		return operationRule.refuse(CodeMissing).under("op")
	}
	if err := operationRule.check(o.op); err != nil {
		return err.under("op")
	}
	if err := checkPath(o.path).at("path"); err != nil {
		return err
	}
	var wantValue, wantFrom bool
	switch string(o.op) {
	case `"add"`, `"replace"`, `"test"`:
		wantValue = true
	case `"move"`, `"copy"`:
		wantFrom = true
	}
	switch {
	case o.value != nil && !wantValue:
		return unknown("value")
	case o.from != nil && !wantFrom:
		return unknown("from")
	case o.value == nil && wantValue:
		return (&Error{Code: CodeMissing, Expected: "a value"}).under("value")
	case wantFrom:
		return checkPath(o.from).at("from")
	}
	return nil
}

// checkPath checks a JSON Pointer (RFC 6901 section 3) in a patch.
func checkPath(v []byte) *Error {
	const want = "a JSON Pointer, RFC 6901"
	switch {
	case v == nil:
		return &Error{Code: CodeMissing, Expected: want}
	case v[0] != '"':
		return &Error{Code: CodeType, Expected: want}
	}
	text := textOf(v)
	for i, c := range text {
		ends := i+1 == len(text)
		if i == 0 && c != '/' || c == '~' && (ends || text[i+1] != '0' && text[i+1] != '1') {
			return &Error{Code: CodeFormat, Expected: want}
		}
	}
	return nil
}

// at is under, for an error or none.
func (e *Error) at(token string) *Error {
	if e == nil {
		return nil
	}
	return e.under(token)
}

// elements calls check for each element of a canonical array.
func elements(v []byte, most int, check func([]byte) *Error) *Error {
	v = v[1:]
	for i := 0; v[0] != ']'; i++ {
		if i == most {
			return &Error{Code: CodeSize, Expected: "at most " + strconv.Itoa(most) + " elements"}
		}
		element := v[:skip(v)]
		if err := check(element); err != nil {
			return err.under(strconv.Itoa(i))
		}
		if v = v[len(element):]; v[0] == ',' {
			v = v[1:]
		}
	}
	return nil
}

// skip returns the length of the canonical value at the start of v.
func skip(v []byte) int {
	depth, quoted := 0, false
	for i := 0; i < len(v); i++ {
		c := v[i]
		switch {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
			continue
		case c == '}' || c == ']':
			if depth == 0 {
				return i
			}
			depth--
		case depth == 0 && (c == ',' || c == ':'):
			return i
		}
		if depth == 0 && !quoted && (c == '"' || c == '}' || c == ']') {
			return i + 1
		}
	}
	return len(v)
}
