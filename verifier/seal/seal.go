package seal

import (
	"crypto/sha256"
	"encoding/base64"
	"math/bits"
	"strconv"
	"time"

	"github.com/prooftrail/prooftrail/verifier/event"
)

// First bytes of what is hashed, one for each kind of thing, so that nothing
// can stand for anything else. The first two are those of RFC 6962 section 2.1.
const (
	prefixLeaf       = 0x00
	prefixNode       = 0x01
	prefixCommitment = 0x02
	prefixRoot       = 0x03
)

// Sizes of what is written.
const (
	saltBytes = 16
	saltLen   = 22 // base64url without padding
	hashLen   = 44 // base64 with padding
	leafLen   = len(leafHead) + hashLen + len(leafTime) + len(timeStyle) + len(leafTail)
	maxFields = event.MaxFields + 7
)

// Hash is a SHA-256.
type Hash = [sha256.Size]byte

// Text of the leaf and of the opening, between what varies.
const (
	leafHead  = `{"root":"`
	leafTime  = `","time":"`
	leafTail  = `","v":"prooftrail.leaf/1"}`
	openHead  = `{"fields":[`
	openTime  = `],"time":"`
	openTail  = `","v":"prooftrail.opening/1"}`
	timeStyle = "2006-01-02T15:04:05Z"
)

// appendCommitted appends what the commitment to a value is the SHA-256 of:
// 0x02 and the canonical form of [salt, value].
func appendCommitted(dst, salt, value []byte) []byte {
	dst = append(dst, prefixCommitment, '[', '"')
	dst = append(dst, salt...)
	dst = append(dst, '"', ',')
	dst = append(dst, value...)
	return append(dst, ']')
}

// appendField appends what a field hash is the SHA-256 of: 0x00 and the
// canonical form of [pointer, base64(c)]. Pointers of the schema need no
// escape.
func appendField(dst []byte, pointer string, c *Hash) []byte {
	dst = append(dst, prefixLeaf, '[', '"')
	dst = append(dst, pointer...)
	dst = append(dst, '"', ',', '"')
	dst = base64.StdEncoding.AppendEncode(dst, c[:])
	return append(dst, '"', ']')
}

// A rooter computes the Merkle tree hash (RFC 6962 section 2.1) of the hashes
// it is given one after the other. It never allocates.
type rooter struct {
	n     int
	stack [16]Hash // roots of the full subtrees so far, widest first
}

// add adds a field hash.
func (r *rooter) add(h Hash) {
	r.n++
	top := bits.OnesCount(uint(r.n - 1))
	for range bits.TrailingZeros(uint(r.n)) {
		top--
		h = node(&r.stack[top], &h)
	}
	r.stack[top] = h
}

// root returns the tree hash; that of no hashes isn't asked for.
func (r *rooter) root() Hash {
	top := bits.OnesCount(uint(r.n)) - 1
	h := r.stack[top]
	for top--; top >= 0; top-- {
		h = node(&r.stack[top], &h)
	}
	return h
}

func node(left, right *Hash) Hash {
	var b [1 + 2*sha256.Size]byte
	b[0] = prefixNode
	copy(b[1:], left[:])
	copy(b[1+sha256.Size:], right[:])
	return sha256.Sum256(b[:])
}

// hideRoot returns what the leaf says of the event root: the SHA-256 of 0x03
// and the canonical form of [n, base64(r)].
func hideRoot(n int, root Hash) Hash {
	var buf [64]byte
	b := append(buf[:0], prefixRoot, '[')
	b = strconv.AppendInt(b, int64(n), 10)
	b = append(b, ',', '"')
	b = base64.StdEncoding.AppendEncode(b, root[:])
	b = append(b, '"', ']')
	return sha256.Sum256(b)
}

// appendLeaf appends the leaf.
func appendLeaf(dst []byte, root *Hash, t time.Time) []byte {
	dst = append(dst, leafHead...)
	dst = base64.StdEncoding.AppendEncode(dst, root[:])
	dst = append(dst, leafTime...)
	dst = t.AppendFormat(dst, timeStyle)
	return append(dst, leafTail...)
}

// hashLeaf returns the leaf hash of the log, RFC 6962 section 2.1.
func hashLeaf(leaf []byte) Hash {
	var buf [192]byte
	return sha256.Sum256(append(append(buf[:0], prefixLeaf), leaf...))
}
