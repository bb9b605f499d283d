package verifier

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/prooftrail/prooftrail/verifier/seal"
)

// openingChecker checks the openings of consecutive entries against their leaf hashes. What
// it finds goes into its unit.
type openingChecker struct {
	*worker
	start  uint64
	leaves []Hash // of the entries from start on
	unit   *unit

	// late are the openings with an erasure that an entry past the tree that is audited is
	// said to record: the log may have grown since its head was read.
	late []lateErasure
}

// lateErasure is an opening that can't be judged yet.
type lateErasure struct {
	by        uint64 // the farthest entry named
	redaction Redaction
}

// maxStalls is how many streams in a row may end without a single line.
const maxStalls = 3

// run asks until each entry was answered for. A wrong answer is a failure of its entry;
// only a server that doesn't answer is an error.
func (c *openingChecker) run(ctx context.Context) error {
	next, end := c.start, c.start+uint64(len(c.leaves))
	for stalls := 0; next < end; {
		got, err := c.stream(ctx, next, min(end-next, MaxOpeningCount))
		next += got
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if got > 0 {
			stalls = 0
			continue
		}
		var final *finalError
		if stalls++; stalls >= maxStalls || errors.As(err, &final) {
			return fmt.Errorf("openings of entries %d to %d: %w", next, end-1, orNoLines(err))
		}
	}
	return nil
}

func orNoLines(err error) error {
	if err == nil {
		return errors.New("the server answers without lines")
	}
	return err
}

// finalError says that the source has already tried for long enough.
type finalError struct{ error }

func (e *finalError) Unwrap() error { return e.error }

// stream reads one answer and returns for how many entries it spoke.
func (c *openingChecker) stream(ctx context.Context, start, count uint64) (got uint64, err error) {
	body, err := c.cfg.Openings.Openings(ctx, start, count)
	if err != nil {
		return 0, &finalError{err}
	}
	defer body.Close()
	if c.lines == nil {
		c.lines = make([]byte, 64<<10)
	}
	lines := bufio.NewScanner(body)
	lines.Buffer(c.lines, MaxOpeningLine)
	lines.Split(wholeLines)
	for got < count && lines.Scan() {
		if !c.line(start+got, lines.Bytes()) {
			return got + 1, nil // out of step: ask again behind it
		}
		got++
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		c.reject(start+got, fmt.Sprintf("opening line of more than %d bytes", MaxOpeningLine))
		return got + 1, nil
	}
	return got, lines.Err()
}

// wholeLines is bufio.ScanLines without the last, unended line: that one was cut short.
func wholeLines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF && len(data) > 0 {
		return 0, nil, io.ErrUnexpectedEOF
	}
	return 0, nil, nil
}

// line judges the line for an entry; false if it isn't for this entry.
func (c *openingChecker) line(index uint64, line []byte) bool {
	l, err := ParseOpeningLine(line)
	if err != nil {
		c.reject(index, "opening line is malformed")
		return false
	}
	if l.Index != index {
		c.reject(index, fmt.Sprintf("opening of entry %d was sent in its place", l.Index))
		return false
	}
	switch {
	case l.Opening != nil:
		c.opening(index, l.Opening)
	case l.Reason == ReasonTenant:
		c.unit.notShown(index)
	default:
		c.reject(index, "opening is missing")
	}
	return true
}

func (c *openingChecker) opening(index uint64, b []byte) {
	o, err := c.parser.Parse(b)
	if err != nil {
		c.reject(index, fmt.Sprintf("opening is malformed: %v", err))
		return
	}
	if c.parser.LeafHash() != c.leaves[index-c.start] {
		c.reject(index, "opening does not match the leaf")
		return
	}
	if err := checkErasures(o, index); err != nil {
		c.reject(index, err.Error())
		return
	}
	c.signature(index, o)
	if e, ok := c.sourceEvent(o, index); ok {
		c.unit.events = append(c.unit.events, e)
	}
	r, by := redactionOf(o, index)
	switch {
	case r == nil:
		c.unit.counts.Verified++
	case by >= c.head.Size:
		if len(c.late) >= MaxListedRedactions {
			*r = r.bare() // a hostile server's openings don't fill the memory
		}
		c.late = append(c.late, lateErasure{by, *r})
	default:
		c.unit.redacted(*r)
	}
}

// settle judges what run could not judge yet. The size of a newer head is asked for if need
// be, once.
func (c *openingChecker) settle(ctx context.Context) error {
	if len(c.late) == 0 {
		return nil
	}
	size, err := c.newestSize(ctx)
	if err != nil {
		return err
	}
	for _, l := range c.late {
		if l.by < size {
			c.unit.redacted(l.redaction)
			continue
		}
		c.reject(l.redaction.Index, fmt.Sprintf("opening names entry %d as the record of an erasure, and the log has %d entries", l.by, size))
	}
	return nil
}

func (c *openingChecker) reject(index uint64, reason string) {
	c.unit.counts.Failed++
	c.unit.fail(index, 1, "%s", reason)
}

// checkErasures checks what is wrong in any log: an erasure is recorded after the entry that
// it is of. The leaf doesn't bind which entry records it. The error matches [ErrFailed].
func checkErasures(o *seal.Opening, index uint64) error {
	for i := range o.Fields {
		if f := &o.Fields[i]; f.ErasedBy != nil && *f.ErasedBy <= index {
			return failedf("opening names entry %d as the record of an erasure, which isn't behind entry %d", *f.ErasedBy, index)
		}
	}
	return nil
}
