package tree

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/google/trillian"
	"google.golang.org/grpc"
)

// logServers are the ways to the log servers. All calls go to one of them until one fails:
// then to the next. So what is read before a write, and the write, are of the same server,
// and one that can be reached and can't work is left as one that can't be reached.
type logServers struct {
	cfg *RemoteConfig

	mu     sync.Mutex
	list   []*logServer
	at     int
	closed bool
}

// logServer is the way to one.
type logServer struct {
	addr  string
	conn  *grpc.ClientConn
	logs  trillian.TrillianLogClient
	admin trillian.TrillianAdminClient
	since time.Time
}

// renewAfter is how long the way to a name is kept at least, before its addresses are asked for
// anew.
const renewAfter = time.Second

// dialAll prepares the ways; connections are made with the first call. Processes begin with
// servers of their own choice, so that each server has its part of the load.
func dialAll(cfg *RemoteConfig) (*logServers, error) {
	if err := cfg.checkAddresses(); err != nil {
		return nil, err
	}
	s := &logServers{cfg: cfg, at: rand.N(len(cfg.Addresses))}
	for _, addr := range cfg.Addresses {
		one, err := cfg.dial(addr)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%w: %w", ErrInvalid, err), s.close())
		}
		s.list = append(s.list, one)
	}
	return s, nil
}

// current returns the server that is called.
func (s *logServers) current() *logServer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.list[s.at]
}

// failed has the next server called, unless another failure already has. Of a name
// the addresses are asked for again: another server may be behind it now.
func (s *logServers) failed(one *logServer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.list[s.at] != one {
		return
	}
	if isName(one.addr) && time.Since(one.since) >= renewAfter {
		if again, err := s.cfg.dial(one.addr); err == nil {
			s.list[s.at] = again
			// Others may have calls under way, and get to their end in this time.
			time.AfterFunc(max(s.cfg.AppendTimeout, s.cfg.CallTimeout), func() { _ = one.conn.Close() })
		}
	}
	s.at = (s.at + 1) % len(s.list)
}

// close ends all calls.
func (s *logServers) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	var err error
	for _, one := range s.list {
		err = errors.Join(err, one.conn.Close())
	}
	return err
}

// dial prepares the way to one address.
func (c *RemoteConfig) dial(addr string) (*logServer, error) {
	target := "passthrough:///" + addr
	if isName(addr) {
		target = "dns:///" + addr
	}
	conn, err := grpc.NewClient(target, c.dialOptions()...)
	if err != nil {
		return nil, err
	}
	return &logServer{
		addr: addr, conn: conn, since: time.Now(),
		logs: trillian.NewTrillianLogClient(conn), admin: trillian.NewTrillianAdminClient(conn),
	}, nil
}

// isName reports whether an address has a name that may stand for several servers.
func isName(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	return err == nil && net.ParseIP(host) == nil
}

// checkAddresses names the first address that can't be meant.
func (c *RemoteConfig) checkAddresses() error {
	if len(c.Addresses) == 0 {
		return fmt.Errorf("%w: no address of a log server", ErrInvalid)
	}
	for _, addr := range c.Addresses {
		host, port, err := net.SplitHostPort(addr)
		if err != nil || host == "" || port == "" || strings.Contains(addr, "/") {
			return fmt.Errorf("%w: address %q, want host:port", ErrInvalid, addr)
		}
		if c.plain() && !c.Insecure && !isLoopback(host) {
			return fmt.Errorf("%w: log server %s is on another machine: it needs TLS", ErrInvalid, addr)
		}
	}
	return nil
}
