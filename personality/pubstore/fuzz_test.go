package pubstore_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/prooftrail/prooftrail/personality/pubstore"
)

// FuzzPebbleRows puts any value under the key of each kind of row: reading it is ErrCorrupt, or
// gives what the value says.
func FuzzPebbleRows(f *testing.F) {
	db := openPebble(f, vfs.NewMem())
	f.Cleanup(func() { _ = db.Close() })
	s := pubstore.NewPebble(db)
	log, err := json.Marshal(pubstore.Log{Origin: "o", Name: "audit", VKey: "v", TreeID: 1, IDSecret: make([]byte, 32)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint8(0), append([]byte{2}, make([]byte, 72)...))
	f.Add(uint8(0), append([]byte{3}, make([]byte, 73)...))
	f.Add(uint8(1), log)
	f.Add(uint8(2), make([]byte, 64))
	f.Add(uint8(3), make([]byte, 8))
	f.Add(uint8(4), []byte(`{"id":"x","secret_sha256":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}`))
	f.Add(uint8(5), make([]byte, 128))
	f.Add(uint8(6), append([]byte{0, 0, 0, 111}, `{"id":"x","tenant":"t","adapter":"a","raw_sha256":"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=","raw_bytes":0}`...))
	f.Add(uint8(7), []byte(`{"id":"x","tenant":"t","source":"s","vkey":"v"}`))
	kinds := storedRows()
	f.Fuzz(func(t *testing.T, kind uint8, value []byte) {
		row := kinds[int(kind)%len(kinds)]
		if err := db.Set(row.key, value, pebble.NoSync); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := db.Delete(row.key, pebble.NoSync); err != nil {
				t.Fatal(err)
			}
		}()
		ok, err := row.read(t, s, value)
		if err != nil && !errors.Is(err, pubstore.ErrCorrupt) {
			t.Errorf("%q: %x: error %v", row.key, value, err)
		}
		if err == nil && !ok {
			t.Errorf("%q: %x was read as something else", row.key, value)
		}
	})
}

// storedRow reads the row at its key and tells whether what came is what the value says.
type storedRow struct {
	key  []byte
	read func(t *testing.T, s *pubstore.Pebble, value []byte) (ok bool, err error)
}

func storedRows() []storedRow {
	return []storedRow{
		{[]byte("ph"), func(t *testing.T, s *pubstore.Pebble, value []byte) (bool, error) {
			h, err := s.Head(t.Context())
			version := byte(2)
			if h.Hold != "" {
				version = 3
			}
			return bytes.Equal(slices.Concat(binary.BigEndian.AppendUint64([]byte{version}, h.Size), h.Root[:], h.MAC[:], []byte(h.Hold)), value), err
		}},
		{[]byte("pl"), func(t *testing.T, s *pubstore.Pebble, _ []byte) (bool, error) {
			l, err := s.Log(t.Context())
			return l.Origin != "" && l.Name != "" && l.VKey != "" && l.TreeID != 0 && len(l.IDSecret) == 32, err
		}},
		{append([]byte("pt"), make([]byte, 9)...), func(t *testing.T, s *pubstore.Pebble, value []byte) (bool, error) {
			b, err := s.Tile(t.Context(), 0, 0)
			return bytes.Equal(b, value) && len(b) >= 32 && len(b)%32 == 0, err
		}},
		{append([]byte("pi"), make([]byte, 32)...), func(t *testing.T, s *pubstore.Pebble, value []byte) (bool, error) {
			found, err := s.Indexes(t.Context(), make([][32]byte, 1))
			index, ok := found[[32]byte{}]
			return ok && bytes.Equal(binary.BigEndian.AppendUint64(nil, index), value), err
		}},
		{[]byte("pkx"), func(t *testing.T, s *pubstore.Pebble, _ []byte) (bool, error) {
			tokens, err := s.Tokens(t.Context())
			return len(tokens) == 1 && tokens[0].ID == "x" && len(tokens[0].SecretHash) == 32, err
		}},
		{[]byte("pqx"), func(t *testing.T, s *pubstore.Pebble, value []byte) (bool, error) {
			q, err := s.Quarantined(t.Context(), "x")
			list, listErr := s.ListQuarantined(t.Context(), "", "", 10)
			if err == nil && listErr == nil && len(list) != 1 {
				t.Errorf("%d items in the list", len(list))
			}
			return q.ID == "x" && q.Tenant != "" && int64(len(q.Raw)) == q.RawBytes && bytes.HasSuffix(value, q.Raw), errors.Join(err, listErr)
		}},
		{append([]byte("ps"), make([]byte, 40)...), func(t *testing.T, s *pubstore.Pebble, value []byte) (bool, error) {
			marks, err := s.Marks(t.Context(), 0)
			if err != nil || len(value) == 0 {
				return len(marks) == 0, err // one without leaves has none at 0
			}
			var leaves []byte
			for _, l := range marks[0].Leaves {
				leaves = append(append(leaves, l.Hash[:]...), l.Identity[:]...)
			}
			return len(marks) == 1 && marks[0].First == 0 && bytes.Equal(leaves, value), err
		}},
		{[]byte("pvx"), func(t *testing.T, s *pubstore.Pebble, _ []byte) (bool, error) {
			keys, err := s.SourceKeys(t.Context())
			return len(keys) == 1 && keys[0].ID == "x" && keys[0].Tenant != "" && keys[0].Source != "" && keys[0].VKey != "", err
		}},
	}
}
