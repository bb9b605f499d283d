package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"

	"github.com/prooftrail/prooftrail/verifier/client"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// maxLine is how much of a line is kept: enough to see that it is too long for
// an event.
const maxLine = event.MaxBytes + 1

// numbered is an event and the line that it began on, from 1.
type numbered struct {
	line int
	raw  []byte
}

// eventReader reads events: one JSON object over any number of lines, or one on
// each line. Memory is bounded, however long the input and its lines.
type eventReader struct {
	in    *bufio.Reader
	line  int       // lines read
	held  *numbered // read ahead, belongs to the next batch
	begun bool
}

func newEventReader(in *bufio.Reader) *eventReader { return &eventReader{in: in} }

// batch returns the next events, as many as one request may hold. The error is
// io.EOF with the last ones.
func (r *eventReader) batch() (batch []numbered, err error) {
	size := 0
	for len(batch) < client.MaxBatchEvents {
		n, err := r.next()
		if err != nil {
			return batch, err
		}
		if size += len(n.raw) + 1; size > client.MaxBatchBytes {
			r.held = &n
			return batch, nil
		}
		batch = append(batch, n)
	}
	return batch, nil
}

func (r *eventReader) next() (numbered, error) {
	if h := r.held; h != nil {
		r.held = nil
		return *h, nil
	}
	for {
		raw, err := r.readLine()
		if err != nil {
			return numbered{}, err
		}
		if len(bytes.TrimSpace(raw)) == 0 {
			continue
		}
		n := numbered{r.line, raw}
		if !r.begun {
			r.begun = true
			return r.whole(n)
		}
		return n, nil
	}
}

// whole looks whether the input is one object over several lines, which begins
// with a line that is no JSON by itself. If it isn't, the first line is an
// event, however bad.
func (r *eventReader) whole(first numbered) (numbered, error) {
	if json.Valid(first.raw) || len(first.raw) > event.MaxBytes {
		return first, nil
	}
	rest, err := io.ReadAll(io.LimitReader(r.in, event.MaxBytes))
	if err != nil {
		return first, err
	}
	all := append(append(bytes.Clone(first.raw), '\n'), rest...)
	if json.Valid(all) {
		r.line += bytes.Count(rest, []byte("\n"))
		return numbered{first.line, all}, nil
	}
	r.in = bufio.NewReaderSize(io.MultiReader(bytes.NewReader(rest), r.in), 64<<10)
	return first, nil
}

// readLine reads one line without its end, at most maxLine bytes of it. io.EOF
// comes alone.
func (r *eventReader) readLine() (line []byte, err error) {
	for {
		part, err := r.in.ReadSlice('\n')
		if room := maxLine - len(line); room > 0 {
			line = append(line, part[:min(room, len(part))]...)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil && (!errors.Is(err, io.EOF) || len(line) == 0) {
			return nil, err
		}
		r.line++
		return bytes.TrimRight(line, "\r\n"), nil
	}
}
