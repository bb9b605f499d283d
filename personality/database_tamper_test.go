package personality

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/personality/mysqldb/mariadbtest"
	"github.com/prooftrail/prooftrail/personality/pubstore"
	"github.com/prooftrail/prooftrail/personality/tree"
)

// sqlTampering is what somebody does to the database of a log that is closed, and what
// comes of it. The log has eight entries published and three that are stored alone.
type sqlTampering struct {
	do     string // statement
	refuse string // the reason that readiness gives; "" where the log goes on
	audit  bool   // and then: whether the audit verifies all of it
	stalls bool   // Trillian's signers can't go on, and nothing is signed
}

var sqlTamperings = []sqlTampering{
	{do: "UPDATE prooftrail_head SET size = size - 1", refuse: "the head of size 7: changed outside"},
	{do: "UPDATE prooftrail_head SET root = REPEAT('x', 32)", refuse: "the head of size 8: changed outside"},
	{do: "UPDATE prooftrail_head SET mac = REPEAT('x', 32)", refuse: "the head of size 8: changed outside"},
	{do: "UPDATE prooftrail_tile SET data = REPEAT('x', LENGTH(data)) WHERE width = 3", refuse: "its tiles make"},
	{do: "DELETE FROM prooftrail_tile WHERE width = 3", refuse: "are damaged"},
	{do: "UPDATE prooftrail_tile SET width = 9 WHERE width = 3", refuse: "are damaged"},
	{do: "DELETE FROM prooftrail_tile", refuse: "are damaged"},
	{do: "UPDATE prooftrail_bundle SET data = REVERSE(data) WHERE width = 3", refuse: "damaged"},
	{do: "DELETE FROM prooftrail_bundle WHERE width = 3", refuse: "damaged"},
	{do: "DELETE FROM prooftrail_mark", refuse: "this log didn't sequence it"},
	{do: "UPDATE prooftrail_mark SET mac = REPEAT('x', 32) WHERE first = 8", refuse: "this log didn't sequence it"},
	{do: "UPDATE prooftrail_mark SET leaves = SUBSTR(leaves, 2)", refuse: "the marks of entry 8 are damaged"},
	{do: "UPDATE prooftrail_token SET token = REPLACE(token, '\"default\"', '\"other\"')", refuse: "changed outside the service"},
	{do: "UPDATE prooftrail_token SET token = '{}'", refuse: "token"},
	{do: "UPDATE prooftrail_source_key SET source_key = REPLACE(source_key, '\"required\":true', '\"required\":false')", refuse: "changed outside the service"},
	{do: "UPDATE prooftrail_source_key SET source_key = '{}'", refuse: "source key"},
	{do: "UPDATE prooftrail_opening SET opening = REVERSE(opening) WHERE idx = 2", audit: false},
	{do: "DELETE FROM prooftrail_opening WHERE idx = 2", audit: false},
	{do: "DELETE FROM prooftrail_identity LIMIT 1", audit: true},
	{do: "UPDATE prooftrail_checkpoint SET note = 'nonsense'", audit: true},
	{do: "UPDATE LeafData l JOIN SequencedLeafData s USING (TreeId, LeafIdentityHash) SET LeafValue = 'x' WHERE SequenceNumber = 9", refuse: "this log didn't sequence it"},
	{do: "UPDATE SequencedLeafData SET MerkleLeafHash = REPEAT('x', 32) WHERE SequenceNumber = 9", refuse: "Trillian's root is"},
	// Nothing of it was signed, and whoever got a 202 has no receipt: as with an embedded log.
	{do: "DELETE FROM SequencedLeafData WHERE SequenceNumber = 9", audit: true},
	{do: "UPDATE SequencedLeafData SET SequenceNumber = IF(SequenceNumber = 8, 1009, 1008) WHERE SequenceNumber IN (8, 9) ORDER BY SequenceNumber;" +
		"UPDATE SequencedLeafData SET SequenceNumber = SequenceNumber - 1000 WHERE SequenceNumber > 1000", refuse: "this log didn't sequence it"},
	{do: "INSERT INTO LeafData SELECT TreeId, REPEAT('y', 32), 'forged', NULL, 0 FROM Trees; INSERT INTO SequencedLeafData SELECT TreeId, 11, REPEAT('y', 32), REPEAT('z', 32), 0 FROM Trees",
		refuse: "entry 11 is stored, but this log didn't sequence it"},
	{do: "UPDATE TreeHead SET RootHash = REPEAT('x', 32) ORDER BY TreeHeadTimestamp DESC LIMIT 1", refuse: "Trillian's tree has size 8"},
	{do: "DELETE FROM TreeHead ORDER BY TreeHeadTimestamp DESC LIMIT 1", refuse: "Trillian's tree has size"},
	{do: "UPDATE TreeHead SET TreeSize = 11 ORDER BY TreeHeadTimestamp DESC LIMIT 1", refuse: "Trillian's root is"},
	{do: "DELETE FROM TreeHead", refuse: "the tree can't be used"},
	{do: "UPDATE Subtree SET Nodes = ''", refuse: "the database was changed, or is broken"},
	{do: "DELETE FROM Subtree", refuse: "the database was changed, or is broken"},
	{do: "DELETE FROM Trees", refuse: "the tree can't be used"},
	{do: "UPDATE Trees SET TreeType = 'LOG'", refuse: "the tree can't be used"},
	{do: "UPDATE Trees SET Deleted = 1", refuse: "the tree can't be used"},
}

