package personality

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/personality/pubstore"
	"github.com/prooftrail/prooftrail/personality/tree"
	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/event"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

// lyingTree answers as a broken or bribed Trillian might.
type lyingTree struct {
	tree.Tree
	root   func(tree.Root) tree.Root
	leaves func([]tree.Leaf) []tree.Leaf
}

func (t *lyingTree) Integrate(ctx context.Context, size uint64) (tree.Root, error) {
	r, err := t.Tree.Integrate(ctx, size)
	if t.root != nil {
		r = t.root(r)
	}
	return r, err
}

func (t *lyingTree) Leaves(ctx context.Context, start uint64, count int) ([]tree.Leaf, error) {
	l, err := t.Tree.Leaves(ctx, start, count)
	if t.leaves != nil && len(l) > 0 {
		l = t.leaves(l)
	}
	return l, err
}

// I2: what Trillian answers is recomputed before it is signed.
func TestNothingFalseIsSigned(t *testing.T) {
	lies := map[string]lyingTree{
		"root":         {root: func(r tree.Root) tree.Root { r.Hash[0] ^= 1; return r }},
		"size":         {root: func(r tree.Root) tree.Root { r.Size++; return r }},
		"smaller size": {root: func(r tree.Root) tree.Root { r.Size = 1; return r }},
		"leaf": {leaves: func(l []tree.Leaf) []tree.Leaf {
			l[0].Value = append(bytes.Clone(l[0].Value[:len(l[0].Value)-1]), ' ')
			return l
		}},
		"leaf missing": {leaves: func([]tree.Leaf) []tree.Leaf { return nil }},
		"leaf index":   {leaves: func(l []tree.Leaf) []tree.Leaf { l[0].Index++; return l }},
	}
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			l := newTestLog(t)
			l.open(nil)
			l.mustSubmit("a", "x")
			l.mustSubmit("b", "x")
			l.close()
			l.open(func(p *parts) { lie.Tree = p.tree; p.tree = &lie })
			before, _ := l.svc.Checkpoint(t.Context())
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			p, err := l.svc.Admit(ctx, submitter("default"), Submission{Event: eventJSON("c", "x")})
			if err != nil {
				t.Fatal(err)
			}
			if r := p.Wait(ctx, Integrated); r.Receipt != nil {
				t.Fatalf("a receipt was made from a lie: %+v", r)
			}
			if after, _ := l.svc.Checkpoint(t.Context()); !bytes.Equal(before, after) {
				t.Fatalf("a checkpoint was signed from a lie:\n%s", after)
			}
			// The lie gone, a restart publishes what was stored.
			l.abandon()
			l.open(nil)
			if r := l.insist("c"); r.Index != 2 {
				t.Errorf("event c is at %d, want 2", r.Index)
			}
			l.mustAudit()
		})
	}
}

// I2: leaf and root changed together are still not what was answered for.
func TestLeafChangedWithItsRoot(t *testing.T) {
	l := newTestLog(t)
	var values [][]byte
	change := func(p *parts) {
		lie := &lyingTree{Tree: p.tree}
		lie.leaves = func(ls []tree.Leaf) []tree.Leaf {
			ls[len(ls)-1].Value = []byte(`{"forged":1}`)
			values = nil
			for _, leaf := range ls {
				values = append(values, leaf.Value)
			}
			return ls
		}
		lie.root = func(r tree.Root) tree.Root {
			forged := verifier.LeafHash([]byte(`{"forged":1}`))
			return tree.Root{Size: r.Size, Hash: forged} // a tree of one leaf has its hash as root
		}
		p.tree = lie
	}
	l.open(change)
	if r := l.submit(submitter("default"), "a", "x", Integrated); !errors.Is(r.Err, ErrRefusing) {
		t.Fatalf("got %+v, want ErrRefusing", r)
	}
	if len(values) == 0 {
		t.Fatal("the lie was never told")
	}
	if got := l.svc.Ready(t.Context()); got.Ready || !got.Refusing || !strings.Contains(got.Reason, "entry 0") {
		t.Errorf("readiness %+v, want refusing because of entry 0", got)
	}
	l.abandon()
}

