package syslog

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Kind is how it is known who sent a line.
type Kind string

// The kinds.
const (
	// Credentials: the kernel says which process of this machine sent it.
	Credentials Kind = "unix-credentials"
	// Relay: another syslog of this machine passed it on. The kernel knows only that one.
	Relay Kind = "unix-relay"
	// Network: over UDP, TCP, or TLS without a client certificate: whoever can reach the socket may have sent it, and over
	// UDP with any address.
	Network Kind = "network"
	// TLS: whoever has the key of the certificate sent it.
	TLS Kind = "tls"
)

// Sender is who sent a line. The line itself can't change it.
type Sender struct {
	Kind     Kind
	PID, UID int            // of Credentials
	Peer     netip.AddrPort // of Network and TLS
	Name     string         // of TLS: the name in the certificate
}

// Key names the sender for a Budget: a user of this machine, an address, a network of IPv6.
func (s *Sender) Key() string {
	switch {
	case s.Kind == Credentials:
		return "uid " + strconv.Itoa(s.UID)
	case s.Kind == TLS:
		return "certificate " + s.Name
	case s.Peer.Addr().Is4() || s.Peer.Addr().Is4In6():
		return s.Peer.Addr().Unmap().String()
	case s.Peer.IsValid():
		return network(s.Peer.Addr()).String()
	}
	return string(s.Kind)
}

// network is what one sender has: an address, or of IPv6 as many as there are in a /64.
func network(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	p, _ := a.Prefix(min(a.BitLen(), 64)) // it fails for no address alone
	return p
}

// Packet is a line as it came.
type Packet struct {
	Raw      []byte // valid until Handle returns
	Cut      bool   // it was longer than MaxLine
	Received time.Time
	Sender   Sender
}

// Config says what listeners do.
type Config struct {
	Handle func(Packet)
	TLS    *tls.Config // of tls: sockets
	// Conns and PeerConns bound the connections of each listener, and those from one address, or one /64 of IPv6. Defaults 256 and 32.
	Conns, PeerConns int
	// Idle is after how long without a line a connection is closed, Partial the time for a line that has begun. Defaults 1
	// hour and 30 s.
	Idle, Partial time.Duration
	Logger        *slog.Logger
}

// Counts are what listeners count.
type Counts struct {
	Lines, Cut          uint64
	KernelDrops         uint64 // datagrams for which the kernel had no room
	Connections         int64  // now
	Refused, BadStreams uint64 // connections over a bound, and those closed for what came on them
}

// Listener is one socket that lines come from.
type Listener struct {
	cfg   Config
	spec  string
	serve func() error
	close func() error
	addr  string
	drops func() uint64 // what the kernel says that it dropped so far

	closed                             atomic.Bool
	lines, cut, dropped, refused, bads atomic.Uint64
	conns                              atomic.Int64
	wg                                 sync.WaitGroup

	mu    sync.Mutex
	peers map[netip.Prefix]int
	open  map[net.Conn]struct{}
}

