package httpapi

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestConnectionLimit: at the limit a new connection takes the place of the one that
// has waited longest, and never of one with a request under way; then it waits.
func TestConnectionLimit(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m, err := newMetrics(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	l := limitListener(inner, 3, m)
	h := &harness{t: t, addr: inner.Addr().String()}
	accept := func() (client, served net.Conn) {
		client = h.dial()
		served, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		return client, served
	}
	a, aServed := accept()
	b, bServed := accept()
	c, cServed := accept()
	connState(bServed, http.StateActive)
	connState(aServed, http.StateActive)
	connState(aServed, http.StateIdle) // a has waited less than c now
	d, dServed := accept()
	mustBeCut(t, c)
	e, eServed := accept()
	mustBeCut(t, a)
	connState(dServed, http.StateActive)
	connState(eServed, http.StateActive)
	f := h.dial()
	accepted := make(chan net.Conn)
	go func() {
		for range 2 {
			served, _ := l.Accept()
			accepted <- served
		}
	}()
	select {
	case <-accepted:
		t.Fatal("accepted in the place of a request under way")
	case <-time.After(20 * time.Millisecond):
	}
	for _, served := range []net.Conn{bServed, bServed, aServed, cServed} { // gives back one place, not four
		served.Close()
	}
	if served := <-accepted; served == nil || served.RemoteAddr().String() != f.LocalAddr().String() {
		t.Error("not accepted when there was room")
	}
	if open, shed := testutil.ToFloat64(m.open), testutil.ToFloat64(m.shed); open != 3 || shed != 2 {
		t.Errorf("%v connections count as open, %v as shed, want 3 and 2", open, shed)
	}
	mustBeCut(t, b)
	for _, conn := range []net.Conn{d, e} {
		mustBeOpen(t, conn)
	}
	l.Close()
	if <-accepted != nil {
		t.Error("accepted after Close")
	}
}

// mustBeCut: the server has closed the connection, or has reset it.
func mustBeCut(t testing.TB, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection is still open: %d bytes, %v", n, err)
	}
}

// mustBeOpen: nothing has come from the server, and the connection is there.
func mustBeOpen(t testing.TB, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
	if n, err := c.Read(make([]byte, 1)); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection isn't open and silent: %d bytes, %v", n, err)
	}
	_ = c.SetReadDeadline(time.Time{})
}

// TestFullHouse: a server whose connections are all taken by clients that ask for
// nothing goes on serving others, and cuts off no request that is under way.
func TestFullHouse(t *testing.T) {
	for _, name := range []string{"http", "https"} {
		t.Run(name, func(t *testing.T) {
			h := withFake(t, func(c *Config) {
				c.MaxConnections = 40
				c.HeaderTimeout, c.BodyTimeout, c.IdleTimeout = time.Hour, time.Hour, time.Hour
				if name == "https" {
					c.TLSCert, c.TLSKey = certificate(t)
				}
			})
			one := sample("slow", "x")
			slow := h.dialAs(name)
			fmt.Fprint(slow, submitHeader(jsonType, fmt.Sprint("Content-Length: ", len(one)))+one[:20])
			h.crowd(name, 100)
			answer(t, slow, one[20:], 201)
			h.crowd(name, 100)
			// While each has a request under way, the next one waits for the first to end.
			var busy []net.Conn
			for i := range 40 {
				c := h.dialAs(name)
				one := sample(fmt.Sprint("busy", i), "x")
				fmt.Fprint(c, submitHeader(jsonType, fmt.Sprint("Content-Length: ", len(one)))+one[:20])
				busy = append(busy, c)
			}
			h.waitFlight(40)
			waiting := h.dial() // in the kernel's backlog, or held by Accept
			mustBeOpen(t, waiting)
			for i, c := range busy {
				answer(t, c, sample(fmt.Sprint("busy", i), "x")[20:], 201)
			}
			h.crowd(name, 1)
			if n := h.fake.size(); n != 41+201 {
				t.Errorf("%d events were admitted, want %d", n, 41+201)
			}
		})
	}
}

// TestNobodysBody: who has shown no credential is answered without waiting for the
// body, and has no connection any more then.
func TestNobodysBody(t *testing.T) {
	h := withFake(t, func(c *Config) { c.BodyTimeout = time.Hour })
	for request, status := range map[string]int{
		"POST /v1/events": 401, "POST /v1/tokens": 401, "POST /nowhere": 404, "PUT /v1/events": 405, "GET /logs/audit/checkpoint": 200, "GET /healthz": 200,
	} {
		c := h.dial()
		answer(t, c, request+" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{", status)
		mustBeCut(t, c)
	}
	c := h.dial()
	for range 2 { // without a body there is nothing to wait for
		answer(t, c, "GET /v1/tokens HTTP/1.1\r\nHost: x\r\n\r\n", 401)
	}
}

// dialAs opens a connection; over https its handshake is done.
func (h *harness) dialAs(name string) net.Conn {
	h.t.Helper()
	c := h.dial()
	if name == "https" {
		c := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
		if err := c.Handshake(); err != nil {
			h.t.Fatal(err)
		}
		return c
	}
	return c
}

// waitFlight waits until so many requests are being served.
func (h *harness) waitFlight(n int) {
	h.t.Helper()
	for end := time.Now().Add(20 * time.Second); h.inFlight() != n; <-time.After(time.Millisecond) {
		if time.Now().After(end) {
			h.t.Fatalf("%d requests are being served, want %d", h.inFlight(), n)
		}
	}
}

func (h *harness) inFlight() int { return int(testutil.ToFloat64(h.server.api.metrics.inFlight)) }

// crowd opens connections one after the other, each of which stays open: some are
// silent, some stop within their header, some have made a request and keep the connection.
func (h *harness) crowd(name string, n int) {
	h.t.Helper()
	for i := range n {
		switch i % 4 {
		case 1:
			h.dial()
		case 2:
			fmt.Fprint(h.dialAs(name), "GET /healthz HTTP/1.1\r\nHost:")
		case 3:
			c := h.dialAs(name)
			answer(h.t, c, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 200)
			fmt.Fprint(c, "GET /hea")
		}
		one := sample(fmt.Sprint("crowd", time.Now().UnixNano()), "x")
		answer(h.t, h.dialAs(name), submitHeader(jsonType, fmt.Sprint("Content-Length: ", len(one)))+one, 201)
	}
}

// answer sends text and expects an answer with a status.
func answer(t testing.TB, c net.Conn, text string, status int) {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status {
		t.Fatalf("status %d, want %d: %.300s, %v", resp.StatusCode, status, body, err)
	}
	_ = c.SetDeadline(time.Time{})
}
