// Package limit bounds the connections of the programs' servers.
package limit

import (
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
)

// Listener bounds the connections that are open at once. At the bound the next
// one takes the place of the one that has waited longest: silent since it was
// opened, in the middle of its header, or idle between two requests. So nobody
// locks others out by holding connections open. One with a request under way is
// never cut off for another; while all are such, the next one waits here until one of
// them ends, and those behind it in the kernel's backlog. It is what the service has
// (personality/httpapi); a library can't import this one.
type Listener struct {
	net.Listener
	max   int
	shed  func()
	turn  atomic.Uint64 // counts what began to wait
	freed chan struct{} // one closed, or began to wait
	once  sync.Once
	done  chan struct{}

	mu   sync.Mutex
	open map[*conn]struct{}
}

// New bounds l to n connections. shed is called for each that is closed for another.
func New(l net.Listener, n int, shed func()) *Listener {
	return &Listener{Listener: l, max: n, shed: shed, freed: make(chan struct{}, 1), done: make(chan struct{}), open: map[*conn]struct{}{}}
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	inner, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: inner, listener: l}
	c.waits()
	for !l.admit(c) {
		select {
		case <-l.freed:
		case <-l.done:
			_ = inner.Close() // it was never served
			return nil, net.ErrClosed
		}
	}
	return c, nil
}

// admit makes room for c; false if every connection has a request under way.
func (l *Listener) admit(c *conn) bool {
	oldest, ok := l.place(c)
	if oldest != nil {
		_ = oldest.Conn.Close() // its reader, if there still is one, sees that
	}
	return ok
}

// place takes c in if there is room, in the place of oldest if need be.
func (l *Listener) place(c *conn) (oldest *conn, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.open) >= l.max {
		var least uint64
		for o := range l.open {
			if since := o.since.Load(); since != 0 && (oldest == nil || since < least) {
				oldest, least = o, since
			}
		}
		// One whose request has just come is under way: the next time.
		if oldest == nil || !oldest.since.CompareAndSwap(least, 0) {
			return nil, false
		}
		l.remove(oldest)
		l.shed()
	}
	l.open[c] = struct{}{}
	return oldest, true
}

// remove counts c no more. The caller holds mu.
func (l *Listener) remove(c *conn) {
	delete(l.open, c)
}

// signal lets Accept look again, if it waits.
func (l *Listener) signal() {
	select {
	case l.freed <- struct{}{}:
	default:
	}
}

// Close implements net.Listener.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.Listener.Close()
}

// conn is a connection that counts.
type conn struct {
	net.Conn
	listener *Listener
	since    atomic.Uint64 // its turn among those that wait; 0: it has a request under way
}

func (c *conn) waits() {
	c.since.Store(c.listener.turn.Add(1))
	c.listener.signal()
}

// Close implements net.Conn.
func (c *conn) Close() error {
	l := c.listener
	l.mu.Lock()
	l.remove(c)
	l.mu.Unlock()
	l.signal()
	return c.Conn.Close()
}

// CloseWrite lets net/http end a refused upload in order, so that the client
// reads the refusal and not a reset.
func (c *conn) CloseWrite() error {
	if cw, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return nil
}

// ConnState is net/http's hook: a connection is active from a request's header, read
// whole, to the end of its answer.
func ConnState(c net.Conn, state http.ConnState) {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	limited, ok := c.(*conn)
	if !ok {
		return
	}
	switch state {
	case http.StateActive:
		limited.since.Store(0)
	case http.StateIdle:
		limited.waits()
	}
}
