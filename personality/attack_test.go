package personality

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/prooftrail/prooftrail/personality/pubstore"
	"github.com/prooftrail/prooftrail/personality/tree"
	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/event"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

// database opens the closed log's database, as somebody does who holds it but
// not the log's keys.
func (l *testLog) database(change func(db *pebble.DB, t tree.Tree, s pubstore.Store)) {
	l.t.Helper()
	cfg, err := l.cfg.withDefaults()
	if err != nil {
		l.t.Fatal(err)
	}
	db, err := openPebble(cfg, cfg.Dir, true)
	if err != nil {
		l.t.Fatal(err)
	}
	s := pubstore.NewPebble(db)
	params, err := s.Log(context.Background())
	if err != nil {
		l.t.Fatal(err)
	}
	t, err := tree.OpenEmbedded(context.Background(), db, params.TreeID, embedded{cfg}.treeOptions())
	if err != nil {
		l.t.Fatal(err)
	}
	change(db, t, s)
	if err := errors.Join(t.Close(), db.Close()); err != nil {
		l.t.Fatal(err)
	}
}

// forge is a leaf and an opening that were never submitted.
func forge(t *testing.T, index uint64) (tree.Leaf, pubstore.Opening) {
	t.Helper()
	fields, err := event.Parse(eventJSON("forged", "by the database's owner"))
	if err != nil {
		t.Fatal(err)
	}
	fields, err = fields.Stamp(event.Stamp{Tenant: "default", ReceivedAt: time.Now(), Principal: "sub/t-default"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := seal.Commit(fields, nil)
	if err != nil {
		t.Fatal(err)
	}
	sealed := c.At(time.Now())
	return tree.Leaf{Index: index, Value: sealed.Leaf, IdentityHash: [32]byte{1}}, pubstore.Opening{LeafHash: sealed.LeafHash, Bytes: sealed.Opening}
}

// I2, I7: leaves past the head that this log didn't sequence are not signed for,
// whether they were put in or put in the place of one that had been answered.
func TestForgedLeafIsRefused(t *testing.T) {
	l := newTestLog(t)
	l.open(nil)
	l.mustSubmit("a", "x")
	l.close()
	l.database(func(_ *pebble.DB, tr tree.Tree, s pubstore.Store) {
		leaf, opening := forge(t, 1)
		if err := errors.Join(
			s.PutBatch(t.Context(), pubstore.Batch{Mark: pubstore.Mark{First: 1, Leaves: []pubstore.LeafID{{Hash: opening.LeafHash, Identity: leaf.IdentityHash}}, MAC: [32]byte{1}}, Openings: []pubstore.Opening{opening}}),
			tr.Append(t.Context(), []tree.Leaf{leaf})); err != nil {
			t.Fatal(err)
		}
	})
	l.open(nil)
	l.mustRefuse("didn't sequence it")
}

// The same for a tail that the store says is published, tiles, head and all, but
// that was never anchored.
func TestForgedTailIsRefused(t *testing.T) {
	l := newTestLog(t)
	l.open(nil)
	l.mustSubmit("a", "x")
	first := must(l.svc.leafHash(t.Context(), 0))
	old := l.svc.published.Load().head
	l.close()
	l.database(func(_ *pebble.DB, tr tree.Tree, s pubstore.Store) {
		leaf, opening := forge(t, 1)
		if err := errors.Join(s.PutBatch(t.Context(), pubstore.Batch{Openings: []pubstore.Opening{opening}}),
			tr.Append(t.Context(), []tree.Leaf{leaf})); err != nil {
			t.Fatal(err)
		}
		root, err := tr.Integrate(t.Context(), 2)
		if err != nil || root.Hash != verifier.NodeHash(first, opening.LeafHash) {
			t.Fatalf("integrate: %+v, %v", root, err)
		}
		if err := s.Publish(t.Context(), old, pubstore.Publication{
			Head:    pubstore.SealedHead{Head: pubstore.Head{Size: 2, Root: root.Hash}, MAC: [32]byte{1}},
			Tiles:   []pubstore.TileAppend{{Width: 1, Data: opening.LeafHash[:]}},
			Bundles: []pubstore.TileAppend{{Width: 1, Data: append([]byte{byte(len(leaf.Value) >> 8), byte(len(leaf.Value))}, leaf.Value...)}},
			IDs:     []pubstore.ID{{Hash: leaf.IdentityHash, Index: 1}},
		}); err != nil {
			t.Fatal(err)
		}
	})
	l.open(nil)
	l.mustRefuse("the head of size 2: changed outside the service")
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// An identity that was taken out of the store must not make every batch fail with
// its event in it: the service refuses, and says so.
func TestIdentityTakenOut(t *testing.T) {
	l := newTestLog(t)
	l.open(nil)
	l.mustSubmit("a", "x")
	id := l.svc.identity("default", "cron://node-1", "a")
	l.close()
	l.edit(append([]byte("pi"), id[:]...), func([]byte) []byte { return nil })
	l.open(nil)
	if r := l.submit(submitter("default"), "a", "x", Durable); !errors.Is(r.Err, ErrRefusing) {
		t.Fatalf("got %+v, want ErrRefusing", r)
	}
	l.mustRefuse("doesn't know")
}

// The receipt of a duplicate doesn't show another submitter how the event came in.
func TestDuplicateOfAnother(t *testing.T) {
	l := newTestLog(t)
	l.open(nil)
	l.mustSubmit("a", "x")
	other := submitter("default")
	other.Token.ID = "other"
	r := l.submit(other, "a", "x", Integrated)
	v, err := verifier.VerifyReceipt(r.Receipt.Bytes(), l.policy)
	if err != nil || r.Status != StatusDuplicate {
		t.Fatalf("%+v: %v", r, err)
	}
	if got := v.Event.Text("/ingest/principal") + v.Event.Text("/ingest/peer_ip"); got != "" || v.Event.Text("/details/note") != "x" {
		t.Errorf("the receipt shows %s", v.Event.JSON())
	}
	if strings.Contains(string(r.Receipt.Bytes()), "192.0.2.7") {
		t.Error("the receipt has the first submitter's address")
	}
	// The first submitter gets it whole.
	l.checkReceipt(l.submit(submitter("default"), "a", "x", Integrated), "a")
}

// A reader of all tenants finds the events of one whose last token is revoked.
func TestTenantWithoutTokens(t *testing.T) {
	l := newTestLog(t)
	l.open(nil)
	ctx := t.Context()
	tok, _, err := l.svc.AddToken(ctx, OperatorCaller(), TokenRequest{Name: "n", Tenant: "acme", Roles: []Role{RoleSubmit}, Sources: []string{""}})
	if err != nil {
		t.Fatal(err)
	}
	if r := l.submit(Caller{Token: tok}, "a", "x", Integrated); r.Err != nil {
		t.Fatal(r.Err)
	}
	if err := l.svc.RevokeToken(ctx, OperatorCaller(), tok.ID); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if e, err := l.svc.EventByID(ctx, reader(AllTenants), "cron://node-1", "a"); err != nil || e.Opening == nil {
			t.Errorf("EventByID: %+v, %v", e, err)
		}
		l.close()
		l.open(nil)
	}
}

// Past MaxUnpublished nothing more is accepted, and once publishing goes on
// everything is.
func TestUnpublishedIsBounded(t *testing.T) {
	l := newTestLog(t)
	l.cfg.MaxUnpublished = 50
	f := &fault{}
	l.open(withFaults(f))
	f.next("anchor", repeat(failed, 1000)...)
	accepted, busy := 0, 0
	var last *Pending
	for i := range 200 {
		p, err := l.svc.Admit(t.Context(), submitter("default"), Submission{Event: eventJSON(fmt.Sprint("e", i), "x")})
		if err != nil {
			t.Fatal(err)
		}
		switch r := p.Wait(t.Context(), Durable); {
		case r.Err == nil:
			accepted, last = accepted+1, p
		case errors.Is(r.Err, ErrBusy):
			busy++
		default:
			t.Fatal(r.Err)
		}
	}
	if accepted != 50 || busy != 150 {
		t.Errorf("%d accepted and %d refused as busy, want 50 and 150", accepted, busy)
	}
	f.clear()
	last.Wait(t.Context(), Integrated)
	for i := range 60 {
		l.insist(fmt.Sprint("e", i))
	}
	l.mustAudit()
}

func repeat(o outcome, n int) []outcome {
	all := make([]outcome, n)
	for i := range all {
		all[i] = o
	}
	return all
}

// The queue is bounded in bytes.
func TestQueueBytes(t *testing.T) {
	l := newTestLog(t)
	l.cfg.QueueBytes = 4000
	hold := make(chan struct{})
	l.open(func(p *parts) { p.tree = heldTree{p.tree, hold} })
	var pending []*Pending
	for i := range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		p, err := l.svc.Admit(ctx, submitter("default"), Submission{Event: eventJSON(fmt.Sprint("e", i), "x")})
		if errors.Is(err, ErrBusy) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		pending = append(pending, p)
	}
	if n := len(pending); n < 1 || n > 4 {
		t.Errorf("%d events of about 1 KB are queued within 4000 bytes", n)
	}
	close(hold)
	for _, p := range pending {
		if r := p.Wait(t.Context(), Integrated); r.Receipt == nil {
			t.Error(r.Err)
		}
	}
	l.mustSubmit("after", "x")
	l.mustAudit()
}

// heldTree appends once hold is closed.
type heldTree struct {
	tree.Tree
	hold chan struct{}
}

func (t heldTree) Append(ctx context.Context, leaves []tree.Leaf) error {
	<-t.hold
	return t.Tree.Append(ctx, leaves)
}

// Readiness is about work done: not ready while storing hangs, or fails.
func TestReadiness(t *testing.T) {
	l := newTestLog(t)
	l.cfg.MaxLag = 1 // nanosecond
	hold := make(chan struct{})
	f := &fault{}
	l.open(func(p *parts) { withFaults(f)(p); p.tree = heldTree{p.tree, hold} })
	if r := l.svc.Ready(t.Context()); !r.Ready {
		t.Fatalf("idle: %+v", r)
	}
	p, err := l.svc.Admit(t.Context(), submitter("default"), Submission{Event: eventJSON("a", "x")})
	if err != nil {
		t.Fatal(err)
	}
	for l.svc.Ready(t.Context()).Ready { // until the sequencer has taken it
	}
	close(hold)
	p.Wait(t.Context(), Integrated)
	f.next("append", failed)
	if r := l.submit(submitter("default"), "b", "x", Durable); !errors.Is(r.Err, ErrUnavailable) {
		t.Fatalf("%+v", r)
	}
	for l.svc.Ready(t.Context()).Reason != "events can't be stored" { // until the sequencer has noted it
	}
	l.insist("b")
	for !l.svc.Ready(t.Context()).Ready { // until the sequencer has noted it
	}
}

// What is known is told, however late it is asked for.
func TestWaitWithEndedContext(t *testing.T) {
	l := newTestLog(t)
	l.open(nil)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for i := range 200 {
		p, err := l.svc.Admit(t.Context(), submitter("default"), Submission{Event: eventJSON(fmt.Sprint("e", i), "x")})
		if err != nil {
			t.Fatal(err)
		}
		first := p.Wait(t.Context(), Integrated)
		if again := p.Wait(ended, Durable); again.Err != nil || again.Index != first.Index {
			t.Fatalf("event %d: %+v, then with an ended context %+v", i, first, again)
		}
	}
}

// Waiting for an answer after Close gets one, or ErrClosing.
func TestWaitAfterClose(t *testing.T) {
	l := newTestLog(t)
	l.open(nil)
	var pending []*Pending
	for i := range 5000 {
		p, err := l.svc.Admit(t.Context(), submitter("default"), Submission{Event: eventJSON(fmt.Sprint("e", i), "x")})
		if err != nil {
			t.Fatal(err)
		}
		pending = append(pending, p)
	}
	svc := l.svc
	l.close()
	for i, p := range pending {
		if r := p.Wait(t.Context(), Integrated); !errors.Is(r.Err, ErrClosing) || r.Index != uint64(i) {
			t.Fatalf("event %d: %+v, want ErrClosing and the index", i, r)
		}
	}
	for name, read := range map[string]func() error{
		"entry": func() error { _, err := svc.Entry(t.Context(), reader("default"), 0); return err },
		"tile":  func() error { _, err := svc.Tile(t.Context(), 0, 0, 1); return err },
		"proof": func() error { _, err := svc.ProveConsistency(t.Context(), 1, 2); return err },
	} {
		if err := read(); !errors.Is(err, ErrClosing) {
			t.Errorf("%s after Close: %v, want ErrClosing", name, err)
		}
	}
}

// Closing from several sides stops once; a start that couldn't be logged is logged
// the next time.
func TestStartAndStopOnce(t *testing.T) {
	l := newTestLog(t)
	f := &fault{}
	l.open(withFaults(f))
	f.next("append", failed)
	if err := l.svc.Announce(t.Context()); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("Announce: %v", err)
	}
	if err := l.svc.Announce(t.Context()); err != nil {
		t.Fatal(err)
	}
	errs := make(chan error)
	for range 4 {
		go func(s *Service) { errs <- s.Close(context.Background()) }(l.svc)
	}
	for range 4 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	l.svc = nil
	l.open(nil)
	want := "[audit.start prooftrail log example.com/audit audit.stop prooftrail log example.com/audit]"
	if got := fmt.Sprint(l.actions()); got != want {
		t.Errorf("logged %s, want %s", got, want)
	}
}
