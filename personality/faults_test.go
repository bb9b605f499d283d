package personality

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/personality/pubstore"
	"github.com/prooftrail/prooftrail/personality/tree"
)

// errFault is what a faulty part reports.
var errFault = errors.New("injected fault")

// A fault decides, for each call of a faulty part, whether it is applied and
// what it reports. The zero fault lets all pass.
type fault struct {
	mu    sync.Mutex
	rules map[string][]outcome
	calls []string
}

type outcome struct {
	apply bool
	err   error
}

var (
	failed          = outcome{apply: false, err: errFault}
	failedButStored = outcome{apply: true, err: errFault}
	passed          = outcome{apply: true}
)

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
	f.rules = nil
}

// do runs a call as the rules have it.
func (f *fault) do(op string, call func() error) error {
	f.mu.Lock()
	o := passed
	if rules := f.rules[op]; len(rules) > 0 {
		o, f.rules[op] = rules[0], rules[1:]
	}
	f.calls = append(f.calls, op)
	f.mu.Unlock()
	if o.apply {
		if err := call(); err != nil {
			return err
		}
	}
	return o.err
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

func (s faultyStore) Head(ctx context.Context) (h pubstore.Head, err error) {
	err = s.f.do("head", func() (err error) { h, err = s.Store.Head(ctx); return err })
	return h, err
}

func (s faultyStore) Indexes(ctx context.Context, ids [][32]byte) (found map[[32]byte]uint64, err error) {
	err = s.f.do("index", func() (err error) { found, err = s.Store.Indexes(ctx, ids); return err })
	return found, err
}

func (s faultyStore) PutCheckpoint(ctx context.Context, note []byte) error {
	return s.f.do("checkpoint", func() error { return s.Store.PutCheckpoint(ctx, note) })
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

// Each step of the main path fails once, and fails although it was stored. The
// client sends its event again until it is answered. Then the whole log must
// verify, with every answer true, and again after a restart.
func TestEachStepFails(t *testing.T) {
	for _, step := range []string{"openings", "append", "integrate", "publish", "anchor", "checkpoint", "index"} {
		for name, o := range map[string]outcome{"failed": failed, "failed but stored": failedButStored} {
			for times := 1; times <= 3; times++ {
				t.Run(fmt.Sprintf("%s %s %d times", step, name, times), func(t *testing.T) {
					testStepFails(t, step, slices.Repeat([]outcome{o}, times))
				})
			}
		}
	}
}

func testStepFails(t *testing.T, step string, outcomes []outcome) {
	t.Parallel()
	l := newTestLog(t)
	f := &fault{}
	l.open(withFaults(f))
	var told answered
	told.add(t, "before", l.mustSubmit("before", "x"))
	f.next(step, outcomes...)
	for _, id := range []string{"a", "b", "c", "a"} {
		told.add(t, id, l.insist(id))
	}
	if left := f.left(); left != nil {
		t.Fatalf("no call met the faults of %v", left)
	}
	size := l.mustAudit().Size
	told.check(l)
	l.close()
	l.open(nil)
	if after := l.mustAudit().Size; after < size {
		t.Fatalf("after the restart the log has %d entries, before it %d", after, size)
	}
	told.check(l)
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

// A process that dies after any step leaves a log that start-up brings to where
// every answer is true (the crash table). Dying is played by an anchor, store or tree
// that does or doesn't apply the step and never answers again.
func TestCrashTable(t *testing.T) {
	for _, step := range []string{"openings", "append", "integrate", "publish", "anchor", "checkpoint"} {
		for _, applied := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s applied=%v", step, applied), func(t *testing.T) { testCrash(t, step, applied) })
		}
	}
}

func testCrash(t *testing.T, step string, applied bool) {
	t.Parallel()
	l := newTestLog(t)
	f := &fault{}
	l.open(withFaults(f))
	var told answered
	told.add(t, "before", l.mustSubmit("before", "x"))
	// From the step on every call fails without effect: the process is gone.
	dead := slices.Repeat([]outcome{failed}, 1000)
	order := []string{"openings", "append", "integrate", "publish", "anchor", "checkpoint"}
	at := slices.Index(order, step)
	f.next(step, outcome{apply: applied, err: errFault})
	for _, later := range order[at+1:] {
		f.next(later, dead...)
	}
	f.next(step, dead...)
	for _, op := range []string{"sync", "head", "leaves"} {
		if op != "leaves" || at < 2 { // leaves are read back on the way to publish
			f.next(op, dead...)
		}
	}
	p, err := l.svc.Admit(t.Context(), submitter("default"), eventJSON("during", "x"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if r := p.Wait(ctx, Integrated); r.Receipt != nil && step != "checkpoint" {
		t.Fatalf("answered with a receipt although %s failed: %+v", step, r)
	}
	l.abandon()
	l.open(nil)
	told.check(l)
	told.add(t, "during", l.insist("during"))
	r := l.mustAudit()
	if r.Size < 2 {
		t.Errorf("the log has %d entries", r.Size)
	}
	told.check(l)
}

// abandon closes a service that is to be taken for dead: nothing it still does
// has an effect.
func (l *testLog) abandon() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := l.svc.Close(ctx); err != nil {
		l.t.Errorf("close: %v", err)
	}
	l.svc = nil
}
