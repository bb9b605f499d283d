package foreign

import (
	"bytes"

	"github.com/prooftrail/prooftrail/personality/ingest"
)

// SplitArray returns the texts of the elements of a JSON array. It looks at no more than brackets and quotes,
// so that one bad element costs the others nothing; whoever reads the elements checks them. An error means that
// the elements can't be told apart, or that there are too many.
func SplitArray(data []byte) ([][]byte, error) {
	rest := bytes.TrimSpace(data)
	if len(rest) < 2 || rest[0] != '[' || rest[len(rest)-1] != ']' {
		return nil, Errorf("", "a JSON array")
	}
	rest = rest[1 : len(rest)-1]
	if len(bytes.TrimSpace(rest)) == 0 {
		return nil, nil
	}
	var items [][]byte
	for {
		n, err := element(rest)
		if err != nil {
			return nil, err
		}
		if len(items) == ingest.MaxItems {
			return nil, ingest.ErrTooManyItems
		}
		items = append(items, bytes.TrimSpace(rest[:n]))
		if n == len(rest) {
			return items, nil
		}
		rest = rest[n+1:]
	}
}

// element returns how long the element at the start of data is: up to a comma that is in no bracket and
// no string, or to the end.
func element(data []byte) (int, error) {
	depth, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[' || c == '{':
			depth++
		case c == ']' || c == '}':
			if depth--; depth < 0 {
				return 0, Errorf("", "brackets in pairs")
			}
		case c == ',' && depth == 0:
			return i, nil
		}
	}
	if depth != 0 || quoted {
		return 0, Errorf("", "brackets and quotes in pairs")
	}
	return len(data), nil
}

// SplitLines returns the lines that aren't blank (NDJSON).
func SplitLines(data []byte) ([][]byte, error) {
	var items [][]byte
	for line := range bytes.Lines(data) {
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		if len(items) == ingest.MaxItems {
			return nil, ingest.ErrTooManyItems
		}
		items = append(items, line)
	}
	return items, nil
}
