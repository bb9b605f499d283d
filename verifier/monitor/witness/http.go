package witness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
)

// Handler serves both prefixes of c2sp.org/tlog-witness, submission and monitoring:
//
//	POST /add-checkpoint
//	GET  /<hex(SHA-256(origin))>/checkpoint
//
// A server in front of it should limit how long a request may take to be read; a body is
// read up to [MaxRequestBytes]. Whatever is sent, bad input is answered with a status below 500.
func (w *Witness) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /add-checkpoint", w.serveAdd)
	mux.HandleFunc("GET /{origin}/checkpoint", w.serveLatest)
	return mux
}

func (w *Witness) serveAdd(rw http.ResponseWriter, r *http.Request) {
	lines, err := w.add(rw, r)
	if err != nil {
		w.fail(rw, r, err)
		return
	}
	// "The response body MUST be a sequence of one or more note signature lines".
	rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
	rw.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = rw.Write(lines) // a client that is gone asks again
}

func (w *Witness) add(rw http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(rw, r.Body, int64(MaxRequestBytes)))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, MaxRequestBytes)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: read the body: %w", ErrMalformed, err)
	}
	req, err := ParseRequest(body)
	if err != nil {
		return nil, err
	}
	return w.Add(r.Context(), req.OldSize, req.Proof, req.Note)
}

func (w *Witness) serveLatest(rw http.ResponseWriter, r *http.Request) {
	l := w.urls[r.PathValue("origin")]
	if l == nil {
		w.fail(rw, r, ErrUnknownOrigin)
		return
	}
	note, err := w.Latest(r.Context(), l.key.Origin())
	if err != nil {
		w.fail(rw, r, err)
		return
	}
	// "If the witness has never cosigned a checkpoint for that log, it MUST respond with a
	// "404 Not Found" HTTP status code instead."
	if note == nil {
		http.Error(rw, "no checkpoint of this log was cosigned yet", http.StatusNotFound)
		return
	}
	h := rw.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-cache")
	h.Set("Access-Control-Allow-Origin", "*")
	_, _ = rw.Write(note)
}

// fail answers with the status of an error. Only the witness's own errors are kept from the
// client, and logged.
func (w *Witness) fail(rw http.ResponseWriter, r *http.Request, err error) {
	status := statusOf(err)
	var conflict *ConflictError
	switch {
	case errors.As(err, &conflict):
		// "The response body MUST consist of the tree size of the latest cosigned checkpoint in
		// decimal, followed by a newline (U+000A). The response MUST have a `Content-Type` of
		// `text/x.tlog.size`."
		rw.Header().Set("Content-Type", "text/x.tlog.size")
		rw.WriteHeader(status)
		_, _ = io.WriteString(rw, strconv.FormatUint(conflict.Known, 10)+"\n")
	case status < http.StatusInternalServerError:
		w.cfg.Log.DebugContext(r.Context(), "refused", "path", r.URL.Path, "status", status, "error", err)
		http.Error(rw, err.Error(), status)
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		http.Error(rw, "not in time", http.StatusServiceUnavailable)
	default:
		w.cfg.Log.ErrorContext(r.Context(), "request failed", "path", r.URL.Path, "error", err)
		http.Error(rw, "internal error", status)
	}
}
