package personality

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/transparency-dev/merkle/compact"

	"github.com/prooftrail/prooftrail/personality/mysqldb"
	"github.com/prooftrail/prooftrail/personality/pubstore"
)

// MigrateConfig says which log moves, and where to. What is in a storage follows from its
// Config alone, so that every storage can be moved from and to.
type MigrateConfig struct {
	// From is the log as it is. No server may be running on it.
	From Config
	// To is the log as it shall be: a Dir and an Anchor that don't exist yet, and an empty
	// storage. What its Dir and storage hold after an earlier run is gone on with.
	To Config
	// FromPlace and ToPlace name the two for people, without secrets: what is there says so
	// as long as, and once, the log isn't.
	FromPlace, ToPlace string
	// Progress, unless nil, is called after each step of some hundred entries.
	Progress func(MigrateProgress)
}

// MigrateProgress is how far a migration has come.
type MigrateProgress struct {
	Checking   bool // what was copied is being read again and compared; else copied
	Done, Size uint64
}

// Migrated is what Migrate did.
type Migrated struct {
	Origin string
	Size   uint64   // of the head that was taken over, in entries
	Root   [32]byte // its root
	Copied uint64   // entries that this run copied; the others an earlier one had
	// WithoutOpening is how many entries have no opening, here as there.
	WithoutOpening uint64
	Already        bool // an earlier run had done it all
}

var (
	// ErrNotMigrated: the log can't be moved as it is, or not to there. Nothing was taken
	// over, and trying again won't help.
	ErrNotMigrated = errors.New("the log can't be moved")
	// ErrInUse: another process works on the log. Once that has ended it can be moved.
	ErrInUse = errors.New("another process works on the log: stop its servers, and run this again")
)

// unfit makes an ErrNotMigrated.
func unfit(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrNotMigrated, fmt.Errorf(format, args...))
}

// Migrate moves a log to another storage, leaf for leaf: same origin, key, indices, roots,
// openings, tokens and quarantine. It may be ended at any moment, and called again with the same
// configuration, which goes on from there.
//
// A server signs only for a store whose head isn't held (hold.go), whose key it has, and at
// whose anchor it has looked. In the table, S is the old storage and T the new one.
//
//	step                  crash before it            crash after it: what serves, and what the next run does
//	1 open S, publish     S is the log               S. Its newest entries are published, as at each start
//	  all that is stored
//	2 directory of T,     S                          S. The directory of T is there under the name DIR.migrating,
//	  with key and files                             without a storage
//	3 storage of T        S. Perhaps a database      S. T is an empty log whose head is held (arriving): nobody
//	                      without a log: it is       signs there
//	                      made anew
//	4 a batch: openings   S. T is a prefix of S      the same, openings without leaves: they are stored again
//	  a batch: leaves     the same                   the same, leaves past T's head: they are compared with S's
//	  a batch: head       the same                   S. T is a longer prefix of S
//	5 T is proven         S. T has all entries       the same. S may go on and grow: then 4 goes on as well, and
//	                                                 all is proven again
//	6 anchor of T         S                          S. T's anchor is at a head of S: it moves on with the head
//	7 S is held (moved)   S                          nobody: S refuses and shows what is published. The next run
//	                                                 proves T again, and goes on with 8. There is no way back
//	                                                 from here but for the one in 8
//	8 S's tree is ended   nobody                     nobody. Only where several processes may share S: should one
//	                                                 of them have stored an entry, it is S again, see fence
//	9 anchor of S aside   nobody                     nobody. A copy of S from before 7 lacks its anchor, and refuses
//	10 T is held no more  nobody                     T, for who names DIR.migrating. S refuses
//	11 audit.migrate      T                          T, with the entry. It isn't logged twice
//	12 DIR gets its name  T                          T. The next run says that all is done
//
// Between 7 and 10 nobody can sign, and at no time can two: 7 is a compare-and-swap of S's
// head, at the size and root that T has, and 10 one of T's. S's anchor is where S ends, or
// there is no 10: else a copy of S from before 7 has gone on meanwhile. Tokens and the quarantine
// change with the same hold, so that after 7 those of S don't.
func Migrate(ctx context.Context, cfg MigrateConfig) (*Migrated, error) {
	m, err := newMigration(cfg)
	if err != nil {
		return nil, fmt.Errorf("move the log: %w", err)
	}
	// Where one of the disks is full this ends, and its goroutine stays until the process does.
	done, err := unlessFull(m.to.room, func() (*Migrated, error) {
		return unlessFull(m.from.room, func() (*Migrated, error) { return m.run(ctx) })
	})
	if err != nil {
		return nil, fmt.Errorf("move the log: %w", err)
	}
	return done, nil
}

