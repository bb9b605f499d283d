package monitor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/monitor/gossip"
)

const (
	// compareTime bounds what one comparison may take, whoever asked for it, and what comparing open heads
	// again may take in one look.
	compareTime = time.Minute
	// answerTime bounds the comparisons that somebody waits for: who has posted a head, and a round with a
	// peer, all of its heads of a log together. It is shorter than the time that a client waits. What isn't
	// known by then stays open, and is compared again.
	answerTime = 10 * time.Second
)

// follower follows one log.
type follower struct {
	m      *Monitor
	policy *verifier.Policy
	key    *verifier.LogKey
	origin string
	id     string // gossip.LogID
	url    string
	expect Expect
	source verifier.Source // the log itself
	mirror *mirror         // nil: nothing is kept
	gap    bool            // entries were read that may be missing from the mirror; the reader's

	wake      chan struct{} // one token: there is something to read
	comparing chan struct{} // a token for each comparison under way that somebody outside has asked for
	storing   sync.Mutex    // held while the state is stored

	mu            sync.Mutex
	state         logState
	checked, seen *Head // as in state; nil: none
	served        served
	reading       reading
	cosigned      map[string]cosigned  // by the witness's key name
	since         map[string]time.Time // by alarm: since when what it is about lasts
	tried         map[verifier.Checkpoint]attempt
	nextOpen      uint64    // where recheck goes on
	nextShown     uint64    // where heads goes on
	lastLeaf      time.Time // time of the newest leaf that was read
	stored        time.Time // when the state was stored last
	bookErr       error     // of the last write to our own book or disk
	readErr       error     // of the last reading of the book
	looked        time.Time // when the last look was over, whatever came of it
	counts        Counts    // as of the last watch
	oldestOpen    *Head     // of those
	oldestSince   time.Time // since when it is the oldest in this process
	full          bool      // a head wasn't kept
}

// served is what the log itself has answered.
type served struct {
	head      *Head // the newest answer that was signed; nil: none since the start
	note      []byte
	witnesses verifier.Witnesses
	at        time.Time // of that answer
	err       error     // of the last look; nil if it was good
	refused   error     // the last answer was no head of the log
	back      bool      // it is smaller than one that was served before, and of one history with it
}

// reading is how the reading of entries goes.
type reading struct {
	err    error
	failed bool   // err says that what was read doesn't hold
	done   uint64 // entries read so far
}

func newFollower(ctx context.Context, m *Monitor, cfg LogConfig) (*follower, error) {
	if cfg.Policy == nil {
		return nil, fmt.Errorf("log %q: no policy", cfg.URL)
	}
	f := &follower{
		m: m, policy: cfg.Policy, key: cfg.Policy.Log(), origin: cfg.Policy.Origin(), url: cfg.URL, expect: cfg.Expect,
		id: gossip.LogID(cfg.Policy.Origin()), wake: make(chan struct{}, 1), comparing: make(chan struct{}, 4),
		cosigned: map[string]cosigned{}, since: map[string]time.Time{}, tried: map[verifier.Checkpoint]attempt{},
	}
	f.expect.defaults()
	if f.url == "" {
		f.url = f.policy.LogURL()
	}
	var err error
	if f.source, err = m.httpSource(f.url, cfg.AllowHTTP, cfg.Timeout); err != nil {
		return nil, fmt.Errorf("log %q: %w", f.origin, err)
	}
	if cfg.Mirror != "" {
		if f.mirror, err = openMirror(cfg.Mirror, f.parse); err != nil {
			return nil, fmt.Errorf("log %q: %w", f.origin, err)
		}
	}
	if err := f.load(ctx); err != nil {
		return nil, fmt.Errorf("log %q: %w", f.origin, err)
	}
	return f, nil
}

// load reads what is remembered.
func (f *follower) load(ctx context.Context) error {
	b, err := f.m.cfg.Book.State(ctx, f.origin)
	if err != nil {
		return err
	}
	s, err := parseState(b)
	if err != nil {
		return fmt.Errorf("remembered state: %w", err)
	}
	f.state = *s
	if f.mirror != nil {
		read, err := s.read()
		if err != nil {
			return fmt.Errorf("remembered state: %w", err)
		}
		f.gap = f.mirror.size() < read
	}
	for _, n := range []struct {
		note string
		to   **Head
	}{{s.Checked, &f.checked}, {s.Seen, &f.seen}} {
		if n.note == "" {
			continue
		}
		h, err := f.parse([]byte(n.note))
		if err != nil {
			return fmt.Errorf("remembered state: %w", err)
		}
		*n.to = h
	}
	return nil
}

