package pebblestore

import (
	"encoding/binary"
)

// Prefix is the first byte of every key of this package. Others may use the same
// database under another first byte.
const Prefix = 't'

// The second byte of a key.
const (
	sectionVersion = 'v' // the layout's marker
	sectionTree    = 'm' // a tree's metadata
	sectionData    = 'd' // what a tree holds
)

// The byte after the tree's id in a key of sectionData.
const (
	kindHead     = 'h'
	kindLeaf     = 'l'
	kindIdentity = 'i'
	kindNode     = 'n'
	kindQueue    = 'q'
	kindHash     = 'x'
)

const (
	hashSize = 32

	dataKeyLen     = 2 + 8 + 1
	leafKeyLen     = dataKeyLen + 8
	identityKeyLen = dataKeyLen + hashSize
	nodeKeyLen     = dataKeyLen + 1 + 8
	queueKeyLen    = dataKeyLen + 8 + hashSize
	hashKeyLen     = dataKeyLen + hashPrefixLen + 8
)

// hashPrefixLen is how much of a Merkle leaf hash its index rows hold: eight
// bytes find a leaf among 2^32 with a false hit in 2^32; the leaf itself is compared.
const hashPrefixLen = 8

var versionKey = []byte{Prefix, sectionVersion}

func treeKey(id int64) []byte {
	return binary.BigEndian.AppendUint64([]byte{Prefix, sectionTree}, uint64(id))
}

// treeBounds are the bounds of the metadata of all trees.
func treeBounds() (lower, upper []byte) {
	return []byte{Prefix, sectionTree}, []byte{Prefix, sectionTree + 1}
}

// dataBounds are the bounds of everything that tree id holds.
func dataBounds(id int64) (lower, upper []byte) {
	lower = binary.BigEndian.AppendUint64([]byte{Prefix, sectionData}, uint64(id))
	upper = binary.BigEndian.AppendUint64([]byte{Prefix, sectionData}, uint64(id)+1)
	return lower, upper
}

func appendDataKey(dst []byte, id int64, kind byte) []byte {
	dst = append(dst, Prefix, sectionData)
	dst = binary.BigEndian.AppendUint64(dst, uint64(id))
	return append(dst, kind)
}

func headKey(id int64) []byte {
	return appendDataKey(make([]byte, 0, dataKeyLen), id, kindHead)
}

func appendLeafKey(dst []byte, id int64, index uint64) []byte {
	return binary.BigEndian.AppendUint64(appendDataKey(dst, id, kindLeaf), index)
}

func appendIdentityKey(dst []byte, id int64, identity []byte) []byte {
	return append(appendDataKey(dst, id, kindIdentity), identity...)
}

func appendNodeKey(dst []byte, id int64, level uint, index uint64) []byte {
	dst = append(appendDataKey(dst, id, kindNode), byte(level))
	return binary.BigEndian.AppendUint64(dst, index)
}

func appendQueueKey(dst []byte, id int64, nanos int64, identity []byte) []byte {
	dst = binary.BigEndian.AppendUint64(appendDataKey(dst, id, kindQueue), sortable(nanos))
	return append(dst, identity...)
}

func appendHashKey(dst []byte, id int64, hash []byte, index uint64) []byte {
	dst = append(appendDataKey(dst, id, kindHash), hash[:hashPrefixLen]...)
	return binary.BigEndian.AppendUint64(dst, index)
}

// sortable maps int64 to uint64 so that the order of the bytes is that of the numbers.
func sortable(n int64) uint64   { return uint64(n) ^ 1<<63 }
func unsortable(n uint64) int64 { return int64(n ^ 1<<63) }

// lastUint64 reads the big-endian number that ends key.
func lastUint64(key []byte) uint64 { return binary.BigEndian.Uint64(key[len(key)-8:]) }
