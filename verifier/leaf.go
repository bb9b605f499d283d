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
func ParseLeaf(leaf []byte) (time.Time, error) {
	if len(leaf) != leafLen || string(leaf[:rootAt]) != leafHead ||
		string(leaf[midAt:timeAt]) != leafMid || string(leaf[tailAt:]) != leafTail {
		return time.Time{}, errors.New("leaf is not in the form of prooftrail.leaf/1")
	}
	var root [33]byte
	// The decoder skips newlines; but 32 bytes take all of the 44 characters.
	if n, err := b64.Decode(root[:], leaf[rootAt:midAt]); err != nil || n != 32 {
		return time.Time{}, errors.New("leaf root: expected canonical base64 of 32 bytes")
	}
	t, ok := parseSecond(leaf[timeAt:tailAt])
	if !ok {
		return time.Time{}, errors.New("leaf time: expected the form 2026-01-31T23:59:59Z, from 1970 to 9999")
	}
	return t, nil
}

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
