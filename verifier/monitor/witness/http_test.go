package witness_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/monitor/witness"
)

func call(h http.Handler, method, path string, body []byte) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest(method, path, bytes.NewReader(body)))
	return rec
}

func latestPath(origin string) string {
	return fmt.Sprintf("/%x/checkpoint", sha256.Sum256([]byte(origin)))
}

// TestStatuses: each status of c2sp.org/tlog-witness, against a witness that knows size 5.
func TestStatuses(t *testing.T) {
	honest, fork := newLog(t, testOrigin, "a", 99, 12), newLog(t, testOrigin, "b", 3, 12)
	stranger := newLog(t, "example.com/other", "", 99, 8)
	cs := cosigners(t)
	p := policy(t, honest, cs)
	bytesOf := func(old int, proof []verifier.Hash, note []byte) []byte {
		return witness.Request{OldSize: uint64(old), Proof: proof, Note: note}.Bytes()
	}
	wrongSig := bytes.Replace(honest.note(t, 8), []byte("\n8\n"), []byte("\n9\n"), 1)
	unsigned := bytes.Replace(honest.note(t, 8), []byte("— "+testOrigin+" "), []byte("— example.com/nobody "), 1)
	emptyWrong := honest.sign(t, verifier.Checkpoint{Origin: testOrigin, Root: verifier.Hash{1}}.Text())
	twice := honest.note(t, 8)
	twice = append(twice, twice[bytes.LastIndex(twice, []byte("\n\n"))+2:]...)
	for _, tt := range []struct {
		name    string
		body    []byte
		status  int
		refused bool
	}{
		{"grows", honest.request(t, 5, 8).Bytes(), 200, false},
		{"the same again", honest.request(t, 5, 5).Bytes(), 200, false},
		{"not a request", []byte("hello"), 400, false},
		{"empty", nil, 400, false},
		{"no note", []byte("old 5\n\n"), 400, false},
		{"leading zero", append([]byte("old 05\n\n"), honest.note(t, 8)...), 400, false},
		{"bad hash", append([]byte("old 5\nAAAA\n\n"), honest.note(t, 8)...), 400, false},
		{"64 proof lines", bytesOf(5, make([]verifier.Hash, 64), honest.note(t, 8)), 400, false},
		{"old size above", bytesOf(9, nil, honest.note(t, 8)), 400, false},
		{"extension line", bytesOf(5, honest.proof(t, 5, 8), honest.sign(t, string(honest.note(t, 8)[:strings.Index(string(honest.note(t, 8)), "\n\n")+1])+"more\n")), 400, false},
		{"signed twice", bytesOf(5, honest.proof(t, 5, 8), twice), 400, false},
		{"wrong signature", bytesOf(5, nil, wrongSig), 403, false},
		{"no signature of the log", bytesOf(5, nil, unsigned), 403, false},
		{"unknown origin", stranger.request(t, 0, 8).Bytes(), 404, false},
		{"old size differs", honest.request(t, 4, 8).Bytes(), 409, false},
		{"old size zero", honest.request(t, 0, 8).Bytes(), 409, false},
		{"older", honest.request(t, 3, 4).Bytes(), 409, true},
		{"another of the same size, old size differs", fork.request(t, 4, 5).Bytes(), 409, true},
		{"another of the same size", fork.request(t, 5, 5).Bytes(), 422, true},
		{"wrong proof", bytesOf(5, honest.proof(t, 4, 8), honest.note(t, 8)), 422, true},
		{"proof between equal sizes", bytesOf(5, make([]verifier.Hash, 1), honest.note(t, 5)), 422, true},
		{"second history", fork.request(t, 5, 8).Bytes(), 422, true},
		{"empty tree, wrong root", bytesOf(0, nil, emptyWrong), 409, true},
		{"too large", make([]byte, witness.MaxRequestBytes+1), 413, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			refused := 0
			w := newWitness(t, witness.Config{Logs: []*verifier.LogKey{honest.key}, Cosigners: cs, Store: newMemory(),
				OnRefused: func(origin string, known, note []byte, _ []verifier.Hash) {
					refused++
					if _, _, err := honest.key.Verify(note); origin != testOrigin || err != nil && !errors.Is(err, verifier.ErrEmptyRoot) {
						t.Errorf("refused note of %q: %v", origin, err)
					}
					if c, _ := mustVerify(t, p, known, nil); c.Size != 5 {
						t.Errorf("known size %d", c.Size)
					}
				}})
			h := w.Handler()
			if rec := call(h, "POST", "/add-checkpoint", honest.request(t, 0, 5).Bytes()); rec.Code != 200 {
				t.Fatalf("first head: %d %s", rec.Code, rec.Body)
			}
			rec := call(h, "POST", "/add-checkpoint", tt.body)
			if rec.Code != tt.status || (refused > 0) != tt.refused {
				t.Fatalf("status %d, refused %d, expected %d and %t: %s", rec.Code, refused, tt.status, tt.refused, rec.Body)
			}
			latest := call(h, "GET", latestPath(testOrigin), nil)
			head, _ := mustVerify(t, p, latest.Body.Bytes(), nil)
			switch {
			case tt.status == 200:
				req, _ := witness.ParseRequest(tt.body)
				if c, _ := mustVerify(t, p, req.Note, rec.Body.Bytes()); c != head {
					t.Errorf("latest is %v, cosigned %v", head, c)
				}
			case head.Size != 5:
				t.Errorf("a refused request moved the head to %d", head.Size)
			}
			if tt.status == 409 && (rec.Body.String() != "5\n" || rec.Header().Get("Content-Type") != "text/x.tlog.size") {
				t.Errorf("409 with %q, %q", rec.Body, rec.Header())
			}
		})
	}
}

