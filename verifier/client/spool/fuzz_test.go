package spool

import (
	"bytes"
	"testing"
)

// FuzzRecord: what is taken for a record is, byte for byte, what would be written for it.
func FuzzRecord(f *testing.F) {
	of := id{1, 2, 3}
	good := appendRecord(nil, of, &record{seq: 7, place: 5, group: 4, payload: []byte(`{"id":"a"}`)})
	report := appendRecord(nil, of, &record{seq: 1 << 40, place: 1, group: 1, report: 3})
	f.Add(good)
	f.Add(report)
	f.Add(good[:len(good)-1])
	f.Add(append(bytes.Clone(good), report...))
	f.Add(append([]byte("\xffptR\xffptR"), good...))
	f.Add(appendRecord(nil, id{}, &record{seq: 7}))
	f.Add([]byte("\xffptR\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, size, err := parseRecord(b, of); err == nil && !bytes.Equal(appendRecord(nil, of, &r), b[:size]) {
			t.Errorf("%+v is of %q", r, b[:size])
		}
		r, at, size := nextRecord(b, of)
		if at >= 0 && !bytes.Equal(appendRecord(nil, of, &r), b[at:at+size]) {
			t.Errorf("at %d: %+v", at, r)
		}
		if h, err := parseHeader(b); err == nil && !bytes.HasPrefix(b, appendHeader(nil, h)) {
			t.Errorf("header %x", h)
		}
	})
}

// FuzzCursor: likewise for slots; and a file has a cursor if one of its slots is good.
func FuzzCursor(f *testing.F) {
	c := cursor{version: 4, id: id{9}, acked: 12, ackedPlace: 10, next: 20, gone: 2, reports: 1, lost: Losses{First: 3, Last: 4, Full: 2}}
	b := cursorFile(&c)
	f.Add(b)
	c.version++
	copy(b[slotStride:], c.appendSlot(nil))
	f.Add(b)
	f.Add(b[:slotStride+slotBytes])
	f.Add(c.appendSlot(nil))
	c.acked = c.next
	f.Add(c.appendSlot(nil))
	f.Add([]byte(slotMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := parseSlot(b); err == nil && !bytes.Equal(c.appendSlot(nil), b[:slotBytes]) {
			t.Errorf("%+v", c)
		}
		_, first := parseSlot(b)
		second := first
		if len(b) >= slotStride {
			_, second = parseSlot(b[slotStride:])
		}
		if _, err := parseCursor(b); (err == nil) != (first == nil || second == nil) {
			t.Errorf("%v, of slots %v and %v", err, first, second)
		}
	})
}

// FuzzSegment opens whatever stands in a spool's last segment, and goes on: it never fails, never gives
// an event that doesn't hold, and numbers no two alike.
func FuzzSegment(f *testing.F) {
	of := id{1}
	head := appendHeader(nil, of)
	one := appendRecord(nil, of, &record{seq: 1, place: 1, group: 1, payload: []byte("event 1")})
	two := appendRecord(nil, of, &record{seq: 2, place: 2, group: 2, payload: []byte("event 2")})
	four := appendRecord(nil, of, &record{seq: 4, place: 4, group: 4, report: 1, payload: []byte("event 4")})
	f.Add(bytes.Join([][]byte{head, one, two, four}, nil))
	f.Add(bytes.Join([][]byte{head, one, two[1:], four}, nil))
	f.Add(bytes.Join([][]byte{head, two, one}, nil))
	f.Add(head[:10])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := restore(t, map[string][]byte{segmentName(1): b, "cursor": cursorFile(&cursor{id: of, next: 1})})
		s := testSpool(t, dir, nil, nil)
		defer s.Close()
		if _, err := put(t, s, false, 0); err != nil {
			return // places and seqs at the end of their range: there is no room for more
		}
		r := s.Reader()
		defer r.Close()
		var place uint64
		for {
			records, err := r.Next(10, 1000)
			if err != nil {
				t.Fatal(err)
			}
			if len(records) == 0 {
				break
			}
			for _, rec := range records {
				if rec.place <= place {
					t.Fatalf("place %d after %d", rec.place, place)
				}
				place = rec.place
			}
		}
	})
}
