package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/load"
	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/client"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// TestKill kills a server with SIGKILL, again and again on one data directory:
// under load, and while it starts and recovers. After each start that is let through
// it checks the log: see killRun.check. The last one is a SIGTERM. PROOFTRAIL_KILLS
// sets how many; the long run is
//
//	PROOFTRAIL_KILLS=200 go test ./cmd/prooftrail -run 'TestKill$' -timeout 2h -v
func TestKill(t *testing.T) {
	newKillRun(t, filepath.Join(t.TempDir(), "log")).kill(20)
}

// kill kills the server so many times, or as often as PROOFTRAIL_KILLS says.
func (k *killRun) kill(kills int) {
	t := k.t
	t.Helper()
	if text := os.Getenv("PROOFTRAIL_KILLS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("PROOFTRAIL_KILLS: %v", err)
		}
		kills = n
	}
	for n := range kills {
		if n%4 == 3 || n > 0 && rand.N(8) == 0 { // what the kill before left is being recovered
			k.killStarting()
		} else {
			s := k.start()
			k.check(s, false)
			k.sendAgain(s)
			k.load(s, syscall.SIGKILL)
			k.underLoad++
		}
		if t.Failed() {
			t.Fatalf("after %d kills", n+1)
		}
	}
	s := k.start()
	k.check(s, false)
	k.sendAgain(s)
	k.load(s, syscall.SIGTERM)
	s = k.start()
	k.check(s, true)
	s.end(t, syscall.SIGTERM)
	k.mustHaveSeen(kills)
	t.Logf("%d kills under load, %d while starting (%d of them after it had begun to serve); %d answers, %d of them without a receipt; "+
		"%d stored without an answer and found; %d sent again; %d heads, %d checkpoints read; %d entries; whole log checked %d times",
		k.underLoad, k.starting, k.startingServed, len(k.answers), k.durable, k.found, k.again, len(k.heads), k.polled.Load(), len(k.log.leaves), k.log.whole)
}

// mustHaveSeen fails a run in which what it is about didn't happen. A short one may
// end before everybody was answered.
func (k *killRun) mustHaveSeen(kills int) {
	k.t.Helper()
	for i, s := range k.senders {
		if kills >= 20 && s.answered == 0 {
			k.t.Errorf("sender %d was never answered", i)
		}
	}
	if kills >= 20 && (k.durable == 0 || k.polled.Load() == 0) {
		k.t.Errorf("%d answers without a receipt, %d checkpoints read", k.durable, k.polled.Load())
	}
	if kills >= 200 && k.found == 0 {
		k.t.Error("no event was stored without an answer and found")
	}
}

// killRun is one data directory and what its log has said.
type killRun struct {
	t       *testing.T
	dir     string
	where   []string // flags that say where the log is kept
	flags   []string // of serve, beside the usual ones
	policy  *verifier.Policy
	tokens  map[string]string
	senders []*sender
	starts  time.Duration // how long the last start took

	// reorders: of a request whose events were stored in two batches the first may fail,
	// because another server had its turn meanwhile, and come after the second.
	reorders bool
	// late: an event may be stored for longer than anybody waits before its receipt can be had.
	late bool

	mu      sync.Mutex
	answers map[string]answered      // by source and id
	fresh   []string                 // keys of those since the last check
	sent    map[string][]byte        // some events that were answered, to be sent again
	heads   map[uint64]verifier.Hash // by size: every head ever served, in an answer or as the checkpoint
	largest uint64                   // size of the largest of them

	log keptLog // as of the last check

	// What was seen, for the report.
	underLoad, starting, startingServed int
	durable, found, again               int
	polled                              atomic.Int64
}

type answered struct {
	index uint64
	leaf  verifier.Hash
}

func newKillRun(t *testing.T, dir string, where ...string) *killRun {
	k := &killRun{t: t, dir: dir, where: where, tokens: map[string]string{},
		answers: map[string]answered{}, sent: map[string][]byte{}, heads: map[uint64]verifier.Hash{}}
	init := append([]string{"init", "--data", k.dir, "--origin", "example.com/audit", "--source", "cron://"}, where...)
	if out, err := exec.Command("prooftrail", init...).CombinedOutput(); err != nil {
		t.Fatalf("init: %v\n%s", err, out)
	}
	var err error
	if k.policy, err = readPolicy(filepath.Join(k.dir, "policy.txt")); err != nil {
		t.Fatal(err)
	}
	for _, role := range []string{"submit", "read", "admin"} {
		b, err := os.ReadFile(filepath.Join(k.dir, "tokens", role+".token"))
		if err != nil {
			t.Fatal(err)
		}
		k.tokens[role] = strings.TrimSpace(string(b))
	}
	for i, batch := range []int{1, 1, 3, 40, 200, 1, 30} {
		wait := client.Integrated
		if i >= 5 {
			wait = client.Durable
		}
		gen := load.NewGenerator(fmt.Sprint(killSource, i), uint64(i), time.Now)
		k.senders = append(k.senders, &sender{run: k, batch: batch, wait: wait, next: func() []byte { return gen.Append(nil) }})
	}
	return k
}