// parse makes a head of a signed note.
func (f *follower) parse(signedNote []byte) (*Head, error) {
	bare, err := f.key.Bare(signedNote)
	if err != nil {
		return nil, err
	}
	c, _, err := f.key.Verify(bare)
	if err != nil {
		return nil, &signedNonsense{err, bare}
	}
	return &Head{Checkpoint: c, Note: bare, Seen: f.m.cfg.Now(), Standing: Open}, nil
}

// signedNonsense is something that the log has signed and that is no head.
type signedNonsense struct {
	error
	note []byte
}

func (e *signedNonsense) Unwrap() error { return e.error }

// remember changes the state, in the book and then in memory. Change is called twice.
func (f *follower) remember(ctx context.Context, change func(*logState)) error {
	f.storing.Lock()
	defer f.storing.Unlock()
	return f.store(ctx, change)
}

// store is remember with storing held.
func (f *follower) store(ctx context.Context, change func(*logState)) error {
	f.mu.Lock()
	next := f.state
	next.Sizes = slices.Clone(next.Sizes)
	f.mu.Unlock()
	change(&next)
	b, err := next.bytes()
	if err == nil {
		err = f.m.cfg.Book.PutState(ctx, f.origin, b)
	}
	f.noteBook(ctx, err)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.state) // again, and not next: what isn't stored each time may have changed meanwhile
	f.stored = time.Now()
	return nil
}

// noteBook remembers for the alarms whether our own book could be written. That it can be read
// says nothing about that: a full disk can.
func (f *follower) noteBook(ctx context.Context, err error) {
	if ctx.Err() != nil || errors.Is(err, ErrFull) {
		return
	}
	f.mu.Lock()
	f.bookErr = err
	f.mu.Unlock()
}

// noteRead does the same for reading it.
func (f *follower) noteRead(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	f.mu.Lock()
	f.readErr = err
	f.mu.Unlock()
}

// stores says what is wrong with our own book, nil if nothing is. Called with mu held.
func (f *follower) stores() error {
	if f.bookErr != nil {
		return f.bookErr
	}
	return f.readErr
}

// rouse wakes the reader.
func (f *follower) rouse() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// tilesOf is a place where tiles of the log may be had.
type tilesOf struct {
	name   string
	reader verifier.TileReader
}

// tiles are all of them, the surest first.
func (f *follower) tiles() []tilesOf {
	var ts []tilesOf
	if f.mirror != nil {
		ts = append(ts, tilesOf{"the mirror", verifier.Tiles(f.mirror)})
	}
	ts = append(ts, tilesOf{"the log", verifier.Tiles(f.source)})
	for _, p := range f.m.peers {
		if p.cfg.Mirrors {
			if s := p.mirrors[f.id]; s != nil {
				ts = append(ts, tilesOf{p.cfg.Name, verifier.Tiles(s)})
			}
		}
	}
	return ts
}

// answer says what a monitor makes of a head.
func (f *follower) answer(o *outcome) gossip.Answer {
	a := gossip.Answer{Origin: f.origin, Size: o.head.Size, Verdict: gossip.Unknown}
	f.mu.Lock()
	if f.checked != nil {
		a.Checked = string(f.checked.Note)
	}
	f.mu.Unlock()
	switch o.standing {
	case Agreed:
		a.Verdict = gossip.Agrees
	case Forked:
		a.Verdict = gossip.Contradicts
		for _, e := range f.m.evidence.of(f.origin) {
			a.Evidence = append(a.Evidence, e.ID)
		}
	case Open:
		a.Reason = "it can't be brought together with what was seen so far"
		if o.why != nil {
			a.Reason = clip(o.why.Error(), 1000)
		}
	}
	return a
}

// heads are those that others need to compare with.
func (f *follower) heads(ctx context.Context) (gossip.Heads, error) {
	h := gossip.Heads{Origin: f.origin, Open: []string{}}
	f.mu.Lock()
	checked, seen, from := f.checked, f.seen, f.nextShown
	f.mu.Unlock()
	if checked != nil {
		h.Checked = string(checked.Note)
	}
	if seen != nil && (checked == nil || seen.Checkpoint != checked.Checkpoint) {
		h.Open = append(h.Open, string(seen.Note))
	}
	most := gossip.MaxOpen - len(h.Open)
	open, err := f.m.cfg.Book.Open(ctx, f.origin, from, most)
	if err != nil {
		return h, err
	}
	next := uint64(0)
	if len(open) == most {
		next = open[most-1].Size + 1 // a log that signs many can't keep the others from being shown
	}
	f.mu.Lock()
	f.nextShown = next
	f.mu.Unlock()
	for i := range open {
		if len(open[i].Note) <= gossip.MaxHeadsBytes/(2*gossip.MaxOpen) { // a head has some 300 bytes
			h.Open = append(h.Open, string(open[i].Note))
		}
	}
	return h, nil
}

// clip cuts what others have said to what is worth repeating.
func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
