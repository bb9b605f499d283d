package personality

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/personality/pubstore"
	"github.com/prooftrail/prooftrail/personality/tree"
)

// slowStore takes as long as a database does, so that what several services do overlaps.
type slowStore struct {
	pubstore.Store
	fast *atomic.Bool // not any more
}

func (s slowStore) roundTrip() {
	if !s.fast.Load() {
		<-time.After(500 * time.Microsecond)
	}
}

func (s slowStore) Head(ctx context.Context) (pubstore.SealedHead, error) {
	s.roundTrip()
	return s.Store.Head(ctx)
}

func (s slowStore) Checkpoint(ctx context.Context) ([]byte, error) {
	s.roundTrip()
	return s.Store.Checkpoint(ctx)
}

func (s slowStore) Tile(ctx context.Context, level int, n uint64) ([]byte, error) {
	s.roundTrip()
	return s.Store.Tile(ctx, level, n)
}

func (s slowStore) Publish(ctx context.Context, old pubstore.Head, p pubstore.Publication) error {
	s.roundTrip()
	return s.Store.Publish(ctx, old, p)
}

// inDatabase gives services' parts a database's properties.
func inDatabase(fast *atomic.Bool) func(int, *parts) {
	return func(_ int, p *parts) { p.store, p.deferSync = slowStore{p.store, fast}, false }
}

// marksLeft counts the marks that the store holds of entries below size.
func marksLeft(t *testing.T, s *Service, size uint64) int {
	t.Helper()
	seen := map[[32]byte]bool{}
	for i := range size {
		for _, m := range must(s.store.Marks(t.Context(), i)) {
			seen[m.MAC] = true
		}
	}
	return len(seen)
}

// TestOverlap: what one service stores while another publishes is published, each entry once,
// and nothing of it is left over.
func TestOverlap(t *testing.T) {
	for name, lossy := range map[string]bool{"in turns": false, "without turns": true} {
		t.Run(name, func(t *testing.T) {
			var fast atomic.Bool
			l := openSeveral(t, 3, lossy, inDatabase(&fast))
			got := l.submitAll(12, 10)
			fast.Store(true) // the check reads each entry
			l.checkAll(got, 12*10)
			size := l.svcs[0].head(t.Context()).head.Size
			for i, s := range l.svcs {
				for began := time.Now(); !s.drained(); <-time.After(time.Millisecond) {
					if time.Since(began) > 5*time.Second {
						t.Fatalf("service %d waits for batches that are published", i)
					}
				}
			}
			// Without turns, batches that were never stored leave theirs.
			if n := marksLeft(t, l.svcs[0], size); !lossy && n > 20 {
				t.Errorf("%d marks are left", n)
			}
		})
	}
}

// TestStartsUnderLoad: a service that starts while others store and publish finds nothing
// wrong.
func TestStartsUnderLoad(t *testing.T) {
	for name, lossy := range map[string]bool{"in turns": false, "without turns": true} {
		t.Run(name, func(t *testing.T) {
			l := openSeveral(t, 2, lossy, inDatabase(new(atomic.Bool)))
			done := make(chan struct{})
			go func() { defer close(done); l.submitAll(8, 40) }()
			for starts := 0; starts < 15; starts++ {
				s := l.start(lossy, func(p *parts) { inDatabase(new(atomic.Bool))(0, p) })
				if r := s.Ready(t.Context()); r.Refusing {
					t.Errorf("start %d: %+v", starts, r)
				}
				if err := s.Close(t.Context()); err != nil {
					t.Error(err)
				}
			}
			<-done
		})
	}
}

// start opens one more service on the log, which the caller closes.
func (l *several) start(lossy bool, change func(p *parts)) *Service {
	l.t.Helper()
	s, err := open(l.t.Context(), l.defaults(), l.more(lossy, change))
	if err != nil {
		l.t.Fatal(err)
	}
	return s
}

// hookedStore calls a function, once, after it has read something.
type hookedStore struct {
	pubstore.Store
	marks, checkpoint func()
	heads             *atomic.Int64
}

func (h *hookedStore) Marks(ctx context.Context, index uint64) ([]pubstore.Mark, error) {
	m, err := h.Store.Marks(ctx, index)
	if f := h.marks; f != nil && len(m) > 0 {
		h.marks = nil
		f()
	}
	return m, err
}

func (h *hookedStore) Checkpoint(ctx context.Context) ([]byte, error) {
	c, err := h.Store.Checkpoint(ctx)
	if f := h.checkpoint; f != nil {
		h.checkpoint = nil
		f()
	}
	return c, err
}

func (h *hookedStore) Head(ctx context.Context) (pubstore.SealedHead, error) {
	h.heads.Add(1)
	return h.Store.Head(ctx)
}

// TestHeadMovesDuringStart: a service whose start reads a head, and then tiles of a later one,
// reads again, though it believes that it is its turn.
func TestHeadMovesDuringStart(t *testing.T) {
	goOn := make(chan struct{})
	var holds atomic.Bool
	l := openSeveral(t, 1, true, func(_ int, p *parts) { p.store = heldPublisher{p.store, &holds, goOn} })
	l.submitTo(0, "a", "x")
	holds.Store(true)
	p := must(l.svcs[0].Admit(t.Context(), submitter("default"), Submission{Event: eventJSON("b", "x")}))
	if r := p.Wait(t.Context(), Durable); r.Err != nil {
		t.Fatal(r.Err)
	}
	s := l.start(true, func(parts *parts) {
		parts.store = &hookedStore{Store: parts.store, heads: new(atomic.Int64), checkpoint: func() {
			close(goOn)
			if r := p.Wait(t.Context(), Integrated); r.Err != nil {
				t.Error(r.Err)
			}
		}}
	})
	l.svcs = append(l.svcs, s)
	if r := s.Ready(t.Context()); !r.Ready || r.PublishedSize != 2 {
		t.Errorf("%+v", r)
	}
}

