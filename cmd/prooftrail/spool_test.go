package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/load"
	"github.com/prooftrail/prooftrail/deployment/porttest"
	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/client"
	"github.com/prooftrail/prooftrail/verifier/event"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

// spoolSource is the source of the queues of these tests. killRun checks that its seqs have no gap.
const spoolSource = killSource + "spool"

// scheduler is the program that TestSpoolKill kills: it enqueues events from several goroutines, each once the one before
// is on disk, and says of each on standard output, in one line, under which seq and id it was taken. With
// a number of events it ends when all that is spooled is in the log.
func scheduler(args []string) int {
	if err := runScheduler(args[0], args[1], args[2], args[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func runScheduler(url, logDir, spoolDir, count string) error {
	n, err := strconv.ParseInt(count, 10, 64)
	if err != nil {
		return err
	}
	token, err := os.ReadFile(filepath.Join(logDir, "tokens", "submit.token"))
	if err != nil {
		return err
	}
	policy, err := readPolicy(filepath.Join(logDir, "policy.txt"))
	if err != nil {
		return err
	}
	alarm := func(err error) { fmt.Fprintln(os.Stderr, "alarm:", err) }
	cfg := client.Config{URL: url, Token: strings.TrimSpace(string(token)), Policy: policy, HeadsFile: spoolDir + ".heads", Alarm: alarm}
	if _, err := os.Stat(spoolDir + ".key"); err == nil { // TestSpoolKillSigned
		if cfg.Signer, err = client.ReadSourceSigner(spoolDir + ".key"); err != nil {
			return err
		}
	}
	c, err := client.New(cfg)
	if err != nil {
		return err
	}
	defer c.Close()
	q, err := c.OpenQueue(client.QueueConfig{Dir: spoolDir, Source: spoolSource, Heartbeat: 50 * time.Millisecond, MinBackoff: 5 * time.Millisecond, MaxBackoff: 50 * time.Millisecond})
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	var left atomic.Int64
	left.Store(n)
	errs := make(chan error, 4)
	for i := range 4 {
		mode := client.BestEffort
		if i == 0 {
			mode = client.Required
		}
		wg.Go(func() {
			for n == 0 || left.Add(-1) >= 0 {
				got, err := q.Enqueue(context.Background(), schedulerEvent(), mode)
				if err == nil {
					_, err = fmt.Printf("%d %s\n", got.Seq, got.ID)
				}
				if err != nil && mode == client.BestEffort {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	if err, ok := <-errs; ok {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := q.Flush(ctx); err != nil {
		return err
	}
	return q.Close()
}

func schedulerEvent() event.Event {
	return event.Event{Action: "auth.login", Outcome: "success", Actor: event.Actor{Type: "user", ID: "ada"}, Target: []event.Target{{Type: "service", ID: "cron"}}}
}

// TestSpoolKill kills a client that spools with SIGKILL, again and again on one spool, at random moments, while its server is
// killed and started too. Then each event that Enqueue took is in the log exactly once, under the seq and id
// that it said, in order and without a gap. PROOFTRAIL_SPOOL_KILLS sets how many; the long run is
//
//	PROOFTRAIL_SPOOL_KILLS=500 go test ./cmd/prooftrail -run TestSpoolKill -timeout 1h -v
func TestSpoolKill(t *testing.T) { newSpoolRun(t).kills(t) }

// kills is a run of kills. It returns the last server, and how many events there are in the log.
func (r *spoolRun) kills(t *testing.T) (server *server, total int) {
	t.Helper()
	kills := 12
	if text := os.Getenv("PROOFTRAIL_SPOOL_KILLS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("PROOFTRAIL_SPOOL_KILLS: %v", err)
		}
		kills = n
	}
	server = r.launch()
	servers := 1
	var early int
	for n := range kills {
		c := r.scheduler("0")
		if rand.N(4) == 0 { // while it opens the spool, perhaps
			<-time.After(rand.N(30 * time.Millisecond))
		} else {
			<-time.After(rand.N(250 * time.Millisecond))
		}
		if n%5 == 4 {
			server.end(t, syscall.SIGKILL)
			server = r.launch()
			servers++
			<-time.After(rand.N(50 * time.Millisecond))
		}
		if c.kill() == 0 {
			early++
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	c := r.scheduler("20")
	if err := c.wait(); err != nil {
		t.Fatalf("the last one ended with %v\n%s", err, c.stderr)
	}
	r.check(server, true)
	total = r.compareSpool(server, uint64(len(r.log.leaves)))
	if s, _ := r.audit(server); s.Heartbeat == nil || s.Heartbeat.Held == nil || *s.Heartbeat.Held != s.Heartbeat.Count || s.Suspicious() {
		t.Errorf("the audit says %+v, with the heartbeat %+v", s, s.Heartbeat)
	}
	t.Logf("%d kills of the client, %d of them before it had taken anything; %d servers; %d events were promised, %d are in the log", kills, early, servers, len(r.promised), total)
	if kills >= 100 && len(r.promised) < 10*kills {
		t.Errorf("only %d events were promised", len(r.promised))
	}
	return server, total
}

// spoolRun is a log, a spool, and what Enqueue has promised.
type spoolRun struct {
	*killRun
	url, spool string
	promised   map[string]string // by seq: the id
}

func newSpoolRun(t *testing.T) *spoolRun {
	t.Helper()
	dir := t.TempDir()
	address, err := porttest.Address()
	if err != nil {
		t.Fatal(err)
	}
	k := newKillRun(t, filepath.Join(dir, "log"))
	k.flags = []string{"--listen", address} // the last one counts
	return &spoolRun{killRun: k, url: "http://" + address, spool: filepath.Join(dir, "spool"), promised: map[string]string{}}
}

// process is a scheduler that runs.
type process struct {
	r      *spoolRun
	cmd    *exec.Cmd
	stderr *bytes.Buffer
	lines  chan struct{} // closed at the end of the output
	taken  int
}

func (r *spoolRun) scheduler(count string) *process {
	r.t.Helper()
	p := &process{r: r, cmd: exec.Command("scheduler", r.url, r.dir, r.spool, count), stderr: new(bytes.Buffer), lines: make(chan struct{})}
	p.cmd.Stderr = p.stderr
	p.cmd.SysProcAttr = endsWithParent()
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	go func() {
		defer close(p.lines)
		p.read(out)
	}()
	return p
}

// read takes note of what was promised. A line that the kill has cut wasn't said.
func (p *process) read(out io.Reader) {
	in := bufio.NewReader(out)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		seq, id, ok := strings.Cut(strings.TrimSpace(line), " ")
		if was, there := p.r.promised[seq]; !ok || there {
			p.r.t.Errorf("%q, and before under that seq %q", line, was)
		}
		p.r.promised[seq] = id
		p.taken++
	}
}

// kill kills it, and says how many events it had taken.
func (p *process) kill() int {
	p.r.t.Helper()
	_ = p.cmd.Process.Kill()
	if err := p.wait(); p.cmd.ProcessState.Exited() || p.stderr.Len() > 0 {
		p.r.t.Errorf("it ended with %v\n%s", err, p.stderr)
	}
	return p.taken
}

func (p *process) wait() error {
	<-p.lines
	return p.cmd.Wait()
}

// compareSpool holds what was promised against the log, of which so many entries are read, and returns how many
// events of the source there are. Their numbers rise; an audit counts the gaps.
func (r *spoolRun) compareSpool(s *server, size uint64) (total int) {
	t := r.t
	t.Helper()
	c, err := client.New(client.Config{URL: s.url, Token: r.tokens["read"]})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	logged := map[string]string{}
	last := uint64(0)
	for next := uint64(0); next < size; {
		err := c.Openings(t.Context(), next, int(min(size-next, 10_000)), func(line client.OpeningLine) error {
			o, err := seal.ParseOpening(line.Opening)
			if err != nil {
				return err
			}
			next = line.Index + 1
			e := o.Event()
			if e.Text("/source") != spoolSource {
				return nil
			}
			total++
			logged[e.Text("/seq")] = e.Text("/id")
			seq, err := strconv.ParseUint(e.Text("/seq"), 10, 64)
			if err != nil || seq <= last {
				t.Errorf("entry %d has seq %s, after %d", line.Index, e.Text("/seq"), last)
			}
			last = seq
			if a, ok := event.ReadAccount(e); ok && a.Action == event.ActionHeartbeat && a.Count != uint64(total)-1 {
				t.Errorf("entry %d: %+v, after %d events", line.Index, a, total-1)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for seq, id := range r.promised {
		if logged[seq] != id {
			t.Errorf("promised was seq %s for %s; logged is %q", seq, id, logged[seq])
		}
	}
	return total
}

// audit returns what an audit says of the source, and the log's size.
func (r *spoolRun) audit(s *server) (verifier.SourceReport, uint64) {
	r.t.Helper()
	source, err := verifier.NewHTTPLog(verifier.HTTPConfig{URL: s.url + "/logs/audit", Token: r.tokens["read"]})
	if err != nil {
		r.t.Fatal(err)
	}
	report, err := verifier.Audit(r.t.Context(), verifier.AuditConfig{Source: source, Openings: source, Policy: r.policy})
	if err != nil {
		r.t.Fatalf("audit: %v\n%+v", err, report)
	}
	i := slices.IndexFunc(report.Sources, func(s verifier.SourceReport) bool { return s.Source == spoolSource })
	if i < 0 {
		r.t.Fatalf("the audit doesn't know the source: %+v", report.Sources)
	}
	return report.Sources[i], report.Size
}

// queue opens a queue in this process.
func (r *spoolRun) queue(tb testing.TB, change func(*client.QueueConfig)) *client.Queue {
	tb.Helper()
	c, err := client.New(client.Config{URL: r.url, Token: r.tokens["submit"], Policy: r.policy})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(c.Close)
	cfg := client.QueueConfig{Dir: r.spool, Source: spoolSource, Heartbeat: -1, MinBackoff: 5 * time.Millisecond, MaxBackoff: 20 * time.Millisecond}
	if change != nil {
		change(&cfg)
	}
	q, err := c.OpenQueue(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { q.Close() })
	return q
}

// TestSpoolLogDown has the log down while many events are spooled, and then back. PROOFTRAIL_SPOOL_EVENTS sets
// how many; the long run is
//
//	PROOFTRAIL_SPOOL_EVENTS=100000 go test ./cmd/prooftrail -run TestSpoolLogDown -timeout 1h -v
func TestSpoolLogDown(t *testing.T) {
	n := 3000
	if text := os.Getenv("PROOFTRAIL_SPOOL_EVENTS"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatalf("PROOFTRAIL_SPOOL_EVENTS: %v", err)
		}
	}
	r := newSpoolRun(t)
	q := r.queue(t, nil)
	events := usualEvents(t, n)
	began := time.Now()
	fill(t, q, events)
	filled := time.Since(began)
	if st := q.Stats(); st.Waiting != uint64(n) || st.Logged != 0 {
		t.Fatalf("%+v", st)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	server := r.start()
	began = time.Now()
	q = r.queue(t, nil)
	if err := q.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d events: %.0f/s into the spool, %.0f/s out of it", n, float64(n)/filled.Seconds(), float64(n)/time.Since(began).Seconds())
	if st := q.Stats(); st.Logged != uint64(n) || st.Duplicates != 0 {
		t.Errorf("%+v", st)
	}
	r.check(server, true)
	if got := r.compareSpool(server, uint64(len(r.log.leaves))); got != n {
		t.Errorf("%d events in the log", got)
	}
}

// usualEvents are events of usual size for 8 goroutines, which the queue is to number.
func usualEvents(tb testing.TB, n int) (all [8][]event.Event) {
	for i := range all {
		gen := load.NewGenerator(spoolSource, uint64(i)+1, time.Now)
		for len(all[i]) < (n+7-i)/8 {
			var e event.Event
			if err := json.Unmarshal(gen.Append(nil), &e); err != nil {
				tb.Fatal(err)
			}
			e.Seq = ""
			all[i] = append(all[i], e)
		}
	}
	return all
}

// fill enqueues events from 8 goroutines, and returns how long each took, in order.
func fill(tb testing.TB, q *client.Queue, events [8][]event.Event) []time.Duration {
	tb.Helper()
	var wg sync.WaitGroup
	var took [8][]time.Duration
	for i, own := range events {
		wg.Go(func() {
			for _, e := range own {
				began := time.Now()
				if _, err := q.Enqueue(tb.Context(), e, client.BestEffort); err != nil {
					tb.Error(err)
					return
				}
				took[i] = append(took[i], time.Since(began))
			}
		})
	}
	wg.Wait()
	all := slices.Concat(took[:]...)
	slices.Sort(all)
	return all
}

// BenchmarkDrain empties a spool of usual events into a log of its own, on the same cores.
func BenchmarkDrain(b *testing.B) {
	dir := b.TempDir()
	address, err := porttest.Address()
	if err != nil {
		b.Fatal(err)
	}
	logDir := filepath.Join(dir, "log")
	if out, err := exec.Command("prooftrail", "init", "--data", logDir, "--origin", "example.com/audit", "--source", "cron://").CombinedOutput(); err != nil {
		b.Fatalf("init: %v\n%s", err, out)
	}
	policy, err := readPolicy(filepath.Join(logDir, "policy.txt"))
	if err != nil {
		b.Fatal(err)
	}
	token, err := os.ReadFile(filepath.Join(logDir, "tokens", "submit.token"))
	if err != nil {
		b.Fatal(err)
	}
	r := &spoolRun{killRun: &killRun{policy: policy, tokens: map[string]string{"submit": strings.TrimSpace(string(token))}}, url: "http://" + address, spool: filepath.Join(dir, "spool")}
	q := r.queue(b, nil)
	fill(b, q, usualEvents(b, b.N))
	if err := q.Close(); err != nil {
		b.Fatal(err)
	}
	serve := exec.Command("prooftrail", "serve", "--data", logDir, "--listen", address)
	serve.SysProcAttr = endsWithParent()
	if err := serve.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() { _ = serve.Process.Kill(); _ = serve.Wait() }()
	if err := waitStatus(b.Context(), r.url+"/readyz", "200"); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	q = r.queue(b, nil)
	if err := q.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkEnqueue is from 8 goroutines, with events of usual size and no log to be had.
func BenchmarkEnqueue(b *testing.B) {
	r := &spoolRun{killRun: &killRun{tokens: map[string]string{}}, url: "http://127.0.0.1:1", spool: filepath.Join(b.TempDir(), "spool")}
	_, vkey, err := note.GenerateKey(nil, "example.com/audit")
	if err == nil {
		r.policy, err = verifier.ParsePolicy([]byte("log " + vkey + "\nquorum none\n"))
	}
	if err != nil {
		b.Fatal(err)
	}
	q := r.queue(b, func(c *client.QueueConfig) {
		c.MinBackoff, c.MaxBackoff, c.MaxBytes = time.Hour, time.Hour, 100<<30
		c.MaxEvents = 1 << 30
	})
	events := usualEvents(b, b.N)
	b.ResetTimer()
	took := fill(b, q, events)
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}
