// Package logtest is a log for tests, in memory, that can do what no log should: keep several
// histories under one key. It serves c2sp.org/tlog-tiles like any other.
package logtest

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/prooftrail/prooftrail/verifier"
)

// Key is a log's key. Its holder can sign what they like.
type Key struct {
	Origin string
	VKey   string
	signer note.Signer
}

// NewKey makes the key of an origin, the same each time.
func NewKey(t testing.TB, origin string) *Key {
	t.Helper()
	seed := sha256.Sum256([]byte("log key of " + origin))
	skey, vkey, err := note.GenerateKey(bytes.NewReader(append(seed[:], seed[:]...)), origin)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	return &Key{origin, vkey, signer}
}

// Policy returns the policy "log <vkey>" and what follows it; "quorum none" if nothing does.
func (k *Key) Policy(t testing.TB, more ...string) *verifier.Policy {
	t.Helper()
	if len(more) == 0 {
		more = []string{"quorum none"}
	}
	p, err := verifier.ParsePolicy([]byte("log " + k.VKey + "\n" + strings.Join(more, "\n") + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Sign signs any text. The note's text has to end with a newline.
func (k *Key) Sign(t testing.TB, text string) []byte {
	t.Helper()
	b, err := note.Sign(&note.Note{Text: text}, k.signer)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// History is one history of a log. It is safe for concurrent use.
type History struct {
	t   testing.TB
	Key *Key

	mu     sync.Mutex
	name   string
	leaves [][]byte
	rows   [][]verifier.Hash // by level: leaf hashes, and roots of complete subtrees of 256, 256^2, …
	shown  []byte            // instead of the newest head
	fault  func(w http.ResponseWriter, r *http.Request) bool
}

// New makes a history of n entries. Histories of different names have nothing in common.
func New(t testing.TB, k *Key, name string, n int) *History {
	h := &History{t: t, Key: k, name: name}
	h.Grow(n)
	return h
}

// Fork makes another history of the same key with the first n entries of this one.
func (h *History) Fork(name string, n int) *History {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := &History{t: h.t, Key: h.Key, name: name}
	for _, leaf := range h.leaves[:n] {
		f.add(leaf)
	}
	return f
}

// Rewrite makes another history of the same key, in which one entry is another and all others are the same.
func (h *History) Rewrite(name string, index int) *History {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := &History{t: h.t, Key: h.Key, name: name}
	for i, leaf := range h.leaves {
		if i == index {
			f.Grow(1)
		} else {
			f.add(leaf)
		}
	}
	return f
}

// begin is the time of the first leaf.
var begin = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

// Grow appends n entries, one a second.
func (h *History) Grow(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for range n {
		i := len(h.leaves)
		root := sha256.Sum256([]byte(h.name + "/" + strconv.Itoa(i)))
		h.add([]byte(`{"root":"` + base64.StdEncoding.EncodeToString(root[:]) + `","time":"` +
			begin.Add(time.Duration(i)*time.Second).Format(time.RFC3339) + `","v":"prooftrail.leaf/1"}`))
	}
}

// add appends one leaf. Called with mu held, or before anybody else has h.
func (h *History) add(leaf []byte) {
	h.leaves = append(h.leaves, leaf)
	hash := verifier.LeafHash(leaf)
	for level := 0; ; level++ {
		if level == len(h.rows) {
			h.rows = append(h.rows, nil)
		}
		h.rows[level] = append(h.rows[level], hash)
		if len(h.rows[level])%verifier.TileWidth != 0 {
			return
		}
		hash = subtreeRoot(h.rows[level][len(h.rows[level])-verifier.TileWidth:])
	}
}

// subtreeRoot is the root over a power of two of hashes.
func subtreeRoot(hs []verifier.Hash) verifier.Hash {
	if len(hs) == 1 {
		return hs[0]
	}
	return verifier.NodeHash(subtreeRoot(hs[:len(hs)/2]), subtreeRoot(hs[len(hs)/2:]))
}

// Size returns the number of entries.
func (h *History) Size() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.leaves)
}

// Head returns the head of the first n entries.
func (h *History) Head(n int) verifier.Checkpoint {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.head(n)
}

func (h *History) head(n int) verifier.Checkpoint {
	var tree verifier.CompactRange
	full := n / verifier.TileWidth
	for i := range full {
		if err := tree.AppendSubtree(h.rows[1][i], verifier.TileHeight); err != nil {
			h.t.Fatal(err)
		}
	}
	if n > 0 {
		for _, leaf := range h.rows[0][full*verifier.TileWidth : n] {
			tree.Append(leaf)
		}
	}
	return verifier.Checkpoint{Origin: h.Key.Origin, Size: uint64(n), Root: tree.Root()}
}

// Note returns the signed head of the first n entries.
func (h *History) Note(n int) []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.note(n)
}

func (h *History) note(n int) []byte {
	b, err := note.Sign(&note.Note{Text: h.head(n).Text()}, h.Key.signer)
	if err != nil {
		h.t.Error(err)
	}
	return b
}

// Show serves a note as the head, whatever it says; nil: the newest one.
func (h *History) Show(note []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.shown = note
}

// Fault is asked before each answer; true means that it has answered. Nil: no faults.
func (h *History) Fault(f func(w http.ResponseWriter, r *http.Request) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fault = f
}

// ServeHTTP serves the history's files, below any prefix.
func (h *History) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	fault := h.fault
	h.mu.Unlock()
	if fault != nil && fault(w, r) {
		return
	}
	h.Serve(w, r)
}

