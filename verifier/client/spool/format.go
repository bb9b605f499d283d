package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// A segment begins with its header and goes on with records, all numbers big endian:
//
//	header  "prooftrail.spool/1\n"  id[16]  crc32c[4] of the 35 bytes before
//	record  0xff "ptR"  length[4]  seq[8]  place[8]  group[8]  report[4]  crc32c[4]  payload
//
// The checksum of a record is over the spool's id, what stands between magic and
// checksum, and the payload. The first byte of the magic is in no UTF-8 text: what a record
// holds can't pass for another one.
const (
	segmentMagic = "prooftrail.spool/1\n"
	headerBytes  = len(segmentMagic) + idBytes + 4
	idBytes      = 16
	recordMagic  = "\xffptR"
	recordBytes  = 40 // of a record before its payload

	// MaxPayload is the most that a record holds, in bytes.
	MaxPayload = 512 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// id tells one spool's records from another's.
type id [idBytes]byte

// record is one record as it is stored.
type record struct {
	seq    uint64 // the source's number of the event
	place  uint64 // how many records the spool has taken, this one included
	group  uint64 // place of the first record that was written and synced together with it
	report uint32 // for a report of losses: how many the spool has made, this one included; else 0

	payload []byte
}

// appendHeader appends the beginning of a segment.
func appendHeader(dst []byte, of id) []byte {
	start := len(dst)
	dst = append(append(dst, segmentMagic...), of[:]...)
	return binary.BigEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// parseHeader reads the beginning of a segment.
func parseHeader(b []byte) (of id, err error) {
	if len(b) < headerBytes || !bytes.HasPrefix(b, []byte(segmentMagic)) {
		return of, errors.New("no segment header")
	}
	b = b[:headerBytes]
	end := headerBytes - 4
	if binary.BigEndian.Uint32(b[end:]) != crc32.Checksum(b[:end], castagnoli) {
		return of, errors.New("segment header: wrong checksum")
	}
	return id(b[len(segmentMagic):]), nil
}

// appendRecord appends a record.
func appendRecord(dst []byte, of id, r *record) []byte {
	start := len(dst)
	dst = append(dst, recordMagic...)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(r.payload)))
	dst = binary.BigEndian.AppendUint64(dst, r.seq)
	dst = binary.BigEndian.AppendUint64(dst, r.place)
	dst = binary.BigEndian.AppendUint64(dst, r.group)
	dst = binary.BigEndian.AppendUint32(dst, r.report)
	dst = binary.BigEndian.AppendUint32(dst, recordSum(of, dst[start:], r.payload))
	return append(dst, r.payload...)
}

func recordSum(of id, head, payload []byte) uint32 {
	sum := crc32.Update(crc32.Checksum(of[:], castagnoli), castagnoli, head[len(recordMagic):recordBytes-4])
	return crc32.Update(sum, castagnoli, payload)
}

// parseRecord reads the record at the beginning of b and says how long it is. Its payload
// aliases b.
func parseRecord(b []byte, of id) (r record, size int, err error) {
	if len(b) < recordBytes {
		return r, 0, fmt.Errorf("record: %d bytes are left, expected at least %d", len(b), recordBytes)
	}
	if !bytes.HasPrefix(b, []byte(recordMagic)) {
		return r, 0, errors.New("no record begins here")
	}
	length := binary.BigEndian.Uint32(b[4:])
	if length > MaxPayload || int(length) > len(b)-recordBytes {
		return r, 0, fmt.Errorf("record of %d bytes, and %d are left", length, len(b)-recordBytes)
	}
	size = recordBytes + int(length)
	r = record{
		seq: binary.BigEndian.Uint64(b[8:]), place: binary.BigEndian.Uint64(b[16:]), group: binary.BigEndian.Uint64(b[24:]),
		report: binary.BigEndian.Uint32(b[32:]), payload: b[recordBytes:size:size],
	}
	if binary.BigEndian.Uint32(b[36:]) != recordSum(of, b[:recordBytes], r.payload) {
		return record{}, 0, errors.New("record: wrong checksum")
	}
	return r, size, nil
}

// nextRecord finds the first record in b that holds, and where it begins; -1 if there is none.
func nextRecord(b []byte, of id) (r record, at, size int) {
	for at = 0; ; at++ {
		i := bytes.Index(b[at:], []byte(recordMagic))
		if i < 0 {
			return record{}, -1, 0
		}
		at += i
		if r, size, err := parseRecord(b[at:], of); err == nil {
			return r, at, size
		}
	}
}
