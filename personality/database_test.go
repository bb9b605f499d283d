package personality

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/personality/mysqldb"
	"github.com/prooftrail/prooftrail/personality/mysqldb/mariadbtest"
)

func TestMain(m *testing.M) { os.Exit(mariadbtest.Run(m)) }

// newDatabaseLog makes a log in a database of its own on a server.
func newDatabaseLog(t *testing.T, s *mariadbtest.Server) (l *testLog, database string) {
	t.Helper()
	l, database = &testLog{t: t, cfg: testConfig(t)}, s.Database(t)
	l.cfg.Database = &mysqldb.Config{DSN: s.DSN(database), Password: mariadbtest.Password}
	l.create()
	return l, database
}

// openProcesses opens n services on one log in a database, as n processes would: each has
// its own connections, and all share the anchor's file.
func openProcesses(t *testing.T, s *mariadbtest.Server, n int, change func(i int, p *parts)) (l *several, database string) {
	t.Helper()
	l = &several{}
	l.testLog, database = newDatabaseLog(t, s)
	l.openProcesses(n, change)
	return l, database
}

// openProcesses opens n services on the log, as n processes would.
func (l *several) openProcesses(n int, change func(i int, p *parts)) {
	l.t.Helper()
	l.t.Cleanup(func() { l.close() })
	for i := range n {
		svc, err := l.tryOpen(func(p *parts) {
			if change != nil {
				change(i, p)
			}
		})
		if err != nil {
			l.t.Fatal(err)
		}
		l.svcs = append(l.svcs, svc)
	}
}

// restarts opens the log, uses it and closes it, so many times.
func (l *testLog) restarts(times int) {
	l.t.Helper()
	for round := range times {
		l.open(nil)
		for i := range 5 {
			l.mustSubmit(fmt.Sprintf("e%d-%d", round, i), "x")
		}
		if r := l.submit(submitter("default"), "e0-0", "x", Integrated); r.Status != StatusDuplicate || r.Index != 0 {
			l.t.Errorf("again: %+v", r)
		}
		if r := l.submit(submitter("default"), "e0-1", "y", Integrated); r.Status != StatusConflict || r.Index != 1 {
			l.t.Errorf("another: %+v", r)
		}
		l.mustAudit()
		l.close()
	}
}

// TestDatabase: a log in a database does what one in a directory does, across restarts.
func TestDatabase(t *testing.T) {
	l, _ := newDatabaseLog(t, mariadbtest.Shared(t))
	l.restarts(3)
	if _, err := Create(t.Context(), CreateConfig{Config: l.cfg, Origin: testOrigin}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("made again: %v", err)
	}
	elsewhere := l.cfg
	elsewhere.Dir, elsewhere.Anchor = filepath.Join(t.TempDir(), "other"), ""
	if _, err := Create(t.Context(), CreateConfig{Config: elsewhere, Origin: "example.com/other"}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("another log in the same database: %v", err)
	}
	for _, left := range []string{elsewhere.Dir, elsewhere.Dir + ".anchor", elsewhere.Dir + ".creating"} {
		if _, err := os.Lstat(left); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left behind: %v", left, err)
		}
	}
}

// TestProcesses: several processes on one database, each taking writes; an id that is sent
// to two of them is one entry.
func TestProcesses(t *testing.T) {
	l, _ := openProcesses(t, mariadbtest.Shared(t), 3, nil)
	l.crowd(8, 12)
}

// TestProcessesThatLoseTheirTurn: the same while connections are killed at random, those
// that hold the lock among them.
func TestProcessesThatLoseTheirTurn(t *testing.T) {
	s := mariadbtest.Shared(t)
	l, database := openProcesses(t, s, 2, nil)
	ctx, stop := context.WithCancel(t.Context())
	killed, admin := make(chan int), s.Root(t, "")
	go func() {
		n := 0
		for ; ctx.Err() == nil; <-time.After(20 * time.Millisecond) {
			var id int64
			err := admin.QueryRowContext(ctx, "SELECT id FROM information_schema.processlist WHERE db = ? ORDER BY RAND() LIMIT 1", database).Scan(&id)
			if err == nil {
				_, _ = admin.ExecContext(ctx, fmt.Sprintf("KILL CONNECTION %d", id))
				n++
			}
		}
		killed <- n
	}()
	got := l.submitAll(6, 50)
	stop()
	if n := <-killed; n < 5 {
		t.Errorf("only %d connections were killed", n)
	}
	l.checkAll(got, 300)
}

// TestOtherKey: a process with another key, or of another log, doesn't start on a database.
func TestOtherKey(t *testing.T) {
	s := mariadbtest.Shared(t)
	l, _ := newDatabaseLog(t, s)
	other, _ := newDatabaseLog(t, s)
	other.cfg.Database = l.cfg.Database
	if _, err := other.tryOpen(nil); err == nil || !strings.Contains(err.Error(), "signing key") {
		t.Errorf("with another key: %v", err)
	}
	l.open(nil)
	l.mustSubmit("a", "x")
}

// TestFurtherAnchor: a process may have an anchor of its own, which is made on purpose and
// not by opening the log.
func TestFurtherAnchor(t *testing.T) {
	l, _ := newDatabaseLog(t, mariadbtest.Shared(t))
	l.open(nil)
	l.mustSubmit("a", "x")
	second := *l
	second.svc, second.cfg.Anchor = nil, filepath.Join(t.TempDir(), "second.anchor")
	if second.open(nil); !second.svc.Ready(t.Context()).Refusing {
		t.Fatal("it goes on without its anchor")
	}
	second.close()
	if size, err := CreateAnchor(t.Context(), second.cfg); err != nil || size != 1 {
		t.Fatalf("size %d, %v", size, err)
	}
	if _, err := CreateAnchor(t.Context(), second.cfg); !errors.Is(err, fs.ErrExist) {
		t.Errorf("made again: %v", err)
	}
	second.open(nil)
	second.mustSubmit("b", "x")
	l.mustSubmit("c", "x")
	l.mustAudit()
}

// TestDatabaseGone: readiness tells that the database is gone, though nobody sends an
// event, and that it is back.
func TestDatabaseGone(t *testing.T) {
	s := mariadbtest.Start(t)
	l, _ := newDatabaseLog(t, s)
	l.cfg.MaxLag = time.Second
	l.open(nil)
	l.mustSubmit("a", "x")
	become := func(ready bool) {
		t.Helper()
		for began := time.Now(); l.svc.Ready(t.Context()).Ready != ready; <-time.After(20 * time.Millisecond) {
			if time.Since(began) > 15*time.Second {
				t.Fatalf("ready: %t", !ready)
			}
		}
	}
	s.Kill(t)
	become(false)
	if r := l.svc.Ready(t.Context()); r.Refusing || r.Reason != "events can't be stored" {
		t.Errorf("%+v", r)
	}
	s.Restart(t)
	become(true)
	l.mustSubmit("b", "x")
	l.mustAudit()
}
