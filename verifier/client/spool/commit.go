package spool

import (
	"errors"
	"fmt"
	"os"

	"github.com/prooftrail/prooftrail/verifier/internal/atomicfile"
)

// commitAll writes one group after the other: whatever is waiting when the one before is on
// stable storage. It ends when the spool is closed and nothing waits.
func (s *Spool) commitAll() {
	defer close(s.done)
	for {
		s.mu.Lock()
		for len(s.waiting) == 0 && s.overflow == 0 && !s.reportDue && !s.closed {
			s.wake.Wait()
		}
		g := group{s: s, entries: s.waiting, overflow: s.overflow}
		if s.closed && len(g.entries) == 0 && g.overflow == 0 {
			s.mu.Unlock()
			return
		}
		s.waiting, s.waitingBytes, s.overflow, s.reportDue = nil, 0, 0, false
		s.mu.Unlock()
		g.commit()
	}
}

// group is what is written and synced at once.
type group struct {
	s        *Spool
	entries  []*entry
	overflow uint64

	kept []*entry // those in buf
	// As things will be when it is on stable storage.
	seq, place uint64
	keptSeq    uint64 // of the last record in buf
	report     bool
	lost       Losses
}

func (g *group) commit() {
	s := g.s
	s.committing.Lock()
	defer s.committing.Unlock()
	g.fill()
	err := g.write()
	if err != nil && !s.failing { // else it would be said for each event
		s.cfg.Logger.Error("the spool can't be written", "dir", s.cfg.Dir, "error", err)
	}
	if err == nil && s.failing && len(g.kept) > 0 {
		s.cfg.Logger.Info("the spool can be written again", "dir", s.cfg.Dir)
	}
	if err != nil {
		g.fail(fmt.Errorf("%w: %w", ErrDisk, err))
	}
	s.failing = err != nil || s.failing && len(g.kept) == 0
	for range g.overflow {
		g.lose(Losses{Disk: 1})
	}
	g.finish()
	for _, e := range g.entries {
		close(e.done)
	}
}

// fill decides which events there is room for, numbers them, and writes them down in the buffer.
func (g *group) fill() {
	s := g.s
	s.mu.Lock()
	g.seq, g.place = s.lastSeq, s.last
	gone, acked, lost, bytes, reports := s.cur.gone, s.cur.ackedPlace, s.cur.lost, s.bytes(), s.cur.reports
	s.mu.Unlock()
	if acked == g.place {
		bytes = 0 // what is there goes with the next segment
	}
	s.buf = s.buf[:0]
	first := g.place + 1
	add := func(report uint32, build func(Stamp) ([]byte, error)) (Stamp, error) {
		stamp := Stamp{Seq: g.seq + 1, Count: g.place - gone}
		payload, err := build(stamp)
		if err == nil && len(payload) > MaxPayload {
			err = fmt.Errorf("spool: an event of %d bytes, at most %d", len(payload), MaxPayload)
		}
		if err != nil {
			return stamp, err
		}
		g.seq, g.place, g.keptSeq = g.seq+1, g.place+1, g.seq+1
		s.buf = appendRecord(s.buf, s.cur.id, &record{seq: g.seq, place: g.place, group: first, report: report, payload: payload})
		return stamp, nil
	}
	used := g.place - acked
	if lost.Count() > 0 && used <= s.cfg.MaxEvents-s.cfg.MaxEvents/8 && bytes <= s.cfg.MaxBytes-s.cfg.MaxBytes/8 {
		_, err := add(uint32(reports+1), func(st Stamp) ([]byte, error) { return s.cfg.Report(st, lost) })
		if g.report = err == nil; !g.report {
			s.cfg.Logger.Error("losses of the spool can't be reported", "error", err)
		}
	}
	for _, e := range g.entries {
		if g.place-acked >= s.cfg.MaxEvents || bytes+int64(len(s.buf)+recordBytes+e.size) > s.cfg.MaxBytes {
			if e.err = ErrFull; !e.must {
				g.lose(Losses{Full: 1})
			}
			continue
		}
		if e.stamp, e.err = add(0, e.build); e.err == nil {
			g.kept = append(g.kept, e)
		}
	}
}

// lose gives a seq to an event that wasn't taken.
func (g *group) lose(one Losses) {
	g.seq++
	one.First, one.Last = g.seq, g.seq
	g.lost.add(one)
}

// fail is for when nothing of the group could be written: its seqs are given anew.
func (g *group) fail(err error) {
	s := g.s
	s.mu.Lock()
	g.seq, g.place, g.report = s.lastSeq, s.last, false
	s.mu.Unlock()
	full := g.lost.Full
	g.lost = Losses{}
	for range full {
		g.lose(Losses{Full: 1})
	}
	for _, e := range g.kept {
		e.stamp, e.err = Stamp{}, err
		if !e.must {
			g.lose(Losses{Disk: 1})
		}
	}
}

// write puts the buffer on stable storage, or leaves everything as it was.
func (g *group) write() error {
	s := g.s
	if len(s.buf) == 0 {
		return nil
	}
	if err := s.clean(); err != nil {
		return err
	}
	at := s.end()
	if s.active == nil || at > int64(headerBytes) && at+int64(len(s.buf)) > s.cfg.SegmentBytes {
		if err := s.rotate(); err != nil {
			return err
		}
		at = s.end()
	}
	// A crash from here on leaves any part of the group, none of which was promised.
	s.dirty = true
	err := s.disk.writeAt(s.active, s.buf, at)
	if err == nil {
		err = s.disk.sync(s.active)
	}
	if err != nil {
		return errors.Join(err, s.clean())
	}
	s.dirty = false
	return nil
}

