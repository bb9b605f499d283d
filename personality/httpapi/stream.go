package httpapi

import "net/http"

// stream is an answer of any length, written in chunks. A client that doesn't
// take a chunk within WriteTimeout loses its connection.
type stream struct {
	x           *exchange
	contentType []string
	buf         *buffer
	err         error // of the client's connection; nothing more is written then
}

func newStream(x *exchange, contentType []string) *stream {
	return &stream{x: x, contentType: contentType, buf: getBuffer()}
}

// flush writes what is buffered once that is at least so many bytes.
func (s *stream) flush(least int) {
	if len(s.buf.b) < least || len(s.buf.b) == 0 {
		return
	}
	x := s.x
	if x.status == 0 {
		x.w.Header()["Content-Type"] = s.contentType
		x.status = http.StatusOK
		x.w.WriteHeader(x.status)
	}
	if s.err == nil {
		var n int
		x.extend()
		n, s.err = x.w.Write(s.buf.b)
		x.written += int64(n)
	}
	s.buf.b = s.buf.b[:0]
}

// end writes the rest. A short answer is written whole, with its length.
func (s *stream) end() {
	if s.x.status == 0 {
		s.x.send(http.StatusOK, s.contentType, s.buf.b)
	} else {
		s.flush(0)
	}
	putBuffer(s.buf)
}
