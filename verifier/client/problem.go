package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"

	"github.com/prooftrail/prooftrail/verifier/event"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

// The kinds of failure that a caller can do something about. Test with
// errors.Is; the error itself is a [*Problem] with the details.
var (
	// ErrRefused: the event or request is not valid. Sending it again won't help.
	ErrRefused = errors.New("refused")
	// ErrConflict: the log holds another event under this source and id.
	ErrConflict = errors.New("conflict")
	// ErrUnauthorized: no token, or one that isn't known or is revoked.
	ErrUnauthorized = errors.New("unauthorized")
	// ErrForbidden: the token is valid but doesn't allow this.
	ErrForbidden = errors.New("forbidden")
	// ErrNotFound: no such entry, event or token, as far as this token may know.
	ErrNotFound = errors.New("not found")
	// ErrBusy: too much at once (429). Worth trying again later.
	ErrBusy = errors.New("busy")
	// ErrUnavailable: the log can't do it now (408, 502, 503, 504). Whether an event
	// was stored isn't known; sending it again is safe and tells.
	ErrUnavailable = errors.New("unavailable")
	// ErrServer: the server failed (500), which may pass: whether an event was
	// stored isn't known, and sending it again is safe and tells. Or it answered
	// with what the protocol doesn't have, which is not tried again.
	ErrServer = errors.New("server error")
)

// kinds maps HTTP statuses back to kinds of failure. What isn't listed is
// ErrRefused below 500 and ErrServer from there on.
var kinds = map[int]struct {
	err       error
	retryable bool
}{
	http.StatusUnauthorized:        {ErrUnauthorized, false},
	http.StatusForbidden:           {ErrForbidden, false},
	http.StatusNotFound:            {ErrNotFound, false},
	http.StatusRequestTimeout:      {ErrUnavailable, true},
	http.StatusConflict:            {ErrConflict, false},
	http.StatusTooManyRequests:     {ErrBusy, true},
	http.StatusInternalServerError: {ErrServer, true}, // whether the event was stored is not known
	http.StatusBadGateway:          {ErrUnavailable, true},
	http.StatusServiceUnavailable:  {ErrUnavailable, true},
	http.StatusGatewayTimeout:      {ErrUnavailable, true},
}

// Problem is a refusal by the server in the form of RFC 9457, with the members
// that prooftrail adds. It is an error.
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`

	// Of refused events: the member (JSON Pointer), a stable code, and what was
	// expected. Never the refused value.
	Pointer  string `json:"pointer,omitempty"`
	Code     string `json:"code,omitempty"`
	Expected string `json:"expected,omitempty"`

	// Parameter is the parameter of the request that was refused.
	Parameter string `json:"parameter,omitempty"`
	// RequestID is under what the operator finds the request in the server's log.
	RequestID string `json:"request_id,omitempty"`

	// Of conflicts: the entry that holds the id, and the one that records the
	// attempt.
	Index         *uint64 `json:"index,omitempty"`
	ConflictIndex *uint64 `json:"conflict_index,omitempty"`
}

func (p *Problem) Error() string {
	text := p.Title
	if text == "" {
		text = http.StatusText(p.Status)
	}
	if p.Detail != "" {
		text += ": " + p.Detail
	}
	if p.Code != "" {
		text += fmt.Sprintf(" (%s at %q", p.Code, p.Pointer)
		if p.Expected != "" {
			text += ", expected " + p.Expected
		}
		text += ")"
	}
	return fmt.Sprintf("%s [%d]", text, p.Status)
}

// Unwrap gives the kind, one of the Err… values.
func (p *Problem) Unwrap() error {
	if k, ok := kinds[p.Status]; ok {
		return k.err
	}
	if p.Status >= 400 && p.Status < 500 {
		return ErrRefused
	}
	return ErrServer
}

// Problems with status 503 that no waiting mends: the log refuses to go on; what it has
// stored of the entry is damaged.
const (
	problemRefusing = "/problems/refusing"
	problemDamaged  = "/problems/damaged"
)

// Retryable reports whether the same request may succeed later.
func (p *Problem) Retryable() bool {
	return kinds[p.Status].retryable && p.Type != problemRefusing && p.Type != problemDamaged
}

// parseProblem reads a failed answer. What is no problem document becomes one
// that says only the status: a proxy's HTML page is nobody's business.
func parseProblem(status int, contentType string, body []byte) *Problem {
	p := &Problem{}
	if mt, _, err := mime.ParseMediaType(contentType); err == nil && mt == "application/problem+json" {
		if json.Unmarshal(body, p) != nil {
			p = &Problem{}
		}
	}
	p.Status = status
	if p.Title == "" {
		p.Title = http.StatusText(status)
	}
	return p
}

// localProblem is the refusal of an event that wasn't even sent.
func localProblem(err error) *Problem {
	p := &Problem{Type: "/problems/invalid-event", Title: "the event is not valid", Status: http.StatusUnprocessableEntity}
	var refused *event.Error
	var badEnvelope *seal.EnvelopeError
	if errors.As(err, &refused) {
		p.Pointer, p.Code, p.Expected = refused.Pointer, refused.Code, refused.Expected
	} else if errors.As(err, &badEnvelope) {
		p.Type, p.Title, p.Status = "/problems/invalid-request", "the request is not valid", http.StatusBadRequest
		p.Pointer, p.Code, p.Expected = badEnvelope.Pointer, badEnvelope.Code, badEnvelope.Expected
	} else {
		p.Detail = err.Error()
	}
	return p
}