// clean cuts off what a group that failed may have left behind.
func (s *Spool) clean() error {
	if !s.dirty {
		return nil
	}
	if err := s.disk.truncate(s.active, s.end()); err != nil {
		return fmt.Errorf("cut off what wasn't written: %w", err)
	}
	s.dirty = false
	return nil
}

// end is where the active segment ends; 0 if there is none.
func (s *Spool) end() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active == nil {
		return 0
	}
	return s.segments[len(s.segments)-1].size
}

// rotate begins a segment. A crash in here leaves one without records, which Open removes.
func (s *Spool) rotate() (err error) {
	s.mu.Lock()
	first := s.last + 1
	s.mu.Unlock()
	f, err := s.disk.create(s.path(first))
	if err != nil {
		return err
	}
	err = s.disk.writeAt(f, appendHeader(nil, s.cur.id), 0)
	if err == nil {
		err = s.reserve(f)
	}
	if err == nil {
		err = s.disk.sync(f)
	}
	if err == nil {
		err = atomicfile.SyncDir(s.cfg.Dir)
	}
	if err != nil {
		return errors.Join(err, f.Close(), os.Remove(s.path(first)))
	}
	if s.active != nil {
		s.giveBack()
		err = s.active.Close()
	}
	s.active = f
	s.mu.Lock()
	s.segments = append(s.segments, segment{first, int64(headerBytes)})
	if s.cur.ackedPlace == s.last {
		s.ackedAt = position{first, int64(headerBytes)}
	}
	s.mu.Unlock()
	s.sweep()
	return err
}

var zeros [1 << 20]byte

// reserve fills a segment with zeros, which are no record: a sync of what is written over them doesn't have
// to wait for the file system to note where the file ends. On a full disk it goes without.
func (s *Spool) reserve(f *os.File) error {
	for at := int64(headerBytes); at < s.cfg.SegmentBytes; at += int64(len(zeros)) {
		if err := s.disk.writeAt(f, zeros[:min(int64(len(zeros)), s.cfg.SegmentBytes-at)], at); err != nil {
			return s.disk.truncate(f, int64(headerBytes))
		}
	}
	return nil
}

// giveBack cuts off the zeros of the segment that was active. A crash before leaves them, and they are no harm.
func (s *Spool) giveBack() {
	s.mu.Lock()
	size := s.segments[len(s.segments)-1].size
	s.mu.Unlock()
	if err := s.disk.truncate(s.active, size); err != nil {
		s.cfg.Logger.Warn("a segment of the spool stays larger than it has to be", "dir", s.cfg.Dir, "error", err)
	}
}

// finish makes the group visible.
func (g *group) finish() {
	s := g.s
	show := func() {
		if g.place > s.last {
			s.segments[len(s.segments)-1].size += int64(len(s.buf))
			s.last, s.keptSeq = g.place, g.keptSeq
			close(s.committed)
			s.committed = make(chan struct{})
		}
		s.lastSeq = g.seq
	}
	if !g.report && g.lost.Count() == 0 {
		s.mu.Lock()
		defer s.mu.Unlock()
		show()
		return
	}
	err := s.update(func() {
		show()
		if g.report {
			s.cur.lost = Losses{}
			s.cur.reports++
		}
		s.cur.lost.add(g.lost)
	})
	if err == nil && g.lost.Count() > 0 { // or a machine that stops would give their seqs anew, and there were no gap
		err = s.syncCursor()
	}
	s.logged(err)
}

// update changes what the cursor says, mu held, and writes it into the older of its slots. A process that
// is killed loses nothing of it; a machine may lose what was written since the last sync, and then events are
// delivered again.
func (s *Spool) update(change func()) error {
	s.saving.Lock()
	defer s.saving.Unlock()
	s.mu.Lock()
	change()
	s.cur.version++
	s.cur.next = s.lastSeq + 1
	slot, at := s.cur.appendSlot(nil), slotOffset(s.cur.version)
	s.mu.Unlock()
	return s.disk.writeAt(s.cursor, slot, at)
}

func (s *Spool) syncCursor() error {
	s.saving.Lock()
	defer s.saving.Unlock()
	return s.disk.sync(s.cursor)
}

// logged is for errors of the cursor that harm nothing yet: what it says is still known. A disk that goes on
// failing is said once.
func (s *Spool) logged(err error) {
	if was := s.mute.Swap(err != nil); err != nil && !was {
		s.cfg.Logger.Error("the spool's cursor can't be written", "dir", s.cfg.Dir, "error", err)
	}
}

// sweep removes the segments that nobody needs, but for the last one, which has the last seq.
func (s *Spool) sweep() {
	s.sweeping.Lock()
	defer s.sweeping.Unlock()
	s.mu.Lock()
	n := 0
	for n+1 < len(s.segments) && s.segments[n].first < s.ackedAt.segment {
		n++
	}
	old := s.segments[:n:n]
	s.mu.Unlock()
	if n == 0 {
		return
	}
	if err := s.syncCursor(); err != nil { // first what says that they aren't needed
		s.logged(err)
		return
	}
	for _, o := range old {
		if err := os.Remove(s.path(o.first)); err != nil {
			s.cfg.Logger.Error("a segment of the spool can't be removed", "dir", s.cfg.Dir, "error", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.segments = append([]segment(nil), s.segments[n:]...)
}
