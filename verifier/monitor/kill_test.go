package monitor_test

import (
	"bufio"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/internal/logtest"
	"github.com/prooftrail/prooftrail/verifier/monitor"
	"github.com/prooftrail/prooftrail/verifier/monitor/alarm"
	"github.com/prooftrail/prooftrail/verifier/monitor/gossip"
	"github.com/prooftrail/prooftrail/verifier/monitor/store"
)

// monitorEnv makes the test binary a monitor in the directory it names. There are the policy in policy.txt and the
// log's URL in url.txt; perhaps a mirror in mirror, a peer's URL in peer.txt, and in clock.txt by how many ns its clock is off. It
// prints where it listens.
const monitorEnv = "PROOFTRAIL_TEST_MONITOR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(monitorEnv); dir != "" {
		if err := monitorIn(dir); err != nil {
			println(err.Error())
			os.Exit(1)
		}
		os.Exit(0)
	}
	var err error
	if programs, err = os.MkdirTemp("", "prooftrail-test"); err != nil {
		println(err.Error())
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(programs)
	os.Exit(code)
}

func monitorIn(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, "policy.txt"))
	if err != nil {
		return err
	}
	policy, err := verifier.ParsePolicy(text)
	if err != nil {
		return err
	}
	url, err := os.ReadFile(filepath.Join(dir, "url.txt"))
	if err != nil {
		return err
	}
	book, err := store.OpenBook(filepath.Join(dir, "book"), 0)
	if err != nil {
		return err
	}
	cfg := monitor.Config{
		Logs: []monitor.LogConfig{{Policy: policy, URL: string(url) + "/logs/audit", Timeout: time.Second}},
		Book: book, EvidenceDir: filepath.Join(dir, "evidence"), Alarms: alarmFile{newAlarms(), filepath.Join(dir, "alarms.txt")},
		Interval: 5 * time.Millisecond, Rate: 1e6,
		Now: func() time.Time {
			b, _ := os.ReadFile(filepath.Join(dir, "clock.txt")) // if there is none, it isn't off
			off, _ := strconv.ParseInt(string(b), 10, 64)
			return time.Now().Round(0).Add(time.Duration(off))
		},
	}
	if mirror := filepath.Join(dir, "mirror"); isThere(mirror) {
		cfg.Logs[0].Mirror = mirror
	}
	if peer, err := os.ReadFile(filepath.Join(dir, "peer.txt")); err == nil {
		cfg.Interval = 100 * time.Millisecond
		cfg.Peers = []monitor.PeerConfig{{Name: "peer", URL: string(peer), Timeout: time.Second, Mirrors: true}}
	}
	m, err := monitor.New(context.Background(), cfg)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if _, err := os.Stdout.WriteString("http://" + l.Addr().String() + "\n"); err != nil {
		return err
	}
	go func() { _ = http.Serve(l, m.Handler()) }()
	return m.Run(context.Background())
}

func isThere(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// alarmFile writes the name of each alarm to a file.
type alarmFile struct {
	*alarms
	file string
}

func (a alarmFile) Raise(x alarm.Alarm) {
	if !a.ringed(x.Name) {
		f, err := os.OpenFile(a.file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err == nil {
			_, err = f.WriteString(x.Name + "\n")
			_ = f.Close()
		}
		if err != nil {
			println(err.Error())
		}
	}
	a.alarms.Raise(x)
}

// process is a monitor in a process of its own.
type process struct {
	*exec.Cmd
	client *gossip.Client
}

func startProcess(t testing.TB, dir string) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), monitorEnv+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	url, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the monitor doesn't start: %v", err)
	}
	c, err := gossip.New(gossip.Config{URL: strings.TrimSpace(url)})
	if err != nil {
		t.Fatal(err)
	}
	return &process{cmd, c}
}

