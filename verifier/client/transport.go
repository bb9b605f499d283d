package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Limits on what is read of an answer, in bytes. A receipt may have 4 MiB
// (design §6), and a full batch's receipts are a few times the 8 MiB that were
// sent.
const (
	limitProblem = 64 << 10
	limitSmall   = 4 << 20
	limitReceipt = 4 << 20
	limitEntry   = 16 << 20
	limitBatch   = 128 << 20
)

// request is one call of the API.
type request struct {
	method      string
	path        string // under the base URL, escaped
	query       url.Values
	contentType string
	body        []byte
	limit       int64 // of the answer
	once        bool  // never repeated: not idempotent
}

// answer is a 2xx answer.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// errTooLong: the answer is longer than its kind can be.
var errTooLong = errors.New("the answer is longer than it may be")

// do makes the request until it succeeds, fails for good, or attempts or
// context are used up. Failures of the server are *Problem.
func (c *Client) do(ctx context.Context, r request) (*answer, error) {
	for n := 1; ; n++ {
		a, pause, err := c.attempt(ctx, r)
		if err == nil {
			return a, nil
		}
		err = fmt.Errorf("%s %s: %w", r.method, r.path, err)
		if pause < 0 || r.once || n >= c.cfg.Attempts || ctx.Err() != nil {
			return nil, err
		}
		if pause == 0 {
			pause = c.backoff(n)
		}
		if c.sleep(ctx, min(pause, c.cfg.MaxBackoff)) != nil {
			return nil, err // the last failure says more than "context ended"
		}
	}
}

// doJSON makes the request and reads its answer.
func (c *Client) doJSON(ctx context.Context, r request, answer any) error {
	a, err := c.do(ctx, r)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(a.body, answer); err != nil {
		return fmt.Errorf("%s %s: %w: %w", r.method, r.path, errProtocol, err)
	}
	return nil
}

// create posts what is to be made, once, and reads what was.
func (c *Client) create(ctx context.Context, path string, what, answer any) error {
	body, err := json.Marshal(what)
	if err != nil {
		return fmt.Errorf("%s %s: %w", http.MethodPost, path, err)
	}
	return c.doJSON(ctx, request{
		method: http.MethodPost, path: path, contentType: "application/json", body: body,
		limit: limitProblem, once: true,
	}, answer)
}

// attempt makes the request once. pause is negative when another attempt is no
// use, and otherwise what the server asked for, or 0.
func (c *Client) attempt(ctx context.Context, r request) (_ *answer, pause time.Duration, _ error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	req, err := c.newRequest(ctx, r)
	if err != nil {
		return nil, -1, err
	}
	resp, err := c.http.Do(req)
	var where *url.Error // whose text is the URL again
	if errors.As(err, &where) {
		err = where.Err
	}
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		body, _ := readLimited(resp.Body, limitProblem)
		p := parseProblem(resp.StatusCode, resp.Header.Get("Content-Type"), body)
		if !p.Retryable() {
			return nil, -1, p
		}
		return nil, retryAfter(resp.Header), p
	}
	body, err := readLimited(resp.Body, r.limit)
	if errors.Is(err, errTooLong) {
		return nil, -1, err
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read answer: %w", err)
	}
	return &answer{resp.StatusCode, resp.Header, body}, 0, nil
}

func (c *Client) newRequest(ctx context.Context, r request) (*http.Request, error) {
	// Not JoinPath, which would clean the path: an id may be "..".
	u := c.base.String() + r.path
	if len(r.query) > 0 {
		u += "?" + r.query.Encode()
	}
	var body io.Reader
	if r.body != nil {
		body = bytes.NewReader(r.body)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, u, body)
	if err != nil {
		return nil, err
	}
	if r.contentType != "" {
		req.Header.Set("Content-Type", r.contentType)
	}
	if c.cfg.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.cfg.Token)
	}
	req.Header.Set("User-Agent", c.cfg.UserAgent)
	return req, nil
}

func readLimited(r io.Reader, limit int64) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(body)) > limit {
		return body[:limit], fmt.Errorf("%w: %d bytes", errTooLong, limit)
	}
	return body, err
}

// retryAfter reads Retry-After in seconds; 0 when there is none.
func retryAfter(h http.Header) time.Duration {
	s, err := strconv.ParseUint(h.Get("Retry-After"), 10, 16)
	if err != nil {
		return 0
	}
	return time.Duration(s) * time.Second
}
