package personality

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/personality/mysqldb"
	"github.com/prooftrail/prooftrail/personality/mysqldb/mariadbtest"
	"github.com/prooftrail/prooftrail/personality/pubstore"
)

// restore puts a copy of a data directory in its place.
func restore(t *testing.T, from, to string) {
	t.Helper()
	check(t, os.RemoveAll(to))
	check(t, os.CopyFS(to, os.DirFS(from)))
	check(t, os.Chmod(to, 0o700))
	check(t, os.Chmod(filepath.Join(to, keyFile), 0o600))
}

// TestMigrateHeldCopyBack: between two runs an older copy of the old log goes on in its place, and
// then the storage that has moved comes back. The new log doesn't begin behind what was signed.
func TestMigrateHeldCopyBack(t *testing.T) {
	m := newMove(t, "embedded", "embedded", 20)
	backup, held := m.cfg.Dir+".backup", m.cfg.Dir+".held"
	check(t, os.CopyFS(backup, os.DirFS(m.cfg.Dir)))
	m.dieAt("old", "hold", 0, true)
	check(t, os.Rename(m.cfg.Dir, held))
	restore(t, backup, m.cfg.Dir)
	m.open(nil)
	m.fill("later", 5)
	m.close()
	check(t, os.RemoveAll(m.cfg.Dir))
	check(t, os.Rename(held, m.cfg.Dir))
	m.mustNotMove(ErrNotMigrated, "the store is an older copy")
}

