package pebblestore

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/trillian/types"
)

func fill(n int, b byte) []byte { return bytes.Repeat([]byte{b}, n) }

func exampleRow() (key, value []byte) {
	row := leafRow{
		queued: 1, integrated: -2, identity: fill(hashSize, 3), hash: fill(hashSize, 4),
		extra: fill(200, 5), value: []byte("value"),
	}
	key = appendLeafKey(nil, 7, 9)
	value = make([]byte, row.size())
	row.encode(key, value)
	return key, value
}

func TestLeafRowRoundTrip(t *testing.T) {
	for _, extra := range []int{0, 1, 127, 128, 16383, 16384, 70000} {
		for _, size := range []int{0, 1, 65535} {
			in := leafRow{
				queued: 1 << 62, integrated: -1, identity: fill(hashSize, 3), hash: fill(hashSize, 4),
				extra: fill(extra, 5), value: fill(size, 6),
			}
			key := appendLeafKey(nil, 7, 9)
			value := make([]byte, in.size())
			in.encode(key, value)
			p, err := unseal(key, value)
			if err != nil {
				t.Fatal(err)
			}
			out, err := parseLeafRow(key, p)
			if err != nil {
				t.Fatal(err)
			}
			if out.queued != in.queued || out.integrated != in.integrated || !bytes.Equal(out.identity, in.identity) ||
				!bytes.Equal(out.hash, in.hash) || !bytes.Equal(out.extra, in.extra) || !bytes.Equal(out.value, in.value) {
				t.Fatalf("extra %d, value %d: row came back changed", extra, size)
			}
		}
	}
}

// rows returns one row of each kind with its decoder.
func rows(t *testing.T) map[string]struct {
	key, value []byte
	parse      func(key, value []byte) error
} {
	type row = struct {
		key, value []byte
		parse      func(key, value []byte) error
	}
	leafKey, leaf := exampleRow()
	idKey := appendIdentityKey(nil, 7, fill(hashSize, 1))
	id := make([]byte, identityLen)
	identityRow{queued: true, at: 5}.encode(idKey, id)
	nodeKey := appendNodeKey(nil, 7, 4, 1)
	logRoot, err := (&types.LogRootV1{TreeSize: 6, RootHash: fill(hashSize, 1), TimestampNanos: 9}).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	h := head{logRoot: logRoot, edge: fill(2*hashSize, 8)}
	return map[string]row{
		"leaf": {leafKey, leaf, func(k, v []byte) error {
			p, err := unseal(k, v)
			if err == nil {
				_, err = parseLeafRow(k, p)
			}
			return err
		}},
		"identity": {idKey, id, func(k, v []byte) error { _, err := parseIdentityRow(k, v); return err }},
		"node":     {nodeKey, sealed(nodeKey, fill(hashSize, 2)), func(k, v []byte) error { _, err := parseNodeRow(k, v); return err }},
		"head":     {headKey(7), sealed(headKey(7), h.encode()), func(k, v []byte) error { _, err := parseHead(k, v); return err }},
		"tree":     {treeKey(7), sealed(treeKey(7), []byte{0x08, 7}), func(k, v []byte) error { _, err := parseTree(k, v); return err }},
	}
}

// TestDamagedRows flips each bit of each kind of row, cuts it, lengthens it and moves
// it to another key: every time an error that names the row.
func TestDamagedRows(t *testing.T) {
	for name, row := range rows(t) {
		if err := row.parse(row.key, row.value); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		bad := func(what string, key, value []byte) {
			t.Helper()
			if err := row.parse(key, value); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s: %s: error %v", name, what, err)
			}
		}
		for i := range 8 * len(row.value) {
			v := bytes.Clone(row.value)
			v[i/8] ^= 1 << (i % 8)
			bad("bit flipped", row.key, v)
		}
		for i := range row.value {
			bad("cut", row.key, row.value[:i])
		}
		bad("longer", row.key, append(bytes.Clone(row.value), 0))
		other := bytes.Clone(row.key)
		other[len(other)-1]++
		bad("moved", other, row.value)
	}
}

// TestWellSealedNonsense: rows whose checksum is right but whose content can't be.
func TestWellSealedNonsense(t *testing.T) {
	all := rows(t)
	payloads := map[string][][]byte{
		"leaf": {
			nil, fill(leafFixed, 0), append(fill(leafFixed, 0), 1), append(fill(leafFixed, 0), 0x80),
			append(fill(leafFixed, 0), 0x80, 0), append(fill(leafFixed, 0), fill(10, 0xff)...),
			append(fill(leafFixed, 0), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1),
		},
		"identity": {nil, fill(8, 0), fill(10, 0), append([]byte{2}, fill(8, 0)...)},
		"node":     {nil, fill(31, 0), fill(33, 0)},
		"head":     {nil, {0}, {0, 1}, {0, 0}, append([]byte{0, 29}, fill(29, 0)...), append([]byte{0, 29, 0, 1}, fill(27, 0xff)...)},
		"tree":     {nil, {0x08}, {0x08, 8}},
	}
	for name, list := range payloads {
		row := all[name]
		for _, p := range list {
			if err := row.parse(row.key, sealed(row.key, p)); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s %x: error %v", name, p, err)
			}
		}
		v := sealed(row.key, nil)
		v[0] = valueVersion + 1
		if err := row.parse(row.key, v); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s of another version: error %v", name, err)
		}
	}
}

// TestHeadEdge: an edge of the wrong length for the size isn't read as one of another.
func TestHeadEdge(t *testing.T) {
	logRoot, err := (&types.LogRootV1{TreeSize: 7, RootHash: fill(hashSize, 1)}).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	for n := range 5 {
		h := head{logRoot: logRoot, edge: fill(n*hashSize, 1)}
		_, err := parseHead(headKey(1), sealed(headKey(1), h.encode()))
		if ok := n == 0 || n == 3; ok != (err == nil) {
			t.Errorf("edge of %d hashes for size 7: error %v", n, err)
		}
	}
}

func TestKeyOrder(t *testing.T) {
	var last []byte
	for _, nanos := range []int64{-1 << 63, -5, -1, 0, 1, 1 << 40, 1<<63 - 1} {
		key := appendQueueKey(nil, 1, nanos, fill(hashSize, 0))
		if bytes.Compare(last, key) >= 0 {
			t.Errorf("key of %d sorts before the one of an earlier time", nanos)
		}
		last = key
	}
}
