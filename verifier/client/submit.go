package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// Limits of one request of SubmitBatch (design §4).
const (
	MaxBatchEvents = 500
	MaxBatchBytes  = 8 << 20 // events and one byte between them
)

// Submit sends one event, JSON as [event.Parse] takes it, and returns once it
// has come as far as Config.Wait says and its receipt has been checked. It
// repeats what may succeed later. The bytes are sent as they are: what is secret in them has to be masked before (mask.Masker.Raw).
//
// The result's Err is returned as the error too. A result comes with the error
// when the server gave one: an event may be in the log although its receipt
// doesn't hold.
func (c *Client) Submit(ctx context.Context, raw []byte) (*Result, error) {
	sent, err := event.Parse(raw)
	if err != nil {
		p := localProblem(err)
		return &Result{Status: Rejected, Err: p}, p
	}
	a, err := c.do(ctx, request{
		method: http.MethodPost, path: "/v1/events", query: c.waitQuery(),
		contentType: "application/json", body: raw, limit: limitEntry,
	})
	var p *Problem
	switch {
	case errors.As(err, &p) && p.Status == http.StatusConflict:
		r := &Result{Status: Conflict, Err: err}
		if p.Index != nil {
			r.Index = *p.Index
		}
		return r, err
	case errors.As(err, &p) && !p.Retryable() && errors.Is(err, ErrRefused):
		return &Result{Status: Rejected, Err: err}, err
	case err != nil:
		return nil, err
	}
	r, err := parseResult(a.body)
	if err != nil {
		return nil, fmt.Errorf("submit: %w", err)
	}
	c.finish(ctx, &r, sent)
	return &r, r.Err
}

func (c *Client) waitQuery() url.Values { return url.Values{"wait": {string(c.cfg.Wait)}} }

// SubmitBatch sends up to MaxBatchEvents events of together up to
// MaxBatchBytes. One bad event never costs the others: the results, in the
// order of raws, each have their own Err. Those whose problem may pass (status
// 429, 500 or 503) are sent again, alone.
//
// The error is for when there was no answer to the first sending, and then there
// are no results; events may be in the log nevertheless. When there was none to
// a later one, what the others got stays, and the results of those sent again
// have an empty Status and the failure as Err.
func (c *Client) SubmitBatch(ctx context.Context, raws [][]byte) ([]Result, error) {
	if err := checkBatch(raws); err != nil {
		return nil, err
	}
	results := make([]Result, len(raws))
	sent := make([]event.Fields, len(raws))
	var open []int // places of the events that have no result yet
	for i, raw := range raws {
		f, err := event.Parse(raw)
		if err != nil {
			results[i] = Result{Status: Rejected, Err: localProblem(err)}
			continue
		}
		sent[i] = f
		open = append(open, i)
	}
	for n := 1; len(open) > 0; n++ {
		if err := c.submitOpen(ctx, raws, sent, open, results); err != nil {
			if n == 1 {
				return nil, err
			}
			for _, i := range open {
				results[i] = Result{Err: fmt.Errorf("sent again: %w", err)}
			}
			return results, nil
		}
		open = again(open, results)
		if len(open) == 0 || n >= c.cfg.Attempts || c.sleep(ctx, c.backoff(n)) != nil {
			break
		}
	}
	return results, nil
}

func checkBatch(raws [][]byte) error {
	total := 0
	for _, raw := range raws {
		total += len(raw) + 1
	}
	if len(raws) > MaxBatchEvents || total > MaxBatchBytes {
		return fmt.Errorf("client: a batch of %d events, %d bytes; at most %d and %d: %w",
			len(raws), total, MaxBatchEvents, MaxBatchBytes, ErrRefused)
	}
	return nil
}

