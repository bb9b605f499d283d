package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
)

// The cursor file is two slots, written in turn and in place, so that a full disk can't keep
// what was lost from being counted. The newest slot that holds counts; a write that was torn
// leaves the one before.
const (
	slotMagic  = "ptSpool1"
	slotStride = 4096 // from one slot to the other: no write touches both
	slotBytes  = len(slotMagic) + 8 + idBytes + 8*11 + 4
)

// Losses are events that won't be in the log: no longer in the spool, or never there. Every one of
// them had a seq, so each is a gap.
type Losses struct {
	First, Last uint64 // seqs of the first and of the last one; what is between isn't all lost
	Full        uint64 // not taken: the spool had no room
	Disk        uint64 // not taken: they couldn't be written
	Damaged     uint64 // couldn't be read any more
	Refused     uint64 // the log refused them for good
}

// Count is how many there are.
func (l Losses) Count() uint64 { return l.Full + l.Disk + l.Damaged + l.Refused }

// add adds what was lost besides.
func (l *Losses) add(more Losses) {
	if more.Count() == 0 {
		return
	}
	if l.Count() == 0 {
		l.First = math.MaxUint64
	}
	*l = Losses{
		First: min(l.First, more.First), Last: max(l.Last, more.Last),
		Full: l.Full + more.Full, Disk: l.Disk + more.Disk, Damaged: l.Damaged + more.Damaged, Refused: l.Refused + more.Refused,
	}
}

// cursor is what the spool remembers beside its records.
type cursor struct {
	version uint64 // counts the writes
	id      id

	// acked and ackedPlace are the seq and the place up to which nothing is needed any more.
	acked, ackedPlace uint64
	next              uint64 // the seq after all that were used; records may be farther
	gone              uint64 // records that were taken and then lost: Damaged and Refused
	reports           uint64 // reports of losses that were made
	lost              Losses // since the last report
}

// appendSlot appends a slot of the cursor file.
func (c *cursor) appendSlot(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, slotMagic...)
	dst = binary.BigEndian.AppendUint64(dst, c.version)
	dst = append(dst, c.id[:]...)
	for _, n := range c.numbers() {
		dst = binary.BigEndian.AppendUint64(dst, *n)
	}
	return binary.BigEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

func (c *cursor) numbers() [11]*uint64 {
	return [...]*uint64{&c.acked, &c.ackedPlace, &c.next, &c.gone, &c.reports,
		&c.lost.First, &c.lost.Last, &c.lost.Full, &c.lost.Disk, &c.lost.Damaged, &c.lost.Refused}
}

// parseSlot reads one slot.
func parseSlot(b []byte) (c cursor, err error) {
	if len(b) < slotBytes || string(b[:len(slotMagic)]) != slotMagic {
		return c, errors.New("no slot")
	}
	b = b[:slotBytes]
	end := slotBytes - 4
	if binary.BigEndian.Uint32(b[end:]) != crc32.Checksum(b[:end], castagnoli) {
		return c, errors.New("wrong checksum")
	}
	b = b[len(slotMagic):]
	c.version = binary.BigEndian.Uint64(b)
	b = b[8:]
	c.id = id(b)
	b = b[idBytes:]
	for i, n := range c.numbers() {
		*n = binary.BigEndian.Uint64(b[8*i:])
	}
	if c.acked >= c.next || c.ackedPlace > c.acked || c.gone > c.ackedPlace || c.reports > math.MaxUint32 {
		return cursor{}, errors.New("its numbers contradict each other")
	}
	return c, nil
}

// parseCursor reads the cursor file: the newer of its two slots that hold.
func parseCursor(b []byte) (cursor, error) {
	first, err := parseSlot(b)
	if len(b) < slotStride {
		return first, err
	}
	second, secondErr := parseSlot(b[slotStride:])
	if err != nil && secondErr != nil {
		return cursor{}, fmt.Errorf("neither slot holds: %w; %w", err, secondErr)
	}
	if err != nil || secondErr == nil && second.version > first.version {
		first = second
	}
	return first, nil
}

// cursorFile is a whole new cursor file, with the slot of the cursor's version.
func cursorFile(c *cursor) []byte {
	b := make([]byte, 2*slotStride)
	copy(b[slotOffset(c.version):], c.appendSlot(nil))
	return b
}

func slotOffset(version uint64) int64 { return int64(version%2) * slotStride }
