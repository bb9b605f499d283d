package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/event"
)

func noSleep(ctx context.Context, _ time.Duration) error { return ctx.Err() }

func TestSubmit(t *testing.T) {
	f := newFakeLog(t)
	c := f.client(nil)
	ctx := t.Context()
	for i := range 20 {
		r, err := c.Submit(ctx, rawEvent(fmt.Sprint("e", i)))
		if err != nil {
			t.Fatal(err)
		}
		if r.Status != Accepted || r.Index != uint64(i) || !r.Verified() || r.Verdict.LeafHash != r.LeafHash {
			t.Fatalf("event %d: %+v", i, r)
		}
		v, err := verifier.VerifyReceipt(r.Receipt, f.policy)
		if err != nil || v.Size != r.Verdict.Size || v.Index != r.Verdict.Index || !v.Time.Equal(r.Verdict.Time) ||
			v.Content != r.Verdict.Content || v.Witnesses.Status != r.Verdict.Witnesses.Status || v.Origin != r.Verdict.Origin {
			t.Fatalf("verifier.VerifyReceipt says %+v, %v; the client %+v", v, err, r.Verdict)
		}
	}
	again, err := c.Submit(ctx, rawEvent("e7"))
	if err != nil || again.Status != Duplicate || again.Index != 7 || !again.Verified() {
		t.Fatalf("sent again: %+v, %v", again, err)
	}
	other := bytes.Replace(rawEvent("e0"), []byte("ada"), []byte("eve"), 1)
	conflict, err := c.Submit(ctx, other)
	if !errors.Is(err, ErrConflict) || conflict.Status != Conflict || conflict.Index != 0 {
		t.Fatalf("conflict: %+v, %v", conflict, err)
	}
	heads, err := c.CheckHeads(ctx)
	if err != nil || heads.Proven != 20 || heads.Newest.Size != 20 {
		t.Fatalf("check heads: %+v, %v", heads, err)
	}
}

// An event that can't be valid isn't sent, and the refusal is the server's.
func TestSubmitRefusedHere(t *testing.T) {
	f := newFakeLog(t)
	r, err := f.client(nil).Submit(t.Context(), []byte(`{"schema":"prooftrail.event/1","id":7}`))
	var p *Problem
	if !errors.As(err, &p) || !errors.Is(err, ErrRefused) || p.Code == "" || p.Retryable() || r.Status != Rejected {
		t.Fatalf("%+v, %v", r, err)
	}
	if len(f.asked) != 0 {
		t.Errorf("asked %v", f.asked)
	}
}

