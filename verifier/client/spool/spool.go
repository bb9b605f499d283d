package spool

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/prooftrail/prooftrail/verifier/internal/atomicfile"
)

var (
	// ErrFull: the spool holds as much as it may. An event that was to be kept is counted as
	// lost, and has used up a seq; one that must be kept was refused, and has not.
	ErrFull = errors.New("the spool is full")
	// ErrDisk: the event couldn't be written. For the rest it is as with ErrFull. The error has the
	// disk's own beside it.
	ErrDisk = errors.New("the spool can't be written")
	// ErrLocked: another process, or another Spool of this one, has the directory.
	ErrLocked = errors.New("the spool is in use")
	// ErrClosed: the spool was closed.
	ErrClosed = errors.New("the spool is closed")
)

// Config says where a spool is and how much it takes.
type Config struct {
	// Dir is the spool's directory. It is made, mode 0700, if it isn't there; its parent must
	// exist.
	Dir string
	// MaxEvents is how many events wait on disk at most. Default 1,000,000.
	MaxEvents uint64
	// MaxBytes bounds the files of events. Default 1 GiB. A file goes only when all its events
	// have, so that up to SegmentBytes of it may be of no use, or come on top.
	MaxBytes int64
	// SegmentBytes is how large a file becomes; the last one takes as much from the beginning. Default 8 MiB, or an eighth of MaxBytes if that is less.
	SegmentBytes int64
	// MaxWaiting is how many events wait in memory for a disk that is slow. Default 4096, and
	// 16 MiB.
	MaxWaiting int
	// Report makes the event that reports losses. Needed. It is called with no lock that Append or
	// Ack want, must not call either, and is fast. An error leaves the losses to a later report.
	Report func(Stamp, Losses) ([]byte, error)
	// Logger gets what was found damaged or couldn't be written. Default: nobody.
	Logger *slog.Logger
}

const maxWaitingBytes = 16 << 20

