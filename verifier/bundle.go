package verifier

import (
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	// MaxEntryBytes is the largest entry that a bundle can hold.
	MaxEntryBytes = 65535
	// MaxBundleBytes is the largest entry bundle.
	MaxBundleBytes = TileWidth * (2 + MaxEntryBytes)
	// MaxTileBytes is the size of a full tile.
	MaxTileBytes = TileWidth * 32
)

// AppendEntry appends an entry to a bundle: "Entry bundles are sequences of big-endian
// uint16 length-prefixed log entries" (c2sp.org/tlog-tiles). An entry of more than
// MaxEntryBytes is an error: it can't be served.
func AppendEntry(bundle, entry []byte) ([]byte, error) {
	if len(entry) > MaxEntryBytes {
		return bundle, fmt.Errorf("entry of %d bytes, at most %d", len(entry), MaxEntryBytes)
	}
	bundle = binary.BigEndian.AppendUint16(bundle, uint16(len(entry)))
	return append(bundle, entry...), nil
}

// ParseBundle splits a bundle into its entries, which alias b. It demands exactly width
// entries, 1..256, and nothing after them. With an error it returns the entries before the
// point where the bundle breaks.
func ParseBundle(b []byte, width int) ([][]byte, error) {
	entries := make([][]byte, 0, width)
	for len(entries) < width {
		if len(b) == 0 {
			return entries, fmt.Errorf("entry bundle holds %d entries, expected %d", len(entries), width)
		}
		if len(b) < 2 {
			return entries, errors.New("entry bundle is cut short")
		}
		n := int(binary.BigEndian.Uint16(b))
		if b = b[2:]; len(b) < n {
			return entries, errors.New("entry bundle is cut short")
		}
		entries = append(entries, b[:n:n])
		b = b[n:]
	}
	if len(b) > 0 {
		return entries, fmt.Errorf("entry bundle has %d bytes after its %d entries", len(b), width)
	}
	return entries, nil
}

// ParseTile splits a tile into its hashes. It demands exactly width hashes, 1..256.
func ParseTile(b []byte, width int) ([]Hash, error) {
	if len(b) != width*32 {
		return nil, fmt.Errorf("tile of %d bytes, expected %d hashes of 32", len(b), width)
	}
	hashes := make([]Hash, width)
	for i := range hashes {
		hashes[i] = Hash(b[i*32:])
	}
	return hashes, nil
}

// EncodeTile is the inverse of [ParseTile].
func EncodeTile(hashes []Hash) []byte {
	b := make([]byte, 0, len(hashes)*32)
	for _, h := range hashes {
		b = append(b, h[:]...)
	}
	return b
}