// Every lie in a receipt is found, whatever else is right.
func TestLyingReceipts(t *testing.T) {
	skey, _, err := note.GenerateKey(nil, origin)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	lies := map[string]func(f *fakeLog, i int, r *verifier.Receipt){
		"opening of another event": func(f *fakeLog, _ int, r *verifier.Receipt) { r.Extra = f.entries[1].sealed.Opening },
		"receipt of another event": func(f *fakeLog, _ int, r *verifier.Receipt) {
			r.Index, r.Extra, r.Proof = 1, f.entries[1].sealed.Opening, f.inclusion(1, 0, len(f.entries))
		},
		"opening changed": func(f *fakeLog, _ int, r *verifier.Receipt) {
			r.Extra = bytes.Replace(r.Extra, []byte(`"v":"success"`), []byte(`"v":"failure"`), 1)
		},
		"no opening":  func(_ *fakeLog, _ int, r *verifier.Receipt) { r.Extra = nil },
		"wrong index": func(_ *fakeLog, _ int, r *verifier.Receipt) { r.Index ^= 1 },
		"wrong proof": func(_ *fakeLog, _ int, r *verifier.Receipt) { r.Proof[0][3] ^= 1 },
		"proof cut":   func(_ *fakeLog, _ int, r *verifier.Receipt) { r.Proof = r.Proof[1:] },
		"another's sign": func(f *fakeLog, _ int, r *verifier.Receipt) {
			b, err := verifier.SignCheckpoint(verifier.Checkpoint{Origin: origin, Size: uint64(len(f.entries)), Root: f.root(0, len(f.entries))}, stranger)
			if err != nil {
				f.t.Error(err)
			}
			r.Checkpoint = b
		},
		"head changed": func(f *fakeLog, _ int, r *verifier.Receipt) {
			size := len(f.entries)
			r.Checkpoint = bytes.Replace(r.Checkpoint, fmt.Appendf(nil, "\n%d\n", size), fmt.Appendf(nil, "\n%d\n", size+1), 1)
		},
		"sealed anew with another content, in a tree of its own": func(f *fakeLog, _ int, r *verifier.Receipt) {
			forged, err := event.Parse(bytes.Replace(rawEvent("e8"), []byte("ada"), []byte("eve"), 1))
			if err != nil {
				f.t.Error(err)
			}
			s := f.seal(forged, nil)
			*r = verifier.Receipt{Index: 0, Checkpoint: f.sign(1, s.LeafHash), Extra: s.Opening}
		},
	}
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			f := newFakeLog(t)
			honest := f.client(nil)
			for i := range 8 {
				if _, err := honest.Submit(t.Context(), rawEvent(fmt.Sprint("e", i))); err != nil {
					t.Fatal(err)
				}
			}
			f.spoil = func(i int, r *verifier.Receipt) { lie(f, i, r) }
			r, err := f.client(nil).Submit(t.Context(), rawEvent("e8"))
			var bad *ReceiptError
			if !errors.As(err, &bad) || !errors.Is(err, verifier.ErrFailed) {
				t.Fatalf("error %v", err)
			}
			if r == nil || r.Verified() || r.Verdict != nil || len(bad.Receipt) == 0 {
				t.Fatalf("result %+v", r)
			}
			results, err := f.client(nil).SubmitBatch(t.Context(), [][]byte{rawEvent("e9")})
			if err != nil || !errors.As(results[0].Err, &bad) || results[0].Verified() {
				t.Fatalf("in a batch: %+v, %v", results, err)
			}
		})
	}
}

// Two signed heads of one size with different roots are evidence.
func TestSplitView(t *testing.T) {
	f := newFakeLog(t)
	c := f.client(nil)
	if _, err := c.Submit(t.Context(), rawEvent("a")); err != nil {
		t.Fatal(err)
	}
	f.entries, f.ids = nil, map[string]int{} // the log begins another history
	_, err := c.Submit(t.Context(), rawEvent("b"))
	var evidence *EvidenceError
	if !errors.As(err, &evidence) || !errors.Is(err, verifier.ErrFailed) {
		t.Fatalf("error %v", err)
	}
	if fork, err := evidence.Evidence().Check(f.policy); err != nil || fork.First.Size != 1 || fork.Second.Size != 1 {
		t.Errorf("evidence: %+v, %v", fork, err)
	}
}