// server is one life of the server.
type server struct {
	cmd      *exec.Cmd
	url      string
	stderr   *bytes.Buffer
	signaled atomic.Bool
	waited   sync.Once
	err      error // of the end
}

func (k *killRun) command() *exec.Cmd {
	args := append([]string{"serve", "--data", k.dir, "--listen", "127.0.0.1:0"}, k.where...)
	return exec.Command("prooftrail", append(args, k.flags...)...)
}

// run starts a server's process. It ends with the test at the latest.
func (k *killRun) run(cmd *exec.Cmd) *server {
	k.t.Helper()
	s := &server{cmd: cmd, stderr: new(bytes.Buffer)}
	cmd.Stderr = s.stderr
	cmd.SysProcAttr = endsWithParent()
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() {
		_ = cmd.Process.Kill() // most have ended
		_ = s.wait()
	})
	return s
}

// wait waits for the end. It may be called again.
func (s *server) wait() error {
	s.waited.Do(func() { s.err = s.cmd.Wait() })
	return s.err
}

// signal sends a signal. From then on connections may break.
func (s *server) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	s.signaled.Store(true)
	if err := s.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// mayFail says whether a request may fail so: the log can't now, or the server is gone.
func (s *server) mayFail(err error) bool {
	return errors.Is(err, client.ErrUnavailable) || s.signaled.Load() && broken(err)
}

// broken says whether an error is of the connection, and not an answer.
func broken(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		strings.HasSuffix(err.Error(), "http: server closed idle connection")
}

// start starts a server and waits until it is ready.
func (k *killRun) start() *server {
	k.t.Helper()
	s := k.launch()
	ctx, cancel := context.WithTimeout(k.t.Context(), 30*time.Second)
	defer cancel()
	if err := waitStatus(ctx, s.url+"/readyz", "200"); err != nil {
		k.t.Fatalf("%v\n%s", err, s.stderr)
	}
	return s
}

// launch starts a server that may not be ready.
func (k *killRun) launch() *server {
	k.t.Helper()
	s, err := k.tryLaunch()
	if err != nil {
		k.t.Fatalf("%v\n%s", err, s.stderr)
	}
	return s
}

// tryLaunch starts a server; an error if it ended instead.
func (k *killRun) tryLaunch() (*server, error) {
	k.t.Helper()
	cmd := k.command()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		k.t.Fatal(err)
	}
	began := time.Now()
	s := k.run(cmd)
	line, err := bufio.NewReader(stdout).ReadString('\n')
	at := strings.Index(line, "http://")
	if err != nil || at < 0 {
		return s, fmt.Errorf("the server said %q, %w, and ended: %w", line, err, s.wait())
	}
	k.starts = time.Since(began)
	s.url = strings.TrimSpace(line[at:])
	return s, nil
}

// killStarting starts the server and kills it at a random moment of its start.
func (k *killRun) killStarting() {
	k.t.Helper()
	cmd := k.command()
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	s := k.run(cmd)
	<-time.After(rand.N(k.starts * 5 / 4))
	s.signal(k.t, syscall.SIGKILL)
	_ = s.wait() // it was killed
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		k.t.Fatalf("a start ended by itself: %v\n%s", cmd.ProcessState, s.stderr)
	}
	k.starting++
	if stdout.Len() > 0 {
		k.startingServed++
	}
}

// end sends a signal and waits for the end.
func (s *server) end(t *testing.T, sig syscall.Signal) {
	t.Helper()
	s.signal(t, sig)
	if err := s.wait(); sig != syscall.SIGKILL && err != nil {
		t.Errorf("the server ended with %v\n%s", err, s.stderr)
	}
}

func (k *killRun) client(s *server, wait client.Wait) *client.Client {
	c, err := client.New(client.Config{URL: s.url, Token: k.tokens["submit"], Policy: k.policy, Attempts: 1, Wait: wait})
	if err != nil {
		k.t.Fatal(err)
	}
	return c
}

// load has all senders send, and the checkpoint polled, until the server is ended
// at a moment that is random in both events and time.
func (k *killRun) load(s *server, sig syscall.Signal) {
	k.t.Helper()
	var count atomic.Int64
	enough := make(chan struct{})
	target := rand.Int64N(600)
	var once sync.Once
	var wg sync.WaitGroup
	for _, sender := range k.senders {
		c := k.client(s, sender.wait)
		defer c.Close()
		wg.Go(func() {
			sender.send(s, c, func(n int) {
				if count.Add(int64(n)) > target {
					once.Do(func() { close(enough) })
				}
			})
		})
	}
	wg.Go(func() { k.poll(s) })
	select {
	case <-enough:
		if rand.N(2) == 0 { // else at once: what was just answered may still be on its way to the disk
			<-time.After(rand.N(8 * time.Millisecond))
		}
	case <-time.After(time.Minute):
		k.t.Errorf("only %d events were answered within a minute\n%s", count.Load(), s.stderr)
	}
	s.end(k.t, sig)
	wg.Wait()
}

