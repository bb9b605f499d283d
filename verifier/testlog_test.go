package verifier

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	cosig "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"

	"github.com/prooftrail/prooftrail/verifier/event"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

const testOrigin = "example.com/audit"

var testStart = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

// testKey is a log key that is always the same for a name.
func testKey(t testing.TB, name string) (note.Signer, string) {
	t.Helper()
	skey, vkey, err := note.GenerateKey(zeros(len(name)), name)
	if err != nil {
		t.Fatal(err)
	}
	s, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	return s, vkey
}

// zeros is a source of bytes that aren't random.
type zeros byte

func (z zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(z) + byte(i)
	}
	return len(p), nil
}

// testWitness returns the signer and the vkey of an Ed25519 witness.
func testWitness(t testing.TB, name string) (note.Signer, string) {
	t.Helper()
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(len(name)), name[len(name)-1]}, 16))
	skey, vkey := encodeKey(name, typeCosignature, key.Seed(), key.Public().(ed25519.PublicKey))
	s, err := cosig.NewSignerForCosignatureV1(skey)
	if err != nil {
		t.Fatal(err)
	}
	return s, vkey
}

func mustPolicy(t testing.TB, text string) *Policy {
	t.Helper()
	p, err := ParsePolicy([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// testLog is a log in memory: a Source, an OpeningSource and an http.Handler.
type testLog struct {
	t        testing.TB
	signer   note.Signer
	policy   *Policy
	leaves   [][]byte
	openings [][]byte

	mu    sync.Mutex
	files map[string][]byte
	lines map[uint64]string // replaces the opening line of an entry
	// fault, if set, is asked before each answer over HTTP; true means that it has answered.
	fault func(w http.ResponseWriter, r *http.Request) bool
	reads map[string]int
}

// testSealed returns the leaf and opening of event i, the same each time.
func testSealed(t testing.TB, i int, at time.Time) seal.Sealed {
	t.Helper()
	sub := fmt.Sprintf(`{"schema":"prooftrail.event/1","id":"run-%06d","source":"cron://node-1","seq":"%d",`+
		`"time":"2026-01-31T12:00:00Z","action":"run.finish","outcome":"success",`+
		`"actor":{"type":"schedule","id":"nightly"},"target":[{"type":"job","id":"backup-%d","name":"Backup"}],`+
		`"job":{"id":"backup-%d","schedule":"*/5 * * * *","exit_code":0,"duration_ms":1200},"labels":{"team":"infra"}}`, i, i, i%7, i%7)
	f, err := event.Parse([]byte(sub))
	if err != nil {
		t.Fatal(err)
	}
	f, err = f.Stamp(event.Stamp{Tenant: "default", ReceivedAt: testStart, Principal: "token:1", PeerIP: "192.0.2.7", Adapter: "http"})
	if err != nil {
		t.Fatal(err)
	}
	salts := seal.ChosenSalts{}
	for j, field := range f {
		salts[field.Pointer] = [16]byte{byte(i), byte(i >> 8), byte(i >> 16), byte(j)}
	}
	c, err := seal.Commit(f, salts)
	if err != nil {
		t.Fatal(err)
	}
	return c.At(at)
}

// newTestLog makes a log of n events, one a second, published at size n.
func newTestLog(t testing.TB, n int) *testLog {
	t.Helper()
	signer, vkey := testKey(t, testOrigin)
	l := &testLog{t: t, signer: signer, files: map[string][]byte{}, lines: map[uint64]string{}, reads: map[string]int{}}
	l.policy = mustPolicy(t, "log "+vkey+"\nquorum none\n")
	l.grow(n)
	return l
}

// grow appends events up to n and publishes that size.
func (l *testLog) grow(n int) {
	l.t.Helper()
	for i := len(l.leaves); i < n; i++ {
		s := testSealed(l.t, i, testStart.Add(time.Duration(i)*time.Second))
		l.leaves = append(l.leaves, s.Leaf)
		l.openings = append(l.openings, s.Opening)
	}
	l.publish()
}

// publish writes tiles, bundles and checkpoint of all leaves. Partial files of earlier
// sizes stay.
func (l *testLog) publish() {
	l.t.Helper()
	row := make([]Hash, len(l.leaves))
	for i, leaf := range l.leaves {
		row[i] = LeafHash(leaf)
	}
	var tree CompactRange
	for _, h := range row {
		tree.Append(h)
	}
	for n := 0; n*TileWidth < len(l.leaves); n++ {
		var b []byte
		end := min((n+1)*TileWidth, len(l.leaves))
		for _, leaf := range l.leaves[n*TileWidth : end] {
			b, _ = AppendEntry(b, leaf)
		}
		l.put(EntriesPath(uint64(n), end-n*TileWidth), b)
	}
	for level := 0; len(row) > 0; level++ {
		var next []Hash
		for n := 0; n*TileWidth < len(row); n++ {
			part := row[n*TileWidth : min((n+1)*TileWidth, len(row))]
			l.put(TilePath(level, uint64(n), len(part)), EncodeTile(part))
			if len(part) == TileWidth {
				next = append(next, subtreeRoot(part))
			}
		}
		row = next
	}
	note, err := SignCheckpoint(Checkpoint{testOrigin, tree.Size(), tree.Root()}, l.signer)
	if err != nil {
		l.t.Fatal(err)
	}
	l.put("checkpoint", note)
}

func (l *testLog) put(path string, b []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.files[path] = b
}

// clone is a copy to be corrupted.
func (l *testLog) clone() *testLog {
	c := &testLog{t: l.t, signer: l.signer, policy: l.policy, leaves: append([][]byte(nil), l.leaves...),
		openings: append([][]byte(nil), l.openings...), files: maps.Clone(l.files), lines: map[uint64]string{}, reads: map[string]int{}}
	return c
}

// edit changes one byte of a file.
func (l *testLog) edit(path string, at int) {
	l.t.Helper()
	b := bytes.Clone(l.files[path])
	if len(b) == 0 {
		l.t.Fatalf("no file %s", path)
	}
	b[at] ^= 1
	l.put(path, b)
}

func (l *testLog) Get(_ context.Context, path string, limit int64) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reads[path]++
	b, ok := l.files[path]
	if !ok {
		return nil, fmt.Errorf("get %s: %w", path, fs.ErrNotExist)
	}
	if int64(len(b)) > limit {
		return nil, ErrTooLarge
	}
	return b, nil
}

func (l *testLog) Openings(_ context.Context, start, count uint64) (io.ReadCloser, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reads["openings"]++
	var b []byte
	for i := start; i < start+count && i < uint64(len(l.openings)); i++ {
		if line, ok := l.lines[i]; ok {
			b = append(b, line...)
			continue
		}
		b = AppendOpeningLine(b, OpeningLine{Index: i, Opening: l.openings[i]})
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

func (l *testLog) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if l.fault != nil && l.fault(w, r) {
		return
	}
	if path, ok := strings.CutPrefix(r.URL.Path, "/logs/audit/"); ok {
		b, err := l.Get(r.Context(), path, 1<<30)
		if err != nil {
			http.NotFound(w, r)
			return
		}
		w.Write(b)
		return
	}
	if r.URL.Path != "/v1/logs/audit/openings" || r.Header.Get("Authorization") != "Bearer pt_1_secret" {
		http.Error(w, "no", http.StatusForbidden)
		return
	}
	start, _ := strconv.ParseUint(r.FormValue("start"), 10, 63)
	count, _ := strconv.ParseUint(r.FormValue("count"), 10, 63)
	body, _ := l.Openings(r.Context(), start, min(count, 100)) // fewer than asked for
	io.Copy(w, body)
}

// encodeKey writes the skey and the vkey of a key.
func encodeKey(name string, typ byte, private, public []byte) (skey, vkey string) {
	id := keyID(name, typ, public)
	enc := func(key []byte) string { return b64.EncodeToString(append([]byte{typ}, key...)) }
	return fmt.Sprintf("PRIVATE+KEY+%s+%s+%s", name, id, enc(private)), fmt.Sprintf("%s+%s+%s", name, id, enc(public))
}

// keyID is the key ID of c2sp.org/signed-note in hexadecimal.
func keyID(name string, typ byte, public []byte) string {
	sum := sha256.Sum256(append([]byte(name+"\n"+string(rune(typ))), public...))
	return fmt.Sprintf("%x", sum[:4])
}
