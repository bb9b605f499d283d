package personality

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/prooftrail/prooftrail/personality/pebblestore/crashtest"
	"github.com/prooftrail/prooftrail/personality/pubstore"
)

// A death is the end of the process: just before or just after a call of op. After
// it every call of every part fails, and none has an effect.
type death struct {
	op      string
	applied bool
	skip    int    // calls of op before that one
	at      func() // what there is at that moment
	over    chan struct{}
}

// dieAt lets the process die at the next call of op.
func (f *fault) dieAt(op string, applied bool, at func()) *death {
	d := &death{op: op, applied: applied, at: at, over: make(chan struct{})}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.death = d
	return d
}

func (f *fault) die(d *death) {
	d.at()
	f.mu.Lock()
	f.gone = true
	for _, c := range f.after {
		close(c)
	}
	f.after, f.ends = nil, nil
	f.mu.Unlock()
	close(d.over)
}

// order holds the next calls of op back until one of first has ended, or the process
// is gone.
func (f *fault) order(first, op string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.after == nil {
		f.after, f.ends = map[string]chan struct{}{}, map[string]chan struct{}{}
	}
	c := make(chan struct{})
	f.after[op], f.ends[first] = c, c
}

func (f *fault) hold(op string) {
	f.mu.Lock()
	c := f.after[op]
	f.mu.Unlock()
	if c != nil {
		<-c
	}
}

func (f *fault) ended(op string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.ends[op]
	if c == nil {
		return
	}
	delete(f.ends, op)
	for held, h := range f.after {
		if h == c {
			delete(f.after, held)
		}
	}
	close(c)
}

// The crash table of the package comment. At each row the process dies and the power
// with it, just before the step and just after it; the sequencer syncs, for the
// publisher is held up, or leaves that to the publisher; and of what wasn't synced
// nothing is left, or all, or some. From each of these start-up must bring the log to where the
// verifier finds it whole, every answer is true, no id is there twice, what was served
// as a head is of this history, and an event that wasn't answered can be sent again.
func TestCrashTable(t *testing.T) {
	for _, row := range []struct{ name, op string }{
		{"1 admit", "index"}, // with what the sequencer does first
		{"2a openings", "openings"}, {"2b leaves", "append"}, {"2c sync", "sync"},
		{"3a integrate", "integrate"}, {"3b head", "publish"}, {"3c anchor", "anchor"}, {"3d sign", "checkpoint"},
		{"4 answer", "answer"},
	} {
		for _, applied := range []bool{false, true} {
			for _, syncFirst := range []bool{false, true} {
				if row.op == "sync" && !syncFirst {
					continue // is the publisher's: row 3b
				}
				t.Run(fmt.Sprintf("%s, applied %v, sync first %v", row.name, applied, syncFirst), func(t *testing.T) {
					t.Parallel()
					testCrash(t, row.op, applied, syncFirst)
				})
			}
		}
	}
}

func testCrash(t *testing.T, op string, applied, syncFirst bool) {
	disk := crashtest.New()
	l := newTestLogOn(t, disk)
	f := &fault{}
	l.open(withFaults(f))
	told := &answered{}
	told.add(t, "durable", l.submit(submitter("default"), "durable", "x", Durable))
	told.add(t, "before", l.mustSubmit("before", "x"))
	f.order("admitted", "index")
	if syncFirst {
		f.order("sync", "integrate")
	} else {
		f.order("checkpoint", "sync")
	}
	var pending []*Pending
	var heads []pubstore.Head
	var left []crashtest.Disk
	d := f.dieAt(op, applied, func() {
		for i, p := range pending {
			if r := p.Wait(ended(), Durable); r.Err == nil {
				told.add(t, during[i].id, r)
			}
		}
		heads = append(heads, l.svc.published.Load().head)
		for _, percent := range []int{0, 100, 50} {
			left = append(left, disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(1, 2))}))
		}
	})
	for _, e := range during {
		p, err := l.svc.Admit(t.Context(), submitter("default"), Submission{Event: eventJSON(e.id, e.note)})
		if err != nil {
			t.Fatal(err)
		}
		pending = append(pending, p)
	}
	f.ended("admitted")
	if op == "answer" {
		answer := func() error {
			if r := pending[0].Wait(t.Context(), Integrated); r.Err != nil || r.Receipt == nil {
				t.Errorf("no answer: %+v", r)
			}
			return nil
		}
		_ = f.do(op, answer)
	}
	select {
	case <-d.over:
	case <-time.After(20 * time.Second):
		t.Fatalf("no call of %s", op)
	}
	l.abandon()
	for _, disk := range left {
		l.cfg.fs = disk
		l.open(nil)
		l.mustHold(told, heads...)
		again := answered{byID: map[string]Result{}, indices: map[uint64]string{}}
		for _, id := range []string{"during", "before", "durable"} {
			again.add(t, id, l.insist(id))
		}
		for id, r := range told.byID {
			again.add(t, id, r) // which compares
		}
		l.mustHold(&again)
		l.close()
	}
}

// during is what is on its way when the process dies: a new event, one again, and one
// whose id is taken.
var during = []struct{ id, note string }{{"during", "x"}, {"before", "x"}, {"durable", "other"}}

// abandon closes a service that is to be taken for dead: nothing it still does
// has an effect.
func (l *testLog) abandon() {
	if err := l.svc.Close(ended()); err != nil {
		l.t.Errorf("close: %v", err)
	}
	l.svc = nil
}

// ended is a context that is over.
func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}