func setDefaults(cfg *Config) error {
	if cfg.Dir == "" || cfg.Report == nil {
		return errors.New("spool: no directory, or nobody to report losses")
	}
	if cfg.MaxEvents == 0 {
		cfg.MaxEvents = 1_000_000
	}
	if cfg.MaxBytes <= 0 {
		cfg.MaxBytes = 1 << 30
	}
	if cfg.SegmentBytes <= 0 {
		cfg.SegmentBytes = min(8<<20, cfg.MaxBytes/8)
	}
	cfg.SegmentBytes = min(cfg.SegmentBytes, cfg.MaxBytes/2, maxSegment)
	if cfg.MaxWaiting <= 0 {
		cfg.MaxWaiting = 4096
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Stamp is what the spool gives an event when it takes it.
type Stamp struct {
	Seq uint64 // its number, from 1 on
	// Count is how many of the numbers below Seq are of events that are in the spool or were
	// delivered: Seq-1, less all that were lost.
	Count uint64
}

// Spool is a queue of events on disk. It is safe for concurrent use.
type Spool struct {
	cfg  Config
	disk disk
	lock *os.File
	done chan struct{} // closed when the committer has ended

	// committing is held while a group is written, and by whoever counts losses: a report that is
	// being written says just what the cursor says. It is taken before all others.
	committing sync.Mutex
	active     *os.File // the last segment; nil: a new one is to be made
	failing    bool     // the last group couldn't be written
	dirty      bool     // there may be something behind the last segment's end
	buf        []byte

	sweeping sync.Mutex // taken before saving: one removes segments at a time

	saving sync.Mutex // taken before mu: the cursor file is written in the order of versions
	cursor *os.File
	mute   atomic.Bool // it was said that the cursor can't be written

	mu           sync.Mutex // never held while the disk is waited for
	wake         sync.Cond  // something is waiting, or due
	waiting      []*entry
	waitingBytes int
	overflow     uint64 // events that found no place in waiting
	reportDue    bool
	closed       bool

	cur       cursor
	segments  []segment // by place; the last one is active, if it is open
	last      uint64    // place of the last record
	lastSeq   uint64    // the last seq that was used
	keptSeq   uint64    // that of the last record
	ackedAt   position  // behind the last record that was acked
	committed chan struct{}
}

// segment is one file of records.
type segment struct {
	first uint64 // place of its first record, which names it
	size  int64  // what of it is committed
}

// position is a place between two records.
type position struct {
	segment uint64 // its first
	offset  int64
}

func (s *Spool) path(first uint64) string { return filepath.Join(s.cfg.Dir, segmentName(first)) }

func segmentName(first uint64) string { return fmt.Sprintf("%020d.seg", first) }

// Open opens the spool in a directory, and makes it if there is none. The package comment says what
// it does about what a crash left behind.
func Open(cfg Config) (*Spool, error) { return open(cfg, disk{}) }

func open(cfg Config, d disk) (_ *Spool, err error) {
	if err := setDefaults(&cfg); err != nil {
		return nil, err
	}
	s := &Spool{cfg: cfg, disk: d, done: make(chan struct{}), committed: make(chan struct{})}
	s.wake.L = &s.mu
	if err := s.takeDir(); err != nil {
		return nil, fmt.Errorf("spool %s: %w", cfg.Dir, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.release())
		}
	}()
	if err := s.recover(); err != nil {
		return nil, fmt.Errorf("spool %s: %w", cfg.Dir, err)
	}
	go s.commitAll()
	return s, nil
}

// takeDir makes the directory and locks it.
func (s *Spool) takeDir() error {
	if err := os.Mkdir(s.cfg.Dir, 0o700); err == nil {
		if err := atomicfile.SyncDir(filepath.Dir(s.cfg.Dir)); err != nil {
			return err
		}
	} else if !errors.Is(err, os.ErrExist) {
		return err
	}
	f, err := os.OpenFile(filepath.Join(s.cfg.Dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := lock(f); err != nil {
		return errors.Join(err, f.Close())
	}
	s.lock = f
	return nil
}

// release closes the files. What had to be synced has been.
func (s *Spool) release() (err error) {
	for _, f := range []*os.File{s.active, s.cursor, s.lock} {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return err
}

// Close writes what is waiting and gives the directory back. What is in the spool stays. The cursor isn't synced: it would
// cost who opens a spool for a moment as much as an event does, and saves nothing but delivering again after a machine has
// stopped.
func (s *Spool) Close() error {
	s.mu.Lock()
	closed := s.closed
	s.closed = true
	s.wake.Signal()
	s.mu.Unlock()
	<-s.done
	if closed {
		return nil
	}
	return s.release()
}

// entry is an event on its way into the spool.
type entry struct {
	build func(Stamp) ([]byte, error)
	must  bool
	size  int

	stamp Stamp
	err   error
	done  chan struct{}
}

// Append puts an event into the spool and returns when it is on stable storage, together with
// all those that were waiting at the same time. build makes it, once it is known which seq it
// gets; it is called by one goroutine for all, in the order of the seqs, and is fast. Size is about
// how large it will be. An error of build refuses the event.
//
// An event that isn't taken (ErrFull, ErrDisk) is counted as lost, unless it must be taken: then that
// it wasn't is the caller's to handle. When the context ends before, it isn't known whether the event
// will be in the spool.
func (s *Spool) Append(ctx context.Context, must bool, size int, build func(Stamp) ([]byte, error)) (Stamp, error) {
	e := &entry{build: build, must: must, size: size, done: make(chan struct{})}
	if err := s.queue(e); err != nil {
		return Stamp{}, err
	}
	select {
	case <-e.done:
		return e.stamp, e.err
	case <-ctx.Done():
		return Stamp{}, fmt.Errorf("spool: %w", ctx.Err())
	}
}

// queue has an event wait for the next group.
func (s *Spool) queue(e *entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return ErrClosed
	case len(s.waiting) >= s.cfg.MaxWaiting || s.waitingBytes+e.size > maxWaitingBytes:
		if !e.must {
			s.overflow++
		}
		return fmt.Errorf("%w: %d events wait for the disk", ErrDisk, len(s.waiting))
	}
	s.waiting = append(s.waiting, e)
	s.waitingBytes += e.size
	s.wake.Signal()
	return nil
}

// Stats are figures of a spool.
type Stats struct {
	Events  uint64 // that wait in it
	Bytes   int64  // of its segments
	LastSeq uint64 // the last that was used
	Kept    uint64 // the last that an event in the spool has, or one that was delivered
	Acked   uint64 // the seq up to which all was delivered, or given up
	Lost    Losses // since the last report of losses
	Gone    uint64 // events that were taken and then lost, ever
}

// Stats returns figures of now.
func (s *Spool) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{Events: s.last - s.cur.ackedPlace, Bytes: s.bytes(), LastSeq: s.lastSeq, Kept: s.keptSeq, Acked: s.cur.acked, Lost: s.cur.lost, Gone: s.cur.gone}
}

// bytes is what the segments take.
func (s *Spool) bytes() (n int64) {
	for i := range s.segments {
		n += s.segments[i].size
	}
	return n
}

func newID() (of id) {
	_, _ = rand.Read(of[:]) // it never fails: crypto/rand
	return of
}
