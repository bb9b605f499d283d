package tree_test

import (
	"errors"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/personality/tree/trilliantest"
	"github.com/prooftrail/prooftrail/personality/mysqldb/mariadbtest"
	"github.com/prooftrail/prooftrail/personality/tree"
	"github.com/prooftrail/prooftrail/personality/tree/treetest"
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

// appends appends and integrates batches of n leaves from size on, as a log does, until stop
// says so, and reads back after each failure. It returns the size then.
func appends(t *testing.T, r *tree.Remote, size uint64, n int, stop func(size uint64) bool) uint64 {
	t.Helper()
	roots := rootsOf(1)
	for !stop(size) {
		leaves := treetest.Leaves(size, n)
		err := r.Append(t.Context(), leaves)
		for err != nil {
			t.Logf("append at %d: %v", size, err)
			var got []tree.Leaf
			if got, err = r.Leaves(t.Context(), size, n); err == nil {
				for i, l := range got {
					if string(l.Value) != string(leaves[i].Value) || l.IdentityHash != leaves[i].IdentityHash {
						t.Fatalf("leaf %d is %q", l.Index, l.Value)
					}
				}
				size += uint64(len(got))
				leaves = leaves[len(got):]
				if len(leaves) > 0 {
					err = r.Append(t.Context(), leaves)
				}
			}
			n -= len(got)
			if err == nil {
				break
			}
		}
		size = leaves[0].Index + uint64(len(leaves))
		root, err := r.Integrate(t.Context(), size)
		if err != nil {
			t.Fatalf("integrate %d: %v", size, err)
		}
		if int(root.Size) >= len(roots) {
			roots = rootsOf(2 * int(root.Size))
		}
		if root != roots[root.Size] {
			t.Fatalf("root %x of size %d", root.Hash, root.Size)
		}
	}
	return size
}

var _ = errors.Is
var _ = time.Second
