package tree

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

// pickFirst keeps to one of a name's addresses, any of them. No retry policy: what may be
// repeated is decided here.
const pickFirst = `{"loadBalancingConfig": [{"pick_first": {"shuffleAddressList": true}}]}`

// How connections are kept. The fourth ping of a client between two answers makes Trillian's
// servers close its connection, so that calls mustn't take longer than 20 s.
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
		{&c.CallTimeout, 5 * time.Second}, {&c.AppendTimeout, 10 * time.Second},
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
		err = full.checkAddresses()
	}
	return err
}

// dial prepares the ways to the servers.
func dial(cfg RemoteConfig, treeID int64) (*Remote, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	r := &Remote{cfg: cfg, treeID: treeID}
	if r.servers, err = dialAll(&r.cfg); err != nil {
		return nil, err
	}
	return r, nil
}

func (c *RemoteConfig) dialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithTransportCredentials(c.credentials()),
		grpc.WithDefaultServiceConfig(pickFirst),
		grpc.WithDisableServiceConfig(), // a resolver's
		grpc.WithDisableRetry(),
		grpc.WithNoProxy(),
		grpc.WithIdleTimeout(0),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: minBackoff, Multiplier: 1.6, Jitter: 0.2, MaxDelay: maxBackoff},
			MinConnectTimeout: dialTimeout,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: minPing, Timeout: pingTimeout}),
		grpc.WithDefaultCallOptions(grpc.MaxCallSendMsgSize(c.MaxSend+headroom), grpc.MaxCallRecvMsgSize(c.MaxReceive)),
	}
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
