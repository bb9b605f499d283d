package client

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
)

func TestURLs(t *testing.T) {
	good := []Config{
		{URL: "https://log.example.com"}, {URL: "https://log.example.com:8443/prefix/"}, {URL: "http://127.0.0.1:8080"},
		{URL: "http://[::1]:8080"}, {URL: "http://localhost"}, {URL: "http://log.example.com", Insecure: true},
	}
	for _, cfg := range good {
		if _, err := New(cfg); err != nil {
			t.Errorf("%s: %v", cfg.URL, err)
		}
	}
	bad := []string{"", "log.example.com", "localhost:8080", "127.0.0.1:8080", "http://[", "ftp://log.example.com", "https://", "https://user:secret@log.example.com", "https://log.example.com?x=1", "http://192.0.2.1"}
	for _, u := range bad {
		if _, err := New(Config{URL: u}); err == nil {
			t.Errorf("%s: no error", u)
		}
	}
	if _, err := New(Config{URL: "http://log.example.com"}); !errors.Is(err, ErrInsecure) {
		t.Errorf("plain http: %v", err)
	}
	if _, err := New(Config{URL: "https://log.example.com", Wait: "never"}); err == nil {
		t.Error("wait never: no error")
	}
}

func TestRead(t *testing.T) {
	f := newFakeLog(t)
	c := f.client(nil)
	ctx := t.Context()
	for _, id := range []string{"a", "../b /?%", "c"} {
		if _, err := c.Submit(ctx, rawEvent(id)); err != nil {
			t.Fatal(err)
		}
	}
	e, err := c.Entry(ctx, 2)
	if err != nil || e.Verdict == nil || e.Verdict.Event.Text("/id") != "c" {
		t.Fatalf("entry: %+v, %v", e, err)
	}
	if e, err = c.Event(ctx, "cron://test/", "../b /?%"); err != nil || e.Index != 1 {
		t.Fatalf("event: %+v, %v", e, err)
	}
	if _, err := c.Event(ctx, "cron://test/", "none"); !errors.Is(err, ErrNotFound) {
		t.Errorf("no such event: %v", err)
	}
	if _, v, err := c.Receipt(ctx, 1); err != nil || v.Index != 1 {
		t.Errorf("receipt: %+v, %v", v, err)
	}
	if _, cp, w, err := c.Checkpoint(ctx); err != nil || cp.Size != 3 || w.Status != verifier.Quorum {
		t.Errorf("checkpoint: %+v, %v", cp, err)
	}
	if _, err := f.client(func(c *Config) { c.Token = "pt_wrong" }).Entry(ctx, 0); !errors.Is(err, ErrUnauthorized) {
		t.Errorf("wrong token: %v", err)
	}
}

// What the server shows of an entry is checked in each part.
func TestReadLies(t *testing.T) {
	lies := map[string]func(f *fakeLog){
		"another opening": func(f *fakeLog) { f.entries[1].sealed.Opening = f.entries[0].sealed.Opening },
		"changed opening": func(f *fakeLog) {
			f.entries[1].sealed.Opening = bytes.Replace(f.entries[1].sealed.Opening, []byte("ada"), []byte("eve"), 1)
		},
		"another leaf":      func(f *fakeLog) { f.entries[1].sealed.Leaf = f.entries[0].sealed.Leaf },
		"another leaf hash": func(f *fakeLog) { f.entries[1].sealed.LeafHash[0] ^= 1 },
		"another index":     func(f *fakeLog) { f.spoil = func(_ int, r *verifier.Receipt) { r.Index = 0 } },
		"another's event":   func(f *fakeLog) { f.ids["cron://test/ b"] = 0 },
	}
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			f := newFakeLog(t)
			c := f.client(nil)
			for _, id := range []string{"a", "b"} {
				if _, err := c.Submit(t.Context(), rawEvent(id)); err != nil {
					t.Fatal(err)
				}
			}
			lie(f)
			_, err := c.Event(t.Context(), "cron://test/", "b")
			if !errors.Is(err, verifier.ErrFailed) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// A server can't make the client read for ever, nor follow it elsewhere.
func TestLimits(t *testing.T) {
	f := newFakeLog(t)
	f.answer = func(w http.ResponseWriter, r *http.Request) bool {
		fmt.Fprint(w, strings.Repeat("x", limitProblem+1))
		return true
	}
	c := f.client(nil)
	if _, _, _, err := c.Checkpoint(t.Context()); !errors.Is(err, errTooLong) {
		t.Errorf("endless checkpoint: %v", err)
	}
	f.answer = func(w http.ResponseWriter, r *http.Request) bool {
		http.Redirect(w, r, "http://192.0.2.1/", http.StatusTemporaryRedirect)
		return true
	}
	if _, _, _, err := c.Checkpoint(t.Context()); !errors.Is(err, ErrServer) {
		t.Errorf("redirect: %v", err)
	}
	f.answer = func(w http.ResponseWriter, r *http.Request) bool {
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprint(w, "<html>secret of a proxy</html>")
		return true
	}
	if _, _, _, err := c.Checkpoint(t.Context()); !errors.Is(err, ErrRefused) || strings.Contains(err.Error(), "proxy") {
		t.Errorf("no problem document: %v", err)
	}
}

func TestProblemKinds(t *testing.T) {
	for status, want := range map[int]error{
		400: ErrRefused, 401: ErrUnauthorized, 403: ErrForbidden, 404: ErrNotFound, 408: ErrUnavailable, 409: ErrConflict,
		413: ErrRefused, 422: ErrRefused, 429: ErrBusy, 500: ErrServer, 502: ErrUnavailable, 503: ErrUnavailable, 504: ErrUnavailable, 302: ErrServer,
	} {
		if p := (&Problem{Status: status}); !errors.Is(p, want) {
			t.Errorf("%d is not %v", status, want)
		}
	}
	for _, lasting := range []string{problemRefusing, problemDamaged} {
		if (&Problem{Status: 503, Type: lasting}).Retryable() {
			t.Errorf("%s is asked again", lasting)
		}
	}
}

func TestBackoff(t *testing.T) {
	c, err := New(Config{URL: "https://log.example.com", MinBackoff: 10 * time.Millisecond, MaxBackoff: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	for n, most := range map[int]time.Duration{1: 10 * time.Millisecond, 2: 20 * time.Millisecond, 5: 160 * time.Millisecond, 50: time.Second} {
		for range 100 {
			if d := c.backoff(n); d < most/2 || d > most {
				t.Errorf("attempt %d: %v, expected %v to %v", n, d, most/2, most)
			}
		}
	}
}

// The memory of heads is bounded, and says what it forgot.
func TestHeadsAreBounded(t *testing.T) {
	var h heads
	for i := range maxPendingHeads + 10 {
		if err := h.see(verifier.Checkpoint{Size: uint64(i)}, []byte("note")); err != nil {
			t.Fatal(err)
		}
	}
	if len(h.pending) != maxPendingHeads || h.dropped != 10 || h.pending[maxPendingHeads+9] != h.newest {
		t.Errorf("%d pending, %d dropped", len(h.pending), h.dropped)
	}
}
