package monitor_test

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/internal/logtest"
)

// churnEnv is for how long TestChurn goes on, as in 10m.
const churnEnv = "PROOFTRAIL_CHURN"

// cable is a TCP proxy with an address that stays, to a server that moves, over a network that fails.
type cable struct {
	listener net.Listener

	mu     sync.Mutex
	target string
	cut    bool
	delay  time.Duration
	conns  map[net.Conn]bool
}

func newCable(t *testing.T) *cable {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cable{listener: l, conns: map[net.Conn]bool{}}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { c.carry(conn) })
		}
	})
	t.Cleanup(func() { l.Close(); c.reset(); c.set(true, 0); wg.Wait() })
	return c
}

func (c *cable) url() string { return "http://" + c.listener.Addr().String() }

// plug makes a server, host:port, the one that answers.
func (c *cable) plug(target string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.target = target
}

func (c *cable) set(cut bool, delay time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut, c.delay = cut, delay
}

// reset breaks what is under way.
func (c *cable) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.conns {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // it is sent as a reset
		}
		_ = conn.Close()
	}
}

// hold keeps a connection, unless the cable is cut.
func (c *cable) hold(conn net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.cut {
		c.conns[conn] = true
	}
	return !c.cut
}

func (c *cable) drop(conn net.Conn) {
	_ = conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.conns, conn)
}

func (c *cable) carry(in net.Conn) {
	defer c.drop(in)
	if !c.hold(in) {
		return
	}
	c.mu.Lock()
	target := c.target
	c.mu.Unlock()
	out, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer c.drop(out)
	if !c.hold(out) {
		return
	}
	var wg sync.WaitGroup
	for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
		wg.Go(func() {
			defer way[0].Close()
			defer way[1].Close()
			c.copy(way[1], way[0])
		})
	}
	wg.Wait()
}

// copy carries bytes, late ones sometimes.
func (c *cable) copy(to io.Writer, from io.Reader) {
	b := make([]byte, 4<<10)
	for {
		n, err := from.Read(b)
		c.mu.Lock()
		delay := c.delay
		c.mu.Unlock()
		if delay > 0 {
			<-time.After(delay)
		}
		if _, writeErr := to.Write(b[:n]); err != nil || writeErr != nil {
			return
		}
	}
}

// churned is a monitor in a process that is killed and starts again.
type churned struct {
	dir  string
	net  []*cable // of what it calls: the log, its peer
	line *cable   // on which it is called
	p    *process
}

func (c *churned) start(t *testing.T) {
	t.Helper()
	c.p = startProcess(t, c.dir)
	c.line.plug(strings.TrimPrefix(c.p.client.URL(), "http://"))
}

func (c *churned) kill() {
	_ = c.p.Process.Kill()
	_ = c.p.Wait()
}

// setClock sets a monitor's clock off the true one.
func (c *churned) setClock(t *testing.T, off time.Duration) {
	t.Helper()
	tmp := filepath.Join(c.dir, "clock.tmp")
	if err := os.WriteFile(tmp, []byte(strconv.FormatInt(int64(off), 10)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, filepath.Join(c.dir, "clock.txt")); err != nil {
		t.Fatal(err)
	}
}

// TestChurn: a log that is honest, restarts and grows; a network that is cut, late, and breaks connections; clocks that
// are set; three monitors in a ring, killed with SIGKILL. Nobody is accused, and in the end all have read the same.
func TestChurn(t *testing.T) {
	duration := 6 * time.Second
	if s := os.Getenv(churnEnv); s != "" {
		var err error
		if duration, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	key := logtest.NewKey(t, testOrigin)
	h := logtest.New(t, key, "a", 100)
	server := httptest.NewServer(h)
	t.Cleanup(func() { server.Close() })
	ring := make([]*churned, 3)
	for i := range ring {
		ring[i] = &churned{dir: t.TempDir(), line: newCable(t)}
	}
	var all []*cable
	for i, c := range ring {
		toLog, toPeer := newCable(t), newCable(t)
		toLog.plug(server.Listener.Addr().String())
		toPeer.plug(ring[(i+1)%3].line.listener.Addr().String())
		c.net = []*cable{toLog, toPeer}
		all = append(all, toLog, toPeer)
		prepareProcess(t, c.dir, key, toLog.url())
		for _, err := range []error{
			os.Mkdir(filepath.Join(c.dir, "mirror"), 0o700), os.WriteFile(filepath.Join(c.dir, "peer.txt"), []byte(toPeer.url()), 0o600),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		c.start(t)
	}
	kills, restarts, events := 0, 0, 0
	over := time.After(duration)
	for done := false; !done; events++ {
		select {
		case <-over:
			done = true
		case <-time.After(time.Duration(rand.IntN(100)) * time.Millisecond):
		}
		h.Grow(rand.IntN(40))
		c := ring[rand.IntN(3)]
		cable := all[rand.IntN(len(all))]
		switch rand.IntN(12) {
		case 0:
			c.kill()
			c.start(t)
			kills++
		case 1: // the log starts again, somewhere else
			server.CloseClientConnections()
			server.Close()
			server = httptest.NewServer(h)
			for _, c := range ring {
				c.net[0].plug(server.Listener.Addr().String())
			}
			restarts++
		case 2, 3:
			cable.set(true, 0)
			cable.reset()
		case 4, 5:
			cable.set(false, time.Duration(rand.IntN(50))*time.Millisecond)
		case 6:
			cable.reset()
		case 7:
			c.setClock(t, time.Duration(rand.Int64N(int64(48*time.Hour)))-24*time.Hour)
		default:
			cable.set(false, 0)
		}
	}
	for _, cable := range all {
		cable.set(false, 0)
	}
	head := h.Head(h.Size())
	t.Logf("%d events, %d kills, %d restarts of the log, size %d", events, kills, restarts, head.Size)
	for i, c := range ring {
		c.setClock(t, 0)
		wait(t, "monitor "+strconv.Itoa(i)+" has read all", func() bool { return c.checked(t, key) == head })
	}
	for i, c := range ring {
		c.kill()
		c.innocent(t, i)
	}
}

// checked asks a monitor what it has checked.
func (c *churned) checked(t testing.TB, key *logtest.Key) verifier.Checkpoint {
	t.Helper()
	heads, err := c.p.client.Heads(context.Background(), key.Origin)
	if err != nil || heads.Checked == "" {
		return verifier.Checkpoint{}
	}
	cp, _, err := key.Policy(t).Verify([]byte(heads.Checked))
	if err != nil {
		t.Error(err)
	}
	return cp
}

// innocent says that a monitor has accused nobody, as long as it lived.
func (c *churned) innocent(t *testing.T, i int) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(c.dir, "evidence", "*"))
	if err != nil || len(files) > 0 {
		t.Errorf("monitor %d: evidence %q, %v", i, files, err)
	}
	b, err := os.ReadFile(filepath.Join(c.dir, "alarms.txt"))
	if err != nil && !os.IsNotExist(err) {
		t.Error(err)
	}
	rung := strings.Fields(string(b))
	slices.Sort(rung)
	rung = slices.Compact(rung)
	for _, accusing := range []string{"fork", "unproven-head", "bad-entries", "refused-head", "signed-nonsense", "too-many-heads", "cannot-store"} {
		if slices.Contains(rung, accusing) {
			t.Errorf("monitor %d: alarm %s", i, accusing)
		}
	}
	t.Logf("monitor %d: alarms %v", i, rung)
}
