package verifier

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"
)

// HTTPConfig says how to read a log over HTTP.
type HTTPConfig struct {
	// URL is the prefix of the log in the sense of c2sp.org/tlog-tiles, such as
	// https://audit.example.com/logs/audit. It has to be https, or http to a loopback
	// address. What follows the last "/logs/" is the log's short name; what precedes it is
	// where the API is.
	URL string
	// AllowHTTP allows plain http to any host. Then a token can be read on the way; the public
	// files can't be forged even so.
	AllowHTTP bool
	// Token, if not empty, is sent as a bearer token, and only with requests for openings.
	Token string
	// Timeout bounds the silence of the server: to its first byte, and between two reads. And
	// it is how far an answer may be behind 4 KiB/s, so that one of n bytes takes at most
	// Timeout + n/(4 KiB/s). Default 30 s.
	Timeout time.Duration
	// Attempts is how often one request is tried at most. Default 6. Network errors, 429 and
	// 5xx are tried again; a tile that is 404 twice isn't there.
	Attempts int
	// Backoff is the pause before the second attempt; each further one doubles, up to 64
	// times, with jitter. Retry-After of up to a minute is honoured. Default 250 ms.
	Backoff time.Duration
	// Transport is, if nil, one like http.DefaultTransport that keeps more connections.
	Transport http.RoundTripper
}

// HTTPLog reads a log over HTTP: a [Source] of its public files, and an [OpeningSource].
type HTTPLog struct {
	cfg    HTTPConfig
	prefix *url.URL // of the public files
	api    string   // prefix of the API, "" if it can't be known
	name   string   // short name of the log
	client *http.Client

	encoding string // Accept-Encoding
}

// NewHTTPLog checks the configuration; it sends nothing.
func NewHTTPLog(cfg HTTPConfig) (*HTTPLog, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return nil, fmt.Errorf("log URL %q: expected https://host[:port]/…/logs/<log>", cfg.URL)
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !cfg.AllowHTTP && !isLoopback(u.Hostname())) {
		return nil, fmt.Errorf("log URL %q: expected https, or http to a loopback address", cfg.URL)
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	l := &HTTPLog{cfg: cfg, prefix: u}
	if i := strings.LastIndex(u.Path, "/logs/"); i >= 0 {
		base := *u
		base.Path, base.RawPath = u.Path[:i], ""
		l.api, l.name = base.String(), u.Path[i+len("/logs/"):]
	}
	l.defaults()
	l.client = &http.Client{Transport: l.cfg.Transport, CheckRedirect: sameHost}
	// Packing and unpacking costs more than a loopback interface does.
	l.encoding = "gzip"
	if isLoopback(u.Hostname()) {
		l.encoding = "identity"
	}
	return l, nil
}

func (l *HTTPLog) defaults() {
	if l.cfg.Timeout <= 0 {
		l.cfg.Timeout = 30 * time.Second
	}
	if l.cfg.Attempts <= 0 {
		l.cfg.Attempts = 6
	}
	if l.cfg.Backoff <= 0 {
		l.cfg.Backoff = 250 * time.Millisecond
	}
	if l.cfg.Transport == nil {
		l.cfg.Transport = defaultTransport()
	}
}

// defaultTransport keeps a connection for each request that an audit has under way:
// http.DefaultTransport would keep two and make the others again and again.
var defaultTransport = sync.OnceValue(func() http.RoundTripper {
	t, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return http.DefaultTransport
	}
	t = t.Clone()
	t.MaxIdleConnsPerHost = 32
	t.ReadBufferSize = 64 << 10 // an entry bundle
	return t
})

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

var errRedirect = errors.New("redirect refused")

// sameHost refuses redirects to another host or scheme: the caller named one log.
func sameHost(req *http.Request, via []*http.Request) error {
	first := via[0].URL
	if len(via) >= 5 || req.URL.Scheme != first.Scheme || req.URL.Host != first.Host {
		return fmt.Errorf("%w: to %s://%s", errRedirect, req.URL.Scheme, req.URL.Host)
	}
	return nil
}

