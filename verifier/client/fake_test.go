package client

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/event"
	"github.com/prooftrail/prooftrail/verifier/monitor/gossip/gossiptest"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

const origin = "example.com/audit"

// fakeLog is a log in memory behind the wire format of design §8. It is
// stricter than the contract: it refuses requests that the client must not make.
// Each hook spoils one thing.
type fakeLog struct {
	t      *testing.T
	vkey   string
	signer note.Signer
	policy *verifier.Policy
	srv    *httptest.Server

	mu      sync.Mutex
	entries []fakeEntry
	ids     map[string]int
	asked   []string // requests, as "METHOD path"

	sourceKey *verifier.SourceKey           // of whoever must sign
	sealAs    func(i int, e *seal.Envelope) // changes what is sealed of the ith entry
	bodies    []string                      // of requests that submit

	spoil  func(i int, r *verifier.Receipt)                  // of the ith entry's receipt
	answer func(w http.ResponseWriter, r *http.Request) bool // instead of the log; false: go on
	delay  int                                               // receipts that are given late: so many 202s
}

type fakeEntry struct {
	sealed seal.Sealed
	sent   event.Fields
}

func newFakeLog(t *testing.T) *fakeLog {
	t.Helper()
	skey, vkey, err := note.GenerateKey(nil, origin)
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeLog{t: t, vkey: vkey, ids: map[string]int{}}
	if f.signer, err = note.NewSigner(skey); err != nil {
		t.Fatal(err)
	}
	if f.policy, err = verifier.ParsePolicy([]byte("log " + vkey + "\nquorum none\n")); err != nil {
		t.Fatal(err)
	}
	f.srv = httptest.NewServer(f)
	t.Cleanup(f.srv.Close)
	return f
}

// client makes a client that doesn't sleep, and checks heads only when told to.
func (f *fakeLog) client(change func(*Config)) *Client {
	f.t.Helper()
	cfg := Config{URL: f.srv.URL, Token: "pt_abc_def", Policy: f.policy, Attempts: 3, CheckEvery: -1}
	if change != nil {
		change(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	c.sleep = noSleep
	f.t.Cleanup(c.Close)
	return c
}

func (f *fakeLog) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, r.Method+" "+r.URL.EscapedPath())
	if f.answer != nil && f.answer(w, r) {
		return
	}
	if got := r.Header.Get("Authorization"); got != "Bearer pt_abc_def" {
		f.problem(w, 401, "unauthorized")
		return
	}
	path := strings.TrimPrefix(r.URL.Path, "/v1/logs/audit/")
	switch {
	case r.Method == "POST" && path == "/v1/events":
		f.submit(w, r)
	case strings.HasPrefix(path, "receipts/"):
		i, _ := strconv.Atoi(path[len("receipts/"):])
		_, _ = w.Write(f.receipt(i))
	case strings.HasPrefix(path, "entries/"):
		i, _ := strconv.Atoi(path[len("entries/"):])
		f.entry(w, i)
	case strings.HasPrefix(path, "/v1/events/"):
		i, ok := f.ids[r.URL.Query().Get("source")+" "+strings.TrimPrefix(path, "/v1/events/")]
		if !ok {
			f.problem(w, 404, "not-found")
			return
		}
		f.entry(w, i)
	case path == "proofs/consistency":
		f.consistency(w, r)
	case path == "proofs/inclusion":
		index, _ := strconv.Atoi(r.URL.Query().Get("index"))
		size, _ := strconv.Atoi(r.URL.Query().Get("size"))
		f.proof(w, f.inclusion(index, 0, size))
	case path == "/logs/audit/checkpoint":
		_, _ = w.Write(f.checkpoint(len(f.entries)))
	case strings.HasPrefix(path, "/logs/audit/tile/"):
		tile, err := verifier.ParseTilePath(strings.TrimPrefix(path, "/logs/audit/"))
		var b []byte
		if err == nil {
			b, err = f.tree().ReadTile(r.Context(), tile)
		}
		if err != nil {
			f.problem(w, 404, "not-found")
			return
		}
		_, _ = w.Write(b)
	default:
		f.problem(w, 404, "not-found")
	}
}

