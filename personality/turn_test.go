package personality

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/prooftrail/prooftrail/personality/pubstore"
	"github.com/prooftrail/prooftrail/personality/tree"
)

// localTurns are turns of services in one process. They may be told to be lost all the time.
type localTurns struct {
	*localLock
	held  bool
	lossy bool         // everybody believes to have the turn
	ahead atomic.Int64 // nanoseconds that the database's clock is ahead
}

func (l *localTurns) Acquire(ctx context.Context) (time.Time, error) {
	l.waiting.Add(1)
	defer l.waiting.Add(-1)
	for !l.lossy && !l.mu.TryLock() {
		if ctx.Err() != nil {
			return time.Time{}, ctx.Err()
		}
		<-time.After(100 * time.Microsecond)
	}
	l.held = !l.lossy
	return time.Now().Add(time.Duration(l.ahead.Load())), nil
}

func (l *localTurns) Held(context.Context) (bool, error) { return false, nil }

func (l *localTurns) Wanted(context.Context) (bool, error) { return l.waiting.Load() > 0, nil }

func (l *localTurns) Yield(ctx context.Context) (bool, error) {
	if l.waiting.Load() == 0 {
		return false, nil
	}
	return true, l.Release(ctx)
}

func (l *localTurns) Release(context.Context) error {
	if !l.held {
		return errors.New("lost")
	}
	l.held = false
	l.mu.Unlock()
	return nil
}

func (l *localTurns) Close() error {
	if l.held {
		return l.Release(context.Background())
	}
	return nil
}

// A localLock is what localTurns share.
type localLock struct {
	mu      sync.Mutex
	waiting atomic.Int32
}

// turnsOf gives a service its turns at two locks.
func turnsOf(p *parts, sequencing, publishing *localLock, lossy bool) {
	p.sequencing = &localTurns{localLock: sequencing, lossy: lossy}
	p.publishing = &localTurns{localLock: publishing, lossy: lossy}
}

// several is a log that several services share: their tree and store are one, each has
// its own turns and opens the anchor for itself.
type several struct {
	*testLog
	shared                 parts
	sequencing, publishing localLock

	svcs  []*Service
	turns []*localTurns // at sequencing
}

// openSeveral opens n services on one log. change may put faults into the parts of each.
func openSeveral(t *testing.T, n int, lossy bool, change func(i int, p *parts)) *several {
	t.Helper()
	l := &several{testLog: newTestLog(t)}
	var err error
	if l.shared, err = openParts(t.Context(), l.defaults()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.close()
		if err := l.shared.closeAll(); err != nil {
			t.Error(err)
		}
	})
	for i := range n {
		p := l.more(lossy, func(p *parts) {
			if change != nil {
				change(i, p)
			}
		})
		l.turns = append(l.turns, p.sequencing.(*localTurns))
		s, err := open(t.Context(), l.defaults(), p)
		if err != nil {
			t.Fatal(err)
		}
		l.svcs = append(l.svcs, s)
	}
	return l
}

func (l *several) defaults() Config { return must(l.cfg.withDefaults()) }

// more returns the parts of one more service.
func (l *several) more(lossy bool, change func(p *parts)) parts {
	p := l.shared
	p.tree, p.close, p.deferSync = openTree{p.tree}, nil, true
	turnsOf(&p, &l.sequencing, &l.publishing, lossy)
	p.anchor = must(openAnchor(vfs.Default, l.defaults().Anchor, l.vkey, true))
	if change != nil {
		change(&p)
	}
	return p
}

// openTree is a tree that outlives who closes it.
type openTree struct{ tree.Tree }

func (openTree) Close() error { return nil }

func (l *several) close() {
	for _, s := range l.svcs {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		if err := s.Close(ctx); err != nil {
			l.t.Errorf("close: %v", err)
		}
		cancel()
	}
	l.svcs = nil
	l.svc = nil
}

// at makes the i-th service the one that testLog's methods use.
func (l *several) at(i int) *testLog {
	l.svc = l.svcs[i]
	return l.testLog
}

// submitTo sends an event to the i-th service, again as long as that is what it asks for.
func (l *several) submitTo(i int, id, note string) Result {
	for began := time.Now(); ; {
		p, err := l.svcs[i].Admit(context.Background(), submitter("default"), Submission{Event: eventJSON(id, note)})
		r := Result{Err: err}
		if err == nil {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			r = p.Wait(ctx, Integrated)
			cancel()
		}
		if r.Err == nil || !errors.Is(r.Err, ErrUnavailable) || time.Since(began) > 20*time.Second {
			return r
		}
		<-time.After(time.Millisecond)
	}
}

