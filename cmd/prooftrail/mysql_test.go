package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/personality/mysqldb/mariadbtest"
)

// onMySQL returns the flags for a log in a new database of a server.
func onMySQL(t *testing.T, s *mariadbtest.Server) (where []string, database string) {
	t.Helper()
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte(mariadbtest.Password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	database = s.Database(t)
	return []string{"--storage", "mysql", "--mysql-dsn", s.DSN(database), "--mysql-password-file", password}, database
}

// TestKillOnMySQL is TestKill for a log in a database.
func TestKillOnMySQL(t *testing.T) {
	t.Parallel()
	where, _ := onMySQL(t, mariadbtest.Shared(t))
	newKillRun(t, filepath.Join(t.TempDir(), "log"), where...).kill(8)
}

// pair is two servers on one log, under load.
type pair struct {
	*killRun

	mu      sync.Mutex
	servers [2]*server // nil: it doesn't run
}

// newPair makes a log and starts two servers on it.
func newPair(t *testing.T, where ...string) *pair {
	t.Helper()
	p := &pair{killRun: newKillRun(t, filepath.Join(t.TempDir(), "log"), where...)}
	p.reorders, p.late = true, true
	for i := range p.servers {
		p.servers[i] = p.start()
	}
	return p
}

// mysqlPair is two servers on one database.
type mysqlPair struct {
	*pair
	db       *mariadbtest.Server
	admin    *sql.DB
	database string
	proxy    *proxy // between the servers and the database
}

func newMySQLPair(t *testing.T) *mysqlPair {
	t.Helper()
	p := &mysqlPair{db: mariadbtest.Start(t)}
	p.admin = p.db.Root(t, "")
	p.proxy = newProxy(t, p.db.Addr())
	where, database := onMySQL(t, p.db)
	for i := range where {
		where[i] = strings.Replace(where[i], p.db.Addr(), p.proxy.addr(), 1)
	}
	p.pair, p.database = newPair(t, where...), database
	return p
}

// server returns the i-th server, or the other where that doesn't run.
func (p *pair) server(i int) *server {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.servers[i%2]; s != nil {
		return s
	}
	return p.servers[(i+1)%2]
}

// replace puts a server, or none, in the place of the i-th.
func (p *pair) replace(i int, s *server) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.servers[i] = s
}

// answeredSince waits until every sender has been answered anew.
func (p *pair) answeredSince(counts []atomic.Int64) {
	p.t.Helper()
	before := make([]int64, len(counts))
	for i := range counts {
		before[i] = counts[i].Load()
	}
	for began := time.Now(); ; <-time.After(5 * time.Millisecond) {
		waiting := -1
		for i := range counts {
			if counts[i].Load() == before[i] {
				waiting = i
			}
		}
		if waiting < 0 {
			return
		}
		if time.Since(began) > 2*time.Minute {
			p.t.Fatalf("sender %d gets no answer\n%s\n%s", waiting, p.server(0).stderr, p.server(1).stderr)
		}
	}
}

// fault has all senders send to both servers, does something to one of the parts, waits
// until everybody is answered again, and checks the whole log at both. It says how long that
// took after the fault's end.
func (p *pair) fault(name string, do func()) {
	outer := p.t
	outer.Run(name, func(t *testing.T) {
		p.t = t
		defer func() { p.t = outer }()
		counts := make([]atomic.Int64, len(p.senders))
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for i, s := range p.senders {
			wg.Go(func() { p.sendOn(ctx, i, s, &counts[i]) })
		}
		p.answeredSince(counts)
		do()
		ended := time.Now()
		p.answeredSince(counts)
		recovered := time.Since(ended)
		stop()
		wg.Wait()
		for i := range p.servers {
			if p.servers[i] == nil {
				p.t = outer // a server ends with the test that has started it
				p.servers[i] = p.start()
				p.t = t
			}
			p.ready(p.servers[i])
		}
		for i := range p.servers {
			p.published(p.servers[i])
		}
		for i := range p.servers {
			p.check(p.servers[i], i == 1)
		}
		p.sendAgain(p.servers[0])
		t.Logf("everybody was answered again %s after it; %d entries", recovered.Round(time.Millisecond), len(p.log.leaves))
	})
	if p.t.Failed() {
		p.t.FailNow()
	}
}

