package verifier

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// AuditConfig says what to audit.
type AuditConfig struct {
	// Source is where checkpoint, tiles and bundles come from. Required.
	Source Source
	// Policy names the log and its witnesses. Required.
	Policy *Policy
	// Openings, if not nil, has each opening checked too. Entries that the server says are
	// other tenants' are counted, not believed: the next audit with this state asks for them,
	// and for all behind them, again.
	Openings OpeningSource
	// SourceKeys, if not nil, has the source signature of each opening checked too: it takes Openings. Entries
	// before the state's mark were checked with the keys of that audit, if any.
	SourceKeys *SourceKeys
	// Checkpoint, if not nil, is the signed note of the head to audit. Else it is the one that
	// the source serves.
	Checkpoint []byte
	// State is where the audit remembers how far it came and which head it saw: [FileState].
	// Nil: nothing is remembered, and the audit begins at entry 0.
	State State
	// FromStart checks every entry, however much of the log the state says was checked; the
	// remembered head still has to be consistent. An opening that was changed after an
	// audit had checked it is found in this way only.
	FromStart bool
	// StrictTime makes a leaf time before the one of the entry before it a failure. Else it
	// is a warning: the leaf's time is the sequencer's clock, which may be set back.
	StrictTime bool
	// Workers is how many requests are under way at once. Default 8: with fewer, cores wait
	// for answers even on the log's own machine.
	Workers int
	// SaveEvery is after how many entries the state is saved on the way. Default 1,048,576.
	SaveEvery uint64
	// Now is the time at which a source's next heartbeat may be overdue. Default: that of the last
	// leaf checked, so that nothing is said of a log that has fallen silent as a whole.
	Now time.Time
	// Progress, if not nil, is called from one goroutine each time some thousand entries
	// were checked, and at the end.
	Progress func(Progress)
}

// Progress says how far an audit has come.
type Progress struct {
	Done     uint64 // entries [0, Done) are checked, including those of earlier audits
	Size     uint64
	Failures uint64
}

// unitTiles is the most tiles that one worker checks at a time.
const unitTiles = 16

// Audit checks a whole log from its tiles: the head's signature; that the head extends the
// remembered one; every leaf, re-hashed, against the tiles; every tile against the tiles
// below it; the root, recomputed, against the signed one; the form and the order in time
// of the leaves; and each opening against its leaf.
//
// It goes on after a failure as long as it can, so that one report names them all. The
// error is nil exactly if the whole log holds; it matches [ErrFailed] if something
// doesn't; any other error means that the audit could not be finished, with the report, if
// not nil, saying what was found until then. Whether the witnesses' quorum is met is for
// the caller to judge from the report.
//
// Memory doesn't grow with the log.
func Audit(ctx context.Context, cfg AuditConfig) (*AuditReport, error) {
	if cfg.Source == nil || cfg.Policy == nil {
		return nil, errors.New("audit: no source or no policy")
	}
	if cfg.SourceKeys != nil && cfg.Openings == nil {
		return nil, errors.New("audit: the signatures of sources are in openings, and none are asked for")
	}
	if cfg.Workers <= 0 {
		cfg.Workers = 8
	}
	if cfg.SaveEvery == 0 {
		cfg.SaveEvery = 1 << 20
	}
	a := &auditor{cfg: cfg, tiles: Tiles(cfg.Source)}
	err := a.run(ctx)
	if a.report != nil {
		a.report.stop()
	}
	if err == nil || errors.Is(err, errStop) {
		err = a.report.err()
	}
	return a.report, err
}

// auditor is one audit.
type auditor struct {
	cfg    AuditConfig
	tiles  TileReader
	report *AuditReport

	note []byte     // the signed note being audited
	head Checkpoint // what it says

	old     *auditState // nil: nothing remembered
	oldHead Checkpoint
	history History
	// unproven: the tiles didn't show that head extends oldHead. Until the entries do, the
	// state keeps the old head.
	unproven bool
}

func (a *auditor) run(ctx context.Context) error {
	if err := a.loadState(); err != nil {
		return err
	}
	if err := a.fetchHead(ctx); err != nil {
		return err
	}
	if done, err := a.checkRemembered(ctx); done || err != nil {
		return err
	}
	start, opened := a.marks()
	rootHeld, err := a.pass(ctx, start, opened)
	if err != nil || rootHeld || start == nil {
		return err
	}
	// What an earlier audit saw and what the log serves now don't lead to the signed root:
	// look at everything again, so that the report can name the place.
	a.resetReport()
	_, err = a.pass(ctx, nil, nil)
	return err
}

func (a *auditor) loadState() error {
	if a.cfg.State == nil {
		a.history = History{Status: HistoryNone}
		return nil
	}
	b, err := a.cfg.State.Load()
	if err == nil && b != nil {
		if a.old, err = parseState(b); err == nil {
			a.oldHead, err = a.old.check(a.cfg.Policy)
		}
	}
	if err != nil {
		// Not ErrFailed, whatever it wraps: it is our memory that is bad.
		return fmt.Errorf("audit: %s: %v", a.cfg.State, err)
	}
	a.history = History{Status: HistoryFirst}
	if a.old != nil {
		a.history = History{HistoryUnproven, a.oldHead.Size}
	}
	return nil
}