// migration is one run. One goroutine's.
type migration struct {
	cfg      MigrateConfig
	from, to Config
	dir      string // that To.Dir becomes; to.Dir is where it is until then

	// The old storage, as recovery has left it, and its head. Nothing else writes there.
	src     *Service
	srcHead pubstore.SealedHead

	// The new storage, what has been published in it, and what holds its head.
	dst    parts
	params pubstore.Log
	head   pubstore.SealedHead
	folded *compact.Range
	drop   []pubstore.Mark // of the batch published last

	done Migrated

	tiles uint64 // of entries in a batch, at most

	// Tests put faults in.
	change func(old bool, p *parts)
	step   func(name string, f func() error) error
}

func newMigration(cfg MigrateConfig) (*migration, error) {
	m := &migration{cfg: cfg, tiles: copyTiles, step: func(_ string, f func() error) error { return f() }, change: func(bool, *parts) {}}
	m.cfg.FromPlace, m.cfg.ToPlace = cutText(cfg.FromPlace, maxPlace), cutText(cfg.ToPlace, maxPlace)
	var err error
	if m.from, err = cfg.From.withDefaults(); err != nil {
		return nil, fmt.Errorf("the old log: %w", err)
	}
	if m.to, err = cfg.To.withDefaults(); err != nil {
		return nil, fmt.Errorf("the new log: %w", err)
	}
	m.dir = m.to.Dir
	m.to.room = newRoom(m.to, filepath.Dir(m.dir)) // its directory isn't there yet
	m.to.Dir += ".migrating"
	if sameFile(m.from.Anchor+movedSuffix, m.to.Anchor) || within(m.dir, m.to.Anchor) {
		return nil, unfit("the anchor %s can't be there: it would be in the new directory, or where the old one is put aside", m.to.Anchor)
	}
	if _, err := os.Stat(filepath.Dir(m.to.Anchor)); err != nil {
		return nil, fmt.Errorf("the new anchor's directory: %w", err)
	}
	if sameFile(m.from.Anchor, m.to.Anchor) {
		return nil, unfit("the anchor of both is %s: name another one for the new log", m.to.Anchor)
	}
	if within(m.from.Dir, m.dir) {
		return nil, unfit("%s is in the old log's directory: name another one for the new log", m.dir)
	}
	return m, m.to.room.atStart()
}

// within reports whether a path is below a directory.
func within(dir, path string) bool {
	absDir, errDir := filepath.Abs(dir)
	absPath, errPath := filepath.Abs(path)
	return errDir == nil && errPath == nil && strings.HasPrefix(absPath, absDir+string(filepath.Separator))
}

