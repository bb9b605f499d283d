package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
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
	"github.com/prooftrail/prooftrail/verifier/seal"
)

// TestKill kills a server under load with SIGKILL, again and again on one data
// directory, and after each restart checks the whole log: see killRun.check. The
// last one is a SIGTERM. PROOFTRAIL_KILLS sets how many; the long run is
//
//	PROOFTRAIL_KILLS=2000 go test ./cmd/prooftrail -run TestKill -timeout 6h -v
func TestKill(t *testing.T) {
	kills := 20
	if text := os.Getenv("PROOFTRAIL_KILLS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("PROOFTRAIL_KILLS: %v", err)
		}
		kills = n
	}
	k := newKillRun(t, filepath.Join(t.TempDir(), "log"))
	for n := range kills {
		s := k.start()
		k.check(s)
		k.load(s, syscall.SIGKILL)
		if t.Failed() {
			t.Fatalf("after %d kills", n)
		}
	}
	s := k.start()
	k.check(s)
	k.load(s, syscall.SIGTERM)
	s = k.start()
	k.check(s)
	s.end(t, syscall.SIGTERM)
	t.Logf("%d kills; %d answers, %d heads, %d entries", kills, len(k.answers), len(k.heads), len(k.leaves))
}

// killRun is one data directory and what its log has said.
type killRun struct {
	t       *testing.T
	dir     string
	flags   []string // of serve, beside the usual ones
	policy  *verifier.Policy
	tokens  map[string]string
	senders []*sender

	mu      sync.Mutex
	answers map[string]answered      // by source and id
	heads   map[uint64]verifier.Hash // by size: every head that came with an answer

	leaves []verifier.Hash // as of the last check
}

type answered struct {
	index uint64
	leaf  verifier.Hash
}

func newKillRun(t *testing.T, dir string) *killRun {
	k := &killRun{t: t, dir: dir, tokens: map[string]string{},
		answers: map[string]answered{}, heads: map[uint64]verifier.Hash{}}
	if out, err := exec.Command("prooftrail", "init", "--data", k.dir, "--origin", "example.com/audit").CombinedOutput(); err != nil {
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
	for i := range 6 {
		gen := load.NewGenerator(fmt.Sprint("cron://kill/", i), uint64(i), time.Now)
		k.senders = append(k.senders, &sender{
			run: k, batch: []int{1, 1, 1, 3, 40, 200}[i],
			next: func() []byte { return gen.Append(nil) },
		})
	}
	return k
}

// server is one life of the server.
type server struct {
	cmd    *exec.Cmd
	url    string
	stderr *bytes.Buffer
}

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
	cmd := exec.Command("prooftrail", append([]string{"serve", "--data", k.dir, "--listen", "127.0.0.1:0"}, k.flags...)...)
	s := &server{cmd: cmd, stderr: new(bytes.Buffer)}
	cmd.Stderr = s.stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		k.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	at := strings.Index(line, "http://")
	if err != nil || at < 0 {
		return s, fmt.Errorf("the server said %q, %w, and ended: %w", line, err, cmd.Wait())
	}
	s.url = strings.TrimSpace(line[at:])
	return s, nil
}

// end sends a signal and waits for the end.
func (s *server) end(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Wait(); sig != syscall.SIGKILL && err != nil {
		t.Errorf("the server ended with %v\n%s", err, s.stderr)
	}
}

// load has all senders send until the server is ended, at a moment that is
// random in both events and time.
func (k *killRun) load(s *server, sig syscall.Signal) {
	k.t.Helper()
	var count atomic.Int64
	enough := make(chan struct{})
	target := rand.Int64N(600)
	c, err := client.New(client.Config{URL: s.url, Token: k.tokens["submit"], Policy: k.policy, Attempts: 1})
	if err != nil {
		k.t.Fatal(err)
	}
	defer c.Close()
	var once sync.Once
	var wg sync.WaitGroup
	for _, sender := range k.senders {
		wg.Go(func() {
			sender.send(c, func(n int) {
				if count.Add(int64(n)) > target {
					once.Do(func() { close(enough) })
				}
			})
		})
	}
	select {
	case <-enough:
		<-time.After(rand.N(8 * time.Millisecond))
	case <-time.After(time.Minute):
		k.t.Errorf("only %d events were answered within a minute\n%s", count.Load(), s.stderr)
	}
	s.end(k.t, sig)
	wg.Wait()
}