// poll reads the checkpoint until the server is gone. It never goes back behind a
// head that was served before.
func (k *killRun) poll(s *server) {
	source, err := verifier.NewHTTPLog(verifier.HTTPConfig{URL: s.url + "/logs/audit", Attempts: 1})
	if err != nil {
		k.t.Error(err)
		return
	}
	for {
		k.mu.Lock()
		least := k.largest
		k.mu.Unlock()
		note, err := source.Get(k.t.Context(), "checkpoint", verifier.MaxNoteBytes)
		if err != nil {
			if !s.signaled.Load() || !broken(err) && !strings.Contains(err.Error(), "status 503 ") {
				k.t.Errorf("the checkpoint: %v", err)
			}
			return
		}
		if size := k.head(note); size < least {
			k.t.Errorf("the checkpoint has size %d; size %d was served before", size, least)
		}
		k.polled.Add(1)
		<-time.After(time.Millisecond) // leaves the processor to the server
	}
}

// head remembers a signed head and returns its size.
func (k *killRun) head(note []byte) uint64 {
	cp, _, err := k.policy.Verify(note)
	if err != nil {
		k.t.Errorf("checkpoint %q: %v", note, err)
		return 0
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if root, ok := k.heads[cp.Size]; ok && root != cp.Root {
		k.t.Errorf("two heads of size %d", cp.Size)
	}
	k.heads[cp.Size] = cp.Root
	k.largest = max(k.largest, cp.Size)
	return cp.Size
}

// sender submits events one request after the other. What wasn't answered in
// one life of the server is sent again in the next.
type sender struct {
	run      *killRun
	next     func() []byte
	batch    int
	wait     client.Wait
	open     [][]byte // sent and not answered yet
	answered int
}

// send goes on until something isn't answered: the server is gone, or can't now.
func (s *sender) send(to *server, c *client.Client, count func(int)) {
	for {
		n, ok := s.sendOnce(to, c)
		count(n)
		if !ok {
			return
		}
	}
}

// sendOnce makes one request, and says how many events were answered, and whether all were.
func (s *sender) sendOnce(to *server, c *client.Client) (answered int, all bool) {
	for len(s.open) < s.batch {
		s.open = append(s.open, s.next())
	}
	results, err := c.SubmitBatch(context.Background(), s.open)
	if err != nil {
		if !to.mayFail(err) {
			s.run.t.Errorf("submitting: %v", err)
		}
		return 0, false
	}
	var left [][]byte
	for i := range results {
		if !s.run.note(to, s.open[i], &results[i]) {
			left = append(left, s.open[i])
		}
	}
	answered = len(s.open) - len(left)
	s.answered += answered
	s.open = left
	return answered, len(left) == 0
}

// note remembers an answer; false if there was none.
func (k *killRun) note(from *server, raw []byte, r *client.Result) bool {
	if r.Err != nil {
		if !from.mayFail(r.Err) && !(k.late && errors.Is(r.Err, client.ErrNotFound)) {
			k.t.Errorf("answer to %s: %v", raw, r.Err)
		}
		return false
	}
	f, err := event.Parse(raw)
	if err != nil {
		k.t.Error(err)
		return true
	}
	if r.Receipt != nil {
		receipt, err := verifier.ParseReceipt(r.Receipt)
		if err != nil {
			k.t.Error(err)
			return true
		}
		k.head(receipt.Checkpoint)
	}
	key := f.Text("/source") + " " + f.Text("/id")
	k.mu.Lock()
	defer k.mu.Unlock()
	if r.Receipt == nil {
		k.durable++
	}
	if r.Status == client.Duplicate {
		k.found++
	}
	k.answers[key] = answered{r.Index, r.LeafHash}
	k.fresh = append(k.fresh, key)
	k.sent[key] = raw
	return true
}

// sendAgain sends answered events once more, new and old ones: each is where it was.
func (k *killRun) sendAgain(s *server) {
	k.t.Helper()
	const most, keep = 400, 100
	var keys []string
	var raws [][]byte
	for key, raw := range k.sent { // in random order
		if len(keys) < most {
			keys, raws = append(keys, key), append(raws, raw)
		}
		if len(k.sent) > keep {
			delete(k.sent, key)
		}
	}
	c := k.client(s, client.Integrated)
	defer c.Close()
	results, err := c.SubmitBatch(k.t.Context(), raws)
	if err != nil {
		k.t.Fatalf("sending again: %v\n%s", err, s.stderr)
	}
	for i, r := range results {
		want := k.answers[keys[i]]
		if r.Err != nil || r.Status != client.Duplicate || r.Index != want.index || r.LeafHash != want.leaf {
			k.t.Errorf("event %s, answered as entry %d, sent again: %s, entry %d, %v", keys[i], want.index, r.Status, r.Index, r.Err)
		}
	}
	k.again += len(results)
}
