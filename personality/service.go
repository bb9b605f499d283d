package personality

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/sync/semaphore"

	"github.com/prooftrail/prooftrail/personality/pubstore"
	"github.com/prooftrail/prooftrail/personality/tree"
)

// Service is one open log. Its methods may be called at once.
type Service struct {
	cfg    Config
	log    *slog.Logger
	params pubstore.Log
	parts  parts
	tree   tree.Tree
	store  pubstore.Store
	tokens tokenSet
	in     *ingester

	sourceKeys sourceKeySet

	// Admission. admitting is held for reading while an event is put in the
	// queue, and for writing to close it.
	admitting sync.RWMutex
	closing   chan struct{} // closed first
	queue     chan *Pending
	budget    *semaphore.Weighted // bytes in the queue

	// The sequencer's own: touched by its goroutine only, and by recovery before
	// that starts.
	next         uint64 // the first index without a leaf
	lastTime     time.Time
	unsure       bool          // an Append failed: read back before the next one
	unsynced     bool          // entries were stored since the last sync
	hasTurn      bool          // of the processes that share the store
	adopted      bool          // batches were adopted that the publisher hasn't been woken for
	appendFailed time.Time     // when the last one did
	braked       time.Duration // how long the last batch that failed had the next one wait

	// Entries sequenced and not yet published: by identity, and in batches in
	// index order.
	pendingMu sync.Mutex
	inflight  map[[32]byte]inflight
	batches   []*batch
	watch     watch
	wake      chan struct{} // tells the publisher that batches isn't empty
	idle      chan struct{} // tells the sequencer that it may be
	called    chan struct{} // tells the sequencer to read back what it didn't store

	// The published tree: headMu is held while it moves.
	headMu ctxMutex
	fold   publisher
	edge   edge
	pollMu sync.Mutex
	polled time.Time // when the store was last asked for a newer head

	published atomic.Pointer[publishedHead]
	public    *public // nil: there are no witnesses
	keeper    keeper  // the publisher's; of a log that others write to, the follower's
	fault     atomic.Pointer[Fault]

	announced atomic.Bool
	done      sync.WaitGroup
	stop      context.CancelFunc

	// Closing. using counts who reads the stores.
	closeOnce sync.Once
	closeErr  error
	usingMu   sync.Mutex
	closed    bool
	using     sync.WaitGroup
}

// parts are what a service is put together from. Tests put faulty ones in.
type parts struct {
	tree   tree.Tree
	store  pubstore.Store
	anchor Anchor
	signer note.Signer
	keys   keys
	close  func() error // closes what they share, after them

	// nil: no other process writes to the store
	sequencing, publishing turns

	deferSync bool // what is stored is durable after the next sync, not at once
	splits    bool // the tree may store a batch in part

	corruption *corruption // of what they share
}

// publishedHead is a head with its signed checkpoint.
type publishedHead struct {
	head pubstore.Head
	note []byte // nil only in a service that refuses before it ever signed
}

// Open opens the log in cfg.Dir, and recovers: what was stored durably and not
// published yet, is. A log that recovery finds wrong, or behind what had been
// signed, opens too, but refuses to go on: see [Service.Ready]. ErrFull when the disk
// has no room for that; the process is then best ended, see unlessFull.
func Open(ctx context.Context, cfg Config) (*Service, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := cfg.room.atStart(); err != nil {
		return nil, fmt.Errorf("open log in %s: %w", cfg.Dir, err)
	}
	s, err := unlessFull(cfg.room, func() (*Service, error) {
		p, err := openParts(ctx, cfg)
		if err != nil {
			return nil, err
		}
		s, err := open(ctx, cfg, p)
		if err != nil {
			return nil, errors.Join(err, p.closeAll())
		}
		return s, nil
	})
	if errors.Is(err, ErrFull) {
		err = fmt.Errorf("open log in %s: %w", cfg.Dir, err)
	}
	return s, err
}

func open(ctx context.Context, cfg Config, p parts) (*Service, error) {
	s, err := openRecovered(ctx, cfg, p)
	if err != nil {
		return nil, err
	}
	s.endTurn(ctx)
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.done.Go(func() { s.sequenceAll(run) })
	s.done.Go(func() { s.publishAll(run) })
	s.done.Go(func() { cfg.room.watch(s.closing) })
	if s.shared() {
		s.done.Go(func() { s.follow(run) })
	}
	if s.public != nil {
		s.done.Go(func() { s.witnessAll(run) })
	}
	return s, nil
}

