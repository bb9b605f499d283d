package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/mod/sumdb/note"

	"github.com/prooftrail/prooftrail/cmd/internal/cli"
	"github.com/prooftrail/prooftrail/deployment/porttest"
	"github.com/prooftrail/prooftrail/verifier/client"
	"github.com/prooftrail/prooftrail/verifier/event"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

// openings ADDR TOKEN FILE writes all events of the log at ADDR that the token may see into the file, a line each
// with all fields.
func openings(ts *testscript.TestScript, _ bool, args []string) {
	policy, err := readPolicy(ts.MkAbs("log/policy.txt"))
	ts.Check(err)
	c, err := client.New(client.Config{URL: "http://" + args[0], Token: strings.TrimSpace(ts.ReadFile(args[1])), Policy: policy})
	ts.Check(err)
	defer c.Close()
	var b strings.Builder
	ctx := context.Background()
	_, cp, _, err := c.Checkpoint(ctx)
	ts.Check(err)
	for next := uint64(0); next < cp.Size; {
		ts.Check(c.Openings(ctx, next, int(cp.Size-next), func(line client.OpeningLine) error {
			next = line.Index + 1
			o, err := seal.ParseOpening(line.Opening)
			if err != nil {
				return err
			}
			for _, f := range o.Event() {
				b.WriteString(f.Pointer + "=" + string(f.Value) + " ")
			}
			b.WriteString("\n")
			return nil
		}))
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), []byte(b.String()), 0o600))
}

var runOf = regexp.MustCompile(`/action="run\.(start|finish)" .*/job/id="([^"]*)" .*/job/run_id="([^"]*)"`)

// pairs FILE JOB checks that in what openings wrote each run has one start and one finish, in this order, but for
// the runs of the job, which have no finish.
func pairs(ts *testscript.TestScript, _ bool, args []string) {
	runs := map[string][]string{} // by run: the job and what was said of it
	for _, m := range runOf.FindAllStringSubmatch(ts.ReadFile(args[0]), -1) {
		runs[m[3]] = append(runs[m[3]], m[2], m[1])
	}
	if len(runs) < 5 {
		ts.Fatalf("only %d runs", len(runs))
	}
	for id, r := range runs {
		want := []string{r[0], "start", r[0], "finish"}
		if r[0] == args[1] {
			want = want[:2]
		}
		if !slices.Equal(r, want) {
			ts.Fatalf("run %s: %q", id, r)
		}
	}
}

// TestMadeOnce: of many that make a file at once, all get the same.
func TestMadeOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	var wg sync.WaitGroup
	got := make([]string, 16)
	for i := range got {
		wg.Go(func() {
			var err error
			if got[i], err = madeOnce(file, func() string { return strings.Repeat("x", i+1) }); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got = slices.Compact(got); len(got) != 1 || got[0] == "" {
		t.Errorf("%q", got)
	}
	if all, err := os.ReadDir(filepath.Dir(file)); err != nil || len(all) != 1 {
		t.Errorf("%v, %v", all, err)
	}
}

// stuck is a standard error that nobody reads.
type stuck struct{ reached chan struct{} }

func (s stuck) Write([]byte) (int, error) {
	s.reached <- struct{}{}
	select {}
}

// TestLaneClose: a command's end isn't kept back by what exec itself is stuck at.
func TestLaneClose(t *testing.T) {
	refuses := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }))
	defer refuses.Close()
	_, vkey, err := note.GenerateKey(nil, "example.com/audit")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	policy, token := filepath.Join(dir, "policy.txt"), filepath.Join(dir, "token")
	for file, text := range map[string]string{policy: "log " + vkey + "\nquorum none\n", token: "pt_a_b\n"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	reached := make(chan struct{})
	x := execFlags{requiredWait: time.Second}
	x.server, x.timeout, x.policy, x.tokenFile = refuses.URL, time.Minute, policy, token
	x.spool, x.source = filepath.Join(dir, "spool"), "cron://host"
	l, err := x.open(&cli.Env{Stderr: stuck{reached}})
	if err != nil {
		t.Fatal(err)
	}
	e := event.Event{Action: "auth.login", Outcome: "success", Actor: event.Actor{Type: "user", ID: "ada"}, Target: []event.Target{{Type: "service", ID: "cron"}}}
	if _, err := l.queue.Enqueue(t.Context(), e, client.BestEffort); err != nil {
		t.Fatal(err)
	}
	<-reached
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		l.close()
	}()
	select {
	case <-closed:
	case <-time.After(10 * diskWait):
		t.Error("it waits")
	}
}

// TestDownFor: the log isn't asked for a minute, by a clock that may be put back.
func TestDownFor(t *testing.T) {
	dir := t.TempDir()
	l := &lane{base: dir}
	l.markDown(&client.Problem{Status: http.StatusUnauthorized})
	if isDown(dir) {
		t.Error("a log that answers is taken for one that is down")
	}
	l.markDown(errors.New("no route to host"))
	for age, want := range map[time.Duration]bool{0: true, downFor / 2: true, downFor + time.Second: false, -time.Hour: false} {
		at := time.Now().Add(-age)
		if err := os.Chtimes(downFile(dir), at, at); err != nil {
			t.Fatal(err)
		}
		if got := isDown(dir); got != want {
			t.Errorf("after %s: %v", age, got)
		}
	}
	l.markUp()
	l.markUp()
	if isDown(dir) {
		t.Error("it is up")
	}
}

