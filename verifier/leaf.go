package verifier

import (
	"errors"
	"time"
)

// The leaf of design "Sealing" has one form and one length:
//
//	{"root":"<base64 of 32 bytes>","time":"2026-01-31T23:59:59Z","v":"prooftrail.leaf/1"}
const (
	leafHead = `{"root":"`
	leafMid  = `","time":"`
	leafTail = `","v":"prooftrail.leaf/1"}`

	rootAt  = len(leafHead)
	midAt   = rootAt + 44
	timeAt  = midAt + len(leafMid)
	tailAt  = timeAt + len("2006-01-02T15:04:05Z")
	leafLen = tailAt + len(leafTail)
)

// ParseLeaf checks that a leaf has the canonical form of version 1 and returns when the
// entry was sequenced, UTC, whole seconds.
func ParseLeaf(leaf []byte) (time.Time, error) { return new(leafParser).parse(leaf) }

// leafParser parses one leaf after the other. Most have the time of the one before.
type leafParser struct {
	text [tailAt - timeAt]byte
	time time.Time // zero before the first
}

func (p *leafParser) parse(leaf []byte) (time.Time, error) {
	if len(leaf) != leafLen || string(leaf[:rootAt]) != leafHead ||
		string(leaf[midAt:timeAt]) != leafMid || string(leaf[tailAt:]) != leafTail {
		return time.Time{}, errors.New("leaf is not in the form of prooftrail.leaf/1")
	}
	if !isHash64(leaf[rootAt:midAt]) {
		return time.Time{}, errors.New("leaf root: expected canonical base64 of 32 bytes")
	}
	if string(leaf[timeAt:tailAt]) == string(p.text[:]) && !p.time.IsZero() {
		return p.time, nil
	}
	t, ok := parseSecond(leaf[timeAt:tailAt])
	if !ok {
		return time.Time{}, errors.New("leaf time: expected the form 2026-01-31T23:59:59Z, from 1970 to 9999")
	}
	p.text, p.time = [tailAt - timeAt]byte(leaf[timeAt:tailAt]), t
	return t, nil
}

// isHash64 reports whether text, of 44 bytes, is the one base64 spelling of 32 bytes: 43
// characters, of the last of which two bits are behind the last byte and zero, and "=".
func isHash64(text []byte) bool {
	var bad byte
	for _, c := range text[:43] {
		bad |= bits64[c]
	}
	return bad&0x80 == 0 && bits64[text[42]]&3 == 0 && text[43] == '='
}

// bits64 are the six bits that a character of base64 stands for; 0x80 for any other byte.
var bits64 = func() (t [256]byte) {
	for i := range t {
		t[i] = 0x80
	}
	for i, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") {
		t[c] = byte(i)
	}
	return t
}()

// parseSecond reads 2006-01-02T15:04:05Z, from 1970 to 9999, and nothing else; time.Parse is
// lenient in places, and an audit does this for every leaf.
func parseSecond(b []byte) (time.Time, bool) {
	const form = "dddd-dd-ddTdd:dd:ddZ"
	var field [6]int
	for i, n := 0, 0; i < len(form); i++ {
		switch {
		case form[i] != 'd':
			if b[i] != form[i] {
				return time.Time{}, false
			}
			n++
		case b[i] < '0' || b[i] > '9':
			return time.Time{}, false
		default:
			field[n] = field[n]*10 + int(b[i]-'0')
		}
	}
	if field[0] < 1970 || field[3] > 23 || field[4] > 59 || field[5] > 59 {
		return time.Time{}, false
	}
	t := time.Date(field[0], time.Month(field[1]), field[2], field[3], field[4], field[5], 0, time.UTC)
	// Date would turn February 30 into March 2.
	year, month, day := t.Date()
	return t, year == field[0] && int(month) == field[1] && day == field[2]
}
