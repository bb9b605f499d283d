package pebblestore

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/google/trillian"
	"github.com/transparency-dev/merkle/compact"
)

// maxTreeSize keeps every index within int64, as Trillian's API has them.
const maxTreeSize = 1 << 63

// head is a decoded head row: the latest root, and the hashes of the perfect
// subtrees that it is made of.
type head struct {
	logRoot   []byte // TLS encoding, as in trillian.SignedLogRoot
	size      uint64
	timestamp uint64
	edge      []byte // hashes of compact.RangeNodes(0, size), one after another; or empty
}

// The payload: uint16 length of logRoot, logRoot, edge.
func (h *head) encode() []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(len(h.logRoot)))
	b = append(b, h.logRoot...)
	return append(b, h.edge...)
}

// parseHead decodes value, which it keeps.
func parseHead(key, value []byte) (*head, error) {
	p, err := unseal(key, value)
	if err != nil {
		return nil, err
	}
	if len(p) < 2 || int(binary.BigEndian.Uint16(p)) > len(p)-2 {
		return nil, corrupt(key, "head of %d bytes", len(p))
	}
	end := 2 + int(binary.BigEndian.Uint16(p))
	h, err := newHead(p[2:end:end])
	if err != nil {
		return nil, corrupt(key, "%v", err)
	}
	h.edge = p[end:]
	if len(h.edge) != 0 && len(h.edge) != hashSize*bits.OnesCount64(h.size) {
		return nil, corrupt(key, "edge of %d bytes for size %d", len(h.edge), h.size)
	}
	return h, nil
}

// newHead reads what this package needs of a log root, whose encoding is given at
// Trillian's types.LogRoot: uint16 version, uint64 size, byte-counted hash, uint64
// timestamp, uint64 revision, uint16-counted metadata.
func newHead(logRoot []byte) (*head, error) {
	const fixed = 2 + 8 + 1 + 8 + 8 + 2
	if len(logRoot) < fixed || len(logRoot) > 0xffff {
		return nil, fmt.Errorf("log root of %d bytes", len(logRoot))
	}
	if v := binary.BigEndian.Uint16(logRoot); v != uint16(trillian.LogRootFormat_LOG_ROOT_FORMAT_V1) {
		return nil, fmt.Errorf("log root of version %d", v)
	}
	hashLen := int(logRoot[10])
	if hashLen > 128 || len(logRoot) < fixed+hashLen {
		return nil, fmt.Errorf("log root with a hash of %d bytes", hashLen)
	}
	rest := logRoot[11+hashLen:]
	if meta := int(binary.BigEndian.Uint16(rest[16:])); len(rest) != 18+meta {
		return nil, fmt.Errorf("log root with %d bytes of metadata", meta)
	}
	h := &head{logRoot: logRoot, size: binary.BigEndian.Uint64(logRoot[2:]), timestamp: binary.BigEndian.Uint64(rest)}
	if h.size > maxTreeSize {
		return nil, fmt.Errorf("log root of size %d", h.size)
	}
	return h, nil
}

// onEdge says whether id roots one of the perfect subtrees that a tree of size
// leaves is made of, which is so for one node of each level whose bit size has.
func onEdge(size uint64, id compact.NodeID) bool {
	return id.Level < 64 && size>>id.Level&1 == 1 && id.Index == size>>id.Level-1
}

// edgeHash returns the hash of a node on the edge, nil if the head has none.
func (h *head) edgeHash(id compact.NodeID) []byte {
	if h == nil || len(h.edge) == 0 || !onEdge(h.size, id) {
		return nil
	}
	// The largest subtree is the leftmost one.
	n := bits.OnesCount64(h.size>>id.Level) - 1
	return h.edge[n*hashSize : (n+1)*hashSize : (n+1)*hashSize]
}

// treeSize is the size of the tree, 0 without a head.
func (h *head) treeSize() uint64 {
	if h == nil {
		return 0
	}
	return h.size
}
