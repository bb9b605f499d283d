package alarm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"
)

const (
	// MaxActive is the most alarms that Config.Max may allow.
	MaxActive = 10_000
	maxSinks  = 8
	maxBatch  = 64
)

// Names of the board's own alarms. They are held beyond Config.Max.
const (
	Overflow        = "alarm-overflow"         // more than Config.Max: some aren't held
	SinkFailing     = "alarm-sink-failing"     // a sink, named as the peer, doesn't take them
	StateUnwritable = "alarm-state-unwritable" // a restart would forget
	StateDamaged    = "alarm-state-damaged"    // until it is acknowledged
)

// Config is what a board needs.
type Config struct {
	// Sinks take alarms to people; at most 8, no two of one name.
	Sinks []Sink
	// Repeat is after how long an alarm that is still there, and that nobody has acknowledged,
	// is sent again. Default 1 h. A sink's Manner may override it.
	Repeat time.Duration
	// StateFile keeps alarms, acknowledgements and what was sent across a restart; "" keeps
	// nothing. One process may use it.
	StateFile string
	// Grace is how long after the start of Run an alarm of the state file is waited for:
	// if it isn't raised again until then it is gone. It has to be longer than the
	// slowest round of whoever raises alarms. Meanwhile it isn't repeated. Default 10 min.
	Grace time.Duration
	// Drain is how long Run goes on after its context has ended, to send what nobody was told
	// yet. Default 5 s.
	Drain time.Duration
	// Max is how many alarms are held; default and limit are MaxActive. Beyond it the worst are
	// held, and there is an alarm named Overflow.
	Max int
	// Now is time.Now if nil.
	Now func() time.Time
	// Log gets what isn't an alarm: acknowledgements, failures to deliver. Discarded if nil.
	Log *slog.Logger
}

// Board holds the alarms that are active. All methods are safe for concurrent use, and none
// but Acknowledge and Run touches anything but memory.
type Board struct {
	cfg Config

	dirty chan struct{} // holds one: the state file is out of date
	file  sync.Mutex    // held while it is written

	mu       sync.Mutex // guards the rest, and what it points to
	entries  map[key]*entry
	outlets  []*outlet
	count    [severities]int // active ones by rank, the board's own aside
	gone     int             // resolved ones that a sink wasn't told of yet
	running  bool
	draining bool
	refused  uint64    // alarms that were raised and not held, each time
	overflow time.Time // when that was last
}

// entry is an alarm that is active, or resolved and not yet told to every sink.
type entry struct {
	alarm    Alarm     // Details and Ack are never changed in place
	resolved time.Time // zero while it is active
	own      bool      // the board's
	restored bool      // from the state file, and not raised since
	told     []told    // by index of the sink
}

// told is what a sink was last told of an alarm, and how often it couldn't be told since.
type told struct {
	at       time.Time // zero: nothing
	since    time.Time // Alarm.Since: two of one name that began at different times are two
	severity Severity
	resolved bool

	failures int
	failedAt time.Time
	pause    time.Duration
}

func (e *entry) active() bool { return e.resolved.IsZero() }

// New makes a board, with the alarms of the state file. A file that isn't there is an empty
// one. A damaged one is kept aside, and its being damaged is a critical alarm: to refuse to
// start would silence the alarms that are still to come. A file that can't be read, or can't
// be put aside, is an error.
func New(cfg Config) (*Board, error) {
	cfg.Repeat = cmp.Or(max(cfg.Repeat, 0), time.Hour)
	cfg.Grace = cmp.Or(max(cfg.Grace, 0), 10*time.Minute)
	cfg.Drain = cmp.Or(max(cfg.Drain, 0), 5*time.Second)
	cfg.Max = min(cmp.Or(max(cfg.Max, 0), MaxActive), MaxActive)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if len(cfg.Sinks) > maxSinks {
		return nil, fmt.Errorf("alarms: %d sinks, at most %d", len(cfg.Sinks), maxSinks)
	}
	b := &Board{cfg: cfg, dirty: make(chan struct{}, 1), entries: map[key]*entry{}}
	for i, s := range cfg.Sinks {
		if s == nil {
			return nil, errors.New("alarms: a sink is nil")
		}
		name, manner := s.Name(), s.Manner()
		if name == "" || printable(name, maxName) != name || b.outlet(name) != nil {
			return nil, fmt.Errorf("alarms: sink %q: expected a name of its own, printable, at most %d bytes", name, maxName)
		}
		manner.Batch = min(max(manner.Batch, 1), maxBatch)
		manner.Repeat = cmp.Or(max(manner.Repeat, 0), cfg.Repeat)
		b.outlets = append(b.outlets, &outlet{index: i, sink: s, manner: manner, wake: make(chan struct{}, 1), health: SinkHealth{Name: name}})
	}
	if cfg.StateFile != "" {
		if err := b.restore(); err != nil {
			return nil, fmt.Errorf("alarms: %w", err)
		}
	}
	return b, nil
}

