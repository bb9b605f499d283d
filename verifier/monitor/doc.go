// Package monitor follows logs, compares what it is shown with what others are shown, and holds
// proof when a log lies.
//
// # The life of a head
//
// A head comes from the log itself, from a peer, from whoever posts it (a submitter with a
// receipt, an auditor), or from the witness in the same process, which refused it. Wherever it comes from:
//
//  1. The log's key has signed it, or it is refused and nothing is kept: see [verifier.LogKey.Bare].
//  2. It is written down, whole, before anything is made of it: [Book].
//  3. It is compared with the newest head that is known to belong to the history that this monitor
//     follows. Of the same size: the roots decide. Of another size: a consistency proof, made
//     from tiles of the larger tree, wherever they can be had, and checked here.
//  4. The proof holds for both: the head agrees. It holds for the larger head and yields another root
//     than the smaller one's: the log forked, and both heads with that proof are the evidence
//     ([verifier.Evidence]). There is no proof, or it holds for neither: nothing is known. The
//     head stays open, is compared again each interval, and an alarm says so if it lasts. A
//     missing proof is never taken for evidence.
//  5. Evidence is written to a file, and handed to every peer in the next round.
//
// # Following
//
// For each log one goroutine looks at the head each interval, so that a fork is seen while the
// other one still reads. That one reads every new entry and tile, re-hashes them all, and only then moves
// the state on ([verifier.Audit]): what Status calls checked. A crash anywhere loses no more than work, for the state is
// replaced as a whole, and heads are written down first.
//
// # What an attacker can do
//
// A log can fork, rewrite, shrink, show different heads to different addresses, serve wrong tiles or none,
// answer slowly or without end. What is signed and contradicts itself ends as evidence; the rest is
// an alarm; docs/threats.md has the list and the tests. A peer or a submitter can send anything: only
// what the log has signed is kept, with limits on how much; no word of theirs is believed.
package monitor