func (a *auditor) fetchHead(ctx context.Context) (err error) {
	a.note = a.cfg.Checkpoint
	if a.note == nil {
		if a.note, err = a.cfg.Source.Get(ctx, "checkpoint", MaxNoteBytes); err != nil {
			return fmt.Errorf("audit: %w", err)
		}
	}
	head, witnesses, err := a.cfg.Policy.Verify(a.note)
	if err != nil {
		a.report = &AuditReport{Origin: a.cfg.Policy.Origin(), Checkpoint: string(a.note), History: a.history}
		a.report.fail(Failure{Reason: err.Error()})
		return errStop
	}
	a.head = head
	a.report = &AuditReport{Witnesses: witnesses}
	a.resetReport()
	return nil
}

// resetReport leaves in the report only what the head says.
func (a *auditor) resetReport() {
	a.report = &AuditReport{
		Origin: a.head.Origin, Size: a.head.Size, Root: b64.EncodeToString(a.head.Root[:]),
		Checkpoint: string(a.note), Witnesses: a.report.Witnesses, History: a.history,
	}
}

// checkRemembered compares the served head with the remembered one, from tiles alone, and
// reports whether that settles the matter.
func (a *auditor) checkRemembered(ctx context.Context) (done bool, err error) {
	if a.old == nil {
		return false, nil
	}
	old := a.oldHead
	switch {
	case a.head.Size < old.Size:
		a.older(ctx)
		return true, nil
	case a.head.Size == old.Size && a.head.Root != old.Root:
		a.accuse(ctx, fmt.Sprintf("two heads of size %d with different roots are signed", old.Size))
		return true, nil
	}
	proof, err := ProveConsistency(ctx, a.tiles, old.Size, a.head.Size)
	if err != nil && !structural(err) {
		return false, fmt.Errorf("audit: %w", err)
	}
	if err == nil && CheckConsistency(old.Size, a.head.Size, proof, old.Root, a.head.Root) == nil {
		a.history.Status = HistoryExtends
		a.report.History = a.history
		return false, nil
	}
	if e, proven := a.gather(ctx); proven {
		a.forked(e)
		return true, nil
	}
	// The tiles prove neither one thing nor the other: begin at entry 0 and recompute both
	// roots from the entries, to find where it breaks.
	a.cfg.FromStart, a.unproven = true, true
	return false, nil
}

// older reports that the head served is of a smaller size than the remembered one. A stale
// copy of an honest log does that too.
func (a *auditor) older(ctx context.Context) {
	e, proven := a.gather(ctx)
	if proven {
		a.forked(e)
		return
	}
	a.report.Evidence, a.report.History.Status = e, HistoryOlder
	a.report.fail(Failure{Reason: fmt.Sprintf("an older head than the remembered one is served: size %d, and size %d was seen; this alone doesn't show a false history",
		a.head.Size, a.oldHead.Size)})
}

// forked reports two heads of which none is a prefix of the other.
func (a *auditor) forked(e *Evidence) {
	a.report.Evidence, a.report.Proven, a.report.History.Status = e, true, HistoryContradicts
	a.report.fail(Failure{Reason: fmt.Sprintf("head of size %d is not consistent with the remembered head of size %d: the log forked", a.head.Size, a.oldHead.Size)})
}

// accuse reports a failure with both notes.
func (a *auditor) accuse(ctx context.Context, reason string) {
	a.report.fail(Failure{Reason: reason})
	a.report.Evidence, a.report.Proven = a.gather(ctx)
	a.report.History.Status = HistoryContradicts
}

// gather makes evidence of the remembered head and the one served, as good as it can be had,
// and says whether it proves a fork.
func (a *auditor) gather(ctx context.Context) (e *Evidence, proven bool) {
	e, err := GatherEvidence(ctx, a.tiles, a.cfg.Policy, a.old.head, a.note)
	if e == nil {
		e = &Evidence{First: a.old.head, Second: a.note}
	}
	if err == nil {
		_, err = e.Check(a.cfg.Policy)
	}
	return e, err == nil
}

// marks returns from where to go on; with openings, from where they are checked too.
func (a *auditor) marks() (start, opened *mark) {
	if a.old == nil || a.cfg.FromStart {
		return nil, nil
	}
	if a.cfg.Openings != nil {
		return a.old.opened, a.old.opened
	}
	return a.old.checked, a.old.opened
}

// save moves the state forward to its marks, unless something failed. Opened may lie before
// checked: see fold.opened.
func (a *auditor) save(m, opened *mark, complete bool) error {
	if a.cfg.State == nil || a.report.FailureCount > 0 {
		return nil
	}
	s := &auditState{head: a.note, checked: m}
	if a.cfg.Openings != nil {
		s.opened = opened
	} else if a.old != nil {
		s.opened = a.old.opened
	}
	// An audit that began again keeps the farther mark of the earlier one until it has passed
	// it. An earlier audit may have been shown what this one wasn't: then for good.
	if a.old != nil && !complete && a.old.checked.tree.Size() > m.tree.Size() {
		s.checked = a.old.checked
	}
	if s.opened != nil && a.old != nil && a.old.opened != nil && a.old.opened.tree.Size() > s.opened.tree.Size() {
		s.opened = a.old.opened
	}
	b, err := s.bytes()
	if err == nil {
		err = a.cfg.State.Save(b)
	}
	if err != nil {
		return fmt.Errorf("audit: save %s: %w", a.cfg.State, err)
	}
	return nil
}