// TestKill kills a monitor with SIGKILL, again and again, while its log grows and heads are posted: it accuses
// nobody, what it has checked never goes back, and a head that it has answered for is known ever after.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	key := logtest.NewKey(t, testOrigin)
	h := logtest.New(t, key, "a", 10)
	prepareProcess(t, dir, key, strings.TrimSuffix(serve(t, h), "/logs/audit"))
	size := uint64(0) // checked
	posted := 0
	if err := os.Mkdir(filepath.Join(dir, "mirror"), 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range 12 {
		p := startProcess(t, dir)
		for left := 3 + rand.IntN(12); ; left-- {
			if left == 0 {
				time.AfterFunc(time.Duration(rand.IntN(20))*time.Millisecond, func() { _ = p.Process.Kill() }) // while the next are on their way
			}
			h.Grow(1 + rand.IntN(700))
			a, err := p.client.PostHead(t.Context(), h.Note(1+rand.IntN(h.Size())))
			if err != nil {
				break // it is dead
			}
			posted++
			if a.Verdict == gossip.Contradicts || len(a.Evidence) > 0 {
				t.Fatalf("accused an honest log: %+v", a)
			}
			if a.Checked == "" {
				continue
			}
			c, err := verifier.ParseCheckpoint(a.Checked[:strings.Index(a.Checked, "\n\n")+1])
			if err != nil || c.Size < size || c != h.Head(int(c.Size)) {
				t.Fatalf("run %d: checked %v, %v after size %d", i, c, err, size)
			}
			size = c.Size
		}
		_ = p.Process.Kill() // if it hasn't been, the post was refused
		_ = p.Wait()
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "evidence", "*.evidence")); len(files) > 0 || posted < 12 {
		t.Errorf("evidence %q; %d heads posted", files, posted)
	}
	t.Logf("%d heads posted, %d of %d entries checked", posted, size, h.Size())

	// A fork that it was shown before it was killed.
	h.Grow(1000)
	n := h.Size()
	p := startProcess(t, dir)
	b := h.Fork("b", 5)
	b.Grow(n + 100 - 5)
	a, err := p.client.PostHead(t.Context(), b.Note(n+100))
	if err != nil || a.Verdict != gossip.Unknown {
		t.Fatalf("a fork ahead: %+v, %v", a, err)
	}
	_ = p.Process.Kill()
	_ = p.Wait()
	h.Grow(300)
	startProcess(t, dir)
	wait(t, "evidence", func() bool {
		files, _ := filepath.Glob(filepath.Join(dir, "evidence", "*.evidence"))
		return len(files) > 0
	})
	files, _ := filepath.Glob(filepath.Join(dir, "evidence", "*.evidence"))
	convictsApart(t, key, files[0])
}