// tree is the history so far.
func (f *fakeLog) tree() gossiptest.Tree {
	t := gossiptest.Tree{}
	for _, e := range f.entries {
		t = append(t, e.sealed.LeafHash)
	}
	return t
}

// fork makes another history of the log, from an entry on, as large.
func (f *fakeLog) fork(from int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := len(f.entries)
	f.entries = f.entries[:from:from]
	for i := from; i < n; i++ {
		f.add(rawEvent(fmt.Sprint("fork ", i)))
	}
}

// requests counts those whose path has a part.
func (f *fakeLog) requests(part string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range f.asked {
		if strings.Contains(a, part) {
			n++
		}
	}
	return n
}

func (f *fakeLog) problem(w http.ResponseWriter, status int, slug string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"type":"/problems/%s","title":"%s","status":%d}`, slug, slug, status)
}

func (f *fakeLog) submit(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	f.bodies = append(f.bodies, string(body))
	if len(body) > MaxBatchBytes {
		f.t.Errorf("a request of %d bytes", len(body))
	}
	if r.Header.Get("Content-Type") == "application/x-ndjson" {
		for line := range bytes.Lines(body) {
			w.Write(append(f.add(bytes.TrimSpace(line)), '\n'))
		}
		return
	}
	answer := f.add(body)
	if bytes.Contains(answer, []byte(`"conflict"`)) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(409)
		fmt.Fprint(w, `{"type":"/problems/conflict","title":"conflict","status":409,"index":0,"conflict_index":1}`)
		return
	}
	w.Write(answer)
}

// add takes one event and makes its R.
func (f *fakeLog) add(raw []byte) []byte {
	s, err := readSubmission(raw)
	sent := s.fields
	if err != nil {
		f.t.Errorf("the client sent an event that is not valid: %v", err)
	}
	if f.sourceKey != nil && (s.envelope == nil || s.envelope.Check(sent, f.sourceKey) != nil) {
		return []byte(`{"status":"rejected","problem":{"title":"unsigned","status":403}}`)
	}
	status := Accepted
	key := sent.Text("/source") + " " + sent.Text("/id")
	i, known := f.ids[key]
	switch {
	case !known:
		i = len(f.entries)
		f.ids[key] = i
		f.entries = append(f.entries, fakeEntry{f.seal(sent, s.envelope), sent})
	case bytes.Equal(f.entries[i].sent.JSON(), sent.JSON()):
		status = Duplicate
	default:
		return []byte(`{"status":"conflict","index":0,"problem":{"title":"conflict","status":409,"index":0,"conflict_index":1}}`)
	}
	return f.result(status, i)
}

// result is R for an event whose entry is said to be i.
func (f *fakeLog) result(status Status, i int) []byte {
	out := map[string]any{"status": status, "index": i, "leaf_hash": f.entries[i].sealed.LeafHash[:]}
	if f.delay == 0 {
		out["receipt"] = string(f.receipt(i))
	}
	b, err := json.Marshal(out)
	if err != nil {
		f.t.Error(err)
	}
	return b
}

// hide withholds fields of the ith entry from now on, or says that entry by has
// erased them.
func (f *fakeLog) hide(i int, by *uint64, pointers ...string) {
	f.t.Helper()
	o, err := seal.ParseOpening(f.entries[i].sealed.Opening)
	if err == nil && by != nil {
		o, err = o.Erase(*by, pointers...)
	} else if err == nil {
		o, err = o.Withhold(pointers...)
	}
	if err != nil {
		f.t.Fatal(err)
	}
	f.entries[i].sealed.Opening = o.Bytes()
}

func (f *fakeLog) seal(sent event.Fields, e *seal.Envelope) seal.Sealed {
	now := time.Date(2026, 1, 31, 12, 0, len(f.entries)%60, 0, time.UTC)
	as := seal.Envelope{}
	if e != nil {
		as = seal.Envelope{Salts: maps.Clone(e.Salts), Signature: e.Signature}
	}
	if f.sealAs != nil {
		f.sealAs(len(f.entries), &as)
	}
	stamped, err := sent.Stamp(event.Stamp{Tenant: "default", ReceivedAt: now, Principal: "submit/abc", PeerIP: "127.0.0.1", Signature: as.Signature})
	if err != nil {
		f.t.Fatal(err)
	}
	c, err := seal.Commit(stamped, as.Salts)
	if err != nil {
		f.t.Fatal(err)
	}
	return c.At(now)
}

func (f *fakeLog) receipt(i int) []byte {
	r := &verifier.Receipt{
		Index: uint64(i), Proof: f.inclusion(i, 0, len(f.entries)),
		Checkpoint: f.checkpoint(len(f.entries)), Extra: f.entries[i].sealed.Opening,
	}
	if f.spoil != nil {
		f.spoil(i, r)
	}
	return r.Bytes()
}

func (f *fakeLog) entry(w http.ResponseWriter, i int) {
	if i >= len(f.entries) {
		f.problem(w, 404, "beyond-head")
		return
	}
	e := f.entries[i]
	_ = json.NewEncoder(w).Encode(map[string]any{
		"index": i, "entry": string(e.sealed.Leaf), "leaf_hash": e.sealed.LeafHash[:],
		"opening": json.RawMessage(e.sealed.Opening), "receipt": string(f.receipt(i)),
	})
}

func (f *fakeLog) checkpoint(size int) []byte { return f.sign(size, f.root(0, size)) }

func (f *fakeLog) sign(size int, root verifier.Hash) []byte {
	b, err := verifier.SignCheckpoint(verifier.Checkpoint{Origin: origin, Size: uint64(size), Root: root}, f.signer)
	if err != nil {
		f.t.Fatal(err)
	}
	return b
}

func (f *fakeLog) consistency(w http.ResponseWriter, r *http.Request) {
	first, _ := strconv.Atoi(r.URL.Query().Get("first"))
	second, _ := strconv.Atoi(r.URL.Query().Get("second"))
	f.proof(w, f.subproof(first, 0, second, true))
}

func (f *fakeLog) proof(w http.ResponseWriter, hashes []verifier.Hash) {
	proof := [][]byte{}
	for _, h := range hashes {
		proof = append(proof, h[:])
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"proof": proof})
}

// root is MTH of RFC 6962 over entries [lo, hi).
func (f *fakeLog) root(lo, hi int) verifier.Hash {
	var r verifier.CompactRange
	for _, e := range f.entries[lo:hi] {
		r.Append(e.sealed.LeafHash)
	}
	return r.Root()
}

// split is the largest power of two smaller than n.
func split(n int) int {
	k := 1
	for k*2 < n {
		k *= 2
	}
	return k
}

// inclusion is PATH(m, D[lo:hi]) of RFC 6962, with m absolute.
func (f *fakeLog) inclusion(m, lo, hi int) []verifier.Hash {
	if hi-lo <= 1 {
		return nil
	}
	k := lo + split(hi-lo)
	if m < k {
		return append(f.inclusion(m, lo, k), f.root(k, hi))
	}
	return append(f.inclusion(m, k, hi), f.root(lo, k))
}

// subproof is SUBPROOF(m, D[lo:hi], b) of RFC 6962, with m relative to lo.
func (f *fakeLog) subproof(m, lo, hi int, whole bool) []verifier.Hash {
	if m == hi-lo {
		if whole {
			return nil
		}
		return []verifier.Hash{f.root(lo, hi)}
	}
	k := split(hi - lo)
	if m <= k {
		return append(f.subproof(m, lo, lo+k, whole), f.root(lo+k, hi))
	}
	return append(f.subproof(m-k, lo+k, hi, false), f.root(lo, lo+k))
}

// rawEvent is a valid event with the id.
func rawEvent(id string) []byte {
	return []byte(`{"schema":"prooftrail.event/1","id":"` + id + `","source":"cron://test/","time":"2026-01-31T11:59:59Z",` +
		`"action":"auth.login","outcome":"success","actor":{"type":"user","id":"ada"},"target":[{"type":"service","id":"cron"}]}`)
}
