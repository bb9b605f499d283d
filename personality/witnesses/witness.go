package witnesses

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
	protocol "github.com/prooftrail/prooftrail/verifier/monitor/witness"
)

const (
	// maxAnswer bounds what is read of an answer: signature lines, or a checkpoint.
	maxAnswer = 64 << 10
	// minPause and maxPause bound how long a witness that failed is left alone, and so how
	// long it takes to notice that it is back.
	minPause = time.Second
	maxPause = 20 * time.Second
	// maxConflicts bounds how often a witness may say in one go that it is further than it
	// said before: another server of the log may be asking it at the same time.
	maxConflicts = 3
)

// witness is one witness, and what is known of it.
type witness struct {
	names []string // in the policy: one for each of its keys
	url   string

	// mu is held while it is asked, and guards the rest.
	mu      sync.Mutex
	size    uint64    // that it cosigned last; 0: not known
	checked bool      // what it has seen of this log has been looked at
	failed  int       // in a row
	after   time.Time // when it may be asked again
	missed  int       // how often in a row it didn't cosign
	told    bool      // that has been logged

	head  verifier.Checkpoint // that it cosigned last for us,
	lines []byte              // how,
	at    time.Time           // and when it was asked
}

// cosigned returns its cosignatures of a head, if it was asked for them since that time.
func (w *witness) cosigned(head verifier.Checkpoint, since time.Time) []byte {
	if w.head == head && w.at.After(since) {
		return w.lines
	}
	return nil
}

// Outcome is what came of asking a witness.
type Outcome string

// The outcomes.
const (
	Cosigned Outcome = "cosigned"
	// Ahead: it says that it has cosigned a larger size than the log has. Another server of
	// the log may have asked it meanwhile. Else the log's store is an older copy.
	Ahead Outcome = "ahead"
	// Inconsistent: it says that the head doesn't extend what it has cosigned.
	Inconsistent Outcome = "inconsistent"
	// Failed: no answer, or one of no use.
	Failed Outcome = "failed"
)

func outcomeOf(err error) Outcome {
	var ahead *aheadError
	var status *statusError
	var conflict *conflictError
	switch {
	case err == nil:
		return Cosigned
	case errors.As(err, &ahead):
		return Ahead
	case errors.As(err, &status) && status.status == http.StatusUnprocessableEntity:
		return Inconsistent // a proof that doesn't verify, or another root of the same size
	// The latter was a conflict in older texts of the specification.
	case errors.As(err, &conflict) && conflict.size == conflict.head:
		return Inconsistent
	}
	return Failed
}

// A statusError is an answer that isn't 200.
type statusError struct {
	status int
	text   string // its first bytes
}

func (e *statusError) Error() string {
	return fmt.Sprintf("the witness answered %d %q", e.status, e.text)
}

// aheadError: the witness says that it has cosigned more than the log has. Anybody can say
// that.
type aheadError struct{ size, head uint64 }

func (e *aheadError) Error() string {
	return fmt.Sprintf("the witness says that it has cosigned size %d, and the head has %d", e.size, e.head)
}

// pause notes how an attempt ended, and how long to leave the witness alone: not at all if it
// is merely ahead, which the next head may set right.
func (w *witness) pause(err error, now time.Time) {
	if o := outcomeOf(err); o == Cosigned || o == Ahead {
		w.failed, w.after = 0, time.Time{}
		return
	}
	w.failed++
	long := min(minPause<<min(w.failed-1, 10), maxPause)
	w.after = now.Add(long/2 + rand.N(long/2))
}

// add asks the witness for its cosignatures on a checkpoint: signature lines, not yet
// verified. The caller holds mu.
func (w *witness) add(ctx context.Context, a *Asker, head verifier.Checkpoint, note []byte) ([]byte, error) {
	for tried := 0; ; tried++ {
		if size := w.size; size > head.Size {
			w.size = 0 // it may be wrong, and say another size the next time
			return nil, &aheadError{size, head.Size}
		}
		lines, err := w.addFrom(ctx, a, w.size, head, note)
		var conflict *conflictError
		// "If a client doesn't have information on the latest cosigned checkpoint, it MAY initially
		// make a request with a old size of zero to obtain it."
		if !errors.As(err, &conflict) {
			return lines, err
		}
		before := w.size
		w.size = conflict.size
		if tried == maxConflicts || conflict.size == before || tried > 0 && conflict.size < before {
			w.size = 0 // whatever it has: it will say
			return nil, err
		}
	}
}

// conflictError is "409 Conflict" with "the tree size of the latest cosigned checkpoint".
type conflictError struct{ size, head uint64 }

func (e *conflictError) Error() string {
	return fmt.Sprintf("the witness says that it has cosigned size %d last, again and again", e.size)
}

// addFrom makes one add-checkpoint call.
func (w *witness) addFrom(ctx context.Context, a *Asker, old uint64, head verifier.Checkpoint, note []byte) ([]byte, error) {
	req := protocol.Request{OldSize: old, Note: note}
	if old > 0 && old < head.Size {
		var err error
		if req.Proof, err = a.cfg.Prove(ctx, old, head.Size); err != nil {
			return nil, fmt.Errorf("prove consistency from size %d: %w", old, err)
		}
	}
	if len(req.Proof) > protocol.MaxProofLines {
		return nil, fmt.Errorf("a proof of %d hashes, at most %d can be sent", len(req.Proof), protocol.MaxProofLines)
	}
	status, answer, err := a.call(ctx, http.MethodPost, w.url+"/add-checkpoint", req.Bytes())
	switch {
	case err != nil:
		return nil, err
	case status == http.StatusConflict:
		// The type should be text/x.tlog.size; what counts is that it is a size.
		size, err := strconv.ParseUint(strings.TrimSuffix(string(answer), "\n"), 10, 63)
		if err != nil {
			return nil, fmt.Errorf("a conflict without a size: %w", newStatusError(status, answer))
		}
		return nil, &conflictError{size, head.Size}
	case status != http.StatusOK:
		return nil, newStatusError(status, answer)
	}
	return answer, nil
}

func newStatusError(status int, answer []byte) error {
	return &statusError{status, string(answer[:min(len(answer), 200)])}
}

// latest reads the checkpoint that the witness serves of the log: "GET <monitoring
// prefix>/<origin hash>/checkpoint". A policy knows one URL of a witness, so the monitoring
// prefix is taken to be the same, as the specification allows. Nil: it shows none there.
func (w *witness) latest(ctx context.Context, a *Asker) ([]byte, error) {
	sum := sha256.Sum256([]byte(a.cfg.Policy.Origin()))
	status, answer, err := a.call(ctx, http.MethodGet, w.url+"/"+hex.EncodeToString(sum[:])+"/checkpoint", nil)
	switch {
	case err != nil:
		return nil, err
	case status >= http.StatusInternalServerError:
		return nil, newStatusError(status, answer)
	case status != http.StatusOK: // 404, or a witness without this call
		return nil, nil
	}
	return answer, nil
}

// call makes one HTTP request and reads the answer, up to maxAnswer.
func (a *Asker) call(ctx context.Context, method, url string, body []byte) (status int, answer []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("User-Agent", "prooftrail")
	resp, err := a.cfg.Client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if answer, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1)); err != nil {
		return 0, nil, fmt.Errorf("read the answer: %w", err)
	}
	if len(answer) > maxAnswer {
		return 0, nil, fmt.Errorf("an answer of more than %d bytes", maxAnswer)
	}
	return resp.StatusCode, answer, nil
}
