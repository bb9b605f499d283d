package main

import (
	"path/filepath"
	"strconv"
	"strings"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/client"
	"github.com/prooftrail/prooftrail/verifier/event"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

// killSource begins the sources of TestKill's senders.
const killSource = "cron://kill/"

// keptLog is a log as an auditor has read it, entry by entry.
type keptLog struct {
	leaves []verifier.Hash
	roots  []verifier.Hash // by size
	tree   verifier.CompactRange
	seen   map[string]answered // by source and id
	seq    map[string]uint64   // by source: of its last event

	whole   int // how often all of it was read
	atWhole int // entries then
}

// check looks at the log. The audit, which carries its state from kill to kill, says
// verified: the head extends the one before, every entry and every opening holds.
// Every event that was ever answered is there, where the answer said; none is there
// twice; no source's seq has a gap; and every head that was ever served is one of this
// history. Entries that an earlier check has read are covered by the audit's
// consistency proof; all of them are read again at the end and each time that the log
// has doubled, so that the work grows with the log and not with its square.
func (k *killRun) check(s *server, last bool) {
	k.t.Helper()
	l := &k.log
	whole := last || len(l.leaves) >= 2*l.atWhole
	source, err := verifier.NewHTTPLog(verifier.HTTPConfig{URL: s.url + "/logs/audit", Token: k.tokens["read"]})
	if err != nil {
		k.t.Fatal(err)
	}
	report, err := verifier.Audit(k.t.Context(), verifier.AuditConfig{
		Source: source, Openings: source, Policy: k.policy, State: verifier.FileState(filepath.Join(filepath.Dir(k.dir), "audit.state")), FromStart: whole})
	if err != nil {
		k.t.Fatalf("audit: %v\n%+v", err, report)
	}
	history := verifier.HistoryExtends
	if l.whole == 0 {
		history = verifier.HistoryFirst
	}
	if o := report.Openings; report.History.Status != history || report.StoppedAt != nil ||
		report.OpeningsFrom+o.Verified != report.Size || whole && report.OpeningsFrom != 0 {
		k.t.Fatalf("audit: %+v, openings %+v", report, report.Openings)
	}
	before := len(l.leaves)
	if whole {
		*l = keptLog{whole: l.whole + 1, atWhole: int(report.Size), roots: []verifier.Hash{new(verifier.CompactRange).Root()}, seen: map[string]answered{}, seq: map[string]uint64{}}
	}
	k.read(s, report.Size)
	if len(l.leaves) < before {
		k.t.Fatalf("the log had %d entries and has %d", before, len(l.leaves))
	}
	k.compare(whole)
}

// read reads the entries from the last one read up to size.
func (k *killRun) read(s *server, size uint64) {
	k.t.Helper()
	c, err := client.New(client.Config{URL: s.url, Token: k.tokens["read"]})
	if err != nil {
		k.t.Fatal(err)
	}
	defer c.Close()
	for have := uint64(len(k.log.leaves)); have < size; have = uint64(len(k.log.leaves)) {
		err := c.Openings(k.t.Context(), have, int(min(size-have, 10_000)), func(line client.OpeningLine) error {
			o, err := seal.ParseOpening(line.Opening)
			if err != nil {
				return err
			}
			k.add(line.Index, o.LeafHash(), o.Event())
			return nil
		})
		if err != nil {
			k.t.Fatalf("openings: %v", err)
		}
	}
}

func (k *killRun) add(index uint64, leaf verifier.Hash, e event.Fields) {
	k.t.Helper()
	l := &k.log
	if index != uint64(len(l.leaves)) {
		k.t.Fatalf("entry %d where %d was due", index, len(l.leaves))
	}
	source := e.Text("/source")
	key := source + " " + e.Text("/id")
	if first, ok := l.seen[key]; ok {
		k.t.Errorf("event %s is entry %d and entry %d", key, first.index, index)
	}
	l.seen[key] = answered{index, leaf}
	if strings.HasPrefix(source, killSource) && !k.reorders {
		// A source sends the next events only when the ones before are answered.
		l.seq[source]++
		if got := e.Text("/seq"); got != strconv.FormatUint(l.seq[source], 10) {
			k.t.Errorf("entry %d of %s has seq %s, want %d", index, source, got, l.seq[source])
		}
	}
	l.leaves = append(l.leaves, leaf)
	l.tree.Append(leaf)
	l.roots = append(l.roots, l.tree.Root())
}

// compare holds answers and heads against the log: all of them, or those of the last life.
func (k *killRun) compare(whole bool) {
	k.t.Helper()
	keys := k.fresh
	if whole {
		keys = nil
		for key := range k.answers {
			keys = append(keys, key)
		}
	}
	for _, key := range keys {
		want := k.answers[key]
		if got, ok := k.log.seen[key]; !ok || got != want {
			k.t.Errorf("event %s was answered as entry %d; it is there: %v, as entry %d", key, want.index, ok, got.index)
		}
	}
	k.fresh = nil
	for size, root := range k.heads {
		switch {
		case size >= uint64(len(k.log.roots)):
			k.t.Errorf("a head was signed for size %d; the log has %d entries", size, len(k.log.leaves))
		case root != k.log.roots[size]:
			k.t.Errorf("the head of size %d is of another history", size)
		}
	}
}
