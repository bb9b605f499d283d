package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/personality/mysqldb/mariadbtest"
	"github.com/prooftrail/prooftrail/verifier/client"
)

// TestDiskFull fills the disk under a server that is under load, with the log's own
// growth and by another's file, and after each time checks the whole log. It runs
// itself again among mounts of its own, where the disk is a small tmpfs that nobody
// else sees and that goes with it. PROOFTRAIL_FULL sets how many times; the long
// run is
//
//	PROOFTRAIL_FULL=300 go test ./cmd/prooftrail -run TestDiskFull -timeout 3h -v
func TestDiskFull(t *testing.T) {
	if os.Getenv(ownMounts) == "" {
		amongOwnMounts(t)
		return
	}
	rounds := 7
	if text := os.Getenv("PROOFTRAIL_FULL"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("PROOFTRAIL_FULL: %v", err)
		}
		rounds = n
	}
	disk := mountDisk(t, "96m")
	var f *fullRun
	for n := range rounds {
		if n%7 == 0 {
			f = newFullRun(t, disk, n)
		}
		began := time.Now()
		what := f.round(n)
		t.Logf("round %d: %s in %s; so far %v; %d entries", n, what, time.Since(began).Round(time.Millisecond), f.refused, len(f.log.leaves))
		if (n%7 == 6 || n == rounds-1) && f.refused["/problems/disk-full"] == 0 {
			t.Errorf("nobody was told that the disk is full: %v", f.refused)
		}
		if t.Failed() {
			t.FailNow()
		}
	}
}

// TestMySQLDiskFull fills the disk of the database under two servers that are under load,
// and empties it again.
func TestMySQLDiskFull(t *testing.T) {
	if os.Getenv(ownMounts) == "" {
		amongOwnMounts(t)
		return
	}
	disk, elsewhere := mountDisk(t, "256m"), os.TempDir()
	t.Setenv("TMPDIR", disk)
	db := mariadbtest.Start(t)
	t.Setenv("TMPDIR", elsewhere)
	where, _ := onMySQL(t, db)
	p := newPair(t, where...)
	for n := range 2 {
		p.fault(fmt.Sprintf("the database's disk is full, time %d", n+1), func() {
			took := fillDisk(p.t, disk)
			if took == 0 {
				p.t.Error("there was no room to take")
			}
			p.refusedAtBoth()
			if err := os.Remove(filepath.Join(disk, "filler")); err != nil {
				p.t.Fatal(err)
			}
			if db.Ended() { // as MariaDB 10.11 does on a full disk: whoever supervises it starts it again
				db.Restart(p.t)
			}
		})
	}
	for _, s := range p.servers {
		s.end(t, syscall.SIGTERM)
	}
}

// refusedAtBoth waits until neither server is ready, because events can't be stored.
func (p *pair) refusedAtBoth() {
	p.t.Helper()
	for _, s := range p.servers {
		ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
		if err := waitStatus(ctx, s.url+"/readyz", "503"); err != nil {
			p.t.Errorf("it is ready on a full disk: %v", err)
		}
		cancel()
	}
}

