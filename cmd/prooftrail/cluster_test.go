package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// parts are the processes of deployment/cluster.sh that a log is kept in.
type parts struct {
	dir     string
	program string
}

// startParts starts them. They end with the test.
func startParts(t *testing.T) *parts {
	t.Helper()
	program, err := exec.LookPath("prooftrail")
	if err != nil {
		t.Fatal(err)
	}
	c := &parts{dir: filepath.Join(t.TempDir(), "cluster"), program: program}
	t.Cleanup(func() {
		if t.Failed() {
			for _, name := range []string{"mariadb", "etcd", "server-1", "server-2", "signer-1", "signer-2"} {
				b, _ := os.ReadFile(filepath.Join(c.dir, name, "log"))
				t.Logf("%s said:\n%s", name, b[max(0, len(b)-2000):])
			}
		}
		if out, err := c.script("down"); err != nil {
			t.Errorf("cluster.sh down: %v\n%s", err, out)
		}
	})
	c.up(t, "--storage")
	return c
}

func (c *parts) script(act string, args ...string) (string, error) {
	cmd := exec.Command("bash", append([]string{filepath.Join("..", "..", "deployment", "cluster.sh"), act, c.dir}, args...)...)
	cmd.Env = append(os.Environ(), "PROOFTRAIL="+c.program)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// up starts what is named again.
func (c *parts) up(t *testing.T, what string) {
	t.Helper()
	if out, err := c.script("up", what); err != nil {
		t.Fatalf("cluster.sh up %s: %v\n%s", what, err, out)
	}
}

// file is a line of a file of the cluster's.
func (c *parts) file(t *testing.T, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(append([]string{c.dir}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// where are the flags for a log that is kept there.
func (c *parts) where(t *testing.T) []string {
	t.Helper()
	return []string{
		"--storage", "trillian", "--mysql-dsn", "prooftrail@tcp(" + c.file(t, "mariadb", "addr") + ")/prooftrail",
		"--mysql-password-file", filepath.Join(c.dir, "mariadb", "prooftrail.password"),
		"--trillian", c.file(t, "server-1", "addr") + "," + c.file(t, "server-2", "addr"), "--trillian-ca", filepath.Join(c.dir, "tls", "ca.crt"),
	}
}

// signal sends a signal to one of them.
func (c *parts) signal(t *testing.T, name string, sig syscall.Signal) {
	t.Helper()
	pid, err := strconv.Atoi(c.file(t, name, "pid"))
	if err == nil {
		err = syscall.Kill(pid, sig)
	}
	if err != nil {
		t.Fatalf("%v to %s: %v", sig, name, err)
	}
}

// TestKillOnCluster is TestKill for a log on a cluster.
func TestKillOnCluster(t *testing.T) {
	t.Parallel()
	k := newKillRun(t, filepath.Join(t.TempDir(), "log"), startParts(t).where(t)...)
	k.late = true
	k.kill(8)
}

// clusterFaults says how long the faults of TestFaultsOnCluster last.
type clusterFaults struct {
	stopped time.Duration // a process that is stopped
	signer  bool          // nobody helps when a signer is killed: another comes in after a minute
}

// faultsOfCluster is what CI has time for, or with PROOFTRAIL_CLUSTER=long all of it, in ten
// minutes:
//
//	PROOFTRAIL_CLUSTER=long go test ./cmd/prooftrail -run TestFaultsOnCluster -timeout 30m -v
func faultsOfCluster() clusterFaults {
	if os.Getenv("PROOFTRAIL_CLUSTER") == "long" {
		return clusterFaults{stopped: 20 * time.Second, signer: true}
	}
	return clusterFaults{stopped: 2 * time.Second}
}

// TestFaultsOnCluster: two servers on a Trillian cluster, all its parts as processes, under
// load. Each part is killed and started again, or stopped for a while. After each, every
// answered event is there once, the whole log verifies at both servers, and they serve
// again by themselves.
func TestFaultsOnCluster(t *testing.T) {
	t.Parallel() // most of it is waiting
	c, long := startParts(t), faultsOfCluster()
	p := newPair(t, c.where(t)...)
	kill := func(name string) {
		p.fault(name+" is killed", func() {
			c.signal(p.t, name, syscall.SIGKILL)
			if long.signer && strings.HasPrefix(name, "signer") {
				return // started again below
			}
			<-time.After(time.Second)
			c.up(p.t, name)
		})
		if long.signer && strings.HasPrefix(name, "signer") {
			c.up(t, name)
		}
	}
	for _, name := range []string{"mariadb", "etcd", "server-1", "server-2", "signer-1", "signer-2"} {
		kill(name)
		if strings.HasSuffix(name, "-2") && long.stopped < 20*time.Second {
			continue
		}
		p.fault(fmt.Sprintf("%s is stopped for %v", name, long.stopped), func() {
			c.signal(p.t, name, syscall.SIGSTOP)
			<-time.After(long.stopped)
			c.signal(p.t, name, syscall.SIGCONT)
		})
	}
	for i := range p.servers {
		p.fault(fmt.Sprintf("serve %d is killed", i+1), func() {
			p.server(i).end(p.t, syscall.SIGKILL)
			p.replace(i, nil)
		})
	}
	p.fault(fmt.Sprintf("serve 2 is stopped for %v", long.stopped), func() {
		s := p.server(1)
		p.replace(1, nil)
		pause(p.t, s, long.stopped)
		p.replace(1, s)
	})
	for _, s := range p.servers {
		s.end(t, syscall.SIGTERM)
	}
}
