package alarm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	defaultTimeout = 10 * time.Second
	maxAnswer      = 4 << 10 // of which a line may stand in an error
	maxAnswerText  = 200
)

// HTTPConfig says where a sink posts to, and how.
type HTTPConfig struct {
	// URL has to be https, or http to a loopback address, without user and password. Errors
	// show its scheme and host only, for the rest of a webhook's URL is often the credential.
	URL string
	// AllowHTTP allows plain http to any host: then token and alarms can be read on the way,
	// and alarms withheld.
	AllowHTTP bool
	// Token, if not empty, is sent as a bearer token.
	Token string
	// Timeout bounds a call, answer included. Default 10 s.
	Timeout time.Duration
	// Transport is one like http.DefaultTransport if nil.
	Transport http.RoundTripper
	// UserAgent is "prooftrail-monitor" if empty.
	UserAgent string
}

// poster posts JSON to one URL.
type poster struct {
	cfg    HTTPConfig
	url    *url.URL
	where  string // the URL without what may be secret
	secret []string
	client *http.Client
}

// newPoster checks the configuration; it sends nothing. No error shows the URL.
func newPoster(cfg HTTPConfig, secrets ...string) (*poster, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Host == "" || u.Fragment != "" || u.Opaque != "" {
		return nil, errors.New("its URL isn't https://host[:port][/path]")
	}
	where := u.Scheme + "://" + u.Host
	if u.User != nil {
		return nil, fmt.Errorf("URL at %s: a user and a password have no place in it", where)
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !cfg.AllowHTTP && !isLoopback(u.Hostname())) {
		return nil, fmt.Errorf("URL at %s: expected https, or http to a loopback address", where)
	}
	if strings.ContainsFunc(cfg.Token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("its token has characters that no header takes")
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = defaultTimeout
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = "prooftrail-monitor"
	}
	if cfg.Transport == nil {
		cfg.Transport = defaultTransport()
	}
	// A redirect isn't followed: it could lead anywhere, and most turn a POST into a GET, whose
	// 200 would pass for a delivery.
	noRedirect := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &poster{cfg, u, where, append(secrets, cfg.Token), &http.Client{Transport: cfg.Transport, CheckRedirect: noRedirect}}, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// defaultTransport is shared; it takes smaller headers than http.DefaultTransport does.
var defaultTransport = sync.OnceValue(func() http.RoundTripper {
	t, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return http.DefaultTransport
	}
	t = t.Clone()
	t.MaxResponseHeaderBytes = 64 << 10
	return t
})

// post sends one body. Every status but 2xx is an error.
func (p *poster) post(ctx context.Context, body []byte, header http.Header) error {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url.String(), bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("post to %s: the request can't be made", p.where) // its text has the URL
	}
	for k, v := range header {
		req.Header[k] = v
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", p.cfg.UserAgent)
	req.Header.Set("Accept-Encoding", "identity") // so that nothing grows when it is unpacked
	if p.cfg.Token != "" {
		req.Header.Set("Authorization", "Bearer "+p.cfg.Token)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return p.fail(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if resp.StatusCode/100 == 2 {
		return nil // whatever else it says, and however that ends
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(answer)), "\n")
	if err != nil {
		line = "its answer broke off"
	}
	fail := p.fail(fmt.Errorf("status %d: %s", resp.StatusCode, printable(p.hide(line), maxAnswerText)))
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		return &RetryError{fail, time.Duration(min(s, 3600)) * time.Second}
	}
	return fail
}

// fail names the place, and leaves out the URL that net/http names.
func (p *poster) fail(err error) error {
	for where := (*url.Error)(nil); errors.As(err, &where); {
		err = where.Err
	}
	text := p.hide(err.Error())
	if errors.Is(err, context.DeadlineExceeded) {
		text = fmt.Sprintf("no answer within %s", p.cfg.Timeout)
	}
	return fmt.Errorf("post to %s: %s", p.where, text)
}

// hide takes out what a receiver that repeats what it was sent could make known.
func (p *poster) hide(s string) string {
	hidden := append([]string{p.url.RawQuery, p.url.EscapedPath(), p.url.Path}, p.secret...)
	for _, values := range p.url.Query() {
		hidden = append(hidden, values...)
	}
	for _, v := range append(hidden, strings.Split(p.url.Path, "/")...) {
		if len(v) > 5 {
			s = strings.ReplaceAll(s, v, "[hidden]")
		}
	}
	return s
}
