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
	comparing chan struct{} // a token for each comparison under way
	storing   sync.Mutex    // held while the state is stored

	mu         sync.Mutex
	state      logState
	checked    *Head // as in state; nil: none
	seen       *Head // the newest that agrees; nil: none
	served     served
	reading    reading
	cosigned   map[string]cosigned  // by the witness's key name
	since      map[string]time.Time // by alarm: since when what it is about lasts
	nextOpen   uint64               // where recheck goes on
	lastLeaf   time.Time            // time of the newest leaf that was read
	stored     time.Time            // when the state was stored last
	bookErr    error                // of the last write to our own book or disk
	readErr    error                // of the last reading of the book
	looked     time.Time            // when the last look was over, whatever came of it
	counts     Counts               // as of the last watch
	oldestOpen *Head                // of those
	full       bool                 // a head wasn't kept
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
	err      error
	failed   bool   // err says that what was read doesn't hold
	failures uint   // in a row
	done     uint64 // entries read so far
}

func newFollower(ctx context.Context, m *Monitor, cfg LogConfig) (*follower, error) {
	if cfg.Policy == nil {
		return nil, fmt.Errorf("log %q: no policy", cfg.URL)
	}
	f := &follower{
		m: m, policy: cfg.Policy, key: cfg.Policy.Log(), origin: cfg.Policy.Origin(), url: cfg.URL, expect: cfg.Expect,
		id: gossip.LogID(cfg.Policy.Origin()), wake: make(chan struct{}, 1), comparing: make(chan struct{}, 4),
		cosigned: map[string]cosigned{}, since: map[string]time.Time{},
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
	if s.Checked != "" {
		if f.checked, err = f.parse([]byte(s.Checked)); err != nil {
			return fmt.Errorf("remembered state: %w", err)
		}
	}
	f.seen, err = f.m.cfg.Book.Newest(ctx, f.origin)
	if f.checked != nil && (f.seen == nil || f.seen.Size < f.checked.Size) {
		f.seen = f.checked // the book was full, or a crash came before it could say that this one agrees
	}
	return err
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
	change(&f.state) // again, and not next: seen may have moved on meanwhile
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

// outcome is what became of a head.
type outcome struct {
	head     Head
	standing Standing
	why      error // with Open
	full     bool  // it isn't kept
}

// observe takes a signed note from anywhere: writes it down, and compares it.
func (f *follower) observe(ctx context.Context, signedNote []byte, from string) (*outcome, error) {
	o, _, err := f.take(ctx, signedNote, from)
	if err == nil && o.standing == Open {
		f.judge(ctx, o)
	}
	return o, err
}

// take writes down a signed note, and says what is known of it: Open, if it has yet to be compared.
func (f *follower) take(ctx context.Context, signedNote []byte, from string) (o *outcome, isNew bool, err error) {
	h, err := f.parse(signedNote)
	if err != nil {
		var nonsense *signedNonsense
		if errors.As(err, &nonsense) {
			f.raiseNonsense(nonsense, from)
		}
		return nil, false, err
	}
	h.From = from
	stored, isNew, err := f.m.cfg.Book.Add(ctx, *h)
	if isNew || err != nil { // one that was there was only read
		f.noteBook(ctx, err)
	}
	switch {
	case errors.Is(err, ErrFull): // compared all the same
		f.mu.Lock()
		f.full = true
		f.mu.Unlock()
		return &outcome{head: *h, standing: Open, full: true}, true, nil
	case err != nil:
		return nil, false, err
	}
	if isNew {
		f.m.cfg.Log.DebugContext(ctx, "new head", "log", f.origin, "size", h.Size, "from", from)
	}
	return &outcome{head: stored, standing: stored.Standing}, isNew, nil
}

// judge compares an open head with what is known, and writes down what comes of it.
func (f *follower) judge(ctx context.Context, o *outcome) {
	// What needs no proof is looked at however little time there is, and what was found is written down.
	quick := context.WithoutCancel(ctx)
	standing, e := f.sameSize(quick, &o.head)
	o.why = nil
	if standing == Open {
		standing, e, o.why = f.settle(ctx, &o.head)
	}
	if standing == Forked {
		if err := f.accuse(e); err != nil {
			o.why = err // it stays open until the evidence is on the disk
			return
		}
	}
	if standing != Open && !o.full {
		err := f.m.cfg.Book.Judge(quick, o.head.Checkpoint, standing)
		f.noteBook(quick, err)
		if err != nil {
			o.why = err // what isn't written down isn't said
			return
		}
	}
	o.standing, o.head.Standing = standing, standing
}

// sameSize holds a head against those of the same size, which needs no proof: it is Forked then, or Open.
func (f *follower) sameSize(ctx context.Context, h *Head) (Standing, *verifier.Evidence) {
	others, err := f.m.cfg.Book.SameSize(ctx, h.Checkpoint)
	if err != nil {
		f.noteRead(ctx, err)
	}
	for i := range others {
		if standing, e, _ := f.convict(&verifier.Evidence{First: others[i].Note, Second: h.Note}); standing == Forked {
			return standing, e
		}
	}
	return Open, nil
}

// settle compares a head with the newest one of the history that is followed, and makes it the newest if
// it agrees and is larger. Two heads may both extend the one seen last, and neither of them the other; so
// of those that agree each is compared with the newest one at that moment, and again if another one has
// taken that place meanwhile.
func (f *follower) settle(ctx context.Context, h *Head) (Standing, *verifier.Evidence, error) {
	ctx, cancel := context.WithTimeout(ctx, compareTime)
	defer cancel()
	select {
	case f.comparing <- struct{}{}:
		defer func() { <-f.comparing }()
	case <-ctx.Done():
		return Open, nil, ctx.Err()
	}
	for {
		f.mu.Lock()
		seen := f.seen
		f.mu.Unlock()
		if seen == nil {
			return Open, nil, errors.New("nothing of this log was read yet")
		}
		standing, e, err := f.compare(ctx, h, seen)
		if standing != Agreed || f.advance(seen, h) {
			return standing, e, err
		}
	}
}

// accuse keeps evidence.
func (f *follower) accuse(e *verifier.Evidence) error {
	file, err := checkEvidence(e.Text(), func(string) *verifier.Policy { return f.policy })
	if err != nil {
		return err
	}
	return f.m.keepEvidence(f, file)
}

// keepEvidence writes down evidence that convicts, and rings.
func (m *Monitor) keepEvidence(f *follower, file *evidenceFile) error {
	isNew, err := m.evidence.add(file)
	if err != nil {
		f.mu.Lock()
		f.bookErr = err
		f.mu.Unlock()
		return err
	}
	if isNew {
		m.cfg.Log.Error("the log forked", "log", f.origin, "first", file.FirstSize, "second", file.SecondSize, "evidence", file.ID)
	}
	f.raiseFork(m.evidence.of(f.origin))
	return nil
}

// advance makes a head that agrees with the newest one seen, nil if there was none, the newest itself,
// if it is larger; it stands in the book as agreed only later, and is compared again if a crash comes before.
// False: another one has become the newest meanwhile.
func (f *follower) advance(seen, h *Head) bool {
	if seen != nil && h.Size <= seen.Size {
		return true // it is of the history of any that will follow, too
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.seen != seen {
		return false
	}
	from := h.Size
	if seen != nil {
		from = seen.Size
	}
	newest := *h
	newest.Standing = Agreed
	f.seen = &newest
	f.state.grow(from, f.m.cfg.Now()) // stored with the next that is remembered
	f.rouse()
	return true
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
	checked, seen := f.checked, f.seen
	f.mu.Unlock()
	if checked != nil {
		h.Checked = string(checked.Note)
	}
	if seen != nil && (checked == nil || seen.Checkpoint != checked.Checkpoint) {
		h.Open = append(h.Open, string(seen.Note))
	}
	open, err := f.m.cfg.Book.Open(ctx, f.origin, 0, gossip.MaxOpen-len(h.Open))
	if err != nil {
		return h, err
	}
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
