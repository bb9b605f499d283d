package seal

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prooftrail/prooftrail/verifier/event"
)

// A SaltSource gives the salts of an event's fields. What it gives must be
// unpredictable and never used twice: whoever knows a salt can find out a
// value of few possibilities by trying them.
type SaltSource interface {
	// Salts fills dst with 16 bytes for each field, in the fields' order.
	Salts(dst []byte, f event.Fields) error
}

// ChosenSalts are salts that a source has chosen, by pointer. Fields that
// aren't in it, as the server's own, get random ones. A pointer that the event
// doesn't have is an error.
type ChosenSalts map[string][16]byte

// Salts implements SaltSource.
func (c ChosenSalts) Salts(dst []byte, f event.Fields) error {
	rand.Read(dst) // never fails, says its documentation
	used := 0
	for i := range f {
		if salt, ok := c[f[i].Pointer]; ok {
			copy(dst[i*saltBytes:], salt[:])
			used++
		}
	}
	if used != len(c) {
		return fmt.Errorf("chosen salts for %d fields that the event doesn't have", len(c)-used)
	}
	return nil
}

// A Commitment is an event whose fields have been committed to. Only the time
// is missing. Several goroutines may use it.
type Commitment struct {
	root    Hash        // what the leaf will say of the event root
	opening []byte      // up to the end of the fields, with room for the rest
	taken   atomic.Bool // that room has been used
}

// Commit salts the fields of a whole event and commits to each. The fields
// must be valid (event.Validate); what would be sealed and could never be
// opened is refused here. salts is nil for random ones.
//
// This is the costly part of sealing and needs nothing that other events
// share: call it before the event queues up.
func Commit(f event.Fields, salts SaltSource) (*Commitment, error) {
	if err := event.Validate(f); err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	fresh := make([]byte, len(f)*saltBytes)
	if salts == nil {
		rand.Read(fresh) // never fails, says its documentation
	} else if err := salts.Salts(fresh, f); err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	return commit(f, fresh), nil
}

// committers keep the memory of commit.
var committers = sync.Pool{New: func() any { return new(committer) }}

type committer struct {
	hasher hasher
	hashes []Hash // of the fields
}

// release gives the committer back, unless an odd event has made it large.
func (c *committer) release() {
	if cap(c.hasher.msg) <= 64<<10 {
		committers.Put(c)
	}
}

// commit builds the opening and hashes parts of it as it goes.
func commit(f event.Fields, salts []byte) *Commitment {
	const shown = `{"p":"","s":"","v":},`
	size := len(openHead) + len(openTime) + len(timeStyle) + len(openTail)
	for i := range f {
		size += len(shown) + len(f[i].Pointer) + saltLen + len(f[i].Value)
	}
	out := append(make([]byte, 0, size), openHead...)
	c := committers.Get().(*committer)
	defer c.release()
	h := &c.hasher
	c.hashes = c.hashes[:0]
	for i := range f {
		out = append(append(out, `{"p":"`...), f[i].Pointer...)
		out = append(out, `","s":"`...)
		out = base64.RawURLEncoding.AppendEncode(out, salts[i*saltBytes:][:saltBytes])
		h.msg = appendCommitted(h.msg[:0], out[len(out)-saltLen:], f[i].Value)
		commitment := h.sum()
		out = append(append(out, `","v":`...), f[i].Value...)
		out = append(out, '}', ',')
		h.msg = appendField(h.msg[:0], f[i].Pointer, &commitment)
		c.hashes = append(c.hashes, h.sum())
	}
	h.msg = appendHidden(h.msg[:0], len(c.hashes), h.fold(c.hashes))
	return &Commitment{root: h.sum(), opening: out[:len(out)-1]}
}

// Sealed is an event as it goes into the log and into the publication store.
type Sealed struct {
	Leaf     []byte // the log's entry
	LeafHash Hash   // RFC 6962 section 2.1
	Opening  []byte // what shows that the leaf is the event's
}

// At gives the commitment its time and so makes the leaf: t in UTC, truncated
// to whole seconds, and moved to the nearest if it is not from 1970 to the end
// of 9999, which no clock that is allowed to sequence says. The opening of the first
// call is the commitment's own memory; later ones are copies.
func (c *Commitment) At(t time.Time) Sealed {
	t = clampTime(t)
	s := Sealed{Leaf: appendLeaf(make([]byte, 0, leafLen), &c.root, t), Opening: c.opening}
	s.LeafHash = hashLeaf(s.Leaf)
	if c.taken.Swap(true) {
		s.Opening = append(make([]byte, 0, cap(c.opening)), c.opening...)
	}
	s.Opening = append(s.Opening, openTime...)
	s.Opening = appendSecond(s.Opening, t)
	s.Opening = append(s.Opening, openTail...)
	return s
}

// lastSecond is 9999-12-31T23:59:59Z.
const lastSecond = 253402300799

func clampTime(t time.Time) time.Time {
	return time.Unix(min(max(t.Unix(), 0), lastSecond), 0).UTC()
}
