package syslog

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

type stepReader struct {
	s    string
	step int
}

func (r *stepReader) Read(p []byte) (int, error) {
	n := copy(p[:min(len(p), r.step)], r.s)
	if r.s = r.s[n:]; n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// heard is what a listener has heard.
type heard struct {
	mu      sync.Mutex
	packets []Packet
	more    chan struct{}
}

func (h *heard) handle(p Packet) {
	p.Raw = bytes.Clone(p.Raw)
	h.mu.Lock()
	h.packets = append(h.packets, p)
	h.mu.Unlock()
	select {
	case h.more <- struct{}{}:
	default:
	}
}

func (h *heard) all() []Packet {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]Packet(nil), h.packets...)
}

// wait waits for so many packets.
func (h *heard) wait(t *testing.T, n int) []Packet {
	t.Helper()
	for {
		if all := h.all(); len(all) >= n {
			return all
		}
		select {
		case <-h.more:
		case <-time.After(20 * time.Second):
			t.Fatalf("heard %d of %d", len(h.all()), n)
		}
	}
}

// listen listens until the test ends.
func listen(t *testing.T, spec string, change func(*Config)) (*Listener, *heard) {
	t.Helper()
	h := &heard{more: make(chan struct{}, 1)}
	cfg := Config{Handle: h.handle}
	if change != nil {
		change(&cfg)
	}
	l, err := Listen(spec, cfg)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- l.Serve() }()
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l, h
}

