package seal

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"

	"github.com/prooftrail/prooftrail/verifier/event"
)

// An Envelope is an event as a source that signs hands it in: with the salts
// that it has chosen and its signature. Its JSON is
//
//	{"event": E, "salts": {pointer: salt, …}, "signature": text}
//
// with event first, and no other member. It signs nothing by itself: Check says
// whether its parts belong together.
type Envelope struct {
	Event     []byte      // E as it was sent, which event.Parse reads
	Salts     ChosenSalts // one for each field of it
	Signature string      // as SignSource makes it
}

// MaxEnvelopeBytes is room for the largest event, a salt for each of its
// fields, and the longest signature.
const MaxEnvelopeBytes = event.MaxBytes + 64<<10

// CodeSignature is the code of an EnvelopeError for a signature that is wrong.
const CodeSignature = "signature"

// EnvelopeError is a refusal of what stands around an event: an event.Error but
// that its pointer is within the envelope.
type EnvelopeError struct {
	Pointer  string // RFC 6901; "" is the whole
	Code     string // a code of event.Error, CodeSalt, or CodeSignature
	Expected string // what would have been accepted, for people
}

// Error says all three in one line.
func (e *EnvelopeError) Error() string { return "envelope: " + (*event.Error)(e).Error() }

// IsEnvelope reports whether a JSON text is an envelope rather than an event:
// an event has no member of that name. It looks at the first name only.
func IsEnvelope(data []byte) bool { return afterEventName(data) > 0 }

// eventName is the first name of an envelope.
var eventName = []byte(`"event"`)

// afterEventName returns where the value of the first member is, if that is
// event; 0 if it isn't. Another spelling of the name is none.
func afterEventName(data []byte) int {
	i := space(data, 0)
	if i == len(data) || data[i] != '{' {
		return 0
	}
	if i = space(data, i+1); !bytes.HasPrefix(data[i:], eventName) {
		return 0
	}
	if i = space(data, i+len(eventName)); i == len(data) || data[i] != ':' {
		return 0
	}
	return space(data, i+1)
}

// space returns the first place from i on without the whitespace of JSON.
func space(data []byte, i int) int {
	for i < len(data) && (data[i] == ' ' || data[i] == '\t' || data[i] == '\n' || data[i] == '\r') {
		i++
	}
	return i
}

// ParseEnvelope reads an envelope of at most MaxEnvelopeBytes. The event is only
// cut out, by its strings and the balance of its brackets, and aliases data:
// event.Parse sees the very bytes that were sent. The rest is read as strictly
// as an event: no salt twice, each of 16 bytes in its one spelling. Any error is
// an *EnvelopeError.
func ParseEnvelope(data []byte) (*Envelope, error) {
	at := afterEventName(data)
	switch {
	case len(data) > MaxEnvelopeBytes:
		return nil, &EnvelopeError{"", event.CodeSize, "at most " + strconv.Itoa(MaxEnvelopeBytes) + " bytes"}
	case at == 0:
		return nil, &EnvelopeError{"", event.CodeMissing, "the member event, and that first"}
	}
	end := objectEnd(data, at)
	if end < 0 {
		return nil, &EnvelopeError{"/event", event.CodeType, "an object"}
	}
	comma := space(data, end)
	if comma == len(data) || data[comma] != ',' {
		return nil, &EnvelopeError{"", event.CodeMissing, "the members salts and signature behind event"}
	}
	e := &Envelope{Event: data[at:end:end]}
	return e, e.parseRest(append([]byte{'{'}, data[comma+1:]...))
}

