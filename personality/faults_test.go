package personality

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/prooftrail/prooftrail/personality/pebblestore/crashtest"
	"github.com/prooftrail/prooftrail/personality/pubstore"
	"github.com/prooftrail/prooftrail/personality/tree"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

// errFault is what a faulty part reports.
var errFault = errors.New("injected fault")

// A fault decides, for each call of a faulty part, whether it is applied and
// what it reports. The zero fault lets all pass.
type fault struct {
	mu     sync.Mutex
	rules  map[string][]outcome
	random func(op string) outcome // where there is no rule; nil: passes
	after  map[string]chan struct{}
	ends   map[string]chan struct{}
	death  *death
	gone   bool
	disk   *lazyDisk // for failedInSync
}

type outcome struct {
	apply bool
	err   error
	lazy  bool // it is applied, but not synced
}

var (
	failed          = outcome{apply: false, err: errFault}
	failedButStored = outcome{apply: true, err: errFault}
	failedInSync    = outcome{apply: true, err: errFault, lazy: true}
	passed          = outcome{apply: true}
)

func (o outcome) String() string {
	switch {
	case o.lazy:
		return "failed in its sync"
	case o.apply:
		return "failed but stored"
	}
	return "failed"
}

// next sets what the following calls of op do; after those it passes again.
func (f *fault) next(op string, outcomes ...outcome) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.rules == nil {
		f.rules = map[string][]outcome{}
	}
	f.rules[op] = append(f.rules[op], outcomes...)
}

// clear drops all rules.
func (f *fault) clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules, f.random = nil, nil
}

// do runs a call as the rules have it.
func (f *fault) do(op string, call func() error) error {
	f.hold(op)
	o, death := f.decide(op)
	var err error
	if o.apply {
		if o.lazy {
			f.disk.lazy.Add(1)
			defer f.disk.lazy.Add(-1)
		}
		err = call()
	}
	if death != nil {
		f.die(death)
		return errFault
	}
	f.ended(op)
	if err != nil {
		return err
	}
	return o.err
}

func (f *fault) decide(op string) (outcome, *death) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gone {
		return failed, nil
	}
	if d := f.death; d != nil && d.op == op && d.skip > 0 {
		d.skip--
	} else if d != nil && d.op == op {
		f.death = nil
		return outcome{apply: d.applied}, d
	}
	if rules := f.rules[op]; len(rules) > 0 {
		f.rules[op] = rules[1:]
		return rules[0], nil
	}
	if f.random != nil {
		return f.random(op), nil
	}
	return passed, nil
}

// left reports which rules no call has met.
func (f *fault) left() (ops []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for op, rules := range f.rules {
		if len(rules) > 0 {
			ops = append(ops, op)
		}
	}
	return ops
}

type faultyTree struct {
	tree.Tree
	f *fault
}

func (t faultyTree) Append(ctx context.Context, leaves []tree.Leaf) error {
	return t.f.do("append", func() error { return t.Tree.Append(ctx, leaves) })
}

func (t faultyTree) Integrate(ctx context.Context, size uint64) (r tree.Root, err error) {
	err = t.f.do("integrate", func() (err error) { r, err = t.Tree.Integrate(ctx, size); return err })
	return r, err
}

func (t faultyTree) Leaves(ctx context.Context, start uint64, count int) (l []tree.Leaf, err error) {
	err = t.f.do("leaves", func() (err error) { l, err = t.Tree.Leaves(ctx, start, count); return err })
	return l, err
}

type faultyStore struct {
	pubstore.Store
	f *fault
}

func (s faultyStore) PutBatch(ctx context.Context, b pubstore.Batch) error {
	return s.f.do("openings", func() error { return s.Store.PutBatch(ctx, b) })
}

func (s faultyStore) Publish(ctx context.Context, old pubstore.Head, p pubstore.Publication) error {
	return s.f.do("publish", func() error { return s.Store.Publish(ctx, old, p) })
}

func (s faultyStore) Sync(ctx context.Context) error {
	return s.f.do("sync", func() error { return s.Store.Sync(ctx) })
}

func (s faultyStore) Head(ctx context.Context) (h pubstore.SealedHead, err error) {
	err = s.f.do("head", func() (err error) { h, err = s.Store.Head(ctx); return err })
	return h, err
}

func (s faultyStore) Indexes(ctx context.Context, ids [][32]byte) (found map[[32]byte]uint64, err error) {
	err = s.f.do("index", func() (err error) { found, err = s.Store.Indexes(ctx, ids); return err })
	return found, err
}

