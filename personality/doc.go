// Package personality is the log service: it turns submitted events into leaves
// of a Trillian tree, and publishes that tree under its own signature. In
// Trillian's words it is the personality in front of the log.
//
// # The life of an event
//
//  1. Admit ([Service.Admit], admit.go): check credential and event, and the signature of
//     its source if there is one or must be one (sourcekeys.go), stamp it with
//     tenant, time and principal, split it into fields and commit to each.
//     What other systems send in forms of their own ([Service.Ingest], ingest.go, package ingest) is made events of
//     first, and admitted likewise; what can't be goes to the quarantine (quarantine.go, with a crash table of
//     its own).
//  2. Sequence (sequence.go, plan.go): one goroutine takes whatever has queued up while it
//     wrote the batch before, and gives each new event the next index. Openings
//     and the batch's mark (mark.go) go to the publication store, then the leaves
//     to the tree. When both are durable, the index is final. An event whose id is
//     taken is compared with the one that has it; a conflict is recorded in this
//     same batch.
//  3. Integrate, publish (publish.go): a second goroutine has Trillian extend its
//     Merkle tree over all that is stored, reads the new leaves back, folds their
//     hashes into its own compact range, and compares with Trillian's root. Equal:
//     tiles, entry bundles, identities and head are written in one step; then the
//     anchor moves; then the checkpoint is signed.
//  4. Answer ([Pending.Wait]): the receipt has the inclusion proof at that same
//     checkpoint, and the opening.
//  5. Witness (ask.go, public.go, package witnesses): of a log with witnesses the newest head
//     is offered to them at an interval. Cosigned by their quorum it is kept in the store, and
//     then it is what everybody is shown, and what receipts are made at.
//
// While a batch is integrated and published, the next one is being stored. No timer
// holds a batch back: a lone event doesn't wait, a flood is batched.
//
// # Invariants
//
//   - I1. An answer without error to an event that waited for Durable or more means
//     that its leaf and its opening are on stable storage.
//   - I2. A checkpoint is signed only when the root recomputed from leaves read back
//     equals Trillian's, it extends the head before, and its tiles are on stable storage.
//   - I3. Before a signature leaves the process, the head is on stable storage in
//     the anchor, outside every backup of the store. At start a store that is behind
//     its anchor or what a witness has cosigned, or differs from it, makes the service
//     refuse: it sequences, signs and shows content no more, and says why in Ready.
//     So does one whose head is held: it has moved, or is on its way (hold.go).
//   - I4. A leaf never changes. An opening can only lose values.
//   - I5. Tenant, source and id name one event. The same submitted fields again give the
//     same index; others are a conflict, which is logged whole.
//   - I6. Index order is the order. A leaf's time is the sequencer's clock.
//   - I7. What Trillian or the database answers is input: anything but the right
//     count, length and index is an error. An error is not a miss.
//
// # What a crash means
//
// Each step is durable before the next one begins, except where the table says
// that the next one's sync covers it. Start-up is [Service.recover].
//
//	step            crash before it                  crash after it
//	1 admit         nothing stored, nothing          the same: the queue is memory. The client
//	                answered                         has no answer and sends the event again
//	2a openings,    as above                         openings and a mark without a leaf: harmless,
//	   mark                                          found by nobody. Their sync is 2c's
//	2b leaves       as 2a                            the same, or leaves past the head: start-up
//	                                                 reads them back, checks their mark,
//	                                                 publishes them, and an event sent again is
//	                                                 found by its identity (I5). Without a mark it
//	                                                 refuses: somebody wrote to the database
//	2c sync         as 2b. It is 3b's, which comes   leaves past the head for sure: the events may
//	                after the leaves; one of its     be answered as durable
//	                own only where the publisher
//	                fails or is held up
//	3a integrate    as 2b                            Trillian's root may be ahead of the head, or
//	                                                 not (its sync is 3b's): start-up integrates
//	                                                 again and gets the same root
//	3b head, tiles  as 3a                            the head is ahead of the anchor: start-up
//	                                                 checks that this log put it there (its MAC)
//	                                                 and that it extends it, moves the anchor, signs
//	3c anchor       as 3b                            start-up signs the head. Ed25519 signatures
//	                                                 are deterministic: it is the same note
//	3d sign         as 3c                            the note may have been seen: the anchor has
//	                                                 its head, and no other can be signed
//	4 answer        as 3d                            the client has its receipt, or sends the
//	                                                 event again and gets it
//	5a cosign       as 3d                            a witness has seen the head, which is stored
//	                                                 and anchored. It is asked again, says what it
//	                                                 has, and cosigns what extends that
//	5b keep         as 5a: nobody was shown it.      start-up shows the cosigned head: no smaller one
//	                Its sync comes before it is      is shown after it
//	                shown
//
// A write that reports an error and may have happened all the same is treated as
// a crash without the restart: the sequencer reads back (resync), the publisher
// compares the stored head with the two it can be (settle). Neither answers for
// such a write before a later sync has succeeded.
//
// Of a tree that a Trillian cluster keeps, two rows are others. Each commit there is
// the cluster's own.
//
//	2b leaves       as 2a                            any of the batch's leaves may be stored, now or
//	                                                 later: the marks say of each whether it is this
//	                                                 log's. Those behind a missing one can't be read:
//	                                                 they show when the next event takes its place,
//	                                                 or one of the service's own does (hole.go)
//	3a integrate    as 2b                            the signers go on by themselves. A server that
//	                                                 starts waits for a root that covers the head,
//	                                                 and not for more
//
// A full disk is none of these (room.go, package roomfs): events are refused while
// there is still room for the steps above, and a write that meets the end of the disk
// waits where it is, as if the disk were slow. It has its place in the table as soon as
// the process is ended meanwhile.
package personality