// I3: a store put back from a backup is behind its anchor. The service refuses to
// sequence, sign and show content, and goes on serving tiles and proofs.
func TestRestoredBackupIsRefused(t *testing.T) {
	l := newTestLog(t)
	l.open(nil)
	for i := range 10 {
		l.mustSubmit(fmt.Sprint("e", i), "x")
	}
	l.close()
	backup := l.cfg.Dir + ".backup"
	if err := os.CopyFS(backup, os.DirFS(l.cfg.Dir)); err != nil {
		t.Fatal(err)
	}
	l.open(nil)
	l.mustSubmit("later", "x")
	l.close()
	if err := errors.Join(os.RemoveAll(l.cfg.Dir), os.Rename(backup, l.cfg.Dir), os.Chmod(l.cfg.Dir, 0o700), os.Chmod(l.cfg.Dir+"/"+keyFile, 0o600)); err != nil {
		t.Fatal(err)
	}
	l.open(nil)
	l.mustRefuse("size 11 has been signed")
	ctx := t.Context()
	if cp, err := l.svc.Checkpoint(ctx); err != nil || !strings.HasPrefix(string(cp), testOrigin+"\n10\n") {
		t.Errorf("checkpoint: %q, %v; want the one kept, of size 10", cp, err)
	}
	if tile, err := l.svc.Tile(ctx, 0, 0, 10); err != nil || len(tile) != 320 {
		t.Errorf("tile: %d bytes, %v", len(tile), err)
	}
	if _, err := l.svc.ProveConsistency(ctx, 3, 10); err != nil {
		t.Errorf("consistency proof: %v", err)
	}
}

// mustRefuse checks that the open service refuses everything that I3 names.
func (l *testLog) mustRefuse(reason string) {
	l.t.Helper()
	ctx := context.Background()
	if got := l.svc.Ready(ctx); got.Ready || !got.Refusing || !strings.Contains(got.Reason, reason) {
		l.t.Fatalf("readiness %+v, want refusing because of %q", got, reason)
	}
	if r := l.submit(submitter("default"), "refused", "x", Durable); !errors.Is(r.Err, ErrRefusing) {
		l.t.Errorf("submit: %+v, want ErrRefusing", r)
	}
	if _, err := l.svc.Entry(ctx, reader(AllTenants), 0); !errors.Is(err, ErrRefusing) {
		l.t.Errorf("read an entry: %v, want ErrRefusing", err)
	}
	err := l.svc.Openings(ctx, reader(AllTenants), 0, 1, func(OpeningLine) error { return nil })
	if !errors.Is(err, ErrRefusing) {
		l.t.Errorf("read openings: %v, want ErrRefusing", err)
	}
	if _, _, err := l.svc.AddToken(ctx, OperatorCaller(), TokenRequest{Name: "a", Tenant: "b", Roles: []Role{RoleRead}}); !errors.Is(err, ErrRefusing) {
		l.t.Errorf("add a token: %v, want ErrRefusing", err)
	}
}

