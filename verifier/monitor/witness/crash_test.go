package witness_test

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/monitor/store"
	"github.com/prooftrail/prooftrail/verifier/monitor/witness"
)

// ledger is every cosigned head that anybody ever saw.
type ledger struct {
	mu    sync.Mutex
	p     *verifier.Policy
	sides [2]*testLog
	seen  [2]bool // a head that only one history has
	last  int64   // time, for callers that ask one after the other
	heads int

	kill   *os.Process // if set, killed as soon as there are that many heads,
	killAt int         // while the next are on their way
}

// saw records a cosigned note; it is an error when both histories have been cosigned.
func (l *ledger) saw(note []byte) error {
	c, w, err := l.p.Verify(note)
	if err != nil || w.Status != verifier.Quorum {
		return fmt.Errorf("cosigned note: %w, status %q", err, w.Status)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.heads++; l.kill != nil && l.heads == l.killAt {
		_ = l.kill.Kill()
	}
	l.last = max(l.last, w.Cosigned[0].Time.Unix())
	a, b := l.sides[0].roots[c.Size] == c.Root, l.sides[1].roots[c.Size] == c.Root
	l.seen[0], l.seen[1] = l.seen[0] || a && !b, l.seen[1] || b && !a
	if l.seen[0] && l.seen[1] || !a && !b {
		return fmt.Errorf("two histories are cosigned, at size %d", c.Size)
	}
	return nil
}

// submit asks as a client does: with the size that the witness says it knows.
func submit(ctx context.Context, t testing.TB, w *witness.Witness, l *testLog, size int) ([]byte, error) {
	lines, err := w.Add(ctx, 0, nil, l.note(t, size))
	var conflict *witness.ConflictError
	if errors.As(err, &conflict) && conflict.Known <= uint64(size) {
		lines, err = w.Add(ctx, conflict.Known, l.proof(t, int(conflict.Known), size), l.note(t, size))
	}
	if err != nil {
		return nil, err
	}
	return append(l.note(t, size), lines...), nil
}

// stepSigner is a key that may fail before or after it has signed.
type stepSigner struct {
	crypto.Signer
	step func(string) error
}

func (s stepSigner) Sign(r io.Reader, msg []byte, opts crypto.SignerOpts) ([]byte, error) {
	if err := s.step("sign"); err != nil {
		return nil, err
	}
	sig, err := s.Signer.Sign(r, msg, opts)
	return sig, errors.Join(err, s.step("signed"))
}

var errFault = errors.New("fault")

// TestCrashAtEachStep runs one story of two histories, once for each step in it, and at that
// step fails, or dies and starts again on what is stored. "swapped" is a write that failed but was
// persisted; dying there is an answer that was lost.
func TestCrashAtEachStep(t *testing.T) {
	a, b := newLog(t, testOrigin, "a", 3, 12), newLog(t, testOrigin, "b", 3, 12)
	story := []struct {
		l    *testLog
		size int
	}{{a, 2}, {a, 3}, {b, 6}, {a, 6}, {b, 6}, {a, 5}, {b, 7}, {a, 7}, {b, 12}, {a, 12}}
	private := ed25519.NewKeyFromSeed(make([]byte, 32))
	for _, die := range []bool{false, true} {
		for at := 0; ; at++ {
			steps, mem := 0, newMemory()
			step := func(string) error {
				if steps++; steps-1 != at {
					return nil
				}
				if die {
					runtime.Goexit()
				}
				return errFault
			}
			c, err := witness.NewCosigner("witness.example/w1", stepSigner{private, step})
			if err != nil {
				t.Fatal(err)
			}
			cs := []*witness.Cosigner{c}
			led := &ledger{p: policy(t, a, cs), sides: [2]*testLog{a, b}}
			cfg := witness.Config{Logs: []*verifier.LogKey{a.key}, Cosigners: cs, Store: mem}
			w := newWitness(t, cfg)
			mem.fault = step
			for _, s := range story {
				if err := tell(t, w, led, s.l, s.size); err != nil {
					t.Fatalf("die %t at step %d: %v", die, at, err)
				}
				if die && steps > at { // the locks of the dead one died with it
					w = newWitness(t, cfg)
				}
			}
			if led.heads < 3 {
				t.Fatalf("die %t at step %d: %d heads", die, at, led.heads)
			}
			if steps <= at {
				t.Logf("die %t: %d steps", die, at)
				break
			}
		}
	}
}

// tell submits one head, and looks at what the witness serves afterwards, in a goroutine that
// may die on the way. What it left undone is no error.
func tell(t *testing.T, w *witness.Witness, led *ledger, l *testLog, size int) (err error) {
	over := make(chan struct{})
	go func() {
		defer close(over)
		err = tellNow(t, w, led, l, size)
	}()
	<-over
	return err
}

func tellNow(t *testing.T, w *witness.Witness, led *ledger, l *testLog, size int) error {
	before := led.last
	note, err := submit(t.Context(), t, w, l, size)
	if err == nil {
		if err := led.saw(note); err != nil {
			return err
		}
		if led.last < before {
			return errors.New("time went back")
		}
	}
	// What can't be read was the fault, or nothing is cosigned yet.
	if latest, err := w.Latest(t.Context(), testOrigin); err == nil && latest != nil {
		return led.saw(latest)
	}
	return nil
}

// TestRace: many clients, two histories of one log, one witness on the real store: one
// history at most is cosigned; other logs aren't held up.
func TestRace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	if err := store.Create(path); err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	a, b := newLog(t, testOrigin, "a", 3, 30), newLog(t, testOrigin, "b", 3, 30)
	other := newLog(t, "example.com/other", "", 99, 30)
	cs := cosigners(t)
	led := &ledger{p: policy(t, a, cs), sides: [2]*testLog{a, b}}
	w := newWitness(t, witness.Config{Logs: []*verifier.LogKey{a.key, other.key}, Cosigners: cs, Store: st})
	var wg sync.WaitGroup
	for i := range 8 {
		for _, l := range []*testLog{a, b, other} {
			wg.Go(func() {
				for size := 1 + i%3; size <= 30; size += 1 + i%4 {
					note, err := submit(t.Context(), t, w, l, size)
					if err != nil && statusError(err) {
						t.Error(err)
					}
					if err == nil && l != other {
						if err := led.saw(note); err != nil {
							t.Error(err)
						}
					}
				}
			})
		}
	}
	wg.Wait()
	if led.heads == 0 || !led.seen[0] && !led.seen[1] {
		t.Error("nothing was cosigned")
	}
	if note, err := w.Latest(t.Context(), "example.com/other"); err != nil || note == nil {
		t.Errorf("the other log has no head: %v", err)
	}
	t.Logf("%d heads", led.heads)
}

// statusError reports whether an error is the witness's own.
func statusError(err error) bool {
	var conflict *witness.ConflictError
	return !errors.As(err, &conflict) && !errors.Is(err, witness.ErrInconsistent)
}
