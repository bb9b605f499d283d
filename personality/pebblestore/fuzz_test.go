package pebblestore

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/trillian"
	"github.com/google/trillian/types"
	"google.golang.org/protobuf/proto"
)

// FuzzRows: a row of any kind with a right checksum is refused as corrupt, or is what would be
// written again. Checksums are made here, for the fuzzer would not get past them.
func FuzzRows(f *testing.F) {
	_, leaf := exampleRow()
	f.Add(uint8(0), leaf[1:len(leaf)-4])
	f.Add(uint8(0), append(fill(leafFixed, 0), 0x80, 0))
	f.Add(uint8(1), append([]byte{identityInQueue}, fill(8, 5)...))
	f.Add(uint8(2), fill(hashSize, 2))
	f.Add(uint8(3), fill(64, 0))
	f.Add(uint8(4), []byte{0x08, 7})
	logRoot, err := (&types.LogRootV1{TreeSize: 6, RootHash: fill(hashSize, 1), TimestampNanos: 9}).MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint8(3), (&head{logRoot: logRoot, edge: fill(2*hashSize, 8)}).encode())
	f.Fuzz(func(t *testing.T, kind uint8, payload []byte) {
		key := appendLeafKey(nil, 7, 7)
		value := sealed(key, payload)
		again, err := rewritten(kind%5, key, value)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("%x: error %v", payload, err)
			}
			return
		}
		if !bytes.Equal(again, value) {
			t.Errorf("%x was read, and is written as %x", value, again)
		}
	})
}

// rewritten reads a value and writes it anew.
func rewritten(kind uint8, key, value []byte) ([]byte, error) {
	payload, err := unseal(key, value)
	if err != nil {
		return nil, err
	}
	switch kind {
	case 0:
		r, err := parseLeafRow(key, payload)
		if err != nil {
			return nil, err
		}
		again := make([]byte, r.size())
		r.encode(key, again)
		return again, nil
	case 1:
		r, err := parseIdentityRow(key, value)
		if err != nil {
			return nil, err
		}
		again := make([]byte, identityLen)
		r.encode(key, again)
		return again, nil
	case 2:
		p, err := parseNodeRow(key, value)
		return sealed(key, p), err
	case 3:
		h, err := parseHead(key, value)
		if err != nil {
			return nil, err
		}
		return sealed(key, h.encode()), nil
	}
	tree, err := parseTree(key, value)
	if err != nil {
		return nil, err
	}
	// Protobuf has many spellings of a message; the first one written is kept.
	p, err := proto.MarshalOptions{Deterministic: true}.Marshal(tree)
	if err != nil {
		return nil, err
	}
	twice, err := parseTree(key, sealed(key, p))
	if err != nil || !proto.Equal(tree, twice) {
		return nil, errors.Join(errors.New("the tree doesn't come back"), err)
	}
	return value, nil
}

// FuzzUnseal: no value but the one that was sealed passes for a row, under no other key.
func FuzzUnseal(f *testing.F) {
	key, value := exampleRow()
	f.Add(key, value)
	f.Add([]byte{}, []byte{1, 0, 0, 0, 0})
	f.Add([]byte("k"), sealed([]byte("k"), nil))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		p, err := unseal(key, value)
		if err != nil {
			var c *corruptError
			if !errors.As(err, &c) || !bytes.Equal(c.key, key) {
				t.Errorf("%x: error %v doesn't name its row", key, err)
			}
			return
		}
		if !bytes.Equal(sealed(key, p), value) {
			t.Errorf("%x: %x is no value that is written", key, value)
		}
	})
}

// FuzzHead holds what is read of a log root against Trillian's own decoder.
func FuzzHead(f *testing.F) {
	for _, r := range []types.LogRootV1{{}, {TreeSize: 6, RootHash: fill(hashSize, 1), TimestampNanos: 9, Metadata: []byte("x")}, {TreeSize: 1<<63 + 1}} {
		b, err := r.MarshalBinary()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, logRoot []byte) {
		h, err := newHead(logRoot)
		var want types.LogRootV1
		wantErr := want.UnmarshalBinary(logRoot)
		if err == nil && (wantErr != nil || h.size != want.TreeSize || h.timestamp != want.TimestampNanos) {
			t.Errorf("%x: %+v, Trillian: %+v, %v", logRoot, h, want, wantErr)
		}
		if again, err := want.MarshalBinary(); err != nil || !bytes.Equal(again, logRoot) {
			return // Trillian passes over what is behind a root
		}
		version := []byte{0, byte(trillian.LogRootFormat_LOG_ROOT_FORMAT_V1)}
		if err != nil && wantErr == nil && want.TreeSize <= maxTreeSize && bytes.HasPrefix(logRoot, version) && len(logRoot) <= 0xffff {
			t.Errorf("%x: %v, Trillian takes it", logRoot, err)
		}
	})
}