// sender submits events one request after the other. What wasn't answered in
// one life of the server is sent again in the next.
type sender struct {
	run   *killRun
	next  func() []byte
	batch int
	open  [][]byte // sent and not answered yet
}

func (s *sender) send(c *client.Client, count func(int)) {
	for {
		for len(s.open) < s.batch {
			s.open = append(s.open, s.next())
		}
		results, err := c.SubmitBatch(context.Background(), s.open)
		if err != nil {
			return // the server is gone
		}
		var left [][]byte
		for i := range results {
			if !s.run.note(s.open[i], &results[i]) {
				left = append(left, s.open[i])
			}
		}
		count(len(s.open) - len(left))
		if s.open = left; len(left) > 0 {
			return
		}
	}
}

// note remembers an answer; false if there was none.
func (k *killRun) note(raw []byte, r *client.Result) bool {
	if r.Err != nil {
		if r.Status != "" && !errors.Is(r.Err, client.ErrUnavailable) {
			k.t.Errorf("answer to %s: %v", raw, r.Err)
		}
		return false
	}
	f, err := event.Parse(raw)
	if err != nil {
		k.t.Error(err)
		return true
	}
	receipt, err := verifier.ParseReceipt(r.Receipt)
	if err != nil {
		k.t.Error(err)
		return true
	}
	cp, _, err := k.policy.Verify(receipt.Checkpoint)
	if err != nil {
		k.t.Error(err)
		return true
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if root, ok := k.heads[cp.Size]; ok && root != cp.Root {
		k.t.Errorf("two heads of size %d", cp.Size)
	}
	k.heads[cp.Size] = cp.Root
	k.answers[f.Text("/source")+" "+f.Text("/id")] = answered{r.Index, r.LeafHash}
	return true
}

// check looks at the whole log: it verifies, openings included; every event
// that was ever answered is there, where the answer said; none is there twice;
// and every head that ever came with an answer is one of this history.
func (k *killRun) check(s *server) {
	k.t.Helper()
	ctx := k.t.Context()
	source, err := verifier.NewHTTPLog(verifier.HTTPConfig{URL: s.url + "/logs/audit", Token: k.tokens["read"]})
	if err != nil {
		k.t.Fatal(err)
	}
	report, err := verifier.Audit(ctx, verifier.AuditConfig{Source: source, Openings: source, Policy: k.policy})
	if err != nil {
		k.t.Fatalf("audit: %v", err)
	}
	k.leaves = nil
	seen := map[string]answered{}
	c, err := client.New(client.Config{URL: s.url, Token: k.tokens["read"]})
	if err != nil {
		k.t.Fatal(err)
	}
	defer c.Close()
	for uint64(len(k.leaves)) < report.Size {
		err := c.Openings(ctx, uint64(len(k.leaves)), min(int(report.Size)-len(k.leaves), 10_000), func(l client.OpeningLine) error {
			o, err := seal.ParseOpening(l.Opening)
			if err != nil {
				return err
			}
			key := o.Event().Text("/source") + " " + o.Event().Text("/id")
			if first, ok := seen[key]; ok {
				k.t.Errorf("event %s is entry %d and entry %d", key, first.index, l.Index)
			}
			seen[key] = answered{l.Index, o.LeafHash()}
			k.leaves = append(k.leaves, o.LeafHash())
			return nil
		})
		if err != nil {
			k.t.Fatalf("openings: %v", err)
		}
	}
	k.compare(seen)
}

func (k *killRun) compare(seen map[string]answered) {
	k.t.Helper()
	for key, want := range k.answers {
		if got, ok := seen[key]; !ok || got != want {
			k.t.Errorf("event %s was answered as entry %d; it is there: %v, as entry %d", key, want.index, ok, got.index)
		}
	}
	var tree verifier.CompactRange
	left := len(k.heads)
	for i := 0; ; i++ {
		if root, ok := k.heads[uint64(i)]; ok {
			left--
			if root != tree.Root() {
				k.t.Errorf("the head of size %d is of another history", i)
			}
		}
		if i == len(k.leaves) {
			break
		}
		tree.Append(k.leaves[i])
	}
	if left > 0 {
		k.t.Errorf("%d heads were signed for sizes that the log doesn't have", left)
	}
}
