package gossip

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
)

// Config says which monitor to talk to.
type Config struct {
	// URL is the monitor's prefix, such as https://monitor.example.org. It has to be https, or
	// http to a loopback address.
	URL string
	// AllowHTTP allows plain http to any host. Nothing that is exchanged is secret, and nothing
	// can be forged; what can be is withheld.
	AllowHTTP bool
	// Timeout bounds a call, answer included. Default 15 s.
	Timeout time.Duration
	// Transport is http.DefaultTransport if nil.
	Transport http.RoundTripper
	// UserAgent is "prooftrail" if empty.
	UserAgent string
}

// Client talks to one monitor. It is safe for concurrent use. It doesn't try again: the next
// round does.
type Client struct {
	cfg  Config
	base string
	http *http.Client
}

// New checks the configuration; it sends nothing.
func New(cfg Config) (*Client, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return nil, fmt.Errorf("monitor URL %q: expected https://host[:port][/path]", cfg.URL)
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !cfg.AllowHTTP && !isLoopback(u.Hostname())) {
		return nil, fmt.Errorf("monitor URL %q: expected https, or http to a loopback address", cfg.URL)
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 15 * time.Second
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = "prooftrail"
	}
	noRedirect := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{cfg, strings.TrimSuffix(u.String(), "/"), &http.Client{Transport: cfg.Transport, CheckRedirect: noRedirect}}, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// URL returns the monitor's prefix.
func (c *Client) URL() string { return c.base }

// StatusError is an answer other than 200. It matches [fs.ErrNotExist] for 404: the monitor
// doesn't follow the log, or has no such file.
type StatusError struct {
	Code       int
	Text       string        // the first line of the answer, cut short
	RetryAfter time.Duration // 0 if it wasn't said; at most an hour
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("status %d: %s", e.Code, e.Text)
}

// ErrNoAnswer is matched by the error of a call that brought no answer at all.
var ErrNoAnswer = errors.New("no answer")

// Is implements errors.Is.
func (e *StatusError) Is(target error) bool {
	return target == fs.ErrNotExist && e.Code == http.StatusNotFound
}

// ErrAnswer is matched by errors that say: the monitor answered, but not as the protocol has it.
var ErrAnswer = errors.New("not an answer of the protocol")

// Heads asks for the heads of a log.
func (c *Client) Heads(ctx context.Context, origin string) (Heads, error) {
	var h Heads
	err := c.json(ctx, http.MethodGet, "/gossip/v1/logs/"+LogID(origin)+"/heads", nil, MaxHeadsBytes, &h)
	if err == nil && h.Origin != origin {
		err = fmt.Errorf("heads: %w: it is about another log, expected %q", ErrAnswer, origin)
	}
	if err == nil && len(h.Open) > MaxOpen {
		err = fmt.Errorf("heads: %w: %d open heads, expected at most %d", ErrAnswer, len(h.Open), MaxOpen)
	}
	if err != nil {
		return Heads{}, err
	}
	return h, nil
}

// PostHead hands in a signed note and learns what the monitor makes of it. That the answer is
// about this head is for the caller to check, who has read the note.
func (c *Client) PostHead(ctx context.Context, signedNote []byte) (Answer, error) {
	var a Answer
	err := c.json(ctx, http.MethodPost, "/gossip/v1/heads", signedNote, MaxHeadsBytes, &a)
	if err == nil && a.Verdict != Agrees && a.Verdict != Contradicts && a.Verdict != Unknown {
		err = fmt.Errorf("post head: %w: expected the verdict %s, %s or %s", ErrAnswer, Agrees, Contradicts, Unknown)
	}
	if err == nil && len(a.Evidence) > MaxListed {
		err = fmt.Errorf("post head: %w: %d files named, expected at most %d", ErrAnswer, len(a.Evidence), MaxListed)
	}
	if err != nil {
		return Answer{}, err
	}
	return a, nil
}

