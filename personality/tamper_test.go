package personality

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/prooftrail/prooftrail/personality/pebblestore/crashtest"
	"github.com/prooftrail/prooftrail/personality/pubstore"
	"github.com/prooftrail/prooftrail/personality/tree"
)

// What the store holds of tokens and of the log itself can't be changed there.
func TestEditedRecords(t *testing.T) {
	l := newTestLog(t)
	l.open(nil)
	tok, text, err := l.svc.AddToken(t.Context(), OperatorCaller(), TokenRequest{Name: "n", Tenant: "acme", Roles: []Role{RoleRead}})
	if err != nil {
		t.Fatal(err)
	}
	l.close()
	replace := func(old, changed string) func([]byte) []byte {
		return func(b []byte) []byte { return bytes.Replace(b, []byte(old), []byte(changed), 1) }
	}
	l.edit([]byte("pk"+tok.ID), replace(`"acme"`, `"default"`))
	l.open(nil)
	l.mustRefuse("token " + tok.ID)
	if _, err := l.svc.Authenticate(t.Context(), text); !errors.Is(err, ErrUnauthorized) {
		t.Errorf("a token that was edited: %v, want ErrUnauthorized", err)
	}
	l.close()
	l.edit([]byte("pk"+tok.ID), replace(`"default"`, `"acme"`))
	l.edit([]byte("pl"), replace(`"name":"audit"`, `"name":"other"`))
	if _, err := l.tryOpen(nil); !errors.Is(err, errRecord) {
		t.Errorf("edited parameters: %v, want errRecord", err)
	}
	l.edit([]byte("pl"), replace(`"name":"other"`, `"name":"audit"`))
	l.open(nil)
	if _, err := l.svc.Authenticate(t.Context(), text); err != nil {
		t.Errorf("all put back: %v", err)
	}
}

// An identity that leads to another event's entry makes neither a conflict nor a
// duplicate.
func TestIdentityPointsElsewhere(t *testing.T) {
	l := newTestLog(t)
	l.open(nil)
	l.mustSubmit("a", "x")
	l.mustSubmit("b", "x")
	id := l.svc.identity("default", "cron://node-1", "a")
	l.close()
	l.edit(append([]byte("pi"), id[:]...), func([]byte) []byte { return binary.BigEndian.AppendUint64(nil, 1) })
	l.open(nil)
	for _, note := range []string{"x", "y"} {
		if r := l.submit(submitter("default"), "a", note, Durable); !errors.Is(r.Err, ErrUnavailable) || r.Status != "" {
			t.Errorf("got %+v, want ErrUnavailable", r)
		}
	}
	l.mustSubmit("c", "x")
	if own := l.actions(); len(own) != 0 {
		t.Errorf("logged %q", own)
	}
}

// A duplicate is compared with an opening only if that opens the leaf.
func TestDuplicateOfEditedOpening(t *testing.T) {
	l := newTestLog(t)
	l.open(nil)
	r := l.mustSubmit("a", "x")
	l.close()
	l.edit(append(binary.BigEndian.AppendUint64([]byte("po"), r.Index), r.LeafHash[:]...), func(b []byte) []byte {
		return bytes.Replace(b, []byte(`"v":"x"`), []byte(`"v":"y"`), 1)
	})
	l.open(nil)
	if r := l.submit(submitter("default"), "a", "y", Durable); !errors.Is(r.Err, ErrUnavailable) {
		t.Errorf("got %+v, want ErrUnavailable", r)
	}
	if report, err := l.audit(); err == nil || report.FailureCount != 1 || report.Failures[0].Index != 0 {
		t.Errorf("audit: %+v, %v; want a failure at entry 0", report, err)
	}
}

// slippedTree integrates one leaf more than it was asked for.
type slippedTree struct {
	tree.Tree
	t *testing.T
}

func (s slippedTree) Integrate(ctx context.Context, size uint64) (tree.Root, error) {
	leaf, _ := forge(s.t, size)
	if err := s.Append(ctx, []tree.Leaf{leaf}); err != nil {
		return tree.Root{}, err
	}
	return s.Tree.Integrate(ctx, size+1)
}

// I2: a tree that has more than was sequenced isn't signed for.
func TestRootBeyondSequenced(t *testing.T) {
	l := newTestLog(t)
	l.open(func(p *parts) { p.tree = slippedTree{p.tree, t} })
	if r := l.submit(submitter("default"), "a", "x", Integrated); !errors.Is(r.Err, ErrRefusing) {
		t.Fatalf("got %+v, want ErrRefusing", r)
	}
	l.mustRefuse("sequenced only 1")
}

