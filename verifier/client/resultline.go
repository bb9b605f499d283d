package client

import (
	"bytes"
	"encoding/base64"
	"strconv"
	"unicode/utf8"
)

// readStored reads the result of an event that is in the log, in the very form in which prooftrail writes it: receipts are
// long, and encoding/json looks at them three times. ok is false for whatever has another form, which encoding/json decides about.
func readStored(line []byte) (r Result, ok bool) {
	line = bytes.TrimSuffix(line, []byte("\n"))
	rest, ok := bytes.CutPrefix(line, []byte(`{"status":"`))
	status, rest, ok2 := bytes.Cut(rest, []byte(`","index":`))
	if r.Status = Status(status); !ok || !ok2 || r.Status != Accepted && r.Status != Duplicate {
		return Result{}, false
	}
	digits, rest, ok := bytes.Cut(rest, []byte(`,"leaf_hash":"`))
	index, err := strconv.ParseUint(string(digits), 10, 64)
	if !ok || err != nil || len(digits) > 1 && digits[0] == '0' {
		return Result{}, false
	}
	hash, rest, ok := bytes.Cut(rest, []byte(`","receipt":"`))
	if !ok || len(hash) != base64.StdEncoding.EncodedLen(len(r.LeafHash)) {
		return Result{}, false
	}
	b, err := base64.StdEncoding.AppendDecode(nil, hash)
	if err != nil || len(b) != len(r.LeafHash) {
		return Result{}, false
	}
	text, ok := bytes.CutSuffix(rest, []byte(`"}`))
	if r.Receipt, ok2 = unescape(text); !ok || !ok2 || len(r.Receipt) == 0 {
		return Result{}, false
	}
	r.Index = index
	copy(r.LeafHash[:], b)
	return r, true
}

// unescape reads what stands between the quotes of a JSON string that escapes nothing but line ends, quotes and
// backslashes.
func unescape(text []byte) (b []byte, ok bool) {
	if !utf8.Valid(text) {
		return nil, false
	}
	b = make([]byte, 0, len(text))
	for {
		i := bytes.IndexByte(text, '\\')
		part := text
		if i >= 0 {
			part = text[:i]
		}
		for _, c := range part {
			if c < ' ' || c == '"' {
				return nil, false
			}
		}
		b = append(b, part...)
		switch {
		case i < 0:
			return b, true
		case i+1 == len(text):
			return nil, false
		}
		switch c := text[i+1]; c {
		case 'n':
			b = append(b, '\n')
		case '"', '\\', '/':
			b = append(b, c)
		default:
			return nil, false
		}
		text = text[i+2:]
	}
}
