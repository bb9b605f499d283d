package event

import (
	"strings"
	"unicode/utf8"
)

// The codes of refusals. They are stable: programs may branch on them.
const (
	CodeSyntax    = "syntax"    // not JSON (RFC 8259), or something behind the value
	CodeUTF8      = "utf8"      // not UTF-8, or an unpaired surrogate
	CodeDuplicate = "duplicate" // a member's name comes twice in its object
	CodeDepth     = "depth"     // arrays and objects nested deeper than MaxDepth
	CodeNull      = "null"      // null, which the format doesn't know
	CodeNumber    = "number"    // not an integer within ±MaxInteger in its one spelling
	CodeName      = "name"      // a member's name outside the grammar of labels and details
	CodeUnknown   = "unknown"   // a member that the schema doesn't have
	CodeReserved  = "reserved"  // a member or value that only the server may set
	CodeMissing   = "missing"   // a member that is needed isn't there
	CodeType      = "type"      // another JSON type than the schema's
	CodeFormat    = "format"    // a string outside the member's grammar
	CodeEnum      = "enum"      // a string that isn't one of the member's values
	CodeRange     = "range"     // a number or a time outside the member's range
	CodeSize      = "size"      // too long, too short, too many
	CodeEmpty     = "empty"     // an empty object or array where something must be
	CodeOrder     = "order"     // fields that aren't strictly increasing by pointer
)

// maxToken is how many bytes of a member's name an Error repeats.
const maxToken = 128

// Error is a refusal: which member, in what way, and what was expected there.
// It never contains the refused value, so that it can be logged and sent back;
// it can contain names of members, cut to 128 bytes.
//
// Where something has several faults, which one is named isn't specified.
type Error struct {
	Pointer  string // RFC 6901; "" is the whole
	Code     string // one of the Code constants
	Expected string // what would have been accepted, for people
}

// Error says all three in one line.
func (e *Error) Error() string {
	where := e.Pointer
	if where == "" {
		where = "(whole)"
	}
	return where + ": " + e.Code + ": expected " + e.Expected
}

// under returns e as seen from one level up, where the thing it speaks of is
// the member or element called token.
func (e *Error) under(token string) *Error {
	e.Pointer = "/" + escapeToken(token) + e.Pointer
	return e
}

// escapeToken writes a reference token of a JSON Pointer (RFC 6901 section 3):
// "'~' needs to be encoded as '~0' and '/' needs to be encoded as '~1'".
func escapeToken(token string) string {
	if len(token) > maxToken {
		token = token[:maxToken]
		for len(token) > 0 && !utf8.ValidString(token) {
			token = token[:len(token)-1]
		}
		token += "…"
	}
	if !strings.ContainsAny(token, "~/") {
		return token
	}
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(token)
}
