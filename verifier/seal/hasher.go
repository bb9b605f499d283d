package seal

import (
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"hash"
)

// A hasher computes the SHA-256 of short messages, with which an audit spends most of
// its time. For those sha256.Sum256 takes twice as long as the hash itself: it clears a
// state, copies it, and pads in a buffer of its own. A hasher uses its state again and
// pads the message where it was built (FIPS 180-4 section 5.1.1). So whole blocks are all
// that is written, and the state behind them is the hash. The zero hasher is ready.
type hasher struct {
	msg    []byte // the message being built
	node   [nodeBlocks * sha256.BlockSize]byte
	digest digest
	state  []byte
}

// A digest can be asked for its state.
type digest interface {
	hash.Hash
	encoding.BinaryAppender
}

// nodeBlocks is how many blocks an inner node's message takes, padding and all.
const nodeBlocks = 2

// stateAt is where crypto/sha256 puts the state in what AppendBinary appends, behind
// four bytes that name it. That isn't documented, so it isn't relied on: see readsState.
const stateAt = 4

// readsState says whether a hasher can read the state. If not it calls sha256.Sum256.
var readsState = func() bool {
	var h hasher
	d, ok := sha256.New().(digest)
	if !ok {
		return false
	}
	h.digest = d
	for n := range 3 * sha256.BlockSize {
		h.msg = h.msg[:0]
		for i := range n {
			h.msg = append(h.msg, byte(i*7+n))
		}
		want := sha256.Sum256(h.msg)
		if got, ok := h.blocks(h.pad()); !ok || got != want {
			return false
		}
	}
	return true
}()

// sum returns the hash of the message, which is lost.
func (h *hasher) sum() Hash {
	n := len(h.msg)
	return h.hash(h.pad(), n)
}

// hash returns the hash of the first n bytes of padded, which are followed by their
// padding.
func (h *hasher) hash(padded []byte, n int) Hash {
	if readsState {
		if sum, ok := h.blocks(padded); ok {
			return sum
		}
	}
	return sha256.Sum256(padded[:n])
}

// pad appends a one bit, zeros, and the length in bits, up to a whole block.
func (h *hasher) pad() []byte {
	n := len(h.msg)
	zeros := (2*sha256.BlockSize - 1 - 8 - n%sha256.BlockSize) % sha256.BlockSize
	var padding [sha256.BlockSize + 8]byte
	padding[0] = 0x80
	binary.BigEndian.PutUint64(padding[1+zeros:], uint64(n)*8)
	h.msg = append(h.msg, padding[:1+zeros+8]...)
	return h.msg
}

// blocks returns the state after these blocks alone.
func (h *hasher) blocks(padded []byte) (sum Hash, ok bool) {
	if h.digest == nil {
		h.digest, _ = sha256.New().(digest)
	}
	h.digest.Reset()
	h.digest.Write(padded) // never fails, says package hash
	state, err := h.digest.AppendBinary(h.state[:0])
	if err != nil || len(state) < stateAt+len(sum) {
		return sum, false
	}
	h.state = state
	return Hash(state[stateAt:]), true
}

// fold returns the RFC 6962 Merkle tree hash over hashes, and overwrites them. It goes
// through the tree level by level: a last node without a sibling is a node of the next
// level as well.
func (h *hasher) fold(hashes []Hash) Hash {
	if len(hashes) == 0 {
		return sha256.Sum256(nil) // RFC 6962: "The hash of an empty list is the hash of an empty string"
	}
	const size = 1 + 2*sha256.Size
	h.node = [len(h.node)]byte{0: prefixNode, size: 0x80}
	binary.BigEndian.PutUint64(h.node[len(h.node)-8:], size*8)
	for len(hashes) > 1 {
		next := hashes[:0]
		for i := 1; i < len(hashes); i += 2 {
			copy(h.node[1:], hashes[i-1][:])
			copy(h.node[1+sha256.Size:], hashes[i][:])
			next = append(next, h.hash(h.node[:], size))
		}
		if len(hashes)%2 == 1 {
			next = append(next, hashes[len(hashes)-1])
		}
		hashes = next
	}
	return hashes[0]
}

// LeafHash is Opening.LeafHash of the opening that was parsed last. After an error there
// is none, and it returns no leaf's hash.
func (p *Parser) LeafHash() Hash {
	h := &p.hasher
	p.hashes = p.hashes[:0]
	for i := range p.opening.Fields {
		f := &p.opening.Fields[i]
		c := f.Commitment
		if f.Shown {
			h.msg = appendCommitted(h.msg[:0], f.Salt, f.Value)
			c = h.sum()
		}
		h.msg = appendField(h.msg[:0], f.Pointer, &c)
		p.hashes = append(p.hashes, h.sum())
	}
	h.msg = appendHidden(h.msg[:0], len(p.hashes), h.fold(p.hashes))
	root := h.sum()
	h.msg = appendLeaf(append(h.msg[:0], prefixLeaf), &root, p.opening.Time)
	return h.sum()
}
