package alarm

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"maps"
	"strings"
	"time"
)

// Severity says how soon somebody has to look.
type Severity string

// The severities, the worst first.
const (
	Critical Severity = "critical" // something false was found, or nothing can be found any more: wake somebody
	Warning  Severity = "warning"  // look at it in the day
	Info     Severity = "info"     // worth knowing
)

// rank orders severities: 0 is the worst.
func (s Severity) rank() int {
	switch s {
	case Critical:
		return 0
	case Warning:
		return 1
	}
	return 2
}

const severities = 3

// ErrUnknown is the error for an ID of which no alarm is active.
var ErrUnknown = errors.New("no such alarm")

// Alarm is one thing that isn't as it should be. Name, Log and Peer say which one it is; the
// rest is how it is now. [Board.Raise] bounds every text and replaces characters in it that
// would do something to a terminal or a log, so a text may come from anybody.
type Alarm struct {
	// Name is its kind, in kebab-case, at most 64 bytes: "fork", "log-unreachable".
	Name string `json:"name"`
	// Log is the origin, "" if it isn't about one log; at most 256 bytes. Of a longer one the
	// rest is replaced by a digest.
	Log string `json:"log,omitempty"`
	// Peer is the peer's name, "" if it isn't about one; at most 256 bytes.
	Peer string `json:"peer,omitempty"`
	// Severity is Warning unless it is one of the constants.
	Severity Severity `json:"severity"`
	// Summary is one line, at most 512 bytes.
	Summary string `json:"summary"`
	// Details are at most 16, and 2 KiB together: what doesn't fit, in order of the names, is
	// cut.
	Details map[string]string `json:"details,omitempty"`

	// Since is when it began, in milliseconds. Set by the board.
	Since time.Time `json:"since"`
	// Ack is nil if nobody has acknowledged it. Set by the board.
	Ack *Ack `json:"ack,omitempty"`
}

// Ack says that somebody knows.
type Ack struct {
	By   string    `json:"by"`             // at most 128 bytes
	Note string    `json:"note,omitempty"` // at most 512 bytes
	At   time.Time `json:"at"`
}

// ID is short, and the same as long as Name, Log and Peer are: 12 hex digits.
func (a Alarm) ID() string {
	h := sha256.New()
	h.Write([]byte("prooftrail.alarm/1\n"))
	for _, s := range []string{a.Name, a.Log, a.Peer} {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(s))))
		h.Write([]byte(s))
	}
	return hex.EncodeToString(h.Sum(nil)[:6])
}

// key is what an alarm is held by.
type key struct{ name, log, peer string }

func (a Alarm) key() key { return key{a.Name, a.Log, a.Peer} }

func (k key) compare(l key) int {
	return cmp.Or(strings.Compare(k.name, l.name), strings.Compare(k.log, l.log), strings.Compare(k.peer, l.peer))
}

// compare puts the worst first, then the oldest.
func (a Alarm) compare(b Alarm) int {
	return cmp.Or(cmp.Compare(a.Severity.rank(), b.Severity.rank()), a.Since.Compare(b.Since), a.key().compare(b.key()))
}

// clone shares nothing with a.
func (a Alarm) clone() Alarm {
	a.Details = maps.Clone(a.Details)
	if a.Ack != nil {
		ack := *a.Ack
		a.Ack = &ack
	}
	return a
}
