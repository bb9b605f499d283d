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

	"github.com/cockroachdb/pebble/v2"

	"github.com/prooftrail/prooftrail/personality/mysqldb"
	"github.com/prooftrail/prooftrail/personality/mysqldb/mariadbtest"
	"github.com/prooftrail/prooftrail/personality/pubstore"
	"github.com/prooftrail/prooftrail/personality/tree"
)

// mustNotMove checks that the migration is refused.
func (m *move) mustNotMove(want error, says string) {
	m.t.Helper()
	_, err := Migrate(m.t.Context(), m.config())
	if !errors.Is(err, want) || !strings.Contains(err.Error(), says) {
		m.t.Fatalf("got %v; want %v, with %q", err, want, says)
	}
}

// database is the name of a log's database.
func (l *testLog) databaseName() string {
	return l.cfg.Database.DSN[strings.LastIndex(l.cfg.Database.DSN, "/")+1:]
}

// TestMigrateRefuses: what isn't to be moved, or not to there.
func TestMigrateRefuses(t *testing.T) {
	s := mariadbtest.Shared(t)
	for name, c := range map[string]struct {
		from, to string
		arrange  func(m *move)
		want     error
		says     string
	}{
		"the directory exists":   {"embedded", "mysql", func(m *move) { check(m.t, os.Mkdir(m.to.cfg.Dir, 0o700)) }, fs.ErrExist, "new directory"},
		"its own directory":      {"embedded", "embedded", func(m *move) { m.to.cfg = m.cfg; m.to.cfg.Anchor += "2" }, fs.ErrExist, "new directory"},
		"a directory in its own": {"embedded", "mysql", func(m *move) { m.to.cfg.Dir = filepath.Join(m.cfg.Dir, "new") }, ErrNotMigrated, "in the old log's directory"},
		"its own anchor":         {"embedded", "mysql", func(m *move) { m.to.cfg.Anchor = m.cfg.Anchor }, ErrNotMigrated, "anchor of both"},
		"a link to its own anchor": {"embedded", "mysql", func(m *move) {
			m.to.cfg.Anchor = m.cfg.Anchor + "2"
			check(m.t, os.Link(m.cfg.Anchor, m.to.cfg.Anchor))
		}, ErrNotMigrated, "anchor of both"},
		"its own database": {"mysql", "mysql", func(m *move) { m.to.cfg.Database = m.cfg.Database }, ErrNotMigrated, "same storage"},
		"a copy of its database": {"mysql", "mysql", func(m *move) { s.Copy(m.t, m.databaseName(), m.to.databaseName()) },
			ErrNotMigrated, "copy of the other"},
		"another log's database": {"embedded", "mysql", func(m *move) {
			other, _ := newDatabaseLog(m.t, s)
			m.to.cfg.Database = other.cfg.Database
		}, ErrNotMigrated, "another log"},
		"another log's anchor": {"embedded", "mysql", func(m *move) {
			m.to.cfg.Anchor = newTestLog(m.t).cfg.Anchor
		}, ErrNotMigrated, "belongs to another log"},
		"an anchor ahead": {"embedded", "mysql", func(m *move) {
			m.to.cfg.Anchor = m.cfg.Anchor + "2"
			check(m.t, createAnchor(m.to.cfg.Anchor, m.vkey, pubstore.Head{Size: 1000}))
		}, ErrNotMigrated, "aren't the old log's"},
		"another key is there": {"embedded", "mysql", func(m *move) {
			check(m.t, os.Mkdir(m.to.cfg.Dir+".migrating", 0o700))
			check(m.t, os.WriteFile(filepath.Join(m.to.cfg.Dir+".migrating", keyFile), []byte("x"), 0o600))
		}, ErrNotMigrated, "another key"},
		"a log that refuses": {"embedded", "mysql", func(m *move) { check(m.t, os.Remove(m.cfg.Anchor)) }, ErrNotMigrated, "is missing"},
		"a log on its way": {"embedded", "mysql", func(m *move) {
			m.interruptAt("anchor", false)
			m.cfg = m.to.cfg
			m.cfg.Anchor = m.cfg.Dir + ".anchor"
			m.cfg.Dir += ".migrating"
			m.to.cfg = storedIn(m.t, "embedded")
		}, ErrNotMigrated, "being moved here from the old place"},
		"a log that has moved elsewhere": {"embedded", "mysql", func(m *move) {
			m.migrate()
			m.to.cfg = storedIn(m.t, "embedded")
		}, ErrNotMigrated, "this log has moved to the new place"},
		"the new directory is gone": {"embedded", "mysql", func(m *move) {
			m.dieAt("new", "hold", 0, false)
			check(m.t, os.RemoveAll(m.to.cfg.Dir+".migrating"))
		}, ErrNotMigrated, "isn't there"},
		"the new database is gone": {"embedded", "mysql", func(m *move) {
			m.dieAt("new", "hold", 0, false)
			s.Exec(m.t, "DROP DATABASE "+m.to.databaseName(), "CREATE DATABASE "+m.to.databaseName())
		}, ErrNotMigrated, "nothing of it is there"},
		"no log at all": {"embedded", "mysql", func(m *move) { m.cfg.Dir += "-none" }, fs.ErrNotExist, "a log is made by init"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMove(t, c.from, c.to, 5)
			c.arrange(m)
			m.mustNotMove(c.want, c.says)
		})
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestMigrateTampered: somebody writes to the new storage between two runs. It isn't taken
// over, and the old log goes on; where the old one is held already, nobody does.
func TestMigrateTampered(t *testing.T) {
	sql := map[string]string{
		"a tile":               "UPDATE prooftrail_tile SET data = INSERT(data, 33, 1, CHAR(ASCII(SUBSTRING(data, 33, 1)) ^ 1)) WHERE level = 0 AND n = 0",
		"the edge's tile":      "UPDATE prooftrail_tile SET data = INSERT(data, 1, 1, CHAR(ASCII(SUBSTRING(data, 1, 1)) ^ 1)) WHERE level = 0 AND n = 1",
		"an upper tile":        "UPDATE prooftrail_tile SET data = INSERT(data, 1, 1, CHAR(ASCII(SUBSTRING(data, 1, 1)) ^ 1)) WHERE level = 1",
		"a tile too many":      "INSERT INTO prooftrail_tile VALUES (0, 1, (SELECT 40), REPEAT('x', 32))",
		"a bundle":             "UPDATE prooftrail_bundle SET data = INSERT(data, 20, 1, CHAR(ASCII(SUBSTRING(data, 20, 1)) ^ 1)) WHERE n = 0",
		"a bundle less":        "DELETE FROM prooftrail_bundle WHERE n = 0",
		"an identity less":     "DELETE FROM prooftrail_identity WHERE idx = 7",
		"an identity":          "UPDATE prooftrail_identity SET idx = 8 WHERE idx = 7",
		"an opening":           "UPDATE prooftrail_opening SET opening = INSERT(opening, 300, 1, CHAR(ASCII(SUBSTRING(opening, 300, 1)) ^ 1)) WHERE idx = 7",
		"another's opening":    "UPDATE prooftrail_opening a JOIN prooftrail_opening b ON b.idx = 8 SET a.opening = b.opening WHERE a.idx = 7",
		"an opening less":      "DELETE FROM prooftrail_opening WHERE idx = 7",
		"the hold":             "UPDATE prooftrail_head SET hold = ''",
		"the head's size":      "UPDATE prooftrail_head SET size = size - 1",
		"the head's MAC":       "UPDATE prooftrail_head SET mac = REPEAT('x', 32)",
		"a token more":         "INSERT INTO prooftrail_token SELECT 'zz', token FROM prooftrail_token LIMIT 1",
		"a source key more":    "INSERT INTO prooftrail_source_key SELECT 'zz', source_key FROM prooftrail_source_key LIMIT 1",
		"the parameters":       `UPDATE prooftrail_log SET params = REPLACE(params, '"name":"audit"', '"name":"other"')`,
		"a leaf":               "UPDATE LeafData SET LeafValue = INSERT(LeafValue, 20, 1, CHAR(ASCII(SUBSTRING(LeafValue, 20, 1)) ^ 1)) WHERE LeafIdentityHash = (SELECT LeafIdentityHash FROM SequencedLeafData WHERE SequenceNumber = 7)",
		"a leaf less":          "DELETE FROM SequencedLeafData WHERE SequenceNumber = 7",
		"two leaves exchanged": "UPDATE SequencedLeafData SET SequenceNumber = 1000 - SequenceNumber WHERE SequenceNumber = 7; UPDATE SequencedLeafData SET SequenceNumber = 7 WHERE SequenceNumber = 8; UPDATE SequencedLeafData SET SequenceNumber = 8 WHERE SequenceNumber = 993",
	}
	for what, statement := range sql {
		for _, held := range []bool{false, true} {
			if testing.Short() && held {
				continue
			}
			t.Run(fmt.Sprintf("%s, held %v", what, held), func(t *testing.T) {
				t.Parallel()
				m := newMove(t, "embedded", "mysql", 290)
				m.dieAt(map[bool]string{false: "step", true: "new"}[held], map[bool]string{false: "anchor", true: "hold"}[held], 0, false)
				if _, err := mariadbtest.Shared(t).Root(t, m.to.databaseName()).ExecContext(t.Context(), statement); err != nil {
					t.Fatal(err)
				}
				m.mustNotMove(tampered(what), "")
				if m.canSign(m.cfg) == held {
					t.Errorf("the old log goes on: %v", !held)
				}
			})
		}
	}
}

// TestMigrateTamperedFiles is the same for an embedded one, and for a tree with more leaves.
func TestMigrateTamperedFiles(t *testing.T) {
	for what, do := range map[string]func(db *pebble.DB, tr tree.Tree, store pubstore.Store) error{
		"a tile": func(db *pebble.DB, _ tree.Tree, _ pubstore.Store) error {
			return db.Merge(append([]byte("pt"), make([]byte, 9)...), make([]byte, 32), pebble.Sync)
		},
		"a bundle less": func(db *pebble.DB, _ tree.Tree, _ pubstore.Store) error {
			return db.Delete(append([]byte("pe"), make([]byte, 8)...), pebble.Sync)
		},
		"a leaf more": func(_ *pebble.DB, tr tree.Tree, store pubstore.Store) error {
			head := must(store.Head(context.Background()))
			return tr.Append(context.Background(), []tree.Leaf{{Index: head.Size, Value: []byte("x"), IdentityHash: [32]byte{1}}})
		},
		"a leaf more, integrated": func(_ *pebble.DB, tr tree.Tree, store pubstore.Store) error {
			head := must(store.Head(context.Background()))
			err := tr.Append(context.Background(), []tree.Leaf{{Index: head.Size, Value: []byte("x"), IdentityHash: [32]byte{1}}})
			_, integrated := tr.Integrate(context.Background(), head.Size+1)
			return errors.Join(err, integrated)
		},
	} {
		t.Run(what, func(t *testing.T) {
			m := newMove(t, "mysql", "embedded", 290)
			m.interruptAt("anchor", false)
			building := *m.to
			building.cfg.Dir += ".migrating"
			building.database(func(db *pebble.DB, tr tree.Tree, store pubstore.Store) { check(t, do(db, tr, store)) })
			m.mustNotMove(ErrNotMigrated, "")
			if !m.canSign(m.cfg) {
				t.Error("the old log doesn't go on")
			}
		})
	}
}

// TestMigrateTamperedSource: what isn't as it was published isn't moved.
func TestMigrateTamperedSource(t *testing.T) {
	for what, statement := range map[string]string{
		"a leaf":           "UPDATE LeafData SET LeafValue = INSERT(LeafValue, 20, 1, CHAR(ASCII(SUBSTRING(LeafValue, 20, 1)) ^ 1)) WHERE LeafIdentityHash = (SELECT LeafIdentityHash FROM SequencedLeafData WHERE SequenceNumber = 7)",
		"a leaf less":      "DELETE FROM SequencedLeafData WHERE SequenceNumber = 7",
		"a tile":           "UPDATE prooftrail_tile SET data = INSERT(data, 33, 1, CHAR(ASCII(SUBSTRING(data, 33, 1)) ^ 1)) WHERE level = 0 AND n = 0",
		"an identity":      "UPDATE prooftrail_identity SET idx = 8 WHERE idx = 7",
		"an identity less": "DELETE FROM prooftrail_identity WHERE idx = 7",
	} {
		t.Run(what, func(t *testing.T) {
			m := newMove(t, "mysql", "embedded", 290)
			_, err := mariadbtest.Shared(t).Root(t, m.databaseName()).ExecContext(t.Context(), statement)
			check(t, err)
			m.mustNotMove(tampered(what), "")
		})
	}
}

// tampered is the error that shows it. That a leaf is missing may pass, for all that is known
// of a database server.
func tampered(what string) error {
	if what == "a leaf less" {
		return tree.ErrCorrupt
	}
	return ErrNotMigrated
}

// TestMigrateInUse: another process has its turn, or wants it, or has a head of its own: it
// isn't robbed, and what it was answered for is in the log that moves in the end.
func TestMigrateInUse(t *testing.T) {
	t.Run("has its turn", func(t *testing.T) {
		m := newMove(t, "mysql", "embedded", 5)
		db := must(mysqldb.Open(*m.cfg.Database))
		defer db.Close()
		lock := mysqldb.NewLock(db, sequencingLock, time.Hour)
		must(lock.Acquire(t.Context()))
		m.mustNotMove(ErrInUse, "stop its servers")
		check(t, lock.Close())
		m.migrate()
		m.mustHaveMoved()
	})
	t.Run("wants its turn", func(t *testing.T) {
		m := newMove(t, "mysql", "embedded", 5)
		m.open(nil)
		answered := make(chan Result, 1)
		_, err := m.migrateWith(t.Context(), func(run *migration) {
			run.step = func(name string, f func() error) error {
				if name == "anchor" {
					go func() { answered <- m.submit(submitter("default"), "late", "x", Integrated) }()
					for run.alone(t.Context()) == nil {
						<-time.After(time.Millisecond)
					}
				}
				return f()
			}
		})
		if !errors.Is(err, ErrInUse) {
			t.Fatalf("%v, want ErrInUse", err)
		}
		r := <-answered
		m.told.add(t, "late", r)
		m.close()
		m.migrate()
		m.mustHaveMoved()
	})
	t.Run("has published without its turn", func(t *testing.T) {
		m := newMove(t, "mysql", "mysql", 5)
		m.open(turnless(nil))
		m.mustBeInUseAt("anchor", func() { m.fill("late", 1) })
		m.close()
		m.migrate()
		m.mustHaveMoved()
	})
	t.Run("is idle", func(t *testing.T) {
		m := newMove(t, "mysql", "embedded", 5)
		m.open(nil)
		m.migrate()
		must(m.svc.Checkpoint(t.Context())) // looks for what others did
		m.mustRefuse("this log has moved")
		m.close()
		m.mustHaveMoved()
	})
}

// turnless has a service believe all the time that it is its turn, and keep appending back
// until hold is closed.
func turnless(hold chan struct{}) func(*parts) {
	return func(p *parts) {
		turnsOf(p, new(localLock), new(localLock), true)
		if hold != nil {
			p.tree = heldTree{p.tree, hold}
		}
	}
}

// mustBeInUseAt runs the migration, does something at one of its steps, and expects that it
// finds the log in use.
func (m *move) mustBeInUseAt(step string, do func()) {
	m.t.Helper()
	_, err := m.migrateWith(m.t.Context(), func(run *migration) {
		run.step = func(name string, f func() error) error {
			if name == step {
				do()
			}
			return f()
		}
	})
	if !errors.Is(err, ErrInUse) {
		m.t.Fatalf("%v, want ErrInUse", err)
	}
}

// holdHook calls after when the head has been held.
type holdHook struct {
	pubstore.Store
	after func()
}

func (s holdHook) SetHold(ctx context.Context, old, held pubstore.SealedHead) error {
	err := s.Store.SetHold(ctx, old, held)
	if held.Hold != "" {
		s.after()
	}
	return err
}

// TestMigrateFence: a server that was stopped in the middle of a batch goes on while the old
// log is being ended. What it answers for is in the log.
func TestMigrateFence(t *testing.T) {
	t.Run("before the fence", func(t *testing.T) {
		m := newMove(t, "mysql", "embedded", 5)
		release := make(chan struct{})
		m.open(turnless(release))
		late := must(m.svc.Admit(t.Context(), submitter("default"), Submission{Event: eventJSON("late", "x")}))
		var r Result
		_, err := m.migrateWith(t.Context(), func(run *migration) {
			run.change = func(old bool, p *parts) {
				if old {
					p.store = holdHook{p.store, func() {
						close(release)
						r = late.Wait(t.Context(), Durable)
					}}
				}
			}
		})
		if !errors.Is(err, ErrInUse) {
			t.Fatalf("%v, want ErrInUse", err)
		}
		if r.Err != nil {
			t.Fatalf("the late event: %+v", r)
		}
		m.told.add(t, "late", r)
		m.close()
		m.migrate()
		m.mustHaveMoved()
	})
	t.Run("after the fence", func(t *testing.T) {
		m := newMove(t, "mysql", "embedded", 5)
		release := make(chan struct{})
		m.open(turnless(release))
		late := must(m.svc.Admit(t.Context(), submitter("default"), Submission{Event: eventJSON("late", "x")}))
		m.migrate()
		close(release)
		if r := late.Wait(t.Context(), Durable); !errors.Is(r.Err, ErrUnavailable) && !errors.Is(r.Err, ErrRefusing) {
			t.Errorf("the late event: %+v", r)
		}
		m.mustRefuse("this log has moved")
		m.close()
		m.mustHaveMoved()
	})
}
