package witness_test

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/monitor/witness"
)

const testOrigin = "example.com/audit"

// testLog is a log that can have two histories: leaves from forkAt on differ by name.
type testLog struct {
	signer note.Signer
	key    *verifier.LogKey
	stored []tlog.Hash
	roots  []verifier.Hash // by size
}

// newLog makes the log with a history of so many leaves. Its key depends on the origin only.
func newLog(t testing.TB, origin, history string, forkAt, size int) *testLog {
	t.Helper()
	seed := make([]byte, ed25519.SeedSize)
	copy(seed, origin)
	public := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
	vkey, err := note.NewEd25519VerifierKey(origin, public)
	if err != nil {
		t.Fatal(err)
	}
	key, err := verifier.ParseLogKey(vkey)
	if err != nil {
		t.Fatal(err)
	}
	id := vkey[len(origin)+1 : len(origin)+9]
	signer, err := note.NewSigner("PRIVATE+KEY+" + origin + "+" + id + "+" + base64.StdEncoding.EncodeToString(append([]byte{1}, seed...)))
	if err != nil {
		t.Fatal(err)
	}
	l := &testLog{signer: signer, key: key, roots: []verifier.Hash{verifier.EmptyRoot}}
	for i := range size {
		leaf := strconv.Itoa(i)
		if i >= forkAt {
			leaf += history
		}
		hs, err := tlog.StoredHashes(int64(i), []byte(leaf), l.reader())
		if err != nil {
			t.Fatal(err)
		}
		l.stored = append(l.stored, hs...)
		root, err := tlog.TreeHash(int64(i)+1, l.reader())
		if err != nil {
			t.Fatal(err)
		}
		l.roots = append(l.roots, verifier.Hash(root))
	}
	return l
}

func (l *testLog) reader() tlog.HashReader {
	return tlog.HashReaderFunc(func(is []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(is))
		for i, j := range is {
			out[i] = l.stored[j]
		}
		return out, nil
	})
}

func (l *testLog) note(t testing.TB, size int) []byte {
	t.Helper()
	return l.sign(t, verifier.Checkpoint{Origin: l.key.Origin(), Size: uint64(size), Root: l.roots[size]}.Text())
}

func (l *testLog) sign(t testing.TB, text string) []byte {
	t.Helper()
	n, err := note.Sign(&note.Note{Text: text}, l.signer)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// proof returns the consistency proof, empty from size 0 and between equal sizes.
func (l *testLog) proof(t testing.TB, from, to int) []verifier.Hash {
	t.Helper()
	if from == 0 || from >= to {
		return nil
	}
	p, err := tlog.ProveTree(int64(to), int64(from), l.reader())
	if err != nil {
		t.Fatal(err)
	}
	var out []verifier.Hash
	for _, h := range p {
		out = append(out, verifier.Hash(h))
	}
	return out
}

func (l *testLog) request(t testing.TB, from, to int) witness.Request {
	t.Helper()
	return witness.Request{OldSize: uint64(from), Proof: l.proof(t, from, to), Note: l.note(t, to)}
}

// memory is a store in memory with a hook that may fail before or after a swap was done.
type memory struct {
	mu   sync.Mutex
	recs map[string]*witness.Record
	// fault is asked at each step: "load", "swap", "swapped".
	fault func(step string) error
}

func newMemory() *memory { return &memory{recs: map[string]*witness.Record{}} }

func (m *memory) step(s string) error {
	if m.fault == nil {
		return nil
	}
	return m.fault(s)
}

func (m *memory) Load(_ context.Context, origin string) (*witness.Record, error) {
	if err := m.step("load"); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.recs[origin], nil
}

func (m *memory) Swap(_ context.Context, origin string, old, next *witness.Record) error {
	if err := m.step("swap"); err != nil {
		return err
	}
	m.mu.Lock()
	if !m.recs[origin].Equal(old) {
		m.mu.Unlock()
		return witness.ErrConflict
	}
	m.recs[origin] = &witness.Record{Note: append([]byte(nil), next.Note...), Time: next.Time}
	m.mu.Unlock()
	return m.step("swapped")
}

// cosigners returns one of each kind.
func cosigners(t testing.TB) []*witness.Cosigner {
	t.Helper()
	var out []*witness.Cosigner
	for _, k := range []struct {
		name string
		alg  witness.Algorithm
	}{{"witness.example/w1", witness.Ed25519}, {"witness.example/pq", witness.MLDSA44}} {
		skey, err := witness.GenerateKey(k.name, k.alg)
		if err != nil {
			t.Fatal(err)
		}
		c, err := witness.ParseKey(skey)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, c)
	}
	return out
}

// policy demands the cosignatures of all.
func policy(t testing.TB, l *testLog, cs []*witness.Cosigner) *verifier.Policy {
	t.Helper()
	text, names := "log "+l.key.String()+"\n", ""
	for i, c := range cs {
		name := "w" + strconv.Itoa(i)
		text += "witness " + name + " " + c.VerifierKey() + "\n"
		names += " " + name
	}
	p, err := verifier.ParsePolicy([]byte(text + "group g all" + names + "\nquorum g\n"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// mustVerify checks that lines cosign the note, and returns the head and the time.
func mustVerify(t testing.TB, p *verifier.Policy, note, lines []byte) (verifier.Checkpoint, time.Time) {
	t.Helper()
	c, w, err := p.Verify(append(append([]byte(nil), note...), lines...))
	if err != nil || w.Status != verifier.Quorum {
		t.Fatalf("cosigned note: %v, status %q", err, w.Status)
	}
	return c, w.Cosigned[0].Time
}

func newWitness(t testing.TB, cfg witness.Config) *witness.Witness {
	t.Helper()
	w, err := witness.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return w
}
