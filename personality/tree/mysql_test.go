package tree_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/personality/mysqldb"
	"github.com/prooftrail/prooftrail/personality/mysqldb/mariadbtest"
	"github.com/prooftrail/prooftrail/personality/tree"
	"github.com/prooftrail/prooftrail/personality/tree/treetest"
)

func TestMain(m *testing.M) { os.Exit(mariadbtest.Run(m)) }

// openMySQLDB opens a database of a server, with Trillian's tables.
func openMySQLDB(t testing.TB, s *mariadbtest.Server, name string) *sql.DB {
	t.Helper()
	db, err := mysqldb.Open(mysqldb.Config{DSN: s.DSN(name), Password: mariadbtest.Password})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if err := mysqldb.Migrate(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	return db
}

func createMySQL(t testing.TB, db *sql.DB, opts tree.Options) *tree.MySQL {
	t.Helper()
	id, err := tree.CreateMySQL(t.Context(), db, opts)
	if err != nil {
		t.Fatal(err)
	}
	tr, err := tree.OpenMySQL(t.Context(), db, id, opts)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func TestMySQLSuite(t *testing.T) {
	treetest.Run(t, func(t *testing.T) treetest.Subject {
		s := mariadbtest.Shared(t)
		name := s.Database(t)
		id, err := tree.CreateMySQL(t.Context(), openMySQLDB(t, s, name), tree.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return treetest.Subject{Overlap: true, Sizes: 70, Open: func(t *testing.T) tree.Tree {
			tr, err := tree.OpenMySQL(t.Context(), openMySQLDB(t, s, name), id, tree.Options{})
			if err != nil {
				t.Fatal(err)
			}
			return tr
		}}
	})
}

// filled makes a tree of 40 leaves of which 30 are integrated, in batches of 10.
func filled(t *testing.T, db *sql.DB) *tree.MySQL {
	t.Helper()
	tr := createMySQL(t, db, tree.Options{})
	for i := uint64(0); i < 40; i += 10 {
		if err := tr.Append(t.Context(), treetest.Leaves(i, 10)); err != nil {
			t.Fatal(err)
		}
		if i == 30 {
			return tr
		}
		if _, err := tr.Integrate(t.Context(), i+10); err != nil {
			t.Fatal(err)
		}
	}
	return tr
}

// TestMySQLDamage changes rows of each of Trillian's tables: what is read is an error, or
// what was stored, and a root is never another than the leaves make; but for what the
// publisher, which reads each leaf back, is there to find.
func TestMySQLDamage(t *testing.T) {
	const here = " WHERE SequenceNumber = 35"
	const harmless = "UPDATE Trees SET PublicKey = ''" // it holds settings that then have their older defaults
	for i, damage := range []string{
		"UPDATE LeafData SET LeafValue = '' ORDER BY LeafIdentityHash LIMIT 40",
		"UPDATE SequencedLeafData SET MerkleLeafHash = REPEAT('x', 32)" + here,
		"UPDATE SequencedLeafData SET MerkleLeafHash = 'short'" + here,
		"DELETE FROM SequencedLeafData" + here,
		"DELETE FROM SequencedLeafData WHERE SequenceNumber = 5",
		"DELETE FROM LeafData",
		"UPDATE SequencedLeafData SET SequenceNumber = 1000" + here,
		"UPDATE TreeHead SET RootHash = 'short' ORDER BY TreeHeadTimestamp DESC LIMIT 1",
		"UPDATE TreeHead SET RootHash = REPEAT('x', 32) ORDER BY TreeHeadTimestamp DESC LIMIT 1",
		"UPDATE TreeHead SET TreeSize = 20 ORDER BY TreeHeadTimestamp DESC LIMIT 1",
		"UPDATE TreeHead SET TreeSize = 0 ORDER BY TreeHeadTimestamp DESC LIMIT 1",
		"UPDATE TreeHead SET TreeSize = -5 ORDER BY TreeHeadTimestamp DESC LIMIT 1",
		"DELETE FROM TreeHead ORDER BY TreeHeadTimestamp DESC LIMIT 1",
		"DELETE FROM TreeHead",
		"UPDATE Subtree SET Nodes = ''",
		"UPDATE Subtree SET Nodes = 'nonsense'",
		"DELETE FROM Subtree",
		"UPDATE Trees SET TreeType = 'LOG'",
		"UPDATE Trees SET TreeState = 'FROZEN'",
		"UPDATE Trees SET Deleted = 1",
		harmless,
		"DELETE FROM Trees",
	} {
		if testing.Short() && i%4 != 0 {
			continue
		}
		t.Run(damage, func(t *testing.T) {
			db := openMySQLDB(t, mariadbtest.Shared(t), mariadbtest.Shared(t).Database(t))
			tr := filled(t, db)
			<-time.After(1100 * time.Millisecond) // metadata are believed for a second
			if _, err := db.ExecContext(t.Context(), damage); err != nil {
				t.Fatal(err)
			}
			roots := rootsOf(40)
			noticed := false
			root, err := tr.Root(t.Context())
			noticed = noticed || err != nil || root != roots[30]
			leaves, err := tr.Leaves(t.Context(), 0, 100)
			noticed = noticed || err != nil || len(leaves) != 40
			root, err = tr.Integrate(t.Context(), 40)
			noticed = noticed || err != nil || root != roots[40]
			if noticed == (damage == harmless) {
				t.Errorf("noticed: %t", noticed)
			}
		})
	}
}

// TestMySQLKilledQueries: Trillian's provider reads a killed query as an empty root. It is
// never passed on, and after it all is as before.
func TestMySQLKilledQueries(t *testing.T) {
	s := mariadbtest.Shared(t)
	name := s.Database(t)
	db := openMySQLDB(t, s, name)
	tr := filled(t, db)
	admin := s.Root(t, "")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			killQueries(admin, name)
		}
	})
	roots, size, failed := rootsOf(200), uint64(40), 0
	limit := 20 * time.Second
	if testing.Short() {
		limit = 3 * time.Second
	}
	for began := time.Now(); size < 200 && time.Since(began) < limit; {
		root, err := tr.Root(t.Context())
		if err == nil && root != roots[root.Size] {
			t.Fatalf("root %+v", root)
		}
		count := func(err error) {
			if err != nil {
				failed++
			}
		}
		count(err)
		if root, err = tr.Integrate(t.Context(), size); err == nil && (root.Size < size || root != roots[root.Size]) {
			t.Fatalf("integrated %+v for size %d", root, size)
		}
		count(err)
		leaves, err := tr.Leaves(t.Context(), 0, 1000)
		if err == nil && uint64(len(leaves)) < size {
			t.Fatalf("%d leaves of %d", len(leaves), size)
		}
		count(err)
		if err == nil {
			size = uint64(len(leaves)) // an append that failed may have happened
		}
		err = tr.Append(t.Context(), treetest.Leaves(size, 1))
		count(err)
		if err == nil {
			size++
		}
	}
	close(stop)
	wg.Wait()
	if failed == 0 {
		t.Error("no query was killed")
	}
	// The last kill may have come between two statements, and hit the one after.
	for began := time.Now(); ; <-time.After(10 * time.Millisecond) {
		root, err := tr.Integrate(t.Context(), size)
		if err == nil && root == roots[size] {
			return
		}
		if err == nil || time.Since(began) > 10*time.Second {
			t.Fatalf("in the end: %+v, %v", root, err)
		}
	}
}

