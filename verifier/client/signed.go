package client

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/prooftrail/prooftrail/verifier/event"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

// ErrUnsigned: the log has the event, but without the signature of this source. An event that was submitted before the source
// signed its events is so; else the log has stripped it. It matches neither ErrRefused nor verifier.ErrFailed.
var ErrUnsigned = errors.New("the log has this event without this source's signature")

// errCantSign: the signer failed.
var errCantSign = errors.New("the event can't be signed")

// submission is an event on its way, and what its receipt is held against.
type submission struct {
	raw      []byte // as given: an event, or one in its envelope
	fields   event.Fields
	envelope *seal.Envelope // nil: it isn't signed
}

// readSubmission reads an event, or one in the envelope of a source that has signed it.
func readSubmission(raw []byte) (s submission, err error) {
	s.raw = raw
	text := raw
	if seal.IsEnvelope(raw) {
		if s.envelope, err = seal.ParseEnvelope(raw); err != nil {
			return s, err
		}
		text = s.envelope.Event
	}
	if s.fields, err = event.Parse(text); err == nil && s.envelope != nil {
		err = s.envelope.CheckSalts(s.fields)
	}
	return s, err
}

// submission reads an event and signs it, if there is a signer and it isn't signed already.
func (c *Client) submission(raw []byte) (submission, error) {
	s, err := readSubmission(raw)
	if err != nil || s.envelope != nil || c.cfg.Signer == nil {
		return s, err
	}
	return s, s.sign(c.cfg.Signer)
}

func (s *submission) sign(by *SourceSigner) (err error) {
	if s.envelope, err = seal.SignEvent(bytes.TrimSpace(s.raw), s.fields, by); err != nil {
		return fmt.Errorf("%w: %w", errCantSign, err)
	}
	s.raw = s.envelope.Append(nil)
	return nil
}

// line is the submission without line breaks, which NDJSON needs: as it was given where it can be, because
// the server keeps a digest of what it was sent.
func (s *submission) line() []byte {
	if s.envelope == nil {
		return oneLine(s.raw, s.fields)
	}
	if !bytes.ContainsAny(s.raw, "\n\r") {
		return bytes.TrimSpace(s.raw)
	}
	e := *s.envelope
	e.Event = oneLine(e.Event, s.fields)
	return e.Append(nil)
}

// sign makes of an event's JSON what goes into the spool: with the signer's envelope, if there is one, so that it
// is sent with the same salts and signature however often.
func (q *Queue) sign(raw []byte, err error) ([]byte, error) {
	if err != nil || q.c.cfg.Signer == nil {
		return raw, err
	}
	s, err := q.c.submission(raw)
	return s.raw, err
}

// sizeInSpool is about how large an event of so many bytes will be there.
func (q *Queue) sizeInSpool(n int) int {
	if q.c.cfg.Signer != nil {
		n = 2*n + 1024
	}
	return n
}

// checkSigned holds the opening of a receipt against the envelope that was sent. What has just been accepted must have its
// salts and its signature. A duplicate has those that it was sent with first, which must be this source's too;
// of one whose signature has been erased, that is uncompared.
func checkSigned(o *seal.Opening, e *seal.Envelope, status Status, signer *SourceSigner) (uncompared []string, err error) {
	if e == nil {
		return nil, nil
	}
	err = e.CheckOpening(o)
	if err == nil || status != Duplicate {
		return nil, err
	}
	if f := o.Field("/ingest/signature"); f != nil && !f.Shown && f.ErasedBy != nil {
		return []string{"/ingest/signature"}, nil
	}
	if signer != nil && seal.CheckSource(o, signer.public) == nil {
		return nil, nil
	}
	return nil, fmt.Errorf("%w: %w", ErrUnsigned, err)
}