// TestClientBuild: what is built for machines that run no log links nothing of one, and says so.
func TestClientBuild(t *testing.T) {
	out, err := exec.Command("go", "list", "-tags", "client", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for dep := range strings.FieldsSeq(string(out)) {
		own, isOwn := strings.CutPrefix(dep, "github.com/prooftrail/prooftrail/")
		if isOwn && !strings.HasPrefix(own, "verifier") && !strings.HasPrefix(own, "cmd/") ||
			strings.Contains(dep, "trillian") || strings.Contains(dep, "grpc") || strings.Contains(dep, "protobuf") || strings.Contains(dep, "pebble") {
			t.Errorf("it links %s", dep)
		}
	}
	bin := filepath.Join(t.TempDir(), "prooftrail")
	if out, err := exec.Command("go", "build", "-tags", "client", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	for _, c := range program.Commands {
		out, err := exec.Command(bin, c.Name, "--help").CombinedOutput()
		has := slices.Contains([]string{"submit", "exec", "get", "receipt", "checkpoint", "quarantine"}, c.Name)
		if (err == nil) != has || strings.Contains(string(out), "-tags client") == has {
			t.Errorf("%s: %v, %q", c.Name, err, out)
		}
	}
}

// BenchmarkExec measures what exec adds to a command, by running it with and without in turn, with the log up, with
// nobody listening there, and with one who never answers; for the build of machines that run no log, and for the whole program.
func BenchmarkExec(b *testing.B) {
	dir := b.TempDir()
	bins := map[string]string{}
	for name, args := range map[string][]string{"client": {"-tags", "client"}, "whole": nil} {
		bins[name] = filepath.Join(dir, name)
		build := exec.Command("go", append(append([]string{"build", "-trimpath", "-ldflags=-s -w"}, args...), "-o", bins[name], ".")...)
		build.Env = append(os.Environ(), "CGO_ENABLED=0") // as the image is built
		if out, err := build.CombinedOutput(); err != nil {
			b.Fatalf("build: %v\n%s", err, out)
		}
	}
	logDir := filepath.Join(dir, "log")
	if out, err := exec.Command(bins["whole"], "init", "--data", logDir, "--origin", "example.com/audit").CombinedOutput(); err != nil {
		b.Fatalf("init: %v\n%s", err, out)
	}
	addresses := make([]string, 2)
	for i := range addresses {
		var err error
		if addresses[i], err = porttest.Address(); err != nil {
			b.Fatal(err)
		}
	}
	serve := exec.Command(bins["whole"], "serve", "--data", logDir, "--listen", addresses[0])
	serve.SysProcAttr = endsWithParent()
	if err := serve.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() { _ = serve.Process.Kill(); _ = serve.Wait() }()
	if err := waitStatus(b.Context(), "http://"+addresses[0]+"/readyz", "200"); err != nil {
		b.Fatal(err)
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer silent.Close()
	for _, build := range []string{"client", "whole"} {
		exec1 := func(name, url string, more ...string) {
			spool := filepath.Join(dir, build+name)
			args := append([]string{"exec", "--server", url, "--token-file", filepath.Join(logDir, "tokens", "submit.token"),
				"--policy", filepath.Join(logDir, "policy.txt"), "--spool", spool, "--source", "cron://bench/" + build + name, "--job", "bench"}, more...)
			args = append(args, "--", "true")
			b.Run(build+"/"+name, func(b *testing.B) { compareRuns(b, bins[build], args) })
		}
		b.Run(build+"/nothing", func(b *testing.B) { compareRuns(b, bins[build], []string{"version"}) })
		exec1("up", "http://"+addresses[0])
		exec1("required", "http://"+addresses[0], "--required")
		exec1("down", "http://"+addresses[1])
		exec1("silent", "http://"+silent.Addr().String())
	}
}

// compareRuns runs `true`, and the program, in turn.
func compareRuns(b *testing.B, bin string, args []string) {
	var plain, with []time.Duration
	run := func(name string, args ...string) time.Duration {
		began := time.Now()
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
		return time.Since(began)
	}
	run(bin, args...) // makes the spool
	for b.Loop() {
		plain = append(plain, run("true"))
		with = append(with, run(bin, args...))
	}
	slices.Sort(plain)
	slices.Sort(with)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.ReportMetric(ms(with[len(with)/2]-plain[len(plain)/2]), "added-p50-ms")
	b.ReportMetric(ms(with[len(with)*9/10]-plain[len(plain)*9/10]), "added-p90-ms")
	b.ReportMetric(ms(plain[len(plain)/2]), "plain-p50-ms")
	b.ReportMetric(0, "ns/op") // of two runs: says nothing
}
