package mask

import (
	"strings"
)

// mark is how long the quotation mark is that a text begins with, with the backslashes in front of one that is itself within a
// quoted text; 0 if there is none.
func mark(s string) int {
	n := 0
	for n < len(s) && s[n] == '\\' {
		n++
	}
	if n < len(s) && (s[n] == '"' || s[n] == '\'' || s[n] == '`' && n == 0) {
		return n + 1
	}
	return 0
}

// quoted returns the place between the quotation mark there and the one that ends it, or the text's end.
func quoted(s string, at int) (from, to int) {
	if s[at] != '\'' {
		return escaped(s, at)
	}
	n := strings.IndexByte(s[at+1:], '\'')
	if n < 0 {
		return at + 1, len(s)
	}
	return at + 1, at + 1 + n
}

// escaped is quoted for a mark that may stand within, behind a backslash: of a mark with k backslashes, each of those that it
// quotes is k+1.
func escaped(s string, at int) (from, to int) {
	k := mark(s[at:]) - 1
	q := s[at+k]
	from = at + k + 1
	for i := from; i < len(s); i++ {
		run := i
		for i < len(s) && s[i] == '\\' {
			i++
		}
		if i < len(s) && s[i] == q && (i-run < k || (i-run-k)/(k+1)%2 == 0) {
			return from, max(run, i-k)
		}
	}
	return from, len(s)
}

// again returns the end of a quoted text that goes on behind its mark with another, as 'it”s' does; it includes the last mark.
func again(s string, at, to int) int {
	q := s[at]
	for to+1 < len(s) && s[to+1] == q {
		n := strings.IndexByte(s[to+2:], q)
		if n < 0 {
			return len(s)
		}
		to += 2 + n
	}
	return min(to+1, len(s))
}

// reference returns the length of ${NAME} at a text's beginning, or 0.
func reference(s string) int {
	if !strings.HasPrefix(s, "${") {
		return 0
	}
	n := 2
	for n < len(s) && n < maxName && (isWord(s[n]) || s[n] == '_') {
		n++
	}
	if n > 2 && n < len(s) && s[n] == '}' && (n+1 == len(s) || isSpace(s[n+1]) || strings.IndexByte(`"',;)`, s[n+1]) >= 0) {
		return n + 1
	}
	return 0
}

// balanced returns the length of what is between brackets, which are the first and the last byte.
func balanced(s string) int {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '{', '[', '(':
			depth++
		case '}', ']', ')':
			if depth--; depth == 0 {
				return i + 1
			}
		case '"':
			_, i = quoted(s, i)
		}
	}
	return len(s)
}

// bare returns the length of a value without quotation marks.
func bare(s string, encoded bool) int {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s) && s[i+1] == ' ' && !encoded:
			i++
		case isSpace(c), c == '"', c == '\'', c == '`', c == '&', c == ';', c == '|', c == '\\' && i+1 < len(s) && (s[i+1] == '"' || s[i+1] == 'n'):
			return i
		case c == '%' && encoded && (strings.HasPrefix(s[i:], "%26") || strings.HasPrefix(s[i:], "%22") || strings.HasPrefix(s[i:], "%2C")):
			return i
		case c == ',' && endsAtComma(s[i+1:]):
			return i
		case strings.IndexByte(")]}>", c) >= 0 && (i+1 == len(s) || strings.IndexByte(" \t\r\n\"'`)]}>,;.&|\\", s[i+1]) >= 0):
			if strings.HasPrefix(s[i+1-min(i+1, len(Masked)):], Masked) {
				continue
			}
			return i
		}
	}
	return len(s)
}

// endsAtComma reports whether a comma ends a value, seeing what follows: nothing, a space, a quotation mark, or another name.
func endsAtComma(s string) bool {
	if s == "" || isSpace(s[0]) || s[0] == '"' || s[0] == '\'' || s[0] == '\\' {
		return true
	}
	i := 0
	for i < len(s) && i < maxName && isName(s[i]) {
		i++
	}
	return i > 0 && i < len(s) && (s[i] == '=' || s[i] == ':')
}
