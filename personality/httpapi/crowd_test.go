package httpapi

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// How many of each kind TestCrowd has. The idle ones are half silent from the start,
// half between two requests.
const (
	crowdIdle    = 2000
	crowdHeaders = 100 // in the middle of a header
	crowdBodies  = 100 // in the middle of a body
	crowdStalled = 20  // of each kind: in the middle of an answer that they don't read
	crowdGone    = 60  // of each kind: lost in the middle of a body, or waiting for the answer
	crowdRounds  = 15  // of each of the four clients that are served
)

// TestCrowd: while clients hold 2,000 connections open for nothing, others stop in
// the middle of a header, of a body, or of reading an answer, until the sockets'
// buffers are full, and others again disappear, submitters get receipts and readers
// answers as ever. No timeout comes to the server's help. When the crowd has
// gone, all that it held is free again, and of what it sent by half nothing is in the log.
func TestCrowd(t *testing.T) {
	needFiles(t, 2*(crowdIdle+crowdHeaders+crowdBodies+4*crowdStalled+3*crowdGone)+500)
	h := withReal(t, func(c *Config) {
		c.HeaderTimeout, c.BodyTimeout, c.IdleTimeout, c.WriteTimeout = time.Hour, time.Hour, time.Hour, time.Hour
	})
	h.client.Timeout = time.Minute // for a machine that has other things to do
	large := 40
	h.post("submit", "/v1/events", ndjsonType, largeEvents(large), 200) // 8 MB, more than sockets hold
	h.serveOthers("warm", 1)
	h.client.CloseIdleConnections()
	goroutines, files := runtime.NumGoroutine(), openFiles(t)

	idle := h.idleOnes()
	held := append(h.halfHeaders(), h.halfBodies()...)
	stalled := h.stalledReaders(large)
	h.waitStalled(stalled)
	if h.server.api.bodyMemory.Load() == 0 {
		t.Error("the halves of bodies aren't counted")
	}
	var gone sync.WaitGroup
	gone.Go(h.goneOnes)
	slowest := h.serveOthers("crowd", crowdRounds)
	gone.Wait()
	h.waitStalled(stalled) // nobody has moved
	for _, c := range idle {
		if n, open := unread(t, c); n > 0 || !open {
			t.Fatal("an idle connection was closed")
		}
	}
	for _, c := range slices.Concat(idle, held, stalled) {
		c.Close()
	}
	h.waitFlight(0)
	h.client.CloseIdleConnections()
	h.waitFor("what the crowd held isn't free", func() string {
		memory, open := h.server.api.bodyMemory.Load(), testutil.ToFloat64(h.server.api.metrics.open)
		if memory == 0 && open == 0 && runtime.NumGoroutine() <= goroutines+10 && openFiles(t) <= files+20 {
			return ""
		}
		return fmt.Sprintf("%d bytes, %v connections, %d goroutines of %d before, %d files of %d", memory, open, runtime.NumGoroutine(), goroutines, openFiles(t), files)
	})
	h.checkCrowdLog(large)
	t.Logf("the slowest answer took %v", slowest)
}

// waitFor waits until there is no complaint any more.
func (h *harness) waitFor(what string, complaint func() string) {
	h.t.Helper()
	for end := time.Now().Add(time.Minute); complaint() != ""; <-time.After(5 * time.Millisecond) {
		if time.Now().After(end) {
			h.t.Fatalf("%s: %s", what, complaint())
		}
	}
}

// needFiles sees to it that the process may open n files.
func needFiles(t *testing.T, n uint64) {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Cur >= n {
		return
	}
	before := limit
	limit.Cur, limit.Max = n, max(limit.Max, n)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatalf("this test opens %d files; the limit is %d and can't be raised (ulimit -n): %v", n, before.Cur, err)
	}
	t.Cleanup(func() { _ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before) })
}

