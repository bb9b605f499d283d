package verifier

import (
	"fmt"
	"time"
)

// MaxListed is how many failures, and how many warnings, a report lists; it counts all.
const MaxListed = 100

// Failure is one thing in a log that doesn't hold.
type Failure struct {
	// Index is the first entry concerned, Count how many there are from there on: 1 when the
	// entry is known, 0 when the failure isn't about particular entries.
	Index  uint64 `json:"index"`
	Count  uint64 `json:"count"`
	Reason string `json:"reason"`
}

// String returns "entry 17: reason", "entries 0 to 255: reason" or the reason alone.
func (f Failure) String() string {
	switch f.Count {
	case 0:
		return f.Reason
	case 1:
		return fmt.Sprintf("entry %d: %s", f.Index, f.Reason)
	}
	return fmt.Sprintf("entries %d to %d: %s", f.Index, f.Index+f.Count-1, f.Reason)
}

// AuditReport is what an audit found. It verified the log exactly if Failures is empty and
// the audit returned no error.
type AuditReport struct {
	Origin     string    `json:"origin"`
	Size       uint64    `json:"size"` // of the checkpoint that was audited
	Root       string    `json:"root"` // base64
	Checkpoint string    `json:"checkpoint"`
	Witnesses  Witnesses `json:"witnesses"`

	// From is the first entry that this audit checked; those before it were checked by the
	// one that left the state. Entries is the number of entries checked.
	From    uint64 `json:"from"`
	Entries uint64 `json:"entries"`

	// OpeningsFrom is the first entry whose opening this audit checked, Openings counts what
	// they were; nil without a read token.
	OpeningsFrom uint64         `json:"openings_from,omitempty"`
	Openings     *OpeningCounts `json:"openings,omitempty"`

	FirstTime time.Time `json:"first_time,omitzero"` // of the first leaf checked
	LastTime  time.Time `json:"last_time,omitzero"`  // of the last leaf

	// Failures and Warnings are in the order of their entries, the first MaxListed of them;
	// the counts are of all.
	Failures     []Failure `json:"failures,omitempty"`
	FailureCount uint64    `json:"failure_count"`
	Warnings     []Failure `json:"warnings,omitempty"`
	WarningCount uint64    `json:"warning_count"`

	// Evidence is two signed heads, if the log's head and the remembered one don't go
	// together. Proven says whether it proves a fork to third parties: see Evidence.Check.
	Evidence *Evidence `json:"evidence,omitempty"`
	Proven   bool      `json:"proven,omitempty"`
}

func (r *AuditReport) fail(f Failure) {
	r.FailureCount++
	if len(r.Failures) < MaxListed {
		r.Failures = append(r.Failures, f)
	}
}

func (r *AuditReport) warn(f Failure) {
	r.WarningCount++
	if len(r.Warnings) < MaxListed {
		r.Warnings = append(r.Warnings, f)
	}
}

// err turns the failures into the audit's error.
func (r *AuditReport) err() error {
	switch r.FailureCount {
	case 0:
		return nil
	case 1:
		return failedf("%s", r.Failures[0])
	}
	return failedf("%s (and %d more)", r.Failures[0], r.FailureCount-1)
}
