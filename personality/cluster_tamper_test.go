package personality

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// clusterTamperings are done to the database of Trillian's of a log that is closed, and has
// eight entries published and three that are stored alone. What they do to the log's own
// tables is TestDatabaseTampering's.
var clusterTamperings = []sqlTampering{
	{do: "UPDATE LeafData l JOIN SequencedLeafData s USING (TreeId, LeafIdentityHash) SET LeafValue = 'x' WHERE SequenceNumber = 9", refuse: "this log didn't sequence it"},
	{do: "UPDATE LeafData l JOIN SequencedLeafData s USING (TreeId, LeafIdentityHash) SET LeafValue = 'x' WHERE SequenceNumber = 2", audit: true},
	{do: "UPDATE SequencedLeafData SET MerkleLeafHash = REPEAT('x', 32) WHERE SequenceNumber = 9", refuse: "Trillian's root is"},
	// Nothing of it was signed, and whoever got a 202 has no receipt: as with an embedded log.
	{do: "DELETE FROM SequencedLeafData WHERE SequenceNumber = 9", audit: true},
	{do: "UPDATE SequencedLeafData SET SequenceNumber = IF(SequenceNumber = 8, 1009, 1008) WHERE SequenceNumber IN (8, 9) ORDER BY SequenceNumber;" +
		"UPDATE SequencedLeafData SET SequenceNumber = SequenceNumber - 1000 WHERE SequenceNumber > 1000", refuse: "this log didn't sequence it"},
	{do: "INSERT INTO LeafData SELECT TreeId, REPEAT('y', 32), 'forged', NULL, 0 FROM Trees; INSERT INTO SequencedLeafData SELECT TreeId, 11, REPEAT('y', 32), REPEAT('z', 32), 0 FROM Trees",
		refuse: "entry 11 is stored, but this log didn't sequence it"},
	{do: "UPDATE TreeHead SET RootHash = REPEAT('x', 32) ORDER BY TreeHeadTimestamp DESC LIMIT 1", refuse: "Trillian's tree has size 8"},
	// The signers integrate again what it covered, and the root that they come to is compared.
	{do: "DELETE FROM TreeHead ORDER BY TreeHeadTimestamp DESC LIMIT 1", audit: true},
	{do: "DELETE FROM TreeHead", refuse: "the tree can't be used"},
	{do: "UPDATE Subtree SET Nodes = ''", stalls: true},
	{do: "DELETE FROM Subtree", stalls: true},
	{do: "DELETE FROM Trees", refuse: "the tree can't be used"},
	{do: "UPDATE Trees SET TreeType = 'LOG'", refuse: "the tree can't be used"},
	{do: "UPDATE Trees SET Deleted = 1", refuse: "the tree can't be used"},
}

