// Package gossip is how monitors, submitters and auditors exchange the heads and the evidence
// that they hold: the calls of docs/spec/gossip.md, and the client's side of them.
//
// Nothing that comes back is trusted. What a [Client]'s methods return is bounded, and it has the
// right form; whether a head is signed, a proof holds and evidence convicts is for the caller to
// check. [Compare] does: it is what submitters and auditors call.
package gossip

import (
	"crypto/sha256"
	"encoding/hex"
)

const (
	// MaxOpen is the most open heads that an answer lists.
	MaxOpen = 32
	// MaxHeadsBytes is the largest answer about heads.
	MaxHeadsBytes = 1 << 20
	// MaxListed is the most evidence files that an answer lists.
	MaxListed = 1024
	// maxListBytes is more than a list of MaxListed files has.
	maxListBytes = MaxListed * 1024
)

// Heads is the answer of GET /gossip/v1/logs/{log}/heads. Each note carries the log's
// signature alone.
type Heads struct {
	Origin string `json:"origin"`
	// Checked is the newest head whose entries the monitor has re-hashed, "" if there is none.
	Checked string `json:"checked,omitempty"`
	// Open are signed heads that it could not bring together with Checked, at most MaxOpen.
	Open []string `json:"open"`
}

// Verdict is what a monitor makes of a head.
type Verdict string

// The three that there are.
const (
	Agrees      Verdict = "agrees"      // one history with its checked head
	Contradicts Verdict = "contradicts" // it holds evidence that the log forked
	Unknown     Verdict = "unknown"     // it can't tell yet
)

// Answer is the answer of POST /gossip/v1/heads.
type Answer struct {
	Origin  string  `json:"origin"`
	Size    uint64  `json:"size"` // of the head that was posted
	Verdict Verdict `json:"verdict"`
	Reason  string  `json:"reason,omitempty"`
	Checked string  `json:"checked,omitempty"` // as in Heads
	// Evidence are the ids of files that prove it, with Contradicts.
	Evidence []string `json:"evidence,omitempty"`
}

// Listed is one evidence file of GET /gossip/v1/evidence.
type Listed struct {
	ID         string `json:"id"` // EvidenceID of the file
	Origin     string `json:"origin"`
	FirstSize  uint64 `json:"first_size"`
	SecondSize uint64 `json:"second_size"`
}

// List is the answer of GET /gossip/v1/evidence.
type List struct {
	Evidence []Listed `json:"evidence"`
}

// Taken is the answer of POST /gossip/v1/evidence.
type Taken struct {
	ID string `json:"id"`
}

// LogID names a log in a path: the SHA-256 of its origin in lower-case hex.
func LogID(origin string) string { return hexSum([]byte(origin)) }

// EvidenceID names an evidence file: its SHA-256 in lower-case hex.
func EvidenceID(file []byte) string { return hexSum(file) }

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
