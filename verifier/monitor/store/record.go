package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"os"
	"runtime/debug"

	"github.com/prooftrail/prooftrail/verifier/monitor/witness"
)

// encode returns time ‖ note ‖ checksum, the time in 8 bytes, big endian.
func encode(origin string, r *witness.Record) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(r.Time))
	b = append(b, r.Note...)
	sum := checksum(origin, b)
	return append(b, sum[:]...)
}

// decode copies a record out of a transaction, after it has checked it.
func decode(origin string, value []byte) (*witness.Record, error) {
	n := len(value) - sha256.Size
	if n < 8 || len(value) > maxValue {
		return nil, fmt.Errorf("damaged: the record of %q has %d bytes", origin, len(value))
	}
	if sum := checksum(origin, value[:n]); !bytes.Equal(sum[:], value[n:]) {
		return nil, fmt.Errorf("damaged: the record of %q has another checksum", origin)
	}
	return &witness.Record{Time: int64(binary.BigEndian.Uint64(value)), Note: bytes.Clone(value[8:n])}, nil
}

// checksum is SHA-256(bucket ‖ length of the origin ‖ origin ‖ data).
func checksum(origin string, data []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write(bucket)
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(origin))))
	h.Write([]byte(origin))
	h.Write(data)
	return [sha256.Size]byte(h.Sum(nil))
}

// checkMetas demands that both of bbolt's meta pages are whole. With one of them damaged bbolt
// goes on from the other, which is that of the transaction before: a head would be forgotten
// for which a cosignature was answered. A crash while a meta page is written could damage
// it too, but it is smaller than a sector of any disk.
func checkMetas(path string, pageSize int) error {
	const header, size, sumAt = 16, 64, 56 // of a page; of a meta; of the FNV-64a in it
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for i := range int64(2) {
		meta := make([]byte, size)
		if _, err := f.ReadAt(meta, i*int64(pageSize)+header); err != nil {
			return fmt.Errorf("damaged: meta page %d: %w", i, err)
		}
		h := fnv.New64a()
		h.Write(meta[:sumAt])
		if h.Sum64() != binary.NativeEndian.Uint64(meta[sumAt:]) {
			return fmt.Errorf("damaged: meta page %d: it isn't known which head was the last", i)
		}
	}
	return nil
}

// guard turns what bbolt does on a damaged file into an error: it panics on pages that make
// no sense, and faults on pages that a file cut short doesn't have.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("damaged: %v", v)
		}
	}()
	return f()
}
