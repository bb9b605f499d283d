package event

import (
	"net/netip"
	"strings"
	"time"
)

// validIdent reports that text has no control characters: neither C0, nor DEL,
// nor C1.
func validIdent(text []byte) bool {
	for i, c := range text {
		if c < ' ' || c == 0x7f {
			return false
		}
		// U+0080 to U+009F are C2 80 to C2 9F.
		if c == 0xc2 && i+1 < len(text) && text[i+1] < 0xa0 {
			return false
		}
	}
	return true
}

// validTenant is [A-Za-z0-9][A-Za-z0-9_.-]*.
func validTenant(text []byte) bool {
	return validToken(text) && !strings.Contains(string(text), ":")
}

// ValidTenant reports whether name can be an event's tenant:
// [A-Za-z0-9][A-Za-z0-9_.-]{0,127}.
func ValidTenant(name string) bool {
	return len(name) <= 128 && validTenant([]byte(name))
}

// ValidSource reports whether uri can be an event's source: a URI with a
// scheme in lower case, at most 512 bytes.
func ValidSource(uri string) bool {
	return len(uri) <= 512 && validSource([]byte(uri))
}

// validToken is [A-Za-z0-9][A-Za-z0-9_.:-]*.
func validToken(text []byte) bool {
	for i, c := range text {
		if !isLetter(c) && !isDigit(c) && (i == 0 || c != '_' && c != '.' && c != ':' && c != '-') {
			return false
		}
	}
	return len(text) > 0
}

// uriByte marks what may stand in a URI (RFC 3986 section 2) besides letters,
// digits and percent-encoding. A fragment doesn't name an instance; no '#'.
var uriByte = func() (t [256]bool) {
	for _, c := range "-._~:/?[]@!$&'()*+,;=" {
		t[c] = true
	}
	return t
}()

// validSource checks the characters of a URI and that it has a scheme. The
// scheme is in lower case ("An implementation … should only produce lowercase
// scheme names", RFC 3986 section 3.1), so that one source has one spelling
// and a reserved scheme has no other.
func validSource(text []byte) bool {
	colon := -1
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case isLetter(c) || isDigit(c) || uriByte[c]:
			if c == ':' && colon < 0 {
				colon = i
			}
		case c == '%' && i+2 < len(text) && isHex(text[i+1]) && isHex(text[i+2]):
			i += 2
		default:
			return false
		}
	}
	if colon < 1 || colon+1 == len(text) || !isLower(text[0]) {
		return false
	}
	for _, c := range text[:colon] {
		if !isLower(c) && !isDigit(c) && c != '+' && c != '.' && c != '-' {
			return false
		}
	}
	return true
}

// validSeq is a decimal number below 2^64 without leading zeros.
func validSeq(text []byte) bool {
	for _, c := range text {
		if !isDigit(c) {
			return false
		}
	}
	if len(text) == 0 || text[0] == '0' && len(text) > 1 {
		return false
	}
	return len(text) < 20 || len(text) == 20 && string(text) <= "18446744073709551615"
}

// validAction is [a-z][a-z0-9_-]*(\.[a-z][a-z0-9_-]*)+.
func validAction(text []byte) bool {
	dots, start := 0, true
	for _, c := range text {
		switch {
		case start && !isLower(c):
			return false
		case c == '.':
			dots++
			start = true
			continue
		case !isLower(c) && !isDigit(c) && c != '_' && c != '-':
			return false
		}
		start = false
	}
	return dots > 0 && !start
}