// ListEvidence asks which evidence files the monitor holds.
func (c *Client) ListEvidence(ctx context.Context) ([]Listed, error) {
	var l List
	err := c.json(ctx, http.MethodGet, "/gossip/v1/evidence", nil, maxListBytes, &l)
	if err == nil && len(l.Evidence) > MaxListed {
		err = fmt.Errorf("list evidence: %w: %d files, expected at most %d", ErrAnswer, len(l.Evidence), MaxListed)
	}
	if err != nil {
		return nil, err
	}
	return l.Evidence, nil
}

// Evidence fetches the file of an id and makes sure that it is that one.
func (c *Client) Evidence(ctx context.Context, id string) ([]byte, error) {
	if sum, err := hex.DecodeString(id); err != nil || len(sum) != sha256.Size || strings.ToLower(id) != id {
		return nil, fmt.Errorf("evidence: %w: expected an id of 64 lower-case hexadecimal digits", ErrAnswer)
	}
	b, err := c.do(ctx, http.MethodGet, "/gossip/v1/evidence/"+id, nil, int64(verifier.MaxEvidenceBytes))
	if err == nil && EvidenceID(b) != id {
		err = fmt.Errorf("evidence %s: %w: another file was sent", id, ErrAnswer)
	}
	if err != nil {
		return nil, err
	}
	return b, nil
}

// PostEvidence hands in an evidence file and returns its id.
func (c *Client) PostEvidence(ctx context.Context, file []byte) (id string, err error) {
	var t Taken
	err = c.json(ctx, http.MethodPost, "/gossip/v1/evidence", file, 4<<10, &t)
	if err == nil && t.ID != EvidenceID(file) {
		err = fmt.Errorf("post evidence: %w: expected the id %s", ErrAnswer, EvidenceID(file))
	}
	if err != nil {
		return "", err
	}
	return t.ID, nil
}

// Checkpoint asks, by the distributor's protocol, for the largest head of a log that has been
// cosigned by at least n witnesses.
func (c *Client) Checkpoint(ctx context.Context, origin string, n int) ([]byte, error) {
	return c.do(ctx, http.MethodGet, "/distributor/v0/logs/"+LogID(origin)+"/checkpoint."+strconv.Itoa(n), nil, verifier.MaxNoteBytes)
}

// Cosigned asks a witness, on its monitoring prefix (c2sp.org/tlog-witness), for the latest head of a
// log that it has cosigned.
func (c *Client) Cosigned(ctx context.Context, origin string) ([]byte, error) {
	return c.do(ctx, http.MethodGet, "/"+LogID(origin)+"/checkpoint", nil, verifier.MaxNoteBytes)
}

func (c *Client) json(ctx context.Context, method, path string, body []byte, limit int64, out any) error {
	b, err := c.do(ctx, method, path, body, limit)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("%s %s: %w: expected other JSON: %w", method, path, ErrAnswer, err)
	}
	return nil
}

// do makes one request and returns the body of a 200. A redirect isn't followed: a peer could
// send its neighbours anywhere with it.
func (c *Client) do(ctx context.Context, method, path string, body []byte, limit int64) (_ []byte, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s %s: %w", method, path, err)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	var send io.Reader
	if body != nil {
		send = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, send)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "text/plain; charset=utf-8")
	}
	req.Header.Set("User-Agent", c.cfg.UserAgent)
	req.Header.Set("Accept-Encoding", "identity") // so that nothing grows when it is unpacked
	resp, err := c.http.Do(req)
	var where *url.Error // whose text is the URL again
	if errors.As(err, &where) {
		err = where.Err
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, readStatus(resp)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%w: %w of %d bytes", ErrAnswer, verifier.ErrTooLarge, limit)
	}
	if err != nil {
		return nil, err
	}
	return b, nil
}

func readStatus(resp *http.Response) error {
	const most = 300
	e := &StatusError{Code: resp.StatusCode}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		e.RetryAfter = time.Duration(min(s, 3600)) * time.Second
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, most))
	if err != nil {
		return fmt.Errorf("%w: %w", e, err)
	}
	line, _, _ := strings.Cut(strings.ToValidUTF8(string(b), "?"), "\n")
	e.Text = strings.TrimSpace(line)
	return e
}
