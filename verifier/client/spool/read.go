package spool

import (
	"errors"
	"io"
	"io/fs"
	"os"
)

// Record is an event as it comes out of the spool, or what stands for events that are damaged.
type Record struct {
	Seq     uint64
	Payload []byte
	// Damaged is how many events can't be read any more; then there is no Payload, and Seq is that of
	// the last one that may be among them.
	Damaged uint64
	// Refused, set by the reader, has Ack count the event as lost: nobody takes it.
	Refused bool

	place uint64   // of it, or of the last one that is damaged
	first uint64   // if Damaged: the first seq that may be among them
	end   position // behind it
}

// Reader goes through the events in order. It is for one goroutine.
type Reader struct {
	s          *Spool
	seq, place uint64 // of the last record
	at         position
	file       *os.File // of the segment open
	open       uint64
}

// Reader begins at the first event that isn't acked.
func (s *Spool) Reader() *Reader {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &Reader{s: s, seq: s.cur.acked, place: s.cur.ackedPlace, at: s.ackedAt}
}

// Close closes what the reader has open.
func (r *Reader) Close() {
	if r.file != nil {
		_ = r.file.Close() // it was only read
		r.file = nil
	}
}

// More returns a channel that is closed when there is something to read, which it may be already.
func (r *Reader) More() <-chan struct{} {
	s := r.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last > r.place {
		now := make(chan struct{})
		close(now)
		return now
	}
	return s.committed
}

const (
	// chunk is about how much is read at a time.
	chunk = 512 << 10
	// slack is what is read beyond that, so that there is a whole record whatever its size.
	slack = recordBytes + MaxPayload
)

// Next returns the next events, together at most so many and so many bytes, but one at least; none if all
// were read. What can't be read is Damaged, not an error: the error is for what may go away.
func (r *Reader) Next(maxEvents, maxBytes int) ([]Record, error) {
	for {
		part, next, last := r.part()
		if r.at.offset >= part.size {
			if lost, ok := r.missing(next, 0); ok {
				return []Record{lost}, nil
			}
			if last {
				return nil, nil
			}
			r.at = position{next, int64(headerBytes)}
			continue
		}
		b, err := r.read(int(min(part.size-r.at.offset, int64(min(maxBytes, chunk))+slack)))
		if err != nil {
			return nil, err
		}
		if records := r.parse(b, maxEvents, maxBytes); len(records) > 0 {
			return records, nil
		}
		if b, err = r.read(int(part.size - r.at.offset)); err != nil { // all of it: it is damaged
			return nil, err
		}
		if lost, ok := r.resync(b); ok {
			return []Record{lost}, nil
		}
	}
}

// part returns the segment that the reader is in, the place that comes behind it, and whether that isn't
// there yet. All of it is of one moment: what is committed later is not missing.
func (r *Reader) part() (part segment, next uint64, last bool) {
	s := r.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, seg := range s.segments {
		if seg.first < r.at.segment {
			continue
		}
		if seg.first > r.at.segment { // the reader's went, or there never was one
			r.at = position{seg.first, int64(headerBytes)}
		}
		if i+1 < len(s.segments) {
			return seg, s.segments[i+1].first, false
		}
		return seg, s.last + 1, true
	}
	return segment{}, s.last + 1, true
}

// read reads so many bytes of the reader's segment. What the disk can't give is zero, and so no record.
func (r *Reader) read(n int) ([]byte, error) {
	if r.file == nil || r.open != r.at.segment {
		r.Close()
		f, err := os.Open(r.s.path(r.at.segment))
		if errors.Is(err, fs.ErrNotExist) {
			return make([]byte, n), nil
		}
		if err != nil {
			return nil, err
		}
		r.file, r.open = f, r.at.segment
	}
	b := make([]byte, n)
	if _, err := r.file.ReadAt(b, r.at.offset); err == nil || errors.Is(err, io.EOF) {
		return b, nil
	}
	const block = 4096
	for at := 0; at < n; at += block {
		part := b[at:min(at+block, n)]
		if _, err := r.file.ReadAt(part, r.at.offset+int64(at)); err != nil {
			clear(part)
		}
	}
	return b, nil
}

// parse takes records from b for as long as they are the next ones.
func (r *Reader) parse(b []byte, maxEvents, maxBytes int) (records []Record) {
	taken := 0
	for len(b) > 0 && len(records) < maxEvents {
		rec, size, err := parseRecord(b, r.s.cur.id)
		if err != nil || len(records) > 0 && taken+len(rec.payload)+1 > maxBytes {
			break
		}
		if rec.place > r.place {
			if lost, ok := r.missing(rec.place, rec.seq); ok {
				return append(records, lost)
			}
		}
		b = b[size:]
		r.at.offset += int64(size)
		if rec.place <= r.place { // it was acked before
			continue
		}
		taken += len(rec.payload) + 1
		r.seq, r.place = rec.seq, rec.place
		records = append(records, Record{Seq: rec.seq, Payload: rec.payload, place: rec.place, end: r.at})
	}
	return records
}

// missing stands for what is lost before the record that comes next, whose place and seq are given; a seq of 0 isn't
// known.
func (r *Reader) missing(place, seq uint64) (Record, bool) {
	if place <= r.place+1 {
		return Record{}, false
	}
	n := place - r.place - 1
	lost := Record{Seq: max(seq, r.seq+n+1) - 1, Damaged: n, place: place - 1, first: r.seq + 1, end: r.at}
	r.seq, r.place = lost.Seq, lost.place
	return lost, true
}

// resync goes behind what is damaged at the beginning of b, which is all that is left of a segment. If
// nothing of it holds, all of the segment's rest is lost.
func (r *Reader) resync(b []byte) (Record, bool) {
	rec, at, _ := nextRecord(b[1:], r.s.cur.id)
	if at < 0 {
		r.at.offset += int64(len(b))
		return Record{}, false
	}
	r.at.offset += int64(at + 1)
	return r.missing(rec.place, rec.seq)
}

// Ack says that these events, the next ones in order, are delivered, or given up where they are
// Damaged or Refused, which is counted as lost. They aren't read again, unless the error says that this
// couldn't be written down.
func (s *Spool) Ack(records ...Record) error {
	if len(records) == 0 {
		return nil
	}
	var lost Losses
	for _, r := range records {
		switch {
		case r.Damaged > 0:
			lost.add(Losses{First: r.first, Last: r.Seq, Damaged: r.Damaged})
		case r.Refused:
			lost.add(Losses{First: r.Seq, Last: r.Seq, Refused: 1})
		}
	}
	if lost.Count() > 0 {
		s.committing.Lock()
		defer s.committing.Unlock()
	}
	last := records[len(records)-1]
	moved := false
	err := s.update(func() {
		if last.place <= s.cur.ackedPlace {
			return
		}
		moved = last.end.segment > s.ackedAt.segment
		s.cur.acked, s.cur.ackedPlace, s.ackedAt = last.Seq, last.place, last.end
		s.cur.lost.add(lost)
		s.cur.gone += lost.Count()
		if s.cur.lost.Count() > 0 && !s.reportDue { // perhaps there is room for a report now
			s.reportDue = true
			s.wake.Signal()
		}
	})
	if moved {
		s.sweep()
	}
	return err
}
