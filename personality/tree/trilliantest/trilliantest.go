// Package trilliantest runs Trillian's own programs for tests: log servers and signers, on
// free ports of the loopback interface, on a database that has Trillian's tables. They end
// with the test, and when its process dies.
//
// The programs are those of the version in go.mod, below .tools/ where deployment/test.sh
// builds them. They aren't of this module: they need databases and frameworks that it
// doesn't.
package trilliantest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/trillian"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/prooftrail/prooftrail/personality/tree"
)

// startTimeout is how long a program may take to answer, on a busy machine.
const startTimeout = 60 * time.Second

// TB is what is needed of a testing.TB.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Logf(format string, args ...any)
	Cleanup(f func())
	Failed() bool
	TempDir() string
}

// Database is a MySQL database with Trillian's tables.
type Database struct {
	Addr, Name, User, Password string
}

// Process is a program that runs, or ran.
type Process struct {
	program string
	args    []string
	addr    string // where it takes gRPC connections
	health  string // where it takes other connections
	log     string

	mu    sync.Mutex
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has
}

// StartServer starts a log server, which answers when this returns.
func StartServer(tb TB, db Database, args ...string) *Process {
	tb.Helper()
	return start(tb, "trillian_log_server", db, append([]string{"--quota_system=noop", "--tree_gc=false"}, args...))
}

// StartSigner starts a signer. It needs --force_master or --etcd_servers.
func StartSigner(tb TB, db Database, args ...string) *Process {
	tb.Helper()
	return start(tb, "trillian_log_signer", db, append([]string{"--quota_system=noop", "--sequencer_interval=10ms", "--num_sequencers=1"}, args...))
}

func start(tb TB, program string, db Database, args []string) *Process {
	tb.Helper()
	path, err := find(program)
	if err != nil {
		tb.Fatalf("%v", err)
	}
	dir := tb.TempDir()
	p := &Process{program: path, log: filepath.Join(dir, "log")}
	config := filepath.Join(dir, "flags")
	if err := os.WriteFile(config, []byte(db.flags()), 0o600); err != nil {
		tb.Fatalf("write flags: %v", err)
	}
	tb.Cleanup(func() {
		if err := p.end(); err != nil {
			tb.Logf("end %s: %v", program, err)
		}
		if tb.Failed() {
			tb.Logf("%s at %s said:\n%s", program, p.addr, p.Said())
		}
	})
	// Between looking for free ports and the program's taking them others may.
	for range 5 {
		if p.addr, p.health, err = freePorts(); err != nil {
			break
		}
		p.args = append([]string{"--config=" + config, "--rpc_endpoint=" + p.addr, "--http_endpoint=" + p.health}, args...)
		if err = p.run(); err == nil || !strings.Contains(p.Said(), "address already in use") {
			break
		}
	}
	if err != nil {
		tb.Fatalf("start %s: %v\n%s", program, err, p.Said())
	}
	return p
}

// flags is a file of flags: what is secret stands on no command line.
func (db Database) flags() string {
	return fmt.Sprintf("--mysql_uri='%s:%s@tcp(%s)/%s?interpolateParams=true'\n", db.User, db.Password, db.Addr, db.Name)
}

// find returns where a program is.
func find(program string) (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		gomod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if errors.Is(err, os.ErrNotExist) && dir != filepath.Dir(dir) {
			continue
		}
		if err != nil {
			return "", err
		}
		version, err := versionIn(string(gomod))
		if err != nil {
			return "", err
		}
		into := filepath.Join(dir, ".tools", program+"-"+version)
		path := filepath.Join(into, program)
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("%s is missing; build it: GOBIN=%s go install -tags mysql,etcd github.com/google/trillian/cmd/%s@%s",
				program, into, program, version)
		}
		return path, nil
	}
}

// versionIn returns the version of Trillian that a go.mod requires.
func versionIn(gomod string) (string, error) {
	for line := range strings.Lines(gomod) {
		fields := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
		if len(fields) > 1 && fields[0] == "github.com/google/trillian" {
			return fields[1], nil
		}
	}
	return "", errors.New("go.mod doesn't require github.com/google/trillian")
}

func freePorts() (one, other string, err error) {
	a, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", err
	}
	b, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", errors.Join(err, a.Close())
	}
	return a.Addr().String(), b.Addr().String(), errors.Join(a.Close(), b.Close())
}

// run starts the program and waits until it takes connections.
func (p *Process) run() error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(p.program, p.args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // not for the terminal's interrupt
	dieWithParent(cmd.SysProcAttr)
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ended doesn't matter
		close(ended)
	}()
	p.mu.Lock()
	p.cmd, p.ended = cmd, ended
	p.mu.Unlock()
	for began := time.Now(); time.Since(began) < startTimeout; <-time.After(10 * time.Millisecond) {
		select {
		case <-ended:
			return errors.New("it ended at once")
		default:
		}
		if takes(p.addr) && takes(p.health) {
			return nil
		}
	}
	return fmt.Errorf("it takes no connections after %v", startTimeout)
}

func takes(addr string) bool {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}

// AddLeaf stores one leaf through a log server, wherever its index is: also past a hole, as
// two writers can leave one.
func (p *Process) AddLeaf(ctx context.Context, treeID int64, leaf tree.Leaf) error {
	conn, err := grpc.NewClient(p.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	reply, err := trillian.NewTrillianLogClient(conn).AddSequencedLeaves(ctx, &trillian.AddSequencedLeavesRequest{
		LogId: treeID, Leaves: []*trillian.LogLeaf{{LeafIndex: int64(leaf.Index), LeafValue: leaf.Value, LeafIdentityHash: leaf.IdentityHash[:]}},
	})
	if err == nil {
		err = status.FromProto(reply.GetResults()[0].GetStatus()).Err()
	}
	return errors.Join(err, conn.Close())
}

// Addr is where the program takes gRPC connections, host:port.
func (p *Process) Addr() string { return p.addr }

// Pid is the number of the process.
func (p *Process) Pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd.Process.Pid
}

// Said returns the end of what the program logged.
func (p *Process) Said() string {
	const most = 4000
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-most):])
}

// Kill ends the program at once, as a crash would, and waits until it is gone.
func (p *Process) Kill(tb TB) {
	tb.Helper()
	if err := p.end(); err != nil {
		tb.Fatalf("kill process %d: %v", p.Pid(), err)
	}
}

// Restart starts the program again, after Kill, on the same ports.
func (p *Process) Restart(tb TB) {
	tb.Helper()
	if err := p.run(); err != nil {
		tb.Fatalf("restart %s: %v", p.program, err)
	}
}

// Pause stops the program where it is, with its connections open, as a machine that hangs
// would.
func (p *Process) Pause(tb TB) { tb.Helper(); p.signal(tb, syscall.SIGSTOP) }

// Resume lets a paused program go on.
func (p *Process) Resume(tb TB) { tb.Helper(); p.signal(tb, syscall.SIGCONT) }

// Stop asks the program to end, and waits until it has.
func (p *Process) Stop(tb TB) {
	tb.Helper()
	p.signal(tb, syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(startTimeout):
		tb.Fatalf("process %s goes on %v after it was asked to end", strconv.Itoa(p.Pid()), startTimeout)
	}
}

func (p *Process) signal(tb TB, sig syscall.Signal) {
	tb.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.cmd.Process.Signal(sig); err != nil {
		tb.Fatalf("send %v: %v", sig, err)
	}
}

// end kills the process if it runs.
func (p *Process) end() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return nil
	}
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-p.ended
	return nil
}
