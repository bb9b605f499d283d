// Package vectors reads and writes the text test vectors under
// verifier/testdata/vectors, which Go and JavaScript share.
//
// A vector is one UTF-8 file with line feeds only:
//
//	desc: a target index with a leading zero
//	expect: refused
//	code: unknown
//
//	-- opening --
//	{"fields":[…
//	-- receipt lines --
//	c2sp.org/tlog-proof@v1
//	…
//
// First header lines, `name: value`, up to an empty line; then blocks. A line
// `-- name --` opens a block that runs to the next such line or the end of the
// file. A second word in that line says how the block's bytes are written:
//
//	-- name --         the lines as they stand, without the last line feed
//	-- name lines --   the lines as they stand, with the last line feed
//	-- name hex --     hexadecimal digits; white space between them means nothing
//	-- name repeat --  each line is a count, one space and a text; the block is
//	                   the texts, each so many times, with nothing in between
//
// What a directory's headers and blocks mean is said in the README beside the
// vectors.
package vectors

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxRepeat bounds the bytes that a repeat block may expand to.
const maxRepeat = 16 << 20

// A Case is one vector.
type Case struct {
	Name   string            // the file's name without ".txt"
	Header map[string]string // the header lines; "desc" and "expect" are in each
	Blocks map[string][]byte // the blocks, decoded
}

// Load reads each *.txt file of dir, in the order of their names. It is an
// error if there is none: a test that finds no vectors must not pass.
func Load(dir string) ([]Case, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil {
		return nil, fmt.Errorf("load vectors: %w", err)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("load vectors: no *.txt in %s", dir)
	}
	cases := make([]Case, 0, len(files))
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("load vectors: %w", err)
		}
		c, err := Parse(strings.TrimSuffix(filepath.Base(file), ".txt"), data)
		if err != nil {
			return nil, fmt.Errorf("load vectors: %w", err)
		}
		cases = append(cases, c)
	}
	return cases, nil
}

// Parse reads one vector. It is strict, so that every reader of the format
// sees the same thing: a header or a block may not come twice, and a carriage
// return (a checkout with converted line ends) is refused.
func Parse(name string, data []byte) (Case, error) {
	c := Case{Name: name, Header: map[string]string{}, Blocks: map[string][]byte{}}
	if !utf8.Valid(data) || bytes.ContainsRune(data, '\r') {
		return Case{}, fmt.Errorf("vector %s: not UTF-8 text with line feeds only", name)
	}
	if len(data) > 0 && data[len(data)-1] != '\n' {
		return Case{}, fmt.Errorf("vector %s: no line feed at the end", name)
	}
	lines := strings.SplitAfter(string(data), "\n")
	lines = lines[:len(lines)-1] // what follows the last line feed: nothing
	i, err := c.parseHeader(lines)
	if err != nil {
		return Case{}, fmt.Errorf("vector %s: %w", name, err)
	}
	for i < len(lines) {
		block, how, ok := blockLine(lines[i])
		if !ok {
			return Case{}, fmt.Errorf("vector %s: line %d: not a block line", name, i+1)
		}
		if _, twice := c.Blocks[block]; twice {
			return Case{}, fmt.Errorf("vector %s: block %q twice", name, block)
		}
		start := i + 1
		for i = start; i < len(lines) && !isBlockLine(lines[i]); i++ {
		}
		if c.Blocks[block], err = decode(how, lines[start:i]); err != nil {
			return Case{}, fmt.Errorf("vector %s: block %q: %w", name, block, err)
		}
	}
	return c, nil
}

// parseHeader reads the header and returns the index of the line behind the
// empty line that ends it.
func (c *Case) parseHeader(lines []string) (int, error) {
	for i, line := range lines {
		if line == "\n" {
			if c.Header["desc"] == "" || c.Header["expect"] == "" {
				return 0, errors.New("header without desc or expect")
			}
			return i + 1, nil
		}
		key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		if !ok || key == "" || strings.ContainsAny(key, " -") {
			return 0, fmt.Errorf("line %d: not a header line", i+1)
		}
		if _, twice := c.Header[key]; twice {
			return 0, fmt.Errorf("header %q twice", key)
		}
		c.Header[key] = value
	}
	return 0, errors.New("no end of the header")
}

func isBlockLine(line string) bool {
	_, _, ok := blockLine(line)
	return ok
}

// blockLine takes a block line apart: its name, and how its bytes are written.
func blockLine(line string) (name, how string, ok bool) {
	line = strings.TrimSuffix(line, "\n")
	words := strings.Split(line, " ")
	if len(words) < 3 || len(words) > 4 || words[0] != "--" || words[len(words)-1] != "--" {
		return "", "", false
	}
	name = words[1]
	if len(words) == 4 {
		how = words[2]
	}
	return name, how, name != ""
}

func decode(how string, lines []string) ([]byte, error) {
	text := strings.Join(lines, "")
	switch how {
	case "":
		return []byte(strings.TrimSuffix(text, "\n")), nil
	case "lines":
		return []byte(text), nil
	case "hex":
		return hex.DecodeString(strings.Join(strings.Fields(text), ""))
	case "repeat":
		return repeat(lines)
	}
	return nil, fmt.Errorf("unknown encoding %q", how)
}

func repeat(lines []string) ([]byte, error) {
	out := []byte{}
	for _, line := range lines {
		count, text, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		n, err := strconv.Atoi(count)
		if !ok || err != nil || n < 0 || len(out)+n*len(text) > maxRepeat {
			return nil, errors.New("not a count and a text, or too much")
		}
		out = append(out, strings.Repeat(text, n)...)
	}
	return out, nil
}

// Format writes c as Parse reads it: desc and expect first, then the other
// headers and the blocks by name, each block in the plainest form that can
// hold it.
func (c Case) Format() []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, "desc: %s\nexpect: %s\n", c.Header["desc"], c.Header["expect"])
	for _, key := range slices.Sorted(maps.Keys(c.Header)) {
		if key != "desc" && key != "expect" {
			fmt.Fprintf(&out, "%s: %s\n", key, c.Header[key])
		}
	}
	out.WriteByte('\n')
	for _, name := range slices.Sorted(maps.Keys(c.Blocks)) {
		formatBlock(&out, name, c.Blocks[name])
	}
	return out.Bytes()
}

func formatBlock(out *bytes.Buffer, name string, data []byte) {
	switch {
	case !plain(data):
		fmt.Fprintf(out, "-- %s hex --\n", name)
		for line := range slices.Chunk(data, 32) {
			fmt.Fprintf(out, "%x\n", line)
		}
	case bytes.HasSuffix(data, []byte("\n")):
		fmt.Fprintf(out, "-- %s lines --\n%s", name, data)
	default:
		fmt.Fprintf(out, "-- %s --\n%s\n", name, data)
	}
}

// plain reports whether data can stand in a file as it is.
func plain(data []byte) bool {
	if !utf8.Valid(data) || bytes.ContainsFunc(data, func(r rune) bool { return r < ' ' && r != '\n' || r == 0x7f }) {
		return false
	}
	for line := range strings.Lines(string(data)) {
		if isBlockLine(line) {
			return false
		}
	}
	return true
}
