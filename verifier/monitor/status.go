package monitor

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/monitor/gossip"
)

// Status is what a monitor knows now.
type Status struct {
	Started  time.Time
	Interval time.Duration
	Logs     []LogStatus
	Peers    []PeerStatus
	Evidence []EvidenceStatus // about all logs
}

// LogStatus is what it knows of a log.
type LogStatus struct {
	Origin string
	ID     string // gossip.LogID
	URL    string
	// Checked is the newest head whose entries were all re-hashed; Seen the newest that is known
	// to extend it; Served what the log answered last. Nil: none.
	Checked, Seen, Served *verifier.Checkpoint
	ServedAt              time.Time // of the last good answer
	LookedAt              time.Time // when the last look was over, whatever came of it; zero: none yet
	// Err is why the last look brought no head, nil if it did.
	Err error
	// Cosigned are the good cosignatures of the served head; Quorum says whether they are enough,
	// and Witnesses how many the policy names.
	Cosigned  []verifier.Cosignature
	Quorum    verifier.WitnessStatus
	Witnesses int
	// Read counts the entries that were read and re-hashed so far; it runs ahead of Checked.
	Read    uint64
	ReadErr error // why reading stopped last; nil if it didn't
	Grown   time.Time
	Heads   Counts
	Forked  bool  // there is evidence against it
	BookErr error // why what was seen couldn't be written down or read back last; nil if it could
	// Mirrored is the size up to which the mirror is complete, 0 without one.
	Mirrored uint64
}

// PeerStatus is what it knows of a peer.
type PeerStatus struct {
	Name string
	Kind Kind
	URL  string
	OK   time.Time // of its last answer; of the start, if there was none
	Err  error     // of the last round, nil if it was good
	// Views is what its heads are, by origin: gossip.Agrees, …; "" for a log that it has no head
	// of.
	Views map[string]gossip.Verdict
}

// EvidenceStatus is one evidence file.
type EvidenceStatus struct {
	ID     string // gossip.EvidenceID
	File   string // its path
	Origin string
	Fork   *verifier.Fork
}

// Status says what the monitor knows now. Logs and peers are in the order of the configuration.
func (m *Monitor) Status() Status {
	s := Status{Started: m.started, Interval: m.cfg.Interval}
	for _, f := range m.logs {
		s.Logs = append(s.Logs, f.status())
	}
	for _, p := range m.peers {
		s.Peers = append(s.Peers, p.status())
	}
	for _, e := range m.evidence.of("") {
		s.Evidence = append(s.Evidence, EvidenceStatus{e.ID, m.evidence.path(e.ID), e.Origin, e.fork})
	}
	slices.SortStableFunc(s.Evidence, func(a, b EvidenceStatus) int { return strings.Compare(a.Origin, b.Origin) })
	return s
}

func (f *follower) status() LogStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := LogStatus{
		Origin: f.origin, ID: f.id, URL: f.url, ServedAt: f.served.at, Err: f.served.err,
		Cosigned: f.served.witnesses.Cosigned, Quorum: f.served.witnesses.Status, Witnesses: len(f.policy.Witnesses()),
		Read: f.reading.done, ReadErr: f.reading.err, Grown: f.state.Grown, Heads: f.counts,
		Forked: len(f.m.evidence.of(f.origin)) > 0, LookedAt: f.looked, BookErr: f.stores(),
	}
	for _, h := range []struct {
		from *Head
		to   **verifier.Checkpoint
	}{{f.checked, &s.Checked}, {f.seen, &s.Seen}, {f.served.head, &s.Served}} {
		if h.from != nil {
			*h.to = &h.from.Checkpoint
		}
	}
	if f.mirror != nil {
		s.Mirrored = f.mirror.size()
	}
	return s
}

func (p *peer) status() PeerStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := PeerStatus{Name: p.cfg.Name, Kind: p.cfg.Kind, URL: p.client.URL(), OK: p.ok, Err: p.err, Views: map[string]gossip.Verdict{}}
	maps.Copy(s.Views, p.views)
	return s
}
