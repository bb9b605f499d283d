package tree_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/trillian"
	"github.com/google/trillian/extension"
	"github.com/google/trillian/log"
	"github.com/google/trillian/monitoring"
	"github.com/google/trillian/quota"
	"github.com/google/trillian/server"
	"github.com/google/trillian/server/admin"
	"github.com/google/trillian/server/interceptor"
	"github.com/google/trillian/storage"
	"github.com/google/trillian/util/clock"
	"google.golang.org/grpc"

	"github.com/prooftrail/prooftrail/personality/pebblestore"
)

// cluster is Trillian's own server code, in this process but behind real sockets, on one
// database: log servers, each of which may be made to answer wrongly, and a signer, which
// may be stopped.
type cluster struct {
	store   *pebblestore.Store
	servers []*logServer
	signing sync.Mutex // held while the signer works
	signs   bool       // signing guards it
}

// logServer is one log server. What change returns is what it answers instead.
type logServer struct {
	addr   string
	server *grpc.Server

	mu     sync.Mutex
	change func(ctx context.Context, method string, request, reply any, err error) (any, error)
	before func(ctx context.Context) error // what fails a call before it is carried out
}

func startCluster(t testing.TB, servers int) *cluster {
	t.Helper()
	return clusterOn(t, openDB(t, vfs.NewMem(), ""), servers)
}

func clusterOn(t testing.TB, db *pebble.DB, servers int) *cluster {
	t.Helper()
	log.InitMetrics(monitoring.InertMetricFactory{})
	store, err := pebblestore.Open(db)
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{store: store}
	for range servers {
		c.servers = append(c.servers, c.startServer(t, "127.0.0.1:0"))
	}
	c.sign(true)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		c.signer(stop)
	}()
	t.Cleanup(func() { close(stop); <-stopped })
	return c
}

func (c *cluster) startServer(t testing.TB, addr string, options ...grpc.ServerOption) *logServer {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	registry := extension.Registry{
		AdminStorage: c.store.Admin(), LogStorage: c.store.Log(),
		QuotaManager: quota.Noop(), MetricFactory: monitoring.InertMetricFactory{},
	}
	s := &logServer{addr: l.Addr().String()}
	s.server = grpc.NewServer(append(options, grpc.ChainUnaryInterceptor(s.intercept, interceptor.ErrorWrapper))...)
	trillian.RegisterTrillianLogServer(s.server, server.NewTrillianLogRPCServer(registry, clock.System))
	trillian.RegisterTrillianAdminServer(s.server, admin.New(registry, nil))
	ended := make(chan error, 1)
	go func() { ended <- s.server.Serve(l) }()
	t.Cleanup(func() {
		s.server.Stop()
		if err := <-ended; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Error(err)
		}
	})
	return s
}

// answer has the server answer as f says from now on; nil, as it should.
func (s *logServer) answer(f func(ctx context.Context, method string, request, reply any, err error) (any, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.change = f
}

func (s *logServer) intercept(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	s.mu.Lock()
	change, before := s.change, s.before
	s.mu.Unlock()
	if before != nil {
		return nil, before(ctx)
	}
	reply, err := handler(ctx, req)
	if change == nil {
		return reply, err
	}
	return change(ctx, info.FullMethod, req, reply, err)
}

func (c *cluster) addresses() []string {
	var all []string
	for _, s := range c.servers {
		all = append(all, s.addr)
	}
	return all
}

// sign starts the signer, or stops it: on return it has done its last.
func (c *cluster) sign(does bool) {
	c.signing.Lock()
	c.signs = does
	c.signing.Unlock()
}

// signer does what Trillian's signer does, until stop.
func (c *cluster) signer(stop chan struct{}) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		c.signing.Lock()
		if c.signs {
			c.integrate()
		}
		c.signing.Unlock()
	}
}

// integrate integrates what has been stored. What fails now is tried again in a moment; the test
// sees what comes of it.
func (c *cluster) integrate() {
	ctx := context.Background()
	ids, _ := c.store.Log().GetActiveLogIDs(ctx)
	for _, id := range ids {
		tree, err := storage.GetTree(ctx, c.store.Admin(), id)
		if err == nil {
			_, _ = log.IntegrateBatch(ctx, tree, 1000, 0, 0, clock.System, c.store.Log(), quota.Noop())
		}
	}
}

// proxy is a way to a server that can be slow, or be cut.
type proxy struct {
	addr  string
	to    string
	delay atomic.Int64 // of each piece that the server sends, nanoseconds
	left  atomic.Int64 // bytes of the server's that pass before all connections are cut; negative: any number

	mu    sync.Mutex
	conns map[net.Conn]bool
	down  bool
	wg    sync.WaitGroup
}

func startProxy(t testing.TB, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: l.Addr().String(), to: to, conns: map[net.Conn]bool{}}
	p.left.Store(-1)
	p.wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			p.serve(client)
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.cut(true)
		p.wg.Wait()
	})
	return p
}

// cut ends all connections, and takes no more if down.
func (p *proxy) cut(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = down
	for c := range p.conns {
		c.Close()
	}
	clear(p.conns)
}

func (p *proxy) serve(client net.Conn) {
	server, err := net.DialTimeout("tcp", p.to, time.Second)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil || p.down {
		client.Close()
		if server != nil {
			server.Close()
		}
		return
	}
	p.conns[client], p.conns[server] = true, true
	p.wg.Go(func() { io.Copy(server, client); client.Close(); server.Close() })
	p.wg.Go(func() { p.back(client, server); client.Close(); server.Close() })
}

// back passes on what the server sends.
func (p *proxy) back(client, server net.Conn) {
	buf := make([]byte, 4096)
	for {
		n, err := server.Read(buf)
		if err != nil {
			return
		}
		if d := p.delay.Load(); d > 0 {
			<-time.After(time.Duration(d))
		}
		if left := p.left.Load(); left >= 0 {
			if int64(n) > left {
				client.Write(buf[:left])
				p.left.Store(-1)
				p.cut(false)
				return
			}
			p.left.Add(-int64(n))
		}
		if _, err := client.Write(buf[:n]); err != nil {
			return
		}
	}
}
