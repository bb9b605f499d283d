package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/monitor/gossip"
)

// Wait says how far an event must have come before the server answers
// (design §8).
type Wait string

// The stages of an event that can be waited for.
const (
	// Durable: stored, with its final index, but with no signature yet; there is
	// no receipt, and the answer is worth the word of the server.
	Durable Wait = "durable"
	// Integrated: in a signed tree head. The receipt may be provisional.
	Integrated Wait = "integrated"
	// Witnessed: in a head that the witnesses of the server's policy cosigned. With
	// a policy of one's own, a receipt that doesn't meet it is then an error,
	// ErrProvisional.
	Witnessed Wait = "witnessed"
)

// Config says which server a Client talks to and how.
type Config struct {
	// URL is the server's base URL, without a path of the API, such as
	// "https://log.example.com". Plain http is refused but for loopback
	// addresses, because the token would leave the machine unencrypted.
	URL string
	// Insecure allows plain http to any address. Whoever sees the traffic then
	// has the token.
	Insecure bool
	// Token is the bearer token, "pt_…". Empty: only public calls work.
	Token string
	// Log is the log's short name in paths. Default "audit".
	Log string
	// Policy is what receipts and checkpoints are checked against. nil: nothing
	// is checked, and each Result says so.
	Policy *verifier.Policy
	// Wait is what Submit waits for. Default Integrated.
	Wait Wait
	// HTTPClient makes the requests; redirects are not followed whatever it
	// says. Default: a client with its own connections.
	HTTPClient *http.Client
	// Timeout bounds each single attempt. Default 30 s.
	Timeout time.Duration
	// Attempts is how often a request is made at most. Default 6; 1 means no
	// retry.
	Attempts int
	// MinBackoff and MaxBackoff bound the pause before a retry, which doubles
	// from one attempt to the next and is jittered by half. A Retry-After of the
	// server replaces it, up to MaxBackoff. Defaults 50 ms and 5 s.
	MinBackoff, MaxBackoff time.Duration
	// Signer, if not nil, signs each event that is submitted, by Submit, SubmitBatch and queues, unless it comes in
	// an envelope of its own ([seal.Envelope]). Its key must be registered with the log. Receipts are
	// checked to have the signature.
	Signer *SourceSigner
	// UserAgent is sent with each request. Default "prooftrail-client".
	UserAgent string

	// These take a Policy. The package comment says how heads are checked.

	// HeadsFile is where the heads that were seen are remembered over restarts. Empty: a
	// client that is made anew takes whatever head it is shown first, and wouldn't notice
	// that the log was put back, or forked, in between. A file that doesn't exist is made,
	// mode 0600, and [Client.Remembered] says so; its directory must exist. One that can't
	// be read, or that is of another log, is an error of [New]. Each process has its own.
	HeadsFile string
	// CheckEvery is how often, at most, new heads are checked in the background. Default
	// 10 s; negative: never, and only [Client.CheckHeads] checks them.
	CheckEvery time.Duration
	// Alarm, if not nil, is called with what went wrong in the background, from a goroutine
	// of the client: an *EvidenceError, or what kept a proof away or a file from being
	// written. It must not call Close.
	Alarm func(error)
	// Monitors are who [Client.Gossip] compares heads with. Others than the log's operator
	// run them.
	Monitors []gossip.Config
}

// Client talks to one log of one server. It is safe for concurrent use.
type Client struct {
	cfg     Config
	base    *url.URL
	http    *http.Client
	checker *Checker // nil without a policy

	checking   chan struct{}    // holds one while heads are checked
	monitors   []*gossip.Client // of Config.Monitors
	file       headsFile
	remembered *verifier.Checkpoint // what the file held at the beginning
	watch      watch

	sleep func(context.Context, time.Duration) error // time.Sleep that heeds the context; tests replace it
}

