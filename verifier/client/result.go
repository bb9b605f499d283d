package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"sync"

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
	// Status is empty when there is no answer for the event, and Err says why:
	// whether it is in the log isn't known, and sending it again tells.
	Status Status
	// Index is of the event's entry; of the first event's, for a conflict. Only
	// meaningful with the statuses accepted, duplicate and conflict.
	Index uint64
	// LeafHash is the entry's RFC 6962 leaf hash, as the server said; a receipt
	// that is checked has it too.
	LeafHash verifier.Hash
	// Receipt is the .tlog-proof, nil when the server gave none (Wait Durable, or
	// the wait ended before the signature).
	Receipt []byte
	// Verdict is what the checks of the receipt found; nil when nothing was
	// checked, for want of a policy or of a receipt, and when a check failed. Its
	// Witnesses say whether the receipt is provisional.
	Verdict *verifier.Verdict
	// Uncompared are the pointers of the fields that were sent and couldn't be
	// compared with the entry's, because the log says that it has erased them. Only
	// a duplicate, submitted long ago, can have such; of it everything that is
	// never erased was compared, and everything else that is still there.
	Uncompared []string
	// Err is nil for an event that is in the log and whose receipt, where one
	// was given and there is a policy, holds. Otherwise *Problem, *ReceiptError,
	// *EvidenceError, ErrProvisional, or what kept the answer away. What is neither
	// a *Problem nor ErrProvisional leaves open whether the event is in the log.
	//
	// With an *EvidenceError beside a Verdict this receipt holds, and the log has forked:
	// every result of the client has it from then on, whatever found it out. The event is in
	// the log that this client is shown; sending it again changes nothing.
	Err error
}

// Verified reports whether a receipt was given, holds, and is of just the event
// that was sent, each field compared. That includes receipts that are
// provisional (Verdict.Witnesses), unless Config.Wait is Witnessed: then those
// have an Err. A duplicate of which something has been erased is not verified,
// but partly compared: Err is nil, and Uncompared says what it is about.
func (r *Result) Verified() bool {
	return r.Err == nil && r.Verdict != nil && len(r.Uncompared) == 0
}

// Provisional reports whether the receipt was checked and its checkpoint has
// fewer cosignatures than the policy wants: the log alone vouches for it.
func (r *Result) Provisional() bool {
	return r.Verdict != nil && r.Verdict.Witnesses.Status != verifier.Quorum
}

// ErrProvisional: Config.Wait is Witnessed, and the receipt holds but for too
// few cosignatures. The event is in the log; [Client.Receipt] gives a better
// receipt once there is one.
var ErrProvisional = errors.New("the receipt is provisional: it has too few cosignatures for the policy")

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
	if r, ok := readStored(body); ok {
		return r, nil
	}
	return decodeResult(body)
}

func decodeResult(body []byte) (Result, error) {
	var w wireResult
	if err := json.Unmarshal(body, &w); err != nil {
		return Result{}, fmt.Errorf("%w: %w", errProtocol, err)
	}
	return w.result()
}

// parseResults reads n lines of NDJSON, on all cores if there are many: receipts are long.
func parseResults(body []byte, n int) ([]Result, error) {
	lines := make([][]byte, 0, n)
	for line := range bytes.Lines(body) {
		if len(bytes.TrimSpace(line)) > 0 {
			lines = append(lines, line)
		}
	}
	results, errs := make([]Result, len(lines)), make([]error, len(lines))
	inParallel(len(lines), func(i int) { results[i], errs[i] = parseResult(lines[i]) })
	for i, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("result %d: %w", i, err)
		}
	}
	if len(results) != n {
		return nil, fmt.Errorf("%w: %d results for %d events", errProtocol, len(results), n)
	}
	return results, nil
}

// inParallel calls do for 0 to n-1 on as many cores as there are, if it is worth it.
func inParallel(n int, do func(i int)) {
	workers := min(runtime.GOMAXPROCS(0), n/16+1)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n; i += workers {
				do(i)
			}
		})
	}
	wg.Wait()
}

// retryable reports whether a result's problem may pass.
func (r *Result) retryable() bool {
	var p *Problem
	return errors.As(r.Err, &p) && p.Retryable()
}
