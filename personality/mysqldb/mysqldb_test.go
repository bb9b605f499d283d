package mysqldb

import (
	"context"
	"crypto/tls"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/personality/mysqldb/mariadbtest"
)

func TestMain(m *testing.M) { os.Exit(mariadbtest.Run(m)) }

// open opens an empty database of the shared server.
func open(t *testing.T) (*sql.DB, string) {
	t.Helper()
	s := mariadbtest.Shared(t)
	name := s.Database(t)
	return openAt(t, s, name), name
}

func openAt(t *testing.T, s *mariadbtest.Server, database string) *sql.DB {
	t.Helper()
	db, err := Open(Config{DSN: s.DSN(database), Password: mariadbtest.Password})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// What a DSN may not say is refused by name, and no refusal shows a password.
func TestDSN(t *testing.T) {
	for dsn, want := range map[string]string{
		"u@tcp(127.0.0.1:3306)/db":                        "",
		"u@tcp([::1]:3306)/db?timeout=1s&readTimeout=2s":  "",
		"u@tcp(localhost:3306)/db":                        "",
		"u@unix(/run/mysqld.sock)/db":                     "",
		"u@tcp(db.example:3306)/db?tls=true":              "",
		"u@tcp(db.example:3306)/db":                       "expected TLS",
		"u@tcp(192.0.2.1:3306)/db?tls=false":              "expected TLS",
		"u@tcp(db.example:3306)/db?tls=skip-verify":       "parameter tls",
		"u@tcp(db.example:3306)/db?tls=preferred":         "parameter tls",
		"u:hunter2@tcp(127.0.0.1:3306)/db":                "expected no password",
		"@tcp(127.0.0.1:3306)/db":                         "expected a user",
		"u@tcp(127.0.0.1:3306)/":                          "expected a database",
		"u@udp(127.0.0.1:3306)/db":                        "expected tcp or unix",
		"hunter2":                                         "expected user@tcp",
		"u@tcp(127.0.0.1:3306)/db?interpolateParams=true": `parameter "interpolateParams"`,
		"u@tcp(127.0.0.1:3306)/db?multiStatements=true":   `parameter "multiStatements"`,
		"u@tcp(127.0.0.1:3306)/db?autocommit=0":           `parameter "autocommit"`,
		"u@tcp(127.0.0.1:3306)/db?timeout=hunter2":        "expected user@tcp",
		strings.Repeat("u", 2000):                         "1024",
	} {
		_, err := Open(Config{DSN: dsn, Password: "hunter2"})
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || !errors.Is(err, ErrConfig)) {
			t.Errorf("%s: %v, want %q", dsn, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the refusal shows a password: %v", err)
		}
	}
	for _, cfg := range []Config{{Insecure: true}, {TLS: &tls.Config{}}} {
		cfg.DSN = "u@tcp(db.example:3306)/db"
		if _, err := Open(cfg); err != nil {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}

// FuzzDSN: whatever is taken is without a password, names a user and a database, and
// has none of the parameters that are ours.
func FuzzDSN(f *testing.F) {
	f.Add("u@tcp(127.0.0.1:3306)/db?timeout=1s")
	f.Add("u:p@unix(/s)/db?tls=true&x=y")
	f.Add("u@tcp(h:1)/d%2Fb?readTimeout=1s?tls=true")
	f.Fuzz(func(t *testing.T, dsn string) {
		c, err := parseDSN(dsn)
		if err != nil {
			return
		}
		if c.Passwd != "" || c.User == "" || c.DBName == "" || c.MultiStatements || c.InterpolateParams || c.AllowAllFiles ||
			c.AllowCleartextPasswords || c.AllowOldPasswords || c.ClientFoundRows || len(c.Params) > 0 {
			t.Errorf("%q was taken: %+v", dsn, c)
		}
	})
}

// The session is what the storage relies on, whatever the server's defaults are.
func TestSession(t *testing.T) {
	db, _ := open(t)
	var mode string
	if err := db.QueryRowContext(t.Context(), "SELECT @@sql_mode").Scan(&mode); err != nil {
		t.Fatal(err)
	}
	if mode != strings.Trim(sqlMode, "'") {
		t.Errorf("sql_mode %s", mode)
	}
}

// A server that wouldn't keep what it has committed is refused, with the statement that
// mends it; and that statement does.
func TestCheckServer(t *testing.T) {
	s := mariadbtest.Start(t, "--log-bin=binlog", "--sync-binlog=1")
	db := openAt(t, s, s.Database(t))
	check := func(want string) {
		t.Helper()
		warnings, err := CheckServer(t.Context(), db)
		if want == "" && (err != nil || len(warnings) > 0) {
			t.Errorf("%v, %v", warnings, err)
		}
		if want != "" && (err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, ErrConfig)) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	check("")
	for _, set := range append(settings, binlogSetting) {
		if set.fix == "" {
			continue // of the server's start: below
		}
		wrong := map[string]string{"innodb_flush_log_at_trx_commit": "2", "max_allowed_packet": "1048576", "read_only": "ON", "sync_binlog": "0"}[set.name]
		s.Exec(t, "SET GLOBAL "+set.name+" = "+wrong)
		check(set.fix)
		s.Exec(t, set.fix)
		check("")
	}
	s2 := mariadbtest.Start(t, "--skip-innodb-doublewrite", "--sync-binlog=0")
	db = openAt(t, s2, s2.Database(t))
	check("innodb_doublewrite is OFF, expected ON")
}

// Migrate makes the tables once, whoever calls it and how often; what is too old or too
// new is refused.
func TestMigrate(t *testing.T) {
	db, _ := open(t)
	ctx := t.Context()
	if err := CheckSchema(ctx, db); !errors.Is(err, ErrSchema) || !strings.Contains(err.Error(), "init") {
		t.Errorf("an empty database: %v", err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := Migrate(context.Background(), db); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := CheckSchema(ctx, db); err != nil {
		t.Error(err)
	}
	exec := func(q string) {
		t.Helper()
		if _, err := db.ExecContext(ctx, q); err != nil {
			t.Fatal(err)
		}
	}
	exec("DELETE FROM goose_db_version WHERE version_id > 1")
	if err := CheckSchema(ctx, db); !errors.Is(err, ErrSchema) || !strings.Contains(err.Error(), "schema") {
		t.Errorf("an older version: %v", err)
	}
	exec("INSERT INTO goose_db_version (version_id, is_applied) VALUES (2, 1), (9, 1)")
	for _, err := range []error{CheckSchema(ctx, db), Migrate(ctx, db)} {
		if !errors.Is(err, ErrSchema) || !strings.Contains(err.Error(), "newer") {
			t.Errorf("a newer version: %v", err)
		}
	}
}

// TestMigrateCutOff: Migrate is cut off behind each statement of each version, and before
// goose has noted anything; the next one ends with the same tables.
func TestMigrateCutOff(t *testing.T) {
	s := mariadbtest.Shared(t)
	db, name := open(t)
	if err := Migrate(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	want := describe(t, s, name)
	cut := func(before int64, statements []string) {
		t.Helper()
		db, name := open(t)
		p, err := provider(db)
		if err != nil {
			t.Fatal(err)
		}
		if before < 0 {
			_, err = db.ExecContext(t.Context(), "CREATE TABLE goose_db_version (id SERIAL, version_id BIGINT NOT NULL, is_applied BOOLEAN NOT NULL, tstamp TIMESTAMP NULL DEFAULT NOW())")
		} else if _, err = p.GetDBVersion(t.Context()); err == nil && before > 0 {
			_, err = p.UpTo(t.Context(), before)
		}
		if err != nil {
			t.Fatal(err)
		}
		root := s.Root(t, name)
		root.SetMaxOpenConns(1)
		for _, st := range statements {
			if _, err := root.ExecContext(t.Context(), st); err != nil {
				t.Fatalf("%s: %v", st, err)
			}
		}
		if err := errors.Join(Migrate(t.Context(), db), CheckSchema(t.Context(), db)); err != nil {
			t.Fatalf("version %d, %d statements: %v", before+1, len(statements), err)
		}
		got := describe(t, s, name)
		if !maps.Equal(got, want) {
			t.Errorf("version %d, %d statements: other tables", before+1, len(statements))
		}
	}
	cut(-1, nil)
	files, err := migrations.ReadDir("migrations")
	if err != nil {
		t.Fatal(err)
	}
	for version, f := range files {
		text, err := migrations.ReadFile("migrations/" + f.Name())
		if err != nil {
			t.Fatal(err)
		}
		statements := strings.SplitAfter(string(text), ";\n")
		for n := range statements[:len(statements)-1] {
			cut(int64(version), statements[:n+1])
		}
	}
	cut(2, []string{"ALTER TABLE prooftrail_head ADD COLUMN hold VARBINARY(4096) NOT NULL DEFAULT ''"})
}

// Trillian's tables are those of the module in use: an upgrade that changes them needs a
// migration of ours.
func TestTrillianTables(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/google/trillian").Output()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "storage", "mysql", "schema", "storage.sql"))
	if err != nil {
		t.Fatal(err)
	}
	s := mariadbtest.Shared(t)
	theirs := s.Database(t)
	if _, err := s.Root(t, theirs).ExecContext(t.Context(), string(b)); err != nil {
		t.Fatal(err)
	}
	db, ours := open(t)
	if err := Migrate(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	want, got := describe(t, s, theirs), describe(t, s, ours)
	if len(want) < 60 {
		t.Fatalf("only %d columns and keys in Trillian's storage.sql", len(want))
	}
	for line := range want {
		if !got[line] {
			t.Errorf("Trillian has, and we haven't: %s", line)
		}
	}
	for line := range got {
		if !want[line] && !strings.Contains(line, "prooftrail_") && !strings.Contains(line, "goose_") {
			t.Errorf("we have, and Trillian hasn't: %s", line)
		}
	}
}

// describe returns a line for each column and each key of a database's tables.
func describe(t *testing.T, s *mariadbtest.Server, database string) map[string]bool {
	t.Helper()
	lines := map[string]bool{}
	for _, q := range []string{
		`SELECT CONCAT_WS(' ', 'column', table_name, column_name, ordinal_position, column_type, is_nullable, IFNULL(column_default, 'none'), IFNULL(collation_name, 'none'), extra)
			FROM information_schema.columns WHERE table_schema = ?`,
		`SELECT CONCAT_WS(' ', 'index', table_name, index_name, seq_in_index, column_name, non_unique) FROM information_schema.statistics WHERE table_schema = ?`,
		`SELECT CONCAT_WS(' ', 'foreign', k.table_name, k.constraint_name, k.column_name, k.referenced_table_name, k.referenced_column_name, r.delete_rule)
			FROM information_schema.key_column_usage k JOIN information_schema.referential_constraints r USING (constraint_schema, constraint_name)
			WHERE k.table_schema = ? AND k.referenced_table_name IS NOT NULL`,
	} {
		rows, err := s.Root(t, "").QueryContext(t.Context(), q, database)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var line string
			if err := rows.Scan(&line); err != nil {
				t.Fatal(err)
			}
			lines[line] = true
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			t.Fatal(err)
		}
	}
	return lines
}

// The lock is one process's at a time, goes in turn, and shows the server's clock.
func TestLock(t *testing.T) {
	db, _ := open(t)
	const holders, turns = 4, 25
	var inside, total int
	var last [holders]int
	var wg, connected sync.WaitGroup
	connected.Add(holders)
	for h := range holders {
		l := NewLock(db, "test", time.Minute)
		wg.Go(func() {
			defer l.Close()
			_, err := l.Acquire(context.Background())
			if err == nil {
				err = l.Release(context.Background())
			}
			connected.Done()
			if err != nil {
				t.Error(err)
				return
			}
			connected.Wait() // whoever still connects isn't waiting for its turn
			for range turns {
				now, err := l.Acquire(context.Background())
				if d := time.Since(now).Abs(); err != nil || d > time.Minute {
					t.Errorf("%v, the clock is %s off", err, d)
					return
				}
				if inside++; inside != 1 {
					t.Error("two hold the lock")
				}
				total++
				last[h] = total
				inside--
				if err := l.Release(context.Background()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if total != holders*turns {
		t.Errorf("%d turns", total)
	}
	for h, at := range last { // in turn: none is done long before the others
		if at < holders*turns/2 {
			t.Errorf("holder %d had its last turn as number %d of %d", h, at, total)
		}
	}
}

// Held tells of others, and not of oneself.
func TestLockHeld(t *testing.T) {
	db, _ := open(t)
	one, two := NewLock(db, "test", time.Minute), NewLock(db, "test", time.Minute)
	defer one.Close()
	defer two.Close()
	held := func(l *Lock, want bool) {
		t.Helper()
		if got, err := l.Held(t.Context()); err != nil || got != want {
			t.Errorf("held: %v, %v; want %v", got, err, want)
		}
	}
	held(two, false)
	if _, err := one.Acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
	held(one, false)
	held(two, true)
	if err := one.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	held(two, false)
}

// Who waits is seen; who gives up isn't any more; the lock of another database is another.
func TestLockWanted(t *testing.T) {
	db, _ := open(t)
	other, _ := open(t)
	a, b, c := NewLock(db, "test", time.Minute), NewLock(db, "test", time.Minute), NewLock(other, "test", time.Minute)
	for _, l := range []*Lock{a, b, c} {
		defer l.Close()
	}
	wanted := func(want bool) {
		t.Helper()
		for began := time.Now(); ; <-time.After(5 * time.Millisecond) {
			got, err := a.Wanted(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got == want {
				return
			}
			if time.Since(began) > 10*time.Second {
				t.Fatalf("wanted: %t", got)
			}
		}
	}
	for _, l := range []*Lock{a, c} {
		if _, err := l.Acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	wanted(false)
	ctx, cancel := context.WithCancel(t.Context())
	gaveUp := make(chan error)
	go func() { _, err := b.Acquire(ctx); gaveUp <- err }()
	wanted(true)
	cancel()
	if err := <-gaveUp; !errors.Is(err, context.Canceled) {
		t.Errorf("gave up with %v", err)
	}
	wanted(false)
	if err := a.Release(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := b.Acquire(t.Context()); err != nil {
		t.Error(err)
	}
}

// A lock is yielded to who waits, and kept while nobody does; one that was lost is told.
func TestLockYield(t *testing.T) {
	db, _ := open(t)
	a, b := NewLock(db, "test", time.Minute), NewLock(db, "test", time.Minute)
	defer a.Close()
	defer b.Close()
	if _, err := a.Acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
	if yielded, err := a.Yield(t.Context()); yielded || err != nil {
		t.Fatalf("nobody waits: %t, %v", yielded, err)
	}
	got := make(chan error)
	go func() { _, err := b.Acquire(t.Context()); got <- err }()
	for began := time.Now(); ; <-time.After(time.Millisecond) {
		yielded, err := a.Yield(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if yielded {
			break
		}
		if time.Since(began) > 10*time.Second {
			t.Fatal("it isn't yielded")
		}
	}
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	if held, err := a.Held(t.Context()); !held || err != nil {
		t.Errorf("the other has it: %t, %v", held, err)
	}
	go func() { _, err := NewLock(db, "test", time.Minute).Acquire(t.Context()); got <- err }()
	for wanted := false; !wanted; {
		var err error
		if wanted, err = a.Wanted(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := a.Yield(t.Context()); !errors.Is(err, ErrLockLost) {
		t.Errorf("yield of what isn't held: %v", err)
	}
	if err := b.Release(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-got; err != nil {
		t.Error(err)
	}
}

// A holder whose connection ends has lost the lock, and is told so; it can have it again.
func TestLockLost(t *testing.T) {
	db, _ := open(t)
	s := mariadbtest.Shared(t)
	a, b := NewLock(db, "test", time.Minute), NewLock(db, "test", time.Minute)
	defer a.Close()
	defer b.Close()
	if _, err := a.Acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
	var id int64
	if err := a.conn.QueryRowContext(t.Context(), "SELECT CONNECTION_ID()").Scan(&id); err != nil {
		t.Fatal(err)
	}
	s.Exec(t, fmt.Sprintf("KILL CONNECTION %d", id))
	if _, err := b.Acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := a.Release(t.Context()); !errors.Is(err, ErrLockLost) {
		t.Errorf("release: %v", err)
	}
	if err := b.Release(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := a.Acquire(t.Context()); err != nil {
		t.Error(err)
	}
}

// A connection that ended while the lock was nobody's is no reason not to get it.
func TestLockAfterItsConnectionEnded(t *testing.T) {
	db, _ := open(t)
	a := NewLock(db, "test", time.Minute)
	defer a.Close()
	for range 2 {
		if _, err := a.Acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := a.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		var id int64
		if err := a.conn.QueryRowContext(t.Context(), "SELECT CONNECTION_ID()").Scan(&id); err != nil {
			t.Fatal(err)
		}
		mariadbtest.Shared(t).Exec(t, fmt.Sprintf("KILL CONNECTION %d", id))
	}
}

// A holder that hangs is robbed.
func TestLockRobbed(t *testing.T) {
	db, _ := open(t)
	a, b := NewLock(db, "test", time.Minute), NewLock(db, "test", 300*time.Millisecond)
	defer a.Close()
	defer b.Close()
	if _, err := a.Acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := a.Release(t.Context()); !errors.Is(err, ErrLockLost) {
		t.Errorf("release: %v", err)
	}
}

// Who hangs while it waits, before the lock, is robbed too: nobody gets past it.
func TestLockRobbedOfItsTurnstile(t *testing.T) {
	db, _ := open(t)
	a, b := NewLock(db, "test", time.Minute), NewLock(db, "test", 300*time.Millisecond)
	defer a.Close()
	defer b.Close()
	conn, err := a.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got int
	if err := conn.QueryRowContext(t.Context(), "SELECT GET_LOCK(?,0)", a.turnstile).Scan(&got); err != nil || got != 1 {
		t.Fatal(got, err)
	}
	if _, err := b.Acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.Release(t.Context()); err != nil {
		t.Error(err)
	}
}