// TestMigrateHeldReplay: the same, by somebody who writes to the database.
func TestMigrateHeldReplay(t *testing.T) {
	m := newMove(t, "mysql", "embedded", 20)
	s, db := mariadbtest.Shared(t), m.databaseName()
	root := s.Root(t, db)
	do := func(statement string) {
		t.Helper()
		if _, err := root.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	do("CREATE TABLE free AS SELECT * FROM prooftrail_head")
	m.dieAt("old", "append", 0, false)
	do("CREATE TABLE held AS SELECT * FROM prooftrail_head")
	do("REPLACE INTO prooftrail_head SELECT * FROM free")
	m.open(nil)
	m.fill("later", 5)
	m.close()
	do("REPLACE INTO prooftrail_head SELECT * FROM held")
	do("DELETE FROM SequencedLeafData WHERE SequenceNumber >= (SELECT size FROM held)")
	m.mustNotMove(ErrNotMigrated, "the store is an older copy")
}

// TestMigrateOldCopyMeanwhile: a copy from before the move, put back at any time from which on the
// new log may sign, refuses.
func TestMigrateOldCopyMeanwhile(t *testing.T) {
	for _, step := range []string{"event", "name"} {
		m := newMove(t, "embedded", "embedded", 20)
		backup := m.cfg.Dir + ".backup"
		check(t, os.CopyFS(backup, os.DirFS(m.cfg.Dir)))
		m.interruptAt(step, false)
		restore(t, backup, m.cfg.Dir)
		there := m.to.cfg
		there.Anchor = there.Dir + ".anchor"
		there.Dir += ".migrating"
		if !m.canSign(there) {
			t.Errorf("before %s: the new log can't sign", step)
		}
		m.open(nil)
		m.mustRefuse("is missing")
		m.close()
	}
}

// slowToken is a store that stores a token only once it is let.
type slowToken struct {
	pubstore.Store
	reached, gate chan struct{}
}

func (s slowToken) PutToken(ctx context.Context, tok pubstore.Token, hold string) error {
	close(s.reached)
	<-s.gate
	return s.Store.PutToken(ctx, tok, hold)
}

// TestMigrateTokens: a token that a forgotten server ends while the log moves is ended in both
// or in none, and whoever asked for it is told.
func TestMigrateTokens(t *testing.T) {
	for _, crash := range []bool{false, true} {
		m := newMove(t, "mysql", "embedded", 20)
		reached, gate := make(chan struct{}), make(chan struct{})
		m.open(func(p *parts) { p.store = slowToken{p.store, reached, gate} })
		tok := must(m.svc.Authenticate(t.Context(), m.token))
		answer := make(chan error, 1)
		go func() { answer <- m.svc.RevokeToken(t.Context(), OperatorCaller(), tok.ID) }()
		<-reached
		for !m.svc.drained() { // the event of it
			<-time.After(time.Millisecond)
		}
		if crash {
			m.dieAt("new", "hold", 0, false)
		} else if _, err := Migrate(t.Context(), m.config()); err != nil {
			t.Fatal(err)
		}
		close(gate)
		if err := <-answer; !errors.Is(err, ErrUnavailable) {
			t.Errorf("the revocation after the move: %v", err)
		}
		if crash {
			if _, err := Migrate(t.Context(), m.config()); err != nil {
				t.Fatal(err)
			}
		}
		m.abandon()
		m.to.open(nil)
		if _, err := m.to.svc.Authenticate(t.Context(), m.token); err != nil {
			t.Errorf("the token, whose end was answered with an error: %v", err)
		}
		m.to.close()
	}
}

// TestMigrateNamedTooSoon: a directory that was given its name by hand isn't taken for the end
// of the move.
func TestMigrateNamedTooSoon(t *testing.T) {
	m := newMove(t, "embedded", "embedded", 20)
	m.dieAt("new", "hold", 0, false)
	check(t, os.Rename(m.to.cfg.Dir+".migrating", m.to.cfg.Dir))
	if _, err := Migrate(t.Context(), m.config()); !errors.Is(err, ErrNotMigrated) || !strings.Contains(err.Error(), "rename it to") {
		t.Fatal(err)
	}
	check(t, os.Rename(m.to.cfg.Dir, m.to.cfg.Dir+".migrating"))
	m.migrate()
}

// TestMigrateReplayedHold: the hold of the new log's beginning, put back by SQL, is named as what
// it is: an older copy.
func TestMigrateReplayedHold(t *testing.T) {
	m := newMove(t, "embedded", "mysql", 20)
	s, db := mariadbtest.Shared(t), m.to.databaseName()
	m.dieAt("new", "hold", 0, false)
	s.Exec(t, "CREATE TABLE "+db+".h AS SELECT * FROM "+db+".prooftrail_head")
	m.migrate()
	m.to.open(nil)
	m.to.mustSubmit("x", "x")
	s.Exec(t, "REPLACE INTO "+db+".prooftrail_head SELECT * FROM "+db+".h")
	_, _ = m.to.svc.Checkpoint(t.Context()) // it looks
	m.to.mustRefuse("the store is an older copy")
	m.to.close()
	m.to.open(nil)
	m.to.mustRefuse("the store is an older copy")
	m.to.close()
}

// TestMigrateOtherTables: the tables of another log, which an older program made, aren't touched.
func TestMigrateOtherTables(t *testing.T) {
	s := mariadbtest.Shared(t)
	m := newMove(t, "embedded", "mysql", 5)
	other, db := newDatabaseLog(t, s)
	s.Exec(t, "ALTER TABLE "+db+".prooftrail_head DROP COLUMN hold", "DELETE FROM "+db+".goose_db_version WHERE version_id >= 3")
	m.to.cfg.Database = other.cfg.Database
	if _, err := Migrate(t.Context(), m.config()); !errors.Is(err, pubstore.ErrExists) {
		t.Errorf("onto another log: %v", err)
	}
	d := must(mysqldb.Open(*other.cfg.Database))
	defer func() { check(t, d.Close()) }()
	if err := mysqldb.CheckSchema(t.Context(), d); !errors.Is(err, mysqldb.ErrSchema) || !strings.Contains(err.Error(), "version 2") {
		t.Errorf("its tables afterwards: %v", err)
	}
}

// TestMigrateAnchorPlace: a place where the new anchor can't be is refused before anything is copied.
func TestMigrateAnchorPlace(t *testing.T) {
	m := newMove(t, "embedded", "embedded", 5)
	for _, place := range []string{m.cfg.Dir + ".anchor" + movedSuffix, filepath.Join(m.to.cfg.Dir, "anchor"), m.cfg.Dir + ".anchor"} {
		m.to.cfg.Anchor = place
		m.mustNotMove(ErrNotMigrated, "anchor")
	}
	m.to.cfg.Anchor = filepath.Join(t.TempDir(), "none", "anchor")
	if _, err := Migrate(t.Context(), m.config()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("in a directory that isn't there: %v", err)
	}
}

// TestMigrateInterrupted: an interrupt after the old log has ended doesn't keep the new one from
// beginning.
func TestMigrateInterrupted(t *testing.T) {
	m := newMove(t, "mysql", "embedded", 5)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := m.migrateWith(ctx, func(run *migration) {
		run.change = func(old bool, p *parts) {
			if old {
				p.store = holdHook{p.store, cancel}
			}
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	there := m.to.cfg
	there.Anchor = there.Dir + ".anchor"
	there.Dir += ".migrating"
	if m.canSign(m.cfg) || !m.canSign(there) {
		t.Errorf("the old log can sign: %t, the new one: %t", m.canSign(m.cfg), m.canSign(there))
	}
	m.migrate()
}
