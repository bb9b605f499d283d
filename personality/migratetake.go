package personality

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/prooftrail/prooftrail/personality/pubstore"
	"github.com/prooftrail/prooftrail/personality/tree"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// movedSuffix is what the anchor of a log that has moved is called by.
const movedSuffix = ".moved"

// takeOver makes the new storage the log: steps 4 to 9 of the table at Migrate. Until the
// old head is held the old log may go on; from then on only the new one.
func (m *migration) takeOver(ctx context.Context, moved bool) error {
	var err error
	if moved {
		err = m.copyRecords(ctx) // one may have come in before the hold
	} else {
		err = m.copyAll(ctx)
	}
	if err != nil {
		return err
	}
	if err := m.prove(ctx); err != nil {
		return err
	}
	if err := m.keepCheckpoint(ctx); err != nil {
		return err
	}
	if err := m.step("anchor", func() error { return m.anchor(ctx) }); err != nil {
		return fmt.Errorf("the new anchor: %w", err)
	}
	// From here on nobody can sign until the end: an interrupt mustn't come in between.
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), takeOverTimeout)
	defer stop()
	if !moved {
		if err := m.holdSource(ctx); err != nil {
			return fmt.Errorf("end the old log: %w", err)
		}
	}
	if err := m.begin(ctx); err != nil && m.srcHead.Hold != "" {
		return fmt.Errorf("the old log has ended, and no server goes on until this run succeeds: %w", err)
	} else if err != nil {
		return err
	}
	return nil
}

// takeOverTimeout bounds steps 7 to 10, which an interrupt doesn't end.
const takeOverTimeout = time.Minute

// begin makes the new storage the log, once the old one is held.
func (m *migration) begin(ctx context.Context) error {
	if err := m.fence(ctx); err != nil {
		return fmt.Errorf("end the old log: %w", err)
	}
	// Nobody can change a token of a log that is held, nor its quarantine.
	if err := errors.Join(m.copyRecords(ctx), m.proveRecords(ctx), m.copyQuarantine(ctx)); err != nil {
		return err
	}
	if err := m.step("aside", func() error { return m.anchorAside(ctx) }); err != nil {
		return fmt.Errorf("put the old anchor aside: %w", err)
	}
	free := m.src.parts.keys.sealHead(m.head.Head)
	if err := m.dst.store.SetHold(ctx, m.head, free); err != nil {
		return fmt.Errorf("begin the new log: %w", err)
	}
	m.head = free
	return nil
}

// keepCheckpoint keeps the head's checkpoint in both storages: the old one shows it from
// now on, and the new one may before it signs its first.
func (m *migration) keepCheckpoint(ctx context.Context) error {
	at := m.src.published.Load()
	if at.note == nil {
		return nil
	}
	from := keeper{store: m.src.store, vkey: m.params.VKey}
	if err := from.keep(ctx, at.note, at.head.Size); err != nil {
		return err
	}
	to := keeper{store: m.dst.store, vkey: m.params.VKey}
	return to.keep(ctx, from.note, from.size) // with the cosignatures that it may have
}

// anchor makes the new log's anchor at the head, or moves one that an earlier run has made.
// It appears whole or not at all.
func (m *migration) anchor(ctx context.Context) (err error) {
	if _, err := os.Lstat(m.to.Anchor); errors.Is(err, fs.ErrNotExist) {
		part := m.to.Anchor + partSuffix
		if err := os.Remove(part); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := createAnchor(part, m.params.VKey, m.head.Head); err != nil {
			return err
		}
		if err := os.Rename(part, m.to.Anchor); err != nil {
			return err
		}
		return syncDir(filepath.Dir(m.to.Anchor))
	}
	a, err := openAnchor(m.to.fs, m.to.Anchor, m.params.VKey, false)
	if err != nil {
		return unfit("%w", err)
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	at, err := a.Load(ctx)
	if errors.Is(err, ErrAnchor) {
		return unfit("%w", err)
	}
	if err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(m.to.Anchor)); err != nil { // an earlier run may have been ended before
		return err
	}
	if at.Size <= m.head.Size {
		older, err := rangeAt(ctx, m.dst.store, at.Size)
		if err != nil {
			return err
		}
		if root, err := rootOf(older); err != nil || root == at.Root {
			return errors.Join(err, a.Move(ctx, m.head.Head))
		}
	}
	return unfit("%s is at size %d and root %x, which aren't the old log's", m.to.Anchor, at.Size, at.Root)
}

// holdSource ends the old log: from here on no server publishes there, for it compares and
// swaps the same row. One that runs finds that out, and refuses.
func (m *migration) holdSource(ctx context.Context) error {
	if err := m.alone(ctx); err != nil {
		return err
	}
	hold, err := hold{Kind: holdMoved, Place: m.cfg.ToPlace, TreeID: m.params.TreeID}.text()
	if err != nil {
		return err
	}
	held := m.src.parts.keys.sealHeld(m.srcHead.Head, hold)
	err = m.src.store.SetHold(ctx, m.srcHead, held)
	var crossed *pubstore.HeadMovedError
	if errors.As(err, &crossed) {
		return fmt.Errorf("%w (%w)", ErrInUse, err)
	}
	if err != nil {
		return err
	}
	m.srcHead = held
	return nil
}

