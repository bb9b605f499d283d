package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/prooftrail/prooftrail/verifier/internal/atomicfile"
)

// maxSegment bounds what SegmentBytes may say.
const maxSegment = 64 << 20

func (s *Spool) cursorPath() string { return filepath.Join(s.cfg.Dir, "cursor") }

// recover finds out what the spool holds.
func (s *Spool) recover() error {
	if err := atomicfile.Sweep(s.cursorPath()); err != nil {
		return err
	}
	names, err := s.names()
	if err != nil {
		return err
	}
	if err := s.loadCursor(names); err != nil {
		return err
	}
	s.last, s.lastSeq, s.keptSeq = s.cur.ackedPlace, s.cur.next-1, s.cur.acked
	s.ackedAt = position{}
	for i, first := range names {
		if err := s.recoverSegment(first, i == len(names)-1); err != nil {
			return err
		}
	}
	if cap(s.buf) > slack { // groups are smaller
		s.buf = nil
	}
	if s.ackedAt == (position{}) && len(s.segments) > 0 {
		s.ackedAt = position{s.segments[0].first, int64(headerBytes)}
	}
	s.reportDue = s.cur.lost.Count() > 0
	if s.cursor, err = os.OpenFile(s.cursorPath(), os.O_RDWR, 0); err != nil {
		return err
	}
	s.sweep()
	return nil
}

// names returns the first places of the segments that are there, in order.
func (s *Spool) names() (firsts []uint64, err error) {
	all, err := os.ReadDir(s.cfg.Dir)
	if err != nil {
		return nil, err
	}
	for _, e := range all {
		digits, ok := strings.CutSuffix(e.Name(), ".seg")
		first, err := strconv.ParseUint(digits, 10, 64)
		if ok && err == nil && segmentName(first) == e.Name() && e.Type().IsRegular() {
			firsts = append(firsts, first)
		}
	}
	slices.Sort(firsts)
	return firsts, nil
}

// loadCursor reads the cursor. A spool has one from its first moment on.
func (s *Spool) loadCursor(segments []uint64) error {
	b, err := os.ReadFile(s.cursorPath())
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.EIO) {
		return err // that says nothing about what is in it
	}
	if err == nil {
		s.cur, err = parseCursor(b)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist) && len(segments) == 0:
		s.cfg.Logger.Info("a new spool", "dir", s.cfg.Dir)
		s.cur = cursor{id: newID(), next: 1}
	case len(segments) == 0:
		// Beginning at 1 again would give seqs twice.
		return fmt.Errorf("cursor: %w; which seq comes next is known to nobody", err)
	default:
		if err := s.remakeCursor(segments[0], err); err != nil {
			return err
		}
	}
	return atomicfile.Write(s.cursorPath(), cursorFile(&s.cur))
}

// remakeCursor makes a cursor of what segments say: what they hold is delivered again, and the log
// says that it has it.
func (s *Spool) remakeCursor(first uint64, why error) error {
	b, err := os.ReadFile(s.path(first))
	if err != nil {
		return err
	}
	of, err := parseHeader(b)
	if err != nil {
		return fmt.Errorf("cursor: %w; and %s: %w", why, segmentName(first), err)
	}
	s.cur = cursor{id: of, next: first, acked: first - 1, ackedPlace: first - 1}
	if r, at, _ := nextRecord(b, of); at >= 0 && r.seq > r.place {
		lost := r.seq - r.place // seqs that were lost before: at least so many came before the record
		s.cur.acked, s.cur.next = first-1+lost, first+lost
	}
	s.cfg.Logger.Error("the spool's cursor was lost: all that is there is delivered again",
		"dir", s.cfg.Dir, "error", why, "segment", segmentName(first))
	return nil
}

