package main

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/deployment/porttest"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// loginLine is a line that makes one event, which has the number.
func loginLine(n int) string {
	return fmt.Sprintf("<86>%s sshd[77]: pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=203.0.113.9  user=n%d", time.Now().Format(time.Stamp), n)
}

// numbers are those of the lines whose events are in the log, and how often they are.
func numbers(all []event.Fields) map[int]int {
	found := map[int]int{}
	for _, e := range all {
		if n, err := strconv.Atoi(strings.TrimPrefix(e.Text("/actor/id"), "n")); err == nil {
			found[n]++
		}
	}
	return found
}

// once fails if one of them is in the log twice.
func once(t *testing.T, found map[int]int) {
	t.Helper()
	for n, times := range found {
		if times != 1 {
			t.Errorf("line %d is in the log %d times", n, times)
		}
	}
}

// maxPeak is how much memory the command may take under a flood, in MiB.
const maxPeak = 192

// peak is the most memory that the command has had, in MiB.
func (s *syslogTest) peak() int {
	s.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(b)
	if m == nil {
		s.t.Fatalf("no VmHWM in\n%s", b)
	}
	kib, err := strconv.Atoi(string(m[1]))
	if err != nil {
		s.t.Fatal(err)
	}
	return kib / 1024
}

// figures reads /metrics.
func (s *syslogTest) figures(address string) map[string]int {
	t := s.t
	t.Helper()
	r, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	found := map[string]int{}
	for in := bufio.NewScanner(r.Body); in.Scan(); {
		name, value, ok := strings.Cut(in.Text(), " ")
		if v, err := strconv.ParseFloat(value, 64); ok && err == nil {
			found[strings.NewReplacer("prooftrail_syslog_", "", "\"", "").Replace(name)] = int(v)
		}
	}
	return found
}

// settle waits until the figures are such.
func (s *syslogTest) settle(address, what string, ok func(map[string]int) bool) map[string]int {
	t := s.t
	t.Helper()
	for began := time.Now(); ; <-time.After(100 * time.Millisecond) {
		f := s.figures(address)
		if ok(f) {
			return f
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("%s: not after a minute: %v\n%s", what, f, s.said)
		}
	}
}