// Serve is ServeHTTP without the fault.
func (h *History) Serve(w http.ResponseWriter, r *http.Request) {
	b, ok := h.File(r.URL.Path)
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = io.Copy(w, bytes.NewReader(b))
}

// File returns the file that a URL path ends with.
func (h *History) File(path string) ([]byte, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if strings.HasSuffix(path, "/checkpoint") {
		if h.shown != nil {
			return h.shown, true
		}
		return h.note(len(h.leaves)), true
	}
	i := strings.Index(path, "/tile/")
	if i < 0 {
		return nil, false
	}
	tile, err := verifier.ParseTilePath(path[i+1:])
	if err != nil {
		return nil, false
	}
	return h.tile(tile)
}

func (h *History) tile(t verifier.Tile) ([]byte, bool) {
	row := max(t.Level, 0)
	if row >= len(h.rows) || t.N >= 1<<32 {
		return nil, false
	}
	from := int(t.N) * verifier.TileWidth
	to := from + t.Width
	if to > len(h.rows[row]) {
		return nil, false
	}
	if t.Level != verifier.EntriesLevel {
		return verifier.EncodeTile(h.rows[row][from:to]), true
	}
	var b []byte
	for _, leaf := range h.leaves[from:to] {
		var err error
		if b, err = verifier.AppendEntry(b, leaf); err != nil {
			return nil, false
		}
	}
	return b, true
}

// Witness is the key of an Ed25519 witness.
type Witness struct {
	Name string
	VKey string
	key  ed25519.PrivateKey
}

// NewWitness makes the key of a witness, the same each time.
func NewWitness(name string) *Witness {
	seed := sha256.Sum256([]byte("witness key of " + name))
	key := ed25519.NewKeyFromSeed(seed[:])
	public := append([]byte{0x04}, key.Public().(ed25519.PublicKey)...)
	id := sha256.Sum256(append([]byte(name+"\n"), public...))
	return &Witness{name, fmt.Sprintf("%s+%x+%s", name, id[:4], base64.StdEncoding.EncodeToString(public)), key}
}

// Cosign adds the witness's line to a signed note (c2sp.org/tlog-cosignature).
func (w *Witness) Cosign(signedNote []byte, at time.Time) []byte {
	text, _, _ := strings.Cut(string(signedNote), "\n\n")
	stamp := uint64(at.Unix())
	sig := ed25519.Sign(w.key, fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s\n", stamp, text))
	public := append([]byte{0x04}, w.key.Public().(ed25519.PublicKey)...)
	id := sha256.Sum256(append([]byte(w.Name+"\n"), public...))
	blob := append(id[:4:4], byte(stamp>>56), byte(stamp>>48), byte(stamp>>40), byte(stamp>>32), byte(stamp>>24), byte(stamp>>16), byte(stamp>>8), byte(stamp))
	blob = append(blob, sig...)
	return append(bytes.Clone(signedNote), "— "+w.Name+" "+base64.StdEncoding.EncodeToString(blob)+"\n"...)
}