// sameFile reports whether two names are of one file, which may not be there yet.
func sameFile(a, b string) bool {
	if a == b {
		return true
	}
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

func (m *migration) run(ctx context.Context) (_ *Migrated, err error) {
	defer func() { err = errors.Join(err, m.close(ctx)) }()
	if err := m.openSource(ctx); err != nil {
		return nil, err
	}
	m.done = Migrated{Origin: m.src.params.Origin, Size: m.srcHead.Size, Root: m.srcHead.Root}
	moved := m.srcHead.Hold != ""
	switch _, err := os.Lstat(m.dir); {
	case err == nil && moved:
		return &m.done, m.already(ctx)
	case err == nil:
		return nil, fmt.Errorf("%s: %w: a log moves to a new directory", m.dir, fs.ErrExist)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	if err := m.openTarget(ctx, moved); err != nil {
		return nil, fmt.Errorf("the new log: %w", err)
	}
	if m.head.Hold != "" {
		if err := m.takeOver(ctx, moved); err != nil {
			return nil, err
		}
	}
	return &m.done, m.finish(ctx)
}

// close closes what is open.
func (m *migration) close(ctx context.Context) (err error) {
	if m.src != nil {
		m.src.endTurn(ctx)
		err = m.src.parts.closeAll()
	}
	if m.dst.store != nil {
		err = errors.Join(err, m.dst.closeAll())
	}
	return err
}

// openSource opens the old log, and keeps others from writing to it: an embedded one by
// the database's lock, and one in a database by keeping the turn.
func (m *migration) openSource(ctx context.Context) error {
	p, err := openParts(ctx, m.from)
	if errors.Is(err, syscall.EAGAIN) {
		return fmt.Errorf("%w (%w)", ErrInUse, err)
	}
	if err != nil {
		return err
	}
	m.change(true, &p)
	if err := m.recoverSource(ctx, p); err != nil {
		return errors.Join(err, p.closeAll())
	}
	return nil
}

func (m *migration) recoverSource(ctx context.Context, p parts) error {
	for _, t := range []turns{p.sequencing, p.publishing} {
		if t == nil {
			continue
		}
		if held, err := t.Held(ctx); err != nil || held {
			return errors.Join(err, inUseIf(held))
		}
	}
	src, err := openRecovered(ctx, m.from, p)
	if err != nil {
		return err
	}
	if src.fault.Load() == nil { // where a cluster keeps the tree, opening leaves what isn't integrated in time
		err = src.publishStored(ctx)
	}
	if fault := src.fault.Load(); fault != nil && !errors.Is(fault, errMoved) {
		src.endTurn(ctx)
		return unfit("a log that refuses to go on stays where it is: %s", fault.Reason)
	}
	if err == nil {
		m.srcHead, err = p.store.Head(ctx)
	}
	if err == nil && m.srcHead.Head != src.published.Load().head {
		err = ErrInUse
	}
	if err == nil {
		err = src.parts.keys.checkHead(m.srcHead)
	}
	if err != nil {
		src.endTurn(ctx)
		return err
	}
	m.src = src
	return nil
}

func inUseIf(inUse bool) error {
	if inUse {
		return ErrInUse
	}
	return nil
}

// alone returns ErrInUse if another process wants to write to the old log. It would get
// its turn by force in the end, which harms nothing (see takeOver), but the log moves on.
func (m *migration) alone(ctx context.Context) error {
	if !m.src.shared() {
		return nil
	}
	wanted, err := m.src.parts.sequencing.Wanted(ctx)
	return errors.Join(err, inUseIf(wanted))
}

// already checks that the log has moved to where it was to.
func (m *migration) already(ctx context.Context) error {
	old, err := os.ReadFile(filepath.Join(m.from.Dir, keyFile))
	if err != nil {
		return err
	}
	key, err := os.ReadFile(filepath.Join(m.dir, keyFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if h := parseHold(m.srcHead.Hold); h.Place != m.cfg.ToPlace || !bytes.Equal(old, key) {
		return unfit("this log has moved to %s", h.Place)
	}
	m.done.Already = true
	there := m.to
	there.Dir = m.dir
	p, err := openParts(ctx, there)
	if errors.Is(err, syscall.EAGAIN) {
		return nil // a server has it open
	}
	if err != nil {
		return fmt.Errorf("the new log: %w", err)
	}
	head, err := p.store.Head(ctx)
	if err = errors.Join(err, p.closeAll()); err != nil {
		return fmt.Errorf("the new log: %w", err)
	}
	if head.Hold != "" {
		return unfit("%s has its name, but the move there hasn't ended: rename it to %s and run this again", m.dir, m.to.Dir)
	}
	return nil
}

// openTarget opens the new log as an earlier run has left it, or makes it. Once the old one
// has moved, it is only opened.
func (m *migration) openTarget(ctx context.Context, moved bool) error {
	place := parseHold(m.srcHead.Hold).Place
	if _, err := os.Lstat(m.to.Dir); moved && err != nil {
		return unfit("this log has moved to %s, and %s isn't there: %w", place, m.to.Dir, err)
	}
	if err := m.copyFiles(); err != nil {
		return err
	}
	p, err := openParts(ctx, m.to)
	if err != nil && notMade(err) && !moved {
		if err := m.step("create", func() error { return m.createTarget(ctx) }); err != nil {
			return err
		}
		p, err = openParts(ctx, m.to)
	}
	var other *otherLogError
	if errors.As(err, &other) {
		return unfit("what is stored there is another log: %w", err)
	}
	if errors.Is(err, errRecord) {
		return unfit("somebody wrote to it: %w", err)
	}
	if err != nil && moved && notMade(err) {
		return unfit("this log has moved to %s, and nothing of it is there: %w", place, err)
	}
	if err != nil {
		return err
	}
	m.change(false, &p)
	m.dst = p
	if m.params, err = p.store.Log(ctx); err != nil {
		return err
	}
	if moved && m.params.TreeID != parseHold(m.srcHead.Hold).TreeID {
		return unfit("this log has moved to %s, which is elsewhere", place)
	}
	return m.checkTarget(ctx, moved)
}

// notMade reports whether opening a storage failed because no log has been made in it.
func notMade(err error) bool {
	for _, none := range []error{fs.ErrNotExist, pubstore.ErrNotFound, mysqldb.ErrSchema, pebble.ErrDBDoesNotExist} {
		if errors.Is(err, none) {
			return true
		}
	}
	return false
}
