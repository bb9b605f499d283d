package monitor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/monitor/gossip"
)

// Handler serves what docs/spec/gossip.md says, and mirrors:
//
//	GET  /gossip/v1/logs/{log}/heads
//	POST /gossip/v1/heads
//	GET  /gossip/v1/evidence
//	GET  /gossip/v1/evidence/{id}
//	POST /gossip/v1/evidence
//	     /distributor/v0/…
//	GET  /mirror/{log}/checkpoint, /mirror/{log}/tile/…
//
// Everything is limited: how often an address may call and with how many bodies at once, how much is read and for
// how long, how much is kept. A server around it should limit how long a header may take to be read, and an
// answer to be written.
func (m *Monitor) Handler() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, h func(http.ResponseWriter, *http.Request) error) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Content-Type-Options", "nosniff")
			if err := h(w, r); err != nil {
				m.fail(w, r, err)
			}
		})
	}
	handle("GET /gossip/v1/logs/{log}/heads", m.serveHeads)
	handle("POST /gossip/v1/heads", m.servePostHead)
	handle("GET /gossip/v1/evidence", m.serveEvidenceList)
	handle("GET /gossip/v1/evidence/{id}", m.serveEvidence)
	handle("POST /gossip/v1/evidence", m.servePostEvidence)
	handle("GET /distributor/v0/logs", m.serveLogs)
	handle("GET /distributor/v0/witnesses", m.serveWitnesses)
	handle("GET /distributor/v0/logs/{log}/{checkpoint}", m.serveCheckpointN)
	handle("GET /distributor/v0/logs/{log}/byWitness/{witness}/checkpoint", m.serveByWitness)
	handle("PUT /distributor/v0/logs/{log}/byWitness/{witness}/checkpoint", m.servePutByWitness)
	handle("GET /mirror/{log}/{file...}", m.serveMirror)
	return m.Limit(mux)
}

// Limit is h, called as often as [Config.Rate] allows an address. All that it is put around counts
// together, Handler too.
func (m *Monitor) Limit(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !m.limits.allow(r.RemoteAddr) {
			w.Header().Set("Retry-After", strconv.Itoa(burst))
			http.Error(w, "too many requests from this address", http.StatusTooManyRequests)
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			if !m.limits.enter(r.RemoteAddr) {
				w.Header().Set("Retry-After", strconv.Itoa(burst))
				http.Error(w, "too many requests with a body are under way", http.StatusTooManyRequests)
				return
			}
			defer m.limits.leave(r.RemoteAddr)
		}
		h.ServeHTTP(w, r)
	})
}

// statusError is an error with its status.
type statusError struct {
	status int
	error
}

func (e *statusError) Unwrap() error { return e.error }

// fail answers with the status of an error. Only the monitor's own troubles are kept from the client.
func (m *Monitor) fail(w http.ResponseWriter, r *http.Request, err error) {
	status := http.StatusServiceUnavailable
	var known *statusError
	switch {
	case errors.As(err, &known):
		status = known.status
	case errors.As(err, new(*http.MaxBytesError)):
		status = http.StatusRequestEntityTooLarge
	case errors.Is(err, ErrUnknownLog), errors.Is(err, fs.ErrNotExist), errors.Is(err, errUnknownWitness):
		status = http.StatusNotFound
	case errors.Is(err, verifier.ErrNotSigned), errors.Is(err, errNotCosigned):
		status = http.StatusForbidden
	case errors.Is(err, ErrProvesNothing), errors.Is(err, errNotAgreed):
		status = http.StatusUnprocessableEntity
	case errors.Is(err, errNotNewer):
		status = http.StatusConflict
	case errors.Is(err, verifier.ErrFailed):
		status = http.StatusBadRequest
	}
	if status == http.StatusServiceUnavailable {
		m.cfg.Log.ErrorContext(r.Context(), "request failed", "path", r.URL.Path, "error", err)
		http.Error(w, "the monitor can't do that now", status)
		return
	}
	http.Error(w, clip(err.Error(), 1000), status)
}

// body reads what was posted.
func body(w http.ResponseWriter, r *http.Request, limit int) ([]byte, error) {
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(bodyTime)) // where there is no connection, nobody drips
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(limit)))
	_ = rc.SetReadDeadline(time.Time{})
	if errors.As(err, new(*http.MaxBytesError)) {
		return nil, fmt.Errorf("the body has more than %d bytes: %w", limit, err)
	}
	if err != nil {
		return nil, &statusError{http.StatusBadRequest, fmt.Errorf("read the body: %w", err)}
	}
	return b, nil
}

func writeJSON(w http.ResponseWriter, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-cache")
	_, _ = w.Write(append(b, '\n')) // a client that is gone asks again
	return nil
}

// writeText writes a note or an evidence file.
func writeText(w http.ResponseWriter, b []byte) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Cache-Control", "no-cache")
	h.Set("Access-Control-Allow-Origin", "*")
	_, _ = io.Copy(w, bytes.NewReader(b)) // a client that is gone asks again
}

