// Package seal turns an event into a leaf of the log and shows, later, that a
// leaf is an event's. The leaf holds no content, only a commitment: tiles can
// be public, a person's data can be erased, and an auditor can be shown some
// fields and not others, and every proof stands.
//
// # Sealing
//
// JCS is the canonical form of RFC 8785, ‖ joins bytes, base64 is standard with
// padding (RFC 4648 section 4), base64url has none (section 5). The fields are
// those of package event, in the order of the bytes of their pointers; n is how
// many they are.
//
//	salt        base64url of 16 fresh random bytes, one salt a field
//	c           SHA-256(0x02 ‖ JCS of [salt, value])                 commitment
//	field hash  SHA-256(0x00 ‖ JCS of [pointer, base64(c)])
//	r           RFC 6962 Merkle tree hash of the n field hashes      event root
//	root        SHA-256(0x03 ‖ JCS of [n, base64(r)])
//	leaf        JCS of {"root": base64(root), "time": t, "v": "prooftrail.leaf/1"}
//	leaf hash   SHA-256(0x00 ‖ leaf)                                 RFC 6962
//
// Field hashes are the leaves' hashes of RFC 6962: its 0x00 is the one above,
// inner nodes are SHA-256(0x01 ‖ left ‖ right). t is when the event was
// sequenced, in UTC and whole seconds, 2026-01-31T23:59:59Z, from 1970 to 9999.
//
// # Openings
//
// An opening is the JCS of
//
//	{"v": "prooftrail.opening/1", "time": t, "fields": [F, …]}
//
// with a field shown as {"p": pointer, "s": salt, "v": value}, withheld as
// {"p": pointer, "c": base64(c)}, and erased as {"p": pointer, "c": base64(c),
// "e": index of the entry that records it}. ParseOpening refuses
//
//   - bytes that aren't their own JCS, and any other member;
//   - a salt or commitment that isn't 16 or 32 bytes in its one spelling;
//   - pointers that aren't strictly increasing, or aren't of the schema: this is
//     what keeps out parents of other pointers, objects under one token, and
//     numbers of elements that have zeros in front;
//   - values that the schema doesn't allow at their pointer, elements of target
//     that leave a hole, and events that lack what is needed. A withheld field is
//     there, whatever it holds; where its value would decide what else is needed,
//     nothing else is;
//   - e at /schema, /tenant, /source, /id, /time, /action, /outcome or
//     /received_at, and e above 2^53-1;
//   - more than 256 submitted fields, and more than 1 MiB.
//
// What is left is to compute the leaf, a function of the opening alone, and to
// look for it in the log. The leaf doesn't bind e: nothing here says that entry
// e exists. An audit (package verifier) checks that e is greater than the
// entry's own index and less than the size of the tree. That entry e records an
// erasure, and the erasure of this field, nobody checks yet: until then a field
// that is said to be erased is one that isn't shown, and no more.
//
// # Comparing
//
// Who holds an event and is shown an opening compares the two with
// Opening.Compare: a field that isn't shown is not the same, it is unknown.
// Opening.SameSubmission, which takes it for the same, is for the log itself.
//
// # Withholding
//
// Withholding a field that the source submitted withholds /ingest/raw_sha256
// too. Withholding content, which is any field of job, change, target, labels
// or details, withholds /change/before_sha256, /change/after_sha256 and
// /job/command_sha256 too. An unsalted digest would let it be guessed.
//
// # Source signature
//
// A source may choose the salts of its fields and sign them. The source root is
// the Merkle tree hash, as above, of the field hashes but for the server's
// (/tenant, /received_at, /ingest/…); n is their number. It signs, with Ed25519,
//
//	prooftrail.source/1
//	<key name>
//	<n in decimal>
//	<base64(source root)>
//
// each line with its line feed. /ingest/signature is the key name, a space, and
// the base64 of key hash and signature, 4 and 64 bytes. Key names and key
// hashes are those of c2sp.org/signed-note.
//
// # Identity hash
//
// HMAC-SHA-256, under a secret of the log, of "prooftrail.id/1", tenant, source
// and id, each of the four preceded by its length as uint32 big endian.
package seal

// Content is the verdict on an opening's content.
type Content string

// The verdicts on content.
const (
	Verified         Content = "verified"          // each field is shown and the leaf is theirs
	VerifiedRedacted Content = "verified-redacted" // likewise, but for fields that are withheld
	Failed           Content = "FAILED"            // the opening isn't the leaf's, or isn't an opening
)