// New makes a client. It makes no request.
func New(cfg Config) (*Client, error) {
	base, err := parseBase(cfg.URL, cfg.Insecure)
	if err != nil {
		return nil, err
	}
	switch cfg.Wait {
	case "":
		cfg.Wait = Integrated
	case Durable, Integrated, Witnessed:
	default:
		return nil, fmt.Errorf("client: wait %q is none of durable, integrated, witnessed", cfg.Wait)
	}
	setDefaults(&cfg)
	c := &Client{cfg: cfg, base: base, http: ownHTTPClient(cfg.HTTPClient), sleep: sleep, checking: make(chan struct{}, 1)}
	if cfg.Policy == nil {
		if cfg.HeadsFile != "" || len(cfg.Monitors) > 0 {
			return nil, errNoPolicy
		}
		return c, nil
	}
	c.checker = NewChecker(cfg.Policy)
	for _, m := range cfg.Monitors {
		g, err := gossip.New(m)
		if err != nil {
			return nil, fmt.Errorf("client: %w", err)
		}
		c.monitors = append(c.monitors, g)
	}
	if err := c.loadHeads(); err != nil {
		return nil, err
	}
	c.startWatch()
	return c, nil
}

func setDefaults(cfg *Config) {
	if cfg.Log == "" {
		cfg.Log = "audit"
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 30 * time.Second
	}
	if cfg.Attempts <= 0 {
		cfg.Attempts = 6
	}
	if cfg.MinBackoff <= 0 {
		cfg.MinBackoff = 50 * time.Millisecond
	}
	if cfg.MaxBackoff <= 0 {
		cfg.MaxBackoff = 5 * time.Second
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = "prooftrail-client"
	}
	if cfg.CheckEvery == 0 {
		cfg.CheckEvery = 10 * time.Second
	}
}

// ownHTTPClient copies h, so that the caller's is left as it is, and forbids
// redirects: one could lead a token from https to http.
func ownHTTPClient(h *http.Client) *http.Client {
	own := http.Client{}
	if h != nil {
		own = *h
	} else if t, ok := http.DefaultTransport.(*http.Transport); ok {
		t = t.Clone()
		t.MaxIdleConnsPerHost = 64
		own.Transport = t
	}
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &own
}

func parseBase(raw string, insecure bool) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("client: server URL: expected https://host[:port]")
	}
	switch {
	case u.Host == "" && u.Opaque != "": // host:port
		return nil, fmt.Errorf("client: server URL %q: expected a scheme, as in https://host[:port]", u.Redacted())
	case u.Host == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, fmt.Errorf("client: server URL %q: expected https://host[:port]", u.Redacted())
	case u.Scheme == "https", u.Scheme == "http" && (insecure || isLoopback(u.Hostname())):
	case u.Scheme == "http":
		return nil, fmt.Errorf("client: server URL %q: %w", raw, ErrInsecure)
	default:
		return nil, fmt.Errorf("client: server URL %q: expected the scheme https", raw)
	}
	u.Path = strings.TrimRight(u.Path, "/")
	u.RawPath = ""
	return u, nil
}

// ErrInsecure: the URL would carry the token over the network unencrypted.
var ErrInsecure = errors.New("plain http would show the token to the network; use https, or say that it is insecure and meant")

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

// Checker is what the client checks receipts with; nil without a policy.
func (c *Client) Checker() *Checker { return c.checker }

// Close ends what the client does in the background, saves the heads that were seen
// (Config.HeadsFile), and drops idle connections. Requests under way go on. It doesn't ask
// for proofs any more: what wasn't proven yet is left to the next client with that file, or to
// [Client.CheckHeads] before.
func (c *Client) Close() {
	c.stopWatch()
	c.http.CloseIdleConnections()
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// backoff is the pause before attempt n (1 is the first retry).
func (c *Client) backoff(n int) time.Duration {
	d := c.cfg.MaxBackoff
	if n < 20 {
		d = min(d, c.cfg.MinBackoff<<(n-1))
	}
	return d/2 + rand.N(d/2+1)
}
