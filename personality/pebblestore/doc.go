// Package pebblestore is a Trillian storage provider over Pebble: storage.LogStorage
// and storage.AdminStorage in a *pebble.DB that the caller opens, may use for
// other things, and closes. It passes Trillian's own suites.
//
// # Keys
//
// Every key begins with 't' (Prefix); the rest of the database is others'. Numbers are
// big endian, so that keys sort as numbers do. TREE is the tree's id, 8 bytes.
//
//	key                          value, between version and checksum
//	't' 'v'                      layout: "prooftrail.pebblestore/1"
//	't' 'm' TREE                 tree: trillian.Tree as protobuf
//	't' 'd' TREE 'h'             head: uint16 length, log root in Trillian's TLS encoding, edge
//	't' 'd' TREE 'l' INDEX       leaf: int64 queue time, int64 integrate time, identity hash,
//	                             Merkle leaf hash, uvarint length of extra data, extra data, value
//	't' 'd' TREE 'i' IDENTITY    byte 0 and uint64 index: a leaf in sequence; byte 1 and the
//	                             uint64 time of the queue's key: one in the queue
//	't' 'd' TREE 'n' LEVEL INDEX Merkle node: hash; level one byte, 4, 8, 12, …
//	't' 'd' TREE 'q' TIME IDENTITY  a queued leaf, as under 'l'; TIME is int64 with its sign flipped
//	't' 'd' TREE 'x' HASH8 INDEX LOG trees only: nothing; the leaf's Merkle hash begins with HASH8
//
// Every value is a version byte, 1, then what the table says, then the CRC-32C, 4
// bytes, of key, version and content. The key is in it so that a row that was moved or
// copied isn't valid. Times are nanoseconds since 1970, hashes 32 bytes, INDEX 8.
// A value is decoded strictly: wrong version, length or checksum, or two rows that
// contradict each other, is ErrCorrupt with the key, never a zero value.
//
// # What isn't stored
//
// Roots: only the latest. One that isn't later, or is smaller, is refused.
//
// Merkle nodes: only levels that are multiples of four. Level 0 is in the leaf's row;
// the others are computed from at most eight stored neighbours, one short scan. The edge
// in the head is the hashes of the perfect subtrees that the tree is made of, all that
// the sequencer reads, so that a lone leaf costs one row for the head, one for the
// leaf, one for its identity, and in one of 16 cases one for a node.
//
// Leaves of a PREORDERED_LOG by Merkle leaf hash: see GetLeavesByHash. A tree
// therefore can't change its type.
//
// # Transactions
//
// Those that write a tree run one after another, whichever Store over the database they
// come from; readers have a snapshot and wait for nobody. A transaction sees what
// it wrote itself, and commits as one Pebble batch: after a crash all of it is there or
// nothing. Who was told nil finds it there, unless the commit was under DeferSync
// and no synced commit to the same database came after it.
//
//	crash …                                  what is there at the next start
//	before the batch is in the log           nothing of the transaction
//	after, before it is synced               all or nothing of it; the caller wasn't told
//	after it is synced, or, under DeferSync, a later commit is    all of it
//
// Nothing is repaired at start-up beyond what Pebble does with its own log.
package pebblestore