// Listen opens a socket: unix:PATH and relay:PATH (datagrams; see Relay), systemd: (the datagram socket that systemd passes
// on), udp:ADDRESS, tcp:ADDRESS, tls:ADDRESS.
func Listen(spec string, cfg Config) (*Listener, error) {
	if cfg.Conns == 0 {
		cfg.Conns = 256
	}
	if cfg.PeerConns == 0 {
		cfg.PeerConns = 32
	}
	if cfg.Idle == 0 {
		cfg.Idle = time.Hour
	}
	if cfg.Partial == 0 {
		cfg.Partial = 30 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	l := &Listener{cfg: cfg, spec: spec, peers: map[netip.Prefix]int{}, open: map[net.Conn]struct{}{}, drops: func() uint64 { return 0 }}
	kind, address, ok := strings.Cut(spec, ":")
	if !ok || address == "" && kind != "systemd" {
		return nil, fmt.Errorf("%q: expected unix:PATH, relay:PATH, systemd:, udp:ADDRESS, tcp:ADDRESS or tls:ADDRESS", spec)
	}
	var err error
	switch kind {
	case "unix":
		err = l.listenUnix(address, Credentials)
	case "relay":
		err = l.listenUnix(address, Relay)
	case "systemd":
		err = l.inherit()
	case "udp":
		err = l.listenUDP(address)
	case "tcp":
		err = l.listenStream(address, nil)
	case "tls":
		if cfg.TLS == nil {
			return nil, fmt.Errorf("%q: it takes a certificate and a key", spec)
		}
		err = l.listenStream(address, cfg.TLS)
	default:
		err = errors.New("expected unix:PATH, relay:PATH, systemd:, udp:ADDRESS, tcp:ADDRESS or tls:ADDRESS")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", spec, err)
	}
	return l, nil
}

// Addr is where it listens.
func (l *Listener) Addr() string { return l.addr }

// Serve reads until Close, and returns when no call of Handle is under way any more.
func (l *Listener) Serve() error {
	err := l.serve()
	l.wg.Wait()
	if l.closed.Load() {
		return nil
	}
	return fmt.Errorf("%s: %w", l.spec, err)
}

// Close ends it. What the kernel has and nobody has read is lost.
func (l *Listener) Close() error {
	l.closed.Store(true)
	err := l.close()
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.open {
		_ = c.Close() // whatever was under way there
	}
	return err
}

// Counts returns what was counted so far.
func (l *Listener) Counts() Counts {
	return Counts{Lines: l.lines.Load(), Cut: l.cut.Load(), KernelDrops: max(l.dropped.Load(), l.drops()),
		Connections: l.conns.Load(), Refused: l.refused.Load(), BadStreams: l.bads.Load()}
}

func (l *Listener) handle(raw []byte, cut bool, s Sender) {
	l.lines.Add(1)
	if cut {
		l.cut.Add(1)
	}
	if len(raw) > MaxLine {
		raw = raw[:MaxLine]
	}
	l.cfg.Handle(Packet{Raw: raw, Cut: cut, Received: time.Now(), Sender: s})
}

func (l *Listener) listenUDP(address string) error {
	at, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		return err
	}
	c, err := net.ListenUDP("udp", at)
	if err != nil {
		return err
	}
	_ = c.SetReadBuffer(8 << 20) // as much as the system allows
	if l.drops, err = countDrops(c); err != nil {
		return errors.Join(err, c.Close())
	}
	l.addr, l.close = c.LocalAddr().String(), c.Close
	l.serve = func() error {
		buf, control := make([]byte, MaxLine+1), make([]byte, 128)
		for {
			n, m, flags, from, err := c.ReadMsgUDPAddrPort(buf, control)
			if err != nil {
				return err
			}
			if d, ok := dropsIn(control[:m]); ok {
				l.dropped.Store(max(l.dropped.Load(), d))
			}
			l.handle(buf[:n], n > MaxLine || truncated(flags), Sender{Kind: Network, Peer: unmap(from)})
		}
	}
	return nil
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

func (l *Listener) listenStream(address string, tlsConfig *tls.Config) error {
	in, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	l.addr, l.close = in.Addr().String(), in.Close
	l.serve = func() error {
		for {
			c, err := in.Accept()
			if err != nil {
				var temporary net.Error
				if errors.As(err, &temporary) && temporary.Timeout() || strings.Contains(err.Error(), "too many open files") {
					<-time.After(50 * time.Millisecond) // others may end
					continue
				}
				return err
			}
			l.accept(c, tlsConfig)
		}
	}
	return nil
}

// accept takes a connection, if there is room for it.
func (l *Listener) accept(c net.Conn, tlsConfig *tls.Config) {
	from, err := netip.ParseAddrPort(c.RemoteAddr().String())
	from = unmap(from)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil || l.closed.Load() || len(l.open) >= l.cfg.Conns || l.peers[network(from.Addr())] >= l.cfg.PeerConns {
		l.refused.Add(1)
		_ = c.Close() // nobody was heard
		return
	}
	l.peers[network(from.Addr())]++
	l.open[c] = struct{}{}
	l.conns.Add(1)
	l.wg.Go(func() {
		defer l.release(c, network(from.Addr()))
		err := l.stream(c, from, tlsConfig)
		if err != nil && !errors.Is(err, io.EOF) && !l.closed.Load() {
			l.bads.Add(1)
			l.cfg.Logger.Debug("a connection ended", "peer", from.String(), "error", err)
		}
	})
}

func (l *Listener) release(c net.Conn, from netip.Prefix) {
	_ = c.Close() // all was read
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.peers[from]--; l.peers[from] == 0 {
		delete(l.peers, from)
	}
	delete(l.open, c)
	l.conns.Add(-1)
}

// stream reads the lines of a connection.
func (l *Listener) stream(c net.Conn, from netip.AddrPort, tlsConfig *tls.Config) error {
	sender := Sender{Kind: Network, Peer: from}
	if tlsConfig != nil {
		secure := tls.Server(c, tlsConfig)
		ctx, cancel := context.WithTimeout(context.Background(), l.cfg.Partial)
		defer cancel()
		if err := secure.HandshakeContext(ctx); err != nil {
			return fmt.Errorf("tls: %w", err)
		}
		if certs := secure.ConnectionState().PeerCertificates; len(certs) > 0 {
			sender.Kind, sender.Name = TLS, certs[0].Subject.CommonName
			if names := certs[0].DNSNames; len(names) > 0 {
				sender.Name = names[0]
			}
		}
		c = secure
	}
	frames := frameReader{r: bufio4k(c), begun: func() { _ = c.SetReadDeadline(time.Now().Add(l.cfg.Partial)) }}
	for {
		if err := c.SetReadDeadline(time.Now().Add(l.cfg.Idle)); err != nil {
			return err
		}
		line, cut, err := frames.next()
		if err != nil {
			return err
		}
		l.handle(line, cut, sender)
	}
}