// TestHeadMovesWhileTailIsRead: entries that another service publishes while this one reads
// them back are known to be published: nobody waits for them, nor does anything run in vain.
func TestHeadMovesWhileTailIsRead(t *testing.T) {
	goOn := make(chan struct{})
	var holds atomic.Bool
	var hooked *hookedStore
	l := openSeveral(t, 2, false, func(i int, p *parts) {
		if i == 0 {
			p.store = heldPublisher{p.store, &holds, goOn}
		} else {
			hooked = &hookedStore{Store: p.store, heads: new(atomic.Int64)}
			p.store = hooked
		}
	})
	holds.Store(true)
	p := must(l.svcs[0].Admit(t.Context(), submitter("default"), Submission{Event: eventJSON("a", "x")}))
	if r := p.Wait(t.Context(), Durable); r.Err != nil {
		t.Fatal(r.Err)
	}
	hooked.marks = func() {
		close(goOn)
		if r := p.Wait(t.Context(), Integrated); r.Err != nil {
			t.Error(r.Err)
		}
		l.svcs[1].head(context.Background()) // as any reader has it look
	}
	again := must(l.svcs[1].Admit(t.Context(), submitter("default"), Submission{Event: eventJSON("a", "x")}))
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	if r := again.Wait(ctx, Integrated); r.Err != nil || r.Receipt == nil || r.Status != StatusDuplicate {
		t.Fatalf("%+v", r)
	}
	if !l.svcs[1].drained() {
		t.Error("it waits for what is published")
	}
	before := hooked.heads.Load()
	<-time.After(200 * time.Millisecond)
	if n := hooked.heads.Load() - before; n > 20 {
		t.Errorf("the head was read %d times, for nobody", n)
	}
}

// TestProbedTailIsPublished: entries whose storing was in doubt are published once they can
// be read back, though nobody sends anything.
func TestProbedTailIsPublished(t *testing.T) {
	l := newTestLog(t)
	var fails atomic.Bool
	s := l.open(func(p *parts) { p.tree = doubtfulTree{p.tree, &fails} })
	l.mustSubmit("a", "x")
	fails.Store(true)
	if r := l.submit(submitter("default"), "b", "x", Durable); !errors.Is(r.Err, ErrUnavailable) {
		t.Fatalf("%+v", r)
	}
	fails.Store(false)
	for began := time.Now(); s.published.Load().head.Size < 2; <-time.After(10 * time.Millisecond) {
		if time.Since(began) > 20*time.Second {
			t.Fatalf("nobody published it: %+v", s.Ready(t.Context()))
		}
	}
}

// doubtfulTree stores leaves, and says that it failed, and can't be read, while fails.
type doubtfulTree struct {
	tree.Tree
	fails *atomic.Bool
}

func (d doubtfulTree) Append(ctx context.Context, leaves []tree.Leaf) error {
	if err := d.Tree.Append(ctx, leaves); err != nil || !d.fails.Load() {
		return err
	}
	return errors.New("the answer was lost")
}

func (d doubtfulTree) Leaves(ctx context.Context, start uint64, count int) ([]tree.Leaf, error) {
	if d.fails.Load() {
		return nil, errors.New("not now")
	}
	return d.Tree.Leaves(ctx, start, count)
}

// TestMarksOfUnannounced: the marks of a publication that was stored, and announced only
// later, are dropped all the same.
func TestMarksOfUnannounced(t *testing.T) {
	var fails atomic.Int32
	l := openSeveral(t, 1, false, func(_ int, p *parts) { p.anchor = failingAnchor{p.anchor, &fails} })
	for i := range 10 {
		fails.Store(1)
		if r := l.submitTo(0, fmt.Sprint("e", i), "x"); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	l.submitTo(0, "last", "x")
	if n := marksLeft(t, l.svcs[0], 11); n > 2 {
		t.Errorf("%d marks are left of 11 batches", n)
	}
}

// failingAnchor doesn't move so often.
type failingAnchor struct {
	Anchor
	fails *atomic.Int32
}

func (f failingAnchor) Move(ctx context.Context, h pubstore.Head) error {
	if f.fails.Add(-1) >= 0 {
		return errors.New("not now")
	}
	return f.Anchor.Move(ctx, h)
}

// TestMarksOfTheFaster: where another service publishes first, the marks that a publication
// would have dropped are dropped by a later one.
func TestMarksOfTheFaster(t *testing.T) {
	var before atomic.Pointer[func()]
	l := openSeveral(t, 2, true, func(i int, p *parts) {
		if i == 0 {
			p.store = beforePublish{p.store, &before}
		}
	})
	for i := range 10 {
		other := func() { l.submitTo(1, fmt.Sprint("other", i), "x") }
		before.Store(&other)
		if r := l.submitTo(0, fmt.Sprint("e", i), "x"); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	l.submitTo(0, "last", "x")
	l.submitTo(1, "last but one", "x")
	if n := marksLeft(t, l.svcs[0], 22); n > 6 {
		t.Errorf("%d marks are left", n)
	}
}

// beforePublish calls a function, once, before a publication.
type beforePublish struct {
	pubstore.Store
	f *atomic.Pointer[func()]
}

func (b beforePublish) Publish(ctx context.Context, old pubstore.Head, p pubstore.Publication) error {
	if f := b.f.Swap(nil); f != nil {
		(*f)()
	}
	return b.Store.Publish(ctx, old, p)
}