// log returns the follower that a path names.
func (m *Monitor) log(r *http.Request) (*follower, error) {
	if f := m.byID[r.PathValue("log")]; f != nil {
		return f, nil
	}
	return nil, ErrUnknownLog
}

func (m *Monitor) serveHeads(w http.ResponseWriter, r *http.Request) error {
	f, err := m.log(r)
	if err != nil {
		return err
	}
	h, err := f.heads(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, h)
}

func (m *Monitor) servePostHead(w http.ResponseWriter, r *http.Request) error {
	b, err := body(w, r, verifier.MaxNoteBytes)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), answerTime)
	defer cancel()
	a, err := m.Observe(ctx, b, r.RemoteAddr)
	if err != nil {
		return err
	}
	return writeJSON(w, a)
}

func (m *Monitor) serveEvidenceList(w http.ResponseWriter, _ *http.Request) error {
	l := gossip.List{Evidence: []gossip.Listed{}}
	for _, e := range m.evidence.of("") {
		if len(l.Evidence) < gossip.MaxListed {
			l.Evidence = append(l.Evidence, e.Listed)
		}
	}
	return writeJSON(w, l)
}

func (m *Monitor) serveEvidence(w http.ResponseWriter, r *http.Request) error {
	b := m.evidence.get(r.PathValue("id"))
	if b == nil {
		return fmt.Errorf("no evidence of this id: %w", fs.ErrNotExist)
	}
	writeText(w, b)
	return nil
}

func (m *Monitor) servePostEvidence(w http.ResponseWriter, r *http.Request) error {
	b, err := body(w, r, verifier.MaxEvidenceBytes)
	if err != nil {
		return err
	}
	if _, err := verifier.ParseEvidence(b); err != nil {
		return &statusError{http.StatusBadRequest, err}
	}
	e, err := m.takeEvidence(b)
	if err != nil {
		return err
	}
	return writeJSON(w, gossip.Taken{ID: e.ID})
}

func (m *Monitor) serveLogs(w http.ResponseWriter, _ *http.Request) error {
	ids := make([]string, len(m.logs))
	for i, f := range m.logs {
		ids[i] = f.id
	}
	slices.Sort(ids)
	return writeJSON(w, ids)
}

func (m *Monitor) serveWitnesses(w http.ResponseWriter, _ *http.Request) error {
	vkeys := []string{}
	for _, f := range m.logs {
		for _, witness := range f.policy.Witnesses() {
			if !slices.Contains(vkeys, witness.VerifierKey) {
				vkeys = append(vkeys, witness.VerifierKey)
			}
		}
	}
	slices.Sort(vkeys)
	return writeJSON(w, vkeys)
}

func (m *Monitor) serveCheckpointN(w http.ResponseWriter, r *http.Request) error {
	f, err := m.log(r)
	if err != nil {
		return err
	}
	s, ok := strings.CutPrefix(r.PathValue("checkpoint"), "checkpoint.")
	n, err := strconv.ParseUint(s, 10, 31)
	if !ok || err != nil {
		return &statusError{http.StatusBadRequest, fmt.Errorf("path: expected checkpoint.<n>, the number of cosignatures in decimal")}
	}
	note := f.largest(int(n))
	if note == nil {
		return fmt.Errorf("no head with that many cosignatures: %w", fs.ErrNotExist)
	}
	writeText(w, note)
	return nil
}

func (m *Monitor) serveByWitness(w http.ResponseWriter, r *http.Request) error {
	f, err := m.log(r)
	if err != nil {
		return err
	}
	note := f.byWitness(r.PathValue("witness"))
	if note == nil {
		return fmt.Errorf("no head that this witness has cosigned: %w", fs.ErrNotExist)
	}
	writeText(w, note)
	return nil
}

func (m *Monitor) servePutByWitness(w http.ResponseWriter, r *http.Request) error {
	f, err := m.log(r)
	if err != nil {
		return err
	}
	b, err := body(w, r, verifier.MaxNoteBytes)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), answerTime)
	defer cancel()
	return f.distribute(ctx, r.PathValue("witness"), b, r.RemoteAddr)
}

func (m *Monitor) serveMirror(w http.ResponseWriter, r *http.Request) error {
	f, err := m.log(r)
	if err != nil {
		return err
	}
	if f.mirror == nil {
		return fmt.Errorf("this log isn't mirrored: %w", fs.ErrNotExist)
	}
	file := r.PathValue("file")
	b, err := f.mirror.Get(r.Context(), file, int64(verifier.MaxBundleBytes))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("no such file: %w", fs.ErrNotExist)
		}
		return err
	}
	if file == "checkpoint" {
		writeText(w, b)
		return nil
	}
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("Access-Control-Allow-Origin", "*")
	_, _ = io.Copy(w, bytes.NewReader(b)) // a client that is gone asks again
	return nil
}