// ready waits until a server says that it is.
func (p *pair) ready(s *server) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	if err := waitStatus(ctx, s.url+"/readyz", "200"); err != nil {
		p.t.Fatalf("%v\n%s", err, s.stderr)
	}
}

// published waits until a server has published all that it stored: what it has answered
// without a receipt too.
func (p *pair) published(s *server) {
	p.t.Helper()
	for began := time.Now(); ; <-time.After(20 * time.Millisecond) {
		var r struct {
			Stored    uint64 `json:"tree_size"`
			Published uint64 `json:"published_size"`
		}
		reply, err := http.Get(s.url + "/readyz")
		if err == nil {
			err = errors.Join(json.NewDecoder(reply.Body).Decode(&r), reply.Body.Close())
		}
		if err == nil && r.Stored == r.Published {
			return
		}
		if time.Since(began) > time.Minute {
			p.t.Fatalf("%+v, %v\n%s", r, err, s.stderr)
		}
	}
}

// sendOn has one sender send until ctx ends: to its server, or the other where that is gone.
// What isn't answered is sent again.
func (p *pair) sendOn(ctx context.Context, i int, s *sender, count *atomic.Int64) {
	for ctx.Err() == nil {
		to := p.server(i)
		c := p.client(to, s.wait)
		for ctx.Err() == nil && p.server(i) == to {
			n, ok := s.sendOnce(to, c)
			count.Add(int64(n))
			if !ok {
				<-time.After(20 * time.Millisecond)
			}
		}
		c.Close()
	}
}

// TestFaultsOnMySQL: each part of two servers on one database is killed, or stopped for a
// while, or has its connections cut, under load. After each, every answered event is there
// once, the whole log verifies at both servers, and they serve again by themselves.
func TestFaultsOnMySQL(t *testing.T) {
	t.Parallel() // most of it is waiting
	p := newMySQLPair(t)
	p.fault("the database is killed", func() {
		p.db.Kill(t)
		<-time.After(time.Second)
		p.db.Restart(t)
	})
	p.fault("a server is killed", func() {
		s := p.server(0)
		s.end(t, syscall.SIGKILL)
		p.replace(0, nil)
	})
	p.fault("the other is killed", func() {
		s := p.server(1)
		s.end(t, syscall.SIGKILL)
		p.replace(1, nil)
	})
	p.fault("a server is stopped for 20 s", func() {
		s := p.server(1)
		p.replace(1, nil)
		pause(t, s, 20*time.Second)
		p.replace(1, s)
	})
	p.fault("the database is stopped for 20 s", func() {
		p.db.Pause(t)
		<-time.After(20 * time.Second)
		p.db.Resume(t)
	})
	p.fault("connections are cut, again and again", func() {
		for range 40 {
			p.cutConnections(t)
			<-time.After(50 * time.Millisecond)
		}
	})
	p.fault("answers of the database are lost, again and again", func() {
		for range 30 {
			p.proxy.loseAnswers()
			<-time.After(100 * time.Millisecond)
		}
	})
	p.fault("each answer of the database takes 30 ms more", func() {
		p.proxy.delay.Store(int64(30 * time.Millisecond))
		<-time.After(5 * time.Second)
		p.proxy.delay.Store(0)
	})
	p.fault("the database is read-only for a while", func() {
		p.db.Exec(t, "SET GLOBAL read_only = ON")
		<-time.After(2 * time.Second)
		p.db.Exec(t, "SET GLOBAL read_only = OFF")
	})
	for _, s := range p.servers {
		s.end(t, syscall.SIGTERM)
	}
}

// pause stops a server for a while.
func pause(t *testing.T, s *server, long time.Duration) {
	t.Helper()
	for _, sig := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGCONT} {
		if err := s.cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if sig == syscall.SIGSTOP {
			<-time.After(long)
		}
	}
}

// cutConnections ends all connections to the database but the one by which it does.
func (p *mysqlPair) cutConnections(t *testing.T) {
	t.Helper()
	rows, err := p.admin.QueryContext(t.Context(), "SELECT id FROM information_schema.processlist WHERE db = ?", p.database)
	if err != nil {
		t.Fatal(err)
	}
	var kills []string
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			t.Fatal(err)
		}
		kills = append(kills, fmt.Sprintf("KILL CONNECTION %d", id))
	}
	if err := rows.Close(); err != nil {
		t.Fatal(err)
	}
	for _, k := range kills {
		_, _ = p.admin.ExecContext(t.Context(), k) // it may have ended
	}
}

