package main

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// proxy is what the servers reach their database through. It can lose what the database
// answers, delay it, and cut connections.
type proxy struct {
	listener net.Listener
	target   string
	deaf     atomic.Bool  // what the database answers is lost
	delay    atomic.Int64 // nanoseconds, of each piece of an answer

	mu    sync.Mutex
	conns map[net.Conn]bool
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, target: target, conns: map[net.Conn]bool{}}
	t.Cleanup(func() {
		_ = l.Close()
		p.cut()
	})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	return p
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

func (p *proxy) serve(client net.Conn) {
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		_ = client.Close()
		return
	}
	p.mu.Lock()
	p.conns[client], p.conns[server] = true, true
	p.mu.Unlock()
	go func() {
		_, _ = io.Copy(server, client)
		_ = server.Close()
	}()
	buf := make([]byte, 32<<10)
	for {
		n, err := server.Read(buf)
		if d := p.delay.Load(); d > 0 {
			<-time.After(time.Duration(d))
		}
		if !p.deaf.Load() {
			_, _ = client.Write(buf[:n])
		}
		if err != nil {
			break
		}
	}
	_ = client.Close()
	p.mu.Lock()
	delete(p.conns, client)
	delete(p.conns, server)
	p.mu.Unlock()
}

// cut ends all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}

// loseAnswers has the database do what it is told, and nobody hear of it: commits among it.
func (p *proxy) loseAnswers() {
	p.deaf.Store(true)
	<-time.After(30 * time.Millisecond)
	p.cut()
	p.deaf.Store(false)
}