// I3: an anchor that is missing, torn, another log's, or at another root.
func TestAnchorDecides(t *testing.T) {
	other := newTestLog(t)
	cases := map[string]struct {
		change func(anchor []byte) []byte
		refuse string // empty: opens
	}{
		"missing":                       {func([]byte) []byte { return nil }, "missing"},
		"empty":                         {func([]byte) []byte { return []byte{} }, "slot"},
		"both slots torn":               {func(b []byte) []byte { b[30] ^= 1; b[slotStride+30] ^= 1; return b }, "checksum"},
		"one slot torn":                 {func(b []byte) []byte { b[30] ^= 1; return b }, ""},
		"other slot torn":               {func(b []byte) []byte { b[slotStride+30] ^= 1; return b }, ""},
		"another log's":                 {func([]byte) []byte { b, _ := os.ReadFile(other.cfg.Anchor); return b }, "another log"},
		"another root":                  {func(b []byte) []byte { return anchorAt(b, 2, [32]byte{1}) }, "another history"},
		"another root of the same size": {func(b []byte) []byte { return anchorAt(b, 3, [32]byte{1}) }, "another history"},
		"ahead":                         {func(b []byte) []byte { return anchorAt(b, 4, [32]byte{1}) }, "older copy"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			l := newTestLog(t)
			l.open(nil)
			for _, id := range []string{"a", "b", "c"} {
				l.mustSubmit(id, "x")
			}
			l.close()
			b, err := os.ReadFile(l.cfg.Anchor)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(l.cfg.Anchor); err != nil {
				t.Fatal(err)
			}
			if b = c.change(b); b != nil {
				if err := os.WriteFile(l.cfg.Anchor, b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			l.open(nil)
			if c.refuse != "" {
				l.mustRefuse(c.refuse)
				return
			}
			l.mustSubmit("d", "x")
			l.mustAudit()
		})
	}
}

// anchorAt is the anchor b, moved to a head.
func anchorAt(b []byte, size uint64, root [32]byte) []byte {
	a := &fileAnchor{logID: strings.Fields(string(b))[1]}
	slot := a.slot(pubstore.Head{Size: size, Root: root})
	return append(bytes.Clone(slot), slot...)
}

// I4: losing values leaves leaf, proof and receipt of the entry standing.
func TestOpeningLosesValues(t *testing.T) {
	l := newTestLog(t)
	l.open(nil)
	r := l.mustSubmit("a", "secret")
	l.mustSubmit("b", "x")
	ctx := t.Context()
	stored, err := l.svc.store.Opening(ctx, r.Index, r.LeafHash)
	if err != nil {
		t.Fatal(err)
	}
	o, err := seal.ParseOpening(stored)
	if err != nil {
		t.Fatal(err)
	}
	less, err := o.Withhold("/details/note")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.svc.store.ReplaceOpening(ctx, r.Index, r.LeafHash, stored, less.Bytes()); err != nil {
		t.Fatal(err)
	}
	receipt, err := l.svc.Receipt(ctx, reader("default"), r.Index, Integrated)
	if err != nil {
		t.Fatal(err)
	}
	v, err := verifier.VerifyReceipt(receipt, l.policy)
	if err != nil || v.Content != seal.VerifiedRedacted || len(v.Withheld) != 1 || v.Withheld[0] != "/details/note" {
		t.Fatalf("verdict %+v, %v", v, err)
	}
	if bytes.Contains(less.Bytes(), []byte("secret")) {
		t.Error("the value is still there")
	}
	l.mustAudit()
	// I5: what is still held is compared.
	if r := l.submit(submitter("default"), "a", "another", Integrated); r.Status != StatusDuplicate {
		t.Errorf("same but for the erased value: %+v, want duplicate", r)
	}
}

// I5: one identity is one entry, whoever sends it how often from where.
func TestIdentity(t *testing.T) {
	l := newTestLog(t)
	l.open(nil)
	first := l.mustSubmit("a", "x")
	elsewhere := submitter("default")
	elsewhere.PeerIP = reader("x").PeerIP
	for _, w := range []Wait{Durable, Integrated, Witnessed} {
		r := l.submit(elsewhere, "a", "x", w)
		if r.Status != StatusDuplicate || r.Index != first.Index || r.LeafHash != first.LeafHash {
			t.Fatalf("the same again: %+v", r)
		}
		if w != Durable {
			l.checkReceipt(r, "a")
		}
	}
	if r := l.submit(submitter("acme"), "a", "other", Integrated); r.Status != StatusAccepted {
		t.Errorf("another tenant's event of the same id: %+v, want accepted", r)
	}
	size := l.svc.published.Load().head.Size
	one := l.submit(submitter("default"), "a", "changed", Integrated)
	again := l.submit(submitter("default"), "a", "changed", Integrated)
	other := l.submit(submitter("default"), "a", "changed otherwise", Integrated)
	for _, r := range []Result{one, again, other} {
		if r.Status != StatusConflict || r.Index != first.Index || r.Err != nil {
			t.Fatalf("different content: %+v, want conflict with %d", r, first.Index)
		}
	}
	if one.ConflictIndex != again.ConflictIndex || one.ConflictIndex == other.ConflictIndex || one.ConflictIndex < size {
		t.Errorf("conflicts logged at %d, %d and %d: want one entry for each content", one.ConflictIndex, again.ConflictIndex, other.ConflictIndex)
	}
	l.waitPublished(other.ConflictIndex)
	e, err := l.svc.Entry(t.Context(), reader("default"), one.ConflictIndex)
	if err != nil {
		t.Fatal(err)
	}
	o, err := seal.ParseOpening(e.Opening)
	if err != nil {
		t.Fatal(err)
	}
	attempt, err := event.Parse([]byte(o.Event().Text("/details/attempt")))
	if err != nil || o.Event().Text("/action") != ActionConflict || attempt.Text("/details/note") != "changed" {
		t.Errorf("the conflict's entry holds %s: %v", o.Event().JSON(), err)
	}
	l.mustAudit()
}

// waitPublished waits until the entry, which is sequenced, is published: what is
// sequenced later is published no earlier.
func (l *testLog) waitPublished(index uint64) {
	l.t.Helper()
	if r := l.mustSubmit(fmt.Sprint("after entry ", index), "x"); r.Index <= index {
		l.t.Fatalf("entry %d: a later event is at %d", index, r.Index)
	}
}

// I5 under a race: many clients send the same ids at once, some with other content.
func TestIdentityRace(t *testing.T) {
	l := newTestLog(t)
	l.open(nil)
	const clients, ids = 8, 40
	results := make([][ids]Result, clients)
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			for i := range ids {
				note := "same"
				if c%4 == 3 {
					note = "different"
				}
				results[c][i] = l.submit(submitter("default"), fmt.Sprint("e", i), note, Wait(c%2))
			}
		})
	}
	wg.Wait()
	for i := range ids {
		seen := map[Status]int{}
		for c := range clients {
			r := results[c][i]
			if r.Err != nil || r.Index != results[0][i].Index {
				t.Fatalf("event %d, client %d: %+v; client 0 has index %d", i, c, r, results[0][i].Index)
			}
			seen[r.Status]++
		}
		if seen[StatusAccepted] != 1 || seen[StatusConflict] != clients/4 && seen[StatusConflict] != clients-clients/4 {
			t.Errorf("event %d: %v", i, seen)
		}
	}
	l.mustAudit()
}