// validDigest is [0-9a-f]*; the length is the rule's.
func validDigest(text []byte) bool {
	for _, c := range text {
		if !isDigit(c) && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// validIP is an address as net/netip reads it: IPv4 in four decimal numbers
// without leading zeros, or IPv6 (RFC 4291 section 2.2) with or without a
// zone, but for IPv4-mapped ones. A zone is [A-Za-z0-9_.-]+.
func validIP(text []byte) bool {
	if plainIPv4(text) {
		return true
	}
	addr, err := netip.ParseAddr(string(text))
	if err != nil || addr.Is4In6() && addr.Zone() != "" {
		return false
	}
	for _, c := range []byte(addr.Zone()) {
		if !isLetter(c) && !isDigit(c) && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return true
}

// plainIPv4 is what net/netip takes for IPv4, but it would have to copy the text.
func plainIPv4(text []byte) bool {
	dots, n, digits := 0, 0, 0
	for _, c := range text {
		switch {
		case isDigit(c) && (digits == 0 || n > 0) && n*10+int(c-'0') <= 255:
			n, digits = n*10+int(c-'0'), digits+1
		case c == '.' && digits > 0:
			dots, n, digits = dots+1, 0, 0
		default:
			return false
		}
	}
	return dots == 3 && digits > 0
}

// parseTime reads a time of RFC 3339: a real date, T and Z in upper case, at
// most 9 digits of a second, no leap second. fault is "" or the code of the
// refusal: the instant must lie from 1970 to the end of 9999 in UTC.
func parseTime(text []byte) (t time.Time, fault string) {
	// 2006-01-02T15:04:05, then a fraction, then Z or an offset.
	const layout = "dddd-dd-ddTdd:dd:dd"
	if len(text) < len(layout)+1 {
		return t, CodeFormat
	}
	for i := range len(layout) {
		if c := text[i]; layout[i] == 'd' && !isDigit(c) || layout[i] != 'd' && layout[i] != c {
			return t, CodeFormat
		}
	}
	two := func(i int) int { return int(text[i]-'0')*10 + int(text[i+1]-'0') }
	year, month, day := two(0)*100+two(2), two(5), two(8)
	hour, minute, second := two(11), two(14), two(17)
	nanos, rest, ok := fraction(text[len(layout):])
	offset, zoned := zone(rest)
	if !ok || !zoned || month < 1 || month > 12 || day < 1 || day > daysIn(year, month) || hour > 23 || minute > 59 || second > 59 {
		return t, CodeFormat
	}
	t = time.Date(year, time.Month(month), day, hour, minute, second-offset, nanos, time.UTC)
	if t.Unix() < 0 || t.Year() > 9999 {
		return t, CodeRange
	}
	return t, ""
}

// fraction reads the fraction of a second, if there is one, in nanoseconds.
func fraction(text []byte) (nanos int, rest []byte, ok bool) {
	if len(text) == 0 || text[0] != '.' {
		return 0, text, true
	}
	n, unit := 1, 100_000_000
	for ; n < len(text) && isDigit(text[n]); n++ {
		nanos += int(text[n]-'0') * unit
		unit /= 10
	}
	return nanos, text[n:], 2 <= n && n <= 10
}

// zone reads Z or ±hh:mm, in seconds.
func zone(text []byte) (offset int, ok bool) {
	if string(text) == "Z" {
		return 0, true
	}
	if len(text) != 6 || text[0] != '+' && text[0] != '-' || text[3] != ':' {
		return 0, false
	}
	for _, i := range []int{1, 2, 4, 5} {
		if !isDigit(text[i]) {
			return 0, false
		}
	}
	hours, minutes := int(text[1]-'0')*10+int(text[2]-'0'), int(text[4]-'0')*10+int(text[5]-'0')
	offset = hours*3600 + minutes*60
	if text[0] == '-' {
		offset = -offset
	}
	return offset, hours < 24 && minutes < 60
}

func daysIn(year, month int) int {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

// validStampTime is the spelling that appendTime writes.
func validStampTime(text []byte) bool {
	_, fault := parseTime(text)
	n := len(text)
	return fault == "" && text[n-1] == 'Z' && (n == 20 || text[n-2] != '0')
}

func isLower(c byte) bool { return 'a' <= c && c <= 'z' }
func isHex(c byte) bool   { return isDigit(c) || 'a' <= c|0x20 && c|0x20 <= 'f' }
