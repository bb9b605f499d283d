// Package verifier checks what a prooftrail log says, without trusting the log.
//
// It is all that an auditor, a client or a monitor needs, and it depends on next to
// nothing: the standard library, golang.org/x/mod/sumdb/note, and the merkle and formats
// modules of transparency-dev. It never imports the service that it checks.
//
// # What is checked
//
// An event is split into fields; each field is salted and committed to; a Merkle tree over
// the commitments, hashed once more with a time, is the leaf (package seal). Leaves are the
// entries of an append-only Merkle tree (RFC 6962). The log signs the tree's size and root,
// the checkpoint (c2sp.org/tlog-checkpoint), and witnesses outside of the log's reach
// cosign it (c2sp.org/tlog-cosignature) after they have checked that it extends all that
// they cosigned before.
//
// A verifier starts with one thing that it got from somewhere it trusts: the [Policy]
// (c2sp.org/tlog-policy), with the log's public key, the witnesses' public keys, and how
// many of them are enough. From there it goes down, and each step is worth nothing if the
// one before it failed:
//
//   - [Policy.Verify]: the checkpoint is signed by the log, exactly once; which witnesses
//     have cosigned it, and when; is that a quorum.
//   - [CheckInclusion]: the leaf hash is at this index in the tree of that checkpoint.
//   - [seal.ParseOpening] and [seal.Opening.LeafHash]: the opening, which is what a person reads,
//     recomputes exactly this leaf.
//
// A receipt ([Receipt], c2sp.org/tlog-proof) holds all three and is verified offline by
// [VerifyReceipt]. [Audit] does it for a whole log: it fetches all entries and tiles
// (c2sp.org/tlog-tiles), re-hashes every leaf, recomputes every tile and the root, checks that the
// head extends the one that it saw the last time, and, with a read token, every opening.
//
// # What a verdict means
//
// It has three parts, which are answers to different questions.
//
// Content says whether the event is what was sealed:
//
//   - verified: every field is shown and is what the leaf commits to.
//   - verified-redacted: so is every field that is shown; those listed in Withheld were
//     withheld or erased. That they existed, and where, is proven; their values aren't known.
//   - FAILED: something doesn't add up; Reason says what. Nothing else in the verdict may
//     be relied on.
//   - not shown: there was no opening, just a leaf: [VerifyReceiptLeaf].
//
// Inclusion says that the leaf is in the tree that the log signed, at that index.
//
// Witnesses says who else vouches for that tree:
//
//   - quorum: enough witnesses, by the policy. If they are honest, everybody sees this
//     history. Under "quorum none" it is always met and says nothing.
//   - provisional: only the log's signature, or too few cosignatures yet. The log may have
//     shown others something else. Keep the event, and get the receipt again later.
//
// # What an attacker can do
//
//   - Who controls the log's storage, but not its key, can make it stop. A changed leaf,
//     tile, proof or opening fails, and [Audit] names the entry.
//   - Who controls the log and its key can sign a false history. Whoever holds a checkpoint
//     of the other one can prove it to anybody: [Evidence]. That is why witnesses cosign,
//     why [Audit] keeps the whole signed note of the last head in its state, and why a head
//     that went backwards FAILED.
//   - Who controls the network can withhold. They can't forge; what can't be fetched is an error
//     that isn't [ErrFailed].
//   - Who controls what is parsed here (receipts, bundles, openings, a server's answers)
//     can make this package refuse. Every parser is strict, takes one spelling only, has a
//     limit on its input, and never panics.
//
// What a log can't prove: that an event which was never submitted didn't happen; that what
// a source wrote is true; when something happened, beyond the log's own clock and the
// witnesses' ones.
//
// # Errors
//
// Errors that match [ErrFailed] say that something was checked and doesn't hold. All other errors
// say that it could not be checked. A program's exit status should keep these apart, and
// only a nil error means verified.
package verifier