// TestDatabaseTampering does each of these to a log in a database: never is anything
// signed over, and what was found is named.
func TestDatabaseTampering(t *testing.T) {
	s := mariadbtest.Shared(t)
	l, database := newDatabaseLog(t, s)
	publishing := func(dead bool) func(*parts) {
		return func(p *parts) {
			if dead {
				p.tree = noIntegration{p.tree}
			}
		}
	}
	l.open(publishing(false))
	_, _, err := l.svc.AddToken(t.Context(), OperatorCaller(), TokenRequest{Name: "n", Tenant: "default", Roles: []Role{RoleRead}})
	if err != nil {
		t.Fatal(err)
	}
	check(t, l.svc.putSourceKey(t.Context(), pubstore.SourceKey{ID: "k", Tenant: "default", Source: "cron://signs/", VKey: l.vkey, Required: true}))
	for i := range 7 { // and the token's entry
		l.mustSubmit(fmt.Sprint("e", i), "x")
	}
	l.close()
	l.open(publishing(true))
	for i := range 3 {
		if r := l.submit(submitter("default"), fmt.Sprint("tail", i), "x", Durable); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // as a crash would leave it
	_ = l.svc.Close(ctx)
	l.svc = nil
	whole := s.Database(t)
	s.Copy(t, database, whole)
	tamper(t, l, sqlTamperings, func(t *testing.T, do string) {
		s.Copy(t, whole, database)
		if _, err := s.Root(t, database).ExecContext(t.Context(), do); err != nil {
			t.Fatal(err)
		}
	})
}

// tamper puts the log back, has each of these done to it, and checks what comes of it; of many
// it takes some in a short run.
func tamper(t *testing.T, l *testLog, all []sqlTampering, do func(t *testing.T, statement string)) {
	t.Helper()
	for _, c := range all {
		if testing.Short() && len(c.do)%3 != 0 {
			continue
		}
		t.Run(c.do, func(t *testing.T) {
			one := *l
			one.t, one.cfg.Anchor = t, copiedAnchor(t, l.cfg.Anchor)
			do(t, c.do)
			one.open(nil)
			defer one.close()
			c.check(t, &one)
		})
	}
}

// check opens the log that was tampered with.
func (c *sqlTampering) check(t *testing.T, l *testLog) {
	t.Helper()
	ready := l.svc.Ready(t.Context())
	if c.refuse != "" {
		before, err := l.svc.Checkpoint(t.Context())
		if err != nil || !ready.Refusing || !strings.Contains(ready.Reason, c.refuse) {
			t.Fatalf("%+v, %v; want refusing because of %q", ready, err, c.refuse)
		}
		if r := l.submit(submitter("default"), "later", "x", Integrated); !errors.Is(r.Err, ErrRefusing) {
			t.Errorf("it takes an event: %+v", r)
		}
		if after, err := l.svc.Checkpoint(t.Context()); err != nil || string(after) != string(before) {
			t.Errorf("it signed %s, %v", after, err)
		}
		return
	}
	if c.stalls {
		c.checkStalled(t, l)
		return
	}
	if ready.Refusing {
		t.Fatalf("%+v", ready)
	}
	l.mustSubmit("later", "x")
	r, err := l.audit()
	if verified := err == nil && r.FailureCount == 0 && r.Openings.Verified == r.Entries; verified != c.audit {
		t.Errorf("the audit: %+v, %v; want verified: %t", r, err, c.audit)
	}
}

// TestOlderDump (I3): a database that is put back from an older dump is refused, at the start
// and by servers that run.
func TestOlderDump(t *testing.T) {
	s := mariadbtest.Shared(t)
	l, database := openProcesses(t, s, 2, nil)
	l.submitTo(0, "a", "x")
	dump := s.Database(t)
	s.Copy(t, database, dump)
	l.submitTo(0, "b", "x")
	l.submitTo(1, "c", "x")
	s.Copy(t, dump, database)
	for i, svc := range l.svcs {
		var r Readiness
		for began := time.Now(); !r.Refusing && time.Since(began) < 10*time.Second; <-time.After(20 * time.Millisecond) {
			r = svc.Ready(t.Context())
		}
		if !r.Refusing || !strings.Contains(r.Reason, "the store is an older copy") {
			t.Errorf("server %d: %+v", i, r)
		}
		if got := l.submitTo(i, "later", "x"); !errors.Is(got.Err, ErrRefusing) {
			t.Errorf("server %d takes an event: %+v", i, got)
		}
	}
	l.close()
	l.open(nil)
	l.mustRefuse("the store is an older copy")
}

// noIntegration is a tree that integrates nothing.
type noIntegration struct{ tree.Tree }

func (noIntegration) Integrate(context.Context, uint64) (tree.Root, error) {
	return tree.Root{}, errors.New("injected fault")
}

// copiedAnchor copies an anchor, which opening the log moves.
func copiedAnchor(t *testing.T, from string) (to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	to = filepath.Join(t.TempDir(), "anchor")
	if err = errors.Join(err, os.WriteFile(to, b, 0o600)); err != nil {
		t.Fatal(err)
	}
	return to
}
