package syslog

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// maxFrame is how long a line may claim or turn out to be before the connection is closed. What is over MaxLine of it is
// read and thrown away.
const maxFrame = 16 << 20

var errFrame = errors.New("syslog: malformed frame")

// frameReader splits a stream into lines (RFC 6587): octet counting where a frame begins with a digit, else each line ends
// with LF or NUL.
type frameReader struct {
	r     *bufio.Reader
	begun func() // a line has begun
	buf   []byte
}

// next returns the next line, which is valid until the call after, and whether it was cut. io.EOF means that the stream
// ended between two lines.
func (f *frameReader) next() (line []byte, cut bool, err error) {
	if cap(f.buf) > 8<<10 { // one long line must not cost its size for as long as the connection lives
		f.buf = nil
	}
	f.buf = f.buf[:0]
	var first byte
	for { // the ends of lines that were counted
		if first, err = f.r.ReadByte(); err != nil {
			return nil, false, err
		}
		if first != '\n' && first != '\r' && first != 0 {
			break
		}
	}
	f.begun()
	if err := f.r.UnreadByte(); err != nil {
		return nil, false, err
	}
	if first >= '1' && first <= '9' {
		return f.counted()
	}
	return f.delimited()
}

func (f *frameReader) counted() ([]byte, bool, error) {
	n := 0
	for {
		c, err := f.r.ReadByte()
		switch {
		case err != nil:
			return nil, false, unexpected(err)
		case c == ' ':
			return f.take(n)
		case c < '0' || c > '9':
			return nil, false, fmt.Errorf("%w: expected a length", errFrame)
		}
		if n = n*10 + int(c-'0'); n > maxFrame {
			return nil, false, fmt.Errorf("%w: longer than %d bytes", errFrame, maxFrame)
		}
	}
}

// take reads a line of n bytes, in steps, for what is announced needn't come.
func (f *frameReader) take(n int) ([]byte, bool, error) {
	for left := min(n, MaxLine); left > 0; {
		step := min(left, 4<<10)
		at := len(f.buf)
		f.buf = append(f.buf, make([]byte, step)...)
		if _, err := io.ReadFull(f.r, f.buf[at:]); err != nil {
			return nil, false, unexpected(err)
		}
		left -= step
	}
	if n <= MaxLine {
		return f.buf, false, nil
	}
	if _, err := f.r.Discard(n - MaxLine); err != nil {
		return nil, false, unexpected(err)
	}
	return f.buf, true, nil
}

func (f *frameReader) delimited() (line []byte, cut bool, err error) {
	for n := 0; n < maxFrame; n++ {
		c, err := f.r.ReadByte()
		switch {
		case errors.Is(err, io.EOF) && n > 0:
			return f.buf, cut, nil // the last line needs no end
		case err != nil:
			return nil, false, unexpected(err)
		case c == '\n' || c == 0:
			return f.buf, cut, nil
		case len(f.buf) < MaxLine:
			f.buf = append(f.buf, c)
		default:
			cut = true
		}
	}
	return nil, false, fmt.Errorf("%w: a line of more than %d bytes", errFrame, maxFrame)
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
