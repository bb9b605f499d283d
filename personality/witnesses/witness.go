package witnesses

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
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
)

const (
	// maxAnswer bounds what is read of an answer: signature lines, or a checkpoint.
	maxAnswer = 64 << 10
	// maxProof is the most lines of a consistency proof. "The client MUST NOT send more than 63
	// consistency proof lines."
	maxProof = 63
	// minPause and maxPause bound how long a witness that failed is left alone.
	minPause = time.Second
	maxPause = time.Minute
)

// witness is one witness, and what is known of it.
type witness struct {
	names []string // in the policy: one for each of its keys
	url   string

	mu     sync.Mutex // held while it is asked
	size   uint64     // that it cosigned last; 0: not known
	failed int        // in a row
	after  time.Time  // when it may be asked again
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

// pause notes how an attempt ended, and how long to leave the witness alone.
func (w *witness) pause(err error, now time.Time) {
	if err == nil {
		w.failed, w.after = 0, time.Time{}
		return
	}
	w.failed++
	long := min(minPause<<min(w.failed-1, 10), maxPause)
	w.after = now.Add(long/2 + rand.N(long))
}

// add asks the witness for its cosignatures on a checkpoint: signature lines, not yet
// verified. The caller holds mu.
func (w *witness) add(ctx context.Context, a *Asker, head verifier.Checkpoint, note []byte) ([]byte, error) {
	for tried := 0; ; tried++ {
		if size := w.size; size > head.Size {
			w.size = 0 // it may be wrong
			return nil, &aheadError{size, head.Size}
		}
		lines, err := w.addFrom(ctx, a, w.size, head, note)
		var conflict *conflictError
		if errors.As(err, &conflict) && tried == 0 {
			w.size = conflict.size // it says where to begin
			continue
		}
		if err != nil {
			w.size = 0 // whatever it has: it will say
			return nil, err
		}
		return lines, nil
	}
}

// conflictError is "409 Conflict" with "the tree size of the latest cosigned checkpoint".
type conflictError struct{ size uint64 }

func (e *conflictError) Error() string {
	return fmt.Sprintf("the witness has cosigned size %d last", e.size)
}

// addFrom makes one add-checkpoint call.
func (w *witness) addFrom(ctx context.Context, a *Asker, old uint64, head verifier.Checkpoint, note []byte) ([]byte, error) {
	var proof []verifier.Hash
	if old > 0 && old < head.Size {
		var err error
		if proof, err = a.cfg.Prove(ctx, old, head.Size); err != nil {
			return nil, fmt.Errorf("prove consistency from size %d: %w", old, err)
		}
	}
	if len(proof) > maxProof {
		return nil, fmt.Errorf("a proof of %d hashes, at most %d can be sent", len(proof), maxProof)
	}
	status, answer, err := a.call(ctx, http.MethodPost, w.url+"/add-checkpoint", requestBody(old, proof, note))
	switch {
	case err != nil:
		return nil, err
	case status == http.StatusConflict:
		// The type should be text/x.tlog.size; what counts is that it is a size.
		size, err := strconv.ParseUint(strings.TrimSuffix(string(answer), "\n"), 10, 63)
		if err != nil {
			return nil, fmt.Errorf("a conflict without a size: %w", newStatusError(status, answer))
		}
		return nil, &conflictError{size}
	case status != http.StatusOK:
		return nil, newStatusError(status, answer)
	}
	return answer, nil
}

func newStatusError(status int, answer []byte) error {
	return &statusError{status, string(answer[:min(len(answer), 200)])}
}

// requestBody is "an old size line, zero or more consistency proof lines, and an empty line,
// followed by a checkpoint".
func requestBody(old uint64, proof []verifier.Hash, note []byte) []byte {
	body := fmt.Appendf(nil, "old %d\n", old)
	for _, h := range proof {
		body = base64.StdEncoding.AppendEncode(body, h[:])
		body = append(body, '\n')
	}
	body = append(body, '\n')
	return append(body, note...)
}

// latest reads the checkpoint that the witness serves of the log: "GET <monitoring
// prefix>/<origin hash>/checkpoint". A policy knows one URL of a witness, so the monitoring
// prefix is taken to be the same, as the specification allows. Nil: it has none.
func (w *witness) latest(ctx context.Context, a *Asker) ([]byte, error) {
	sum := sha256.Sum256([]byte(a.cfg.Policy.Origin()))
	status, answer, err := a.call(ctx, http.MethodGet, w.url+"/"+hex.EncodeToString(sum[:])+"/checkpoint", nil)
	switch {
	case err != nil:
		return nil, err
	case status == http.StatusNotFound:
		return nil, nil
	case status != http.StatusOK:
		return nil, newStatusError(status, answer)
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
