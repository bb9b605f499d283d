package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
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
	if n < 8 {
		return nil, fmt.Errorf("damaged: the record of %q is too short", origin)
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
