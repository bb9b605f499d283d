package event

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// plain marks the bytes that stand for themselves in a JSON string and need no
// second look: ASCII but for control characters, quote and backslash.
var plain = func() (t [256]bool) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// str reads a string.
func (s *scanner) str() *Error {
	s.pos++
	s.out = append(s.out, '"')
	start := s.pos
	for {
		for s.pos < len(s.in) && plain[s.in[s.pos]] {
			s.pos++
		}
		if s.pos == len(s.in) {
			return s.syntax("the end of the string")
		}
		switch c := s.in[s.pos]; {
		case c == '"':
			s.pos++
			s.out = append(s.out, s.in[start:s.pos]...)
			return nil
		case c == '\\':
			s.out = append(s.out, s.in[start:s.pos]...)
			if err := s.escape(); err != nil {
				return err
			}
			start = s.pos
		case c < ' ':
			return s.syntax("control characters as escapes")
		default:
			r, n := utf8.DecodeRune(s.in[s.pos:])
			if r == utf8.RuneError && n == 1 {
				return &Error{Code: CodeUTF8, Expected: "UTF-8"}
			}
			s.pos += n
		}
	}
}

// escape reads an escape and writes the character as RFC 8785 does.
func (s *scanner) escape() *Error {
	if s.pos+1 == len(s.in) {
		return s.syntax("the end of the string")
	}
	r := rune(s.in[s.pos+1])
	switch r {
	case '"', '\\', '/':
	case 'b':
		r = '\b'
	case 'f':
		r = '\f'
	case 'n':
		r = '\n'
	case 'r':
		r = '\r'
	case 't':
		r = '\t'
	case 'u':
		return s.unicode()
	default:
		return s.syntax("an escape of RFC 8259")
	}
	s.pos += 2
	s.out = appendRune(s.out, r)
	return nil
}

// unicode reads \uXXXX, or two of them that are a surrogate pair.
func (s *scanner) unicode() *Error {
	r := hex4(s.in[s.pos:])
	if r < 0 {
		return s.syntax("four hexadecimal digits")
	}
	s.pos += 6
	if utf16.IsSurrogate(r) {
		r = utf16.DecodeRune(r, hex4(s.in[s.pos:]))
		if r == utf8.RuneError { // which no pair stands for
			return &Error{Code: CodeUTF8, Expected: "surrogates in pairs"}
		}
		s.pos += 6
	}
	s.out = appendRune(s.out, r)
	return nil
}

// hex4 decodes a \uXXXX at the start of b; -1 if there is none.
func hex4(b []byte) rune {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return -1
	}
	var r rune
	for _, c := range b[2:6] {
		switch {
		case isDigit(c):
			c -= '0'
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}

// appendRune appends a character as it stands in a canonical JSON string
// (RFC 8785 section 3.2.2.2).
func appendRune(dst []byte, r rune) []byte {
	const digits = "0123456789abcdef"
	switch r {
	case '"', '\\':
		return append(dst, '\\', byte(r))
	case '\b':
		return append(dst, '\\', 'b')
	case '\f':
		return append(dst, '\\', 'f')
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	if r < ' ' {
		return append(dst, '\\', 'u', '0', '0', digits[r>>4], digits[r&15])
	}
	return utf8.AppendRune(dst, r)
}

// AppendString appends s as a canonical JSON string (RFC 8785 section 3.2.2.2):
// quotes, and the shortest escapes for quote, backslash and control characters
// alone. Bytes of s that aren't UTF-8 become U+FFFD each.
func AppendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		if plain[s[i]] {
			i++
			continue
		}
		dst = append(dst, s[start:i]...)
		r, n := utf8.DecodeRuneInString(s[i:])
		dst = appendRune(dst, r)
		i += n
		start = i
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}

// unquote returns the text of a canonical JSON string, quotes and all.
func unquote(v []byte) string { return string(textOf(v)) }

// textOf returns the text of a canonical JSON string. The text is part of v
// itself if nothing in it is escaped.
func textOf(v []byte) []byte {
	v = v[1 : len(v)-1]
	i := bytes.IndexByte(v, '\\')
	if i < 0 {
		return v
	}
	text := append(make([]byte, 0, len(v)), v[:i]...)
	for v = v[i:]; len(v) > 0; {
		r, n := decodeRune(v)
		text = utf8.AppendRune(text, r)
		v = v[n:]
	}
	return text
}

// decodeRune reads a character of a canonical JSON string and returns how many
// bytes it took there.
func decodeRune(b []byte) (rune, int) {
	if b[0] != '\\' || len(b) < 2 {
		return utf8.DecodeRune(b)
	}
	switch b[1] {
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	case 'u':
		if r := hex4(b); r >= 0 {
			return r, 6
		}
	}
	return rune(b[1]), 2
}
