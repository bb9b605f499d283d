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
func ParseOpening(b []byte) (*Opening, error) { return new(Parser).Parse(bytes.Clone(b)) }

// A Parser parses one opening after the other and uses its memory again. The zero
// Parser is ready. It is not safe for concurrent use.
//
// As canonical JSON leaves no choice of spelling or order, most of what it reads are
// fixed texts.
type Parser struct {
	opening Opening
	event   event.Reader
	rest    []byte // what is still to be read

	hasher hasher
	hashes []Hash // of the fields

	timeText string // time of the opening before, as it stood there
	time     time.Time
}

// Parse is ParseOpening. The opening is good until the next call, and salts and values
// are parts of b.
func (p *Parser) Parse(b []byte) (*Opening, error) {
	if len(b) > MaxOpeningBytes {
		return nil, fmt.Errorf("parse opening: %w", &event.Error{Code: event.CodeSize, Expected: "at most 1048576 bytes"})
	}
	p.rest = b
	p.event.Reset()
	if p.opening.Fields == nil {
		p.opening.Fields = make([]OpenedField, 0, min(maxFields, len(b)/typicalField+1))
	}
	p.opening.Fields = p.opening.Fields[:0]
	if err := p.read(); err != nil {
		p.opening.Fields = p.opening.Fields[:0]
		return nil, fmt.Errorf("parse opening: %w", err)
	}
	return &p.opening, nil
}

// typicalField is how many bytes a field takes in an opening, or a little less.
const typicalField = 64

// accept reads text if it is next.
func (p *Parser) accept(text string) bool {
	if len(p.rest) < len(text) || string(p.rest[:len(text)]) != text {
		return false
	}
	p.rest = p.rest[len(text):]
	return true
}

// until reads up to the byte end and past it. ok is false if it isn't there.
func (p *Parser) until(end byte) (text []byte, ok bool) {
	i := bytes.IndexByte(p.rest, end)
	if i < 0 {
		return nil, false
	}
	text, p.rest = p.rest[:i:i], p.rest[i+1:]
	return text, true
}

func (p *Parser) read() error {
	o := &p.opening
	if !p.accept(openHead) {
		return malformed("")
	}
	for more := true; more; more = p.accept(",") {
		if len(o.Fields) == maxFields {
			return &event.Error{Code: event.CodeSize, Expected: "at most " + strconv.Itoa(maxFields) + " fields"}
		}
		o.Fields = append(o.Fields, OpenedField{})
		if err := p.field(&o.Fields[len(o.Fields)-1]); err != nil {
			return err
		}
	}
	if !p.accept(openTime) {
		return malformed("")
	}
	text, ok := p.until('"')
	if !ok || !p.accept(openTail[1:]) || len(p.rest) != 0 {
		return malformed("")
	}
	if p.timeText == "" || string(text) != p.timeText { // of most openings it is that of the one before
		t, err := parseTime(string(text))
		if err != nil {
			return err
		}
		p.timeText, p.time = string(text), t
	}
	o.Time = p.time
	return p.event.End()
}

// parseTime reads a leaf's time.
func parseTime(text string) (time.Time, error) {
	var spelled [len(timeStyle)]byte
	t, err := time.Parse(timeStyle, text)
	if err != nil || string(t.AppendFormat(spelled[:0], timeStyle)) != text || !t.Equal(clampTime(t)) {
		return t, &event.Error{Pointer: "/time", Code: event.CodeFormat, Expected: "a time like 2026-01-31T23:59:59Z, from 1970 to 9999"}
	}
	return t, nil
}

func (p *Parser) field(f *OpenedField) (err error) {
	if p.accept(`{"c":"`) {
		return p.withheld(f)
	}
	if !p.accept(`{"p":"`) {
		return malformed("")
	}
	if err := p.pointer(f); err != nil {
		return err
	}
	f.Shown = true
	if err := p.salt(f); err != nil {
		return err
	}
	if f.Value, p.rest, err = p.event.Value(p.rest); err != nil {
		return err
	}
	if !p.accept("}") {
		return malformed(f.Pointer)
	}
	return nil
}

// pointer reads a pointer up to its closing quote. Pointers of the schema hold
// nothing that JSON would escape, so any other is found out here.
func (p *Parser) pointer(f *OpenedField) (err error) {
	f.Pointer, p.rest, err = p.event.Pointer(p.rest)
	return err
}

// salt reads a salt and what stands around it.
func (p *Parser) salt(f *OpenedField) error {
	const before, after = `,"s":"`, `","v":`
	const all = len(before) + saltLen + len(after)
	if b := p.rest; len(b) > all && string(b[:len(before)]) == before && string(b[all-len(after):all]) == after {
		f.Salt, p.rest = b[len(before):all-len(after):all-len(after)], b[all:]
	} else { // of another length, or none
		var ok bool
		if !p.accept(before) {
			return malformed(f.Pointer)
		}
		if f.Salt, ok = p.until('"'); !ok || !p.accept(after[1:]) {
			return malformed(f.Pointer)
		}
	}
	if !validSalt(f.Salt) {
		return &event.Error{Pointer: f.Pointer, Code: CodeSalt, Expected: "16 bytes in base64url without padding, unused bits zero"}
	}
	return nil
}

// withheld reads the rest of a field that isn't shown.
func (p *Parser) withheld(f *OpenedField) error {
	c, ok := p.until('"')
	if !ok {
		return malformed("")
	}
	if p.accept(`,"e":`) {
		number, _ := p.until(',')
		by, err := parseIndex(string(number))
		if err != nil || !p.accept(`"p":"`) {
			return malformed("")
		}
		f.ErasedBy = &by
	} else if !p.accept(`,"p":"`) {
		return malformed("")
	}
	if err := p.pointer(f); err != nil {
		return err
	}
	if f.ErasedBy != nil && neverErased(f.Pointer) {
		return &event.Error{Pointer: f.Pointer, Code: CodeErased, Expected: "a field that is never erased"}
	}
	if !p.accept("}") {
		return malformed(f.Pointer)
	}
	if f.Commitment, ok = parseHash(c); !ok {
		return &event.Error{Pointer: f.Pointer, Code: CodeCommitment, Expected: "32 bytes in base64 with padding, unused bits zero"}
	}
	return nil
}

// strictHash refuses set bits behind the last byte. What encoding/base64 skips, line
// ends, is refused by the length.
var strictHash = base64.StdEncoding.Strict()

// parseHash reads a hash in its one base64 spelling.
func parseHash(text []byte) (h Hash, ok bool) {
	var b [hashLen]byte
	if len(text) != hashLen {
		return h, false
	}
	n, err := strictHash.Decode(b[:], text)
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

// saltBits are the six bits that a character of base64url stands for; 0x80 for any
// other byte.
var saltBits = func() (t [256]byte) {
	for i := range t {
		t[i] = 0x80
	}
	for i, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") {
		t[c] = byte(i)
	}
	return t
}()

// validSalt reports whether a salt is 16 bytes in their one spelling: of the last
// character's six bits the last four are behind the last byte, and zero.
func validSalt(salt []byte) bool {
	if len(salt) != saltLen {
		return false
	}
	var bits byte
	for _, c := range salt[:saltLen:saltLen] {
		bits |= saltBits[c]
	}
	return bits&0x80 == 0 && saltBits[salt[saltLen-1]]&15 == 0
}

// malformed refuses text that isn't the one form of an opening.
func malformed(pointer string) *event.Error {
	return &event.Error{Pointer: pointer, Code: event.CodeSyntax, Expected: "an opening in its canonical form, RFC 8785, with no other members"}
}
