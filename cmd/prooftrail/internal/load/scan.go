package load

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
)

// result is what a worker looks at of one event's result. Its slices point into
// the answer.
type result struct {
	status  []byte // accepted, duplicate, conflict, rejected
	index   uint64
	indexed bool
	receipt []byte // the JSON string, quotes included; nil if there is none
	problem []byte // the JSON object, nil if there is none
}

var errScan = errors.New("not a result")

// scanResult reads one result: an object with members in any order. It checks
// no more than it needs: what is verified is decoded by others.
func scanResult(line []byte) (r result, err error) {
	err = scanObject(line, func(key, value []byte) error {
		switch string(key) {
		case `"status"`:
			if len(value) < 2 || value[0] != '"' {
				return errScan
			}
			r.status = value[1 : len(value)-1]
		case `"index"`:
			n, err := strconv.ParseUint(string(value), 10, 63)
			r.index, r.indexed = n, err == nil
			return err
		case `"receipt"`:
			if len(value) > 2 && value[0] == '"' {
				r.receipt = value
			}
		case `"problem"`:
			if value[0] == '{' {
				r.problem = value
			}
		}
		return nil
	})
	return r, err
}

// text decodes the receipt.
func (r *result) text() ([]byte, error) {
	var s string
	if err := json.Unmarshal(r.receipt, &s); err != nil {
		return nil, err
	}
	return []byte(s), nil
}

// problemKind names a problem for the counts: its code or its status.
func problemKind(object []byte, fallback string) string {
	var p struct {
		Status int    `json:"status"`
		Code   string `json:"code"`
	}
	if json.Unmarshal(object, &p) != nil || p.Status == 0 {
		return fallback
	}
	kind := "http " + strconv.Itoa(p.Status)
	if p.Code != "" {
		kind += " " + p.Code
	}
	return kind
}

// scanObject calls each for every member of a JSON object, with the key in its
// quotes and the raw value.
func scanObject(b []byte, each func(key, value []byte) error) error {
	b = space(b)
	if len(b) == 0 || b[0] != '{' {
		return errScan
	}
	b = space(b[1:])
	for len(b) > 0 && b[0] != '}' {
		n := valueLen(b)
		if n <= 0 || b[0] != '"' {
			return errScan
		}
		key := b[:n]
		b = space(b[n:])
		if len(b) == 0 || b[0] != ':' {
			return errScan
		}
		b = space(b[1:])
		if n = valueLen(b); n <= 0 {
			return errScan
		}
		if err := each(key, b[:n]); err != nil {
			return err
		}
		b = space(b[n:])
		if len(b) > 0 && b[0] == ',' {
			b = space(b[1:])
		}
	}
	if len(b) == 0 {
		return errScan
	}
	return nil
}

func space(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\n' || b[0] == '\r' || b[0] == '\t') {
		b = b[1:]
	}
	return b
}

// valueLen is the length of the JSON value that b begins with; 0 if it doesn't
// end.
func valueLen(b []byte) int {
	if len(b) == 0 {
		return 0
	}
	switch b[0] {
	case '"':
		return stringLen(b)
	case '{', '[':
		return nestedLen(b)
	}
	return bytes.IndexAny(b, ",}] \n\r\t")
}

func stringLen(b []byte) int {
	for i := 1; ; i++ {
		n := bytes.IndexByte(b[i:], '"')
		if n < 0 {
			return 0
		}
		i += n
		slashes := 0
		for b[i-1-slashes] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return i + 1
		}
	}
}

func nestedLen(b []byte) int {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			n := stringLen(b[i:])
			if n == 0 {
				return 0
			}
			i += n - 1
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return 0
}