// crowd has clients submit events to all services, and checks each answer, and the log
// at the end.
func (l *several) crowd(clients, events int) {
	l.t.Helper()
	l.checkAll(l.submitAll(clients, events), clients*events)
}

// submitAll has clients submit events to all services, some of them to two at once.
func (l *several) submitAll(clients, events int) *answered {
	l.t.Helper()
	got := &answered{}
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			for e := range events {
				id := fmt.Sprintf("c%d-%d", c, e)
				first := rand.N(len(l.svcs))
				var both sync.WaitGroup
				for k := range 1 + rand.N(2) {
					both.Go(func() {
						r := l.submitTo((first+k)%len(l.svcs), id, "x")
						if r.Err != nil || r.Receipt == nil {
							l.t.Errorf("submit %s: %+v", id, r)
							return
						}
						l.checkReceipt(r, id)
						got.add(l.t, id, r)
					})
				}
				both.Wait()
			}
		})
	}
	wg.Wait()
	return got
}

// checkAll checks that each service has what was answered, and that all of it verifies.
func (l *several) checkAll(got *answered, events int) {
	l.t.Helper()
	for i := range l.svcs {
		log := l.at(i)
		got.check(log)
		if report := log.mustAudit(); int(report.Entries) < events {
			l.t.Errorf("%d entries for %d events", report.Entries, events)
		}
	}
	for _, s := range l.svcs {
		if r := s.Ready(l.t.Context()); !r.Ready {
			l.t.Errorf("not ready: %+v", r)
		}
	}
}

// TestSeveral: several services on one log, each taking writes; an id that is sent to two
// of them is one entry.
func TestSeveral(t *testing.T) {
	openSeveral(t, 3, false, nil).crowd(8, 12)
}

// TestSeveralWithoutTurns: the same where each believes all the time that it is its turn.
func TestSeveralWithoutTurns(t *testing.T) {
	openSeveral(t, 3, true, nil).crowd(8, 12)
}

// TestConflictBetweenServices: the same id with other content is a conflict, whoever has
// the first.
func TestConflictBetweenServices(t *testing.T) {
	l := openSeveral(t, 2, false, nil)
	if r := l.submitTo(0, "a", "x"); r.Status != StatusAccepted {
		t.Fatalf("%+v", r)
	}
	if r := l.submitTo(1, "a", "x"); r.Status != StatusDuplicate || r.Index != 0 {
		t.Fatalf("%+v", r)
	}
	if r := l.submitTo(1, "a", "y"); r.Status != StatusConflict || r.Index != 0 {
		t.Fatalf("%+v", r)
	}
}

// TestReadsFollow: what one service has shown, the others show too, at once.
func TestReadsFollow(t *testing.T) {
	l := openSeveral(t, 2, false, nil)
	for i := range 20 {
		id := fmt.Sprint("e", i)
		r := l.submitTo(i%2, id, "x")
		other := l.svcs[1-i%2]
		if e, err := other.EventByID(t.Context(), reader("default"), "cron://node-1", id); err != nil || e.Index != r.Index {
			t.Fatalf("%s by the other service: %+v, %v", id, e, err)
		}
		mine, err1 := l.svcs[i%2].Checkpoint(t.Context())
		theirs, err2 := other.Checkpoint(t.Context())
		if err := errors.Join(err1, err2); err != nil || string(mine) != string(theirs) {
			t.Fatalf("checkpoints\n%s\n%s\n%v", mine, theirs, err)
		}
	}
}

// TestTokensFollow: a token made at one service is valid at the other before long, and its
// end too.
func TestTokensFollow(t *testing.T) {
	l := openSeveral(t, 2, false, nil)
	tok, text, err := l.svcs[0].AddToken(t.Context(), OperatorCaller(), TokenRequest{Name: "n", Tenant: "default", Roles: []Role{RoleRead}})
	if err != nil {
		t.Fatal(err)
	}
	become := func(valid bool) {
		t.Helper()
		for began := time.Now(); ; <-time.After(10 * time.Millisecond) {
			_, err := l.svcs[1].Authenticate(t.Context(), text)
			if (err == nil) == valid {
				return
			}
			if time.Since(began) > 10*time.Second {
				t.Fatalf("valid there should be %t: %v", valid, err)
			}
		}
	}
	become(true)
	if err := l.svcs[0].RevokeToken(t.Context(), OperatorCaller(), tok.ID); err != nil {
		t.Fatal(err)
	}
	become(false)
}

