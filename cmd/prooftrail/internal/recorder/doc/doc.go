// Package doc reads copies of bodies that strangers have written: JSON and forms, compressed or not. All of it is
// bounded: bytes, also after they were decompressed, depth, and how many values there are. What can't be
// read within that is an error, and never a part of it.
package doc

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
)

// Bounds of what is read.
const (
	maxDepth  = 64
	maxValues = 20_000
)

// Errors of Parse.
var (
	ErrSize   = errors.New("larger than is looked at")
	ErrFormat = errors.New("neither JSON nor a form")
)

// IsForm reports whether a content type is that of a form whose fields stand in a query's form.
func IsForm(contentType string) bool {
	return strings.HasPrefix(strings.ToLower(strings.TrimSpace(contentType)), "application/x-www-form-urlencoded")
}

// Doc is a body that was read. Its values are those of encoding/json, with json.Number for numbers.
type Doc struct {
	Value any
	// Doubled says that an object had a name twice, maybe in another case, or a form a field, or that it is JSON called a form:
	// readers differ on which counts. Here it is the last one of an object, and the first of a form.
	Doubled bool
}

// Parse reads the copy of a body of at most limit bytes after decompression. encoding and contentType are the headers
// Content-Encoding and Content-Type.
func Parse(data []byte, encoding, contentType string, limit int) (*Doc, error) {
	data, err := decompress(data, encoding, limit)
	if err != nil {
		return nil, err
	}
	data = bytes.TrimPrefix(bytes.TrimSpace(data), []byte("\xef\xbb\xbf"))
	isJSON := len(data) > 0 && (data[0] == '{' || data[0] == '[')
	if !IsForm(contentType) {
		if !isJSON {
			return nil, ErrFormat
		}
		return parseJSON(data)
	}
	if isJSON { // curl says form where people mean JSON, and readers differ on which counts
		if d, err := parseJSON(data); err == nil && !bytes.ContainsRune(data, '&') {
			return d, nil
		}
	}
	d, err := parseForm(string(data))
	if err == nil && isJSON {
		d.Doubled = true
	}
	return d, err
}

// decompress undoes one coding. More than one, or another one, isn't read.
func decompress(data []byte, encoding string, limit int) ([]byte, error) {
	var r io.Reader
	var err error
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "", "identity":
		r = bytes.NewReader(data)
	case "gzip", "x-gzip":
		r, err = gzip.NewReader(bytes.NewReader(data))
	case "deflate":
		r, err = zlib.NewReader(bytes.NewReader(data))
	default:
		return nil, fmt.Errorf("%w: its coding isn't known here", ErrFormat)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	out, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	switch {
	case len(out) > limit:
		return nil, ErrSize
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return out, nil
}

func parseForm(text string) (*Doc, error) {
	if strings.Count(text, "&") > maxValues {
		return nil, ErrSize
	}
	values, err := url.ParseQuery(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	d, out := &Doc{}, map[string]any{}
	for name, v := range values {
		out[name] = v[0]
		d.Doubled = d.Doubled || len(v) > 1
	}
	d.Value = out
	return d, nil
}

// parser counts what it reads.
type parser struct {
	dec     *json.Decoder
	values  int
	doubled bool
}

func parseJSON(data []byte) (*Doc, error) {
	p := &parser{dec: json.NewDecoder(bytes.NewReader(data))}
	p.dec.UseNumber()
	v, err := p.value(0)
	if err != nil {
		return nil, err
	}
	if _, err := p.dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: something follows the value", ErrFormat)
	}
	return &Doc{v, p.doubled}, nil
}

func (p *parser) value(depth int) (any, error) {
	t, err := p.dec.Token()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	p.values++
	if depth > maxDepth || p.values > maxValues {
		return nil, ErrSize
	}
	switch t {
	case json.Delim('{'):
		return p.object(depth)
	case json.Delim('['):
		return p.array(depth)
	}
	return t, nil
}

func (p *parser) object(depth int) (any, error) {
	out, seen := map[string]any{}, map[string]bool{}
	for p.dec.More() {
		t, err := p.dec.Token()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrFormat, err)
		}
		name, _ := t.(string) // the decoder takes nothing else there
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		key := fold(name)
		p.doubled = p.doubled || seen[key]
		seen[key], out[name] = true, v
	}
	return out, p.end()
}

func (p *parser) array(depth int) (any, error) {
	out := []any{}
	for p.dec.More() {
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, p.end()
}

func (p *parser) end() error {
	if _, err := p.dec.Token(); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return nil
}