// openRecovered returns the service where recovery has brought it, with its turn, and
// without the goroutines that let it go on.
func openRecovered(ctx context.Context, cfg Config, p parts) (*Service, error) {
	params, err := p.store.Log(ctx)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	s := &Service{
		cfg: cfg, log: cfg.Logger.With("log", params.Origin), params: params, parts: p, tree: p.tree, store: p.store,
		queue: make(chan *Pending, cfg.QueueEvents), budget: semaphore.NewWeighted(cfg.QueueBytes), inflight: map[[32]byte]inflight{}, wake: make(chan struct{}, 1), idle: make(chan struct{}, 1), called: make(chan struct{}, 1), headMu: make(ctxMutex, 1), closing: make(chan struct{}),
	}
	if s.in, err = newIngester(&s.cfg, params.IDSecret); err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	size := s.quarantineSize
	cfg.Metrics.quarantine.Store(&size)
	s.keeper = keeper{store: p.store, vkey: params.VKey}
	stalled := func() float64 { _, long := s.stalled(); return long.Seconds() }
	cfg.Metrics.stalled.Store(&stalled)
	p.corruption.listen(func(err error) { _ = s.refuse("the database's files: "+err.Error(), err) })
	if err := errors.Join(s.tokens.load(ctx, p.keys, p.store), s.sourceKeys.load(ctx, p.keys, p.store)); errors.Is(err, errRecord) || errors.Is(err, pubstore.ErrCorrupt) {
		_ = s.refuse(err.Error()+": somebody wrote to the database", err)
	} else if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	if s.public, err = s.newPublic(cfg.Witnesses); err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	s.askBefore(ctx)
	if err := s.beginTurn(ctx); err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	if err := s.recover(ctx); err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	if err := s.showKept(ctx); err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return s, nil
}

func (p *parts) closeAll() error {
	var err error
	for _, t := range []turns{p.sequencing, p.publishing} {
		if t != nil {
			err = errors.Join(err, t.Close())
		}
	}
	err = errors.Join(err, p.tree.Close(), p.anchor.Close())
	if p.close != nil {
		err = errors.Join(err, p.close())
	}
	return err
}

// Origin returns the log's origin: its checkpoints' first line.
func (s *Service) Origin() string { return s.params.Origin }

// LogName returns the log's short name, as in /logs/{log}/.
func (s *Service) LogName() string { return s.params.Name }

// VKey returns the log's public key as a c2sp.org/signed-note verifier key.
func (s *Service) VKey() string { return s.params.VKey }

// Checkpoint returns the public checkpoint: that of the published head or, with witnesses,
// the newest with the cosignatures that they have to give. ErrNotFound if there is none yet.
func (s *Service) Checkpoint(ctx context.Context) ([]byte, error) {
	release, err := s.use()
	if err != nil {
		return nil, err
	}
	defer release()
	if n := s.publicCheckpoint(ctx); n != nil {
		return n, nil
	}
	return nil, ErrNotFound
}

// refuse makes the service refuse to go on, for good: a person must look. The
// first reason stays.
func (s *Service) refuse(reason string, err error) *Fault {
	f := &Fault{Reason: reason, Err: err}
	if s.fault.CompareAndSwap(nil, f) {
		s.cfg.Metrics.refusing.Set(1)
		s.log.Error("the log refuses to go on", "reason", reason, "error", err)
	}
	return s.fault.Load()
}

// refusing returns why the service refuses to go on, or nil.
func (s *Service) refusing() error {
	if f := s.fault.Load(); f != nil {
		return f
	}
	return nil
}

// use keeps the stores open until release is called. ErrClosing once they are
// being closed.
func (s *Service) use() (release func(), err error) {
	s.usingMu.Lock()
	defer s.usingMu.Unlock()
	if s.closed {
		return nil, ErrClosing
	}
	s.using.Add(1)
	return s.using.Done, nil
}

// Close stops admitting, sequences and publishes what has been admitted, and
// closes the stores once nobody reads them. When ctx ends it waits no longer for
// the first: what is durable stays, the rest gets ErrUnavailable. It doesn't wait for
// room on a full disk either. Closing again
// waits for the first Close and returns what it did.
func (s *Service) Close(ctx context.Context) error {
	s.closeOnce.Do(func() { s.closeErr = s.close(ctx) })
	return s.closeErr
}

// maxHang is how long Close waits for storage that was told to stop. Past it the
// stores are left as they are: the process is about to end.
const maxHang = 2 * time.Second

// isClosing reports whether Close has been called.
func (s *Service) isClosing() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

func (s *Service) close(ctx context.Context) error {
	ctx, watched := s.cfg.room.untilStalled(ctx)
	defer watched()
	if s.announced.Load() {
		s.logStop(ctx)
	}
	close(s.closing)
	s.admitting.Lock()
	close(s.queue)
	s.admitting.Unlock()
	drained := make(chan struct{})
	go func() { s.done.Wait(); close(drained) }()
	if !waitFor(ctx, drained) {
		s.stop()
		if err := hangs(ctx, drained); err != nil {
			return err
		}
	}
	s.stop()
	s.usingMu.Lock()
	s.closed = true
	s.usingMu.Unlock()
	s.using.Wait()
	return s.closeParts(ctx)
}

// closeParts closes the stores, and gives up on them where the disk is full.
func (s *Service) closeParts(ctx context.Context) error {
	s.cfg.room.disk.Close()
	var closeErr error
	closed := make(chan struct{})
	go func() { closeErr = s.parts.closeAll(); close(closed) }()
	full, stop := s.cfg.room.untilStalled(context.WithoutCancel(ctx))
	defer stop()
	if !waitFor(full, closed) {
		if err := hangs(full, closed); err != nil {
			return err
		}
	}
	return closeErr
}

// hangs waits somewhat longer for what should have been done when ctx ended.
func hangs(ctx context.Context, done <-chan struct{}) error {
	patience, stop := context.WithTimeout(context.WithoutCancel(ctx), maxHang)
	defer stop()
	if waitFor(patience, done) {
		return nil
	}
	return fmt.Errorf("close log: storage hangs, and what was answered as durable is safe: %w", context.Cause(ctx))
}