// outlet returns that of a name, nil if there is none.
func (b *Board) outlet(name string) *outlet {
	i := slices.IndexFunc(b.outlets, func(o *outlet) bool { return o.health.Name == name })
	if i < 0 {
		return nil
	}
	return b.outlets[i]
}

// now is the time in the precision that is kept.
func (b *Board) now() time.Time { return b.cfg.Now().UTC().Truncate(time.Millisecond) }

// Raise says that an alarm is there: that it has begun, or that it is still there, with a
// severity, summary and details that may be others than before. Sinks are told at once when it
// is new or its severity has risen, otherwise when it is time to repeat it. It is cheap and
// never waits for a sink or a disk. What still holds has to be raised again after a restart.
func (b *Board) Raise(a Alarm) {
	a = clean(a)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.raise(a, false)
}

func (b *Board) raise(a Alarm, own bool) {
	now, e := b.now(), b.entries[a.key()]
	if e != nil && e.active() {
		b.update(e, a)
		return
	}
	if !own && b.held() >= b.cfg.Max && !b.makeRoom(a) {
		b.refuse(a, now)
		return
	}
	a.Since = now
	if e == nil {
		e = &entry{}
		b.entries[a.key()] = e
	} else { // whoever wasn't told that it was gone is told that it is there again
		b.gone--
		if a.Since.Equal(e.alarm.Since) {
			a.Since = a.Since.Add(time.Millisecond)
		}
	}
	*e = entry{alarm: a, own: own, told: e.told}
	b.enter(e)
	b.changed()
}

// enter counts a new active entry and gives it a place for each sink.
func (b *Board) enter(e *entry) {
	if !e.own {
		b.count[e.alarm.Severity.rank()]++
	}
	if e.told == nil {
		e.told = make([]told, len(b.outlets))
	}
	e.retryNow()
}

// retryNow forgets failures, for what is to be sent isn't what failed.
func (e *entry) retryNow() {
	for i := range e.told {
		e.told[i].failures, e.told[i].pause = 0, 0
	}
}

func (b *Board) update(e *entry, a Alarm) {
	e.restored = false
	old := e.alarm.Severity
	a.Since, a.Ack = e.alarm.Since, e.alarm.Ack
	if a.Severity.rank() < old.rank() {
		a.Ack = nil // what was acknowledged was less
		e.retryNow()
	}
	if !e.own {
		b.count[old.rank()]--
		b.count[a.Severity.rank()]++
	}
	e.alarm = a
	if a.Severity != old {
		b.changed()
	}
}

// held is how many active alarms there are, the board's own aside.
func (b *Board) held() int { return b.count[0] + b.count[1] + b.count[2] }

// makeRoom gives up the newest of the mildest alarms, if it is milder than a.
func (b *Board) makeRoom(a Alarm) bool {
	rank := severities - 1
	for ; rank > a.Severity.rank() && b.count[rank] == 0; rank-- { // nothing there
	}
	if rank <= a.Severity.rank() {
		return false
	}
	var least *entry
	for _, e := range b.entries {
		if e.active() && !e.own && e.alarm.Severity.rank() == rank && (least == nil || least.alarm.compare(e.alarm) < 0) {
			least = e
		}
	}
	b.count[rank]--
	delete(b.entries, least.alarm.key())
	b.refuse(least.alarm, b.now())
	return true
}