// I6: index order is the order, and leaf times are the sequencer's clock, in
// whole seconds, also when that steps back.
func TestClockStepsBack(t *testing.T) {
	l := newTestLog(t)
	now := time.Date(2026, 3, 1, 12, 0, 0, 999, time.UTC)
	l.cfg.Now = func() time.Time { return now }
	l.open(nil)
	l.mustSubmit("a", "x")
	now = now.Add(-30 * time.Second)
	l.mustSubmit("b", "x")
	for i, want := range []string{`"time":"2026-03-01T12:00:00Z"`, `"time":"2026-03-01T11:59:30Z"`} {
		leaf, err := l.svc.leaf(t.Context(), uint64(i))
		if err != nil || !bytes.Contains(leaf, []byte(want)) {
			t.Errorf("leaf %d is %s, %v; want %s", i, leaf, err, want)
		}
	}
	r := l.mustAudit()
	if r.WarningCount == 0 {
		t.Error("the audit doesn't warn of the step back")
	}
}

// I7: an error is not a miss: when identities can't be looked up, no event is
// taken for new.
func TestErrorIsNotAMiss(t *testing.T) {
	l := newTestLog(t)
	f := &fault{}
	l.open(withFaults(f))
	l.mustSubmit("a", "x")
	f.next("index", failed)
	if r := l.submit(submitter("default"), "a", "x", Durable); !errors.Is(r.Err, ErrUnavailable) {
		t.Fatalf("got %+v, want ErrUnavailable", r)
	}
	if r := l.insist("a"); r.Status != StatusDuplicate || r.Index != 0 {
		t.Errorf("got %+v, want the duplicate at 0", r)
	}
	l.mustAudit()
}
