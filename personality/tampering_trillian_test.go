package personality_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// afterID changes the first place of the old bytes behind the id that a tree's record
// begins with.
func afterID(h *hand, old, new string) func([]byte) []byte {
	return func(b []byte) []byte {
		_, n := binary.Uvarint(b[1:])
		return slices.Concat(b[:1+n], replace(h.t, old, new)(b[1+n:]))
	}
}

// forgedLeaf is a leaf's row with another value, everything else going with it.
func forgedLeaf(payload []byte) []byte {
	value := bytes.Replace(payload[81:], []byte(`"time":"20`), []byte(`"time":"19`), 1)
	hash := sha256.Sum256(append([]byte{0}, value...))
	return slices.Concat(payload[:48], hash[:], payload[80:81], value)
}

// addNumber adds to a number within a row.
func addNumber(at int, n uint64) func([]byte) []byte {
	return func(b []byte) []byte {
		binary.BigEndian.PutUint64(b[at:], binary.BigEndian.Uint64(b[at:])+n)
		return b
	}
}

func (h *hand) headRow() []byte { return h.data('h') }

func (h *hand) nodeRow(level byte, index uint64) []byte {
	return h.data('n', number(string([]byte{level}), index)...)
}

// tailRows are Trillian's rows of one kind for all events of the tail.
func (h *hand) tailRows(row func(*hand, string) []byte) (keys [][]byte) {
	for _, id := range []string{"t0", "t1", "t2", "t3", "t4"} {
		keys = append(keys, row(h, id))
	}
	return keys
}

// behind is where the next leaf would be stored.
func (h *hand) behind(n uint64) []byte {
	keys := h.all(string(h.data('l')))
	return h.data('l', number("", binary.BigEndian.Uint64(keys[len(keys)-1][11:])+n)...)
}