// objectEnd returns the place behind the object that begins at i, by its
// strings and the balance of its brackets; -1 if there is none, or no end of it.
func objectEnd(data []byte, i int) int {
	if i == len(data) || data[i] != '{' {
		return -1
	}
	depth, inString := 0, false
	for ; i < len(data); i++ {
		switch c := data[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return -1
}

// parseRest reads the object of the members behind event.
func (e *Envelope) parseRest(rest []byte) error {
	clean, err := event.Canonical(rest)
	var refused *event.Error
	if errors.As(err, &refused) {
		return (*EnvelopeError)(refused)
	}
	var members map[string]json.RawMessage
	if err == nil {
		err = json.Unmarshal(clean, &members)
	}
	if err != nil {
		return &EnvelopeError{"", event.CodeType, "an object"}
	}
	for name := range members {
		if name != "salts" && name != "signature" {
			return &EnvelopeError{under("", name), event.CodeUnknown, "no member but event, salts and signature"}
		}
	}
	for _, name := range []string{"salts", "signature"} {
		if members[name] == nil {
			return &EnvelopeError{"/" + name, event.CodeMissing, "the member " + name}
		}
	}
	if json.Unmarshal(members["signature"], &e.Signature) != nil {
		return &EnvelopeError{"/signature", event.CodeType, "a string"}
	}
	if _, _, err := SourceKeyOf(e.Signature); err != nil {
		return &EnvelopeError{"/signature", event.CodeFormat, "a key name, a space, and the base64 of 4 bytes of the key's hash and 64 of the signature"}
	}
	return e.parseSalts(members["salts"])
}

func (e *Envelope) parseSalts(value []byte) error {
	var texts map[string]json.RawMessage
	if json.Unmarshal(value, &texts) != nil || len(texts) == 0 || len(texts) > event.MaxFields {
		return &EnvelopeError{"/salts", event.CodeType, "an object with a salt for each field, by its pointer"}
	}
	e.Salts = make(ChosenSalts, len(texts))
	used := make(map[[saltBytes]byte]bool, len(texts))
	for pointer, text := range texts {
		salt, ok := parseSalt(text)
		if !ok {
			return &EnvelopeError{under("/salts", pointer), CodeSalt, "16 bytes in base64url without padding, unused bits zero"}
		}
		if used[salt] {
			return &EnvelopeError{"/salts", event.CodeDuplicate, "another salt for each field"}
		}
		e.Salts[pointer], used[salt] = salt, true
	}
	return nil
}

// parseSalt reads a salt, a JSON string in its canonical form, in its one spelling.
func parseSalt(text []byte) (salt [saltBytes]byte, ok bool) {
	if len(text) != saltLen+2 || text[0] != '"' {
		return salt, false
	}
	var buf [saltBytes + 2]byte
	n, err := base64.RawURLEncoding.Strict().Decode(buf[:], text[1:1+saltLen])
	copy(salt[:], buf[:])
	return salt, err == nil && n == saltBytes
}

// under returns the pointer to a member, with at most some 128 bytes of its name.
func under(parent, name string) string {
	const most = 128
	if len(name) > most {
		for name = name[:most]; !utf8.ValidString(name); {
			name = name[:len(name)-1]
		}
		name += "…"
	}
	return parent + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}

// CheckSalts checks that there is a salt for each field that the source submits,
// and none for anything else. f is what event.Parse gave for Event. The error is
// an *EnvelopeError.
func (e *Envelope) CheckSalts(f event.Fields) error {
	n := 0
	for i := range f {
		if event.IsServer(f[i].Pointer) {
			continue
		}
		n++
		if _, ok := e.Salts[f[i].Pointer]; !ok {
			return &EnvelopeError{under("/salts", f[i].Pointer), event.CodeMissing, "a salt for each field"}
		}
	}
	if n == len(e.Salts) {
		return nil
	}
	for _, pointer := range slices.Sorted(maps.Keys(e.Salts)) {
		if _, ok := f.Get(pointer); !ok || event.IsServer(pointer) {
			return &EnvelopeError{under("/salts", pointer), event.CodeUnknown, "no salt but for the event's fields"}
		}
	}
	return nil
}

// Check checks the salts, and the signature over the fields with them. The error
// is an *EnvelopeError. What v is the key of isn't asked here: see SourceKeyOf.
func (e *Envelope) Check(f event.Fields, v note.Verifier) error {
	if err := e.CheckSalts(f); err != nil {
		return err
	}
	n, root, err := SourceRoot(f, e.Salts)
	if err == nil {
		err = checkSource(e.Signature, n, root, v)
	}
	if err != nil {
		return &EnvelopeError{"/signature", CodeSignature, "the signature of the event's fields with these salts"}
	}
	return nil
}

// SignEvent makes the envelope of an event with fresh salts. f is what
// event.Parse gives for raw.
func SignEvent(raw []byte, f event.Fields, s note.Signer) (*Envelope, error) {
	e := &Envelope{Event: raw, Salts: make(ChosenSalts, len(f))}
	fresh := make([]byte, len(f)*saltBytes)
	rand.Read(fresh) // never fails, says its documentation
	for i := range f {
		e.Salts[f[i].Pointer] = [saltBytes]byte(fresh[i*saltBytes:])
	}
	n, root, err := SourceRoot(f, e.Salts)
	if err != nil {
		return nil, err
	}
	e.Signature, err = SignSource(n, root, s)
	return e, err
}

// Append appends the envelope's JSON, on one line if the event is.
func (e *Envelope) Append(dst []byte) []byte {
	dst = append(append(dst, `{"event":`...), e.Event...)
	dst = append(dst, `,"salts":{`...)
	for i, pointer := range slices.Sorted(maps.Keys(e.Salts)) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(event.AppendString(dst, pointer), `:"`...)
		salt := e.Salts[pointer]
		dst = append(base64.RawURLEncoding.AppendEncode(dst, salt[:]), '"')
	}
	dst = append(dst, `},"signature":`...)
	return append(event.AppendString(dst, e.Signature), '}')
}

// CheckOpening checks that an opening was sealed with the envelope's salts and signature: where a field is
// shown, with its salt. The error is one of ErrNoSignature, ErrBadSignature and ErrOtherSalts, wrapped.
func (e *Envelope) CheckOpening(o *Opening) error {
	switch got := o.Text("/ingest/signature"); {
	case got == "":
		return fmt.Errorf("check source: %w", ErrNoSignature)
	case got != e.Signature:
		return fmt.Errorf("check source: %w: it isn't the one that was sent", ErrBadSignature)
	}
	for i := range o.Fields {
		f := &o.Fields[i]
		if !f.Shown || event.IsServer(f.Pointer) {
			continue
		}
		want, ok := e.Salts[f.Pointer]
		got, err := base64.RawURLEncoding.DecodeString(string(f.Salt))
		if err != nil || !ok || string(got) != string(want[:]) {
			return fmt.Errorf("check source: %s: %w", f.Pointer, ErrOtherSalts)
		}
	}
	return nil
}