// What a log in a database is started with is checked, and no password is ever shown.
func TestMySQLFlags(t *testing.T) {
	where, _ := onMySQL(t, mariadbtest.Shared(t))
	dir := filepath.Join(t.TempDir(), "log")
	run := func(want int, says string, args ...string) {
		t.Helper()
		var stdout, stderr strings.Builder
		code := Run(t.Context(), args, strings.NewReader(""), &stdout, &stderr)
		if code != want || !strings.Contains(stderr.String(), says) {
			t.Errorf("%q: exit code %d, %s; want %d, %s", args, code, stderr.String(), want, says)
		}
		if all := stdout.String() + stderr.String(); strings.Contains(all, mariadbtest.Password) {
			t.Errorf("%q shows the password: %s", args, all)
		}
	}
	with := func(args ...string) []string { return slices.Concat(args, where) }
	open := filepath.Join(t.TempDir(), "open")
	if err := os.WriteFile(open, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	run(2, "expected no password", "init", "--data", dir, "--origin", "o.example", "--storage", "mysql", "--mysql-dsn", "u:"+mariadbtest.Password+"@tcp(127.0.0.1:1)/d")
	run(2, "--mysql-dsn", "init", "--data", dir, "--origin", "o.example", "--storage", "mysql")
	run(2, "storage is neither mysql nor trillian", "init", "--data", dir, "--origin", "o.example", "--mysql-dsn", "u@tcp(127.0.0.1:1)/d")
	run(2, "expected embedded, mysql or trillian", "init", "--data", dir, "--origin", "o.example", "--storage", "paper")
	run(2, "others may read it", "init", "--data", dir, "--origin", "o.example", "--storage", "mysql", "--mysql-dsn", "u@tcp(127.0.0.1:1)/d", "--mysql-password-file", open)
	run(2, "needs --trillian", "init", "--data", dir, "--origin", "o.example", "--storage", "trillian", "--mysql-dsn", "u@tcp(127.0.0.1:1)/d")
	run(2, "--mysql-dsn", "init", "--data", dir, "--origin", "o.example", "--storage", "trillian", "--trillian", "127.0.0.1:1")
	run(2, "storage isn't trillian", "init", "--data", dir, "--origin", "o.example", "--storage", "mysql", "--mysql-dsn", "u@tcp(127.0.0.1:1)/d", "--trillian", "127.0.0.1:1")
	run(2, "it needs TLS", "init", "--data", dir, "--origin", "o.example", "--storage", "trillian", "--mysql-dsn", "u@tcp(127.0.0.1:1)/d", "--trillian", "127.0.0.1:1,log.invalid:2")
	run(2, "want host:port", "init", "--data", dir, "--origin", "o.example", "--storage", "trillian", "--mysql-dsn", "u@tcp(127.0.0.1:1)/d", "--trillian", "127.0.0.1:1,")
	run(2, "positive id", "init", "--data", dir, "--origin", "o.example", "--trillian-tree", "7")
	run(2, "expected TLS", "init", "--data", dir, "--origin", "o.example", "--storage", "mysql", "--mysql-dsn", "u@tcp(db.invalid:1)/d")
	run(2, "connection refused", "init", "--data", dir, "--origin", "o.example", "--storage", "mysql", "--mysql-dsn", "u@tcp(127.0.0.1:1)/d")
	if left, err := filepath.Glob(dir + "*"); err != nil || len(left) > 0 {
		t.Fatalf("left behind: %q, %v", left, err)
	}
	run(0, "made the log", with("init", "--data", dir, "--origin", "o.example")...)
	run(0, "", with("token", "add", "--data", dir, "--name", "n", "--source", "cron://", "--out", filepath.Join(dir, "n.token"))...)
	run(2, "a log is made by init", "token", "list", "--data", dir)
	run(1, "file exists", with("anchor", "--data", dir, "--anchor", dir+".anchor")...)
	run(0, "made", with("anchor", "--data", dir, "--anchor", dir+".second")...)
	run(0, "the tables are those of this version", append([]string{"schema"}, where[2:]...)...)
}