// recoverSegment looks at a segment: at its records for what the cursor may not know, and at its end for
// a group that was torn.
func (s *Spool) recoverSegment(first uint64, last bool) error {
	b, err := s.readSegment(first)
	if err != nil {
		return err
	}
	of, err := parseHeader(b)
	headed := err == nil && of == s.cur.id // another spool's segment isn't one of ours that was torn
	w := walk{s: s, segment: first, b: b, at: min(headerBytes, len(b))}
	w.all(last)
	if last && !headed && w.records == 0 {
		return s.dropSegment(first, b)
	}
	s.segments = append(s.segments, segment{first, int64(max(w.at, headerBytes))})
	if w.damaged > 0 {
		s.cfg.Logger.Error("the spool is damaged", "dir", s.cfg.Dir, "segment", segmentName(first), "places", w.damaged)
	}
	if !last || !headed {
		return nil
	}
	if s.active, err = os.OpenFile(s.path(first), os.O_RDWR, 0); err != nil {
		return err
	}
	if w.at < len(b) && !w.reserved() {
		s.cfg.Logger.Warn("what was being written to the spool when it ended is cut off", "dir", s.cfg.Dir, "bytes", len(b)-w.at)
		return errors.Join(s.active.Truncate(int64(w.at)), s.active.Sync())
	}
	return nil
}

// readSegment reads a segment into the buffer that groups are written from later.
func (s *Spool) readSegment(first uint64) (b []byte, err error) {
	f, err := os.Open(s.path(first))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	s.buf = slices.Grow(s.buf[:0], int(info.Size()))[:info.Size()]
	_, err = io.ReadFull(f, s.buf)
	return s.buf, err
}

// dropSegment takes away a last segment of which nothing holds. As a rule it was just being made; else it is kept
// under another name, for how many events were in it is known to nobody.
func (s *Spool) dropSegment(first uint64, b []byte) error {
	if len(bytes.TrimRight(b[min(len(b), headerBytes):], "\x00")) == 0 {
		return os.Remove(s.path(first))
	}
	s.cfg.Logger.Error("nothing of the spool's last segment can be read: it is kept aside, and what was in it is lost",
		"dir", s.cfg.Dir, "segment", segmentName(first), "bytes", len(b))
	return os.Rename(s.path(first), s.path(first)+".damaged")
}

// walk goes through the bytes of a segment.
type walk struct {
	s       *Spool
	segment uint64
	b       []byte
	at      int

	records, damaged int
}

// all goes to the end of the segment, or of the last one, to where what was torn begins.
func (w *walk) all(last bool) {
	for w.at < len(w.b) {
		r, size, err := parseRecord(w.b[w.at:], w.s.cur.id)
		if err == nil {
			w.take(&r, size)
			continue
		}
		if w.reserved() {
			return
		}
		_, skip, _ := nextRecord(w.b[w.at+1:], w.s.cur.id)
		if last && (skip < 0 || w.torn(w.at+1+skip)) {
			return
		}
		w.damaged++
		if skip < 0 {
			w.at = len(w.b)
			return
		}
		w.at += 1 + skip
	}
}

// reserved reports whether only zeros follow, over which nothing was written yet.
func (w *walk) reserved() bool {
	rest := w.b[w.at:]
	for len(rest) > 0 {
		n := min(len(rest), 4096) // a page of them stays in the cache
		if !bytes.Equal(rest[:n], zeros[:n]) {
			return false
		}
		rest = rest[n:]
	}
	return true
}

func (w *walk) take(r *record, size int) {
	s := w.s
	w.at += size
	w.records++
	s.last, s.lastSeq, s.keptSeq = max(s.last, r.place), max(s.lastSeq, r.seq), max(s.keptSeq, r.seq)
	if uint64(r.report) > s.cur.reports { // it was written, and the cursor wasn't
		s.cur.reports, s.cur.lost = uint64(r.report), Losses{}
	}
	if r.place <= s.cur.ackedPlace {
		s.ackedAt = position{w.segment, int64(w.at)}
	}
}

// torn reports whether all records from at on belong to the group that begins before what doesn't hold:
// a machine that stops may have written any part of a group. No event of it was promised.
func (w *walk) torn(at int) bool {
	for at < len(w.b) {
		r, skip, size := nextRecord(w.b[at:], w.s.cur.id)
		if skip < 0 {
			break
		}
		if r.group > w.s.last+1 {
			return false
		}
		at += skip + size
	}
	return true
}
