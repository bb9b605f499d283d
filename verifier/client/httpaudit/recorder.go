package httpaudit

import (
	"bufio"
	"io"
	"net"
	"net/http"
)

// recorder remembers what was answered.
type recorder struct {
	http.ResponseWriter
	status int // 0: nothing was answered yet
	bytes  int64
}

// WriteHeader remembers the final status: those of 1xx come before it, but for the one that hands the connection over.
func (w *recorder) WriteHeader(status int) {
	if w.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	w.implied()
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// ReadFrom lets the server copy files by itself.
func (w *recorder) ReadFrom(r io.Reader) (int64, error) {
	w.implied()
	n, err := io.Copy(w.ResponseWriter, r)
	w.bytes += n
	return n, err
}

func (w *recorder) implied() {
	if w.status == 0 {
		w.status = http.StatusOK
	}
}

// Unwrap is for http.ResponseController.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// keeping returns the recorder with what the server's own writer can do beside, for handlers that ask for it by type.
func (w *recorder) keeping() http.ResponseWriter {
	f, canFlush := w.ResponseWriter.(http.Flusher)
	p, canPush := w.ResponseWriter.(http.Pusher)
	h, canHijack := w.ResponseWriter.(http.Hijacker)
	switch {
	case canFlush && canHijack:
		return struct {
			*recorder
			flusher
			hijacker
		}{w, flusher{w, f}, hijacker{w, h}}
	case canFlush && canPush: // HTTP/2
		return struct {
			*recorder
			flusher
			http.Pusher
		}{w, flusher{w, f}, p}
	case canFlush:
		return struct {
			*recorder
			flusher
		}{w, flusher{w, f}}
	case canHijack:
		return struct {
			*recorder
			hijacker
		}{w, hijacker{w, h}}
	}
	return w
}

type flusher struct {
	w *recorder
	f http.Flusher
}

// Flush sends what was written.
func (f flusher) Flush() {
	f.w.implied()
	f.f.Flush()
}

// FlushError is what http.ResponseController asks for: it tells a handler that the client is gone.
func (f flusher) FlushError() error {
	f.w.implied()
	return http.NewResponseController(f.w.ResponseWriter).Flush()
}

type hijacker struct {
	w *recorder
	h http.Hijacker
}

// Hijack hands the connection over.
func (h hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := h.h.Hijack()
	if err == nil && h.w.status == 0 {
		h.w.status = http.StatusSwitchingProtocols
	}
	return conn, rw, err
}