// Get implements [Source].
func (l *HTTPLog) Get(ctx context.Context, file string, limit int64) (b []byte, err error) {
	u := *l.prefix
	u.Path = path.Join("/", u.Path, file)
	err = l.retry(ctx, func(ctx context.Context) error {
		body, size, err := l.open(ctx, u.String(), "")
		if err != nil {
			return err
		}
		defer body.Close()
		b, err = readLimited(body, size, limit, file)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", u.Redacted(), err)
	}
	return b, nil
}

// statusError is an answer other than 200.
type statusError struct {
	code       int
	retryAfter time.Duration
}

func (e *statusError) Error() string {
	return fmt.Sprintf("status %d %s", e.code, http.StatusText(e.code))
}

func (e *statusError) Is(target error) bool {
	return target == fs.ErrNotExist && (e.code == http.StatusNotFound || e.code == http.StatusGone)
}

// open sends one request and returns the body of a 200, and its size, below zero if that
// isn't known. Gzip is undone; limits apply to what comes out.
func (l *HTTPLog) open(ctx context.Context, u, token string) (body io.ReadCloser, size int64, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(l.cfg.Timeout, func() { cancel(errSilent) })
	stop := func() { timer.Stop(); cancel(nil) }
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		stop()
		return nil, 0, err
	}
	req.Header.Set("User-Agent", "prooftrail-verify")
	req.Header.Set("Accept-Encoding", l.encoding)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := l.client.Do(req)
	if err != nil {
		stop()
		return nil, 0, silence(ctx, err)
	}
	if resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close() // nothing of it is wanted
		stop()
		return nil, 0, &statusError{resp.StatusCode, retryAfter(resp.Header)}
	}
	timer.Stop()
	body = &watchedBody{ReadCloser: resp.Body, ctx: ctx, timer: timer, timeout: l.cfg.Timeout, stop: stop}
	if strings.EqualFold(resp.Header.Get("Content-Encoding"), "gzip") {
		return unpack(body)
	}
	return body, resp.ContentLength, nil
}

// unpackedBody is a body that was packed with gzip.
type unpackedBody struct {
	*gzip.Reader
	packed io.ReadCloser
}

func unpack(body io.ReadCloser) (io.ReadCloser, int64, error) {
	z, err := gzip.NewReader(body)
	if err != nil {
		_ = body.Close() // nothing of it is wanted
		return nil, 0, err
	}
	return unpackedBody{z, body}, -1, nil
}

func (b unpackedBody) Close() error { return b.packed.Close() }

// minRate is what a server has to send in the long run, in bytes a second.
const minRate = 4 << 10

var errSilent = errors.New("the server fell silent, or sends less than 4 KiB/s")

// silence names the reason when it was our own timer that ended the request.
func silence(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errSilent) {
		return errSilent
	}
	var ue *url.Error
	if errors.As(err, &ue) { // drop method and URL, the caller names them
		return ue.Err
	}
	return err
}

func retryAfter(h http.Header) time.Duration {
	s, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || s < 0 {
		return 0
	}
	return time.Duration(min(s, 60)) * time.Second
}

// watchedBody ends a request whose server sends nothing for the timeout, or so little that
// it would hold its reader for days. Only time spent waiting for the server counts.
type watchedBody struct {
	io.ReadCloser
	ctx     context.Context
	timer   *time.Timer // runs during Read; ends the request
	timeout time.Duration
	stop    func()

	got    int64
	waited time.Duration
}

func (b *watchedBody) Read(p []byte) (int, error) {
	due := b.timeout + time.Duration(b.got/minRate)*time.Second
	b.timer.Reset(min(b.timeout, due-b.waited))
	start := time.Now()
	n, err := b.ReadCloser.Read(p)
	b.timer.Stop()
	b.got += int64(n)
	b.waited += time.Since(start)
	if err != nil && err != io.EOF {
		err = silence(b.ctx, err)
	}
	return n, err
}

func (b *watchedBody) Close() error {
	defer b.stop()
	return b.ReadCloser.Close()
}

// retry runs f until it succeeds, its error is final, or the attempts are used up.
func (l *HTTPLog) retry(ctx context.Context, f func(context.Context) error) error {
	for attempt := 1; ; attempt++ {
		err := f(ctx)
		if err == nil || ctx.Err() != nil || !retryable(err, attempt) {
			return err
		}
		if attempt >= l.cfg.Attempts {
			return fmt.Errorf("after %d attempts: %w", attempt, err)
		}
		if err := l.pause(ctx, attempt, err); err != nil {
			return err
		}
	}
}

// retryable: everything that may be otherwise the next time. Replicas behind each other
// make a file that exists look missing: that is tried once more.
func retryable(err error, attempt int) bool {
	var status *statusError
	switch {
	case errors.Is(err, ErrTooLarge), errors.Is(err, errRedirect):
		return false
	case errors.As(err, &status) && status.Is(fs.ErrNotExist):
		return attempt == 1
	case errors.As(err, &status):
		return status.code == http.StatusTooManyRequests || status.code >= 500
	}
	return true
}

func (l *HTTPLog) pause(ctx context.Context, attempt int, err error) error {
	d := l.cfg.Backoff << min(attempt-1, 6)
	d += rand.N(d/2 + 1)
	var status *statusError
	if errors.As(err, &status) {
		d = max(d, status.retryAfter)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