// refuse says, as an alarm, that another one isn't held.
func (b *Board) refuse(a Alarm, now time.Time) {
	b.refused++
	b.overflow = now
	b.raise(clean(Alarm{Name: Overflow, Severity: Critical,
		Summary: fmt.Sprintf("there are more than %d alarms: of those beyond it only worse ones are held, and nobody is told of the others", b.cfg.Max),
		Details: map[string]string{"refused": strconv.FormatUint(b.refused, 10), "last_name": a.Name, "last_log": a.Log, "last_peer": a.Peer}}), true)
}

// Clear says that an alarm is gone. Every sink is told so once, also if it could not be told
// before that the alarm had been there. One that isn't active is let pass.
func (b *Board) Clear(name, log, peer string) {
	k := clean(Alarm{Name: name, Log: log, Peer: peer}).key()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.clear(b.entries[k])
}

func (b *Board) clear(e *entry) {
	if e == nil || !e.active() {
		return
	}
	if !e.own {
		b.count[e.alarm.Severity.rank()]--
	}
	e.resolved = b.now()
	e.restored = false
	e.retryNow()
	b.gone++
	b.boundGone()
	b.forget(e)
	b.changed()
}

// boundGone drops the oldest resolved entry if there are too many that a sink wasn't told of.
func (b *Board) boundGone() {
	if b.gone <= b.cfg.Max {
		return
	}
	var oldest *entry
	for _, e := range b.entries {
		if !e.active() && (oldest == nil || e.resolved.Before(oldest.resolved)) {
			oldest = e
		}
	}
	for _, o := range b.outlets {
		if reason, _ := o.wants(oldest, b.now()); reason != "" {
			o.health.Dropped++
		}
	}
	delete(b.entries, oldest.alarm.key())
	b.gone--
}

// forget lets go of a resolved entry of which every sink knows that it is gone.
func (b *Board) forget(e *entry) {
	if e.active() || b.entries[e.alarm.key()] != e {
		return
	}
	for i := range e.told {
		if !e.told[i].knowsGone(e) {
			return
		}
	}
	delete(b.entries, e.alarm.key())
	b.gone--
}

// Acknowledge says that somebody knows of an active alarm: it isn't repeated any more, until
// its severity rises, and it is still reported when it is gone. It returns when that is on
// the disk. The error is ErrUnknown if no alarm of that ID is active; after another one the
// acknowledgement counts, but a restart may forget it.
func (b *Board) Acknowledge(id, by, note string) error {
	ack := &Ack{By: printable(by, maxBy), Note: printable(note, maxNote)}
	if ack.By == "" {
		return errors.New("acknowledge alarm: by whom?")
	}
	if err := b.acknowledge(id, ack); err != nil {
		return fmt.Errorf("acknowledge alarm %q: %w", printable(id, maxName), err)
	}
	b.cfg.Log.LogAttrs(context.Background(), slog.LevelInfo, "alarm acknowledged", slog.String("id", id), slog.String("by", ack.By), slog.String("note", ack.Note))
	if err := b.save(); err != nil {
		return fmt.Errorf("acknowledge alarm %q: it is acknowledged, but not yet on the disk: %w", id, err)
	}
	return nil
}

func (b *Board) acknowledge(id string, ack *Ack) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.entries {
		if e.active() && e.alarm.ID() == id {
			ack.At = b.now()
			e.alarm.Ack = ack
			if e.own && e.alarm.Name == StateDamaged { // to know of it is all that there is to do
				b.clear(e)
			}
			b.changed()
			return nil
		}
	}
	return ErrUnknown
}

// Active returns the alarms that are there: the worst first, of these the oldest first.
func (b *Board) Active() []Alarm {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []Alarm
	for _, e := range b.entries {
		if e.active() {
			all = append(all, e.alarm.clone())
		}
	}
	slices.SortFunc(all, Alarm.compare)
	return all
}

// changed wakes whoever sends and whoever writes the state file.
func (b *Board) changed() {
	for _, o := range b.outlets {
		o.plan = nil
		poke(o.wake)
	}
	poke(b.dirty)
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it is awake
	}
}
