package seal

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strconv"
	"time"

	"github.com/prooftrail/prooftrail/verifier/event"
)

// MaxOpeningBytes bounds an opening. The largest event makes less.
const MaxOpeningBytes = 1 << 20

// Codes of refusals of openings, besides those of package event.
const (
	CodeSalt       = "salt"       // not 16 bytes in their one base64url spelling
	CodeCommitment = "commitment" // not 32 bytes in their one base64 spelling
	CodeErased     = "erased"     // a field marked as erased that is never erased
)

// ParseOpening reads an opening and makes every check but the last: whether
// its Leaf is in the log. The error is an *event.Error, wrapped.
//
// The bytes must be those that Bytes writes, to the last one: there is no
// second spelling of anything. b is not kept.
func ParseOpening(b []byte) (*Opening, error) {
	if len(b) > MaxOpeningBytes {
		return nil, fmt.Errorf("parse opening: %w", &event.Error{Code: event.CodeSize, Expected: "at most 1048576 bytes"})
	}
	p := parser{text: string(b), rest: bytes.Clone(b)}
	o, err := p.opening()
	if err != nil {
		return nil, fmt.Errorf("parse opening: %w", err)
	}
	if err := validate(o); err != nil {
		return nil, fmt.Errorf("parse opening: %w", err)
	}
	return o, nil
}

// validate checks the fields as one event, whole but for what is withheld.
func validate(o *Opening) error {
	fields := make(event.Fields, len(o.Fields))
	for i := range o.Fields {
		f := &o.Fields[i]
		fields[i].Pointer = f.Pointer
		if f.Shown {
			fields[i].Value = f.Value
		} else if f.ErasedBy != nil && neverErased(f.Pointer) {
			return &event.Error{Pointer: f.Pointer, Code: CodeErased, Expected: "a field that is never erased"}
		}
	}
	return event.Validate(fields, true)
}

// A parser reads an opening's bytes from the front. As canonical JSON leaves
// no choice of spelling or order, most of what it reads are fixed texts.
type parser struct {
	text string // the whole, which strings are parts of
	rest []byte // what is still to be read
}

// accept reads text if it is next.
func (p *parser) accept(text string) bool {
	if len(p.rest) < len(text) || string(p.rest[:len(text)]) != text {
		return false
	}
	p.rest = p.rest[len(text):]
	return true
}

// until reads up to the byte end and past it. ok is false if it isn't there.
func (p *parser) until(end byte) (text string, ok bool) {
	i := bytes.IndexByte(p.rest, end)
	if i < 0 {
		return "", false
	}
	start := len(p.text) - len(p.rest)
	p.rest = p.rest[i+1:]
	return p.text[start : start+i], true
}

func (p *parser) opening() (*Opening, error) {
	if !p.accept(openHead) {
		return nil, malformed("")
	}
	o := &Opening{Fields: make([]OpenedField, 0, min(maxFields, bytes.Count(p.rest, []byte(`"p":"`))))}
	for more := true; more; more = p.accept(",") {
		if len(o.Fields) == maxFields {
			return nil, &event.Error{Code: event.CodeSize, Expected: "at most " + strconv.Itoa(maxFields) + " fields"}
		}
		f, err := p.field()
		if err != nil {
			return nil, err
		}
		o.Fields = append(o.Fields, f)
	}
	if !p.accept(openTime) {
		return nil, malformed("")
	}
	text, ok := p.until('"')
	if !ok || !p.accept(openTail[1:]) || len(p.rest) != 0 {
		return nil, malformed("")
	}
	t, err := parseTime(text)
	o.Time = t
	return o, err
}

// parseTime reads a leaf's time.
func parseTime(text string) (time.Time, error) {
	t, err := time.Parse(timeStyle, text)
	if err != nil || t.Format(timeStyle) != text || !t.Equal(clampTime(t)) {
		return t, &event.Error{Pointer: "/time", Code: event.CodeFormat, Expected: "a time like 2026-01-31T23:59:59Z, from 1970 to 9999"}
	}
	return t, nil
}

func (p *parser) field() (OpenedField, error) {
	if p.accept(`{"c":"`) {
		return p.withheld()
	}
	if !p.accept(`{"p":"`) {
		return OpenedField{}, malformed("")
	}
	f := OpenedField{Shown: true}
	var ok bool
	if err := p.pointer(&f); err != nil {
		return f, err
	}
	if !p.accept(`,"s":"`) {
		return f, malformed(f.Pointer)
	}
	if f.Salt, ok = p.until('"'); !ok || !p.accept(`,"v":`) {
		return f, malformed(f.Pointer)
	}
	if !validSalt(f.Salt) {
		return f, &event.Error{Pointer: f.Pointer, Code: CodeSalt, Expected: "16 bytes in base64url without padding, unused bits zero"}
	}
	var err error
	f.Value, p.rest, err = event.Cut(p.rest, f.Pointer)
	if err == nil && !p.accept("}") {
		err = malformed(f.Pointer)
	}
	return f, err
}

// pointer reads a pointer up to its closing quote. Pointers of the schema hold
// nothing that JSON would escape, so any other is found out here.
func (p *parser) pointer(f *OpenedField) error {
	text, ok := p.until('"')
	if !ok {
		return malformed("")
	}
	f.Pointer = text
	return event.CheckPointer(text)
}

// withheld reads the rest of a field that isn't shown.
func (p *parser) withheld() (OpenedField, error) {
	var f OpenedField
	c, ok := p.until('"')
	if !ok {
		return f, malformed("")
	}
	if p.accept(`,"e":`) {
		number, _ := p.until(',')
		by, err := parseIndex(number)
		if err != nil || !p.accept(`"p":"`) {
			return f, malformed("")
		}
		f.ErasedBy = &by
	} else if !p.accept(`,"p":"`) {
		return f, malformed("")
	}
	if err := p.pointer(&f); err != nil {
		return f, err
	}
	if !p.accept("}") {
		return f, malformed(f.Pointer)
	}
	if f.Commitment, ok = parseHash(c); !ok {
		return f, &event.Error{Pointer: f.Pointer, Code: CodeCommitment, Expected: "32 bytes in base64 with padding, unused bits zero"}
	}
	return f, nil
}

// Encodings that refuse set bits behind the last byte. What encoding/base64
// skips, line ends, is refused by the length.
var (
	strictSalt = base64.RawURLEncoding.Strict()
	strictHash = base64.StdEncoding.Strict()
)

// parseHash reads a hash in its one base64 spelling.
func parseHash(text string) (h Hash, ok bool) {
	var b [hashLen]byte
	if len(text) != hashLen {
		return h, false
	}
	n, err := strictHash.Decode(b[:], []byte(text))
	return Hash(b[:len(h)]), err == nil && n == len(h)
}

// parseIndex reads the index of an entry in its one spelling.
func parseIndex(text string) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n > event.MaxInteger || strconv.FormatUint(n, 10) != text {
		return 0, fmt.Errorf("index of an entry: not 0 to %d in decimal", event.MaxInteger)
	}
	return n, nil
}

// validSalt reports whether a salt is 16 bytes in their one spelling.
func validSalt(salt string) bool {
	var b [saltLen]byte
	if len(salt) != saltLen {
		return false
	}
	n, err := strictSalt.Decode(b[:], []byte(salt))
	return err == nil && n == saltBytes
}

// malformed refuses text that isn't the one form of an opening.
func malformed(pointer string) *event.Error {
	return &event.Error{Pointer: pointer, Code: event.CodeSyntax, Expected: "an opening in its canonical form, RFC 8785, with no other members"}
}