// TestFirst: what holds before a log's first head.
func TestFirst(t *testing.T) {
	l, cs := newLog(t, testOrigin, "", 99, 8), cosigners(t)
	w := newWitness(t, witness.Config{Logs: []*verifier.LogKey{l.key}, Cosigners: cs, Store: newMemory()})
	h := w.Handler()
	for _, tt := range []struct {
		method, path string
		body         []byte
		status       int
	}{
		{"GET", latestPath(testOrigin), nil, 404},
		{"GET", latestPath("example.com/other"), nil, 404},
		{"GET", "/add-checkpoint", nil, 405},
		{"POST", "/add-checkpoint", witness.Request{Proof: make([]verifier.Hash, 1), Note: l.note(t, 5)}.Bytes(), 422},
		{"POST", "/add-checkpoint", witness.Request{Note: l.sign(t, verifier.Checkpoint{Origin: testOrigin}.Text())}.Bytes(), 422},
		{"POST", "/add-checkpoint", l.request(t, 3, 5).Bytes(), 409},
		{"POST", "/add-checkpoint", l.request(t, 0, 0).Bytes(), 200},
		{"POST", "/add-checkpoint", l.request(t, 0, 5).Bytes(), 200},
		{"GET", latestPath(testOrigin), nil, 200},
	} {
		if rec := call(h, tt.method, tt.path, tt.body); rec.Code != tt.status {
			t.Errorf("%s %s: %d %s, expected %d", tt.method, tt.path, rec.Code, rec.Body, tt.status)
		}
	}
}

// TestForeignLines: "it MUST ignore signatures from unknown keys", and doesn't hand them on.
func TestForeignLines(t *testing.T) {
	l, cs, others := newLog(t, testOrigin, "", 99, 8), cosigners(t), cosigners(t)
	other := newWitness(t, witness.Config{Logs: []*verifier.LogKey{l.key}, Cosigners: others, Store: newMemory()})
	w := newWitness(t, witness.Config{Logs: []*verifier.LogKey{l.key}, Cosigners: cs, Store: newMemory()})
	lines, err := other.Add(t.Context(), 0, nil, l.note(t, 5))
	if err != nil {
		t.Fatal(err)
	}
	lines, err = w.Add(t.Context(), 0, nil, append(l.note(t, 5), lines...))
	if err != nil {
		t.Fatal(err)
	}
	mustVerify(t, policy(t, l, cs), l.note(t, 5), lines)
	latest, err := w.Latest(t.Context(), testOrigin)
	if err != nil || !bytes.Equal(latest, append(l.note(t, 5), lines...)) {
		t.Errorf("latest: %v\n%s", err, latest)
	}
}

// TestClock: the time of cosignatures doesn't go back, across restarts too.
func TestClock(t *testing.T) {
	l, cs, store := newLog(t, testOrigin, "", 99, 8), cosigners(t), newMemory()
	p := policy(t, l, cs)
	now := time.Unix(1000, 0)
	cfg := witness.Config{Logs: []*verifier.LogKey{l.key}, Cosigners: cs, Store: store, Now: func() time.Time { return now }}
	for i, tt := range []struct{ now, want int64 }{{1000, 1000}, {900, 1000}, {1001, 1001}, {1, 1001}} {
		now = time.Unix(tt.now, 0)
		lines, err := newWitness(t, cfg).Add(t.Context(), uint64(i), l.proof(t, i, i+1), l.note(t, i+1))
		if err != nil {
			t.Fatal(err)
		}
		if _, at := mustVerify(t, p, l.note(t, i+1), lines); at.Unix() != tt.want {
			t.Errorf("clock at %d: time %d, expected %d", tt.now, at.Unix(), tt.want)
		}
	}
	now = time.Unix(0, 0)
	if _, err := newWitness(t, cfg).Add(t.Context(), 4, nil, l.note(t, 4)); err == nil {
		t.Error("cosigned at time zero")
	}
}

// TestGrowth: honest logs of every pair of sizes are cosigned.
func TestGrowth(t *testing.T) {
	l, cs := newLog(t, testOrigin, "", 999, 40), cosigners(t)[:1]
	p := policy(t, l, cs)
	for from := range 40 {
		for to := from; to <= 40; to++ {
			w := newWitness(t, witness.Config{Logs: []*verifier.LogKey{l.key}, Cosigners: cs, Store: newMemory()})
			for _, step := range [][2]int{{0, from}, {from, to}, {to, to}} {
				lines, err := w.Add(t.Context(), uint64(step[0]), l.proof(t, step[0], step[1]), l.note(t, step[1]))
				if err != nil {
					t.Fatalf("%d to %d: %v", step[0], step[1], err)
				}
				mustVerify(t, p, l.note(t, step[1]), lines)
			}
		}
	}
}