func (s faultyStore) Opening(ctx context.Context, index uint64, leafHash [32]byte) (o []byte, err error) {
	err = s.f.do("opening", func() (err error) { o, err = s.Store.Opening(ctx, index, leafHash); return err })
	return o, err
}

func (s faultyStore) SetHold(ctx context.Context, old, held pubstore.SealedHead) error {
	return s.f.do("hold", func() error { return s.Store.SetHold(ctx, old, held) })
}

func (s faultyStore) PutToken(ctx context.Context, t pubstore.Token, hold string) error {
	return s.f.do("token", func() error { return s.Store.PutToken(ctx, t, hold) })
}

func (s faultyStore) PutQuarantined(ctx context.Context, items []pubstore.Quarantined, most pubstore.QuarantineSize, hold string) error {
	return s.f.do("quarantine", func() error { return s.Store.PutQuarantined(ctx, items, most, hold) })
}

func (s faultyStore) DropQuarantined(ctx context.Context, id, hold string) error {
	return s.f.do("drop", func() error { return s.Store.DropQuarantined(ctx, id, hold) })
}

func (s faultyStore) PutSourceKey(ctx context.Context, k pubstore.SourceKey, hold string) error {
	return s.f.do("source key", func() error { return s.Store.PutSourceKey(ctx, k, hold) })
}

func (s faultyStore) PutCheckpoint(ctx context.Context, old, note []byte) error {
	return s.f.do("checkpoint", func() error { return s.Store.PutCheckpoint(ctx, old, note) })
}

type faultyAnchor struct {
	Anchor
	f *fault
}

func (a faultyAnchor) Move(ctx context.Context, h pubstore.Head) error {
	return a.f.do("anchor", func() error { return a.Anchor.Move(ctx, h) })
}

func withFaults(f *fault) func(*parts) {
	return func(p *parts) {
		p.tree, p.store, p.anchor = faultyTree{p.tree, f}, faultyStore{p.store, f}, faultyAnchor{p.anchor, f}
	}
}

// The calls of the main path: those that write, and those that read on its way.
var (
	writes = []string{"openings", "append", "sync", "integrate", "publish", "anchor", "checkpoint"}
	reads  = []string{"index", "opening", "leaves", "head"}
)

// Each step of the main path fails, once or more often, and fails although it was
// stored. The client sends its events again until they are answered. Then the whole
// log must verify, with every answer true and no id twice, and again after losing power.
func TestEachStepFails(t *testing.T) {
	for _, step := range slices.Concat(writes, reads) {
		if step == "head" {
			continue // is read only after another step has failed: TestTwoStepsFail
		}
		for _, o := range []outcome{failed, failedButStored, failedInSync} {
			if o.lazy && step != "publish" && step != "anchor" {
				continue // doesn't sync
			}
			for times := 1; times <= 3; times++ {
				t.Run(fmt.Sprintf("%s %s %d times", step, o, times), func(t *testing.T) {
					t.Parallel()
					f := &fault{}
					left := testStepsFail(t, f, func() {
						f.next(step, slices.Repeat([]outcome{o}, times)...)
						if step == "sync" {
							f.next("integrate", failed) // else the publisher's sync is the sequencer's
						}
					})
					if left != nil {
						t.Fatalf("no call met the faults of %v", left)
					}
				})
			}
		}
	}
}

// Two steps fail: one of them, at times, on the way back from the other.
func TestTwoStepsFail(t *testing.T) {
	type rule struct {
		op string
		o  outcome
	}
	var rules []rule
	for _, op := range writes {
		rules = append(rules, rule{op, failed}, rule{op, failedButStored})
	}
	rules = append(rules, rule{"publish", failedInSync}, rule{"anchor", failedInSync})
	for _, op := range reads {
		rules = append(rules, rule{op, failed})
	}
	for i, one := range rules {
		for j, two := range rules[i+1:] {
			if testing.Short() && (i+j)%5 > 0 {
				continue
			}
			t.Run(fmt.Sprintf("%s %s, %s %s", one.op, one.o, two.op, two.o), func(t *testing.T) {
				t.Parallel()
				f := &fault{}
				testStepsFail(t, f, func() { f.next(one.op, one.o); f.next(two.op, two.o) })
			})
		}
	}
}