// TestClusterTampering does each of these: never is anything signed over.
func TestClusterTampering(t *testing.T) {
	t.Parallel() // most of it is waiting for other processes
	l, c := newClusterLog(t, 1)
	l.open(nil)
	for i := range 8 {
		l.mustSubmit(fmt.Sprint("e", i), "x")
	}
	l.close()
	s := l.open(nil)
	c.signer.Kill(t)
	for i := range 3 {
		if r := l.submit(submitter("default"), fmt.Sprint("tail", i), "x", Durable); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // as a crash would leave it
	_ = s.Close(ctx)
	l.svc = nil
	theirs, ours := c.db.Database(t), c.db.Database(t)
	c.db.Copy(t, c.name, theirs)
	c.db.Copy(t, c.ours, ours)
	tamper(t, l, clusterTamperings, func(t *testing.T, do string) {
		c.db.Copy(t, theirs, c.name)
		c.db.Copy(t, ours, c.ours)
		if _, err := c.db.Root(t, c.name).ExecContext(t.Context(), do); err != nil {
			t.Fatal(err)
		}
		c.signer.Restart(t)
		t.Cleanup(func() { c.signer.Kill(t) })
	})
}

// checkStalled checks that nothing is signed, and that readiness says why before long.
func (c *sqlTampering) checkStalled(t *testing.T, l *testLog) {
	t.Helper()
	before := must(l.svc.Checkpoint(t.Context()))
	var ready Readiness
	for began := time.Now(); !strings.Contains(ready.Reason, "signers don't integrate") && time.Since(began) < 20*time.Second; <-time.After(50 * time.Millisecond) {
		ready = l.svc.Ready(t.Context())
	}
	if ready.Ready || !strings.Contains(ready.Reason, "signers don't integrate") {
		t.Errorf("%+v", ready)
	}
	if after := must(l.svc.Checkpoint(t.Context())); string(after) != string(before) {
		t.Errorf("it signed %s", after)
	}
}

// TestClusterOlderDump (I3): where Trillian's database is put back from an older dump, and the
// log's own is not, servers that run refuse, and so does one that starts.
func TestClusterOlderDump(t *testing.T) {
	t.Parallel() // most of it is waiting for other processes
	l, c := openOnCluster(t, 2, nil)
	l.submitTo(0, "a", "x")
	dump := c.db.Database(t)
	c.signer.Kill(t)
	c.db.Copy(t, c.name, dump)
	c.signer.Restart(t)
	l.submitTo(0, "b", "x")
	l.submitTo(1, "c", "x")
	before := must(l.svcs[0].Checkpoint(t.Context()))
	c.signer.Kill(t)
	c.db.Copy(t, dump, c.name)
	c.signer.Restart(t)
	for i, svc := range l.svcs {
		var r Result
		for began := time.Now(); !errors.Is(r.Err, ErrRefusing) && time.Since(began) < 30*time.Second; {
			r = l.submitTo(i, "later", "x")
			if r.Err == nil {
				t.Fatalf("server %d took an event: %+v", i, r)
			}
		}
		if ready := svc.Ready(t.Context()); !ready.Refusing || !strings.Contains(ready.Reason, "a log server is behind") {
			t.Errorf("server %d: %+v", i, ready)
		}
	}
	if after := must(l.svcs[0].Checkpoint(t.Context())); string(after) != string(before) {
		t.Errorf("signed: %s", after)
	}
	l.close()
	l.open(nil)
	l.mustRefuse("Trillian's tree has size 1")
}

// TestClusterTamperingAtWork: a server that runs refuses, for good, when its tree is gone.
func TestClusterTamperingAtWork(t *testing.T) {
	t.Parallel() // most of it is waiting for other processes
	for _, do := range []string{"UPDATE Trees SET Deleted = 1", "DELETE FROM TreeHead", "DELETE FROM Trees", "UPDATE Trees SET TreeState = 'FROZEN'"} {
		t.Run(do, func(t *testing.T) {
			l, c := newClusterLog(t, 2)
			s := l.open(nil)
			l.mustSubmit("a", "x")
			c.signer.Kill(t)
			if _, err := c.db.Root(t, c.name).ExecContext(t.Context(), do); err != nil {
				t.Fatal(err)
			}
			var r Readiness
			for began := time.Now(); !r.Refusing && time.Since(began) < 20*time.Second; r = s.Ready(t.Context()) {
				if r := l.submit(submitter("default"), "b", "x", Durable); r.Err == nil {
					t.Fatalf("it took an event: %+v", r)
				}
			}
			if !r.Refusing || !strings.Contains(r.Reason, "tree") {
				t.Errorf("%+v", r)
			}
		})
	}
}

// TestClusterLongTail: a server starts, and says why it isn't ready, however much waits for
// the signers; and all of it is published when they are back.
func TestClusterLongTail(t *testing.T) {
	t.Parallel() // most of it is waiting for other processes
	const events = 12_000
	l, c := newClusterLog(t, 1)
	l.cfg.MaxUnpublished = events
	s := l.open(nil)
	l.mustSubmit("first", "x")
	c.signer.Kill(t)
	var clients sync.WaitGroup
	for n := range 16 {
		clients.Go(func() {
			var sent []*Pending
			for i := range events / 16 {
				p, err := s.Admit(t.Context(), submitter("default"), Submission{Event: eventJSON(fmt.Sprintf("e%d-%d", n, i), "x")})
				if err != nil {
					t.Error(err)
					return
				}
				sent = append(sent, p)
			}
			for _, p := range sent {
				if r := p.Wait(t.Context(), Durable); r.Err != nil {
					t.Error(r.Err)
					return
				}
			}
		})
	}
	clients.Wait()
	if t.Failed() {
		t.FailNow()
	}
	if r := l.submit(submitter("default"), "one more", "x", Durable); !errors.Is(r.Err, ErrBusy) {
		t.Errorf("past the limit: %+v", r)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // as a crash would leave it
	_ = s.Close(ctx)
	s = l.open(nil)
	if r := s.Ready(t.Context()); r.TreeSize != events+1 || r.PublishedSize != 1 {
		t.Errorf("%+v", r)
	}
	if err := s.Announce(t.Context()); !errors.Is(err, ErrBusy) {
		t.Errorf("announce: %v", err)
	}
	c.signer.Restart(t)
	for began := time.Now(); s.published.Load().head.Size < events+1; <-time.After(20 * time.Millisecond) {
		if time.Since(began) > time.Minute {
			t.Fatalf("%+v", s.Ready(t.Context()))
		}
	}
	if err := s.Announce(t.Context()); err != nil {
		t.Error(err)
	}
	l.mustAudit()
}
