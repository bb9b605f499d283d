package httpapi

import (
	"errors"
	"io"
	"os"
	"sync"
)

const (
	freeBuffer = 16 << 10 // what a buffer may hold without being counted
	keepBuffer = 1 << 20  // what the pool keeps
	chunk      = 64 << 10 // what is written at once
)

// buffer is a pooled []byte for a body or an answer.
type buffer struct {
	b     []byte
	limit int // bytes that it may hold; what exceeds freeBuffer is counted
}

var buffers = sync.Pool{New: func() any { return &buffer{b: make([]byte, 0, 4<<10)} }}

func getBuffer() *buffer {
	buf := buffers.Get().(*buffer)
	buf.b, buf.limit = buf.b[:0], freeBuffer
	return buf
}

func putBuffer(buf *buffer) {
	if cap(buf.b) <= keepBuffer {
		buffers.Put(buf)
	}
}

// reserve makes room for n more bytes of a body, which are counted against
// Config.BodyMemory until releaseBody.
func (a *API) reserve(buf *buffer, n int) error {
	need := len(buf.b) + n
	if need > buf.limit {
		limit := max(need, 2*buf.limit)
		more := int64(limit - buf.limit)
		if a.bodyMemory.Add(more) > a.cfg.BodyMemory {
			a.bodyMemory.Add(-more)
			return errBodies
		}
		buf.limit = limit
	}
	if need > cap(buf.b) {
		grown := make([]byte, len(buf.b), buf.limit)
		copy(grown, buf.b)
		buf.b = grown
	}
	return nil
}

func (a *API) releaseBody(buf *buffer) {
	if buf.limit > freeBuffer {
		a.bodyMemory.Add(-int64(buf.limit - freeBuffer))
	}
	putBuffer(buf)
}

var errBodies = &problem{kind: kindBusy, detail: "too many bodies at once"}

var errRequestSize = &problem{kind: kindRequestSize, detail: "the body is larger than 8 MiB"}

// readSome reads more of the body into buf, at least a byte or an error.
// io.EOF is the orderly end of the body.
func (x *exchange) readSome(buf *buffer) error {
	if len(buf.b) == cap(buf.b) || len(buf.b) >= buf.limit {
		if err := x.api.reserve(buf, 1); err != nil {
			return err
		}
	}
	n, err := x.r.Body.Read(buf.b[len(buf.b):min(cap(buf.b), buf.limit)])
	buf.b = buf.b[:len(buf.b)+n]
	switch {
	case err == nil || err == io.EOF:
		return err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &problem{kind: kindTimeout, cause: err}
	case isGzipError(err):
		p := badMember("", "a sound gzip stream, as Content-Encoding says")
		p.cause = err
		return p
	default:
		p := badMember("", "all of it; it ended before its end")
		p.cause = err
		return p
	}
}

// readBody reads the whole body, of at most limit bytes.
func (x *exchange) readBody(buf *buffer, limit int, tooLarge *problem) error {
	if x.r.ContentLength > int64(limit) {
		return tooLarge
	}
	for {
		err := x.readSome(buf)
		if len(buf.b) > limit {
			return tooLarge
		}
		if err == io.EOF {
			x.bodyDone()
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// line is one line of an NDJSON body, without its end. It is valid until the
// next one is read.
type line struct {
	text    []byte
	tooLong bool // longer than an event in its envelope may be; text is nil
}

// lines reads an NDJSON body and hands over each line that isn't blank as soon
// as it has arrived whole. The last line may lack its line feed if the body
// ended in order; of a body that was cut short the rest is dropped.
func (x *exchange) lines(each func(line) error) error {
	buf := getBuffer()
	defer x.api.releaseBody(buf)
	ls := lineSplitter{each: each}
	total := 0
	for {
		before := len(buf.b)
		err := x.readSome(buf)
		if total += len(buf.b) - before; total > MaxBodyBytes {
			return errRequestSize
		}
		rest, stop := ls.feed(buf.b, before, err == io.EOF) // what came with an error has come too
		if stop != nil {
			return stop
		}
		buf.b = buf.b[:copy(buf.b, rest)]
		if err == io.EOF {
			x.bodyDone()
			return nil
		}
		if err != nil {
			return err
		}
	}
}
