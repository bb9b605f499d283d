package tree_test

import (
	"testing"

	"github.com/prooftrail/prooftrail/personality/mysqldb/mariadbtest"
	"github.com/prooftrail/prooftrail/personality/tree"
	"github.com/prooftrail/prooftrail/personality/tree/treetest"
	"github.com/prooftrail/prooftrail/personality/tree/trilliantest"
)

// trillianDB makes a database with Trillian's tables.
func trillianDB(t testing.TB, s *mariadbtest.Server) trilliantest.Database {
	t.Helper()
	name := s.Database(t)
	openMySQLDB(t, s, name)
	return trilliantest.Database{Addr: s.Addr(), Name: name, User: mariadbtest.User, Password: mariadbtest.Password}
}

// TestRemoteProgramsSuite is the suite against Trillian's own programs on MariaDB.
func TestRemoteProgramsSuite(t *testing.T) {
	db := trillianDB(t, mariadbtest.Shared(t))
	cfg := quick(trilliantest.StartServer(t, db).Addr(), trilliantest.StartServer(t, db).Addr())
	trilliantest.StartSigner(t, db, "--force_master")
	treetest.Run(t, func(t *testing.T) treetest.Subject {
		id := createRemote(t, cfg)
		return treetest.Subject{
			Overlap: true, Split: true, Sizes: 30,
			Open: func(t *testing.T) tree.Tree { return openRemote(t, cfg, id) },
		}
	})
}