// killQueries kills what runs on a database just now.
func killQueries(admin *sql.DB, database string) {
	rows, err := admin.Query("SELECT id FROM information_schema.processlist WHERE db = ? AND command <> 'Sleep'", database)
	if err != nil {
		return
	}
	var ids []int64
	for rows.Next() {
		var id int64
		if rows.Scan(&id) == nil {
			ids = append(ids, id)
		}
	}
	_ = rows.Close()
	for _, id := range ids {
		_, _ = admin.Exec(fmt.Sprintf("KILL QUERY %d", id))
	}
}

// TestMySQLServerKilled: a server that is killed while two write to it, again and again.
// What an Append that returned nil has stored is there, no batch is in part, and roots are
// what the leaves make.
func TestMySQLServerKilled(t *testing.T) {
	s := mariadbtest.Start(t)
	db := openMySQLDB(t, s, s.Database(t))
	tr := createMySQL(t, db, tree.Options{})
	roots := rootsOf(5000)
	stored := uint64(0)
	rounds := 3
	if testing.Short() {
		rounds = 1
	}
	for round := range rounds {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			for ctx.Err() == nil {
				next, err := storedUpTo(ctx, tr, stored)
				if err != nil {
					return
				}
				if err := tr.Append(ctx, treetest.Leaves(next, 10)); err != nil {
					return
				}
				stored = next + 10
			}
		})
		wg.Go(func() {
			for ctx.Err() == nil {
				root, err := tr.Root(ctx)
				if err == nil && root != roots[root.Size] {
					t.Errorf("root %+v", root)
				}
				_, _ = tr.Integrate(ctx, root.Size+10)
			}
		})
		<-time.After(time.Duration(200+100*round) * time.Millisecond)
		s.Kill(t)
		cancel()
		wg.Wait()
		s.Restart(t)
		next, err := storedUpTo(t.Context(), tr, stored)
		if err != nil || next < stored || next%10 != 0 {
			t.Fatalf("%d leaves after %d had been stored: %v", next, stored, err)
		}
		stored = next
		if root, err := tr.Integrate(t.Context(), stored); err != nil || root != roots[stored] {
			t.Fatalf("root %+v, %v", root, err)
		}
	}
	if stored < uint64(10*rounds) {
		t.Errorf("only %d leaves", stored)
	}
}

