package pubstore_test

import (
	"database/sql"
	"errors"
	"os"
	"testing"

	"github.com/prooftrail/prooftrail/personality/mysqldb"
	"github.com/prooftrail/prooftrail/personality/mysqldb/mariadbtest"
	"github.com/prooftrail/prooftrail/personality/pubstore"
	"github.com/prooftrail/prooftrail/personality/pubstore/pubstoretest"
)

func TestMain(m *testing.M) { os.Exit(mariadbtest.Run(m)) }

// openMySQL opens a database of the shared server, with our tables.
func openMySQL(t testing.TB, name string) *sql.DB {
	t.Helper()
	db, err := mysqldb.Open(mysqldb.Config{DSN: mariadbtest.Shared(t).DSN(name), Password: mariadbtest.Password})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if err := mysqldb.Migrate(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	return db
}

func TestMySQL(t *testing.T) {
	pubstoretest.Run(t, func(t *testing.T) (pubstore.Store, func() pubstore.Store) {
		name := mariadbtest.Shared(t).Database(t)
		return pubstore.NewMySQL(openMySQL(t, name)), func() pubstore.Store { return pubstore.NewMySQL(openMySQL(t, name)) }
	})
}

// What nobody wrote this way is corrupt, not missing and not a zero value (I7).
func TestMySQLRefusesDamagedRows(t *testing.T) {
	db := openMySQL(t, mariadbtest.Shared(t).Database(t))
	s := pubstore.NewMySQL(db)
	ctx := t.Context()
	exec := func(q string) {
		t.Helper()
		if _, err := db.ExecContext(ctx, q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
	tile := func() error { _, err := s.Tile(ctx, 0, 0); return err }
	bundle := func() error { _, err := s.Bundle(ctx, 0); return err }
	for _, c := range []struct {
		row  string
		read func() error
	}{
		{"prooftrail_log VALUES (1, '{}')", func() error { _, err := s.Log(ctx); return err }},
		{"prooftrail_log VALUES (1, '')", func() error { _, err := s.Log(ctx); return err }},
		{"prooftrail_tile VALUES (0, 0, 0, REPEAT('x', 33))", tile},
		{"prooftrail_tile VALUES (0, 0, 0, '')", tile},
		{"prooftrail_tile VALUES (0, 0, 1, REPEAT('x', 32))", tile},
		{"prooftrail_tile VALUES (0, 0, 0, REPEAT('x', 64)), (0, 0, 1, REPEAT('x', 32))", tile},
		{"prooftrail_tile VALUES (0, 0, 0, REPEAT('x', 32)), (0, 0, 2, REPEAT('x', 32))", tile},
		{"prooftrail_tile VALUES (0, 0, 0, REPEAT('x', 257*32))", tile},
		{"prooftrail_bundle VALUES (0, 0, '')", bundle},
		{"prooftrail_bundle VALUES (0, 0, X'00')", bundle},
		{"prooftrail_bundle VALUES (0, 0, X'0003aaaa')", bundle},
		{"prooftrail_bundle VALUES (0, 0, X'0001aa'), (0, 2, X'0001aa')", bundle},
		{"prooftrail_bundle VALUES (0, 0, X'0001aa0001aa'), (0, 1, X'0001aa')", bundle},
		{"prooftrail_mark VALUES (0, REPEAT('x', 32), 9, 'x')", func() error { _, err := s.Marks(ctx, 0); return err }},
		{"prooftrail_token VALUES ('x', '{}')", func() error { _, err := s.Tokens(ctx); return err }},
		{"prooftrail_token VALUES ('x', 'x')", func() error { _, err := s.Tokens(ctx); return err }},
		{"prooftrail_quarantine VALUES ('x', 't', '{}')", func() error { _, err := s.ListQuarantined(ctx, "", "", 1); return err }},
		{"prooftrail_quarantine VALUES ('x', 't', 'x')", func() error { _, err := s.Quarantined(ctx, "x"); return err }},
		{"prooftrail_quarantine VALUES ('x', 't', '{\"id\":\"x\",\"tenant\":\"t\",\"adapter\":\"a\",\"raw_bytes\":1,\"raw_sha256\":\"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\"}')",
			func() error { _, err := s.Quarantined(ctx, "x"); return err }}, // its piece is gone
		{"prooftrail_source_key VALUES ('x', '{}')", func() error { _, err := s.SourceKeys(ctx); return err }},
		{"prooftrail_source_key VALUES ('x', 'x')", func() error { _, err := s.SourceKeys(ctx); return err }},
	} {
		exec("INSERT INTO " + c.row)
		if err := c.read(); !errors.Is(err, pubstore.ErrCorrupt) || errors.Is(err, pubstore.ErrNotFound) {
			t.Errorf("%s: got %v, want ErrCorrupt", c.row, err)
		}
		for _, table := range []string{"log", "tile", "bundle", "mark", "token", "source_key", "quarantine"} {
			exec("DELETE FROM prooftrail_" + table)
		}
	}
}
