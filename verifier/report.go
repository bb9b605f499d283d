package verifier

import (
	"fmt"
	"strings"
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

// clip cuts a reason to what a report repeats of a log's words: nobody fills a report, or a memory,
// with one reason.
func clip(s string) string {
	const most = 400
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// HistoryStatus says what the head was compared with.
type HistoryStatus string

const (
	// HistoryNone: there is no state file. An old or a second history would not be noticed.
	HistoryNone HistoryStatus = "no-state"
	// HistoryFirst: the state file was begun, so there was no earlier head to compare with.
	HistoryFirst HistoryStatus = "first"
	// HistoryExtends: the head extends the remembered one, or is the same.
	HistoryExtends HistoryStatus = "extends"
	// HistoryOlder: the head is of a smaller size than the remembered one. FAILED, but no proof
	// of a false history.
	HistoryOlder HistoryStatus = "older"
	// HistoryContradicts: the head doesn't extend the remembered one. FAILED.
	HistoryContradicts HistoryStatus = "contradicts"
	// HistoryUnproven: there is a remembered head, and the audit didn't get as far as to know.
	// It FAILED or was not finished.
	HistoryUnproven HistoryStatus = "unproven"
)

// History says what an audit knows about the log's past beyond the head that it was shown.
type History struct {
	Status HistoryStatus `json:"status"`
	// Size is that of the remembered head, 0 if there is none.
	Size uint64 `json:"remembered_size,omitempty"`
}

// AuditReport is what an audit found. It verified the log exactly if Failures is empty and
// the audit returned no error.
type AuditReport struct {
	Origin     string    `json:"origin"`
	Size       uint64    `json:"size"` // of the checkpoint that was audited
	Root       string    `json:"root"` // base64
	Checkpoint string    `json:"checkpoint"`
	Witnesses  Witnesses `json:"witnesses"`

	History History `json:"history"`

	// From is the first entry that this audit checked; those before it were checked by the
	// one that left the state. Entries is the number of entries checked. If that isn't all,
	// because the log's files are broken there or the audit was ended, StoppedAt is the first
	// that wasn't; of those behind it some may have been looked at, and be among Failures.
	From      uint64  `json:"from"`
	Entries   uint64  `json:"entries"`
	StoppedAt *uint64 `json:"stopped_at,omitempty"`

	// OpeningsFrom is the first entry whose opening this audit checked, Openings counts what
	// they were; nil without a read token.
	OpeningsFrom uint64         `json:"openings_from,omitempty"`
	Openings     *OpeningCounts `json:"openings,omitempty"`
	// Redactions are the first MaxListedRedactions entries with fields that weren't shown.
	Redactions []Redaction `json:"redactions,omitempty"`

	// Sources says of each source that numbers its events whether any are missing, and whether it has
	// fallen silent; those that are suspicious come first. No failure: the log can't tell who kept an event back. Nil without a
	// read token. MoreSources counts events of sources that there was no room for.
	Sources     []SourceReport `json:"sources,omitempty"`
	MoreSources uint64         `json:"more_sources,omitempty"`

	// Signatures says of each source with a key what the signatures of its entries are worth; those with failures
	// come first. MoreSignatures is of all sources that there was no room for.
	Signatures     []SignatureReport `json:"signatures,omitempty"`
	MoreSignatures *SignatureReport  `json:"more_signatures,omitempty"`
	// SourceKeys is how many source keys were given, UnusedSourceKeys are those that are about none of the openings
	// that this audit was shown.
	SourceKeys       int               `json:"source_keys,omitempty"`
	UnusedSourceKeys []UnusedSourceKey `json:"unused_source_keys,omitempty"`

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

// NothingShown reports whether openings were asked for from entry 0 on, and the server
// showed none of them: then no content was checked, whatever it says.
func (r *AuditReport) NothingShown() bool {
	o := r.Openings
	return o != nil && r.OpeningsFrom == 0 && o.NotShown > 0 && o.NotShown == o.Asked()
}

func (r *AuditReport) redacted(rs []Redaction) {
	rs = rs[:min(len(rs), MaxListedRedactions-len(r.Redactions))]
	r.Redactions = append(r.Redactions, rs...)
}

// stop notes where the audit stopped short.
func (r *AuditReport) stop() {
	if at := r.From + r.Entries; at < r.Size {
		r.StoppedAt = &at
	}
}

func (r *AuditReport) fail(f Failure) {
	f.Reason = clip(f.Reason)
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