func dial(t *testing.T, network, address string) net.Conn {
	t.Helper()
	c, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func send(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

func TestUnixgram(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	for _, kind := range []Kind{Credentials, Relay} {
		spec := map[Kind]string{Credentials: "unix:", Relay: "relay:"}[kind] + path
		t.Run(string(kind), func(t *testing.T) {
			l, h := listen(t, spec, nil)
			c := dial(t, "unixgram", path)
			send(t, c, "<78>one")
			send(t, c, strings.Repeat("x", MaxLine+1))
			send(t, c, strings.Repeat("x", MaxLine))
			p := h.wait(t, 3)
			if string(p[0].Raw) != "<78>one" || p[0].Cut || len(p[1].Raw) != MaxLine || !p[1].Cut || len(p[2].Raw) != MaxLine || p[2].Cut || l.Counts().Cut != 1 {
				t.Errorf("%d, %d, %d bytes; %+v", len(p[0].Raw), len(p[1].Raw), len(p[2].Raw), l.Counts())
			}
			want := Sender{Kind: kind}
			if kind == Credentials {
				want.PID, want.UID = os.Getpid(), os.Getuid()
			}
			if p[0].Sender != want {
				t.Errorf("%+v, want %+v", p[0].Sender, want)
			}
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o666 {
				t.Errorf("%v, %v", info, err)
			}
			if _, err := Listen(spec, Config{}); err == nil || !strings.Contains(err.Error(), "another program listens there") {
				t.Errorf("twice: %v", err)
			}
		})
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is left: %v", err)
	}
}

// TestStaleSocket: a socket that a kill has left is no obstacle; anything else in its place is.
func TestStaleSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	f, err := c.File() // closing the last descriptor doesn't remove the path
	if err != nil {
		t.Fatal(err)
	}
	hold := filepath.Join(t.TempDir(), "held")
	if err := os.Rename(path, hold); err != nil {
		t.Fatal(err)
	}
	c.Close()
	f.Close()
	if err := os.Rename(hold, path); err != nil {
		t.Fatal(err)
	}
	listen(t, "unix:"+path, nil)
	for name, make := range map[string]func(string) error{
		"symbolic link": func(p string) error { return os.Symlink(path, p) },
		"not a socket":  func(p string) error { return os.WriteFile(p, nil, 0o600) },
	} {
		other := filepath.Join(t.TempDir(), "log")
		if err := make(other); err != nil {
			t.Fatal(err)
		}
		if _, err := Listen("unix:"+other, Config{}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBadSpecs(t *testing.T) {
	for _, spec := range []string{"", "x", "unix:", "tcp:", "udp:nonsense", "tcp:127.0.0.1", "ftp:127.0.0.1:1", "tls:127.0.0.1:0", "systemd:", "unix:/nowhere/at/all"} {
		if l, err := Listen(spec, Config{}); err == nil {
			l.Close()
			t.Errorf("%q is taken", spec)
		}
	}
	for _, spec := range []string{"", "tcp:127.0.0.1:1", "unix:", "udp:x"} {
		if _, err := NewForwarder(spec); err == nil {
			t.Errorf("forward to %q is taken", spec)
		}
	}
}

func TestUDP(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::]:0"} {
		l, h := listen(t, "udp:"+address, nil)
		_, port, _ := net.SplitHostPort(l.Addr())
		c := dial(t, "udp", "127.0.0.1:"+port)
		send(t, c, "<78>one")
		p := h.wait(t, 1)[0]
		if string(p.Raw) != "<78>one" || p.Sender.Kind != Network || p.Sender.Peer.String() != c.LocalAddr().String() {
			t.Errorf("%s: %q %+v", address, p.Raw, p.Sender)
		}
	}
}

// TestUDPDropsAreCounted: what the kernel has no room for while nobody reads.
func TestUDPDropsAreCounted(t *testing.T) {
	block := make(chan struct{})
	var first sync.Once
	reading := make(chan struct{})
	l, _ := listen(t, "udp:127.0.0.1:0", func(c *Config) {
		c.Handle = func(Packet) {
			first.Do(func() { close(reading) })
			<-block
		}
	})
	c := dial(t, "udp", l.Addr())
	send(t, c, "first")
	<-reading
	const sent = 40_000
	for range sent {
		send(t, c, strings.Repeat("x", 1000))
	}
	drops := l.Counts().KernelDrops
	if drops == 0 {
		t.Error("no drops are counted")
	}
	close(block)
	for began := time.Now(); l.Counts().Lines+l.Counts().KernelDrops < sent+1; <-time.After(10 * time.Millisecond) {
		if time.Since(began) > 20*time.Second {
			t.Fatalf("of %d lines %+v are accounted for", sent+1, l.Counts())
		}
	}
	if got := l.Counts(); got.Lines+got.KernelDrops != sent+1 {
		t.Errorf("of %d lines %+v", sent+1, got)
	}
	t.Logf("%d of %d were dropped", drops, sent)
}

func TestTCP(t *testing.T) {
	l, h := listen(t, "tcp:127.0.0.1:0", nil)
	c := dial(t, "tcp", l.Addr())
	send(t, c, "<78>one\n8 <78>\ntwo")
	p := h.wait(t, 2)
	if string(p[0].Raw) != "<78>one" || string(p[1].Raw) != "<78>\ntwo" || p[0].Sender.Peer.String() != c.LocalAddr().String() {
		t.Errorf("%q %q %+v", p[0].Raw, p[1].Raw, p[0].Sender)
	}
	bad := dial(t, "tcp", l.Addr())
	send(t, bad, "77x")
	closed(t, bad)
	if got := l.Counts(); got.BadStreams != 1 || got.Lines != 2 {
		t.Errorf("%+v", got)
	}
}

// closed waits until the other side closes the connection.
func closed(t *testing.T, c net.Conn) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil || os.IsTimeout(err) {
		t.Fatalf("it isn't closed: %d, %v", n, err)
	}
}

// TestConnectionsAreBounded: by number, by address, by time without a line, and by time within one.
func TestConnectionsAreBounded(t *testing.T) {
	l, h := listen(t, "tcp:127.0.0.1:0", func(c *Config) {
		c.Conns, c.PeerConns, c.Idle, c.Partial = 3, 2, time.Hour, time.Hour
	})
	a, b := dial(t, "tcp", l.Addr()), dial(t, "tcp", l.Addr())
	send(t, a, "a\n")
	send(t, b, "b\n")
	h.wait(t, 2)
	closed(t, dial(t, "tcp", l.Addr()))
	if got := l.Counts(); got.Refused != 1 || got.Connections != 2 {
		t.Errorf("%+v", got)
	}
	a.Close()
	for l.Counts().Connections == 2 {
		<-time.After(time.Millisecond)
	}
	c := dial(t, "tcp", l.Addr())
	send(t, c, "c\n")
	h.wait(t, 3)

	l, _ = listen(t, "tcp:127.0.0.1:0", func(c *Config) { c.Idle = 50 * time.Millisecond })
	closed(t, dial(t, "tcp", l.Addr()))
	l, _ = listen(t, "tcp:127.0.0.1:0", func(c *Config) { c.Partial = 50 * time.Millisecond })
	slow := dial(t, "tcp", l.Addr())
	send(t, slow, "no end of it")
	closed(t, slow)
}

func TestBudget(t *testing.T) {
	from := func(name string) Sender { return Sender{Kind: TLS, Name: name} }
	b := NewBudget(1, 3)
	for i := range 5 {
		if ok := b.Allow(from("a")); ok != (i < 3) {
			t.Errorf("%d: %v", i, ok)
		}
	}
	taken := 0
	for i := range 3 * maxSenders {
		if b.Allow(from(fmt.Sprint(i))) {
			taken++
		}
	}
	if taken < 27 || taken > 40 || len(b.others.now)+len(b.others.old) > 2*maxSenders {
		t.Errorf("%d lines of made-up senders were taken, %d are remembered", taken, len(b.others.now)+len(b.others.old))
	}
	if !b.Allow(Sender{Kind: Credentials, UID: 1000}) {
		t.Error("what others send is taken from a user of this machine")
	}
	for none, i := NewBudget(0, 1), 0; i < 2; i++ {
		if !none.Allow(from("a")) {
			t.Error("0 is a bound")
		}
	}
}

// TestNetwork: of IPv6 whoever has one address has 2^64.
func TestNetwork(t *testing.T) {
	for address, want := range map[string]string{"192.0.2.7": "192.0.2.7/32", "::ffff:192.0.2.7": "192.0.2.7/32", "2001:db8::1:2": "2001:db8::/64", "fe80::1%eth0": "fe80::/64"} {
		if got := network(netip.MustParseAddr(address)).String(); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}

// TestForward: lines go on as they came, also when the other side was away; nobody waits for it.
func TestForward(t *testing.T) {
	path := filepath.Join(t.TempDir(), "other")
	f, err := NewForwarder("unix:" + path)
	if err != nil {
		t.Fatal(err)
	}
	f.Send([]byte("<78>nobody there"))
	for {
		if _, lost, _ := f.Counts(); lost == 1 {
			break
		}
		<-time.After(time.Millisecond)
	}
	_, h := listen(t, "unix:"+path, nil)
	line := "<78>Nov 27 10:19:38 CRON[123]: \xff\x00 as it came"
	for began := time.Now(); len(h.all()) == 0 && time.Since(began) < 20*time.Second; <-time.After(50 * time.Millisecond) {
		f.Send([]byte(line))
	}
	if got := h.wait(t, 1); string(got[0].Raw) != line {
		t.Errorf("%q", got[0].Raw)
	}
	f.Close()

	// The other side doesn't read. Were each line waited for, in Send or in Close, this would take hours.
	stuck, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path + "2", Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer stuck.Close()
	if f, err = NewForwarder("unix:" + path + "2"); err != nil {
		t.Fatal(err)
	}
	const lines = 20_000
	for range lines {
		f.Send(make([]byte, 1000))
	}
	if _, lost, _ := f.Counts(); lost < 10_000 {
		t.Errorf("%d are lost", lost)
	}
	f.Close()
	if sent, lost, _ := f.Counts(); sent+lost != lines {
		t.Errorf("of %d lines %d were sent, %d lost", lines, sent, lost)
	}
}
