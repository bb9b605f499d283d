package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/event"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

// everything is what withholds each field of a rawEvent.
var everything = []string{"/schema", "/tenant", "/source", "/id", "/time", "/action", "/outcome", "/received_at", "/actor", "/target", "/ingest"}

// with makes a log that has the events a, b and c.
func with(t *testing.T) (*fakeLog, *Client) {
	t.Helper()
	f := newFakeLog(t)
	c := f.client(nil)
	for _, id := range []string{"a", "b", "c"} {
		if _, err := c.Submit(t.Context(), rawEvent(id)); err != nil {
			t.Fatal(err)
		}
	}
	return f, c
}

func parsed(t *testing.T, id string) event.Fields {
	t.Helper()
	f, err := event.Parse(rawEvent(id))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// A log that throws an event away can't answer with the receipt of another one,
// however little of that it shows.
func TestWithheldReceipts(t *testing.T) {
	by := uint64(7)
	for name, hide := range map[string]func(f *fakeLog){
		"everything withheld":                     func(f *fakeLog) { f.hide(1, nil, everything...) },
		"what differs withheld":                   func(f *fakeLog) { f.hide(1, nil, "/id") },
		"content erased, what differs withheld":   func(f *fakeLog) { f.hide(1, &by, "/actor", "/target"); f.hide(1, nil, "/id") },
		"everything erased that may be":           func(f *fakeLog) { f.hide(1, &by, "/actor", "/target", "/ingest") },
		"only the server's own fields withheld":   func(f *fakeLog) { f.hide(1, nil, "/tenant", "/received_at", "/ingest") },
		"everything shown, and it is not the one": func(*fakeLog) {},
	} {
		for _, status := range []Status{Accepted, Duplicate} {
			t.Run(fmt.Sprint(name, ", ", status), func(t *testing.T) {
				f, c := with(t)
				hide(f)
				f.answer = func(w http.ResponseWriter, _ *http.Request) bool {
					_, _ = w.Write(append(f.result(status, 1), '\n'))
					return true
				}
				r, err := c.Submit(t.Context(), rawEvent("x"))
				var bad *ReceiptError
				if !errors.As(err, &bad) || r == nil || r.Verified() || r.Verdict != nil || len(bad.Receipt) == 0 {
					t.Fatalf("%+v, %v", r, err)
				}
				results, err := c.SubmitBatch(t.Context(), [][]byte{rawEvent("x")})
				if err != nil || !errors.Is(results[0].Err, verifier.ErrFailed) || results[0].Verified() {
					t.Fatalf("in a batch: %+v, %v", results, err)
				}
			})
		}
	}
}

// Of one's own event, fields may be missing only if it was there before and they
// were erased since; and then it is partly compared, not verified.
func TestErasedDuplicate(t *testing.T) {
	by, early := uint64(7), uint64(1)
	for name, tt := range map[string]struct {
		status Status
		by     *uint64
		ok     bool
	}{
		"erased since":         {Duplicate, &by, true},
		"accepted just now":    {Accepted, &by, false},
		"withheld":             {Duplicate, nil, false},
		"erased before it was": {Duplicate, &early, false},
	} {
		t.Run(name, func(t *testing.T) {
			f, c := with(t)
			f.hide(1, tt.by, "/actor/id")
			f.answer = func(w http.ResponseWriter, _ *http.Request) bool {
				_, _ = w.Write(f.result(tt.status, 1))
				return true
			}
			r, err := c.Submit(t.Context(), rawEvent("b"))
			if (err == nil) != tt.ok || r.Verified() || (r.Verdict != nil) != tt.ok {
				t.Fatalf("%+v, %v", r, err)
			}
			if tt.ok != slices.Equal(r.Uncompared, []string{"/actor/id"}) {
				t.Errorf("uncompared %v", r.Uncompared)
			}
			if _, err := c.Checker().Check(f.receipt(1), parsed(t, "b")); !errors.Is(err, verifier.ErrFailed) {
				t.Errorf("Check: %v", err)
			}
		})
	}
}

// The answer's index and leaf hash are those of the receipt.
func TestLyingResults(t *testing.T) {
	for name, lie := range map[string]func(w map[string]any){
		"index":     func(w map[string]any) { w["index"] = 0 },
		"leaf hash": func(w map[string]any) { w["leaf_hash"] = make([]byte, 32) },
	} {
		t.Run(name, func(t *testing.T) {
			f, c := with(t)
			f.answer = func(w http.ResponseWriter, _ *http.Request) bool {
				var r map[string]any
				if err := json.Unmarshal(f.result(Duplicate, 1), &r); err != nil {
					t.Error(err)
				}
				lie(r)
				_ = json.NewEncoder(w).Encode(r)
				return true
			}
			if r, err := c.Submit(t.Context(), rawEvent("b")); !errors.Is(err, verifier.ErrFailed) || r.Verified() || r.Verdict != nil {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
}

// Whoever waits for witnesses isn't content with the log's word; who doesn't is
// told.
func TestProvisional(t *testing.T) {
	f := newFakeLog(t)
	policy, err := verifier.ParsePolicy([]byte("log " + f.vkey +
		"\nwitness w1 witness.example/w1+f5802c19+BEgHWll+choVbi4Hmd5cwMUyTcbn6vHN1GJQho7FMhXd\nquorum w1\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, wait := range []Wait{Integrated, Witnessed} {
		c := f.client(func(cfg *Config) { cfg.Policy, cfg.Wait = policy, wait })
		r, err := c.Submit(t.Context(), rawEvent("a"))
		if errors.Is(err, ErrProvisional) != (wait == Witnessed) || errors.Is(err, verifier.ErrFailed) {
			t.Errorf("%s: %v", wait, err)
		}
		if !r.Provisional() || r.Verified() != (wait == Integrated) || r.Verdict == nil {
			t.Errorf("%s: %+v", wait, r)
		}
	}
	r, err := f.client(func(cfg *Config) { cfg.Wait = Witnessed }).Submit(t.Context(), rawEvent("a"))
	if err != nil || !r.Verified() || r.Provisional() {
		t.Errorf("a policy that needs no witnesses: %+v, %v", r, err)
	}
}

// entryAnswer is what the log says of an entry, to be spoiled.
type entryAnswer struct {
	Index    int             `json:"index"`
	Entry    string          `json:"entry"`
	LeafHash []byte          `json:"leaf_hash"`
	Opening  json.RawMessage `json:"opening"`
	Receipt  string          `json:"receipt"`
}

func (f *fakeLog) entryAnswer(i int, extra []byte) entryAnswer {
	e := f.entries[i].sealed
	f.spoil = func(_ int, r *verifier.Receipt) { r.Extra = extra }
	return entryAnswer{i, string(e.Leaf), e.LeafHash[:], e.Opening, string(f.receipt(i))}
}

// The event at an id is compared with the id wherever it shows, and what shows
// twice is the same.
func TestLyingEntries(t *testing.T) {
	less := func(f *fakeLog, pointers ...string) []byte {
		f.hide(1, nil, pointers...)
		return f.entries[1].sealed.Opening
	}
	for name, tt := range map[string]struct {
		answer func(f *fakeLog) entryAnswer
		want   error // nil: fine
	}{
		"only the receipt shows": {func(f *fakeLog) entryAnswer {
			a := f.entryAnswer(1, f.entries[1].sealed.Opening)
			a.Opening = nil
			return a
		}, nil},
		"only the receipt shows, another event": {func(f *fakeLog) entryAnswer {
			a := f.entryAnswer(2, f.entries[2].sealed.Opening)
			a.Opening = nil
			return a
		}, verifier.ErrFailed},
		"only the opening shows":                {func(f *fakeLog) entryAnswer { return f.entryAnswer(1, nil) }, nil},
		"only the opening shows, another event": {func(f *fakeLog) entryAnswer { return f.entryAnswer(2, nil) }, verifier.ErrFailed},
		"only the opening shows, of the event and not the entry": {func(f *fakeLog) entryAnswer {
			a := f.entryAnswer(2, nil)
			a.Opening = f.entries[1].sealed.Opening
			return a
		}, verifier.ErrFailed},
		"nothing shows": {func(f *fakeLog) entryAnswer {
			a := f.entryAnswer(2, nil)
			a.Opening = nil
			return a
		}, ErrNotShown},
		"all is withheld":    {func(f *fakeLog) entryAnswer { return f.entryAnswer(1, less(f, everything...)) }, ErrNotShown},
		"the id is withheld": {func(f *fakeLog) entryAnswer { return f.entryAnswer(1, less(f, "/id")) }, ErrNotShown},
		"the source is withheld, another event": {func(f *fakeLog) entryAnswer {
			f.hide(2, nil, "/source")
			return f.entryAnswer(2, f.entries[2].sealed.Opening)
		}, verifier.ErrFailed},
		"the receipt shows less": {func(f *fakeLog) entryAnswer {
			full := f.entries[1].sealed.Opening
			a := f.entryAnswer(1, less(f, "/actor/id"))
			a.Opening = full
			return a
		}, verifier.ErrFailed},
		"the opening is a text": {func(f *fakeLog) entryAnswer {
			a := f.entryAnswer(1, nil)
			a.Opening = json.RawMessage(`"{\"fields\":"`)
			return a
		}, verifier.ErrFailed},
	} {
		t.Run(name, func(t *testing.T) {
			f, c := with(t)
			a := tt.answer(f)
			f.answer = func(w http.ResponseWriter, _ *http.Request) bool {
				_ = json.NewEncoder(w).Encode(a)
				return true
			}
			e, err := c.Event(t.Context(), "cron://test/", "b")
			if !errors.Is(err, tt.want) || errors.Is(err, verifier.ErrFailed) && errors.Is(tt.want, ErrNotShown) || e == nil {
				t.Fatalf("%+v, %v", e, err)
			}
			if tt.want == nil && (e.Opening == nil || e.Verdict.Content != seal.Verified || e.Verdict.Event.Text("/id") != "b") {
				t.Errorf("%+v", e.Verdict)
			}
		})
	}
}

// The verdict on an entry is of one opening, in all its parts.
func TestRedactedEntry(t *testing.T) {
	f, c := with(t)
	f.hide(1, nil, "/actor/id")
	for name, extra := range map[string][]byte{"both": f.entries[1].sealed.Opening, "the opening alone": nil} {
		a := f.entryAnswer(1, extra)
		f.answer = func(w http.ResponseWriter, _ *http.Request) bool {
			_ = json.NewEncoder(w).Encode(a)
			return true
		}
		e, err := c.Event(t.Context(), "cron://test/", "b")
		if err != nil || e.Verdict.Content != seal.VerifiedRedacted || !slices.Equal(e.Verdict.Withheld, []string{"/actor/id"}) || e.Verdict.Opening == nil {
			t.Errorf("%s: %+v, %v", name, e, err)
		}
	}
}

// The leaf hash is the entry's, also where no opening shows it.
func TestLyingLeafHash(t *testing.T) {
	f, c := with(t)
	a := f.entryAnswer(1, nil)
	a.Opening = nil
	f.answer = func(w http.ResponseWriter, _ *http.Request) bool {
		_ = json.NewEncoder(w).Encode(a)
		return true
	}
	if e, err := c.Entry(t.Context(), 1); err != nil || e.Verdict.Content != verifier.NotShown {
		t.Fatalf("%+v, %v", e, err)
	}
	a.LeafHash = make([]byte, 32)
	if e, err := c.Entry(t.Context(), 1); !errors.Is(err, verifier.ErrFailed) || e.Verdict != nil {
		t.Errorf("%+v, %v", e, err)
	}
}