func dialed(t *testing.T, network, address string) net.Conn {
	t.Helper()
	c, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestSyslogFlood: far more than ten times what the spool takes comes on every socket, with malformed, huge and hostile lines between, while the log is
// down. Memory stays bounded, nobody who sends to the socket of this machine is kept waiting, and each line is accounted for:
// it is in the log, or the log says that it was dropped.
func TestSyslogFlood(t *testing.T) {
	t.Parallel()
	s := newSyslogTest(t)
	metrics, err := porttest.Address()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "log")
	s.begin("--listen", "unix:"+path, "--listen", "udp:127.0.0.1:0", "--listen", "tcp:127.0.0.1:0", "--no-crontabs", "--rate", "0",
		"--spool-events", "1000", "--metrics", metrics, "--report", "500ms", "--max-connections", "20", "--max-peer-connections", "20")
	udp, tcp := strings.TrimPrefix(s.sockets[1], "udp:"), strings.TrimPrefix(s.sockets[2], "tcp:")
	const each = 4000
	var wg sync.WaitGroup
	began := time.Now()
	for i, to := range [][2]string{{"unixgram", path}, {"udp", udp}, {"tcp", tcp}} {
		c := dialed(t, to[0], to[1])
		wg.Go(func() {
			for n := range each {
				if _, err := fmt.Fprintf(c, "%s\n", loginLine(i*each+n)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Go(func() { hostile(t, path, udp, tcp) })
	wg.Wait()
	took := time.Since(began)
	known := func(f map[string]int) bool {
		return f["lines_total{kind=matter}"]+f["lost_total{why=kernel}"] >= 3*each
	}
	f := s.settle(metrics, "all has arrived", known)
	peak := s.peak()
	t.Logf("%d lines in %s; %d MiB at most; %v", 3*each, took, peak, f)
	if peak > maxPeak {
		t.Errorf("it has taken %d MiB", peak)
	}
	server := s.start()
	s.settle(metrics, "the spool is empty", func(f map[string]int) bool { return f["waiting_events"] == 0 })
	r := s.audited()
	for began := time.Now(); r.Missing != r.Dropped && time.Since(began) < 20*time.Second; r = s.audited() {
		<-time.After(100 * time.Millisecond)
	}
	f = s.figures(metrics)
	found := numbers(s.logged())
	once(t, found)
	dropped, busy, kernel := f["lost_total{why=spool}"], f["lost_total{why=busy}"], f["lost_total{why=kernel}"]
	if len(found)+dropped+busy+kernel < 3*each || len(found) < 500 || dropped == 0 {
		t.Errorf("of %d lines %d are in the log, %d were dropped, %d came while the disk was busy, %d were the kernel's", 3*each, len(found), dropped, busy, kernel)
	}
	if int(r.Dropped) != dropped || r.Missing != r.Dropped || r.Repeated != 0 {
		t.Errorf("%d were dropped; the audit says %+v", dropped, r)
	}
	if f["lost_total{why=malformed}"] == 0 || f["lost_total{why=refused_connections}"] == 0 || f["lost_total{why=bad_streams}"] == 0 {
		t.Errorf("%v", f)
	}
	s.await("what was lost is in the log", wanted{"/action": "syslog.lost", "/details/malformed": `\d+`})
	s.end(syscall.SIGTERM)
	s.check(server, true)
}

// hostile sends what nobody should.
func hostile(t *testing.T, path, udp, tcp string) {
	junk := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rand.N(256))
		}
		return b
	}
	local, datagram := dialed(t, "unixgram", path), dialed(t, "udp", udp)
	for range 300 {
		_, _ = local.Write(append(junk(rand.N(2000)), "cron"...))
		_, _ = datagram.Write(append([]byte("<78>Nov 27 10:00:00 CRON[1]: ("), append(junk(rand.N(2000)), "pam_"...)...))
		_, _ = local.Write([]byte("<78>Nov 27 10:00:00 cron[1]: (root) NEW (" + strings.Repeat("x", 100_000) + ")"))
		_, _ = datagram.Write([]byte("<86>Nov 27 10:00:00 sudo: " + strings.Repeat("a : PWD=/ ; USER=root ; COMMAND=", 1500)))
	}
	var open []net.Conn
	for i := range 60 { // more than there may be
		c, err := net.Dial("tcp", tcp)
		if err != nil {
			continue
		}
		open = append(open, c)
		_, _ = c.Write([]byte([]string{"77x", "999999999999 x", "65000 <78>cron", "<78>no end of cron"}[i%4]))
	}
	for _, c := range open {
		_ = c.Close()
	}
}

// TestSyslogWaits: with --when-full wait nothing is lost that comes over the socket of this machine: who sends waits while the log is down and the spool
// full.
func TestSyslogWaits(t *testing.T) {
	t.Parallel()
	s := newSyslogTest(t)
	path := filepath.Join(t.TempDir(), "log")
	metrics, err := porttest.Address()
	if err != nil {
		t.Fatal(err)
	}
	s.begin("--listen", "unix:"+path, "--no-crontabs", "--rate", "0", "--spool-events", "1000", "--when-full", "wait", "--metrics", metrics)
	const lines = 10_000
	c := dialed(t, "unixgram", path)
	var sent atomic.Int64
	done := make(chan error, 1)
	go func() {
		for n := range lines {
			if _, err := c.Write([]byte(loginLine(n))); err != nil {
				done <- err
				return
			}
			sent.Store(int64(n + 1))
		}
		done <- nil
	}()
	s.settle(metrics, "the spool has no room", func(f map[string]int) bool { return f["waiting_events"] >= 900 })
	for last := int64(-1); last != sent.Load(); <-time.After(time.Second) { // until it doesn't move any more
		last = sent.Load()
	}
	if n := sent.Load(); n < 900 || n > lines-1000 {
		t.Fatalf("%d lines were sent\n%s", n, s.said)
	}
	if peak := s.peak(); peak > maxPeak {
		t.Errorf("it has taken %d MiB", peak)
	}
	t.Logf("the sender waits after %d lines", sent.Load())
	server := s.start()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	found := map[int]int{}
	for began := time.Now(); len(found) < lines && time.Since(began) < time.Minute; <-time.After(200 * time.Millisecond) {
		found = numbers(s.logged())
	}
	once(t, found)
	if r := s.audited(); len(found) != lines || r.Missing+r.Dropped+r.Repeated != 0 {
		t.Errorf("%d lines are in the log; %+v\n%s", len(found), r, s.said)
	}
	s.end(syscall.SIGTERM)
	s.check(server, true)
}

// TestSyslogKill kills the command with SIGKILL, again and again on one spool, while lines come. What was in the spool is in the log, once and in
// order; what was not is lost, and nobody was told otherwise.
func TestSyslogKill(t *testing.T) {
	t.Parallel()
	s := newSyslogTest(t)
	server := s.start()
	path := filepath.Join(t.TempDir(), "log")
	args := []string{"--listen", "unix:" + path, "--no-crontabs", "--rate", "0"}
	s.begin(args...)
	stop := make(chan struct{})
	sent := make(chan int, 1)
	go func() { sent <- sendUntil(path, stop) }()
	const kills = 8
	for n := range kills {
		before := len(s.logged())
		for began := time.Now(); len(s.logged()) < before+20 && time.Since(began) < 20*time.Second; {
			<-time.After(20 * time.Millisecond)
		}
		<-time.After(rand.N(50 * time.Millisecond))
		s.end(syscall.SIGKILL)
		s.begin(args...)
		if t.Failed() {
			t.Fatalf("after %d kills", n+1)
		}
	}
	close(stop)
	total := <-sent
	s.end(syscall.SIGTERM) // what was received is in the spool
	metrics, err := porttest.Address()
	if err != nil {
		t.Fatal(err)
	}
	s.begin(append(args, "--metrics", metrics)...)
	s.settle(metrics, "all is in the log", func(f map[string]int) bool { return f["waiting_events"] == 0 && f["logged_total"] > 0 })
	found := numbers(s.logged())
	once(t, found)
	if r := s.audited(); r.Missing+r.Dropped+r.Repeated != 0 || r.Suspicious() {
		t.Errorf("the audit says %+v", r)
	}
	t.Logf("%d kills; %d lines were sent, %d are in the log", kills, total, len(found))
	if len(found) < 20*kills || total-len(found) > kills*1000 || total < len(found) {
		t.Errorf("%d lines were sent, %d are in the log", total, len(found))
	}
	s.end(syscall.SIGTERM)
	s.check(server, true)
}

// sendUntil sends numbered lines, again when nobody is there, and returns how many were taken.
func sendUntil(path string, stop chan struct{}) (n int) {
	var c net.Conn
	defer func() {
		if c != nil {
			_ = c.Close()
		}
	}()
	for {
		select {
		case <-stop:
			return n
		case <-time.After(300 * time.Microsecond):
		}
		var err error
		if c == nil {
			if c, err = net.Dial("unixgram", path); err != nil {
				c = nil
				continue
			}
		}
		if _, err := c.Write([]byte(loginLine(n))); err != nil {
			if !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, syscall.ENOTCONN) && !errors.Is(err, syscall.ECONNRESET) {
				return n
			}
			_ = c.Close()
			c = nil
			continue
		}
		n++
	}
}