// TestTailIsTakenOver: entries that a service stored and didn't publish, because it is gone,
// are published by another, though nobody sends it anything.
func TestTailIsTakenOver(t *testing.T) {
	var dead atomic.Bool
	l := openSeveral(t, 2, false, func(i int, p *parts) {
		if i == 0 {
			p.store = deadPublisher{p.store, &dead}
		}
	})
	l.submitTo(0, "a", "x")
	dead.Store(true)
	p, err := l.svcs[0].Admit(t.Context(), submitter("default"), Submission{Event: eventJSON("b", "x")})
	if err != nil {
		t.Fatal(err)
	}
	if r := p.Wait(t.Context(), Durable); r.Err != nil || r.Index != 1 {
		t.Fatalf("%+v", r)
	}
	for began := time.Now(); l.svcs[1].published.Load().head.Size < 2; <-time.After(10 * time.Millisecond) {
		if time.Since(began) > 20*time.Second {
			t.Fatal("nobody published it")
		}
	}
	if r := l.submitTo(1, "b", "x"); r.Status != StatusDuplicate || r.Index != 1 {
		t.Fatalf("%+v", r)
	}
	dead.Store(false)
	l.at(1).mustAudit()
}

// TestSequencesWhileAnotherPublishes: one service stores its entries behind those that
// another is still publishing, and knows them: an id among them is no new entry.
func TestSequencesWhileAnotherPublishes(t *testing.T) {
	for name, lossy := range map[string]bool{"in turns": false, "without turns": true} {
		t.Run(name, func(t *testing.T) {
			goOn := make(chan struct{})
			var holds atomic.Bool
			l := openSeveral(t, 2, lossy, func(i int, p *parts) {
				if i == 0 {
					p.store = heldPublisher{p.store, &holds, goOn}
				}
			})
			holds.Store(true)
			send := func(i int, id string) *Pending {
				t.Helper()
				p, err := l.svcs[i].Admit(t.Context(), submitter("default"), Submission{Event: eventJSON(id, "x")})
				if err != nil {
					t.Fatal(err)
				}
				return p
			}
			first, second, again := send(0, "a"), (*Pending)(nil), (*Pending)(nil)
			if r := first.Wait(t.Context(), Durable); r.Err != nil || r.Index != 0 {
				t.Fatalf("the first: %+v", r)
			}
			second = send(1, "b")
			if r := second.Wait(t.Context(), Durable); r.Err != nil || r.Index != 1 {
				t.Fatalf("behind it: %+v", r)
			}
			again = send(1, "a")
			if r := again.Wait(t.Context(), Durable); r.Err != nil || r.Status != StatusDuplicate || r.Index != 0 {
				t.Fatalf("the first again: %+v", r)
			}
			if size := l.svcs[1].published.Load().head.Size; !lossy && size != 0 {
				t.Errorf("size %d is published, in another's turn", size)
			}
			close(goOn)
			for i, p := range []*Pending{first, second, again} {
				if r := p.Wait(t.Context(), Integrated); r.Err != nil || r.Receipt == nil || r.Index != uint64(i%2) {
					t.Errorf("event %d: %+v", i, r)
				}
			}
			for i, s := range l.svcs {
				if size := s.head(t.Context()).head.Size; size != 2 {
					t.Errorf("size %d at service %d", size, i)
				}
			}
			l.at(0).mustAudit()
		})
	}
}

// heldPublisher is a store that keeps publications, while holds, until goOn is closed.
type heldPublisher struct {
	pubstore.Store
	holds *atomic.Bool
	goOn  chan struct{}
}

func (h heldPublisher) Publish(ctx context.Context, old pubstore.Head, p pubstore.Publication) error {
	if h.holds.Load() {
		<-h.goOn
	}
	return h.Store.Publish(ctx, old, p)
}

// TestExtendTo: a step may end before Trillian's root. What is behind it is compared too.
func TestExtendTo(t *testing.T) {
	l := newTestLog(t)
	s := l.open(nil)
	for i := range 5 {
		l.mustSubmit(fmt.Sprint("e", i), "x")
	}
	root := must(s.tree.Root(t.Context()))
	for from := range root.Size {
		for size := from + 1; size <= root.Size; size++ {
			st, err := extend(t.Context(), s.tree, must(rangeAt(t.Context(), s.store, from)), root, size)
			if err != nil {
				t.Fatalf("from %d to %d: %v", from, size, err)
			}
			want := pubstore.Head{Size: size, Root: must(s.rootAt(t.Context(), size))}
			if st.pub.Head.Head != want || len(st.hashes) != int(size-from) || len(st.pub.IDs) != int(size-from) {
				t.Errorf("from %d to %d: %+v with %d leaves, want %+v", from, size, st.pub.Head.Head, len(st.hashes), want)
			}
			wrong := root
			wrong.Hash[0]++
			var fault *Fault
			if _, err := extend(t.Context(), s.tree, must(rangeAt(t.Context(), s.store, from)), wrong, size); !errors.As(err, &fault) {
				t.Errorf("from %d to %d, another root: %v", from, size, err)
			}
		}
	}
	var fault *Fault
	if _, err := extend(t.Context(), s.tree, must(rangeAt(t.Context(), s.store, 2)), root, root.Size+1); !errors.As(err, &fault) {
		t.Errorf("past the root: %v", err)
	}
}

