package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/prooftrail/prooftrail/verifier"
)

// Status is what became of a submitted event.
type Status string

// The statuses of design §8.
const (
	Accepted  Status = "accepted"  // it is an entry now
	Duplicate Status = "duplicate" // it was an entry already, with the same content
	Conflict  Status = "conflict"  // another event has its id
	Rejected  Status = "rejected"  // it is not valid, or not allowed
)

// Result is what became of one event.
type Result struct {
	Status Status
	// Index is of the event's entry; of the first event's, for a conflict. Only
	// meaningful with the statuses accepted, duplicate and conflict.
	Index uint64
	// LeafHash is the entry's RFC 6962 leaf hash, as the server said; a verified
	// receipt shows it.
	LeafHash verifier.Hash
	// Receipt is the .tlog-proof, nil when the server gave none (Wait Durable, or
	// the wait ended before the signature).
	Receipt []byte
	// Verdict is what the checks of the receipt found; nil when nothing was
	// checked, for want of a policy or of a receipt.
	Verdict *verifier.Verdict
	// Err is nil for an event that is in the log and whose receipt, where one
	// was given and there is a policy, holds. Otherwise *Problem, *ReceiptError,
	// *EvidenceError, or what kept the answer away. What isn't a *Problem leaves
	// open whether the event is in the log.
	Err error
}

// Verified reports whether a receipt was given and holds.
func (r *Result) Verified() bool { return r.Err == nil && r.Verdict != nil }

// wireResult is R of the batch answer.
type wireResult struct {
	Status   Status   `json:"status"`
	Index    *uint64  `json:"index"`
	LeafHash []byte   `json:"leaf_hash"`
	Receipt  string   `json:"receipt"`
	Problem  *Problem `json:"problem"`
}

// result checks the form of R: an answer of another shape is an error, never a
// zero value taken for index 0.
func (w *wireResult) result() (Result, error) {
	r := Result{Status: w.Status}
	switch w.Status {
	case Accepted, Duplicate:
		if w.Index == nil || len(w.LeafHash) != len(r.LeafHash) {
			return r, fmt.Errorf("%w: %s without index or leaf hash", errProtocol, w.Status)
		}
		r.Index, r.LeafHash = *w.Index, verifier.Hash(w.LeafHash)
		if w.Receipt != "" {
			r.Receipt = []byte(w.Receipt)
		}
	case Conflict, Rejected:
		if w.Problem == nil || w.Problem.Status < 400 {
			return r, fmt.Errorf("%w: %s without a problem", errProtocol, w.Status)
		}
		r.Err = w.Problem
		if w.Index != nil {
			r.Index = *w.Index
		} else if w.Problem.Index != nil {
			r.Index = *w.Problem.Index
		}
	default:
		return r, fmt.Errorf("%w: no status that is known", errProtocol)
	}
	return r, nil
}

// errProtocol: the server's answer is not in the form of design §8.
var errProtocol = fmt.Errorf("%w: unexpected form of the answer", ErrServer)

// parseResult reads the answer to one event.
func parseResult(body []byte) (Result, error) {
	var w wireResult
	if err := json.Unmarshal(body, &w); err != nil {
		return Result{}, fmt.Errorf("%w: %w", errProtocol, err)
	}
	return w.result()
}

// parseResults reads n lines of NDJSON.
func parseResults(body []byte, n int) ([]Result, error) {
	results := make([]Result, 0, n)
	for line := range bytes.Lines(body) {
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		r, err := parseResult(line)
		if err != nil {
			return nil, fmt.Errorf("result %d: %w", len(results), err)
		}
		results = append(results, r)
	}
	if len(results) != n {
		return nil, fmt.Errorf("%w: %d results for %d events", errProtocol, len(results), n)
	}
	return results, nil
}

// retryable reports whether a result's problem may pass.
func (r *Result) retryable() bool {
	var p *Problem
	return errors.As(r.Err, &p) && p.Retryable()
}
