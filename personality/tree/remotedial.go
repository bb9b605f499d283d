package tree

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/google/trillian"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
)

// roundRobin sends calls to the servers in turn, past those that can't be reached. No
// retry policy: what may be repeated is decided here.
const roundRobin = `{"loadBalancingConfig": [{"round_robin": {}}]}`

// How connections are kept. The fourth ping of a client between two answers makes Trillian's
// servers close its connection, so a call gets two at most.
const (
	dialTimeout = 5 * time.Second
	minPing     = 10 * time.Second // gRPC allows no less
	pingTimeout = 5 * time.Second
	minBackoff  = 50 * time.Millisecond
	maxBackoff  = 2 * time.Second
	headroom    = 1 << 20 // of a message, for what isn't leaves
)

// withDefaults checks the configuration and fills in what it leaves out.
func (c RemoteConfig) withDefaults() (RemoteConfig, error) {
	times := []struct {
		value *time.Duration
		def   time.Duration
	}{
		{&c.CallTimeout, 5 * time.Second}, {&c.AppendTimeout, 60 * time.Second},
		{&c.Patience, 30 * time.Second}, {&c.StallTimeout, 30 * time.Second},
	}
	for _, t := range times {
		if *t.value < 0 {
			return c, fmt.Errorf("%w: a time of %v", ErrInvalid, *t.value)
		}
		if *t.value == 0 {
			*t.value = t.def
		}
	}
	if c.MaxSend == 0 {
		c.MaxSend = 3 << 20
	}
	if c.MaxReceive == 0 {
		c.MaxReceive = 64 << 20
	}
	if c.MaxSend < 2*MaxLeafBytes || c.MaxReceive < headroom {
		return c, fmt.Errorf("%w: messages of %d and %d bytes", ErrInvalid, c.MaxSend, c.MaxReceive)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c, nil
}

// Check says what is wrong with the configuration, without calling anybody.
func (c *RemoteConfig) Check() error {
	full, err := c.withDefaults()
	if err == nil {
		_, _, err = full.target()
	}
	return err
}

// dial prepares the connections; they are made with the first call.
func dial(cfg RemoteConfig, treeID int64) (*Remote, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	target, options, err := cfg.target()
	if err != nil {
		return nil, err
	}
	options = append(options,
		grpc.WithTransportCredentials(cfg.credentials()),
		grpc.WithDefaultServiceConfig(roundRobin),
		grpc.WithDisableServiceConfig(), // a resolver's
		grpc.WithDisableRetry(),
		grpc.WithNoProxy(),
		grpc.WithIdleTimeout(0),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: minBackoff, Multiplier: 1.6, Jitter: 0.2, MaxDelay: maxBackoff},
			MinConnectTimeout: dialTimeout,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: max(minPing, cfg.AppendTimeout/2, cfg.CallTimeout/2), Timeout: pingTimeout,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallSendMsgSize(cfg.MaxSend+headroom), grpc.MaxCallRecvMsgSize(cfg.MaxReceive)),
	)
	conn, err := grpc.NewClient(target, options...)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return &Remote{
		cfg: cfg, treeID: treeID, conn: conn,
		logs: trillian.NewTrillianLogClient(conn), admin: trillian.NewTrillianAdminClient(conn),
	}, nil
}

// target returns what gRPC resolves: one name through DNS, again and again, else the
// addresses as they are.
func (c *RemoteConfig) target() (string, []grpc.DialOption, error) {
	if len(c.Addresses) == 0 {
		return "", nil, fmt.Errorf("%w: no address of a log server", ErrInvalid)
	}
	var state resolver.State
	for _, addr := range c.Addresses {
		host, port, err := net.SplitHostPort(addr)
		if err != nil || host == "" || port == "" || strings.Contains(addr, "/") {
			return "", nil, fmt.Errorf("%w: address %q, want host:port", ErrInvalid, addr)
		}
		if c.plain() && !c.Insecure && !isLoopback(host) {
			return "", nil, fmt.Errorf("%w: log server %s is on another machine: it needs TLS", ErrInvalid, addr)
		}
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: addr, ServerName: host}}})
	}
	if len(c.Addresses) == 1 {
		return "dns:///" + c.Addresses[0], nil, nil
	}
	b := manual.NewBuilderWithScheme("trillian")
	b.InitialState(state)
	return "trillian:///log-servers", []grpc.DialOption{grpc.WithResolvers(b)}, nil
}

func (c *RemoteConfig) plain() bool { return c.TLS == nil }

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (c *RemoteConfig) credentials() credentials.TransportCredentials {
	if c.plain() {
		return insecure.NewCredentials()
	}
	config := c.TLS.Clone()
	config.MinVersion = max(config.MinVersion, tls.VersionTLS12)
	return credentials.NewTLS(config)
}
