package personality_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"github.com/prooftrail/prooftrail/personality/pubstore"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

// A hand is somebody who holds a closed log's directory, with all that it takes to
// write rows that are well formed.
type hand struct {
	t   *testing.T
	v   *victims
	dir string
	db  *pebble.DB
}

// get returns a row's value, which must be there.
func (h *hand) get(key []byte) []byte {
	h.t.Helper()
	v, closer, err := h.db.Get(key)
	if err != nil {
		h.t.Fatalf("row %q: %v", key, err)
	}
	defer closer.Close()
	return slices.Clone(v)
}

// set writes a row.
func (h *hand) set(key, value []byte) {
	h.t.Helper()
	check(h.t, h.db.Set(key, value, pebble.Sync))
}

// del deletes rows that are there.
func (h *hand) del(keys ...[]byte) {
	h.t.Helper()
	for _, key := range keys {
		h.get(key)
		check(h.t, h.db.Delete(key, pebble.Sync))
	}
}

// change replaces a row's value.
func (h *hand) change(key []byte, change func([]byte) []byte) {
	h.t.Helper()
	h.set(key, change(h.get(key)))
}

// swap exchanges the values of two rows.
func (h *hand) swap(a, b []byte) {
	h.t.Helper()
	x, y := h.get(a), h.get(b)
	h.set(a, y)
	h.set(b, x)
}

// flip changes one bit in the middle of a value.
func flip(b []byte) []byte { b[len(b)/2] ^= 4; return b }

// flipAt changes a bit at an offset; from the end, if it is negative.
func flipAt(at int) func([]byte) []byte {
	return func(b []byte) []byte { b[(at+len(b))%len(b)] ^= 4; return b }
}

// replace puts new in the place of old, which must be there.
func replace(t *testing.T, old, new string) func([]byte) []byte {
	return func(b []byte) []byte {
		if !bytes.Contains(b, []byte(old)) {
			t.Fatalf("%q isn't in %q", old, b)
		}
		return bytes.Replace(b, []byte(old), []byte(new), 1)
	}
}

// Rows of the publication store; see package pubstore.

func number(prefix string, n uint64) []byte { return binary.BigEndian.AppendUint64([]byte(prefix), n) }

func tileRow(level byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{'p', 't', level}, n)
}

func bundleRow(n uint64) []byte { return number("pe", n) }

func (h *hand) openingRow(id string) []byte {
	hash := h.payload(h.leafRow(id))[48:80]
	return append(number("po", h.v.index[id]), hash...)
}

func (v *victims) identity(id string) []byte {
	hash := seal.IdentityHash(v.params.IDSecret, "default", tamperSource, id)
	return hash[:]
}

func (h *hand) idRow(id string) []byte { return append([]byte("pi"), h.v.identity(id)...) }

// first returns the first row with a prefix, which must be there.
func (h *hand) first(prefix string) []byte {
	h.t.Helper()
	return h.all(prefix)[0]
}

// all returns the rows with a prefix, at least one.
func (h *hand) all(prefix string) (keys [][]byte) {
	h.t.Helper()
	it, err := h.db.NewIter(&pebble.IterOptions{LowerBound: []byte(prefix)})
	check(h.t, err)
	for ok := it.First(); ok && bytes.HasPrefix(it.Key(), []byte(prefix)); ok = it.Next() {
		keys = append(keys, slices.Clone(it.Key()))
	}
	check(h.t, it.Close())
	if len(keys) == 0 {
		h.t.Fatalf("no row begins with %q", prefix)
	}
	return keys
}

// Trillian's rows; see package pebblestore. Their checksums are no secret.

func (h *hand) treeRow() []byte { return number("tm", uint64(h.v.params.TreeID)) }

func (h *hand) data(kind byte, rest ...byte) []byte {
	return append(append(number("td", uint64(h.v.params.TreeID)), kind), rest...)
}

func (h *hand) leafRow(id string) []byte {
	return h.data('l', number("", h.v.index[id])...)
}

func (h *hand) identityRow(id string) []byte { return h.data('i', h.v.identity(id)...) }

// payload returns what a row of Trillian's holds.
func (h *hand) payload(key []byte) []byte {
	h.t.Helper()
	v := h.get(key)
	return v[1 : len(v)-4]
}

// sealRow writes a row of Trillian's with the checksum that it should have.
func (h *hand) sealRow(key, payload []byte) {
	h.t.Helper()
	table := crc32.MakeTable(crc32.Castagnoli)
	body := append([]byte{1}, payload...)
	sum := crc32.Update(crc32.Checksum(key, table), table, body)
	h.set(key, binary.BigEndian.AppendUint32(body, sum))
}

// reseal changes what a row of Trillian's holds.
func (h *hand) reseal(key []byte, change func([]byte) []byte) {
	h.t.Helper()
	h.sealRow(key, change(h.payload(key)))
}

// logRoot changes Trillian's root within its row: size at 4, hash at 13, time at 45,
// and the edge from 63 on.
const (
	rootSize = 4
	rootHash = 13
	rootTime = 45
	rootEdge = 63
)

// token changes a member of a stored token.
func (h *hand) token(id string, change func(*pubstore.Token)) {
	h.t.Helper()
	var tok pubstore.Token
	check(h.t, json.Unmarshal(h.get([]byte("pk"+id)), &tok))
	change(&tok)
	b, err := json.Marshal(tok)
	check(h.t, err)
	h.set([]byte("pk"+tok.ID), b)
}

// tokenID is the id within a token's text.
func tokenID(text string) string { return text[len("pt_") : len("pt_")+12] }

// file changes a file beside the database; nil deletes it.
func (h *hand) file(name string, change func([]byte) []byte) {
	h.t.Helper()
	path := filepath.Join(h.dir, name)
	b, err := os.ReadFile(path)
	check(h.t, err)
	check(h.t, os.Remove(path))
	if b = change(b); b != nil {
		check(h.t, os.WriteFile(path, b, 0o600))
	}
}

// takeFile replaces a file by the one that another copy has.
func (h *hand) takeFile(name, which string) {
	h.t.Helper()
	h.file(name, func([]byte) []byte {
		b, err := os.ReadFile(filepath.Join(h.v.path(which), name))
		check(h.t, err)
		return b
	})
}

// takeStore replaces the database by the one that another copy has.
func (h *hand) takeStore(which string) {
	h.t.Helper()
	store := filepath.Join("data", "store")
	check(h.t, os.RemoveAll(filepath.Join(h.dir, store)))
	copyTree(h.t, filepath.Join(h.v.path(which), store), filepath.Join(h.dir, store))
}

// storeFile returns the newest file of the database whose name has the pattern.
func (h *hand) storeFile(pattern string) (path string) {
	h.t.Helper()
	names, err := filepath.Glob(filepath.Join(h.dir, "data", "store", pattern))
	check(h.t, err)
	slices.Sort(names)
	if len(names) == 0 {
		h.t.Fatalf("the database has no file %s", pattern)
	}
	path, err = filepath.Rel(h.dir, names[len(names)-1])
	check(h.t, err)
	return path
}