// submitOpen sends the events that have no result yet and fills theirs in.
func (c *Client) submitOpen(ctx context.Context, raws [][]byte, sent []event.Fields, open []int, results []Result) error {
	var body []byte
	for _, i := range open {
		body = append(body, oneLine(raws[i], sent[i])...)
		body = append(body, '\n')
	}
	a, err := c.do(ctx, c.batchRequest(body))
	if err != nil {
		return err
	}
	got, err := parseResults(a.body, len(open))
	if err != nil {
		return fmt.Errorf("submit batch: %w", err)
	}
	for n, i := range open {
		results[i] = got[n]
		if got[n].Err == nil {
			c.finish(ctx, &results[i], sent[i])
		}
	}
	return nil
}

// batchRequest is the request that submits lines of events.
func (c *Client) batchRequest(lines []byte) request {
	return request{
		method: http.MethodPost, path: "/v1/events", query: c.waitQuery(),
		contentType: "application/x-ndjson", body: lines, limit: limitBatch,
	}
}

// oneLine is the event without line breaks, which NDJSON needs: as it was
// given where it can be, because the server keeps a digest of what it was sent.
func oneLine(raw []byte, f event.Fields) []byte {
	raw = bytes.TrimSpace(raw)
	if bytes.ContainsAny(raw, "\n\r") {
		return f.JSON()
	}
	return raw
}

// again picks the events whose results may be better next time.
func again(open []int, results []Result) []int {
	var next []int
	for _, i := range open {
		if results[i].retryable() {
			next = append(next, i)
		}
	}
	return next
}

// finish fetches the receipt if it wasn't there in time, and checks it. Once the log is
// convicted, no receipt of it is worth anything.
func (c *Client) finish(ctx context.Context, r *Result, sent event.Fields) {
	if c.checker == nil {
		return
	}
	if c.finishReceipt(ctx, r, sent); r.Err == nil {
		r.Err = c.checker.heads.verdict()
	}
}

func (c *Client) finishReceipt(ctx context.Context, r *Result, sent event.Fields) {
	if r.Receipt == nil && c.cfg.Wait == Durable {
		return
	}
	if r.Receipt == nil {
		if r.Receipt, r.Err = c.awaitReceipt(ctx, r.Index); r.Err != nil {
			return
		}
	}
	v, uncompared, err := c.checker.checkSent(r.Receipt, sent, r.Status)
	if err == nil {
		err = r.agrees(v)
	}
	if err != nil {
		r.Err = err
		return
	}
	r.Verdict, r.Uncompared = v, uncompared
	if c.cfg.Wait == Witnessed && r.Provisional() {
		r.Err = ErrProvisional
	}
}

// agrees checks that a receipt is of the entry that the answer named.
func (r *Result) agrees(v *verifier.Verdict) error {
	switch {
	case v.Index != r.Index:
		return &ReceiptError{r.Receipt, fmt.Errorf("it is of entry %d, the answer said %d", v.Index, r.Index)}
	case v.LeafHash != r.LeafHash:
		return &ReceiptError{r.Receipt, errors.New("it is of another leaf hash than the answer said")}
	}
	return nil
}

// awaitReceipt asks for a receipt until there is one: the server answered that
// the event is durable, and signs soon.
func (c *Client) awaitReceipt(ctx context.Context, index uint64) ([]byte, error) {
	for n := 1; ; n++ {
		b, err := c.receipt(ctx, index)
		if err == nil || !errors.Is(err, ErrNotFound) || n >= c.cfg.Attempts {
			return b, err
		}
		if c.sleep(ctx, c.backoff(n)) != nil {
			return nil, err
		}
	}
}

// receipt fetches a receipt; with Wait Witnessed one that the server's witnesses have cosigned,
// or ErrNotFound if there is none in time.
func (c *Client) receipt(ctx context.Context, index uint64) ([]byte, error) {
	r := request{method: http.MethodGet, path: c.logPath("receipts/" + strconv.FormatUint(index, 10)), limit: verifier.MaxReceiptBytes}
	if c.cfg.Wait == Witnessed {
		r.query = c.waitQuery()
	}
	a, err := c.do(ctx, r)
	if err != nil {
		return nil, err
	}
	return a.body, nil
}

// logPath is a path under /v1/logs/{log}/.
func (c *Client) logPath(rest string) string {
	return "/v1/logs/" + url.PathEscape(c.cfg.Log) + "/" + rest
}
