// Package witness cosigns the heads of logs that it knows (c2sp.org/tlog-witness).
//
// A cosignature says: "as of the specified time, the consistent tree head with the largest
// size the cosigner has observed for the log identified by the origin line has the specified
// root hash" (c2sp.org/tlog-cosignature). So there is one thing that a witness must never
// do: cosign two heads of one log of which neither extends the other. It holds however it
// is stopped, and whatever the log and its clients send.
//
// # The life of a request
//
//  1. Read: old size, consistency proof, signed note. The origin is known, the log's
//     signature is good.
//  2. Turn: the checks of one origin wait for each other. Those of two don't.
//  3. Load the latest cosigned head of that origin from the [Store].
//  4. Judge: the new head extends it.
//  5. Sign, at a time that isn't before that of the last cosignature.
//  6. Swap: the new head, whole, with its cosignatures, in place of the one that was loaded,
//     by compare-and-swap, durably.
//  7. Answer.
//
// No cosignature is returned or served before its head is on stable storage. What a crash means:
//
//	before 6   nothing has happened; a cosignature made in 5 never left the process
//	during 6   the store holds the old record or the new one, whole
//	before 7   the head is cosigned, and the client doesn't know: it asks again, is told the
//	           size (409), and gets the head cosigned again, later in time
//
// A failure in 6 may leave either record. The next request loads what is there.
package witness