// TestWaitingEventsAreOneBatch: what is queued while a turn is waited for is stored at once.
func TestWaitingEventsAreOneBatch(t *testing.T) {
	var batches atomic.Int32
	l := openSeveral(t, 2, false, func(i int, p *parts) {
		if i == 1 {
			p.tree = countedAppends{p.tree, &batches}
		}
	})
	l.sequencing.mu.Lock()
	var sent []*Pending
	for i := range 20 {
		p, err := l.svcs[1].Admit(t.Context(), submitter("default"), Submission{Event: eventJSON(fmt.Sprint("e", i), "x")})
		if err != nil {
			t.Fatal(err)
		}
		sent = append(sent, p)
	}
	l.sequencing.mu.Unlock()
	for i, p := range sent {
		if r := p.Wait(t.Context(), Integrated); r.Err != nil || r.Index != uint64(i) {
			t.Errorf("event %d: %+v", i, r)
		}
	}
	if n := batches.Load(); n != 1 {
		t.Errorf("%d batches", n)
	}
}

// countedAppends is a tree that counts its batches.
type countedAppends struct {
	tree.Tree
	n *atomic.Int32
}

func (c countedAppends) Append(ctx context.Context, leaves []tree.Leaf) error {
	c.n.Add(1)
	return c.Tree.Append(ctx, leaves)
}

// deadPublisher is a store that takes no publication while dead.
type deadPublisher struct {
	pubstore.Store
	dead *atomic.Bool
}

func (d deadPublisher) Publish(ctx context.Context, old pubstore.Head, p pubstore.Publication) error {
	if d.dead.Load() {
		return errors.New("injected fault")
	}
	return d.Store.Publish(ctx, old, p)
}

// TestClockFarOff (I6): a process whose clock is far from the database's doesn't sequence.
func TestClockFarOff(t *testing.T) {
	l := openSeveral(t, 2, false, nil)
	l.at(0)
	l.turns[0].ahead.Store(int64(10 * time.Minute))
	l.submitTo(1, "a", "x") // the turn goes from the one to the other
	p, err := l.svc.Admit(t.Context(), submitter("default"), Submission{Event: eventJSON("b", "x")})
	if err != nil {
		t.Fatal(err)
	}
	if r := p.Wait(t.Context(), Durable); !errors.Is(r.Err, ErrUnavailable) || !errors.Is(r.Err, errClock) {
		t.Errorf("%+v", r)
	}
	if r := l.submitTo(1, "b", "x"); r.Status != StatusAccepted || r.Index != 1 {
		t.Errorf("by the other: %+v", r)
	}
	l.turns[0].ahead.Store(0)
	if r := l.submitTo(0, "c", "x"); r.Status != StatusAccepted || r.Index != 2 {
		t.Errorf("after the clock was set: %+v", r)
	}
}

// TestOlderStoreWhileRunning (I3): a store that is put back from an older copy under the
// running services is refused by each, also by the one that hadn't seen what was signed last.
func TestOlderStoreWhileRunning(t *testing.T) {
	var old atomic.Pointer[pubstore.SealedHead]
	l := openSeveral(t, 2, false, func(_ int, p *parts) { p.store = olderHead{p.store, &old} })
	l.submitTo(0, "a", "x")
	before := must(l.svcs[0].store.Head(t.Context()))
	if err := l.svcs[0].headMu.lock(t.Context()); err != nil { // it sees nothing of what follows
		t.Fatal(err)
	}
	l.submitTo(1, "b", "x")
	old.Store(&before)
	l.svcs[0].headMu.unlock()
	for i, s := range l.svcs {
		p, err := s.Admit(t.Context(), submitter("default"), Submission{Event: eventJSON(fmt.Sprint("later", i), "x")})
		if err == nil {
			err = p.Wait(t.Context(), Integrated).Err
		}
		if r := s.Ready(t.Context()); !errors.Is(err, ErrRefusing) || !r.Refusing {
			t.Errorf("service %d: %v, %+v", i, err, r)
		}
	}
}

// olderHead is a store that has been put back: its head is an older one.
type olderHead struct {
	pubstore.Store
	old *atomic.Pointer[pubstore.SealedHead]
}

func (o olderHead) Head(ctx context.Context) (pubstore.SealedHead, error) {
	if h := o.old.Load(); h != nil {
		return *h, nil
	}
	return o.Store.Head(ctx)
}