func prepareProcess(t testing.TB, dir string, key *logtest.Key, url string) {
	t.Helper()
	for _, err := range []error{
		os.Mkdir(filepath.Join(dir, "evidence"), 0o700),
		os.WriteFile(filepath.Join(dir, "policy.txt"), []byte("log "+key.VKey+"\nquorum none\n"), 0o600),
		os.WriteFile(filepath.Join(dir, "url.txt"), []byte(url), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestKillAnswered: of two histories that a log shows before and after each kill of a monitor, it follows one; and
// a head that it said agrees is of that one, or there is evidence.
func TestKillAnswered(t *testing.T) {
	key := logtest.NewKey(t, testOrigin)
	for i := range 4 {
		dir := t.TempDir()
		log := new(address)
		a := logtest.New(t, key, "a", 100)
		b := logtest.New(t, key, "b", 150)
		// No entry can be read, so that nothing is stored on that occasion.
		noEntries := func(h *logtest.History) http.Handler { return only(h, "/tile/entries/", status(503)) }
		log.answer(noEntries(a))
		prepareProcess(t, dir, key, strings.TrimSuffix(serve(t, log), "/logs/audit"))
		p := startProcess(t, dir)
		wait(t, "agrees", func() bool {
			answer, err := p.client.PostHead(t.Context(), a.Note(100))
			if err != nil {
				t.Fatal(err)
			}
			return answer.Verdict == gossip.Agrees
		})
		if i%2 == 1 { // a larger one, which the log hasn't served itself
			a.Grow(30)
			a.Show(a.Note(100))
			if answer, err := p.client.PostHead(t.Context(), a.Note(130)); err != nil || answer.Verdict != gossip.Agrees {
				t.Fatalf("%+v, %v", answer, err)
			}
		}
		_ = p.Process.Kill()
		_ = p.Wait()
		log.answer(b)
		p = startProcess(t, dir)
		wait(t, "contradicts", func() bool {
			answer, err := p.client.PostHead(t.Context(), b.Note(150))
			return err == nil && answer.Verdict == gossip.Contradicts
		})
		if answer, err := p.client.PostHead(t.Context(), a.Note(100)); err != nil || answer.Verdict != gossip.Agrees {
			t.Errorf("%+v, %v", answer, err)
		}
	}
}

// failingBook fails at the nth call, and, if all, at each one that follows. With late it does first what it was asked
// for.
type failingBook struct {
	monitor.Book
	late, all bool

	mu   sync.Mutex
	left int
	hit  bool
}

var errInjected = errors.New("injected")

func (b *failingBook) fails() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left--
	now := b.left == 0 || b.all && b.left < 0
	b.hit = b.hit || now
	return now
}

func (b *failingBook) do(call func() error) error {
	if !b.fails() {
		return call()
	}
	if b.late {
		if err := call(); err != nil {
			return err
		}
	}
	return errInjected
}

func (b *failingBook) Add(ctx context.Context, h monitor.Head) (stored monitor.Head, isNew bool, err error) {
	err = b.do(func() (err error) {
		stored, isNew, err = b.Book.Add(ctx, h)
		return err
	})
	if err != nil {
		return monitor.Head{}, false, err
	}
	return stored, isNew, err
}

func (b *failingBook) Judge(ctx context.Context, c verifier.Checkpoint, s monitor.Standing) error {
	return b.do(func() error { return b.Book.Judge(ctx, c, s) })
}

func (b *failingBook) SameSize(ctx context.Context, c verifier.Checkpoint) (hs []monitor.Head, err error) {
	err = b.do(func() (err error) { hs, err = b.Book.SameSize(ctx, c); return err })
	return hs, err
}

func (b *failingBook) Open(ctx context.Context, origin string, from uint64, limit int) (hs []monitor.Head, err error) {
	err = b.do(func() (err error) { hs, err = b.Book.Open(ctx, origin, from, limit); return err })
	return hs, err
}

func (b *failingBook) Counts(ctx context.Context, origin string) (n monitor.Counts, err error) {
	err = b.do(func() (err error) { n, err = b.Book.Counts(ctx, origin); return err })
	return n, err
}

func (b *failingBook) PutState(ctx context.Context, origin string, state []byte) error {
	return b.do(func() error { return b.Book.PutState(ctx, origin, state) })
}

// TestBookFails: at whichever call the book fails, once or for good: no head is said to agree that isn't written
// down, together with the newest one that it agrees with; nobody is accused; and a monitor that starts again goes on.
func TestBookFails(t *testing.T) {
	key := logtest.NewKey(t, testOrigin)
	for _, kind := range []struct{ late, all bool }{{}, {late: true}, {all: true}} {
		hit := true
		for n := 1; hit && n < 25; n++ {
			if testing.Short() && n%4 > 0 { // under the race detector: all run without it
				continue
			}
			var failing *failingBook
			h := logtest.New(t, key, "a", 100)
			dir := t.TempDir()
			log := monitor.LogConfig{Policy: key.Policy(t), URL: serve(t, h)}
			r := start(t, dir, func(c *monitor.Config) {
				failing = &failingBook{Book: c.Book, late: kind.late, all: kind.all, left: n}
				c.Book = failing
			}, log)
			var agreed []int
			for i, size := range []int{100, 60, 180, 300} {
				if size > h.Size() {
					h.Grow(size - h.Size())
				}
				for range 20 {
					a, err := r.Observe(t.Context(), h.Note(size), "test")
					if err == nil && a.Verdict == gossip.Contradicts {
						t.Errorf("call %d fails: head %d: %+v", n, i, a)
					}
					if err == nil && a.Verdict == gossip.Agrees {
						agreed = append(agreed, size)
						break
					}
					<-time.After(2 * time.Millisecond)
				}
			}
			failing.mu.Lock()
			hit = failing.hit
			failing.mu.Unlock()
			r.stop()
			if r.alarms.ringed("fork") || len(r.Status().Evidence) > 0 {
				t.Errorf("call %d fails: accused an honest log", n)
			}
			// Another history, at once after a restart: it contradicts what was said to agree.
			r = start(t, dir, nil, log)
			b := h.Fork("b", 50)
			b.Grow(300)
			for _, size := range agreed {
				a, err := r.Observe(t.Context(), b.Note(size), "test")
				if err != nil || a.Verdict != gossip.Contradicts {
					t.Errorf("call %d fails (%+v): after a restart another head of size %d: %+v, %v", n, kind, size, a, err)
				}
			}
			r.checked(300)
			r.stop()
		}
	}
}
