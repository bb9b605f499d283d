// Package witnesstest has witnesses for tests: the real one of verifier/monitor/witness behind
// a server of the test's, and one with the deviations that are met in the field.
package witnesstest

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	cosig "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/monitor/store"
	"github.com/prooftrail/prooftrail/verifier/monitor/witness"
)

// Witness is a witness that knows one log.
type Witness struct {
	Name   string // in policies, and of its key
	VKey   string
	Signer note.Signer // with its key, for what it wouldn't sign
	Server *httptest.Server

	witness *witness.Witness
	handler http.Handler

	mu    sync.Mutex
	now   func() time.Time
	calls []Call
	says  func(rw http.ResponseWriter, r *http.Request, body []byte) bool
}

// Call is one add-checkpoint call.
type Call struct {
	Status int
	Body   []byte
}

// New makes a witness of the log with that key, as the specification has it, with its store in
// a directory of the test's.
func New(t testing.TB, logKey, name string) *Witness {
	t.Helper()
	key, err := verifier.ParseLogKey(logKey)
	if err != nil {
		t.Fatal(err)
	}
	skey, err := witness.GenerateKey(name, witness.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	cosigner, err := witness.ParseKey(skey)
	if err != nil {
		t.Fatal(err)
	}
	w := &Witness{Name: name, VKey: cosigner.VerifierKey(), now: time.Now}
	if w.Signer, err = cosig.NewSignerForCosignatureV1(skey); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "witness.db")
	if err := store.Create(path); err != nil {
		t.Fatal(err)
	}
	heads, err := store.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	w.witness, err = witness.New(context.Background(), witness.Config{
		Logs: []*verifier.LogKey{key}, Cosigners: []*witness.Cosigner{cosigner}, Store: heads, Now: w.clock,
	})
	if err != nil {
		t.Fatal(err)
	}
	w.handler = w.witness.Handler()
	w.Server = httptest.NewServer(w)
	t.Cleanup(func() {
		w.Server.CloseClientConnections() // of who still waits for an answer
		w.Server.Close()
		if err := heads.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// oddBody is how much a witness like this reads of a request.
const oddBody = 10 << 10

// NewOdd makes a witness that answers 500 where others answer 403 or 404, reads no more than
// 10 KiB of a request, gives a conflict's size without its type and line feed, and shows no
// checkpoint.
func NewOdd(t testing.TB, logKey, name string) *Witness {
	t.Helper()
	w := New(t, logKey, name)
	real := w.handler
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			rw.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		r.Body = io.NopCloser(io.LimitReader(r.Body, oddBody))
		rec := httptest.NewRecorder()
		real.ServeHTTP(rec, r)
		switch rec.Code {
		case http.StatusForbidden, http.StatusNotFound:
			rw.WriteHeader(http.StatusInternalServerError)
		case http.StatusConflict:
			rw.WriteHeader(rec.Code)
			_, _ = rw.Write(bytes.TrimSpace(rec.Body.Bytes()))
		default:
			rw.WriteHeader(rec.Code)
			_, _ = rw.Write(rec.Body.Bytes())
		}
	})
	return w
}

// Line is its line in a policy.
func (w *Witness) Line() string {
	return "witness " + w.Name + " " + w.VKey + " " + w.Server.URL + "\n"
}

// Latest is the checkpoint that it cosigned last; nil if there is none.
func (w *Witness) Latest(t testing.TB, origin string) []byte {
	t.Helper()
	note, err := w.witness.Latest(context.Background(), origin)
	if err != nil {
		t.Fatal(err)
	}
	return note
}

// status notes what is answered.
type status struct {
	http.ResponseWriter
	code int
}

func (s *status) WriteHeader(code int) {
	s.code = code
	s.ResponseWriter.WriteHeader(code)
}

func (w *Witness) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	w.mu.Lock()
	f := w.says
	w.mu.Unlock()
	if f != nil && f(rw, r, body) {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	s := &status{rw, http.StatusOK}
	w.handler.ServeHTTP(s, r)
	if r.Method == http.MethodPost {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.calls = append(w.calls, Call{s.code, body})
	}
}

// Calls returns the add-checkpoint calls that it has answered since the last time; but those
// in its place (see Says).
func (w *Witness) Calls() []Call {
	w.mu.Lock()
	defer w.mu.Unlock()
	calls := w.calls
	w.calls = nil
	return calls
}

// Statuses returns the statuses of Calls.
func (w *Witness) Statuses() []int {
	var all []int
	for _, c := range w.Calls() {
		all = append(all, c.Status)
	}
	return all
}

// Says has it answer by f, as far as that returns true; nil: as the specification says.
func (w *Witness) Says(f func(rw http.ResponseWriter, r *http.Request, body []byte) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.says = f
}

// Down has it answer nothing: connections are cut.
func (w *Witness) Down() {
	w.Says(func(http.ResponseWriter, *http.Request, []byte) bool { panic(http.ErrAbortHandler) })
}

// Up ends what Down and Says began.
func (w *Witness) Up() { w.Says(nil) }

// SetClock sets its clock.
func (w *Witness) SetClock(now func() time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = now
}

func (w *Witness) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now()
}