// storedUpTo returns the first index without a leaf.
func storedUpTo(ctx context.Context, tr tree.Tree, from uint64) (uint64, error) {
	leaves, err := tr.Leaves(ctx, from, 1000)
	return from + uint64(len(leaves)), err
}

// TestMySQLHeadsArePruned: Trillian's old roots don't pile up, and the two stay whose keys
// guard against a root that couldn't be read.
func TestMySQLHeadsArePruned(t *testing.T) {
	db := openMySQLDB(t, mariadbtest.Shared(t), mariadbtest.Shared(t).Database(t))
	now := time.Now()
	tr := createMySQL(t, db, tree.Options{Now: func() time.Time { return now }})
	for i := range uint64(300) {
		now = now.Add(time.Second)
		if err := tr.Append(t.Context(), treetest.Leaves(i, 1)); err != nil {
			t.Fatal(err)
		}
		if _, err := tr.Integrate(t.Context(), i+1); err != nil {
			t.Fatal(err)
		}
	}
	var heads, guards int
	if err := db.QueryRowContext(t.Context(), "SELECT COUNT(*), SUM(TreeRevision <= 1) FROM TreeHead").Scan(&heads, &guards); err != nil {
		t.Fatal(err)
	}
	if heads > 120 || heads < 60 || guards != 2 {
		t.Errorf("%d rows of TreeHead, %d of them of revision 0 or 1", heads, guards)
	}
}

// TestMySQLDeadlocks: two trees on one database that append at the same place all the time.
// One of the two batches is stored, whole.
func TestMySQLDeadlocks(t *testing.T) {
	s := mariadbtest.Shared(t)
	name := s.Database(t)
	a := createMySQL(t, openMySQLDB(t, s, name), tree.Options{})
	var trees [2]tree.Tree
	for i := range trees {
		tr, err := tree.OpenMySQL(t.Context(), openMySQLDB(t, s, name), a.TreeID(), tree.Options{})
		if err != nil {
			t.Fatal(err)
		}
		trees[i] = tr
	}
	for next := uint64(0); next < 500; {
		var errs [2]error
		var wg sync.WaitGroup
		for i, tr := range trees {
			wg.Go(func() { errs[i] = tr.Append(context.Background(), treetest.Leaves(next, 5+i)) })
		}
		wg.Wait()
		got, err := storedUpTo(t.Context(), a, next)
		if n := got - next; err != nil || n != 0 && n != 5 && n != 6 {
			t.Fatalf("%d leaves of batches of 5 and 6 at %d: %v", n, next, err)
		}
		for i, err := range errs {
			if won := got-next == uint64(5+i); won != (err == nil) {
				t.Fatalf("batch of %d: %v, but %d are stored", 5+i, err, got-next)
			}
			if err != nil && errors.Is(err, tree.ErrCorrupt) {
				t.Errorf("%v", err)
			}
		}
		next = got
	}
}

// TestMySQLStatements: a batch of leaves is one insert a table, whatever its size. Should an
// upgrade of Trillian change what it says, this is what notices.
func TestMySQLStatements(t *testing.T) {
	s := mariadbtest.Start(t)
	db := openMySQLDB(t, s, s.Database(t))
	tr := createMySQL(t, db, tree.Options{})
	if err := tr.Append(t.Context(), treetest.Leaves(0, 1)); err != nil {
		t.Fatal(err)
	}
	count := func() map[string]int {
		rows, err := s.Root(t, "").QueryContext(t.Context(), "SHOW GLOBAL STATUS WHERE Variable_name IN ('Com_insert', 'Com_savepoint', 'Com_commit', 'Com_select')")
		if err != nil {
			t.Fatal(err)
		}
		counts := map[string]int{}
		for rows.Next() {
			var name string
			var n int
			if err := rows.Scan(&name, &n); err != nil {
				t.Fatal(err)
			}
			counts[name] = n
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			t.Fatal(err)
		}
		return counts
	}
	before := count()
	if err := tr.Append(t.Context(), treetest.Leaves(1, 500)); err != nil {
		t.Fatal(err)
	}
	after := count()
	if inserts, savepoints := after["Com_insert"]-before["Com_insert"], after["Com_savepoint"]-before["Com_savepoint"]; inserts != 2 || savepoints != 0 {
		t.Errorf("500 leaves: %d inserts, %d savepoints; want 2 and none", inserts, savepoints)
	}
	if selects, commits := after["Com_select"]-before["Com_select"], after["Com_commit"]-before["Com_commit"]; selects > 4 || commits > 2 {
		t.Errorf("500 leaves: %d selects, %d commits", selects, commits)
	}
	if root, err := tr.Integrate(t.Context(), 501); err != nil || root != rootsOf(501)[501] {
		t.Errorf("%+v, %v", root, err)
	}
}