// fillDisk takes all the room that a disk has, and returns how many bytes that were.
func fillDisk(t *testing.T, disk string) (n int64) {
	t.Helper()
	f, err := os.Create(filepath.Join(disk, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; size /= 2 {
		for {
			took, err := f.Write(make([]byte, size))
			n += int64(took)
			if errors.Is(err, syscall.ENOSPC) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return n
}

// mountDisk mounts a small disk that nobody else sees.
func mountDisk(t *testing.T, size string) string {
	t.Helper()
	disk := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	err := syscall.Mount("prooftrail-test", disk, "tmpfs", 0, "size="+size+",mode=0700")
	if denied(err) {
		t.Skip(needsMount)
	}
	if err != nil {
		t.Fatalf("mount a tmpfs: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(disk, syscall.MNT_DETACH) })
	return disk
}

const ownMounts = "PROOFTRAIL_TEST_OWN_MOUNTS"

const needsMount = "a tmpfs has to be mounted: that takes root with CAP_SYS_ADMIN, or user namespaces"

// denied says whether an error means that no namespace or mount can be had here. Where
// there are no namespaces of users, or their number is limited to none, it is not EPERM.
func denied(err error) bool {
	return slices.ContainsFunc([]error{syscall.EPERM, syscall.EACCES, syscall.ENOSYS, syscall.EINVAL, syscall.ENOSPC},
		func(e error) bool { return errors.Is(err, e) })
}

// amongOwnMounts runs the test in a mount namespace: as root, or else in a namespace of
// users in which whoever this is may be root. Where neither may mount it is skipped.
func amongOwnMounts(t *testing.T) {
	asRoot := &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	asUser := &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWNS | syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	if os.Getuid() == 0 && ranAs(t, asRoot) || ranAs(t, asUser) {
		return
	}
	t.Skip(needsMount)
}

// ranAs runs the test with such attributes; false if they or a mount were denied.
func ranAs(t *testing.T, attr *syscall.SysProcAttr) bool {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=3h")
	cmd.Env = append(os.Environ(), ownMounts+"=1")
	cmd.SysProcAttr = attr
	out := new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = out, out
	err = cmd.Start()
	if denied(err) {
		return false
	}
	if err != nil {
		t.Fatalf("start in a mount namespace: %v", err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if bytes.Contains(out.Bytes(), []byte("--- SKIP: "+t.Name())) {
		return false
	}
	t.Logf("\n%s", out)
	return true
}

// fullRun is a log on a small disk.
type fullRun struct {
	*killRun
	disk string
	mu   sync.Mutex
	// refused counts the problems that senders got, by type.
	refused map[string]int
}

func newFullRun(t *testing.T, disk string, n int) *fullRun {
	dir := filepath.Join(disk, fmt.Sprint("of", n))
	if err := errors.Join(removeOthers(disk), os.Mkdir(dir, 0o700)); err != nil {
		t.Fatal(err)
	}
	f := &fullRun{killRun: newKillRun(t, filepath.Join(dir, "log")), disk: disk, refused: map[string]int{}}
	for i, s := range f.senders {
		s.next = func() []byte { return bulky(fmt.Sprint("cron://full/", i)) }
	}
	return f
}

func removeOthers(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return err
}

// bulky makes an event of some KiB that doesn't compress.
func bulky(source string) []byte {
	noise := make([]byte, 3000)
	for i := range noise {
		noise[i] = "0123456789abcdef"[rand.IntN(16)]
	}
	return fmt.Appendf(nil, `{"schema":"prooftrail.event/1","id":"%x-%x","source":%q,"time":%q,"action":"config.read","outcome":"success",`+
		`"actor":{"type":"schedule","id":"backup"},"target":[{"type":"job","id":"backup"}],"details":{"noise":"%s"}}`,
		rand.Uint64(), rand.Uint64(), source, time.Now().UTC().Format(time.RFC3339), noise)
}

// round fills the disk once, in one of seven ways.
func (f *fullRun) round(n int) string {
	f.configure(n)
	s := f.launch()
	f.wait(s, "200")
	f.check(s, true)
	if n%7 == 0 {
		f.grow(s)
		f.end(s, syscall.SIGTERM, 0)
		return "grown until full"
	}
	if n%7 == 6 {
		f.end(s, syscall.SIGTERM, 0)
		return f.hardlyAny()
	}
	load := f.begin(s)
	defer load.end()
	load.until(rand.IntN(200))
	<-time.After(rand.N(20 * time.Millisecond))
	free := f.takeAll()
	f.wait(s, "503")
	<-time.After(rand.N(longest))
	f.readsGoOn(s)
	f.initWhileFull()
	what := "taken by another, then given back"
	switch n % 7 {
	case 3, 4:
		load.end()
		f.end(s, syscall.SIGKILL, -1)
		what = "killed while full; the start then said " + f.startWhileFull()
		free()
		s = f.launch()
	case 5:
		load.end()
		what = fmt.Sprintf("ended while full, with exit code %d", f.end(s, syscall.SIGTERM, -1))
		free()
		s = f.launch()
	default:
		free()
	}
	f.wait(s, "200")
	load.end() // it may have sent nothing to a service that wasn't ready
	f.goesOn(s)
	f.end(s, syscall.SIGTERM, 0)
	return what
}

// longest is for how long a disk is full at most: longer than a request waits for
// its answer.
const longest = 3 * time.Second

// configure has a reserve in some rounds; without one each full disk is met in
// the middle of a write.
func (f *fullRun) configure(n int) {
	reserve := 8 << 20
	if k := n % 7; k == 2 || k >= 4 {
		reserve = -1
	}
	file := filepath.Join(f.t.TempDir(), "config.yaml")
	text := fmt.Sprintf("limits:\n  min_free: %d\n  cache_bytes: 16777216\n  answer_timeout: 2s\n  body_timeout: 2s\n  ready_lag: 2s\nshutdown_timeout: 20s\n", reserve)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
	f.flags = []string{"--config", file}
}

// wait waits until /readyz answers so, and returns the reason.
func (f *fullRun) wait(s *server, status string) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 60*time.Second)
	defer cancel()
	if err := waitStatus(ctx, s.url+"/readyz", status); err != nil {
		f.end(s, syscall.SIGQUIT, -1)
		f.t.Fatalf("%v\n%s", err, s.stderr)
	}
}

// end ends a server and checks its exit code; -1: any.
func (f *fullRun) end(s *server, sig syscall.Signal, code int) int {
	f.t.Helper()
	s.signal(f.t, sig)
	_ = s.wait()
	got := s.cmd.ProcessState.ExitCode()
	if code >= 0 && got != code || sig == syscall.SIGTERM && strings.Contains(s.stderr.String(), "goroutine ") {
		f.t.Errorf("exit code %d, expected %d\n%s", got, code, s.stderr)
	}
	return got
}

// grow has the log fill what a ballast leaves, until it refuses events, then throws
// the ballast out.
func (f *fullRun) grow(s *server) {
	throwOut := f.leave(16 << 20)
	load := f.begin(s)
	f.wait(s, "503")
	load.untilRefused("/problems/disk-full")
	if got := f.reason(s); !strings.HasPrefix(got, "the disk is full: ") {
		f.t.Errorf("readiness says %q", got)
	}
	f.readsGoOn(s)
	f.reservedGoesOn(s)
	if free := f.free(); free < 2<<20 {
		f.t.Errorf("the log left only %d bytes of a reserve of %d", free, 8<<20)
	}
	load.end()
	throwOut()
	f.wait(s, "200")
	f.goesOn(s)
}

// leave has a ballast take all room but so many bytes.
func (f *fullRun) leave(bytes int) (throwOut func()) {
	f.t.Helper()
	ballast := filepath.Join(f.disk, "ballast")
	if err := os.WriteFile(ballast, make([]byte, max(0, f.free()-bytes)), 0o600); err != nil {
		f.t.Fatal(err)
	}
	return func() {
		if err := os.Remove(ballast); err != nil {
			f.t.Fatal(err)
		}
	}
}

// hardlyAny starts the server with so little room that nothing can be put by for the
// write-ahead log, and no reserve. It runs into the end of the disk by itself, often in
// the middle of a batch, and is ended there.
func (f *fullRun) hardlyAny() string {
	throwOut := f.leave(1<<20 + rand.IntN(5<<20))
	what := "hardly any room: too little to start"
	s, err := f.tryLaunch()
	if err == nil {
		load := f.begin(s)
		f.wait(s, "503")
		load.untilRefused("/problems/disk-full")
		f.readsGoOn(s)
		load.end()
		code := f.end(s, syscall.SIGTERM, -1)
		what = fmt.Sprintf("hardly any room: ended while full with exit code %d", code)
	}
	code, said := s.cmd.ProcessState.ExitCode(), s.stderr.String()
	if err == nil && code == 2 && !strings.Contains(said, "storage hangs, and what was answered as durable is safe: ") ||
		code != 0 && (code != 2 || !strings.Contains(said, "the disk is full: ")) || strings.Contains(said, "goroutine ") {
		f.t.Errorf("exit code %d\n%s", code, said)
	}
	throwOut()
	s = f.launch()
	f.wait(s, "200")
	f.goesOn(s)
	f.end(s, syscall.SIGTERM, 0)
	return what
}

// goesOn: the service takes events again, and the whole log verifies.
func (f *fullRun) goesOn(s *server) {
	f.t.Helper()
	load := f.begin(s)
	load.until(20)
	load.end()
	f.check(s, true)
}

func (f *fullRun) free() int {
	f.t.Helper()
	var st syscall.Statfs_t
	if err := syscall.Statfs(f.disk, &st); err != nil {
		f.t.Fatal(err)
	}
	return int(st.Bavail) * int(st.Bsize)
}

// takeAll has another's file take all room, and goes on taking what becomes free,
// until the function it returns is called.
func (f *fullRun) takeAll() (giveBack func()) {
	name := filepath.Join(f.disk, "another")
	file, err := os.Create(name)
	if err != nil {
		f.t.Fatal(err)
	}
	take := func() {
		for size := 1 << 20; size > 0; {
			if _, err := file.Write(make([]byte, size)); err != nil {
				size /= 16
			}
		}
	}
	take()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			take()
			select {
			case <-time.After(2 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	})
	return func() {
		cancel()
		wg.Wait()
		if err := errors.Join(file.Close(), os.Remove(name)); err != nil {
			f.t.Fatal(err)
		}
	}
}

// startWhileFull starts the server on the full disk: it says so, and ends.
func (f *fullRun) startWhileFull() string {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "prooftrail", append([]string{"serve", "--data", f.dir, "--listen", "127.0.0.1:0"}, f.flags...)...)
	out, err := cmd.CombinedOutput()
	line, _, _ := strings.Cut(string(out), "\n")
	if cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(out), "the disk is full: ") || strings.Contains(string(out), "goroutine ") {
		f.t.Errorf("a start on a full disk: %v\n%s", err, out)
	}
	return line
}

// initWhileFull tries to make a log, with the anchor on the full disk or all of it:
// nothing is left.
func (f *fullRun) initWhileFull() {
	f.t.Helper()
	for _, at := range []string{f.disk, f.t.TempDir()} {
		dir, anchor := filepath.Join(at, "another-log"), filepath.Join(f.disk, "another-log.anchor")
		cmd := exec.Command("prooftrail", "init", "--data", dir, "--anchor", anchor, "--origin", "example.com/another")
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(out), "no space left on device") && !strings.Contains(string(out), "the disk is full: ") {
			f.t.Errorf("init on a full disk: %v\n%s", err, out)
		}
		for _, path := range []string{dir, dir + ".creating", anchor} {
			if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
				f.t.Errorf("init on a full disk left %s: %v", path, err)
			}
		}
	}
}

// readsGoOn: what holds no content is served as ever.
func (f *fullRun) readsGoOn(s *server) {
	f.t.Helper()
	for _, path := range []string{"/logs/audit/checkpoint", "/logs/audit/tile/0/000.p/1", "/logs/audit/tile/entries/000.p/1",
		"/v1/logs/audit/proofs/inclusion?index=0&size=2", "/healthz", "/metrics"} {
		if status, body := f.get(s, path, ""); status != http.StatusOK {
			f.t.Errorf("%s on a full disk: %d %s", path, status, body)
		}
	}
}

// reservedGoesOn: below the reserve content isn't shown, for a read is an event, but
// a token can be made and revoked.
func (f *fullRun) reservedGoesOn(s *server) {
	f.t.Helper()
	if status, body := f.get(s, "/v1/logs/audit/entries/0", "read"); status != http.StatusServiceUnavailable || !bytes.Contains(body, []byte("/problems/disk-full")) {
		f.t.Errorf("reading content on a full disk: %d %s", status, body)
	}
	file := filepath.Join(f.dir, "tokens", "admin.token")
	out, err := exec.Command("prooftrail", "token", "add", "--name", "late", "--role", "read", "--server", s.url, "--token-file", file).Output()
	id, _, ok := strings.Cut(strings.TrimPrefix(string(out), "pt_"), "_")
	if err != nil || !ok {
		f.t.Fatalf("a token on a full disk: %v\n%s", err, out)
	}
	if out, err := exec.Command("prooftrail", "token", "revoke", id, "--server", s.url, "--token-file", file).CombinedOutput(); err != nil {
		f.t.Errorf("revoking a token on a full disk: %v\n%s", err, out)
	}
}

func (f *fullRun) get(s *server, path, role string) (int, []byte) {
	f.t.Helper()
	req, err := http.NewRequestWithContext(f.t.Context(), http.MethodGet, s.url+path, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	if role != "" {
		req.Header.Set("Authorization", "Bearer "+f.tokens[role])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return resp.StatusCode, body
}

func (f *fullRun) reason(s *server) string {
	_, body := f.get(s, "/readyz", "")
	var r struct{ Reason string }
	if err := json.Unmarshal(body, &r); err != nil {
		f.t.Errorf("/readyz: %v: %s", err, body)
	}
	return r.Reason
}

// A fullLoad is all senders sending, again and again what was refused.
type fullLoad struct {
	f      *fullRun
	server *server
	stop   context.CancelFunc
	wg     sync.WaitGroup
	change chan struct{} // has an element whenever the counts changed
	client *client.Client
	mu     sync.Mutex
	count  int
	types  map[string]int
}

func (f *fullRun) begin(s *server) *fullLoad {
	c, err := client.New(client.Config{URL: s.url, Token: f.tokens["submit"], Policy: f.policy, Attempts: 1})
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	l := &fullLoad{f: f, server: s, stop: stop, client: c, change: make(chan struct{}, 1), types: map[string]int{}}
	for _, s := range f.senders {
		l.wg.Go(func() { l.send(ctx, s) })
	}
	return l
}

func (l *fullLoad) end() {
	l.stop()
	l.wg.Wait()
	l.client.Close()
}

func (l *fullLoad) send(ctx context.Context, s *sender) {
	for ctx.Err() == nil {
		for len(s.open) < min(s.batch, 40) {
			s.open = append(s.open, s.next())
		}
		results, err := l.client.SubmitBatch(context.WithoutCancel(ctx), s.open)
		l.note(err)
		var left [][]byte
		for i := range results {
			if results[i].Err != nil {
				l.note(results[i].Err)
				left = append(left, s.open[i])
			} else {
				l.f.note(l.server, s.open[i], &results[i])
			}
		}
		if err == nil {
			l.add(len(s.open) - len(left))
			s.open = left
		}
		if err != nil || len(left) > 0 {
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}
}

// note counts what a sender was told. Only these types of problem may be among it, and
// a connection may break only after a signal.
func (l *fullLoad) note(err error) {
	if err == nil {
		return
	}
	var p *client.Problem
	if !errors.As(err, &p) {
		if !l.server.signaled.Load() || !broken(err) {
			l.f.t.Errorf("a sender was told: %v", err)
		}
		return
	}
	switch p.Type {
	case "/problems/disk-full", "/problems/unavailable", "/problems/busy", "/problems/closing":
	default:
		l.f.t.Errorf("a sender was told: %+v", p)
	}
	l.f.mu.Lock()
	l.f.refused[p.Type]++
	l.f.mu.Unlock()
	l.mu.Lock()
	l.types[p.Type]++
	l.mu.Unlock()
	l.add(0)
}

func (l *fullLoad) add(n int) {
	l.mu.Lock()
	l.count += n
	l.mu.Unlock()
	select {
	case l.change <- struct{}{}:
	default:
	}
}

// until waits until more than n events have been answered with a receipt.
func (l *fullLoad) until(n int) {
	l.f.t.Helper()
	l.wait(fmt.Sprintf("%d events answered", n), func() bool { return l.count > n })
}

func (l *fullLoad) untilRefused(kind string) {
	l.f.t.Helper()
	l.wait("a refusal "+kind, func() bool { return l.types[kind] > 0 })
}

func (l *fullLoad) wait(what string, done func() bool) {
	l.f.t.Helper()
	timeout := time.After(time.Minute)
	for {
		l.mu.Lock()
		ok := done()
		l.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-l.change:
		case <-timeout:
			l.f.t.Fatalf("no %s within a minute; %d answered, %v", what, l.count, l.types)
		}
	}
}