// I2: identities are compared as leaves are.
func TestIdentityReadBackChanged(t *testing.T) {
	l := newTestLog(t)
	l.open(func(p *parts) {
		p.tree = &lyingTree{Tree: p.tree, leaves: func(ls []tree.Leaf) []tree.Leaf { ls[0].IdentityHash[0] ^= 1; return ls }}
	})
	if r := l.submit(submitter("default"), "a", "x", Integrated); !errors.Is(r.Err, ErrRefusing) {
		t.Fatalf("got %+v, want ErrRefusing", r)
	}
}

// A refusing log shows no checkpoint but its own.
func TestKeptCheckpointIsChecked(t *testing.T) {
	l := newTestLog(t)
	l.open(nil)
	l.mustSubmit("a", "x")
	l.close()
	l.edit([]byte("pc"), func([]byte) []byte { return []byte("<script>\n") })
	l.edit([]byte("ph"), func(b []byte) []byte { b[len(b)-1] ^= 1; return b })
	l.open(nil)
	l.mustRefuse("changed outside the service")
	if cp, err := l.svc.Checkpoint(t.Context()); !errors.Is(err, ErrNotFound) {
		t.Errorf("checkpoint %q, %v", cp, err)
	}
}

// Marks that nobody wrote this way make the log refuse, not fail to open.
func TestDamagedMark(t *testing.T) {
	l := newTestLog(t)
	l.open(nil)
	l.mustSubmit("a", "x")
	l.close()
	l.database(func(db *pebble.DB, _ tree.Tree, _ pubstore.Store) {
		if err := db.Set(binary.BigEndian.AppendUint64([]byte("ps"), 1), []byte("?"), pebble.Sync); err != nil {
			t.Fatal(err)
		}
	})
	l.open(nil)
	l.mustRefuse("damaged")
}

// I3: a slot that was written and not synced is made durable when it is read.
func TestAnchorThatWasReadIsDurable(t *testing.T) {
	disk := crashtest.New()
	l := newTestLogOn(t, disk)
	a := must(openAnchor(disk, l.cfg.Anchor, l.vkey, false))
	must(a.Load(t.Context()))
	head := pubstore.Head{Size: 7, Root: [32]byte{7}}
	must(a.f.WriteAt(a.slot(head), int64(a.next)*slotStride)) // and the process dies
	again := must(openAnchor(disk, l.cfg.Anchor, l.vkey, false))
	if got := must(again.Load(t.Context())); got != head {
		t.Fatalf("read %+v", got)
	}
	after := must(openAnchor(disk.CrashClone(vfs.CrashCloneCfg{}), l.cfg.Anchor, l.vkey, false))
	if got := must(after.Load(t.Context())); got != head {
		t.Errorf("after losing power: %+v, want %+v", got, head)
	}
}

// Readiness comes back without an event, once storage works again.
func TestReadinessComesBack(t *testing.T) {
	l := newTestLog(t)
	l.cfg.MaxLag = 1 // nanosecond
	f := &fault{}
	l.open(withFaults(f))
	f.next("append", failed)
	if r := l.submit(submitter("default"), "a", "x", Durable); !errors.Is(r.Err, ErrUnavailable) {
		t.Fatalf("%+v", r)
	}
	deadline := time.Now().Add(20 * probeEvery)
	for !l.svc.Ready(t.Context()).Ready {
		if time.Now().After(deadline) {
			t.Fatalf("still %+v", l.svc.Ready(t.Context()))
		}
	}
	// When no identity can be looked up, no event is stored: that is failing too.
	f.next("index", failed)
	if r := l.submit(submitter("default"), "a", "x", Durable); !errors.Is(r.Err, ErrUnavailable) {
		t.Fatalf("%+v", r)
	}
	for l.svc.Ready(t.Context()).Ready {
		if time.Now().After(deadline) {
			t.Fatal("ready, although nothing could be stored")
		}
	}
}

// Close doesn't wait for ever for storage that hangs, nor does anybody else.
func TestCloseWithHungStorage(t *testing.T) {
	l := newTestLog(t)
	hold := make(chan struct{})
	defer close(hold)
	l.cfg.QueueEvents = 1
	l.open(func(p *parts) { p.tree = heldTree{p.tree, hold} })
	svc := l.svc
	l.svc = nil // not to be closed by the test's end
	done := make(chan error)
	for range 4 {
		go func() {
			_, err := svc.Admit(context.Background(), submitter("default"), Submission{Event: eventJSON(time.Now().String(), "x")})
			done <- err
		}()
	}
	for svc.Ready(t.Context()).OldestUnpublished == 0 { // until the sequencer hangs
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := svc.Close(ctx); err == nil || !strings.Contains(err.Error(), "hangs") {
		t.Errorf("Close: %v", err)
	}
	for range 4 {
		if err := <-done; err != nil && !errors.Is(err, ErrClosing) {
			t.Errorf("Admit: %v", err)
		}
	}
	if svc.Ready(t.Context()).Ready {
		t.Error("ready")
	}
}
