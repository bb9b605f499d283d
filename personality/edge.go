package personality

import (
	"sync"

	"github.com/transparency-dev/merkle/compact"
)

// edgeWidth is how many of the newest nodes of each level are kept. Batches hold
// at most 1000 leaves, so the proof of an entry just published is made from
// memory alone.
const edgeWidth = 4096

// An edge holds the newest complete nodes of the published tree, level by level,
// as they are added. It is a cache: what it doesn't hold is in the tiles.
type edge struct {
	mu     sync.RWMutex
	levels [64]edgeLevel
}

type edgeLevel struct {
	first, end uint64     // indices held: [first, end)
	hashes     [][32]byte // node i is at i % len
}

// put adds a node. Nodes of one level come in order of their index.
func (e *edge) put(id compact.NodeID, hash []byte) {
	l := &e.levels[id.Level]
	if l.end != id.Index || l.first == l.end {
		l.first, l.end = id.Index, id.Index
	}
	if n := uint64(len(l.hashes)); l.end-l.first >= n {
		if n < edgeWidth {
			l.grow()
		} else {
			l.first++
		}
	}
	l.hashes[id.Index%uint64(len(l.hashes))] = [32]byte(hash)
	l.end++
}

// grow doubles the level: high levels have few nodes and stay small.
func (l *edgeLevel) grow() {
	bigger := make([][32]byte, max(16, 2*len(l.hashes)))
	for i := l.first; i < l.end; i++ {
		bigger[i%uint64(len(bigger))] = l.hashes[i%uint64(len(l.hashes))]
	}
	l.hashes = bigger
}

// getAll puts the nodes that are held into hashes, and reports whether all are.
func (e *edge) getAll(ids []compact.NodeID, hashes [][]byte) bool {
	found := make([][32]byte, len(ids))
	all := true
	e.mu.RLock()
	defer e.mu.RUnlock()
	for i, id := range ids {
		var ok bool
		if found[i], ok = e.get(id); ok {
			hashes[i] = found[i][:]
		}
		all = all && ok
	}
	return all
}

// get returns the node, if it is held. The caller holds mu for reading.
func (e *edge) get(id compact.NodeID) (hash [32]byte, ok bool) {
	l := &e.levels[id.Level]
	if id.Index < l.first || id.Index >= l.end {
		return hash, false
	}
	return l.hashes[id.Index%uint64(len(l.hashes))], true
}