// fence stores a leaf that nobody publishes behind the old log's last entry, where other
// processes may write to it: one that stopped in the middle of a batch, and goes on after
// the hold, would otherwise store that batch and answer for it. Each index is given once, and
// so it finds its index taken. Where such a batch came first, the hold is lifted: its
// entries have to be published and copied.
func (m *migration) fence(ctx context.Context) error {
	if !m.src.shared() {
		return nil
	}
	index := m.srcHead.Size
	leaf := tree.Leaf{Index: index, Value: []byte("prooftrail.fence/1"), IdentityHash: m.src.parts.keys.fenceIdentity(index)}
	there, err := m.src.tree.Leaves(ctx, index, 1)
	if err == nil && len(there) == 0 {
		failed := m.src.tree.Append(ctx, []tree.Leaf{leaf})
		if failed == nil {
			return nil
		}
		if there, err = m.src.tree.Leaves(ctx, index, 1); err == nil && len(there) == 0 {
			err = failed
		}
	}
	if err != nil {
		return err
	}
	if there[0].IdentityHash == leaf.IdentityHash && bytes.Equal(there[0].Value, leaf.Value) {
		return nil
	}
	marks, err := m.src.marksAt(ctx, index)
	if err != nil {
		return err
	}
	if !hasLeaf(marks, index, pubstore.LeafID{Hash: leafHashOf(there[0].Value), Identity: there[0].IdentityHash}) {
		return nil // it isn't this log's, nobody was answered for it, and the place is taken
	}
	free := m.src.parts.keys.sealHead(m.srcHead.Head)
	if err := m.src.store.SetHold(ctx, m.srcHead, free); err != nil {
		return errors.Join(ErrInUse, err)
	}
	m.srcHead = free
	return ErrInUse
}

// finish does what is left when the new storage is the log: steps 11 and 12.
func (m *migration) finish(ctx context.Context) error {
	if err := m.step("event", func() error { return m.logMigrate(ctx) }); err != nil {
		return fmt.Errorf("open the new log: %w", err)
	}
	return m.step("name", func() error {
		if err := os.Rename(m.to.Dir, m.dir); err != nil {
			return err
		}
		return syncDir(filepath.Dir(m.dir))
	})
}

// logMigrate opens the new log as a server does, and logs the move as its first own entry.
func (m *migration) logMigrate(ctx context.Context) (err error) {
	p := m.dst
	m.dst = parts{}
	if err := p.anchor.Close(); err != nil {
		return errors.Join(err, p.closeAll())
	}
	p.anchor = openAnchorOrExplain(m.to.fs, m.to.Anchor, m.params.VKey, p.sequencing != nil)
	svc, err := open(ctx, m.to, p)
	if err != nil {
		return errors.Join(err, p.closeAll())
	}
	defer func() { err = errors.Join(err, svc.Close(ctx)) }()
	return svc.logMigrate(ctx, m.srcHead.Size, m.cfg.FromPlace, m.cfg.ToPlace, m.src.params.TreeID)
}

// logMigrate logs that the log, which had this size, has moved here; once.
func (s *Service) logMigrate(ctx context.Context, size uint64, from, to string, oldTree int64) error {
	if err := s.refusing(); err != nil {
		return err
	}
	id := fmt.Sprintf("migrate-%d-%d", size, oldTree)
	if logged, err := s.lookUp(ctx, s.identity(OwnTenant, s.ownSource(), id)); err != nil || logged != nil {
		return err
	}
	_, err := s.logOwn(ctx, OperatorCaller(), OwnTenant, Integrated, event.Event{
		ID: id, Action: ActionMigrate, Outcome: "success", Target: []event.Target{{Type: "log", ID: s.params.Origin}},
		Details: map[string]any{"from": from, "to": to, "size": strconv.FormatUint(size, 10)},
	})
	return err
}

// anchorAside renames the old log's anchor, before the new log begins: a copy of the old
// storage from before it moved doesn't know of that, and must not be taken for the log. An
// anchor that is ahead says that such a copy already was.
func (m *migration) anchorAside(ctx context.Context) error {
	aside := m.from.Anchor + movedSuffix
	path := m.from.Anchor
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		path = aside // an earlier run did
	}
	a, err := openAnchor(m.from.fs, path, m.src.params.VKey, false)
	if err != nil {
		return unfit("the old log's anchor: %w", err)
	}
	at, err := a.Load(ctx)
	if err = errors.Join(err, a.Close()); err != nil {
		return unfit("the old log's anchor: %w", err)
	}
	if at != m.srcHead.Head {
		return unfit("the old log's anchor %s is at size %d and root %x, and its storage at size %d and root %x: "+
			"the storage isn't the one that the log has ended in", path, at.Size, at.Root, m.srcHead.Size, m.srcHead.Root)
	}
	if path == aside {
		return nil
	}
	if err := os.Rename(path, aside); err != nil {
		return err
	}
	return syncDir(filepath.Dir(aside))
}
