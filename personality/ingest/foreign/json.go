package foreign

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// ParseJSON reads one JSON text: maps by string, slices, strings, json.Number, bool and nil. Any error is an
// *Error, with a JSON Pointer.
func ParseJSON(data []byte, b *Budget) (any, error) {
	p := parser{in: data, budget: b, keep: true}
	return p.whole()
}

// CheckJSON checks a text as ParseJSON does, for another reader that is less strict.
func CheckJSON(data []byte, b *Budget) error {
	p := parser{in: data, budget: b}
	_, err := p.whole()
	return err
}

// ParseObject is ParseJSON for what has to be an object.
func ParseObject(data []byte, b *Budget) (map[string]any, error) {
	if len(data) > MaxItemBytes {
		return nil, Errorf("", "at most %d bytes", MaxItemBytes)
	}
	v, err := ParseJSON(data, b)
	if err != nil {
		return nil, err
	}
	object, ok := v.(map[string]any)
	if !ok {
		return nil, Errorf("", "a JSON object")
	}
	return object, nil
}

// A parser reads strict JSON (RFC 8259).
type parser struct {
	in     []byte
	pos    int
	budget *Budget
	keep   bool // build what is read
}

func (p *parser) whole() (any, error) {
	v, err := p.value(1)
	if err == nil {
		if p.peek(); p.pos != len(p.in) {
			err = p.syntax("nothing more")
		}
	}
	if err != nil {
		return nil, err
	}
	return v, nil
}

// peek skips white space and returns the byte there, 0 at the end.
func (p *parser) peek() byte {
	for ; p.pos < len(p.in); p.pos++ {
		switch c := p.in[p.pos]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return 0
}

func (p *parser) syntax(expected string) error {
	return Errorf("", "%s at byte %d", expected, p.pos)
}

// Under names the member in which an error is.
func Under(err error, token string) error {
	var e *Error
	if errors.As(err, &e) && len(e.Member) < 512 {
		e.Member = "/" + EscapeToken(Clip(token, 128)) + e.Member
	}
	return err
}

// EscapeToken writes a reference token of a JSON Pointer (RFC 6901 section 3).
func EscapeToken(token string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(token)
}

func (p *parser) value(depth int) (any, error) {
	if !p.budget.Take(1) {
		return nil, Errorf("", "fewer values in one request")
	}
	switch c := p.peek(); {
	case c == '"':
		return p.str()
	case c == '-' || '0' <= c && c <= '9':
		return p.number()
	case c == '{':
		return p.object(depth)
	case c == '[':
		return p.array(depth)
	case c == 't':
		return true, p.literal("true")
	case c == 'f':
		return false, p.literal("false")
	case c == 'n':
		return nil, p.literal("null")
	}
	return nil, p.syntax("a JSON value")
}

func (p *parser) literal(word string) error {
	if !bytes.HasPrefix(p.in[p.pos:], []byte(word)) {
		return p.syntax("a JSON value")
	}
	p.pos += len(word)
	return nil
}

// number reads a number as it is written: -?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?
func (p *parser) number() (any, error) {
	start := p.pos
	if p.in[p.pos] == '-' {
		p.pos++
	}
	first := p.pos
	ok := p.digits() > 0 && (p.in[first] != '0' || p.pos-first == 1)
	if ok && p.next('.') {
		ok = p.digits() > 0
	}
	if ok && (p.next('e') || p.next('E')) {
		if !p.next('+') {
			p.next('-')
		}
		ok = p.digits() > 0
	}
	if !ok || p.pos-start > 64 {
		return nil, p.syntax("a number of at most 64 characters")
	}
	if !p.keep {
		return nil, nil
	}
	return json.Number(p.in[start:p.pos]), nil
}

// digits skips digits and returns how many there were.
func (p *parser) digits() int {
	start := p.pos
	for p.pos < len(p.in) && '0' <= p.in[p.pos] && p.in[p.pos] <= '9' {
		p.pos++
	}
	return p.pos - start
}

// next skips c if it stands here.
func (p *parser) next(c byte) bool {
	if p.pos < len(p.in) && p.in[p.pos] == c {
		p.pos++
		return true
	}
	return false
}

func (p *parser) array(depth int) (any, error) {
	if depth > MaxDepth {
		return nil, Errorf("", "arrays and objects nested at most %d deep", MaxDepth)
	}
	p.pos++
	list := []any{}
	if p.peek() == ']' {
		p.pos++
		return list, nil
	}
	for i := 0; ; i++ {
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, Under(err, strconv.Itoa(i))
		}
		if p.keep {
			list = append(list, v)
		}
		if more, err := p.more(']'); err != nil || !more {
			return list, err
		}
	}
}

// more reads what follows an element or a member: a comma, or the end.
func (p *parser) more(end byte) (bool, error) {
	switch p.peek() {
	case ',':
		p.pos++
		return true, nil
	case end:
		p.pos++
		return false, nil
	}
	return false, p.syntax("a comma or the end")
}

func (p *parser) object(depth int) (any, error) {
	if depth > MaxDepth {
		return nil, Errorf("", "arrays and objects nested at most %d deep", MaxDepth)
	}
	p.pos++
	object := map[string]any{}
	if p.peek() == '}' {
		p.pos++
		return object, nil
	}
	for {
		if p.peek() != '"' {
			return nil, p.syntax("a member's name in quotes")
		}
		name, err := p.str()
		if err != nil {
			return nil, err
		}
		if _, there := object[name]; there {
			return nil, Under(Errorf("", "each name once in an object"), name)
		}
		if p.peek() != ':' {
			return nil, p.syntax("a colon")
		}
		p.pos++
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, Under(err, name)
		}
		object[name] = v
		if more, err := p.more('}'); err != nil || !more {
			return object, err
		}
	}
}

// str reads a string.
func (p *parser) str() (string, error) {
	p.pos++
	start := p.pos
	var text []byte // what was read before start, once there was an escape
	for p.pos < len(p.in) {
		switch c := p.in[p.pos]; {
		case c == '"':
			run := p.in[start:p.pos]
			if !utf8.Valid(run) {
				return "", Errorf("", "UTF-8")
			}
			p.pos++
			return string(append(text, run...)), nil
		case c == '\\':
			text = append(text, p.in[start:p.pos]...)
			r, err := p.escape()
			if err != nil {
				return "", err
			}
			text = utf8.AppendRune(text, r)
			start = p.pos
		case c < ' ':
			return "", p.syntax("control characters as escapes")
		default:
			p.pos++
		}
	}
	return "", p.syntax("the end of the string")
}

// escapes are what follows a backslash, and what it means.
const escapes, meanings = `"\/bfnrt`, "\"\\/\b\f\n\r\t"

func (p *parser) escape() (rune, error) {
	if p.pos+1 == len(p.in) {
		return 0, p.syntax("the end of the string")
	}
	c := p.in[p.pos+1]
	if i := strings.IndexByte(escapes, c); i >= 0 {
		p.pos += 2
		return rune(meanings[i]), nil
	}
	r := p.hex4()
	if r < 0 {
		return 0, p.syntax("an escape of RFC 8259")
	}
	if utf16.IsSurrogate(r) {
		if r = utf16.DecodeRune(r, p.hex4()); r == utf8.RuneError {
			return 0, Errorf("", "surrogates in pairs")
		}
	}
	return r, nil
}

// hex4 reads a \uXXXX; -1 if there is none.
func (p *parser) hex4() rune {
	b := p.in[p.pos:]
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return -1
	}
	n, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	if err != nil {
		return -1
	}
	p.pos += 6
	return rune(n)
}