var trillianRows = []section{
	{"`t m`, `t v`: Trillian's tree and the layout", []tampering{
		{name: "a bit flipped", service: "refuses", says: "wrong checksum", audit: "verified",
			do: func(h *hand) { h.change(h.treeRow(), flip) }},
		{name: "frozen", service: "refuses at the next publication", says: "the tree takes no entry", audit: "verified",
			do: func(h *hand) { h.reseal(h.treeRow(), afterID(h, "\x10\x01", "\x10\x02")) }},
		{name: "another type", service: "refuses", says: "not allowed for LOG-type trees", audit: "verified",
			do: func(h *hand) { h.reseal(h.treeRow(), afterID(h, "\x18\x03", "\x18\x01")) }},
		{name: "another display name", service: "goes on", audit: "verified",
			why: "not used",
			do:  func(h *hand) { h.reseal(h.treeRow(), replace(h.t, "prooftrail", "profitrail")) }},
		{name: "deleted", service: "refuses", says: "no such tree", audit: "verified",
			do: func(h *hand) { h.del(h.treeRow()) }},
		{name: "a second tree added", service: "goes on", audit: "verified",
			why: "not used",
			do: func(h *hand) {
				h.sealRow(number("tm", 5), afterID(h, "\x10\x01", "\x10\x01")(slices.Concat([]byte{8, 5}, h.payload(h.treeRow())[10:])))
			}},
		{name: "layout: a bit flipped", service: "refuses", says: "wrong checksum", audit: "verified",
			do: func(h *hand) { h.change([]byte("tv"), flip) }},
		{name: "layout: another one", service: "doesn't start", says: "open store: layout", audit: "–",
			do: func(h *hand) { h.sealRow([]byte("tv"), []byte("prooftrail.pebblestore/2")) }},
		{name: "layout: deleted", service: "goes on", audit: "verified",
			why: "looked at only where it is",
			do:  func(h *hand) { h.del([]byte("tv")) }},
	}},
	{"`t d h`: Trillian's root", []tampering{
		{name: "a bit flipped", service: "refuses", says: "wrong checksum", audit: "verified",
			do: func(h *hand) { h.change(h.headRow(), flip) }},
		{name: "another hash", service: "refuses", says: "has been published", audit: "verified",
			do: func(h *hand) { h.reseal(h.headRow(), flipAt(rootHash)) }},
		{name: "one entry less", service: "refuses", says: "has been published", audit: "verified",
			do: func(h *hand) { h.reseal(h.headRow(), addNumber(rootSize, ^uint64(0))) }},
		{name: "five entries more", service: "refuses", says: "missing below size", audit: "verified",
			do: func(h *hand) {
				h.reseal(h.headRow(), func(b []byte) []byte { return addNumber(rootSize, 5)(b)[:rootEdge] })
			}},
		{name: "an older one", service: "refuses", says: "has been published", audit: "verified",
			do: func(h *hand) { h.set(h.headRow(), h.taken(older, string(h.headRow()))) }},
		{name: "a year ahead", service: "goes on", audit: "verified",
			why: "Trillian's times are nobody's evidence; the next root is a nanosecond later",
			do:  func(h *hand) { h.reseal(h.headRow(), addNumber(rootTime, 365*24*3600*1e9)) }},
		{name: "a subtree's hash edited", service: "refuses at the next publication", says: "root hash mismatch", audit: "verified",
			do: func(h *hand) { h.reseal(h.headRow(), flipAt(rootEdge+1)) }},
		{name: "a subtree's hash edited, with a tail", from: stored, victim: inTail, service: "refuses", says: "root hash mismatch", audit: "verified",
			do: func(h *hand) { h.reseal(h.headRow(), flipAt(rootEdge+1)) }},
		{name: "the subtrees' hashes removed", service: "goes on", audit: "verified",
			why: "computed from the nodes",
			do:  func(h *hand) { h.reseal(h.headRow(), func(b []byte) []byte { return b[:rootEdge] }) }},
		{name: "the subtrees' hashes removed, a node edited", service: "refuses at the next publication", says: "root hash mismatch", audit: "verified",
			do: func(h *hand) {
				h.reseal(h.headRow(), func(b []byte) []byte { return b[:rootEdge] })
				h.reseal(h.nodeRow(8, 0), flip)
			}},
		{name: "the subtrees' hashes removed, a node deleted", service: "refuses at the next publication", says: "get node {8 0}", audit: "verified",
			do: func(h *hand) {
				h.reseal(h.headRow(), func(b []byte) []byte { return b[:rootEdge] })
				h.del(h.nodeRow(8, 0))
			}},
		{name: "deleted", service: "refuses", says: "no such tree", audit: "verified",
			do: func(h *hand) { h.del(h.headRow()) }},
	}},
	{"`t d l`: Trillian's leaves, published", []tampering{
		{name: "a bit flipped", service: "goes on", audit: "verified",
			why: "not read again: the log is served from tiles and bundles",
			do:  func(h *hand) { h.change(h.leafRow(inFull), flip) }},
		{name: "another value", service: "goes on", audit: "verified",
			why: "not read again: the log is served from tiles and bundles",
			do:  func(h *hand) { h.reseal(h.leafRow(inFull), forgedLeaf) }},
		{name: "deleted", service: "goes on", audit: "verified",
			why: "not read again: the log is served from tiles and bundles",
			do:  func(h *hand) { h.del(h.leafRow(inFull)) }},
		{name: "exchanged with another", service: "goes on", audit: "verified",
			why: "not read again: the log is served from tiles and bundles",
			do: func(h *hand) {
				a, b := h.payload(h.leafRow(inFull)), h.payload(h.leafRow(inEdge))
				h.sealRow(h.leafRow(inFull), b)
				h.sealRow(h.leafRow(inEdge), a)
			}},
		{name: "the last one: a bit flipped", service: "refuses at the next publication", says: "wrong checksum", audit: "verified",
			do: func(h *hand) { h.change(h.behind(0), flip) }},
		{name: "the last one: another value", service: "goes on", audit: "verified",
			why: "not read again: the log is served from tiles and bundles",
			do:  func(h *hand) { h.reseal(h.behind(0), forgedLeaf) }},
		{name: "the last one: deleted", service: "refuses at the next publication", says: "missing below size", audit: "verified",
			do: func(h *hand) { h.del(h.behind(0)) }},
		{name: "one added behind the last", service: "refuses", says: "but this log didn't sequence it", audit: "verified",
			do: func(h *hand) { h.sealRow(h.behind(1), forgedLeaf(h.payload(h.behind(0)))) }},
		{name: "one added far behind the last", service: "refuses at the next publication", says: "the tree takes no entry", audit: "verified",
			do: func(h *hand) { h.sealRow(h.behind(100), forgedLeaf(h.payload(h.behind(0)))) }},
	}},
	{"`t d l`: Trillian's leaves, the tail", []tampering{
		{name: "nothing: as a crash leaves it", from: stored, victim: inTail, service: "goes on", audit: "verified",
			why: "published at the start: the marks show that this log sequenced it",
			do:  func(*hand) {}},
		{name: "nothing, Trillian has integrated", from: integrated, victim: inTail, service: "goes on", audit: "verified",
			why: "the same",
			do:  func(*hand) {}},
		{name: "nothing, the head has moved", from: unanchored, victim: inTail, service: "goes on", audit: "verified",
			why: "the same",
			do:  func(*hand) {}},
		{name: "a bit flipped", from: stored, victim: inTail, service: "refuses", says: "wrong checksum", audit: "verified",
			do: func(h *hand) { h.change(h.leafRow(inTail), flip) }},
		{name: "another value", from: stored, victim: inTail, service: "refuses", says: "but this log didn't sequence it", audit: "verified",
			do: func(h *hand) { h.reseal(h.leafRow(inTail), forgedLeaf) }},
		{name: "another value, Trillian has integrated", from: integrated, victim: inTail, service: "refuses", says: "but this log didn't sequence it", audit: "verified",
			do: func(h *hand) { h.reseal(h.leafRow(inTail), forgedLeaf) }},
		{name: "another value, the head has moved", from: unanchored, victim: inTail, service: "refuses", says: "but this log didn't sequence it", audit: "verified",
			do: func(h *hand) { h.reseal(h.leafRow(inTail), forgedLeaf) }},
		{name: "another leaf hash", from: stored, victim: inTail, service: "refuses", says: "but its leaves make", audit: "verified",
			do: func(h *hand) { h.reseal(h.leafRow(inTail), flipAt(50)) }},
		{name: "another identity", from: stored, victim: inTail, service: "refuses", says: "but this log didn't sequence it", audit: "verified",
			do: func(h *hand) { h.reseal(h.leafRow(inTail), flipAt(20)) }},
		{name: "exchanged with another", from: stored, victim: inTail, service: "refuses", says: "but this log didn't sequence it", audit: "verified",
			do: func(h *hand) {
				a, b := h.payload(h.leafRow("t0")), h.payload(h.leafRow("t1"))
				h.sealRow(h.leafRow("t0"), b)
				h.sealRow(h.leafRow("t1"), a)
			}},
		{name: "one deleted", from: stored, victim: inTail, service: "refuses", says: "but this log didn't sequence it", audit: "verified",
			do: func(h *hand) { h.del(h.leafRow(inTail)) }},
		{name: "the last one deleted", from: stored, victim: "t4", service: "refuses", says: "but this log didn't sequence it", audit: "verified",
			do: func(h *hand) { h.del(h.leafRow("t4")) }},
		{name: "one deleted, the head has moved", from: unanchored, victim: inTail, service: "refuses", says: "but this log didn't sequence it", audit: "verified",
			do: func(h *hand) { h.del(h.leafRow(inTail)) }},
		{name: "all deleted", from: stored, victim: inTail, service: "refuses when the event is sent again; by id: 404", says: "no such leaf at", audit: "verified",
			do: func(h *hand) { h.del(h.tailRows((*hand).leafRow)...) }},
		{name: "all deleted, with their identities", from: stored, victim: inTail, service: "goes on; by id: 404; sent again: a new entry; others sent again: new entries", audit: "verified",
			why: "**not noticed**: nothing of it was signed, whoever got a 202 has no receipt. Sent again it is logged; else a gap in `seq` shows it",
			do: func(h *hand) {
				h.del(append(h.tailRows((*hand).identityRow), h.tailRows((*hand).leafRow)...)...)
			}},
		{name: "one added", from: stored, victim: inTail, service: "refuses", says: "but this log didn't sequence it", audit: "verified",
			do: func(h *hand) { h.sealRow(h.behind(1), forgedLeaf(h.payload(h.behind(0)))) }},
	}},
	{"`t d n`: Trillian's nodes", []tampering{
		{name: "a bit flipped", service: "goes on", audit: "verified",
			why: "not read: the root's row has the hashes that integration goes on from, and proofs come from tiles",
			do:  func(h *hand) { h.change(h.nodeRow(4, 0), flip) }},
		{name: "another hash", service: "goes on", audit: "verified",
			why: "not read: the root's row has the hashes that integration goes on from, and proofs come from tiles",
			do:  func(h *hand) { h.reseal(h.nodeRow(4, 0), flip) }},
		{name: "another hash, on the edge", service: "goes on", audit: "verified",
			why: "not read: the root's row has the hashes that integration goes on from, and proofs come from tiles",
			do:  func(h *hand) { h.reseal(h.nodeRow(8, 0), flip) }},
		{name: "another hash, with a tail", from: stored, victim: inTail, service: "goes on", audit: "verified",
			why: "not read: the root's row has the hashes that integration goes on from, and proofs come from tiles",
			do:  func(h *hand) { h.reseal(h.nodeRow(8, 0), flip) }},
		{name: "exchanged with another", service: "goes on", audit: "verified",
			why: "not read: the root's row has the hashes that integration goes on from, and proofs come from tiles",
			do: func(h *hand) {
				a, b := h.payload(h.nodeRow(4, 0)), h.payload(h.nodeRow(4, 1))
				h.sealRow(h.nodeRow(4, 0), b)
				h.sealRow(h.nodeRow(4, 1), a)
			}},
		{name: "deleted", service: "goes on", audit: "verified",
			why: "not read: the root's row has the hashes that integration goes on from, and proofs come from tiles",
			do:  func(h *hand) { h.del(h.nodeRow(8, 0)) }},
		{name: "one added where the next one will be", service: "goes on", audit: "verified",
			why: "not read: the root's row has the hashes that integration goes on from, and proofs come from tiles",
			do:  func(h *hand) { h.sealRow(h.nodeRow(8, 1), h.payload(h.nodeRow(8, 0))) }},
	}},
	{"`t d i`: Trillian's identities", []tampering{
		{name: "a bit flipped", service: "goes on", audit: "verified",
			why: "not read while `p i` knows the event",
			do:  func(h *hand) { h.change(h.identityRow(inFull), flip) }},
		{name: "points to another leaf", service: "goes on", audit: "verified",
			why: "the same",
			do:  func(h *hand) { h.reseal(h.identityRow(inFull), flipAt(-1)) }},
		{name: "deleted", service: "goes on", audit: "verified",
			why: "the same",
			do:  func(h *hand) { h.del(h.identityRow(inFull)) }},
		{name: "deleted, in the tail", from: stored, victim: inTail, service: "goes on", audit: "verified",
			why: "the tail's events are known from its leaves",
			do:  func(h *hand) { h.del(h.identityRow(inTail)) }},
		{name: "one added for an event to come", victim: "new7", service: "refuses when the event is sent again", says: "no such leaf at", audit: "verified",
			do: func(h *hand) { h.sealRow(h.identityRow("new7"), make([]byte, 9)) }},
		{name: "one of another form added for an event to come", victim: "new7", service: "refuses when the event is sent again", says: "1 bytes", audit: "verified",
			do: func(h *hand) { h.set(h.identityRow("new7"), []byte("?")) }},
	}},
	{"`t d q`, `t d x` and other rows", []tampering{
		{name: "a leaf put into Trillian's queue", service: "goes on", audit: "verified",
			why: "not read",
			do: func(h *hand) {
				h.sealRow(h.data('q', append(make([]byte, 8), h.v.identity("new7")...)...), forgedLeaf(h.payload(h.leafRow(inFull))))
			}},
		{name: "a row added to Trillian's index by hash", service: "goes on", audit: "verified",
			why: "not read",
			do:  func(h *hand) { h.sealRow(h.data('x', make([]byte, 16)...), nil) }},
		{name: "a row added that nobody knows", service: "goes on", audit: "verified",
			why: "not read",
			do:  func(h *hand) { h.set([]byte("zz"), []byte("?")) }},
	}},
}
