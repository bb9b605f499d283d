// Package tree is what the personality needs of Trillian, and no more: leaves
// stored in an order that the caller has decided, a Merkle tree over them, and
// both read back. Nothing outside this package and personality/pebblestore
// imports Trillian.
//
// # Trillian here
//
// Each implementation keeps one PREORDERED_LOG tree. The leaf's value is the
// entry of the log byte for byte, its identity hash refuses a second leaf of
// the same identity, and its extra data stays empty, for Trillian can't change
// it afterwards. Trillian's root isn't signed: the personality signs, after it
// has recomputed the root from leaves that it read back.
//
// Embedded runs Trillian in this process over personality/pebblestore: its log
// server's code without a socket answers for roots and initialises trees, its
// sequencer (log.IntegrateBatch) extends the Merkle tree. Leaves are added
// through the transaction's own AddSequencedLeaves inside ReadWriteTransaction,
// because the call of the same name one level up refuses leaves one by one and
// stores the rest, and nothing integrates past the hole that this leaves.
//
// Remote has log servers and signers of Trillian's own do this, over gRPC. They know no
// batch that is all or nothing: see there what is made of that.
//
// # Replies are input
//
// What comes back from Trillian or from the database is checked before it is
// believed: a nil, a hash that isn't 32 bytes, an index that wasn't asked for,
// one leaf too many, a root that went backwards are ErrCorrupt, never a zero
// value. An error is never taken for "not there".
//
// # A crash before, and after, each step
//
//	step                         crash before                 crash after
//	Append: commit, synced       no leaf of the batch stored  every leaf of the batch stored; the
//	                                                          caller, who wasn't told, reads back
//	Integrate: commit, synced    old root; Integrate again    new root
//	Integrate: commit, deferred  old root; Integrate again    old or new root; Integrate again gives
//	                                                          the same hash for the same size
//
// For a Remote the commits are the servers': an Append that is given up may be stored later,
// and in part; a message that was cut off is one of which nothing is known.
//
// Start-up has nothing to repair: it asks for the root, reads the leaves past it
// and integrates them.
package tree