// testStepsFail returns the faults that no call met.
func testStepsFail(t *testing.T, f *fault, arm func()) (left []string) {
	disk := crashtest.New()
	l := newTestLogOn(t, disk)
	f.disk = &lazyDisk{FS: disk}
	l.cfg.fs = f.disk
	l.open(withFaults(f))
	var told answered
	told.add(t, "before", l.mustSubmit("before", "x"))
	arm()
	told.add(t, "a", l.insist("a"))
	afterOne, toldOne, headOne := disk.CrashClone(vfs.CrashCloneCfg{}), told.clone(), l.svc.published.Load().head
	for _, id := range []string{"b", "before", "c", "a"} {
		told.add(t, id, l.insist(id))
	}
	conflict := l.submit(submitter("default"), "b", "other", Integrated)
	for n := 0; n < 9 && conflict.Err != nil; n++ {
		conflict = l.submit(submitter("default"), "b", "other", Integrated)
	}
	if conflict.Status != StatusConflict {
		t.Fatalf("other content under a taken id: %+v", conflict)
	}
	left = f.left()
	f.clear()
	after := disk.CrashClone(vfs.CrashCloneCfg{})
	head := l.svc.published.Load().head
	l.mustHold(&told)
	l.abandon()
	l.cfg.fs = after
	l.open(nil)
	l.mustHold(&told, head)
	l.mustHaveEvent(conflict.ConflictIndex, ActionConflict)
	l.close()
	l.cfg.fs = afterOne
	l.open(nil)
	l.mustHold(toldOne, headOne)
	return left
}

// mustHaveEvent checks what an entry is.
func (l *testLog) mustHaveEvent(index uint64, action string) {
	l.t.Helper()
	e, err := l.svc.Entry(context.Background(), reader(AllTenants), index)
	if err != nil {
		l.t.Fatalf("entry %d: %v", index, err)
	}
	o, err := seal.ParseOpening(e.Opening)
	if err != nil || o.Event().Text("/action") != action {
		l.t.Errorf("entry %d is %s, %v; want %s", index, o.Event().JSON(), err, action)
	}
}

// mustHold re-verifies the whole log: it audits, every answer is true, no id is there
// twice, and the heads are of this history.
func (l *testLog) mustHold(told *answered, heads ...pubstore.Head) {
	l.t.Helper()
	empty := l.mustAudit().Size == 0
	told.check(l)
	seen := map[string]uint64{}
	err := l.svc.Openings(context.Background(), reader(AllTenants), 0, 1<<20, func(line OpeningLine) error {
		o, err := seal.ParseOpening(line.Opening)
		if err != nil {
			return err
		}
		key := fmt.Sprint(o.Event().Text("/tenant"), " ", o.Event().Text("/source"), " ", o.Event().Text("/id"))
		if first, ok := seen[key]; ok {
			l.t.Errorf("%s is entry %d and entry %d", key, first, line.Index)
		}
		seen[key] = line.Index
		return nil
	})
	if err != nil && !(empty && errors.Is(err, ErrBeyondHead)) {
		l.t.Fatal(err)
	}
	for _, h := range heads {
		r, err := rangeAt(context.Background(), l.svc.store, h.Size)
		if err != nil {
			l.t.Fatalf("the log of size %d has no head of size %d any more: %v", l.svc.published.Load().head.Size, h.Size, err)
		}
		if root := must(rootOf(r)); root != h.Root {
			l.t.Errorf("the head of size %d is of another history", h.Size)
		}
	}
}

// insist sends an event until it is answered, as a careful client does.
func (l *testLog) insist(id string) Result {
	l.t.Helper()
	for range 20 {
		r := l.submit(submitter("default"), id, "x", Integrated)
		if r.Err == nil {
			l.checkReceipt(r, id)
			return r
		}
		if !errors.Is(r.Err, ErrUnavailable) {
			l.t.Fatalf("submit %s: %v, want ErrUnavailable", id, r.Err)
		}
	}
	l.t.Fatalf("submit %s: not answered", id)
	return Result{}
}

// What reading back finds wrong, or fails to read, after a write that failed.
func TestReadingBackFails(t *testing.T) {
	l := newTestLog(t)
	f := &fault{}
	l.open(withFaults(f))
	f.next("append", failedButStored)
	f.next("leaves", failed, failed)
	first := l.submit(submitter("default"), "a", "x", Integrated)
	if !errors.Is(first.Err, ErrUnavailable) {
		t.Fatalf("append failed: got %+v", first)
	}
	r := l.insist("a")
	if r.Status != StatusDuplicate || r.Index != 0 {
		t.Errorf("the event sent again: %s at %d, want duplicate at 0: it had been stored", r.Status, r.Index)
	}
	l.mustAudit()
}
