package personality

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/prooftrail/prooftrail/personality/mysqldb"
	"github.com/prooftrail/prooftrail/personality/mysqldb/mariadbtest"
	"github.com/prooftrail/prooftrail/personality/pubstore"
	"github.com/prooftrail/prooftrail/personality/tree"
	"github.com/prooftrail/prooftrail/personality/tree/trilliantest"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// cluster is Trillian's own programs on a database of their own.
type cluster struct {
	db      *mariadbtest.Server
	name    string // of their database
	ours    string // the log's database
	servers []*trilliantest.Process
	signer  *trilliantest.Process
}

// startCluster starts log servers and a signer.
func startCluster(t *testing.T, s *mariadbtest.Server, servers int) *cluster {
	t.Helper()
	c := &cluster{db: s, name: s.Database(t)}
	db, err := mysqldb.Open(mysqldb.Config{DSN: s.DSN(c.name), Password: mariadbtest.Password})
	if err == nil {
		err = errors.Join(mysqldb.Migrate(t.Context(), db), db.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	at := trilliantest.Database{Addr: s.Addr(), Name: c.name, User: mariadbtest.User, Password: mariadbtest.Password}
	for range servers {
		c.servers = append(c.servers, trilliantest.StartServer(t, at))
	}
	c.signer = trilliantest.StartSigner(t, at, "--force_master")
	return c
}

func (c *cluster) config() *tree.RemoteConfig {
	cfg := &tree.RemoteConfig{CallTimeout: 5 * time.Second, Patience: time.Second}
	for _, s := range c.servers {
		cfg.Addresses = append(cfg.Addresses, s.Addr())
	}
	return cfg
}

// newClusterLog makes a log whose tree a cluster keeps.
func newClusterLog(t *testing.T, servers int) (l *testLog, c *cluster) {
	t.Helper()
	s := mariadbtest.Shared(t)
	c = startCluster(t, s, servers)
	l = &testLog{t: t, cfg: testConfig(t)}
	c.ours = s.Database(t)
	l.cfg.Database = &mysqldb.Config{DSN: s.DSN(c.ours), Password: mariadbtest.Password}
	l.cfg.Trillian = c.config()
	l.create()
	return l, c
}

// openOnCluster opens n services on one such log, as n processes would.
func openOnCluster(t *testing.T, n int, change func(i int, p *parts)) (*several, *cluster) {
	t.Helper()
	l := &several{}
	var c *cluster
	l.testLog, c = newClusterLog(t, 2)
	l.openProcesses(n, change)
	return l, c
}

// TestCluster: a log on a cluster does what one in a directory does, across restarts.
func TestCluster(t *testing.T) {
	t.Parallel() // most of it is waiting for other processes
	l, _ := newClusterLog(t, 2)
	l.restarts(2)
}

// TestTakeTree: a log takes a tree that somebody has made in the cluster, if it is one to
// begin a log in.
func TestTakeTree(t *testing.T) {
	t.Parallel() // most of it is waiting for other processes
	l, c := newClusterLog(t, 1)
	l.open(nil)
	l.mustSubmit("a", "x")
	used := l.svc.params.TreeID
	create := func(id int64) error {
		cfg := testConfig(t)
		cfg.Database = &mysqldb.Config{DSN: c.db.DSN(c.db.Database(t)), Password: mariadbtest.Password}
		cfg.Trillian = c.config()
		_, err := Create(t.Context(), CreateConfig{Config: cfg, Origin: testOrigin, TakeTree: id})
		if err != nil {
			return err
		}
		svc, err := Open(t.Context(), cfg)
		if err != nil {
			return err
		}
		if svc.params.TreeID != id {
			t.Errorf("tree %d for %d", svc.params.TreeID, id)
		}
		return svc.Close(t.Context())
	}
	fresh, err := tree.CreateRemote(t.Context(), *c.config())
	if err != nil {
		t.Fatal(err)
	}
	if err := create(fresh); err != nil {
		t.Errorf("an empty tree: %v", err)
	}
	if err := create(used); !errors.Is(err, tree.ErrNotWritable) || !strings.Contains(err.Error(), "it has 1 leaves") {
		t.Errorf("a tree with leaves: %v", err)
	}
	if err := create(fresh + 1); !errors.Is(err, tree.ErrNoTree) {
		t.Errorf("no tree: %v", err)
	}
	c.db.Exec(t, fmt.Sprintf("UPDATE %s.Trees SET TreeType = 'LOG' WHERE TreeId = %d", c.name, fresh))
	if err := create(fresh); !errors.Is(err, tree.ErrNotWritable) {
		t.Errorf("a tree of another type: %v", err)
	}
	var invalid *InvalidError
	cfg := testConfig(t)
	if _, err := Create(t.Context(), CreateConfig{Config: cfg, Origin: testOrigin, TakeTree: fresh}); !errors.As(err, &invalid) {
		t.Errorf("without a cluster: %v", err)
	}
	cfg.Trillian = c.config()
	if _, err := Create(t.Context(), CreateConfig{Config: cfg, Origin: testOrigin}); err == nil || !strings.Contains(err.Error(), "needs a database") {
		t.Errorf("without a database: %v", err)
	}
}

// TestClusterProcesses: several processes on one cluster, each taking writes.
func TestClusterProcesses(t *testing.T) {
	t.Parallel() // most of it is waiting for other processes
	l, _ := openOnCluster(t, 3, nil)
	l.crowd(8, 12)
}

// TestClusterWithoutTurns: the same where each believes all the time that it is its turn,
// so that batches cross and are stored in part.
func TestClusterWithoutTurns(t *testing.T) {
	t.Parallel() // most of it is waiting for other processes
	var sequencing, publishing localLock
	l, _ := openOnCluster(t, 3, func(_ int, p *parts) { turnsOf(p, &sequencing, &publishing, true) })
	l.crowd(8, 12)
}

// sealed admits an event and keeps it from the queue.
func sealed(t *testing.T, s *Service, id string) *Pending {
	t.Helper()
	from := submitter("default")
	e, err := event.Parse(eventJSON(id, "x"))
	if err != nil {
		t.Fatal(err)
	}
	fields, err := e.Stamp(event.Stamp{Tenant: from.Token.Tenant, ReceivedAt: time.Now(), Principal: from.Token.Principal()})
	if err != nil {
		t.Fatal(err)
	}
	return must(s.seal(from, fields, nil))
}

// halfStored has a process that is gone leave n entries from index first on: its batch is
// marked, and of its leaves those are stored that are asked for.
func (c *cluster) halfStored(t *testing.T, s *Service, first uint64, ids []string, has func(i int) bool) {
	t.Helper()
	w := &work{now: s.cfg.Now().UTC().Truncate(time.Second), batch: newBatch(first)}
	for _, id := range ids {
		s.place(w, sealed(t, s, id))
	}
	s.forget(w.batch, errors.New("unplanned"))
	if err := s.store.PutBatch(t.Context(), pubstore.Batch{Mark: s.mark(w.batch), Openings: w.openings}); err != nil {
		t.Fatal(err)
	}
	for i, leaf := range w.leaves {
		if has(i) {
			if err := c.servers[0].AddLeaf(t.Context(), s.params.TreeID, leaf); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestHolesAreFilled: entries that a process left behind holes come to be published when
// they are sent again, each once, and so do others.
func TestHolesAreFilled(t *testing.T) {
	t.Parallel() // most of it is waiting for other processes
	for name, c := range map[string]struct {
		has   string // which of the leaves 1, 2, … are stored
		send  []string
		fills int
	}{
		"the one behind it":     {".x", []string{"b"}, 1},
		"both":                  {".x", []string{"a", "b"}, 0},
		"another":               {".x", []string{"z"}, 0},
		"two holes":             {".x.x", []string{"b", "d"}, 2},
		"the last of many":      {".x.x.x", []string{"f"}, 3},
		"all":                   {".x.x.x", []string{"a", "b", "c", "d", "e", "f"}, 0},
		"nothing missing":       {"xx", []string{"b", "a"}, 0},
		"backwards":             {".x.x.x", []string{"f", "e", "d", "c", "b", "a"}, 3},
		"two in a row":          {"..x", []string{"c"}, 2},
		"many in a row":         {".......x", []string{"h"}, 7},
		"rows of several":       {"..x...x.x", []string{"i"}, 6},
		"a long way behind one": {".xxxxxxxx", []string{"i"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			l, cluster := newClusterLog(t, 1)
			s := l.open(nil)
			l.mustSubmit("first", "x")
			ids := strings.Split("abcdefghi", "")[:len(c.has)]
			cluster.halfStored(t, s, 1, ids, func(i int) bool { return c.has[i] == 'x' })
			got := &answered{}
			for _, id := range c.send {
				r := l.mustSubmit(id, "x")
				got.add(t, id, r)
			}
			for _, id := range ids { // what was stored is there, whoever is asked for
				got.add(t, id, l.mustSubmit(id, "x"))
			}
			size := int(s.published.Load().head.Size)
			got.check(l)
			l.mustAudit()
			fills := size - 1 - len(got.byID)
			if fills != c.fills {
				t.Errorf("%d holes were filled with events of the service's own, want %d", fills, c.fills)
			}
			if r := s.Ready(t.Context()); !r.Ready {
				t.Errorf("%+v", r)
			}
		})
	}
}

// TestUnknownLeaf: an identity that the tree has, and neither the store nor any leaf that can
// be read, is tampering: refused, and not filled for ever.
func TestUnknownLeaf(t *testing.T) {
	l, c := newClusterLog(t, 1)
	s := l.open(nil)
	l.mustSubmit("first", "x")
	l.mustSubmit("second", "x")
	id := s.identity("default", "cron://node-1", "second")
	if _, err := c.db.Root(t, c.ours).ExecContext(t.Context(), "DELETE FROM prooftrail_identity WHERE hash = ?", id[:]); err != nil {
		t.Fatal(err)
	}
	r := l.submit(submitter("default"), "second", "x", Integrated)
	if ready := s.Ready(t.Context()); !errors.Is(r.Err, ErrRefusing) && !ready.Refusing || !strings.Contains(ready.Reason, "doesn't know") {
		t.Errorf("%+v, %+v", r, ready)
	}
	root, err := s.tree.Root(t.Context())
	if err != nil || root.Size > 2+2*maxBatchEvents {
		t.Errorf("%+v, %v", root, err)
	}
}

// TestSignersStall: signers that don't integrate show in readiness and as a metric within
// seconds, and it goes on by itself when they do.
func TestSignersStall(t *testing.T) {
	t.Parallel() // most of it is waiting for other processes
	l, c := newClusterLog(t, 2)
	reg := prometheus.NewRegistry()
	l.cfg.Metrics = NewMetrics(reg)
	s := l.open(nil)
	l.mustSubmit("a", "x")
	c.signer.Pause(t)
	p, err := s.Admit(t.Context(), submitter("default"), Submission{Event: eventJSON("b", "x")})
	if err != nil {
		t.Fatal(err)
	}
	if r := p.Wait(t.Context(), Durable); r.Err != nil || r.Index != 1 {
		t.Fatalf("it isn't stored: %+v", r)
	}
	began := time.Now()
	var ready Readiness
	for ready = s.Ready(t.Context()); ready.Ready && time.Since(began) < 30*time.Second; <-time.After(50 * time.Millisecond) {
		ready = s.Ready(t.Context())
	}
	if took := time.Since(began); !strings.Contains(ready.Reason, "the Trillian signers don't integrate: their tree has had size 1") || took > 9*time.Second {
		t.Errorf("after %v: %+v", took, ready)
	}
	stalled := func() float64 {
		t.Helper()
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "prooftrail_signers_stalled_seconds" {
				return f.GetMetric()[0].GetGauge().GetValue()
			}
		}
		return -1
	}
	if s := stalled(); s < 4 {
		t.Errorf("stalled for %v s, says the metric", s)
	}
	c.signer.Resume(t)
	l.t = t
	l.mustSubmit("c", "x")
	for began := time.Now(); !ready.Ready && time.Since(began) < 10*time.Second; <-time.After(20 * time.Millisecond) {
		ready = s.Ready(t.Context())
	}
	if !ready.Ready || stalled() != 0 {
		t.Errorf("afterwards: %+v, stalled for %v", ready, stalled())
	}
	l.mustAudit()
}

// TestClusterStoresNothing: a cluster that answers and stores nothing shows in readiness; what
// is sent again meanwhile doesn't pile up, and is stored once afterwards.
func TestClusterStoresNothing(t *testing.T) {
	t.Parallel() // most of it is waiting for other processes
	l, c := newClusterLog(t, 1)
	l.cfg.MaxLag = 2 * time.Second
	s := l.open(nil)
	l.mustSubmit("a", "x")
	admin := c.db.Root(t, c.name)
	if _, err := admin.ExecContext(t.Context(), "CREATE TRIGGER full BEFORE INSERT ON LeafData FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'full'"); err != nil {
		t.Fatal(err)
	}
	var sent int
	began := time.Now()
	for ready := true; ready && time.Since(began) < 20*time.Second; sent++ {
		if r := l.submit(submitter("default"), "b", "x", Integrated); !errors.Is(r.Err, ErrUnavailable) {
			t.Fatalf("%+v", r)
		}
		ready = s.Ready(t.Context()).Ready
	}
	if r := s.Ready(t.Context()); r.Ready || r.Reason != "events can't be stored" {
		t.Errorf("%+v", r)
	}
	if most := int(time.Since(began)/maxBrake) + 12; sent > most {
		t.Errorf("%d copies of it are stored", sent)
	}
	if _, err := admin.ExecContext(t.Context(), "DROP TRIGGER full"); err != nil {
		t.Fatal(err)
	}
	if r := l.mustSubmit("b", "x"); r.Index != 1 {
		t.Errorf("%+v", r)
	}
	if r := s.Ready(t.Context()); !r.Ready {
		t.Errorf("%+v", r)
	}
	l.mustAudit()
}