// What CheckHeads finds convicts, at whatever sizes; if the tiles lead nowhere, it is an
// accusation still.
func TestForkEvidence(t *testing.T) {
	for m := 1; m <= 9; m++ {
		for n := m + 1; n <= 12; n++ {
			f := newFakeLog(t)
			c, other := f.client(nil), f.client(nil)
			grow := func(history string, size int) {
				for i := len(f.entries); i < size; i++ {
					f.add(rawEvent(fmt.Sprint(history, i)))
				}
				for _, c := range []*Client{c, other} {
					if _, _, _, err := c.Checkpoint(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
			}
			grow("a", m)
			f.entries = f.entries[:m-1]
			grow("b", n)
			_, err := c.CheckHeads(t.Context())
			var evidence *EvidenceError
			if !errors.As(err, &evidence) {
				t.Fatalf("%d and %d: %v", m, n, err)
			}
			if _, err := evidence.Evidence().Check(f.policy); err != nil {
				t.Errorf("%d and %d: %v", m, n, err)
			}
			f.answer = func(w http.ResponseWriter, r *http.Request) bool {
				if strings.Contains(r.URL.Path, "/tile/") {
					_, _ = w.Write(make([]byte, 32*n))
					return true
				}
				return false
			}
			if _, err := other.CheckHeads(t.Context()); !errors.As(err, &evidence) || other.checker.heads.verdict() != nil {
				t.Errorf("%d and %d, with other tiles: %v", m, n, err)
			}
		}
	}
}

// A fork between sizes is found by CheckHeads, and a smaller head later on is no
// fork.
func TestCheckHeads(t *testing.T) {
	f := newFakeLog(t)
	c := f.client(nil)
	ctx := t.Context()
	for _, id := range []string{"a", "b", "c"} {
		if _, err := c.Submit(ctx, rawEvent(id)); err != nil {
			t.Fatal(err)
		}
	}
	old := f.checkpoint(2)
	f.spoil = func(i int, r *verifier.Receipt) {
		*r = verifier.Receipt{Index: 1, Proof: f.inclusion(1, 0, 2), Checkpoint: old, Extra: f.entries[1].sealed.Opening}
	}
	if r, err := c.Submit(ctx, rawEvent("b")); err != nil || r.Verdict.Size != 2 {
		t.Fatalf("receipt at a smaller head: %+v, %v", r, err)
	}
	f.spoil = nil
	if _, err := c.CheckHeads(ctx); err != nil {
		t.Fatal(err)
	}
	f.entries[0] = f.entries[1] // rewrite history and go on
	if _, err := c.Submit(ctx, rawEvent("d")); err != nil {
		t.Fatal(err)
	}
	_, err := c.CheckHeads(ctx)
	var evidence *EvidenceError
	if !errors.As(err, &evidence) || len(evidence.Proof) == 0 {
		t.Fatalf("error %v", err)
	}
}

func TestSubmitBatch(t *testing.T) {
	f := newFakeLog(t)
	c := f.client(nil)
	pretty := bytes.Replace(rawEvent("pretty"), []byte(`,"`), []byte(",\n\t\""), -1)
	batch := [][]byte{rawEvent("a"), []byte("{"), pretty, rawEvent("a"), bytes.Replace(rawEvent("a"), []byte("ada"), []byte("eve"), 1)}
	results, err := c.SubmitBatch(t.Context(), batch)
	if err != nil {
		t.Fatal(err)
	}
	want := []Status{Accepted, Rejected, Accepted, Duplicate, Conflict}
	for i, r := range results {
		if r.Status != want[i] || r.Verified() != (r.Status == Accepted || r.Status == Duplicate) {
			t.Errorf("result %d: %+v, expected %s", i, r, want[i])
		}
	}
	if _, err := c.SubmitBatch(t.Context(), make([][]byte, MaxBatchEvents+1)); !errors.Is(err, ErrRefused) {
		t.Errorf("too large a batch: %v", err)
	}
}

// What may pass is sent again, in a batch only what needs it.
func TestRetries(t *testing.T) {
	f := newFakeLog(t)
	failures := []int{503, 429, 500, 0}
	f.answer = func(w http.ResponseWriter, r *http.Request) bool {
		if len(failures) == 0 {
			return false
		}
		status := failures[0]
		failures = failures[1:]
		if status == 0 {
			panic(http.ErrAbortHandler) // the connection breaks
		}
		f.problem(w, status, "busy")
		return true
	}
	c := f.client(func(cfg *Config) { cfg.Attempts = 5 })
	if r, err := c.Submit(t.Context(), rawEvent("a")); err != nil || !r.Verified() {
		t.Fatalf("%+v, %v", r, err)
	}
	if len(f.asked) != 5 {
		t.Errorf("asked %v", f.asked)
	}
	failures = slices.Repeat([]int{503}, 10)
	if _, err := c.Submit(t.Context(), rawEvent("b")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("error %v", err)
	}
	f.asked, failures = nil, slices.Repeat([]int{503}, 10)
	if _, _, err := c.AddToken(t.Context(), TokenRequest{}); !errors.Is(err, ErrUnavailable) || len(f.asked) != 1 {
		t.Errorf("making a token: asked %v, error %v", f.asked, err)
	}
}

// The status of an event's own problem says whether it is sent again.
func TestBatchRetriesWhatMayPass(t *testing.T) {
	for status, again := range map[int]bool{429: true, 500: true, 503: true, 403: false, 422: false} {
		f := newFakeLog(t)
		first := true
		f.answer = func(w http.ResponseWriter, r *http.Request) bool {
			if !first {
				return false
			}
			first = false
			fmt.Fprintf(w, "%s\n"+`{"status":"rejected","problem":{"status":%d,"title":"no"}}`+"\n", f.add(rawEvent("a")), status)
			return true
		}
		results, err := f.client(nil).SubmitBatch(t.Context(), [][]byte{rawEvent("a"), rawEvent("b")})
		if err != nil || !results[0].Verified() || results[1].Verified() != again || again && results[1].Index != 1 {
			t.Errorf("%d: %+v, %v", status, results, err)
		}
		want := 1
		if again {
			want = 2
		}
		if len(f.entries) != want || len(f.asked) != want {
			t.Errorf("%d: %d entries, asked %v", status, len(f.entries), f.asked)
		}
	}
}

// What a later sending of a batch fails with doesn't cost the results that are
// there.
func TestBatchKeepsResults(t *testing.T) {
	f := newFakeLog(t)
	asked := 0
	f.answer = func(w http.ResponseWriter, r *http.Request) bool {
		if asked++; asked == 1 {
			fmt.Fprintf(w, "%s\n"+`{"status":"rejected","problem":{"status":503,"title":"busy"}}`+"\n", f.add(rawEvent("a")))
		} else {
			f.problem(w, 401, "unauthorized")
		}
		return true
	}
	batch := [][]byte{rawEvent("a"), rawEvent("b"), []byte("{")}
	results, err := f.client(nil).SubmitBatch(t.Context(), batch)
	if err != nil || len(results) != 3 {
		t.Fatalf("%d results, %v", len(results), err)
	}
	if !results[0].Verified() || results[1].Status != "" || !errors.Is(results[1].Err, ErrUnauthorized) || results[2].Status != Rejected {
		t.Errorf("%+v", results)
	}
	asked = 1
	if results, err := f.client(nil).SubmitBatch(t.Context(), batch); results != nil || !errors.Is(err, ErrUnauthorized) {
		t.Errorf("no answer at all: %+v, %v", results, err)
	}
}

// A receipt that wasn't ready is fetched.
func TestLateReceipt(t *testing.T) {
	f := newFakeLog(t)
	f.delay = 1
	r, err := f.client(nil).Submit(t.Context(), rawEvent("a"))
	if err != nil || !r.Verified() {
		t.Fatalf("%+v, %v", r, err)
	}
	if want := "GET /v1/logs/audit/receipts/0"; !slices.Contains(f.asked, want) {
		t.Errorf("asked %v, not %s", f.asked, want)
	}
	durable, err := f.client(func(c *Config) { c.Wait = Durable }).Submit(t.Context(), rawEvent("b"))
	if err != nil || durable.Receipt != nil || durable.Verified() {
		t.Errorf("durable: %+v, %v", durable, err)
	}
}

// Answers that aren't of the protocol are errors, never zero values.
func TestStrangeAnswers(t *testing.T) {
	for _, body := range []string{
		``, `{}`, `[]`, `{"status":"accepted"}`, `{"status":"accepted","index":0}`,
		`{"status":"accepted","index":-1,"leaf_hash":"` + strings.Repeat("A", 43) + `="}`,
		`{"status":"accepted","index":0,"leaf_hash":"AAAA"}`, `{"status":"rejected"}`, `{"status":"conflict","problem":{}}`,
		`{"status":"maybe","index":0}`,
	} {
		f := newFakeLog(t)
		f.answer = func(w http.ResponseWriter, r *http.Request) bool { fmt.Fprintln(w, body); return true }
		if r, err := f.client(nil).Submit(t.Context(), rawEvent("a")); !errors.Is(err, ErrServer) {
			t.Errorf("answer %s: %+v, %v", body, r, err)
		}
		if r, err := f.client(nil).SubmitBatch(t.Context(), [][]byte{rawEvent("a")}); !errors.Is(err, ErrServer) {
			t.Errorf("answer %s to a batch: %+v, %v", body, r, err)
		}
	}
}
