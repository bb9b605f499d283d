package seal

import (
	"crypto/sha256"
	"encoding/binary"
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
	dst = appendHash(dst, c)
	return append(dst, '"', ']')
}

// pairs64 are the two characters of base64 that twelve bits make, the first in the lower
// byte.
var pairs64 = func() (t [1 << 12]uint16) {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	for i := range t {
		t[i] = uint16(digits[i>>6]) | uint16(digits[i&63])<<8
	}
	return t
}()

// four64 are the four characters that the upper 24 of 32 bits make, the first in the
// lowest byte.
func four64(n uint32) uint32 { return uint32(pairs64[n>>20]) | uint32(pairs64[n>>8&0xfff])<<16 }

// appendHash appends the base64 of a hash. Every field has one, and encoding/base64 takes
// three times as long.
func appendHash(dst []byte, h *Hash) []byte {
	var text [hashLen]byte
	for i := range 9 {
		binary.LittleEndian.PutUint32(text[4*i:], four64(binary.BigEndian.Uint32(h[3*i:])))
	}
	binary.LittleEndian.PutUint32(text[36:], four64(uint32(h[27])<<24|uint32(h[28])<<16|uint32(h[29])<<8))
	binary.LittleEndian.PutUint32(text[40:], four64(uint32(h[30])<<24|uint32(h[31])<<16)&0xffffff|'='<<24)
	return append(dst, text[:]...)
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
	return sha256.Sum256(appendHidden(buf[:0], n, root))
}

func appendHidden(dst []byte, n int, root Hash) []byte {
	dst = append(dst, prefixRoot, '[')
	dst = strconv.AppendInt(dst, int64(n), 10)
	dst = append(dst, ',', '"')
	dst = appendHash(dst, &root)
	return append(dst, '"', ']')
}

// appendLeaf appends the leaf.
func appendLeaf(dst []byte, root *Hash, t time.Time) []byte {
	dst = append(dst, leafHead...)
	dst = appendHash(dst, root)
	dst = append(dst, leafTime...)
	dst = appendSecond(dst, t)
	return append(dst, leafTail...)
}

// appendSecond appends a time, which is from 1970 to 9999, in timeStyle. Package time
// would read the style each time.
func appendSecond(dst []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	two := func(n int, end byte) { dst = append(dst, byte('0'+n/10), byte('0'+n%10), end) }
	dst = append(dst, byte('0'+year/1000), byte('0'+year/100%10))
	two(year%100, '-')
	two(int(month), '-')
	two(day, 'T')
	two(hour, ':')
	two(minute, ':')
	two(second, 'Z')
	return dst
}

// hashLeaf returns the leaf hash of the log, RFC 6962 section 2.1.
func hashLeaf(leaf []byte) Hash {
	var buf [192]byte
	return sha256.Sum256(append(append(buf[:0], prefixLeaf), leaf...))
}
