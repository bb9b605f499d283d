package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/monitor"
)

// counts are [monitor.Counts] as they are stored.
type counts struct{ monitor.Counts }

func (c *counts) of(s monitor.Standing) *uint64 {
	switch s {
	case monitor.Open:
		return &c.Counts.Open
	case monitor.Agreed:
		return &c.Counts.Agreed
	case monitor.Forked:
		return &c.Counts.Forked
	}
	return nil
}

func getCounts(log *bbolt.Bucket) (*counts, error) {
	v := log.Get(countsKey)
	if v == nil {
		return new(counts), nil
	}
	if len(v) != countsLen {
		return nil, fmt.Errorf("damaged: counts of %d bytes", len(v))
	}
	n := func(i int) uint64 { return binary.BigEndian.Uint64(v[8*i:]) }
	return &counts{monitor.Counts{Open: n(0), Agreed: n(1), Forked: n(2), Dropped: n(3)}}, nil
}

func (c *counts) put(log *bbolt.Bucket) error {
	v := make([]byte, 0, countsLen)
	for _, n := range []uint64{c.Counts.Open, c.Counts.Agreed, c.Counts.Forked, c.Dropped} {
		v = binary.BigEndian.AppendUint64(v, n)
	}
	return log.Put(countsKey, v)
}

func headKey(c verifier.Checkpoint) []byte {
	return append(binary.BigEndian.AppendUint64(make([]byte, 0, headKeyLen), c.Size), c.Root[:]...)
}

func encodeHead(h monitor.Head) []byte {
	from := h.From[:min(len(h.From), 255)]
	v := make([]byte, 0, 10+len(from)+len(h.Note))
	v = append(v, byte(h.Standing))
	v = binary.BigEndian.AppendUint64(v, uint64(h.Seen.UnixNano()))
	v = append(v, byte(len(from)))
	v = append(v, from...)
	return append(v, h.Note...)
}

// getHead reads and copies a head.
func getHead(heads *bbolt.Bucket, key []byte, origin string) (h monitor.Head, found bool, err error) {
	v := heads.Get(key)
	if v == nil {
		return h, false, nil
	}
	if len(key) != headKeyLen || len(v) < 10 || len(v) < 10+int(v[9])+1 {
		return h, false, fmt.Errorf("damaged: a head of %q", origin)
	}
	from := 10 + int(v[9])
	return monitor.Head{
		Checkpoint: verifier.Checkpoint{Origin: origin, Size: binary.BigEndian.Uint64(key), Root: verifier.Hash(key[8:])},
		Note:       bytes.Clone(v[from:]),
		Seen:       time.Unix(0, int64(binary.BigEndian.Uint64(v[1:]))).UTC(),
		From:       string(v[10:from]),
		Standing:   monitor.Standing(v[0]),
	}, true, nil
}