func openFiles(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

func largeEvents(n int) string {
	var lines []string
	for i := range n {
		lines = append(lines, sample(fmt.Sprint("large", i), strings.Repeat("x", 4000)))
	}
	return strings.Join(lines, "\n")
}

func (h *harness) idleOnes() (conns []net.Conn) {
	for i := range crowdIdle {
		c := h.dial()
		if i%2 == 0 {
			answer(h.t, c, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 200)
		}
		conns = append(conns, c)
	}
	return conns
}

func (h *harness) halfHeaders() (conns []net.Conn) {
	for range crowdHeaders {
		c := h.dial()
		fmt.Fprint(c, "POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthori")
		conns = append(conns, c)
	}
	return conns
}

func (h *harness) halfBodies() (conns []net.Conn) {
	for i := range crowdBodies {
		c := h.dial()
		h.halfBody(c, i)
		conns = append(conns, c)
	}
	return conns
}

// halfBody sends a whole event, and more to come, on its own or in a batch or lines.
func (h *harness) halfBody(c net.Conn, i int) {
	one := sample(fmt.Sprint("half", i), "x")
	contentType, text := jsonType, `{"events":[`+one+","+strings.Repeat(" ", 50_000)
	if i%2 == 0 {
		contentType, text = ndjsonType, one // the line has no end yet
	}
	header := strings.Replace(submitHeader(contentType, "Content-Length: 1000000"), fakeSecret, h.secret("submit"), 1)
	_, _ = io.WriteString(c, header+text) // the server doesn't have to take it
}

// stalledReaders ask for much, by one request or by many, and read nothing of it.
func (h *harness) stalledReaders(size int) (conns []net.Conn) {
	openings := "GET /v1/logs/audit/openings?start=0&count=10000 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + h.secret("all") + "\r\n\r\n"
	bundle := fmt.Sprintf("GET /logs/audit/tile/entries/000.p/%d HTTP/1.1\r\nHost: x\r\n\r\n", size)
	for i := range 2 * crowdStalled {
		c := h.dial()
		request := openings
		if i%2 == 0 {
			request = bundle
		}
		go func() { _, _ = io.WriteString(c, strings.Repeat(request, 4000)) }() // until it is closed
		conns = append(conns, c)
	}
	return conns
}

// goneOnes disappear: in the middle of a body, in order or not, and waiting for the answer.
func (h *harness) goneOnes() {
	for i := range crowdGone {
		c := h.dial()
		h.halfBody(c, crowdBodies+i)
		c.Close()
		c = h.dial()
		h.halfBody(c, crowdBodies+crowdGone+i)
		_ = c.(*net.TCPConn).SetLinger(0) // a reset
		c.Close()
		c = h.dial()
		one := sample(fmt.Sprint("gone", i), "x")
		fmt.Fprint(c, strings.Replace(submitHeader(jsonType, fmt.Sprint("Content-Length: ", len(one))), fakeSecret, h.secret("submit"), 1)+one)
		c.Close()
	}
}

// serveOthers has four clients submit and read, and returns the longest time that
// an answer took.
func (h *harness) serveOthers(name string, rounds int) (slowest time.Duration) {
	var mu sync.Mutex
	var clients sync.WaitGroup
	timed := func(what func()) {
		began := time.Now()
		what()
		mu.Lock()
		defer mu.Unlock()
		slowest = max(slowest, time.Since(began))
	}
	for c := range 4 {
		clients.Go(func() {
			for i := range rounds {
				timed(func() {
					a, err := h.try(call{method: "POST", path: "/v1/events", token: "submit", body: sample(fmt.Sprintf("%s-%d-%d", name, c, i), "x")})
					if err != nil || a.status != 201 {
						h.t.Errorf("submit: %v, %+v", err, a)
						return
					}
					r := a.result(h.t)
					h.real.verify(h.t, r.Receipt, r.Index)
				})
				for _, path := range []string{"/logs/audit/checkpoint", "/logs/audit/tile/0/000.p/9", "/v1/logs/audit/proofs/inclusion?index=1&size=9",
					"/v1/logs/audit/entries/8", "/v1/events/large3?source=" + url.QueryEscape("cron://node1")} {
					timed(func() {
						if a, err := h.try(call{method: "GET", path: path, token: "read"}); err != nil || a.status != 200 {
							h.t.Errorf("%s: %v, %+v", path, err, a)
						}
					})
				}
			}
		})
	}
	clients.Wait()
	return slowest
}

// checkCrowdLog: the log verifies, and has what was answered, nothing of what was sent
// by half, and what was sent by clients that didn't wait once at most.
func (h *harness) checkCrowdLog(large int) {
	t := h.t.(*testing.T)
	for i := range crowdGone {
		a, err := h.try(call{method: "POST", path: "/v1/events", token: "submit", body: sample(fmt.Sprint("gone", i), "x")})
		if err != nil || a.status != 201 && a.status != 200 {
			t.Fatalf("gone%d sent again: %v, %+v", i, err, a)
		}
	}
	events, _ := (&race{t: t, h: h}).read()
	for id, entries := range events {
		if len(entries) != 1 || strings.HasPrefix(id, "half") {
			t.Errorf("%s is at %v", id, entries)
		}
	}
	if want := large + 4*(1+crowdRounds) + crowdGone; len(events) != want {
		t.Errorf("%d events are there, want %d", len(events), want)
	}
}

// waitStalled waits until the server can write no more to those who don't read, while
// the halves of bodies are being waited for. Where the last bytes of an answer are what
// doesn't fit, net/http writes them after the handler: such a request doesn't count, and
// it may be so for any number of the readers.
func (h *harness) waitStalled(readers []net.Conn) {
	h.t.Helper()
	h.waitFor("nobody is stalled", func() string {
		if n := h.inFlight(); n < crowdBodies || n > crowdBodies+len(readers) {
			return fmt.Sprint(n, " requests are being served")
		}
		for _, c := range readers {
			if n, open := unread(h.t, c); n < 16<<10 || !open {
				return fmt.Sprintf("%d bytes unread of an answer, open %v", n, open)
			}
		}
		return ""
	})
}

// unread is how much there is to read, up to 64 KiB, and whether the connection is open.
func unread(t testing.TB, c net.Conn) (n int, open bool) {
	t.Helper()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64<<10)
	err = raw.Control(func(fd uintptr) {
		var err error
		n, _, err = syscall.Recvfrom(int(fd), buf, syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		open = n > 0 || errors.Is(err, syscall.EAGAIN)
	})
	return max(n, 0), err == nil && open
}
